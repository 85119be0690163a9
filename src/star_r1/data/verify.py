"""``star-r1 verify``: whether a dataset folder is whole, and its rows say what they should."""

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
from PIL import Image

from star_r1.data.checks import prompt_fault
from star_r1.data.counts import Counts
from star_r1.data.dataset import (
    EXTRA_FEATURES,
    FEATURES,
    check_file,
    damaged,
    find_splits,
    missing_shards,
    open_shard,
    row_to_sample,
)
from star_r1.data.manifest import BESIDE, MANIFEST, MAX_BYTES, describe, read_json, read_manifest
from star_r1.data.names import Ids
from star_r1.data.pictures import PAIR, Unusable, decode, open_picture
from star_r1.data.settings import Settings, read_settings
from star_r1.data.shards import to_json
from star_r1.errors import UserError
from star_r1.files import leads_out
from star_r1.progress import progress
from star_r1.render.visibility import boxes
from star_r1.texts import harmless
from star_r1.tvr.change import format_changes, replay
from star_r1.tvr.prompt import build_prompt
from star_r1.tvr.rules import move_options
from star_r1.tvr.sample import Sample
from star_r1.tvr.scene import Scene
from star_r1.tvr.simulate import simulate

_PICTURES: Final[dict[str, Callable[[Any], Image.Image]]] = {
    "images": decode,
    "masks": partial(open_picture, modes=("L",)),
    "depth": partial(open_picture, modes=("I;16",)),
}
"""Column -> what opens its pictures."""
_BATCH: Final = 64
SETTINGS: Final = "generate.json"
_WRONG: Final = (TypeError, ValueError)
LONGEST_FAULT: Final = 1000
"""Characters of a line."""


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

    That all files of its manifest are there with their bytes, rows and hashes, and no others; that
    it and the shards agree with the settings that the dataset was made from. Of each row: it is
    where its id belongs, no other has this id, prompt and answer are those of scene, changes and
    vocabulary; the changes made one after the other give the final scene, no object leaves the
    table or comes too close to another one (TRANCE's rule A), and options of moves are those of the
    rules. That all pictures can be used and are of one size, and that masks and boxes agree.

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
        tell(harmless(fault, LONGEST_FAULT))

    _check_manifest(folder, report)
    settings = _read_settings(folder, report)
    if settings is not None:
        for split in sorted(settings.keys() - splits.keys()):
            report(f"split {split}: no shard of it is there")
        for split in sorted(splits.keys() - settings.keys()):
            report(f"split {split}: not in {SETTINGS}")
    total = sum(len(paths) for paths in splits.values())
    with progress("Verifying", total, "files") as advance:
        for split, paths in splits.items():
            wanted = (settings or {}).get(split)
            rows = _Rows(report, _ids(wanted) if wanted else None, pictures)
            if what := missing_shards(paths):
                report(f"split {split}: {what}")
            for path in paths:
                rows.check(path, path.relative_to(folder).as_posix())
                found.files += 1
                advance()
            rows.end(split)
            found.counts[split] = rows.counts
    return found


def _check_manifest(folder: Path, report: Callable[[str], None]) -> None:
    """Compare the manifest with the files, and what it says of their making with theirs."""
    beside = [name for name in BESIDE if (folder / name).exists()]
    inside = [path for path in (folder / "data").rglob("*") if not path.name.startswith(".")]
    there = {"README.md", *beside, *(path.relative_to(folder).as_posix() for path in inside)}
    try:
        manifest = read_manifest(folder)
    except FileNotFoundError:
        report(f"{MANIFEST}: missing; the command that makes the dataset has not ended yet")
        return
    except UserError as error:
        report(_without(folder, error))
        return
    for name in sorted(there - manifest.files.keys()):
        report(f"{name}: not in {MANIFEST}")
    for name, wanted in manifest.files.items():
        try:
            is_ = describe(folder / name)
        except OSError as error:
            report(f"{name}: {error.strerror}")
            continue
        for key in ("bytes", "rows", "sha256"):
            if (a := is_.get(key)) != (b := wanted.get(key)):
                report(f"{name}: {key} {a}, not {b} as in {MANIFEST}")
                break
    made = next((name for name in beside if name in (SETTINGS, "import.json")), None)
    try:
        settings = read_json(folder / made, MAX_BYTES) if made else {}
    except (UserError, FileNotFoundError) as error:
        report(_without(folder, error))
        return
    for key in sorted({*settings, *manifest.settings}):
        if settings.get(key) != manifest.settings.get(key):
            report(f"{MANIFEST}: settings: {key} is not that of {made or SETTINGS}")


def _read_settings(folder: Path, report: Callable[[str], None]) -> dict[str, Settings] | None:
    """The settings of each split; None where ``star-r1 generate`` did not make the dataset."""
    path = folder / SETTINGS
    if not path.exists() or leads_out(path, folder):
        return None
    try:
        return {settings.split: settings for settings in read_settings({}, path)}
    except UserError as error:
        report(_without(folder, error))
        return None


def _without(folder: Path, error: Exception) -> str:
    return str(error).replace(f"{folder}/", "", 1)


def _ids(settings: Settings) -> Iterator[str]:
    """The ids of a split that ``star-r1 generate`` made, in order."""
    for index in range(settings.samples):
        for view in settings.views:
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
        self._seen = Ids()
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
                    if faults := self._all_faults(row):
                        for fault in faults:
                            self._report(f"{name}: row {number} ({row['id']}): {fault}")
                    else:
                        self.counts.add(row)
        except UserError as error:
            self._report(str(error).replace(str(path), name, 1))

    def end(self, split: str) -> None:
        """All files were checked."""
        if self._ids is not None and (left := next(self._ids, None)) is not None:
            self._report(f"split {split}: rows are missing, from id {left} on")

    def _all_faults(self, row: dict[str, Any]) -> list[str]:
        faults: list[str] = []
        try:
            faults.extend(self._faults(row))
        except (ArithmeticError, AttributeError, LookupError, RecursionError, *_WRONG) as error:
            faults.append(f"cannot be read: {' '.join(str(error).split())}")
        return faults

    def _faults(self, row: dict[str, Any]) -> Iterator[str]:
        if what := self._seen.fault(row["id"]):
            yield f"its id {what}"
        if self._ids is not None and row["id"] != (wanted := next(self._ids, None)):
            yield f"the id of this row must be {wanted}"
        if what := prompt_fault(row["prompt"]):
            yield f"column 'prompt' {what}"
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
        for column, read in _PICTURES.items():
            if column not in row:
                continue
            if len(row[column] or ()) != len(PAIR):
                yield f"{column}: not two pictures"
                continue
            for when, image in zip(PAIR, row[column], strict=True):
                try:
                    picture = read(image and image["bytes"])
                except Unusable as fault:
                    yield f"{column}: the {when} one {fault}"
                    continue
                self._size = self._size or picture.size
                if picture.size != self._size:
                    yield f"{column}: the {when} one is {picture.size}, others {self._size}"
                if column == "masks":
                    yield from _check_mask(row, sample, when, np.asarray(picture))


def _read(path: Path, pictures: bool) -> Iterator[list[dict[str, Any]]]:
    try:
        with open_shard(path) as file:
            columns = [
                name
                for name in (*FEATURES, *EXTRA_FEATURES)
                if name in file.schema_arrow.names and (pictures or name not in _PICTURES)
            ]
            for batch in file.iter_batches(_BATCH, columns=columns):
                batch.validate(full=True)
                yield batch.to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise damaged(path, error) from None


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
