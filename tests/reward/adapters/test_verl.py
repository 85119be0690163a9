"""The verl adapter: called as verl documents it; and, where verl is, by verl itself."""

import json
import math
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.tiny import make_tiny

import star_r1
from star_r1.data.dataset import load, row_to_sample
from star_r1.data.export_engines import export_engine
from star_r1.data.pictures import read_pair
from star_r1.data.shards import encode_png, make_row, to_parquet
from star_r1.errors import UserError
from star_r1.model.processor import load_processor
from star_r1.reward.adapters import verl
from star_r1.reward.adapters.trl import star_reward
from star_r1.reward.adapters.truth import pack
from star_r1.tvr.change import Change
from star_r1.tvr.vocabulary import TRANCE

HERE = Path(__file__).parent

RIGHT = "<think>.</think><answer>2.color.cyan, 0.shape.cube</answer>"
HALF = "<think>.</think><answer>2.color.cyan, 0.shape.sphere</answer>"
ANSWER = "2.color.cyan, 0.shape.cube"


def call(completion: str, truth: Any = ANSWER, **kwargs: Any) -> dict[str, float]:
    """Every keyword that verl's naive reward manager gives (0.9.1)."""
    return verl.compute_score(
        data_source="tvr-left",
        solution_str=completion,
        ground_truth=truth,
        extra_info={"id": "000007-left", "num_turns": None, "rollout_reward_scores": {}},
        **kwargs,
    )


def test_score_and_terms() -> None:
    assert call(HALF) == {
        "score": 7.5,
        **{"format": 1.0, "exact": 5.0, "attribute": 1.5, "object": 0.0},
        **{"wrong": 0.0, "missing": 0.0},
        **{"right": 0.0, "acc": 0.0, "well_formed": 1.0, "predictions": 2.0},
    }
    assert [call(text)["score"] for text in (RIGHT, HALF, "")] == star_reward(
        [RIGHT, HALF, ""], [ANSWER] * 3
    )


@pytest.mark.parametrize(
    ("kwargs", "expected"),
    [
        ({"attribute": 0}, 6.5),
        ({"reward": "star", "format": 0}, 6.5),
        ({"reward": "sparse"}, 1.0),
        ({"reward_router_address": "10.0.0.1:80", "reward_model_tokenizer": object()}, 7.5),
    ],
)
def test_reward_kwargs(kwargs: dict[str, Any], expected: float) -> None:
    assert call(HALF, **kwargs)["score"] == expected


def test_a_typing_error_in_reward_kwargs_is_said() -> None:
    with pytest.raises(UserError, match="no number 'attributes'"):
        call(HALF, attributes=0)


def test_moves_out_of_sight() -> None:
    out = Change(3, "position", "left.2", ("left.2", "front-left.2"))
    row = {"id": "0-left", "changes": json.dumps([out.to_dict()]), "vocabulary": TRANCE.to_json()}
    said = "<think>.</think><answer>3.position.{}</answer>"
    scores = [
        call(said.format(move), pack(row))["score"] for move in ("front-left.2", "left.2", "left.1")
    ]
    assert scores == [6.0, 6.0, 2.5]


@given(st.text() | st.text(alphabet="<>/thinkaswer0123456789.,colorcyan \n"))
def test_no_completion_raises(completion: str) -> None:
    assert all(math.isfinite(value) for value in call(completion).values())


def test_a_broken_ground_truth_names_the_sample() -> None:
    with pytest.raises(UserError, match=r"sample 000007-left: the ground truth is '2\.color'"):
        call(RIGHT, "2.color")
    with pytest.raises(UserError, match="a sample: the ground truth is 'cyan' "):
        verl.compute_score("tvr", RIGHT, "cyan")


def test_by_its_path_and_without_torch(tmp_path: Path) -> None:
    code = (
        "import importlib.util, sys\n"
        f"spec = importlib.util.spec_from_file_location('custom', {verl.__file__!r})\n"
        "module = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(module)\n"
        f"print(module.compute_score('tvr', {HALF!r}, {ANSWER!r})['score'])\n"
        "print([name for name in ('torch', 'datasets', 'PIL', 'verl') if name in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True
    )
    assert done.stdout.splitlines() == ["7.5", "[]"]


def verl_args(folder: Path, *more: str, **environment: str) -> list[str]:
    """What ``run.sh`` of an export gives to Python."""
    echo = folder / "echo.sh"
    echo.write_text("#!/bin/sh\nprintf '%s\\n' \"$@\"\n")
    echo.chmod(0o755)
    return subprocess.run(
        ["bash", str(folder / "run.sh"), *more],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHON": str(echo), **environment},
    ).stdout.splitlines()


