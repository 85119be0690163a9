"""The taskset for verifiers, loaded and scored by verifiers itself, where it is."""

import base64
import json
import os
import subprocess
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import star_r1
from star_r1.data.dataset import load
from star_r1.data.pictures import read_pair
from star_r1.reward.adapters.score import TERMS, score
from star_r1.reward.adapters.truth import pack, read_packed

MODULE = 'from star_r1.reward.adapters.verifiers import StarTaskset\n__all__ = ["StarTaskset"]\n'


def run_verifiers(
    folder: Path, taskset: dict[str, Any], replies: list[Any]
) -> subprocess.CompletedProcess[str]:
    python = os.environ.get("STAR_R1_VERIFIERS_PYTHON")
    if not python:
        pytest.skip("no verifiers: STAR_R1_VERIFIERS_PYTHON names no Python that has it")
    (folder / "star_tvr.py").write_text(MODULE)
    source = str(Path(star_r1.__file__).parents[1])
    return subprocess.run(
        [python, str(Path(__file__).with_name("verifiers_child.py"))],
        input=json.dumps({"taskset": {"id": "star-tvr", **taskset}, "replies": replies}),
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([source, str(folder)])},
        timeout=120,
    )


@pytest.mark.verifiers
def test_verifiers_loads_and_scores_our_tasks(moves_folder: Path, tmp_path: Path) -> None:
    rows = load(moves_folder, ["top"])
    replies = [f"<think>.</think><answer>{row['answer']}</answer>" for row in rows]
    replies[1:3] = ["nothing", "<think>.</think><answer>0.position.behind-left.2</answer>"]
    taskset = {"data": str(moves_folder), "views": ["top"]}
    ablation = {"task": {"numbers": {"format": 0}}}
    done = run_verifiers(tmp_path, {**taskset, **ablation}, replies)
    assert done.returncode == 0, done.stderr[-3000:]
    seen = json.loads(done.stdout.splitlines()[-1])
    assert seen["environment"] == "SingleAgentEnv"
    for task, row, reply in zip(seen["tasks"], rows, replies, strict=True):
        assert task["id"] == row["id"]
        assert [message["role"] for message in task["prompt"]] == ["system", "user"]
        first, second, table = task["prompt"][1]["content"]
        assert table["text"] == row["prompt"][1]["content"][2]["text"]
        for part, picture in zip((first, second), read_pair(row), strict=True):
            head, _, data = part["image_url"]["url"].partition(",")
            assert head == "data:image/png;base64"
            with Image.open(BytesIO(base64.b64decode(data))) as opened:
                assert np.array_equal(np.asarray(opened), np.asarray(picture))
        expected = score(*read_packed(reply, pack(row)), format=0)
        assert task["rewards"] == {"star": expected.pop("score")}
        assert task["metrics"] == expected
        assert set(expected) > set(TERMS)
    assert [task["rewards"]["star"] for task in seen["tasks"]] == [5.0, -2.0, 5.0, 10.0]


@pytest.mark.verifiers
def test_a_thinking_model_keeps_the_format(moves_folder: Path, tmp_path: Path) -> None:
    """Whether its reply is whole, begins inside the block, or has the reasoning apart."""
    rows = list(load(moves_folder, ["top"]))
    right = [f"<answer>{row['answer']}</answer>" for row in rows]
    replies = [
        f"<think>a</think>{right[0]}",
        f"a</think>\n\n{right[1]}",
        {"content": right[2], "reasoning_content": "a"},
        {"content": f"\n\n{right[3]}", "reasoning_content": "<think>a</think>"},
    ]
    done = run_verifiers(tmp_path, {"data": str(moves_folder), "views": ["top"]}, replies)
    assert done.returncode == 0, done.stderr[-3000:]
    tasks = json.loads(done.stdout.splitlines()[-1])["tasks"]
    assert [task["metrics"]["format"] for task in tasks] == [1.0] * 4
    assert [task["metrics"]["right"] for task in tasks] == [1.0] * 4


@pytest.mark.verifiers
def test_a_folder_without_data_is_said(tmp_path: Path) -> None:
    done = run_verifiers(tmp_path, {"data": str(tmp_path)}, [])
    assert done.returncode != 0
    assert "no data/*.parquet in it; give --env.taskset.data a folder" in done.stderr
