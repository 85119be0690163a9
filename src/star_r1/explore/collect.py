"""Rows of a dataset, and what runs said of them, as the JSON that the explorer's page reads."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from star_r1.data.pictures import plain_files, read_pair
from star_r1.errors import UserError
from star_r1.evaluate.finished import Answers, Said, read_finished
from star_r1.evaluate.predictions import Completion
from star_r1.evaluate.runs import Evaluation
from star_r1.explore.kinds import find_kinds
from star_r1.explore.mentions import Piece, split
from star_r1.explore.outlines import Outline, outlines
from star_r1.render.visibility import instance_mask
from star_r1.reward.star import star
from star_r1.tvr.answer import Answer
from star_r1.tvr.change import format_changes
from star_r1.tvr.sample import Sample
from star_r1.tvr.scene import UNKNOWN_RIG, Rig, Scene
from star_r1.tvr.vocabulary import ATTRIBUTES, Vocabulary

LONGEST_TEXT: Final = 24_000
"""Characters of a completion on the page: of a longer one the first and the last are there."""
LONGEST_ITEM: Final = 120
MOST_ITEMS: Final = 60
"""Predictions of one answer on the page; all of them count."""

TERMS: Final = ("exact", "attribute", "object", "format", "wrong", "missing")
"""Of the reward, as the report has them."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture file that browsers show as models see it, its name on the page, its size."""

    name: str
    content: bytes
    size: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Row:
    """A sample on the page.

    Attributes:
        brief: what filters and the list need, a value a column.
        full: what is shown of it, JSON.
        pictures: the initial and the final one.
    """

    brief: dict[str, Any]
    full: dict[str, Any]
    pictures: tuple[Picture, Picture]


@dataclass(frozen=True, slots=True)
class Source:
    """What the page is about: a dataset, the runs over it, and their answers to its rows."""

    data: Path
    runs: tuple[Evaluation, ...]
    answers: Answers


def open_source(paths: Sequence[Path]) -> Source:
    """Find out what to show.

    Args:
        paths: folders of ``star-r1 evaluate`` over the same dataset, which must be where run.json
            says; or one dataset folder, all rows of which are shown.

    Returns:
        With runs: the rows that any of them answered.

    Raises:
        UserError: a folder is missing, unfinished, damaged, or neither; runs and a dataset are
            mixed; a run is named twice; the runs are of different data, or their data cannot be
            read; a predictions file does not fit the data.
    """
    runs = [path for path in paths if (path / "run.json").exists()]
    others = [path for path in paths if path not in runs]
    if len(others) > 1 or (others and runs):
        raise UserError(
            f"{others[0]}: no run.json in it; give runs of 'star-r1 evaluate', or one dataset"
        )
    if not paths:
        raise UserError("nothing to explore; give runs of 'star-r1 evaluate', or one dataset")
    if len({path.resolve() for path in runs}) < len(runs):
        raise UserError(f"{', '.join(map(str, runs))}: a run is named twice; name each once")
    evaluations = [read_finished(path) for path in runs]
    # Copied runs may name a folder that is elsewhere by now; one that is there will do for all.
    folders = others or [Path(evaluation.about["data"]) for evaluation in evaluations]
    data = next((folder for folder in folders if folder.is_dir()), folders[0])
    for evaluation in evaluations[1:]:
        if not _same_data(evaluations[0], evaluation):
            raise UserError(
                f"{evaluations[0].folder} and {evaluation.folder} were evaluated on different "
                f"data, {folders[0]} and {evaluation.about['data']}; explore each by itself"
            )
    answers = Answers(evaluations, data)
    if not len(answers):
        raise UserError(f"{paths[0]}: no rows to show; is the evaluation finished?")
    return Source(data, tuple(evaluations), answers)


def _same_data(one: Evaluation, other: Evaluation) -> bool:
    """By the folder; where that differs, as after a copy, by the fingerprint of the rows."""
    if Path(one.about["data"]).resolve() == Path(other.about["data"]).resolve():
        return True
    rows = [run.about.get("identity", {}).get("rows") for run in (one, other)]
    return rows[0] is not None and rows[0] == rows[1]


def rows(source: Source) -> Iterator[Row]:
    """The rows of the page, in the order of the dataset; one shard at a time is in memory.

    Raises:
        UserError: a row is damaged; after the last one: the data are not those of a run.
    """
    for row in source.answers.rows(["images"]):
        yield make_row(row.row, row.sample, row.said)


def make_row(row: Mapping[str, Any], sample: Sample, said: Sequence[Said | None]) -> Row:
    """A row of a dataset with what each run said of it.

    Args:
        row: with the column ``images``, two pictures with their ``bytes``.
        sample: of the row.
        said: by each run that is shown, None where it did not answer.

    Raises:
        UserError: a picture is none.
    """
    sizes = [picture.size for picture in read_pair(row)]
    initial, final = (
        # By its bytes: the initial picture, which every view of a scene shares, is there once.
        Picture(f"{hashlib.sha256(content).hexdigest()[:20]}.{form}", content, size)
        for size, (content, form) in zip(sizes, plain_files(row), strict=True)
    )
    by_run = [
        [_say(sample, *one) for one in zip(own.completions, own.answers, strict=True)]
        if own
        else []
        for own in said
    ]
    full = {
        "id": sample.id,
        "vocabulary": _vocabulary_json(sample.vocabulary),
        "pictures": [
            _picture_json(initial, sample.initial, sample.rig, "center"),
            _picture_json(final, sample.final, sample.rig, sample.view),
        ],
        "objects": _objects_json(sample),
        "changes": [{"text": str(change), **change.to_dict()} for change in sample.changes],
        "runs": by_run,
    }
    return Row(_brief(sample, by_run), full, (initial, final))


