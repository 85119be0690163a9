"""TRANCE as it is published -> our rows: its files read, every sample checked."""

import hashlib
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from star_r1.data.card import Origin
from star_r1.data.intake import Fault, Flaw, Imported, Intake, equal_sizes, parse, take_in
from star_r1.data.names import SPLIT, name_fault
from star_r1.data.shards import Row, make_row
from star_r1.data.trance_files import Files, find_files
from star_r1.data.trance_format import (
    CAMERAS,
    IMAGE_NAME,
    MAX_INDEX,
    Entry,
    net_changes,
    read_entry,
)
from star_r1.data.workers import check_workers
from star_r1.errors import UserError
from star_r1.progress import progress
from star_r1.render.visibility import count_pixels
from star_r1.tvr.sample import Sample
from star_r1.tvr.scene import STANDARD_RIG, Scene
from star_r1.tvr.vocabulary import ATTRIBUTES, TRANCE, VIEWS, Vocabulary

SPLITS: Final = {
    "train": range(500_000),
    "val": range(500_000, 510_000),
    "test": range(510_000, 530_000),
}
"""The splits of TRANCE: name -> ``idx`` of its samples."""

_ABOUT: Final = """\
Samples and pictures of the TRANCE dataset, imported by star-r1. The number in an id is TRANCE's
`idx`; the pictures are as published but for their alpha channel. {kind}

{rig}

The data may be used under CC BY-NC 4.0, for non-commercial purposes. Please cite

```bibtex
@inproceedings{{hong2021transformation,
  title     = {{Transformation Driven Visual Reasoning}},
  author    = {{Hong, Xin and Lan, Yanyan and Pang, Liang and Guo, Jiafeng and Cheng, Xueqi}},
  booktitle = {{Proceedings of the IEEE/CVF Conference on Computer Vision and Pattern Recognition}},
  year      = {{2021}}
}}
```"""
_ALL: Final = "Samples of all kinds are\nhere, with every change that was made, in order."
_SETS: Final = """\
Only those samples are
here that change nothing but {}. Their changes are a set, as in STAR-R1:
an object's attribute that TRANCE changes twice counts once, with its last value."""
_NO_RIG: Final = """\
The file they come from does not say where cameras and lamps stood, nor how objects are turned.
`rig` has TRANCE's nominal places (it moved each camera by up to 0.5 world units along each axis,
each lamp by up to 1), `rotation` is 0, `pixels` is `{}`."""
_RIG: Final = """\
`pixels` were counted by star-r1 in masks of the scenes, as in its own data, not in the pictures."""


@dataclass(frozen=True, slots=True)
class _Samples:
    """The samples of TRANCE as rows; a place is that in ``files``."""

    files: Files
    views: tuple[str, ...]
    vocabulary: Vocabulary

    def name(self, place: int) -> tuple[str, str]:
        return str(read_entry(parse(self.files.text(place))).index), self.files.label

    def rows(self, place: int) -> list[Row]:
        entry = read_entry(parse(self.files.text(place)))
        pictures = {key: self.files.picture(entry.images[key]) for key in ("initial", *self.views)}
        equal_sizes({entry.images[key]: picture for key, picture in pictures.items()})
        repeats = "position" in self.vocabulary.attributes
        sample = Sample(
            f"{entry.index:06d}-center",
            Scene(entry.initial.objects, self.vocabulary),
            entry.changes if repeats else net_changes(entry.initial, entry.changes),
            rig=entry.rig or STANDARD_RIG,
        )
        rows = []
        for view in self.views:
            seen = sample.seen_from(view)
            pixels = (
                {}
                if entry.rig is None
                else {
                    "initial": count_pixels(seen.initial, entry.rig, "center"),
                    "final": count_pixels(seen.final, entry.rig, view),
                }
            )
            rows.append(make_row(seen, (pictures["initial"][0], pictures[view][0]), pixels))
        return rows


