"""Reason-RFT's TRANCE part -> our rows, and its way to write objects and changes."""

import hashlib
import re
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from star_r1.data.card import Origin
from star_r1.data.intake import (
    Fault,
    Flaw,
    Imported,
    Intake,
    check_name,
    equal_sizes,
    parse,
    short,
    take_in,
)
from star_r1.data.names import SPLIT, name_fault
from star_r1.data.shards import Row, make_row
from star_r1.data.trance_files import Files, find_json
from star_r1.data.trance_format import net_changes
from star_r1.data.workers import check_workers
from star_r1.errors import UserError
from star_r1.progress import progress
from star_r1.texts import harmless
from star_r1.tvr.change import Change
from star_r1.tvr.sample import Sample
from star_r1.tvr.scene import UNKNOWN_RIG, Object, Scene
from star_r1.tvr.vocabulary import N_OBJECTS, STANDARD

TUPLE: Final = ("shape", "size", "color", "material")
"""What stands behind the index of an object in ``problem``."""
VIEW_LETTERS: Final = {"C": "center", "L": "left", "R": "right"}
"""In names of pictures, which are TRANCE's: ``img_000012-fin.L.png``."""

_CALL: Final = re.compile(r"change_(\w+)\(\s*(\d{1,4})\s*,\s*['\"]?([\w-]+)['\"]?\s*\)", re.ASCII)
_TUPLE: Final = re.compile(r"\(([^()]{1,200})\)")
_FINAL: Final = re.compile(r"img_(\d{6,9})-fin\.([CLR])\.png", re.ASCII)
_IN_SIGHT: Final = tuple((x, y) for x in (-13, 0, 13) for y in (-20, -7, 6, 19))
"""Places for objects whose own nobody tells: whatever their sizes they do not touch."""
_HIDDEN: Final = tuple((x, y) for x in (-33, 33) for y in (-26, -13, 0, 13, 26))
_UNLISTED: Final = {"shape": "cube", "size": "small", "color": "gray", "material": "rubber"}

_ABOUT: Final = """\
Questions of the TRANCE part of Reason-RFT, imported by star-r1: those in which nothing moves (a
move is told there without how far it goes, so that it cannot be replayed). The pictures are those
of the TRANCE dataset, the numbers in the ids its `idx`. The changes are a set: an object's
attribute that is changed twice counts once, with its last value. Chains of thought (`cot`) are
not taken over; prompts are star-r1's.

Nobody says where the objects stand: `position` and `rotation` are made up, `rig` and `pixels` are
empty. Objects that a question does not list have made-up looks too, and made-up places out of
sight. To have all of it, import the same numbers from TRANCE itself (`star-r1 import trance`).

Reason-RFT labels its data Apache-2.0, TRANCE its pictures CC BY-NC 4.0: they may be used for
non-commercial purposes. Please cite

```bibtex
@article{tan2025reason,
  title   = {Reason-RFT: Reinforcement Fine-Tuning for Visual Reasoning},
  author  = {Tan, Huajie and Ji, Yuheng and Hao, Xiaoshuai and Lin, Minglan and Wang, Pengwei and
             Wang, Zhongyuan and Zhang, Shanghang},
  journal = {arXiv preprint arXiv:2503.20752},
  year    = {2025}
}

@inproceedings{hong2021transformation,
  title     = {Transformation Driven Visual Reasoning},
  author    = {Hong, Xin and Lan, Yanyan and Pang, Liang and Guo, Jiafeng and Cheng, Xueqi},
  booktitle = {Proceedings of the IEEE/CVF Conference on Computer Vision and Pattern Recognition},
  year      = {2021}
}
```"""


def to_calls(changes: Sequence[Change]) -> str:
    """Changes as Reason-RFT writes an answer. Of a move it says the direction, not how far.

    >>> to_calls([Change(3, "color", "cyan"), Change(5, "position", "front-left.2")])
    'change_color(3, cyan), change_position(5, front_left)'
    """
    return ", ".join(
        f"change_{change.attribute}({change.index}, "
        f"{change.value.partition('.')[0].replace('-', '_')})"
        for change in changes
    )


