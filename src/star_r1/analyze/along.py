"""How reasoning changes along a training: the completions that GRPO logged, read step by step."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import fmean
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from star_r1.analyze.summary import read_completion, values
from star_r1.data.dataset import SAMPLE_COLUMNS, read_columns, row_to_sample
from star_r1.errors import UserError
from star_r1.evaluate.predictions import Completion
from star_r1.progress import progress
from star_r1.reward.adapters.trl import logged_text
from star_r1.train.record import describe_data, read_record
from star_r1.tvr.sample import Sample

CURVES: Final = ("tacc", "coverage", "complete", "compared", "correspondence", "follows", "words")
"""Of ``summary.FIELDS``, those of which the mean over a step's completions is taken."""


def is_training(folder: Path) -> bool:
    """Whether a folder is that of a training, by its log."""
    return (folder / "log.jsonl").is_file()


def read_curves(folder: Path) -> list[dict[str, float]]:
    """``step``, ``n`` and the means of ``CURVES``, for every step whose completions are there.

    Args:
        folder: of a run of ``star-r1 train grpo``; its training.json names the data.

    Raises:
        UserError: no completions were logged (as SFT has none) or none can be read, or the data is
            not where it was or not what it was.
    """
    tables = sorted((folder / "completions").glob("completions_*.parquet"))
    if not tables:
        raise UserError(
            f"{folder}: no completions were logged in it; give the --output_dir of "
            "'star-r1 train grpo'"
        )
    data = _find_data(folder)
    samples = {row["id"]: row_to_sample(row) for row in read_columns(data, SAMPLE_COLUMNS)}
    curves: dict[int, dict[str, float]] = {}
    with progress(f"Reading {folder.name}", len(tables), "steps") as advance:
        for path in tables:
            for step, found in _read_step(path, samples):
                curves[step] = {"step": step, **found}
            advance()
    if not curves:
        raise UserError(f"{folder / 'completions'}: no completion of {data} can be read in it")
    return [curves[step] for step in sorted(curves)]


def _find_data(folder: Path) -> Path:
    """The dataset of a training, if it is still the one that it was trained on."""
    recorded = read_record(folder).get("data")
    about = recorded if isinstance(recorded, dict) else {}
    path = about.get("path")
    if not isinstance(path, str):
        raise UserError(f"{folder}: its training.json does not name its data; train it again")
    before = about.get("manifest_sha256")
    changed = before not in (None, describe_data(Path(path))["manifest_sha256"])
    if changed and Path(path).exists():
        raise UserError(f"{folder}: {path} is not the data of then; was it made anew?")
    return Path(path)


def _read_step(path: Path, samples: Mapping[str, Sample]) -> Iterator[tuple[int, dict[str, float]]]:
    """Nothing where a process was killed while it wrote the table, or nobody knows its samples."""
    try:
        rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    except (OSError, pa.ArrowException):
        return
    if not rows or not {"id", "completion", "step"} <= set(rows[0]):
        return
    found = [
        values(read_completion(Completion(row["id"], logged_text(row)), sample))
        for row in rows
        if (sample := samples.get(row["id"])) is not None
    ]
    if found:
        means = {
            name: fmean(known)
            for name in CURVES
            if (known := [value for one in found if (value := one[name]) is not None])
        }
        yield rows[0]["step"], {"n": len(found), **means}