def import_trance(
    source: Path,
    out: Path,
    attributes: Sequence[str] = ATTRIBUTES,
    views: Sequence[str] = VIEWS,
    split: str = "train",
    indices: tuple[int, int] | None = None,
    skip: bool = False,
    workers: int = 1,
) -> Imported:
    """Turn TRANCE, as it is published, into a dataset folder as ``star-r1 generate`` writes it.

    Each sample gives a row a view, ``000012-left`` the one of ``idx`` 12 from the left. All of it
    is checked (``read_entry``; that no two samples have one ``idx`` or one picture; that pictures
    are there, whole, and of one size). Pictures keep their size and lose their alpha.

    What a row does not know: in ``data.jsonl`` and h5 files there is neither the rotation of the
    objects nor how cameras and lamps were moved: rotation is 0, ``rig`` has TRANCE's nominal
    places, ``pixels`` is empty. ``data_renderable.jsonl`` has all of it, and is preferred.

    Args:
        source: the folder that holds ``data_renderable.jsonl``, ``data.jsonl`` or ``data.json``
            (a JSON list) and ``image/``; or ``data.h5``, which TRANCE's preprocessing writes.
        out: folder; new, empty, or of an interrupted import with the same settings.
        attributes: take only samples that change nothing else. Without ``position`` the changes
            are a set, as in STAR-R1: an (object, attribute) that TRANCE changes twice counts
            once, with its last value, and a sample that so changes nothing is left out.
        views: of the final picture.
        split: ``train``, ``val`` or ``test`` takes TRANCE's split of that name.
        indices: first and last ``idx`` to take instead; the split may then have any name.
        skip: leave samples with faults out; else they end the import.
        workers: processes.

    Returns:
        How many samples and rows there are in ``out``.

    Raises:
        UserError: there is nothing to import, a file cannot be read, samples have faults and
            ``skip`` is not set, ``out`` holds something else or cannot be written.
    """
    vocabulary = _check(attributes, views, split, indices, workers)
    files = find_files(source, split)
    low, high = indices or _range_of(files, split)
    choice = _choose(files, range(low, high + 1), vocabulary, tuple(views), look=not skip)
    settings = {
        "from": "trance",
        "file": files.label,
        "sha256": choice.digest,
        "split": split,
        "indices": [low, high],
        "attributes": list(vocabulary.attributes),
        "views": list(views),
    }
    if not choice.places and not choice.faults:
        among = f"none of its {choice.seen} samples has idx {low}-{high}; see --indices"
        if choice.left_out:
            among = (
                f"of its samples with idx {low}-{high} none changes "
                f"{', '.join(vocabulary.attributes)} alone; see --attributes"
            )
        raise UserError(f"{source}: {among}")
    intake = Intake(
        _Samples(files, tuple(views), vocabulary),
        choice.places,
        len(views),
        split,
        settings,
        tuple(choice.faults),
    )
    imported = take_in(out, intake, _origin(intake, choice.rigs), skip, workers)
    return replace(imported, left_out=choice.left_out)


def _origin(intake: Intake, rigs: bool) -> Origin:
    settings = intake.settings
    names = ",".join(settings["attributes"])
    kind = _ALL if "position" in settings["attributes"] else _SETS.format(names.replace(",", ", "))
    low, high = settings["indices"]
    command = (
        f"star-r1 import trance {settings['file']} --split {intake.split} \\\n"
        f"    --indices {low}-{high} --attributes {names} \\\n"
        f"    --views {','.join(settings['views'])} --out DIR"
    )
    about = _ABOUT.format(kind=kind, rig=_RIG if rigs else _NO_RIG)
    return Origin("TRANCE (TVR pairs)", about, command, "cc-by-nc-4.0")


@dataclass(slots=True)
class _Choice:
    """What is in a file.

    Attributes:
        places: of the samples to take.
        faults: of samples not to take.
        seen: samples in it.
        left_out: samples that change other attributes.
        rigs: whether all samples to take say where cameras and lamps stand.
        digest: SHA-256 of its JSON.
    """

    places: "array[int]"
    faults: list[Fault]
    seen: int = 0
    left_out: int = 0
    rigs: bool = True
    digest: str = ""


