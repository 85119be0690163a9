"""The rows of finished evaluations lined up, so that differences are paired."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from star_r1.errors import UserError
from star_r1.evaluate.finished import Answers, JudgedRun, read_finished
from star_r1.intervals import Floats, Integers
from star_r1.metrics import ALL_METRICS
from star_r1.progress import progress


@dataclass(frozen=True, slots=True, eq=False)
class Paired:
    """The rows that one run of every line answered, in one order.

    Attributes:
        keys, scene_keys, views: of the rows, as in ``JudgedRun``.
        values: line -> (rows, metrics).
        metrics: their names.
    """

    keys: Integers
    scene_keys: Integers
    views: NDArray[np.str_]
    values: dict[str, Floats]
    metrics: tuple[str, ...] = ALL_METRICS


def read_lines(lines: Mapping[str, Sequence[Path]]) -> dict[str, tuple[JudgedRun, ...]]:
    """Read and judge the completions of all runs; a folder or dataset named twice is read once.

    Args:
        lines: name -> folders of finished evaluations.

    Raises:
        UserError: a run is missing, unfinished or damaged, its data are missing or damaged, or
            they are not those that it was evaluated on.
    """
    runs = {folder: read_finished(folder) for folders in lines.values() for folder in folders}
    by_data: dict[str, list[Path]] = {}
    for folder, run in runs.items():
        by_data.setdefault(run.about["data"], []).append(folder)
    judged: dict[Path, JudgedRun] = {}
    with progress("Judging", sum(run.n for run in runs.values()), "rows") as advance:
        for data, folders in by_data.items():
            answers = Answers([runs[folder] for folder in folders], Path(data))
            for row in answers.rows():
                advance(sum(said is not None for said in row.said))
            judged |= zip(folders, answers.judged, strict=True)
    return {name: tuple(judged[folder] for folder in folders) for name, folders in lines.items()}


def pair_up(lines: Mapping[str, Sequence[JudgedRun]], common: bool = False) -> list[Paired]:
    """Line up the k-th runs of all lines, for each k; a line of one run takes part in each.

    Args:
        lines: name -> its runs, one or as many as any other.
        common: keep the rows that all have, instead of refusing runs over different rows.

    Raises:
        UserError: two lines have different numbers of runs, neither of them one; the k-th runs
            are over different rows, or, with ``common``, share none.
    """
    longest = max(lines, key=lambda name: len(lines[name]))
    seeds = len(lines[longest])
    for name, runs in lines.items():
        if len(runs) not in (1, seeds):
            raise UserError(
                f"{name} has {len(runs)} runs and {longest} {seeds}; the k-th of one is paired "
                "with the k-th of the other: give as many, or one"
            )
    everyone = {
        name: tuple(runs) * (seeds if len(runs) == 1 else 1) for name, runs in lines.items()
    }
    return [
        _pair_one({name: runs[k] for name, runs in everyone.items()}, common) for k in range(seeds)
    ]


def _pair_one(runs: Mapping[str, JudgedRun], common: bool) -> Paired:
    first, *others = runs.values()
    shared = first.keys
    for other in others:
        both = np.intersect1d(first.keys, other.keys)
        if not common and len(both) < max(len(first.keys), len(other.keys)):
            hint = "--common compares those" if len(both) else "evaluate both on the same data"
            raise UserError(
                f"{first.run.folder} ({len(first.keys)} rows) and {other.run.folder} "
                f"({len(other.keys)} rows) are over different rows, {len(both)} in common; {hint}"
            )
        shared = np.intersect1d(shared, both)
    if not len(shared):
        raise UserError("--common: no row is in all of the runs; evaluate them on the same data")
    kept = np.isin(first.keys, shared)
    keys = first.keys[kept]
    values = {}
    for name, run in runs.items():
        order = np.argsort(run.keys)
        values[name] = run.rows.values[order[np.searchsorted(run.keys, keys, sorter=order)]]
    return Paired(keys, first.rows.scene_keys[kept], first.views[kept], values)
