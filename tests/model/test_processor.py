import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from star_r1.model.processor import CELL, IMAGE, build_processor, build_tokenizer, load_processor
from star_r1.tvr.prompt import build_prompt
from star_r1.tvr.sample import Sample
from star_r1.tvr.scene import Object, Scene

TOKENIZER = build_tokenizer()
SAMPLE = Sample(
    "000000-center",
    Scene(tuple(Object(i, "red", "cube", "small", "metal", (8 * i - 36, 0)) for i in range(10))),
    (),
)


@given(st.text())
def test_any_text_survives(text: str) -> None:
    ids = TOKENIZER.encode(text, add_special_tokens=False)
    assert TOKENIZER.decode(ids, clean_up_tokenization_spaces=False) == text


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        (
            "6: small gray metal cube\n",
            ["6:", " small", " gray", " metal", " cube", "\n"],
        ),
        (
            "<answer>0.material.glass, 3.color.red</answer>",
            ["<answer>", "0", ".material", ".glass", ", ", "3", ".color", ".red", "</answer>"],
        ),
        ("<think></think>", ["<think>", "</think>"]),
    ],
)
def test_the_words_of_the_task_are_one_token_each(text: str, tokens: list[str]) -> None:
    assert TOKENIZER.tokenize(text) == tokens


def _pair() -> list[Image.Image]:
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(256, size=(120, 160, 3), dtype=np.uint8)) for _ in "ab"]


def test_prompt_becomes_two_pictures_and_the_table() -> None:
    processor = build_processor()
    text = processor.apply_chat_template(
        build_prompt(SAMPLE), add_generation_prompt=True, tokenize=False
    )
    batch = processor(text=[text], images=[_pair()], return_tensors="pt")
    ids = batch["input_ids"][0].tolist()
    tokens = (120 // CELL) * (160 // CELL)
    assert ids.count(processor.tokenizer.convert_tokens_to_ids(IMAGE)) == 2 * tokens
    assert batch["image_grid_thw"].tolist() == [[1, 12, 16]] * 2
    assert "Initial objects:\n2: small red metal cube\n3: " in text
    assert "index.attribute.value" not in text  # the system message is left out
    assert text.endswith("<|im_start|>assistant\n")


def test_pictures_of_the_right_size_are_not_resized() -> None:
    processor = build_processor()
    picture = _pair()[0]
    values = processor.image_processor(images=[picture], return_tensors="np")["pixel_values"]
    mean = np.array(processor.image_processor.image_mean)
    std = np.array(processor.image_processor.image_std)
    expected = (np.asarray(picture)[0, 0] / 255 - mean) / std
    # A patch is (channel, time, row, column), flattened: its first pixel is the picture's.
    assert np.allclose(values[0].reshape(3, -1)[:, 0], expected, atol=1e-5)


def test_round_trip_under_the_upstream_name(tmp_path: Path) -> None:
    processor = build_processor()
    processor.save_pretrained(tmp_path)
    for name in ("processor_config.json", "tokenizer_config.json"):
        assert json.loads((tmp_path / name).read_text())["processor_class"] == "Qwen2_5_VLProcessor"
    again = load_processor(tmp_path)
    assert again.chat_template == processor.chat_template
    one, two = (
        p(text=[IMAGE], images=_pair()[:1], return_tensors="np") for p in (processor, again)
    )
    assert all(np.array_equal(one[key], two[key]) for key in one)