def _choose(
    files: Files, indices: range, vocabulary: Vocabulary, views: tuple[str, ...], look: bool
) -> _Choice:
    """Check all samples of ``indices`` but for what is in their pictures.

    Args:
        files: where they are.
        indices: those to check; of others only that they are JSON.
        vocabulary: its attributes choose.
        views: that each sample to take must have.
        look: whether to look for their pictures; else that is left to ``_Samples.rows``.
    """
    choice = _Choice(array("q"), [])
    digest = hashlib.sha256()
    taken = _Names()
    with progress("Checking", files.count()) as advance:
        for place, where, text in files.texts():
            advance()
            digest.update(text)
            choice.seen += 1
            index = None
            try:
                raw = parse(text)
                index = raw.get("idx") if isinstance(raw, dict) else None
                if type(index) is int and index not in indices and 0 <= index < MAX_INDEX:
                    continue
                entry = read_entry(raw)
                taken.add(entry)
                if not _is_wanted(entry, vocabulary):
                    choice.left_out += 1
                    continue
                _check_images(entry, views, files if look else None)
            except Flaw as flaw:
                name = str(index) if type(index) is int else ""
                choice.faults.append(Fault(name, where, flaw.field, flaw.what))
                continue
            choice.places.append(place)
            choice.rigs &= entry.rig is not None
    choice.digest = digest.hexdigest()
    return choice


def _is_wanted(entry: Entry, vocabulary: Vocabulary) -> bool:
    if not {change.attribute for change in entry.changes} <= {*vocabulary.attributes}:
        return False
    return "position" in vocabulary.attributes or bool(net_changes(entry.initial, entry.changes))


def _check_images(entry: Entry, views: tuple[str, ...], files: Files | None) -> None:
    for view in views:
        if view not in entry.images:
            raise Flaw("states[-1].images", f"has no {CAMERAS[view]}")
    for name in (entry.images[key] for key in ("initial", *views)):
        if files and not files.has(name):
            raise Flaw(f"image/{name}", "is missing")


class _Names:
    """What has been used up: each ``idx`` and each picture belongs to one sample.

    Pictures named as TRANCE does, after their sample, need not be kept.
    """

    def __init__(self) -> None:
        self._indices: set[int] = set()
        self._pictures: dict[str, int] = {}

    def add(self, entry: Entry) -> None:
        if entry.index in self._indices:
            raise Flaw("idx", f"{entry.index} is that of a sample before it")
        self._indices.add(entry.index)
        for name in entry.images.values():
            match = IMAGE_NAME.match(name)
            other = int(match[1]) if match else self._pictures.setdefault(name, entry.index)
            if other != entry.index:
                raise Flaw("images", f"{name} is a picture of sample {other}")


def _check(
    attributes: Sequence[str],
    views: Sequence[str],
    split: str,
    indices: tuple[int, int] | None,
    workers: int,
) -> Vocabulary:
    if not views or len(set(views)) < len(views) or set(views) - {*VIEWS}:
        raise UserError(f"views {','.join(views)!r}: name some of {','.join(VIEWS)}, each once")
    check_workers(workers)
    if indices is not None and not 0 <= indices[0] <= indices[1] < MAX_INDEX:
        raise UserError(f"indices {indices[0]}-{indices[1]}: give the first and the last idx")
    if name_fault(split) or not SPLIT.fullmatch(split):
        raise UserError(f"split {split!r}: use letters, digits and _, such as train, test")
    try:
        # The order of the attributes is that of TRANCE, whatever that of the flag.
        found = Vocabulary(attributes=tuple(attributes)).attributes
        return Vocabulary(attributes=tuple(a for a in TRANCE.attributes if a in found))
    except ValueError as error:
        raise UserError(str(error)) from None


def _range_of(files: Files, split: str) -> tuple[int, int]:
    if files.one_split:
        return 0, MAX_INDEX - 1
    if split not in SPLITS:
        raise UserError(
            f"split {split}: TRANCE has {', '.join(SPLITS)}; say by --indices what is in another"
        )
    return SPLITS[split][0], SPLITS[split][-1]