def _picture_json(picture: Picture, scene: Scene, rig: Rig, view: str) -> dict[str, Any]:
    """``outlines`` and ``labels`` are by index; None where nobody knows where anything stands."""
    found = _outlines(scene, rig.to_json(), view, picture.size) if rig != UNKNOWN_RIG else None
    return {
        "file": f"images/{picture.name}",
        "view": view,
        "width": picture.size[0],
        "height": picture.size[1],
        "outlines": found and {index: outline.path for index, outline in found.items()},
        "labels": found and {index: outline.label for index, outline in found.items()},
    }


@lru_cache(maxsize=8)
def _outlines(scene: Scene, rig: str, view: str, size: tuple[int, int]) -> dict[int, Outline]:
    """Kept for the next views of the same scene, whose initial pictures are the same."""
    return outlines(instance_mask(scene, Rig.from_json(rig), view, size))


def _objects_json(sample: Sample) -> list[dict[str, Any]]:
    """The ten objects: how each looks and where it is, before and after; hidden ones too."""
    return [
        {
            "before": [before.attribute(attribute) for attribute in ATTRIBUTES],
            "after": [after.attribute(attribute) for attribute in ATTRIBUTES],
            "places": [before.position, after.position],
            "visible": [before.visible, after.visible],
        }
        for before, after in zip(sample.initial.objects, sample.final.objects, strict=True)
    ]


def _vocabulary_json(vocabulary: Vocabulary) -> dict[str, Any]:
    """What may change and to what, and the colors to show it in (sRGB, a likeness)."""
    return {
        "grammar": {name: list(values) for name, values in vocabulary.grammar.items()},
        "colors": {name: list(rgb) for name, rgb in vocabulary.colors.items()},
    }


def _brief(sample: Sample, said: Sequence[Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    return {
        "id": sample.id,
        "view": sample.view,
        "population": len(sample.initial.visible),
        "changed": sorted({change.attribute for change in sample.changes}),
        "moves": "position" in sample.vocabulary.attributes,
        "question": f"{sample.initial.to_json()} {format_changes(sample.changes)}",
        "runs": [
            {
                "outcome": completions[0]["outcome"],
                "kinds": completions[0]["kinds"],
                "status": completions[0]["status"],
                "right": sum(said["outcome"] == "right" for said in completions),
                "of": len(completions),
            }
            if completions
            else None
            for completions in said
        ],
    }


def _say(sample: Sample, completion: Completion, answer: Answer) -> dict[str, Any]:
    """One completion with its answer, scored."""
    reward = star(answer, sample.changes)
    verdict = find_kinds(answer, reward, sample.changes)
    text, left_out = _shorten(completion.text)
    return {
        "number": completion.number,
        "status": completion.status,
        "error": _cut(completion.error),
        "outcome": verdict.outcome,
        "kinds": verdict.kinds,
        "problem": answer.problem,
        "items": [
            {
                "text": _cut(prediction.text),
                "index": prediction.change and prediction.change.index,
                "fate": fate,
                "kind": kind,
            }
            for prediction, fate, kind in zip(
                answer.predictions[:MOST_ITEMS], reward.fates, verdict.items, strict=False
            )
        ],
        "more": max(0, len(answer.predictions) - MOST_ITEMS),
        "matches": [
            {"tier": match.tier, "by": _cut(answer.predictions[match.prediction].text)}
            if match.prediction is not None
            else None
            for match in reward.matches
        ],
        "terms": {term: getattr(reward, term) for term in (*TERMS, "total")},
        "text": [_mark(part, sample) for part in text],
        "left_out": left_out,
    }


def _mark(text: str, sample: Sample) -> list[Piece]:
    listed = [thing.index for thing in sample.initial.objects if _listed(thing.index, sample)]
    before, after = (
        [scene.objects[index] for index in listed] for scene in (sample.initial, sample.final)
    )
    return split(text, before, after, sample.vocabulary)


def _listed(index: int, sample: Sample) -> bool:
    """Whether the model was told of an object: hidden ones too where they may move into view."""
    return "position" in sample.vocabulary.attributes or sample.initial.objects[index].visible


def _shorten(text: str) -> tuple[list[str], int]:
    """The text, or its two ends where it is too long; how many characters are left out."""
    if len(text) <= LONGEST_TEXT:
        return [text], 0
    half = LONGEST_TEXT // 2
    return [text[:half], text[-half:]], len(text) - 2 * half


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_ITEM else text[: LONGEST_ITEM - 1] + "…"
