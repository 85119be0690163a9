"""The pairs that a report shows: which ones, their pictures, what each model said of them."""

import hashlib
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any, Final

from star_r1.data.dataset import load
from star_r1.data.pictures import plain_files, read_pair
from star_r1.evaluate.finished import Answers
from star_r1.render.cameras import Camera
from star_r1.render.visibility import centre
from star_r1.reward.star import Reward, star
from star_r1.tvr.answer import Answer, parse_answer
from star_r1.tvr.sample import Sample
from star_r1.tvr.scene import STANDARD_RIG, UNKNOWN_RIG, Object, Scene

SHOWN: Final = 24
LABELS_ACROSS: Final = 38
"""Radii of a label in the width of a picture."""


@dataclass(frozen=True, slots=True)
class Label:
    """The index of an object and where to write it in a picture, in pixels."""

    index: int
    x: float
    y: float
    changed: bool


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture of the gallery: PNG as a data URL, sizes in pixels, labels, text alternative."""

    url: str
    width: int
    height: int
    labels: tuple[Label, ...]
    radius: float
    alt: str


@dataclass(frozen=True, slots=True)
class Said:
    """What one model said of a pair, and what the reward makes of it."""

    run: str
    completion: str
    answer: Answer
    reward: Reward
    right: bool


@dataclass(frozen=True, slots=True)
class Pair:
    """One entry of the gallery; ``outcome`` as ``_outcome``."""

    sample: Sample
    pictures: tuple[Picture, ...]
    said: tuple[Said, ...]
    outcome: str

    @property
    def listed(self) -> tuple[Object, ...]:
        """The objects that the model was told of: hidden ones too where they may move into view."""
        scene = self.sample.initial
        return scene.objects if "position" in scene.vocabulary.attributes else scene.visible


def choose(answers: Answers, data: Path, runs: Mapping[int, str]) -> list[Pair]:
    """The pairs to show, by id: views and outcomes in turn, within each by a hash of the id.

    Args:
        answers: to the rows; all of them are read, ``answers.judged`` is there afterwards.
        data: the folder that they are of.
        runs: places in ``answers`` of the runs to show -> their names; rows that all of these
            answered are chosen from.

    Raises:
        UserError: data or predictions are damaged, or do not belong together.
    """
    kinds: dict[tuple[str, str], list[_Candidate]] = {}
    for row in answers.rows():
        shown = [row.said[place] for place in runs]
        said = [one for one in shown if one is not None]
        if len(said) < len(runs):
            continue
        first = tuple((one.completions[0].text, one.answers[0]) for one in said)
        outcome = _outcome([answer.is_exactly(row.sample.changes) for _, answer in first])
        of_kind = kinds.setdefault((outcome, row.sample.view), [])
        of_kind.append(_Candidate(rank(row.sample.id), row.place, row.sample, first, outcome))
        if len(of_kind) >= 2 * SHOWN:  # no more of a kind are shown
            of_kind[:] = sorted(of_kind, key=lambda one: one.rank)[:SHOWN]
    columns = [sorted(kinds[kind], key=lambda one: one.rank) for kind in sorted(kinds)]
    in_turn = [one for turn in zip_longest(*columns) for one in turn if one is not None]
    chosen = sorted(in_turn[:SHOWN], key=lambda one: one.sample.id)
    rows = load(data) if chosen else []
    return [
        Pair(
            one.sample,
            show(one.sample, rows[one.place]),
            tuple(
                _say(name, text, answer, one.sample)
                for name, (text, answer) in zip(runs.values(), one.said, strict=True)
            ),
            one.outcome,
        )
        for one in chosen
    ]


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A row that may be shown: its place in the data, and what each run said first of it."""

    rank: str
    place: int
    sample: Sample
    said: tuple[tuple[str, Answer], ...]
    outcome: str


def rank(id: str) -> str:
    """An order in which to choose that has nothing to do with what is chosen."""
    return hashlib.sha256(id.encode()).hexdigest()


def say(run: str, completion: str, sample: Sample) -> Said:
    """A completion of the model ``run``, read and scored."""
    return _say(run, completion, parse_answer(completion, sample.vocabulary), sample)


def _say(run: str, completion: str, answer: Answer, sample: Sample) -> Said:
    return Said(
        run,
        completion,
        answer,
        star(answer, sample.changes),
        answer.is_exactly(sample.changes),
    )


def _outcome(right: Sequence[bool]) -> str:
    """By the first and the last model: right, wrong, newly right, newly wrong."""
    now = "right" if right[-1] else "wrong"
    return now if right[0] == right[-1] else f"newly {now}"


def show(sample: Sample, row: Mapping[str, Any]) -> tuple[Picture, ...]:
    """The pictures of a row, whose ``images`` are undecoded, with their labels.

    Raises:
        UserError: one of them cannot be used.
    """
    sizes = [picture.size for picture in read_pair(row)]
    shown = ((sample.initial, "center", "Initial"), (sample.final, sample.view, "Final"))
    return tuple(
        _picture(sample, *what, size, *file)
        for what, size, file in zip(shown, sizes, plain_files(row), strict=True)
    )


def _picture(
    sample: Sample,
    scene: Scene,
    view: str,
    name: str,
    size: tuple[int, int],
    content: bytes,
    form: str,
) -> Picture:
    width, height = size
    known = sample.rig != UNKNOWN_RIG
    camera = Camera.of(sample.rig if known else STANDARD_RIG, view, (width, height))
    radius = width / LABELS_ACROSS
    changed = {change.index for change in sample.changes}
    labels = []
    for thing in scene.visible if known else ():
        x, y, middle = centre(thing, scene.vocabulary)
        # Above the object: on a small one it would hide what it names.
        ((across, down),) = camera.project([(x, y, 2 * middle)]).tolist()
        down = max(down - radius / 2, radius)
        labels.append(Label(thing.index, round(across, 1), round(down, 1), thing.index in changed))
    objects = "; ".join(f"{thing.index}: {thing.describe()}" for thing in scene.visible)
    url = f"data:image/{form};base64,{b64encode(content).decode()}"
    return Picture(
        url, width, height, tuple(labels), radius, f"{name} picture, {view} view. {objects}."
    )
