"""``star-r1 verify``: whether a dataset folder is whole, and its rows say what they should."""

import io
import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from star_r1.data.counts import Counts
from star_r1.data.dataset import EXTRA_FEATURES, FEATURES, check_file, find_splits, row_to_sample
from star_r1.data.manifest import MANIFEST, describe
from star_r1.data.shards import to_json
from star_r1.errors import UserError
from star_r1.progress import progress
from star_r1.render.visibility import boxes
from star_r1.tvr.change import format_changes, replay
from star_r1.tvr.prompt import build_prompt
from star_r1.tvr.rules import move_options
from star_r1.tvr.sample import Sample
from star_r1.tvr.scene import Scene
from star_r1.tvr.simulate import simulate

_PICTURES: Final = ("images", "masks", "depth")
_BATCH: Final = 64


@dataclass(slots=True)
class Verified:
    """What was found.

    Attributes:
        faults: how many.
        files: parquet files that were read.
        counts: name of each split -> how the rows without a fault are spread.
    """

    faults: int = 0
    files: int = 0
    counts: dict[str, Counts] = field(default_factory=dict)


def verify(folder: Path, tell: Callable[[str], None], pictures: bool = True) -> Verified:
    """Check a dataset that ``star-r1 generate`` or ``star-r1 import`` wrote.

    That all files of its manifest are there with their bytes, rows and hashes, and no others. Of
    each row: it is where its id belongs, no other has this id, prompt and answer are those of
    scene, changes and vocabulary; the changes made one after the other give the final scene, no
    object leaves the table or comes too close to another one (TRANCE's rule A), and options of
    moves are those of the rules. That all pictures decode and are of one size, and that masks and
    boxes agree.

    One batch of rows is in memory at a time, and the ids.

    Args:
        folder: the dataset.
        tell: gets each fault as it is found, one line: file, row, what is wrong.
        pictures: decode them; they take most of the time.

    Raises:
        UserError: there is no dataset in ``folder``.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; name one that 'star-r1 generate' wrote")
    splits = find_splits(folder)
    if not splits:
        raise UserError(
            f"{folder}: no data/*.parquet in it; name a folder that 'star-r1 generate' wrote"
        )
    found = Verified()

    def report(fault: str) -> None:
        found.faults += 1
        tell(fault)

    settings = _check_manifest(folder, report)
    total = sum(len(paths) for paths in splits.values())
    with progress("Verifying", total, "files") as advance:
        for split, paths in splits.items():
            wanted = settings.get(split)
            rows = _Rows(report, _ids(wanted) if wanted else None, pictures)
            for path in paths:
                rows.check(path, path.relative_to(folder).as_posix())
                found.files += 1
                advance()
            rows.end(split)
            found.counts[split] = rows.counts
    return found


def _check_manifest(folder: Path, report: Callable[[str], None]) -> dict[str, Any]:
    """Compare the files with the manifest.

    Returns:
        The settings of each split, where ``star-r1 generate`` made them.
    """
    there = {path.relative_to(folder).as_posix() for path in (folder / "data").glob("*.parquet")}
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
        files, settings = dict(manifest["files"]), dict(manifest["settings"])
    except FileNotFoundError:
        report(f"{MANIFEST}: missing; the command that makes the dataset has not ended yet")
        return {}
    except (OSError, ValueError, KeyError, TypeError) as error:
        report(f"{MANIFEST}: not a manifest: {error}")
        return {}
    for name in sorted(there - set(files)):
        report(f"{name}: not in {MANIFEST}")
    for name, wanted in files.items():
        try:
            is_ = describe(folder / name)
        except OSError as error:
            report(f"{name}: {error.strerror}")
            continue
        for key in ("bytes", "rows", "sha256"):
            if (a := is_.get(key)) != (b := dict(wanted).get(key)):
                report(f"{name}: {key} {a}, not {b} as in {MANIFEST}")
                break
    splits = settings.get("splits")
    return splits if isinstance(splits, dict) else {}


def _ids(settings: Mapping[str, Any]) -> Iterator[str]:
    """The ids of a split that ``star-r1 generate`` made, in order."""
    for index in range(settings["samples"]):
        for view in settings["views"]:
            yield f"{index:06d}-{view}"


class _Rows:
    """Checks the rows of one split, file by file.

    Args:
        report: gets the faults.
        ids: those that the rows must have, in order; None where any will do.
        pictures: whether to decode them.
    """

    def __init__(
        self, report: Callable[[str], None], ids: Iterator[str] | None, pictures: bool
    ) -> None:
        self.counts = Counts()
        self._report, self._ids, self._pictures = report, ids, pictures
        self._seen: set[str] = set()
        self._size: tuple[int, int] | None = None
        self._sample: tuple[str, tuple[str, ...]] = ("", ())

    def check(self, path: Path, name: str) -> None:
        """Check one file, whose faults are told under ``name``."""
        try:
            check_file(path)
            number = 0
            for batch in _read(path, self._pictures):
                for row in batch:
                    number += 1
                    if faults := list(self._faults(row)):
                        for fault in faults:
                            self._report(f"{name}: row {number} ({row['id']}): {fault}")
                    else:
                        self.counts.add(row)
        except UserError as error:
            self._report(str(error).replace(str(path), name, 1))
        except (OSError, pa.ArrowException) as error:
            self._report(f"{name}: damaged: {' '.join(str(error).split())}")

    def end(self, split: str) -> None:
        """All files were checked."""
        if self._ids is not None and (left := next(self._ids, None)) is not None:
            self._report(f"split {split}: rows are missing, from id {left} on")

    def _faults(self, row: dict[str, Any]) -> Iterator[str]:
        if row["id"] in self._seen:
            yield "another row has this id"
        self._seen.add(row["id"])
        if self._ids is not None and row["id"] != (wanted := next(self._ids, None)):
            yield f"the id of this row must be {wanted}"
        try:
            sample = row_to_sample(row)
        except UserError as error:
            yield str(error).partition(": ")[2].partition("; generate the data again")[0]
            return
        yield from _check_truth(row, sample)
        yield from self._check_neighbours(row)
        if self._pictures:
            yield from self._check_pictures(row, sample)

    def _check_neighbours(self, row: dict[str, Any]) -> Iterator[str]:
        """The rows of one sample show the same scene and changes."""
        name = row["id"].rpartition("-")[0]
        common = tuple(row[column] for column in ("initial", "changes", "vocabulary", "rig"))
        if self._sample[0] == name and self._sample[1] != common:
            yield "scene, changes or rig differ from those of the row before, of the same sample"
        self._sample = (name, common)

    def _check_pictures(self, row: dict[str, Any], sample: Sample) -> Iterator[str]:
        kinds = {"images": "RGB", "masks": "L", "depth": "I;16"}
        for column in (column for column in _PICTURES if column in row):
            if len(row[column] or ()) != 2:
                yield f"{column}: not two pictures"
                continue
            for when, image in zip(("initial", "final"), row[column], strict=True):
                try:
                    with Image.open(io.BytesIO(image["bytes"]), formats=("PNG",)) as picture:
                        picture.load()
                except (
                    *(OSError, SyntaxError, ValueError, TypeError),
                    Image.DecompressionBombError,
                ) as error:
                    yield f"{column}: the {when} one does not decode: {error}"
                    continue
                self._size = self._size or picture.size
                if picture.size != self._size:
                    yield f"{column}: the {when} one is {picture.size}, others {self._size}"
                if picture.mode != kinds[column]:
                    yield f"{column}: the {when} one is {picture.mode}, not {kinds[column]}"
                if column == "masks":
                    yield from _check_mask(row, sample, when, np.asarray(picture))


def _read(path: Path, pictures: bool) -> Iterator[list[dict[str, Any]]]:
    file = pq.ParquetFile(path)
    columns = [
        name
        for name in (*FEATURES, *EXTRA_FEATURES)
        if name in file.schema_arrow.names and (pictures or name not in _PICTURES)
    ]
    for batch in file.iter_batches(_BATCH, columns=columns):
        yield batch.to_pylist()


def _check_truth(row: dict[str, Any], sample: Sample) -> Iterator[str]:
    """Prompt, answer, final scene, rules: all that follows from scene and changes."""
    if row["id"].rpartition("-")[2] != sample.view:
        yield f"the view is {sample.view}"
    if row["answer"] != format_changes(sample.changes):
        yield f"the answer is {row['answer']!r}, the changes are {format_changes(sample.changes)}"
    if _without_nulls(row["prompt"]) != build_prompt(sample):
        yield "the prompt is not that of scene and vocabulary"
    for one, other in combinations(sample.initial.objects, 2):
        radii = sum(sample.vocabulary.radius_cells(thing.size) for thing in (one, other))
        if math.dist(one.position, other.position) < radii:
            yield f"the objects {one.index} and {other.index} overlap in the initial scene"
    simulated = simulate(sample.initial, sample.changes)
    if simulated.out:
        yield "a move leaves the table"
        return
    if simulated.overlap:
        yield "a change brings an object too close to another one (rule A)"
    try:
        final = Scene.from_json(row["final"], sample.vocabulary)
    except (ValueError, TypeError) as error:
        yield f"column 'final': {error}"
        return
    if final != sample.final:
        yield "the changes do not lead to the final scene"
    scene = sample.initial
    for change in sample.changes:
        if change.options != move_options(scene, change):
            yield f"the options of {change} are {', '.join(change.options) or 'none'}"
        scene = replay(scene, [change])
    yield from _check_pixels(row, sample)


def _check_pixels(row: dict[str, Any], sample: Sample) -> Iterator[str]:
    if row["pixels"] == "{}":  # imported pictures whose cameras nobody knows
        return
    try:
        pixels = json.loads(row["pixels"])
        found = {when: set(map(int, pixels[when])) for when in ("initial", "final")}
    except (ValueError, TypeError, KeyError) as error:
        yield f"column 'pixels': {error}"
        return
    for when, scene in (("initial", sample.initial), ("final", sample.final)):
        if found[when] != {thing.index for thing in scene.visible}:
            yield f"column 'pixels': not of the visible objects of the {when} scene"


def _check_mask(
    row: dict[str, Any], sample: Sample, when: str, mask: np.typing.NDArray[np.uint8]
) -> Iterator[str]:
    scene = sample.initial if when == "initial" else sample.final
    found = boxes(mask) if mask.ndim == 2 else {}
    if not set(found) <= {thing.index for thing in scene.visible}:
        yield f"masks: the {when} one shows objects that are not visible"
    if "boxes" in row and to_json(json.loads(row["boxes"])[when]) != to_json(found):
        yield f"boxes: those of the {when} picture are not those of its mask"


def _without_nulls(messages: Any) -> Any:
    """Messages as they were before parquet gave every part the keys of all."""
    if not isinstance(messages, list):
        return messages
    return [
        {
            **message,
            "content": [
                {key: value for key, value in part.items() if value is not None}
                for part in message["content"]
            ],
        }
        for message in messages
    ]
