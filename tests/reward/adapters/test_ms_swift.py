"""The ms-swift adapter: registered and called as ms-swift 4.6 does it."""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import star_r1
from star_r1.data.dataset import load
from star_r1.data.export_engines import export_engine
from star_r1.errors import UserError
from star_r1.reward.adapters import ms_swift
from star_r1.reward.adapters.truth import pack

HALF = "<think>.</think><answer>2.color.cyan, 0.shape.sphere</answer>"
ANSWER = "2.color.cyan, 0.shape.cube"


class ORM:
    """Stands where ms-swift's base class does, which does as much."""

    def __init__(self, args: Any = None, **kwargs: Any) -> None:
        self.args = args


@pytest.fixture
def orms(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The table of a stand-in for ``swift.rewards``."""
    module = ModuleType("swift.rewards")
    table: dict[str, Any] = {}
    module.ORM, module.orms = ORM, table  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "swift", ModuleType("swift"))
    monkeypatch.setitem(sys.modules, "swift.rewards", module)
    return table


def test_rewards() -> None:
    assert ms_swift.rewards([HALF, ""], [ANSWER] * 2) == [7.5, -2.0]
    assert ms_swift.rewards([HALF], [ANSWER], reward="sparse") == [1.0]
    with pytest.raises(UserError, match="a sample: the ground truth is None"):
        ms_swift.rewards([HALF], [None])  # type: ignore[list-item]


def test_register(orms: dict[str, Any]) -> None:
    ms_swift.register("star_without_attribute", attribute=0)
    reward = orms["star_without_attribute"](args=object())
    assert isinstance(reward, ORM)
    assert type(reward).__name__ == "star_without_attribute"  # the name of the curve
    called = reward([HALF], ground_truth=[ANSWER], id=["0-left"], images=[[]], trainer_state=None)
    assert called == [6.5]


def test_the_plugin_that_the_export_writes(
    orms: dict[str, Any], data_folder: Path, tmp_path: Path
) -> None:
    export_engine("ms-swift", data_folder, tmp_path / "out")
    runpy.run_path(str(tmp_path / "out" / "plugin.py"))
    scores = {name: made()([HALF], [ANSWER])[0] for name, made in orms.items()}
    assert scores == {
        "star": 7.5,
        "star_without_attribute": 6.5,
        **dict.fromkeys(("star_without_object", "star_without_wrong"), 7.5),
        "star_without_missing": 7.5,
        "sparse": 1.0,
        "count_penalty": 7.5,
    }
    row = load(data_folder)[0]
    right = f"<think>.</think><answer>{row['answer']}</answer>"
    assert orms["sparse"]()([right], [pack(row)]) == [2.0]


def test_without_ms_swift_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "swift", None)
    with pytest.raises(ModuleNotFoundError, match="swift"):
        ms_swift.register()


@pytest.mark.ms_swift
def test_ms_swift_loads_the_export_and_calls_the_reward(data_folder: Path, tmp_path: Path) -> None:
    python = os.environ.get("STAR_R1_MS_SWIFT_PYTHON")
    if not python:
        pytest.skip("no ms-swift: STAR_R1_MS_SWIFT_PYTHON names no Python that has it")
    out = tmp_path / "out"
    export_engine("ms-swift", data_folder, out, ["left"])
    rows = load(data_folder, ["left"])
    completions = [f"<think>.</think><answer>{row['answer']}</answer>" for row in rows]
    completions[3] = HALF
    (tmp_path / "swift").write_text("#!/bin/sh\nprintf '%s\\n' \"$@\"\n")
    (tmp_path / "swift").chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    printed = subprocess.check_output(
        ["bash", "run.sh"], cwd=out, text=True, env={**os.environ, "PATH": path}
    )
    command, *flags = printed.splitlines()
    assert command == "rlhf"
    names = ["star", "star_without_missing", "sparse"]
    done = subprocess.run(
        [python, str(Path(__file__).with_name("ms_swift_child.py"))],
        input=json.dumps({"flags": flags, "names": names, "completions": completions}),
        capture_output=True,
        text=True,
        cwd=out,
        env={
            **os.environ,
            "PYTHONPATH": str(Path(star_r1.__file__).parents[1]),
            "HF_DATASETS_CACHE": str(tmp_path / "cache"),
            "MODELSCOPE_CACHE": str(tmp_path / "modelscope"),
        },
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    seen = json.loads(done.stdout.splitlines()[-1])
    assert (seen["unknown"], seen["beta"], seen["plugins"]) == ([], 0.04, ["plugin.py"])
    assert seen["names"] == names
    assert seen["orm"]
    assert seen["ids"] == list(rows["id"])
    assert all((out / path).is_file() for paths in seen["images"] for path in paths)
    truths = [pack(row) for row in rows]
    assert seen["rewards"] == [
        ms_swift.rewards(completions, truths, **chosen)
        for chosen in ({}, {"missing": 0}, {"reward": "sparse"})
    ]
