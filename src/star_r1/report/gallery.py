"""The pairs that a report shows: which ones, their pictures, what each model said of them."""

import hashlib
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any, Final

from star_r1.data.dataset import SAMPLE_COLUMNS, load, row_to_sample
from star_r1.data.pictures import plain_files, read_pair
from star_r1.errors import UserError
from star_r1.evaluate.predictions import read_predictions
from star_r1.evaluate.runs import Evaluation
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


def choose(evaluations: Sequence[Evaluation]) -> list[Pair]:
    """The pairs to show, by id: views and outcomes in turn, within each by a hash of the id.

    Raises:
        UserError: the evaluations are of different rows; their data or predictions are missing or
            damaged.
    """
    if len({_rows_of(run) for run in evaluations}) > 1:
        raise UserError(
            f"{evaluations[0].folder} and {evaluations[-1].folder} were evaluated on different "
            "rows; evaluate both with the same --data, --views and --limit"
        )
    rows = load(Path(evaluations[0].about["data"]))
    place = {id: n for n, id in enumerate(rows["id"])}
    completions = [read_predictions(run.folder / "predictions.jsonl", place) for run in evaluations]

    entries: dict[str, tuple[Sample, tuple[Said, ...]]] = {}
    kinds: dict[tuple[str, str], list[str]] = {}
    for row in rows.select_columns(list(SAMPLE_COLUMNS)):
        if all(row["id"] in texts for texts in completions):
            sample = row_to_sample(row)
            said = tuple(
                say(run.name, texts[sample.id], sample)
                for run, texts in zip(evaluations, completions, strict=True)
            )
            entries[sample.id] = sample, said
            kinds.setdefault((_outcome(said), sample.view), []).append(sample.id)
    columns = [sorted(kinds[kind], key=rank) for kind in sorted(kinds)]
    in_turn = [id for turn in zip_longest(*columns) for id in turn if id is not None]
    return [
        Pair(
            sample,
            show(sample, rows[place[id]]),
            said,
            _outcome(said),
        )
        for id in sorted(in_turn[:SHOWN])
        for sample, said in (entries[id],)
    ]


def _rows_of(run: Evaluation) -> Any:
    """The fingerprint of the rows that were evaluated."""
    return run.about.get("identity", {}).get("rows")


def rank(id: str) -> str:
    """An order in which to choose that has nothing to do with what is chosen."""
    return hashlib.sha256(id.encode()).hexdigest()


def say(run: str, completion: str, sample: Sample) -> Said:
    """A completion of the model ``run``, read and scored."""
    answer = parse_answer(completion, sample.vocabulary)
    return Said(
        run,
        completion,
        answer,
        star(answer, sample.changes),
        answer.is_exactly(sample.changes),
    )


def _outcome(said: Sequence[Said]) -> str:
    """By the first and the last model: right, wrong, newly right, newly wrong."""
    now = "right" if said[-1].right else "wrong"
    return now if said[0].right == said[-1].right else f"newly {now}"


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
