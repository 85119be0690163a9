import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForImageTextToText

from star_r1.errors import UserError
from star_r1.model.published import PUBLISHED, parameter_count, published_config, shrink

BILLIONS = {  # as the Hub counts the published weights
    "Qwen/Qwen2-VL-2B-Instruct": 2.21,
    "Qwen/Qwen2-VL-7B-Instruct": 8.29,
    "Qwen/Qwen2.5-VL-3B-Instruct": 3.75,
    "Qwen/Qwen2.5-VL-7B-Instruct": 8.29,
    "Qwen/Qwen2.5-VL-32B-Instruct": 33.45,
    "Qwen/Qwen2.5-VL-72B-Instruct": 73.41,
    "Qwen/Qwen3-VL-2B-Instruct": 2.13,
    "Qwen/Qwen3-VL-4B-Instruct": 4.44,
    "Qwen/Qwen3-VL-8B-Instruct": 8.77,
    "Qwen/Qwen3-VL-32B-Instruct": 33.36,
}


FILES: dict[str, dict[str, Any]] = {  # two of the published ones, in their two layouts
    "Qwen/Qwen2.5-VL-7B-Instruct": {
        "architectures": ["Qwen2_5_VLForConditionalGeneration"],
        "attention_dropout": 0.0,
        "bos_token_id": 151_643,
        "eos_token_id": 151_645,
        "hidden_act": "silu",
        "hidden_size": 3584,
        "image_token_id": 151_655,
        "initializer_range": 0.02,
        "intermediate_size": 18_944,
        "max_position_embeddings": 128_000,
        "max_window_layers": 28,
        "model_type": "qwen2_5_vl",
        "num_attention_heads": 28,
        "num_hidden_layers": 28,
        "num_key_value_heads": 4,
        "rms_norm_eps": 1e-06,
        "rope_scaling": {"mrope_section": [16, 24, 24], "type": "mrope"},
        "rope_theta": 1_000_000.0,
        "sliding_window": 32_768,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "use_cache": True,
        "use_sliding_window": False,
        "video_token_id": 151_656,
        "vision_config": {
            "depth": 32,
            "fullatt_block_indexes": [7, 15, 23, 31],
            "hidden_act": "silu",
            "hidden_size": 1280,
            "in_chans": 3,
            "intermediate_size": 3420,
            "model_type": "qwen2_5_vl",
            "num_heads": 16,
            "out_hidden_size": 3584,
            "patch_size": 14,
            "spatial_merge_size": 2,
            "spatial_patch_size": 14,
            "temporal_patch_size": 2,
            "tokens_per_second": 2,
            "window_size": 112,
        },
        "vision_end_token_id": 151_653,
        "vision_start_token_id": 151_652,
        "vision_token_id": 151_654,
        "vocab_size": 152_064,
    },
    "Qwen/Qwen3-VL-4B-Instruct": {
        "architectures": ["Qwen3VLForConditionalGeneration"],
        "image_token_id": 151_655,
        "model_type": "qwen3_vl",
        "text_config": {
            "attention_bias": False,
            "attention_dropout": 0.0,
            "bos_token_id": 151_643,
            "dtype": "bfloat16",
            "eos_token_id": 151_645,
            "head_dim": 128,
            "hidden_act": "silu",
            "hidden_size": 2560,
            "initializer_range": 0.02,
            "intermediate_size": 9728,
            "max_position_embeddings": 262_144,
            "model_type": "qwen3_vl_text",
            "num_attention_heads": 32,
            "num_hidden_layers": 36,
            "num_key_value_heads": 8,
            "rms_norm_eps": 1e-06,
            "rope_scaling": {
                "mrope_interleaved": True,
                "mrope_section": [24, 20, 20],
                "rope_type": "default",
            },
            "rope_theta": 5_000_000,
            "tie_word_embeddings": True,
            "use_cache": True,
            "vocab_size": 151_936,
        },
        "tie_word_embeddings": True,
        "video_token_id": 151_656,
        "vision_config": {
            "deepstack_visual_indexes": [5, 11, 17],
            "depth": 24,
            "hidden_act": "gelu_pytorch_tanh",
            "hidden_size": 1024,
            "in_channels": 3,
            "initializer_range": 0.02,
            "intermediate_size": 4096,
            "model_type": "qwen3_vl",
            "num_heads": 16,
            "num_position_embeddings": 2304,
            "out_hidden_size": 2560,
            "patch_size": 16,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
        },
        "vision_end_token_id": 151_653,
        "vision_start_token_id": 151_652,
    },
}


