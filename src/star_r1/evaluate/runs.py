"""What an evaluation left in its folder: settings, metrics, answers."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from star_r1.errors import UserError
from star_r1.metrics import GROUPS, METRICS, Scores
from star_r1.trance_metrics import BASIC_METRICS, SETTINGS
from star_r1.trance_metrics import METRICS as TRANCE_METRICS


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What ``star-r1 evaluate`` wrote into a folder.

    Attributes:
        name: of the folder.
        folder: where predictions.jsonl lies.
        about: run.json: model, data, identity, commit, machine, date, versions.
        scores: metrics.json: group -> metric -> value; at least ``GROUPS`` and ``METRICS``.
        trance: in it, setting -> group -> metric -> value; empty where objects do not move.
    """

    name: str
    folder: Path
    about: dict[str, Any]
    scores: Scores
    trance: dict[str, Scores]


def read_evaluation(folder: Path) -> Evaluation:
    """Read the folder of a finished evaluation.

    Raises:
        UserError: run.json or metrics.json is missing or damaged.
    """
    about, scores = _read_json(folder / "run.json"), _read_json(folder / "metrics.json")
    if not isinstance(about, dict) or not isinstance(about.get("data"), str):
        raise UserError(f"{folder / 'run.json'}: damaged; run 'star-r1 evaluate' into a new folder")
    try:
        trance = scores.pop("trance", {})
        if not set(scores) >= set(GROUPS) or set(trance) not in (set(), set(SETTINGS)):
            raise KeyError
        for group in scores.values():
            _check_group(group, METRICS)
        for setting, groups in trance.items():
            for group in (groups["overall"], *groups.values()):
                _check_group(group, BASIC_METRICS if setting == "basic" else TRANCE_METRICS)
    except (KeyError, TypeError, ValueError, AttributeError):
        raise UserError(
            f"{folder / 'metrics.json'}: damaged; run its 'star-r1 evaluate' command again"
        ) from None
    return Evaluation(folder.resolve().name, folder, about, scores, trance)


def _check_group(group: Any, metrics: Sequence[str]) -> None:
    for metric in {*metrics, *group}:
        _check_measured(group[metric])


def _check_measured(measured: Any) -> None:
    if measured["n"] > 0:
        low, high = measured["ci95"]
        if not all(map(math.isfinite, (measured["value"], low, high))):
            raise ValueError


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise UserError(f"{path}: not JSON; was it edited or cut off?") from None
