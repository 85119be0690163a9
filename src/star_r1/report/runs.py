"""What a run folder holds: an evaluation (metrics, completions) or a training (its curves)."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from star_r1.errors import UserError
from star_r1.evaluate.runs import Evaluation, read_evaluation
from star_r1.files import open_regular
from star_r1.train.record import read_record


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
            evaluations.append(read_evaluation(folder))
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


def _read_training(folder: Path) -> Training:
    curves = _read_curves(folder / "log.jsonl")
    about = read_record(folder).get("data")
    path = about.get("path") if isinstance(about, dict) else None
    return Training(
        folder.resolve().name, folder, curves, Path(path) if isinstance(path, str) else None
    )


def _read_curves(path: Path) -> dict[str, Curve]:
    points: dict[str, list[tuple[float, float]]] = {}
    try:
        with open_regular(path) as file:
            *lines, rest = file.read().split(b"\n")
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
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
    return type(value) in (int, float) and abs(value) <= sys.float_info.max  # nor is it NaN
