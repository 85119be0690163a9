"""What a policy said while it was trained: completions of the first and the last logged step."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from star_r1.data.dataset import SAMPLE_COLUMNS, load, row_to_sample
from star_r1.errors import UserError
from star_r1.report.gallery import Pair, rank, say, show
from star_r1.report.runs import Training
from star_r1.reward.adapters.trl import logged_text

SHOWN: Final = 2
"""Right completions of a step, and as many wrong ones."""


@dataclass(frozen=True, slots=True)
class Step:
    """A few of the completions that were sampled at one logged step of a training."""

    training: str
    step: int
    right: int
    total: int
    pairs: tuple[Pair, ...]


def choose(training: Training) -> list[Step]:
    """The first and the last step whose completions were kept, wrong ones beside right ones.

    Nothing where the training kept none (SFT), or where the data that it trained on are no longer
    where its training.json says.
    """
    paths = sorted((training.folder / "completions").glob("completions_*.parquet"))
    first = next(filter(None, map(_read, paths)), None)
    last = next(filter(None, map(_read, reversed(paths))), None)
    if first is None or last is None or training.data is None:
        return []
    try:
        rows = load(training.data)
    except UserError:
        return []
    place = {id: n for n, id in enumerate(rows["id"])}
    tables = [first] if first == last else [first, last]
    return [_choose(training.name, table, rows, place) for table in tables]


def _read(path: Path) -> list[dict[str, Any]] | None:
    """The rows of a table; None where a process was killed while it wrote it, or it has no ids."""
    try:
        rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    except (OSError, pa.ArrowInvalid):
        return None
    return rows if rows and {"id", "completion", "step", "advantage"} <= set(rows[0]) else None


def _choose(name: str, table: list[dict[str, Any]], rows: Any, place: Mapping[str, int]) -> Step:
    ids = sorted({row["id"] for row in table} & set(place))
    asked = rows.select([place[id] for id in ids])
    samples = {row["id"]: row_to_sample(row) for row in asked.select_columns(list(SAMPLE_COLUMNS))}
    rows_of = {id: asked[n] for n, id in enumerate(ids)}
    said = [
        (row["id"], say(f"advantage {row['advantage']:+.2f}", logged_text(row), sample))
        for row in table
        if (sample := samples.get(row["id"])) is not None
    ]
    chosen = []
    for outcome in (True, False):
        # one a prompt, as long as there are other prompts
        of = {id: one for id, one in reversed(said) if one.right is outcome}
        chosen += [(id, of[id]) for id in sorted(of, key=rank)[:SHOWN]]
    return Step(
        name,
        table[0]["step"],
        sum(one.right for _, one in said),
        len(said),
        tuple(
            Pair(samples[id], show(samples[id], rows_of[id]), (one,), _outcome(one.right))
            for id, one in chosen
        ),
    )


def _outcome(right: bool) -> str:
    return "right" if right else "wrong"
