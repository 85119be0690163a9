"""Folders of evaluations and trainings -> what their reasonings do."""

from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, Final

from star_r1.analyze.along import is_training, read_curves
from star_r1.analyze.judge import compare_with_judge
from star_r1.analyze.reading import DEFINITIONS
from star_r1.analyze.summary import DEFINITION, Read, read_run, summarize
from star_r1.errors import UserError
from star_r1.evaluate.compare import name_lines
from star_r1.evaluate.paired import read_finished
from star_r1.evaluate.predictor import Predictor
from star_r1.evaluate.runs import Evaluation
from star_r1.progress import progress
from star_r1.provenance import provenance

JUDGED: Final = 100
"""Reasonings of a line that a judge reads, where nobody says another number."""


def analyze(
    arguments: Sequence[str],
    seed: int = 0,
    resamples: int = 1000,
    judge: Predictor | None = None,
    replies: Path | None = None,
    judged: int = JUDGED,
) -> dict[str, Any]:
    """Read all completions of some runs.

    Args:
        arguments: run folders, as ``compare.name_lines`` takes them; of ``star-r1 evaluate``, and
            of ``star-r1 train grpo``, whose sampled completions are read step by step.
        seed: of the bootstrap.
        resamples: of the bootstrap.
        judge: reads some of the reasonings too, see ``judge.compare_with_judge``; None for none.
        replies: the file of its replies; needed with a judge.
        judged: the most reasonings of a line that it reads, evenly spread over them.

    Returns:
        ``lines``: name -> ``summary.summarize`` of the rows of its evaluations together, ``runs``,
        their folders with model and data, and with a judge ``judge``; ``trainings``: name ->
        ``along.read_curves``;
        ``definition`` of a correspondence, ``definitions_version`` of all; and its provenance.

    Raises:
        UserError: a folder is missing, unfinished, neither of these, or damaged; or its data are,
            or are no longer those of then.
    """
    lines: dict[str, Any] = {}
    trainings: dict[str, Any] = {}
    for name, folders in name_lines(arguments).items():
        if all(map(_is_only_training, folders)):
            for folder in folders:
                of = name if len(folders) == 1 else f"{name} ({folder})"
                trainings[of] = read_curves(folder)
            continue
        runs = [read_finished(folder) for folder in folders]
        rows: list[list[Read]] = []
        with progress(f"Reading {name}", sum(run.about["n"] for run in runs), "rows") as advance:
            for run in runs:
                rows += _read_unchanged(run, advance)
        asked = [
            {"folder": str(run.folder), "model": run.about.get("model"), "data": run.about["data"]}
            for run in runs
        ]
        lines[name] = {"runs": asked, **summarize(rows, seed, resamples)}
        if judge is not None and replies is not None:
            said = [one for row in rows for one in row if one.reading.follows is not None]
            many = min(judged, len(said))
            chosen = [said[k * len(said) // many] for k in range(many)]
            lines[name]["judge"] = compare_with_judge(chosen, judge, replies)
    return {
        "lines": lines,
        "trainings": trainings,
        "definition": DEFINITION,
        "definitions_version": DEFINITIONS,
        "seed": seed,
        **provenance(),
    }


def _read_unchanged(run: Evaluation, advance: Callable[[], None]) -> list[list[Read]]:
    """All rows of an evaluation, if they are as right as it says that they were."""
    rows = []
    for row in read_run(run):
        rows.append(row)
        advance()
    # The data's folder may hold another dataset by now: the ids would fit, and nothing else.
    now = fmean(fmean(one.right for one in row) for row in rows) if rows else 0.0
    before = run.scores["overall"]["tacc"]["value"] or 0.0
    if len(rows) != run.about["n"] or abs(before - now) > 1e-9:
        raise UserError(
            f"{run.folder}: {len(rows)} rows of TAcc {now:.4f}, its metrics.json is of "
            f"{run.about['n']} of {before:.4f}; these are not the data or answers of then: "
            "evaluate it again"
        )
    return rows


def _is_only_training(folder: Path) -> bool:
    return is_training(folder) and not (folder / "metrics.json").exists()
