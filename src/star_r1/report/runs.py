"""What a run folder holds: an evaluation (metrics, completions) or a training (its curves)."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from star_r1.errors import UserError
from star_r1.metrics import GROUPS, METRICS, Scores
from star_r1.train.record import read_record
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


@dataclass(frozen=True, slots=True)
class Curve:
    """One logged number by training step; steps without a finite value are left out."""

    steps: tuple[float, ...]
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Training:
    """What ``star-r1 train`` left in a folder.

    Attributes:
        name: of the folder.
        folder: where the sampled completions lie.
        curves: by logged name.
        data: dataset folder that it trained on; None where training.json does not say.
    """

    name: str
    folder: Path
    curves: dict[str, Curve]
    data: Path | None

    @property
    def steps(self) -> float:
        """The last logged step, 0 where nothing was logged."""
        return max((curve.steps[-1] for curve in self.curves.values()), default=0)


def read_runs(folders: Sequence[Path]) -> tuple[list[Evaluation], list[Training]]:
    """Sort run folders into evaluations and trainings, each in the given order.

    Raises:
        UserError: a folder is missing, unfinished or neither; a file in it is damaged.
    """
    evaluations, trainings = [], []
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"{folder}: no such run folder")
        evaluated, trained = (folder / "metrics.json").exists(), (folder / "log.jsonl").exists()
        if evaluated:
            evaluations.append(_read_evaluation(folder))
        if trained:
            trainings.append(_read_training(folder))
        if not evaluated and not trained:
            if (folder / "run.json").exists():
                raise UserError(
                    f"{folder}: an unfinished evaluation; run its 'star-r1 evaluate' command again"
                )
            raise UserError(
                f"{folder}: neither metrics.json nor log.jsonl in it; "
                "give the --out of 'star-r1 evaluate' or the --output_dir of 'star-r1 train'"
            )
    return evaluations, trainings


def _name(folder: Path) -> str:
    return folder.resolve().name


def _read_evaluation(folder: Path) -> Evaluation:
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
    return Evaluation(_name(folder), folder, about, scores, trance)


def _read_training(folder: Path) -> Training:
    curves = _read_curves(folder / "log.jsonl")
    path = read_record(folder).get("data", {}).get("path")
    return Training(_name(folder), folder, curves, Path(path) if path else None)


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


def _read_curves(path: Path) -> dict[str, Curve]:
    points: dict[str, list[tuple[float, float]]] = {}
    *lines, rest = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines if _is_half(rest) else [*lines, rest], 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            step = entry["step"]
            numbers = {name: value for name, value in entry.items() if _is_number(value)}
            if not _is_number(step):
                raise TypeError
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise UserError(
                f'{path}:{number}: not a JSON object with a number "step"; '
                "delete the line, or everything from it on"
            ) from None
        for name, value in numbers.items():
            points.setdefault(name, []).append((step, value))
    return {
        name: Curve(*(tuple(map(float, column)) for column in zip(*rows, strict=True)))
        for name, rows in points.items()
    }


def _is_half(line: bytes) -> bool:
    """Whether a last line without its end is what a training that was killed left of it."""
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return True
    return False


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)
