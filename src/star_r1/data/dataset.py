"""The schema of a dataset folder, and its loading with every check that the rest relies on."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset, Features, Image, List, Value
from datasets.exceptions import DatasetGenerationError
from datasets.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
from PIL import Image as Pillow

from star_r1.errors import UserError
from star_r1.tvr.change import Change
from star_r1.tvr.sample import Sample
from star_r1.tvr.scene import STANDARD_RIG, Rig, Scene
from star_r1.tvr.vocabulary import Vocabulary, camera_position

FEATURES: Final = Features(
    {
        "id": Value("string"),
        "images": List(Image()),
        "prompt": List(
            {
                "role": Value("string"),
                "content": List({"type": Value("string"), "text": Value("string")}),
            }
        ),
        "answer": Value("string"),
        "view": Value("string"),
        "initial": Value("string"),
        "final": Value("string"),
        "changes": Value("string"),
        "rig": Value("string"),
        "pixels": Value("string"),
        "vocabulary": Value("string"),
    }
)
"""Column -> type. What each one means stands in ``card.FIELDS``."""

EXTRA_FEATURES: Final = Features(
    {"masks": List(Image()), "boxes": Value("string"), "depth": List(Image())}
)
"""The columns that a dataset has only where ``generate --with`` asked for them."""

_SCHEMA: Final = FEATURES.arrow_schema

SAMPLE_COLUMNS: Final = ("id", "view", "initial", "changes", "rig", "vocabulary")
"""What ``row_to_sample`` needs."""

SCORED_COLUMNS: Final = tuple(column for column in SAMPLE_COLUMNS if column != "rig")
"""What it needs for scores."""

_BATCH_ROWS: Final = 1024
"""Read at a time: the files of other makers may hold any number of rows."""
_SHARD: Final = re.compile(r"(?P<split>.+)-\d{5}-of-(?P<count>\d{5})\.parquet")


def load(folder: Path, views: Sequence[str] | None = None) -> Dataset:
    """Open a dataset folder that ``star-r1 generate`` or ``star-r1 import`` wrote.

    The rows are memory-mapped from the cache of the ``datasets`` library, pictures decoded as
    rows are read, so the size of the dataset does not matter.

    Args:
        folder: holds ``data/*.parquet``; ``folder/test`` for the split ``test`` of a folder that
            holds several.
        views: keep only the rows whose final picture is from one of these; None keeps all.

    Returns:
        A row a (sample, view), columns of ``FEATURES``, in the order of the files.

    Raises:
        UserError: there is no such folder or no data in it, a shard is missing, damaged or
            lacks a column, or no row has one of ``views``.
    """
    paths = shards(folder)
    for path in paths:
        check_file(path)
    show_bars = not are_progress_bars_disabled()
    disable_progress_bars()  # this one would stand above the bar of the work itself
    try:
        dataset = Dataset.from_parquet([str(path) for path in paths])
    except (DatasetGenerationError, OSError, pa.ArrowException) as error:
        for path in paths:
            _read(path)  # names the damaged file, where that is the cause
        raise UserError(f"{folder}: cannot be loaded: {error.__cause__ or error}") from None
    finally:
        if show_bars:
            enable_progress_bars()
    if views is None:
        return dataset
    column = list(dataset["view"])
    for view in views:
        if view not in column:
            raise UserError(
                f"{folder}: no row has view {view!r}; it holds {', '.join(sorted(set(column)))}"
            )
    return dataset.select([i for i, view in enumerate(column) if view in views])


def row_to_sample(row: Mapping[str, Any], with_rig: bool = True) -> Sample:
    """The sample of a row of ``load``; the pictures are not needed.

    Args:
        row: with ``SAMPLE_COLUMNS``.
        with_rig: without it the column ``rig`` is not read, and cameras and lamps stand without
            jitter. Scores do not depend on them.

    Raises:
        UserError: a column is missing or does not hold what ``generate`` writes.
    """
    name = row.get("id")
    for column in SAMPLE_COLUMNS if with_rig else SCORED_COLUMNS:
        if not isinstance(row.get(column), str):
            raise UserError(
                f"row {name!r}: column {column!r} is {row.get(column)!r}; generate the data again"
            )
    try:
        scene, changes = _read_scene(row["initial"], row["changes"], row["vocabulary"])
        rig = _read_rig(row["rig"]) if with_rig else _still_rig(row["view"])
        return Sample(row["id"], scene, changes, row["view"], rig)
    except (ValueError, TypeError) as error:
        raise UserError(f"row {name!r}: {error}; generate the data again") from None


# The views of a sample have all else in common, and follow each other: it is read once.
@lru_cache(maxsize=4)
def _read_scene(initial: str, changes: str, vocabulary: str) -> tuple[Scene, tuple[Change, ...]]:
    known = Vocabulary.from_json(vocabulary)
    return (
        Scene.from_json(initial, known),
        tuple(Change.from_dict(raw, known) for raw in json.loads(changes)),
    )


@lru_cache(maxsize=4)
def _read_rig(text: str) -> Rig:
    return Rig.from_json(text)


@lru_cache(maxsize=512)
def _still_rig(view: str) -> Rig:
    return Rig({**STANDARD_RIG.cameras, view: camera_position(view)}, STANDARD_RIG.lamps)


def read_row(folder: Path, sample_id: str) -> dict[str, Any]:
    """One row by its id, its two pictures as RGB Pillow images; only its own shard is read.

    Raises:
        UserError: as ``load``, or no row has this id; the message names the nearest ids.
    """
    ids: list[str] = []
    for path in shards(folder):
        check_file(path)
        here = _read(path, columns=["id"])["id"].to_pylist()
        if sample_id in here:
            row: dict[str, Any] = _read(path).slice(here.index(sample_id), 1).to_pylist()[0]
            pictures = [Pillow.open(BytesIO(image["bytes"])) for image in row["images"]]
            return row | {"images": [picture.convert("RGB") for picture in pictures]}
        ids += here
    near = ", ".join(get_close_matches(sample_id, ids, n=3, cutoff=0.0))
    raise UserError(f"{folder}: no row has id {sample_id!r}; the nearest are {near}")


def read_columns(folder: Path, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The rows in order, reduced to ``columns``; pictures are not read unless asked for.

    Raises:
        UserError: as ``load``.
    """
    return read_files(shards(folder), columns)


def read_files(paths: Iterable[Path], columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    """``read_columns`` of some of the files of a dataset; only a part of one is in memory.

    Raises:
        UserError: a file is damaged or lacks a column.
    """
    for path in paths:
        try:
            with pq.ParquetFile(path) as file:
                _check_schema(path, file.schema_arrow)
                for batch in file.iter_batches(
                    _BATCH_ROWS, columns=list(columns), use_threads=False
                ):
                    values = [batch[name].to_pylist() for name in columns]
                    for row in zip(*values, strict=True):
                        yield dict(zip(columns, row, strict=True))
        except (OSError, pa.ArrowException) as error:
            raise _damaged(path, error) from None


def shards(folder: Path) -> list[Path]:
    """The parquet files of one split, in order of the rows.

    Args:
        folder: a dataset with one split; or, in one with several, ``dataset/split``.

    Raises:
        UserError: no such folder, no file in it, several splits in it, or fewer files than their
            names announce.
    """
    if folder.is_dir():
        splits = find_splits(folder)
        if len(splits) > 1:
            raise UserError(
                f"{folder}: holds {' and '.join(splits)}; name one of them, "
                f"such as {folder / next(iter(splits))}"
            )
        paths = next(iter(splits.values()), [])
    else:
        paths = find_splits(folder.parent).get(folder.name, [])
        if not paths:
            raise UserError(
                f"{folder}: no such folder; make one with 'star-r1 generate --out {folder}'"
            )
    if not paths:
        raise UserError(
            f"{folder}: no data/*.parquet in it; is it the --out of 'star-r1 generate'?"
        )
    if (match := _SHARD.fullmatch(paths[0].name)) and len(paths) != int(match["count"]):
        raise UserError(
            f"{folder}: {len(paths)} of {int(match['count'])} shards; "
            "run its 'star-r1 generate' command again to finish it"
        )
    return paths


def find_splits(folder: Path) -> dict[str, list[Path]]:
    """Name of each split in a dataset folder -> its parquet files, in order of the rows.

    Files with names of other makers are taken as one split without a name.
    """
    splits: dict[str, list[Path]] = {}
    for path in sorted((folder / "data").glob("*.parquet")):
        match = _SHARD.fullmatch(path.name)
        splits.setdefault(match["split"] if match else "", []).append(path)
    return splits


def count_rows(path: Path) -> int | None:
    """The rows of a parquet file, None where it is none or was cut off."""
    try:
        rows: int = pq.read_metadata(path).num_rows
    except (OSError, pa.ArrowException):
        return None
    return rows


def check_file(path: Path) -> None:
    """Raise a UserError unless ``path`` is a whole parquet file with all of ``FEATURES``."""
    try:
        schema = pq.read_schema(path)
    except (OSError, pa.ArrowException) as error:
        raise _damaged(path, error) from None
    _check_schema(path, schema)


def _check_schema(path: Path, schema: pa.Schema) -> None:
    if schema.equals(_SCHEMA):
        return
    for field in _SCHEMA:
        if field.name not in schema.names:
            raise UserError(f"{path}: no column {field.name!r}; it has {', '.join(schema.names)}")
        if (found := schema.field(field.name).type) != field.type:
            raise UserError(f"{path}: column {field.name!r} is {found}, not {field.type}")


def _read(path: Path, columns: list[str] | None = None) -> pa.Table:
    try:
        return pq.read_table(path, columns=columns)
    except (OSError, pa.ArrowException) as error:
        raise _damaged(path, error) from None


def _damaged(path: Path, error: Exception) -> UserError:
    cause = " ".join(str(error).split())
    return UserError(
        f"{path}: damaged or not a parquet file ({cause}); "
        "delete it and run its 'star-r1 generate' command again"
    )
