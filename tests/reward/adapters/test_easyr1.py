"""The EasyR1 adapter: called as EasyR1 documents it, from the file that the export writes."""

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

from star_r1.data.export_engines import export_engine
from star_r1.errors import UserError
from star_r1.reward.adapters import easyr1

HALF = "<think>.</think><answer>2.color.cyan, 0.shape.sphere</answer>"


def item(response: str, truth: Any = "2.color.cyan, 0.shape.cube") -> dict[str, Any]:
    """What EasyR1's reward manager gives for each completion."""
    return {"response": response, "response_length": 17, "ground_truth": truth}


def test_a_batch() -> None:
    first, second = easyr1.compute_score([item(HALF), item("")])
    assert first == {
        "overall": 7.5,
        **{"format": 1.0, "exact": 5.0, "attribute": 1.5, "object": 0.0},
        **{"wrong": 0.0, "missing": 0.0},
        **{"right": 0.0, "well_formed": 1.0, "predictions": 2.0},
    }
    assert (second["overall"], list(second)) == (-2.0, list(first))  # the same curves for each


def test_reward_function_kwargs() -> None:
    assert easyr1.compute_score([item(HALF)], attribute=0)[0]["overall"] == 6.5
    assert easyr1.compute_score([item(HALF)], reward="sparse")[0]["overall"] == 1.0
    with pytest.raises(UserError, match="no number 'format_weight'"):
        easyr1.compute_score([item(HALF)], format_weight=0.1)


def test_a_broken_ground_truth_is_said() -> None:
    with pytest.raises(UserError, match="a sample: the ground truth is '2 cyan'"):
        easyr1.compute_score([item(HALF, "2 cyan")])


def test_the_file_that_the_export_writes(
    data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export_engine("easyr1", data_folder, tmp_path / "out")
    # As EasyR1 loads worker.reward.reward_function.
    spec = importlib.util.spec_from_file_location(
        "custom_reward_fn", tmp_path / "out" / "reward.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "custom_reward_fn", module)
    spec.loader.exec_module(module)
    assert (module.REWARD_NAME, module.REWARD_TYPE) == ("star", "batch")
    assert module.compute_score([item(HALF)])[0]["overall"] == 7.5
