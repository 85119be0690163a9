import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from transformers import AutoConfig, AutoModelForImageTextToText

from star_r1.errors import UserError
from star_r1.model.loading import check_trainable, load_model, load_processor

NAMES = {  # of the published files, which are not those of the modules in each family
    "qwen2_vl": {"model.layers.0.mlp.up_proj.weight", "visual.blocks.0.attn.qkv.weight"},
    "qwen2_5_vl": {"model.layers.0.mlp.up_proj.weight", "visual.blocks.0.attn.qkv.weight"},
    "qwen3_vl": {
        "model.language_model.layers.0.mlp.up_proj.weight",
        "model.visual.deepstack_merger_list.1.linear_fc1.weight",
    },
}


def names_in(folder: Path) -> set[str]:
    with safe_open(folder / "model.safetensors", "pt") as file:
        return set(file.keys())


def picture(width: int, height: int) -> Image.Image:
    noise = np.random.default_rng(width * height).integers(256, size=(height, width, 3))
    return Image.fromarray(noise.astype(np.uint8))


def encode(processor: Any, prompts: list[tuple[str, list[Image.Image]]]) -> Any:
    parts = [[{"type": "image"} for _ in images] for _, images in prompts]
    messages = [
        [{"role": "user", "content": [*part, {"type": "text", "text": text}]}]
        for part, (text, _) in zip(parts, prompts, strict=True)
    ]
    text = processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    images = [images for _, images in prompts]
    return processor(text=text, images=images, padding=True, return_tensors="pt")


def test_files_have_the_published_names(family: str, checkpoint: Path, tmp_path: Path) -> None:
    load_model(str(checkpoint)).save_pretrained(tmp_path)
    assert names_in(checkpoint) == names_in(tmp_path)
    assert NAMES[family] <= names_in(tmp_path)


def test_saved_and_loaded_weights_are_equal(checkpoint: Path, tmp_path: Path) -> None:
    model = load_model(str(checkpoint))
    model.save_pretrained(tmp_path)
    expected = model.state_dict()
    for loaded in (
        load_model(str(tmp_path)),
        AutoModelForImageTextToText.from_pretrained(tmp_path),
        type(model).from_pretrained(tmp_path),
    ):
        found = loaded.state_dict()
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in expected)
    one, two = ((f / "model.safetensors").read_bytes() for f in (checkpoint, tmp_path))
    assert one == two


def test_padded_logits_equal_single_ones(checkpoint: Path) -> None:
    """Prompts of one, two and three pictures of three sizes, some longer than others."""
    model = load_model(str(checkpoint))
    with torch.no_grad():  # at its initial size the layers hardly matter to the logits
        for parameter in model.model.language_model.layers.parameters():
            parameter.mul_(4)
    processor = load_processor(str(checkpoint), min_pixels=28 * 28)
    small, wide, tall = picture(56, 56), picture(112, 84), picture(64, 160)
    prompts = [
        ("What changed?", [small, wide]),
        ("Describe.", [tall]),
        ("And now all of them, one by one:", [wide, small, tall]),
        ("Nothing to see here.", [tall, tall]),
    ]
    batch = encode(processor, prompts)
    lengths = batch["attention_mask"].sum(1).tolist()
    assert len(set(lengths)) > 2
    assert batch["attention_mask"][:, -1].all()  # padded on the left
    with torch.no_grad():
        padded = model(**batch).logits
        for row, prompt in enumerate(prompts):
            single = model(**encode(processor, [prompt])).logits[0]
            torch.testing.assert_close(padded[row, -lengths[row] :], single, atol=1e-5, rtol=0)
    assert padded.std() > 0.05


def test_dtype_and_attention_are_those_asked_for(checkpoint: Path) -> None:
    model = load_model(str(checkpoint), torch.bfloat16, attn_implementation="eager")
    assert model.dtype == torch.bfloat16
    assert model.config.text_config._attn_implementation == "eager"
    assert not model.training


@pytest.mark.parametrize("attention", ["flash_attention_2", "none_such"])
def test_an_attention_that_is_not_there_gives_one_line(attention: str, checkpoint: Path) -> None:
    with pytest.raises(UserError, match=r"does not load: .*ttention") as caught:
        load_model(str(checkpoint), attn_implementation=attention)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("load", [load_model, load_processor])
def test_a_name_that_is_not_in_the_cache_says_what_to_do(load: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="'hf download Qwen/None-Such' where") as caught:
        load("Qwen/None-Such")
    assert "HF_HUB_OFFLINE forbids" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_weights_that_are_absent_or_cut_off_are_named(checkpoint: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(checkpoint, broken)
    weights = broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(UserError, match="does not load") as caught:
        load_model(str(broken))
    assert "\n" not in str(caught.value)

    model = load_model(str(checkpoint))
    state = model.state_dict()
    model.save_pretrained(
        broken, state_dict={name: state[name] for name in state if "layers.1.mlp" not in name}
    )
    with pytest.raises(UserError, match=r"lack 3 weights, the first .*layers\.1\.mlp\.down_proj"):
        load_model(str(broken))


def test_only_known_families_are_trained(checkpoint: Path) -> None:
    check_trainable(load_model(str(checkpoint)).config)
    for other in ("llava", "qwen3_vl_moe", "qwen2"):
        with pytest.raises(UserError, match=rf"of type {other} cannot .* Qwen3-VL"):
            check_trainable(AutoConfig.for_model(other))
