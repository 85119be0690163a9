"""What an evaluation left in its folder: settings, metrics, answers."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from star_r1.errors import UserError
from star_r1.evaluate.predictions import STATUSES
from star_r1.evaluate.sampled import MAJORITY
from star_r1.files import read_regular
from star_r1.metrics import BESIDE_GROUPS, GROUPS, METRICS, Scores
from star_r1.trance_metrics import BASIC_METRICS, SETTINGS
from star_r1.trance_metrics import METRICS as TRANCE_METRICS

MAX_BYTES: Final = 1 << 24
"""Of run.json and metrics.json, which take some 20,000."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What ``star-r1 evaluate`` wrote into a folder.

    Attributes:
        name: of the folder.
        folder: where predictions.jsonl lies.
        about: run.json: model, data, identity, commit, machine, date, versions.
        scores: metrics.json: group -> metric -> value; at least ``GROUPS`` and ``METRICS``.
        trance: in it, setting -> group -> metric -> value; empty where objects do not move.
        samples: in it, group -> ``pass@1`` and so on and ``majority`` -> value; empty where each
            row has one completion.
        answers: in it, how many completions have each of ``predictions.STATUSES``, and the share
            that is ``malformed``; empty in evaluations of old.
        usage: in it, tokens of prompts and completions, and what they cost if that is known; empty
            in evaluations of old.
        truth: in it, the fingerprint of its rows, see ``scoring.score_completions``; empty in
            evaluations of old.
    """

    name: str
    folder: Path
    about: dict[str, Any]
    scores: Scores
    trance: dict[str, Scores]
    samples: Scores = field(default_factory=dict)
    answers: dict[str, float] = field(default_factory=dict)
    usage: dict[str, float] = field(default_factory=dict)
    truth: str = ""

    @property
    def n(self) -> int:
        """The rows that it answered."""
        return self.scores["overall"]["tacc"]["n"]


def read_evaluation(folder: Path) -> Evaluation:
    """Read the folder of a finished evaluation.

    Raises:
        UserError: run.json or metrics.json is missing or damaged.
    """
    about, scores = _read_json(folder / "run.json"), _read_json(folder / "metrics.json")
    if not isinstance(about, dict) or not isinstance(about.get("data"), str):
        raise UserError(f"{folder / 'run.json'}: damaged; run 'star-r1 evaluate' into a new folder")
    try:
        truth = scores.pop("truth", "")
        trance, samples, answers, usage = (scores.pop(key, {}) for key in BESIDE_GROUPS[:-1])
        if not set(scores) >= set(GROUPS) or set(trance) not in (set(), set(SETTINGS)):
            raise KeyError
        for group in scores.values():
            _check_group(group, METRICS)
        for setting, groups in trance.items():
            for group in (groups["overall"], *groups.values()):
                _check_group(group, BASIC_METRICS if setting == "basic" else TRANCE_METRICS)
        for group in samples and (samples["overall"], *samples.values()):
            _check_group(group, (*group, MAJORITY))
        if answers and set(answers) != {*STATUSES, "malformed"}:
            raise KeyError
        if not isinstance(truth, str):
            raise TypeError
        for n in (*answers.values(), *usage.values()):
            if type(n) not in (int, float) or not math.isfinite(n):
                raise ValueError
        beside = trance, samples, answers, usage, truth
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        raise UserError(
            f"{folder / 'metrics.json'}: damaged; run its 'star-r1 evaluate' command again"
        ) from None
    return Evaluation(folder.resolve().name, folder, about, scores, *beside)


def _check_group(group: Any, metrics: Sequence[str]) -> None:
    for metric in {*metrics, *group}:
        _check_measured(group[metric])


def _check_measured(measured: Any) -> None:
    """A mean over some rows has a value, and an interval or None."""
    if type(measured["n"]) is not int:
        raise TypeError
    if measured["n"] > 0:
        low, high = measured["ci95"] or (0, 0)
        if not all(map(math.isfinite, (measured["value"], low, high))):
            raise ValueError


def _read_json(path: Path) -> Any:
    try:
        return json.loads(read_regular(path, MAX_BYTES))
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise UserError(f"{path}: not JSON; was it edited or cut off?") from None
