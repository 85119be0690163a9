"""Sampling with vLLM; vLLM itself runs in the environment that STAR_R1_VLLM_PYTHON names."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tests.tiny import make_tiny

from star_r1.model.loading import load_model
from star_r1.model.processor import build_processor
from star_r1.train.vllm import as_seen, placeholders

HERE = Path(__file__).parent
PICTURE, VIDEO = 5, 6


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 4)), max_size=12))
def test_placeholders_undo_what_the_processor_did(tokens: list[tuple[int, int]]) -> None:
    """Words may repeat; between two pictures there is a token, as in Qwen's prompts."""
    short, long = [], []
    for token, times in tokens:
        if token in (PICTURE, VIDEO):
            short += [8, token, 9]
            long += [8, *[token] * times, 9]
        else:
            short += [token] * times
            long += [token] * times
    assert placeholders([long, short], {PICTURE, VIDEO}) == [short, short]


@pytest.mark.parametrize("size", [(160, 120), (320, 240), (37, 59), (8, 8)])
def test_pictures_are_as_the_processor_would_make_them(size: tuple[int, int]) -> None:
    processor = build_processor().image_processor
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    picture = Image.fromarray(noise)
    (seen,) = as_seen([picture], processor)
    assert (seen is picture) == (size == (160, 120))
    direct, resized = processor([picture]), processor([seen])
    assert np.array_equal(direct["image_grid_thw"], resized["image_grid_thw"])
    assert np.array_equal(direct["pixel_values"], resized["pixel_values"])


def sharp(folder: Path) -> Path:
    """Let the layers and what they see matter to what follows; at its initial size little does."""
    model = load_model(str(folder))
    with torch.no_grad():
        for parameter in model.model.language_model.layers.parameters():
            parameter.mul_(4)
        for weight in {model.get_input_embeddings().weight, model.get_output_embeddings().weight}:
            weight.mul_(20)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(
    scope="module",
    params=[
        "mini",
        "Qwen/Qwen2-VL-2B-Instruct",
        "Qwen/Qwen2.5-VL-3B-Instruct",
        "Qwen/Qwen3-VL-2B-Instruct",
    ],
)
def found(
    request: pytest.FixtureRequest, data_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """What vllm_child measured on the embedded model, or on a tiny one of random weights."""
    python = os.environ.get("STAR_R1_VLLM_PYTHON")
    if not python:
        pytest.skip("STAR_R1_VLLM_PYTHON names no Python that has vLLM")
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(HERE / "vllm_site"), str(HERE.parents[1] / "src")]),
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_LOGGING_LEVEL": "ERROR",
        "HF_HUB_OFFLINE": "1",
    }
    folder = tmp_path_factory.mktemp("vllm")
    name = request.param
    model = name if name == "mini" else sharp(make_tiny(folder / "model", name))
    run = subprocess.run(
        [python, HERE / "vllm_child.py", model, data_folder, folder],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr[-4000:]
    result: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    return {"model": name, **result}


@pytest.mark.vllm
def test_vllm_loads_an_exported_model_and_answers_like_transformers(found: Any) -> None:
    pairs = list(zip(found["greedy"]["vLLM"], found["greedy"]["transformers"], strict=True))
    differ = sum(theirs != ours for theirs, ours in pairs)
    # Random weights all but tie here and there, and then the order of summation decides.
    assert differ <= (0 if found["model"] == "mini" else 1)
    assert len({tuple(ids) for ids, _ in pairs}) > 1


@pytest.mark.vllm
def test_colocated_vllm_expands_pictures_twice_without_the_guard(found: Any) -> None:
    """huggingface/trl#6294. When this fails, TRL has mended it: ``placeholders`` can go."""
    prompt, seen = found["TRL"]["prompt"], found["TRL"]["in vLLM"]
    assert all(there > here for here, there in zip(prompt, seen, strict=True))
    low, high = found["TRL"]["ratio"]
    assert low < 0.9
    assert high > 1.01


@pytest.mark.vllm
@pytest.mark.parametrize("case", ["guarded", "guarded, shared prompts", "guarded, pictures loved"])
def test_vllm_samples_from_the_policy_with_the_guard(case: str, found: Any) -> None:
    """Prompts of the same length, and ratios of one, also after the weights have moved."""
    assert found[case]["in vLLM"] == found[case]["prompt"]
    assert found[case]["ratio"] == pytest.approx([1, 1], abs=1e-3)
    assert found[case]["vision tokens"] == 0


@pytest.mark.vllm
def test_vllm_samples_vision_tokens_without_the_bias(found: Any) -> None:
    assert found["drawn without the bias"] > 0