def parse_calls(text: str) -> tuple[Change, ...]:
    """Read what ``to_calls`` writes, but for moves; any white space and quotes around values.

    Raises:
        Flaw: something else stands there, a name is not known, or there is nothing.

    >>> [str(change) for change in parse_calls("change_color(3, 'cyan')\\nchange_size(0,small)")]
    ['3.color.cyan', '0.size.small']
    """
    if rest := _CALL.sub("", text).strip(" \t\r\n,;[]\"'"):
        raise Flaw("answer", f"{short(rest)} is not change_ATTRIBUTE(INDEX, VALUE)")
    changes = []
    for attribute, index, value in _CALL.findall(text):
        try:
            STANDARD.check(attribute, value)
            changes.append(Change(int(index), attribute, value))
        except ValueError as error:
            raise Flaw("answer", str(error)) from None
    if not changes:
        raise Flaw("answer", "names no change")
    return tuple(changes)


def to_tuples(objects: Sequence[Object]) -> str:
    """Objects as Reason-RFT lists them: ``(object_id, shape, size, color, material)``.

    >>> to_tuples([Object(3, "red", "cube", "small", "metal", (0, 0))])
    "[('3', 'cube', 'small', 'red', 'metal')]"
    """
    return str(
        [(str(thing.index), *(thing.attribute(name) for name in TUPLE)) for thing in objects]
    )


def parse_tuples(text: str) -> dict[int, dict[str, str]]:
    """The objects that a problem lists: index -> attribute -> value.

    Raises:
        Flaw: there are none, an index is listed twice or is out of range, a value is not known.

    >>> parse_tuples("Objects: [('3', 'cube', 'small', 'red', 'metal')]")[3]["color"]
    'red'
    """
    objects: dict[int, dict[str, str]] = {}
    for match in _TUPLE.findall(text):
        index, *values = (part.strip(" \t\r\n'\"") for part in match.split(","))
        if len(values) != len(TUPLE) or not re.fullmatch(r"\d{1,4}", index, re.ASCII):
            continue  # words in brackets, such as the heading of the list
        if int(index) >= N_OBJECTS or int(index) in objects:
            what = "twice" if int(index) in objects else f"not in 0-{N_OBJECTS - 1}"
            raise Flaw("problem", f"object {index} is {what}")
        for name, value in zip(TUPLE, values, strict=True):
            try:
                STANDARD.check(name, value)
            except ValueError as error:
                raise Flaw("problem", f"object {index}: {error}") from None
        objects[int(index)] = dict(zip(TUPLE, values, strict=True))
    if not objects:
        raise Flaw("problem", f"lists no objects as (object_id, {', '.join(TUPLE)})")
    return objects


@dataclass(frozen=True, slots=True)
class Question:
    """One row of Reason-RFT, checked but for its pictures.

    Attributes:
        number: TRANCE's ``idx``, from the name of the final picture.
        view: of the final picture, from its name.
        initial: the scene, with made-up places; see ``read_question``.
        changes: as the answer has them, as a set: see ``net_changes``.
        images: names of the initial and the final picture.
    """

    number: int
    view: str
    initial: Scene
    changes: tuple[Change, ...]
    images: tuple[str, str]


def read_question(raw: Any) -> Question | None:
    """Check one row; None where objects move, or nothing changes in the end.

    ``{"id", "image": [initial, final], "problem", "answer" (for RL: "solution"), "cot"}``; ``id``
    and ``cot`` are not looked at. The objects stand in ``problem`` as tuples; they are taken to
    be in sight, all others not.

    Raises:
        Flaw: the first thing that is wrong.

    Source: Reason-RFT (Tan et al., arXiv 2503.20752) and its public code.
    """
    if not isinstance(raw, dict):
        raise Flaw("row", f"{short(raw)} is not an object")
    problem, answer = raw.get("problem"), raw.get("answer", raw.get("solution"))
    if not isinstance(problem, str):
        raise Flaw("problem", f"{short(problem)} is not text")
    if not isinstance(answer, str):
        raise Flaw("answer", f"{short(answer)} is not text")
    images = raw.get("image")
    if not isinstance(images, list) or len(images) != 2:
        raise Flaw("image", f"{short(images)} is not a list of two names")
    names = tuple(image.get("path") if isinstance(image, dict) else image for image in images)
    first, last = (check_name(name, f"image[{n}]") for n, name in enumerate(names))
    match = _FINAL.fullmatch(last.rpartition("/")[2])
    if not match:
        raise Flaw("image[1]", f"{last} does not tell the view, as img_000012-fin.L.png does")
    looks = parse_tuples(problem)
    if "change_position(" in answer:
        return None
    changes = parse_calls(answer)
    for change in changes:
        if change.index not in looks:
            raise Flaw("answer", f"object {change.index} is not in the problem")
    scene = _place(looks)
    net = net_changes(scene, changes)
    view = VIEW_LETTERS[match[2]]
    return Question(int(match[1]), view, scene, net, (first, last)) if net else None


