"""Folders of evaluations and trainings -> what their reasonings do."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from star_r1.analyze.along import is_training, read_curves
from star_r1.analyze.judge import compare_with_judge
from star_r1.analyze.reading import DEFINITIONS
from star_r1.analyze.summary import BOUNDS, DEFINITION, Read, read_row, summarize, tabulate
from star_r1.evaluate.compare import contrast, name_lines
from star_r1.evaluate.finished import Answers, JudgedRun, read_finished
from star_r1.evaluate.paired import Paired
from star_r1.evaluate.predictor import Predictor
from star_r1.intervals import Integers
from star_r1.metrics import Rows, group_views
from star_r1.progress import progress
from star_r1.provenance import provenance

JUDGED: Final = 100
"""Reasonings of a line that a judge reads, where nobody says another number."""


def analyze(
    arguments: Sequence[str],
    judge: Predictor | None = None,
    replies: Path | None = None,
    judged: int = JUDGED,
) -> dict[str, Any]:
    """Read all completions of some runs.

    Args:
        arguments: run folders, as ``compare.name_lines`` takes them; of ``star-r1 evaluate``, and
            of ``star-r1 train grpo``, whose sampled completions are read step by step.
        judge: reads some of the reasonings too, see ``judge.compare_with_judge``; None for none.
        replies: the file of its replies; needed with a judge.
        judged: the most reasonings of a line that it reads, evenly spread over them.

    Returns:
        ``lines``: name -> ``summary.summarize`` of the rows of its evaluations together, ``runs``,
        their folders with model and data, with a judge ``judge``, and of lines over the same rows
        as the first one ``differences`` from it: paired, as ``compare`` has them; ``trainings``:
        name -> ``along.read_curves``;
        ``definition`` of a correspondence, ``definitions_version`` of all; and its provenance.

    Raises:
        UserError: a folder is missing, unfinished, neither of these, or damaged; or its data are,
            or are no longer those of then.
    """
    lines: dict[str, Any] = {}
    read: dict[str, _Line] = {}
    trainings: dict[str, Any] = {}
    for name, folders in name_lines(arguments).items():
        if all(map(_is_only_training, folders)):
            for folder in folders:
                of = name if len(folders) == 1 else f"{name} ({folder})"
                trainings[of] = read_curves(folder)
            continue
        line, rows = _read_line(name, folders)
        read[name] = line
        lines[name] = {"runs": line.runs, **summarize(rows, line.table)}
        if len(read) > 1 and (differences := _differences(read, name)):
            lines[name]["differences"] = differences
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
        **provenance(),
    }


@dataclass(frozen=True, slots=True, eq=False)
class _Line:
    """The rows of a line's evaluations together: what they are, and what each adds."""

    runs: list[dict[str, Any]]
    keys: Integers
    views: NDArray[np.str_]
    table: Rows


def _read_line(name: str, folders: Sequence[Path]) -> tuple[_Line, list[list[Read]]]:
    runs = [read_finished(folder) for folder in folders]
    rows: list[list[Read]] = []
    judged: list[JudgedRun] = []
    with progress(f"Reading {name}", sum(run.n for run in runs), "rows") as advance:
        for run in runs:
            answers = Answers([run], Path(run.about["data"]))
            for row in answers.rows():
                rows += [read_row(said, row.sample) for said in row.said if said is not None]
                advance()
            judged += answers.judged
    asked = [
        {"folder": str(run.folder), "model": run.about.get("model"), "data": run.about["data"]}
        for run in runs
    ]
    keys = np.concatenate([one.keys for one in judged])
    views = np.concatenate([one.views for one in judged])
    return _Line(asked, keys, views, tabulate(rows)), rows


def _differences(read: dict[str, _Line], name: str) -> dict[str, Any] | None:
    """Of a line from the first one; None where they are over other rows."""
    against, first, line = next(iter(read)), next(iter(read.values())), read[name]
    if not np.array_equal(first.keys, line.keys):
        return None
    values = {against: first.table.values, name: line.table.values}
    paired = Paired(line.keys, line.table.scene_keys, line.views, values, tuple(BOUNDS))
    groups = group_views(line.views.tolist())
    _, differences = contrast([paired], against, groups, tuple(BOUNDS), bounds=BOUNDS)
    shown = {
        group: {field: asdict(found) for field, found in fields.items() if found is not None}
        for group, fields in differences[name].items()
    }
    for fields in shown.values():
        for found in fields.values():
            del found["by_seed"]
    return {"against": against, "groups": shown}


def _is_only_training(folder: Path) -> bool:
    return is_training(folder) and not (folder / "metrics.json").exists()
