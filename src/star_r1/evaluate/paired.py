"""Finished evaluations judged row by row, and the rows of several lined up."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from star_r1.errors import UserError
from star_r1.evaluate.predictions import Completion, read_completions
from star_r1.evaluate.runs import Evaluation, read_evaluation
from star_r1.metrics import ALL_METRICS, judge, judged_values
from star_r1.progress import progress
from star_r1.tvr.answer import parse_answer
from star_r1.tvr.sample import Sample

Floats: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class JudgedRun:
    """One evaluation, row by row.

    Attributes:
        run: its settings and metrics.
        keys: a fingerprint of each row's sample: the same in two runs where they were asked the
            same, whatever the folder of the data or the size of the pictures.
        scenes: a fingerprint of each row's scene and changes, which its views share.
        views: of the final pictures.
        values: (rows, ``ALL_METRICS``): what the row adds to each metric, the mean over its
            completions; NaN where the metric leaves it out.
    """

    run: Evaluation
    keys: tuple[str, ...]
    scenes: tuple[str, ...]
    views: tuple[str, ...]
    values: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Paired:
    """The rows that one run of every line answered, in one order.

    Attributes:
        keys, scenes, views: of the rows, as in ``JudgedRun``.
        values: line -> (rows, ``ALL_METRICS``).
    """

    keys: tuple[str, ...]
    scenes: tuple[str, ...]
    views: tuple[str, ...]
    values: dict[str, Floats]


def read_lines(lines: Mapping[str, Sequence[Path]]) -> dict[str, tuple[JudgedRun, ...]]:
    """Read and judge the completions of all runs; a folder or dataset named twice is read once.

    Args:
        lines: name -> folders of finished evaluations.

    Raises:
        UserError: a run is missing, unfinished or damaged, its data are missing or damaged, or
            they are not those that it was evaluated on.
    """
    runs = {folder: read_finished(folder) for folders in lines.values() for folder in folders}
    firsts = {run.about["data"]: run for run in reversed(runs.values())}
    data = {folder: _Data(run) for folder, run in firsts.items()}
    with progress("Judging", sum(run.about["n"] for run in runs.values()), "rows") as advance:
        rows = {
            folder: _judge_run(run, data[run.about["data"]], advance)
            for folder, run in runs.items()
        }
    return {name: tuple(rows[folder] for folder in folders) for name, folders in lines.items()}


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
    places = {name: {key: i for i, key in enumerate(rows.keys)} for name, rows in runs.items()}
    shared = set.intersection(*map(set, places.values()))
    first, *others = runs.values()
    if common and not shared:
        raise UserError("--common: no row is in all of the runs; evaluate them on the same data")
    for other in () if common else others:
        both = len(set(first.keys) & set(other.keys))
        if both < max(len(first.keys), len(other.keys)):
            hint = "--common compares those" if both else "evaluate both on the same data"
            raise UserError(
                f"{first.run.folder} ({len(first.keys)} rows) and {other.run.folder} "
                f"({len(other.keys)} rows) are over different rows, {both} in common; {hint}"
            )
    kept = [i for i, key in enumerate(first.keys) if key in shared]
    keys = tuple(first.keys[i] for i in kept)
    return Paired(
        keys,
        tuple(first.scenes[i] for i in kept),
        tuple(first.views[i] for i in kept),
        {name: rows.values[[places[name][k] for k in keys]] for name, rows in runs.items()},
    )


@dataclass(frozen=True, slots=True)
class _Question:
    key: str
    scene: str
    sample: Sample


class _Data:
    """A dataset without its pictures; a row is read when it is first asked for."""

    def __init__(self, run: Evaluation) -> None:
        from star_r1.data.dataset import SAMPLE_COLUMNS, read_columns

        try:
            rows = read_columns(Path(run.about["data"]), SAMPLE_COLUMNS)
            self.rows = {row["id"]: row for row in rows}
        except UserError as error:
            anywhere = Path(run.about["data"]).is_absolute()
            hint = "" if anywhere else "; or call this where 'star-r1 evaluate' was called"
            raise UserError(f"{run.folder}: its data cannot be read: {error}{hint}") from None
        self.question: Callable[[str], _Question] = cache(self._question)

    def _question(self, id: str) -> _Question:
        from star_r1.data.dataset import row_to_sample

        row = self.rows[id]
        return _Question(
            _fingerprint(*row.values()),
            _fingerprint(row["initial"], row["changes"]),
            row_to_sample(row),
        )


def _fingerprint(*texts: str) -> str:
    return hashlib.sha256(json.dumps(texts).encode()).hexdigest()[:24]


def read_finished(folder: Path) -> Evaluation:
    """Read the folder of an evaluation.

    Raises:
        UserError: it is missing, unfinished, something else or damaged.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such run folder")
    if not (folder / "metrics.json").exists():
        if (folder / "run.json").exists():
            raise UserError(
                f"{folder}: an unfinished evaluation; run its 'star-r1 evaluate' command again"
            )
        raise UserError(f"{folder}: no metrics.json in it; give the --out of 'star-r1 evaluate'")
    run = read_evaluation(folder)
    if type(run.about.get("n")) is not int:
        raise UserError(f"{folder / 'run.json'}: damaged; run 'star-r1 evaluate' into a new folder")
    return run


def _judge_run(run: Evaluation, data: _Data, advance: Callable[[int], None]) -> JudgedRun:
    completions = read_completions(run.folder / "predictions.jsonl", data.rows)
    if len(completions) != run.about["n"]:
        raise UserError(
            f"{run.folder}: {len(completions)} of {run.about['n']} rows answered; "
            "run its 'star-r1 evaluate' command again"
        )
    questions = [data.question(id) for id in completions]
    values = np.empty((len(questions), len(ALL_METRICS)))
    for i, (question, said) in enumerate(zip(questions, completions.values(), strict=True)):
        values[i] = np.mean([_values(one, question.sample) for one in said], axis=0)
        advance(1)
    _check_scores(run, values)
    return JudgedRun(
        run,
        tuple(question.key for question in questions),
        tuple(question.scene for question in questions),
        tuple(question.sample.view for question in questions),
        values,
    )


def _check_scores(run: Evaluation, values: Floats) -> None:
    """Raise a UserError unless these are the values of which metrics.json tells.

    The data's folder may hold another dataset by now: the ids would fit, and nothing else. TAcc
    alone would not tell where a run is never right, as a baseline that says nothing.
    """
    for metric, column in zip(ALL_METRICS, values.T, strict=True):
        if (measured := run.scores["overall"].get(metric)) is None:
            continue
        there = column[~np.isnan(column)]
        n, now = len(there), float(there.mean()) if len(there) else 0.0
        before = measured["value"] or 0.0
        if n != measured["n"] or abs(now - before) > 1e-9:
            raise UserError(
                f"{run.folder}: its answers to {run.about['data']} have {metric} {now:.4f} over "
                f"{n} rows, metrics.json says {before:.4f} over {measured['n']}; these are not the "
                "data or answers of then: evaluate it again"
            )


def _values(completion: Completion, sample: Sample) -> list[float]:
    """What a completion adds to each of ``ALL_METRICS``."""
    judged = judge(parse_answer(completion.text, sample.vocabulary), sample)
    values = judged_values(judged, sample)
    return [np.nan if (value := values.get(m)) is None else float(value) for m in ALL_METRICS]