def _place(looks: Mapping[int, Mapping[str, str]]) -> Scene:
    objects = []
    for index in range(N_OBJECTS):
        look = looks.get(index, _UNLISTED)
        position = (_IN_SIGHT if index in looks else _HIDDEN)[index]
        objects.append(
            Object(index, look["color"], look["shape"], look["size"], look["material"], position)
        )
    return Scene(tuple(objects))


@dataclass(frozen=True, slots=True)
class _Questions:
    """The questions as rows; a place is that in ``files``."""

    files: Files

    def name(self, place: int) -> tuple[str, str]:
        return _name(parse(self.files.text(place))), self.files.label

    def rows(self, place: int) -> list[Row]:
        question = read_question(parse(self.files.text(place)))
        assert question is not None  # such places are not chosen
        pictures = {name: self.files.picture(name) for name in question.images}
        equal_sizes(pictures)
        sample = Sample(
            f"{question.number:06d}-{question.view}",
            question.initial,
            question.changes,
            question.view,
            UNKNOWN_RIG,
        )
        initial, final = (pictures[name][0] for name in question.images)
        return [make_row(sample, (initial, final), {})]


def _name(raw: Any) -> str:
    """What a fault calls a row."""
    id = raw.get("id", "") if isinstance(raw, dict) else ""
    return harmless(str(id), 80) if isinstance(id, str | int) else ""


def import_reason_rft(
    source: Path,
    out: Path,
    images: Path | None = None,
    split: str = "train",
    skip: bool = False,
    workers: int = 1,
) -> Imported:
    """Turn a JSON file of Reason-RFT's TRANCE part into a dataset folder.

    Questions in which objects move are left out: a move is told without how far it goes. What is
    not told at all is said in the card: where objects stand, what those are like that are not
    listed. Such rows have an empty ``rig``.

    Args:
        source: such as ``A1-Spatial-Transformation-train-60k-cot.json``; or with one row a line
            (``.jsonl``).
        out: folder; new, empty, or of an interrupted import with the same settings.
        images: folder of the pictures; None for ``image`` beside ``source``.
        split: its name.
        skip: leave rows with faults out; else they end the import.
        workers: processes.

    Raises:
        UserError: there is nothing to import, a file cannot be read, rows have faults and
            ``skip`` is not set, ``out`` holds something else or cannot be written.
    """
    check_workers(workers)
    if name_fault(split) or not SPLIT.fullmatch(split):
        raise UserError(f"split {split!r}: use letters, digits and _, such as train, test")
    files = find_json(source, images or source.parent / "image")
    places, faults, left_out = array("q"), [], 0
    digest = hashlib.sha256()
    names: set[tuple[int, str]] = set()
    with progress("Checking", files.count(), unit="rows") as advance:
        for place, where, text in files.texts():
            advance()
            digest.update(text)
            name = ""
            try:
                raw = parse(text)
                name = _name(raw)
                question = read_question(raw)
                if question is None:
                    left_out += 1
                    continue
                if (question.number, question.view) in names:
                    raise Flaw("image[1]", f"{question.images[1]} is that of a row before it")
                if not skip and (
                    absent := [file for file in question.images if not files.has(file)]
                ):
                    raise Flaw(absent[0], "is missing")
            except Flaw as flaw:
                faults.append(Fault(name, where, flaw.field, flaw.what))
                continue
            names.add((question.number, question.view))
            places.append(place)
    if not places and not faults:
        raise UserError(f"{source}: in none of its {left_out} rows does everything stay in place")
    settings = {
        "from": "reason-rft",
        "file": files.label,
        "sha256": digest.hexdigest(),
        "split": split,
    }
    command = f"star-r1 import reason-rft {files.label} --images DIR --split {split} --out DIR"
    origin = Origin("Reason-RFT, TRANCE part (TVR pairs)", _ABOUT, command, "cc-by-nc-4.0")
    intake = Intake(_Questions(files), places, 1, split, settings, tuple(faults))
    return replace(take_in(out, intake, origin, skip, workers), left_out=left_out)
