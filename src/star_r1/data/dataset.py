"""The schema of a dataset folder, and its loading with every check that the rest relies on."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset, Features, Image, List, Value
from datasets.exceptions import DatasetGenerationError
from datasets.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

from star_r1.data.checks import batch_fault
from star_r1.data.names import Ids, name_fault
from star_r1.data.pictures import read_pair
from star_r1.errors import UserError
from star_r1.files import leads_out, open_regular
from star_r1.texts import harmless
from star_r1.tvr.change import Change, replay
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

TEXT_COLUMNS: Final = tuple(name for name in FEATURES if name != "images")
"""All that can be read quickly: pictures are most of a file."""

SCORED_COLUMNS: Final = tuple(column for column in SAMPLE_COLUMNS if column != "rig")
"""What it needs for scores."""

_BATCH_ROWS: Final = 1024
"""Read at a time: the files of other makers may hold any number of rows."""
_BATCH_PICTURES: Final = 64
"""The same where their pictures are read."""
_SHARD: Final = re.compile(
    r"(?P<split>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.parquet", re.ASCII
)


def load(folder: Path, views: Sequence[str] | None = None) -> Dataset:
    """Open a dataset folder that ``star-r1 generate`` or ``star-r1 import`` wrote.

    The rows are memory-mapped from the cache of the ``datasets`` library, so the size of the
    dataset does not matter. Pictures are the files' bytes: ``pictures.read_pair`` decodes those
    of a row.

    Args:
        folder: holds ``data/*.parquet``; ``folder/test`` for the split ``test`` of a folder that
            holds several.
        views: keep only the rows whose final picture is from one of these; None keeps all.

    Returns:
        A row a (sample, view), columns of ``FEATURES``, in the order of the files.

    Raises:
        UserError: there is no such folder or no data in it, a shard is missing, damaged or
            lacks a column, an id is none or that of another row, or no row has one of ``views``.
    """
    paths = shards(folder)
    for _ in _batches(paths, TEXT_COLUMNS):
        pass  # what is wrong with it is named
    show_bars = not are_progress_bars_disabled()
    disable_progress_bars()  # this one would stand above the bar of the work itself
    try:
        features = _undecoded(pq.read_schema(paths[0]))
        dataset = Dataset.from_parquet([str(path) for path in paths], features=features)
    except (DatasetGenerationError, OSError, ValueError, TypeError, pa.ArrowException) as error:
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


def _undecoded(schema: pa.Schema) -> Features:
    """Column -> type, as the bytes have it: what the metadata of others says is not looked at."""
    features = Features.from_arrow_schema(schema.remove_metadata())
    pictures = [name for name in ("images", "masks", "depth") if name in features]
    return Features({**features, **{name: List(Image(decode=False)) for name in pictures}})


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
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        what = harmless(str(error), 300)
        raise UserError(f"row {name!r}: {what}; generate the data again") from None


# The views of a sample have all else in common, and follow each other: it is read once.
@lru_cache(maxsize=4)
def _read_scene(initial: str, changes: str, vocabulary: str) -> tuple[Scene, tuple[Change, ...]]:
    known = Vocabulary.from_json(vocabulary)
    scene = Scene.from_json(initial, known)
    found = tuple(Change.from_dict(raw, known) for raw in json.loads(changes))
    if "position" in known.attributes:
        replay(scene, found)  # no move leaves the table
    return scene, found


@lru_cache(maxsize=4)
def _read_rig(text: str) -> Rig:
    return Rig.from_json(text)


@lru_cache(maxsize=512)
def _still_rig(view: str) -> Rig:
    return Rig({**STANDARD_RIG.cameras, view: camera_position(view)}, STANDARD_RIG.lamps)


def read_row(folder: Path, sample_id: str) -> dict[str, Any]:
    """One row by its id, its two pictures as RGB Pillow images; only its own shard is read.

    Raises:
        UserError: as ``load``, a picture cannot be used, or no row has this id; the message names
            the nearest ids.
    """
    ids: list[str] = []
    for path in shards(folder):
        here = [row["id"] for row in read_files([path], ["id"])]
        if sample_id in here:
            row: dict[str, Any] = _read(path).slice(here.index(sample_id), 1).to_pylist()[0]
            return row | {"images": read_pair(row)}
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
        UserError: a file is damaged or lacks a column, an id or a view is none, or two rows have
            one id.
    """
    for batch in _batches(paths, columns):
        values = [batch[name].to_pylist() for name in columns]
        for row in zip(*values, strict=True):
            yield dict(zip(columns, row, strict=True))


def _batches(paths: Iterable[Path], columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Some of the columns, checked: the one place where rows come in."""
    ids = Ids()
    size = _BATCH_PICTURES if "images" in columns else _BATCH_ROWS
    for path in paths:
        number = 0
        try:
            with open_shard(path) as file:
                _check_schema(path, file.schema_arrow)
                for batch in file.iter_batches(size, columns=list(columns), use_threads=False):
                    batch.validate(full=True)  # offsets, and that text is UTF-8
                    if fault := batch_fault(batch, ids):
                        place, what = fault
                        raise UserError(f"{path}: row {number + place + 1}{what}")
                    number += len(batch)
                    yield batch
        except (OSError, pa.ArrowException) as error:
            raise damaged(path, error) from None


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
    if missing := missing_shards(paths):
        raise UserError(
            f"{folder}: {missing}; run its 'star-r1 generate' command again to finish it"
        )
    return paths


def missing_shards(paths: Sequence[Path]) -> str:
    """What is wrong with the shards of a split, by their names; empty where all are there."""
    matches = [_SHARD.fullmatch(path.name) for path in paths]
    if not (first := matches[0]):
        return ""
    count = int(first["count"])
    if len(paths) != count:
        return f"{len(paths)} of {count} shards"
    for number, match in enumerate(matches):
        if match and (int(match["number"]), int(match["count"])) != (number, count):
            return f"{match[0]} is not shard {number} of {count}"
    return ""


def find_splits(folder: Path) -> dict[str, list[Path]]:
    """Name of each split in a dataset folder -> its parquet files, in order of the rows.

    Files with names of other makers are taken as one split without a name.

    Raises:
        UserError: a name is none that a file or a split may have.
    """
    splits: dict[str, list[Path]] = {}
    for path in sorted((folder / "data").glob("*.parquet")):
        if what := name_fault(path.name):
            raise UserError(f"{path}: the name of the file {what}; give it another name")
        match = _SHARD.fullmatch(path.name)
        splits.setdefault(match["split"] if match else "", []).append(path)
    return splits


def count_rows(path: Path) -> int | None:
    """The rows of a parquet file, None where it is none or was cut off."""
    try:
        with open_shard(path) as file:
            rows: int = file.metadata.num_rows
    except (UserError, OSError, pa.ArrowException):
        return None
    return rows


def check_file(path: Path) -> None:
    """Raise a UserError unless ``path`` is a whole parquet file with all of ``FEATURES``."""
    try:
        with open_shard(path) as file:
            schema = file.schema_arrow
    except (OSError, pa.ArrowException) as error:
        raise damaged(path, error) from None
    _check_schema(path, schema)


def open_shard(path: Path) -> pq.ParquetFile:
    """Open a shard: a plain file that lies in the dataset.

    Raises:
        UserError: it is a link to a file elsewhere.
        OSError, pyarrow.ArrowException: it is damaged or no parquet file.
    """
    if leads_out(path, path.parent.parent):
        raise UserError(
            f"{path}: is a link that leads out of the dataset; name the folder where the files lie"
        )
    open_regular(path).close()  # anything else might be waited for, for ever
    return pq.ParquetFile(path)


def _check_schema(path: Path, schema: pa.Schema) -> None:
    if schema.equals(_SCHEMA):
        return
    for field in _SCHEMA:
        if field.name not in schema.names:
            raise UserError(f"{path}: no column {field.name!r}; it has {', '.join(schema.names)}")
        if schema.names.count(field.name) > 1:
            raise UserError(f"{path}: has two columns {field.name!r}; name each once")
        if (found := schema.field(field.name).type) != field.type:
            raise UserError(f"{path}: column {field.name!r} is {found}, not {field.type}")


def _read(path: Path) -> pa.Table:
    try:
        with open_shard(path) as file:
            table = file.read()
            table.validate(full=True)
            return table
    except (OSError, pa.ArrowException) as error:
        raise damaged(path, error) from None


def damaged(path: Path, error: Exception) -> UserError:
    """What to say of a file that cannot be read as parquet."""
    cause = " ".join(str(error).split())
    return UserError(
        f"{path}: damaged or not a parquet file ({cause}); "
        "delete it and run its 'star-r1 generate' command again"
    )