@pytest.mark.parametrize("name", FILES)
def test_the_table_says_what_the_published_file_says(name: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(FILES[name]))
    found, expected = (published_config(where).to_dict() for where in (name, str(tmp_path)))
    assert found["tie_word_embeddings"] == expected["tie_word_embeddings"]
    for part in ("text_config", "vision_config"):
        theirs = {**expected[part], "dtype": None, "tie_word_embeddings": None}
        ours = {**found[part], "dtype": None, "tie_word_embeddings": None}
        if "rope_parameters" in theirs:
            theirs["rope_parameters"].pop("type", None)
        unused = {"in_chans", "spatial_patch_size", "max_window_layers"}
        assert {k: v for k, v in ours.items() if k not in unused} == {
            k: v for k, v in theirs.items() if k not in unused
        }


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_table_has_as_many_parameters_as_the_published_weights(name: str) -> None:
    count = parameter_count(published_config(name))
    assert round(count.total / 1e9, 2) == BILLIONS[name]
    assert min(count.vision, count.language, count.embeddings) > 0


def test_parts_of_the_model_of_the_paper() -> None:
    count = parameter_count(published_config("Qwen/Qwen2.5-VL-7B-Instruct"))
    assert count.embeddings == 2 * 152_064 * 3584
    assert round(count.vision / 1e6) == 677
    tied = parameter_count(published_config("Qwen/Qwen2.5-VL-3B-Instruct"))
    assert tied.embeddings == 151_936 * 2048


def test_a_folder_comes_before_the_table(checkpoint: Path) -> None:
    assert published_config(str(checkpoint)).text_config.hidden_size == 64
    assert published_config("mini").text_config.hidden_size == 128


def test_the_cache_comes_before_the_table(tmp_path: Path, monkeypatch: Any) -> None:
    name = "Qwen/Qwen2.5-VL-7B-Instruct"
    values = published_config(name).to_dict()
    values["text_config"]["num_hidden_layers"] = 5
    values["text_config"].pop("layer_types")
    cached = tmp_path / "models--Qwen--Qwen2.5-VL-7B-Instruct"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text("0" * 40)
    (cached / "snapshots" / ("0" * 40)).mkdir(parents=True)
    (cached / "snapshots" / ("0" * 40) / "config.json").write_text(json.dumps(values))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert published_config(name).text_config.num_hidden_layers == 5
    with pytest.raises(UserError, match=r"hf download Qwen/Other config\.json"):
        published_config("Qwen/Other")


@pytest.mark.parametrize("kind", ["architecture", "nonsense"])
def test_a_folder_with_an_unknown_architecture_gives_one_line(kind: str, tmp_path: Path) -> None:
    text = json.dumps({"model_type": "none"}) if kind == "architecture" else "{"
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(UserError, match=r"config\.json does not load: ") as caught:
        published_config(str(tmp_path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_tiny_one_keeps_the_architecture(name: str) -> None:
    config = published_config(name)
    tiny = shrink(config, vocab_size=300, layers=3)
    assert type(tiny) is type(config)
    assert parameter_count(tiny).total < 1e6
    assert parameter_count(config).total > 1e9  # itself unchanged
    text, vision = tiny.text_config, tiny.vision_config
    head = text.hidden_size // text.num_attention_heads
    assert head == getattr(text, "head_dim", head) == 32
    assert sum(text.rope_parameters["mrope_section"]) == head // 2
    assert min(text.rope_parameters["mrope_section"]) > 0
    assert text.num_key_value_heads < text.num_attention_heads
    assert tiny.tie_word_embeddings == config.tie_word_embeddings
    assert vision.patch_size == config.vision_config.patch_size
    if hasattr(vision, "window_size"):
        assert 0 < len(vision.fullatt_block_indexes) < vision.depth
    if hasattr(vision, "deepstack_visual_indexes"):
        assert 2 <= len(vision.deepstack_visual_indexes) <= text.num_hidden_layers


def see(config: Any, patches: int) -> tuple[torch.Tensor, ...]:
    """What a random tower says of a random square picture, ``patches`` wide."""
    torch.manual_seed(0)
    model = AutoModelForImageTextToText.from_config(config).eval()
    width = 3 * 2 * config.vision_config.patch_size**2
    pixels, grid = torch.randn(patches**2, width), torch.tensor([[1, patches, patches]])
    with torch.no_grad():
        seen = model.model.get_image_features(pixels, grid)
    return (*seen.pooler_output, *(feat[0] for feat in getattr(seen, "deepstack_features", ())))


def test_windows_are_at_work_in_the_tiny_one() -> None:
    tiny = shrink(published_config("Qwen/Qwen2.5-VL-7B-Instruct"), vocab_size=300)
    (windowed,) = see(tiny, 12)  # a window is 8 x 8 patches
    tiny.vision_config.fullatt_block_indexes = list(range(tiny.vision_config.depth))
    (full,) = see(tiny, 12)
    assert not torch.allclose(windowed, full, atol=1e-4)


def test_deepstack_features_of_the_tiny_one_differ() -> None:
    tiny = shrink(published_config("Qwen/Qwen3-VL-8B-Instruct"), vocab_size=300)
    features = see(tiny, 4)
    assert [tuple(feature.shape) for feature in features] == [(4, 64)] * 3
    assert not torch.allclose(features[1], features[2], atol=1e-4)