def run_verl(
    folder: Path, model: Path, completions: dict[str, Sequence[str]], *more: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Let verl read an export with the config of its ``run.sh``, and score some completions."""
    python = os.environ.get("STAR_R1_VERL_PYTHON")
    if not python:
        pytest.skip("no verl: STAR_R1_VERL_PYTHON names no Python that has it")
    module, name, *overrides = verl_args(folder, *more, MODEL=str(model))
    assert (module, name) == ("-m", "verl.trainer.main_ppo")
    pixels = folder / "pixels.npz"
    source = Path(star_r1.__file__).parents[1]
    done = subprocess.run(
        [python, str(HERE / "verl_child.py")],
        input=json.dumps(
            {"overrides": overrides, "completions": completions, "pixels": str(pixels)}
        ),
        capture_output=True,
        text=True,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(HERE / "verl_site"), str(source)]),
            "HF_DATASETS_CACHE": str(folder / "cache"),
            "CUDA_VISIBLE_DEVICES": "",
        },
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1]), dict(np.load(pixels))


@pytest.mark.verl
def test_verl_reads_the_export_and_returns_our_score(
    data_folder: Path, model_folder: Path, tmp_path: Path
) -> None:
    export_engine("verl", data_folder, tmp_path / "out", ["center"], data_folder)
    rows = load(data_folder, ["center"])
    completions = {
        str(index): [
            f"<think>.</think><answer>{rows[index]['answer']}</answer>",
            f"<think>.</think><answer>{rows[index]['answer']}, 9.color.red</answer>",
            "nothing of the kind",
        ]
        for index in (0, 5)
    }
    seen, _ = run_verl(
        tmp_path / "out", model_folder, completions, "data.filter_overlong_prompts=True"
    )
    # The config of run.sh, and what verl's dataset class makes of the files.
    assert (seen["use_kl_loss"], seen["generations"]) == (True, 8)
    assert seen["rows"] == {"train": len(rows), "val": 2 * len(rows)}
    assert seen["sources"] == ["tvr-center", "tvr-left"] * len(rows)
    assert [(extra["id"], extra["index"]) for extra in seen["extra"]] == [
        (row["id"], index) for index, row in enumerate(rows)
    ]
    # The reward manager: our score on the last token, every term as extra info.
    expected = [
        verl.compute_score("tvr", text, pack(rows[int(index)]))
        for index, texts in completions.items()
        for text in texts
    ]
    assert (seen["scores"], seen["elsewhere"]) == ([scored["score"] for scored in expected], 0)
    assert len(set(seen["scores"])) > 2
    assert seen["terms"] == {name: [scored[name] for scored in expected] for name in expected[0]}


@pytest.mark.verl
def test_an_ablation_and_moves_by_verls_own_config(
    moves_folder: Path, model_folder: Path, tmp_path: Path
) -> None:
    export_engine("verl", moves_folder, tmp_path / "out")
    # Row 4 moves object 0 out of sight: left.2 is true, behind-left.2 cannot be told from it.
    said = "<think>.</think><answer>0.position.{}</answer>"
    seen, _ = run_verl(
        tmp_path / "out",
        model_folder,
        {"4": [said.format("behind-left.2"), said.format("right.1")]},
        "+reward.custom_reward_function.reward_kwargs.attribute=0",
    )
    assert seen["scores"] == [6.0, 1.5]


@pytest.mark.verl
@pytest.mark.parametrize(
    ("name", "processor"),
    [
        ("Qwen/Qwen2.5-VL-7B-Instruct", "Qwen2_5_VLProcessor"),
        ("Qwen/Qwen3-VL-8B-Instruct", "Qwen3VLProcessor"),
    ],
)
def test_a_model_gets_from_verl_what_it_gets_from_us(
    name: str, processor: str, data_folder: Path, tmp_path: Path
) -> None:
    """Token for token and pixel for pixel, in the layout of the published checkpoints."""
    # Of a usual size: those below 256 x 256 pixels verl resizes twice for Qwen3-VL.
    noise = np.random.default_rng(0).integers(0, 256, (2, 240, 320, 3), dtype=np.uint8)
    first, second = map(encode_png, noise)
    sample = row_to_sample(load(data_folder)[0])
    data = tmp_path / "pairs"
    (data / "data").mkdir(parents=True)
    parquet = to_parquet([make_row(sample, (first, second), {})])
    (data / "data" / "train-00000-of-00001.parquet").write_bytes(parquet)
    make_tiny(tmp_path / "model", name)
    export_engine("verl", data, tmp_path / "out")
    seen, inputs = run_verl(tmp_path / "out", tmp_path / "model", {})
    assert seen["processor"] == processor
    row = load(data)[0]
    ours_by = load_processor(tmp_path / "model")
    text = ours_by.apply_chat_template(row["prompt"], add_generation_prompt=True)
    ours = ours_by(text=[text], images=[read_pair(row)], return_tensors="np")
    assert inputs["input_ids"].tolist() == np.asarray(ours["input_ids"]).tolist()
    assert inputs["image_grid_thw"].tolist() == np.asarray(ours["image_grid_thw"]).tolist()
    np.testing.assert_allclose(inputs["pixel_values"], ours["pixel_values"], atol=1e-5)
