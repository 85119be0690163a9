"""The hand-labelled completions are whole: scenes and changes are real, labels fit each other."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from star_r1.tvr.change import Change, difference, parse_changes
from star_r1.tvr.sample import Sample
from star_r1.tvr.scene import Object, Scene
from star_r1.tvr.vocabulary import VISIBLE_CELLS


def read(name: str) -> list[dict[str, Any]]:
    text = Path(__file__).with_name(name).read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


ROWS = read("labelled_reasonings.jsonl")
FRESH = read("labelled_reasonings_fresh.jsonl")
STYLES = {
    "mini": 12,
    "chatty": 16,
    "qwen": 16,
    "terse": 10,
    "prose": 10,
    "viewpoint": 8,
    "numbered": 6,
    "correcting": 6,
    "blanket": 6,
    "untagged": 4,
    "empty": 3,
    "garbage": 3,
}
FRESH_STYLES = {
    "mini": 4,
    "chatty": 8,
    "qwen": 8,
    "terse": 4,
    "prose": 5,
    "viewpoint": 4,
    "numbered": 2,
    "correcting": 2,
    "blanket": 2,
    "untagged": 1,
}
ALL = ROWS + FRESH
each_row = pytest.mark.parametrize("row", ALL, ids=[row["id"] for row in ALL])


def sample(row: dict[str, Any]) -> Sample:
    """The row's question; nothing is known of the objects out of sight, or of any place."""
    shown = dict(row["initial"])
    objects = []
    for index in range(10):
        size, color, material, shape = shown.get(index, "small gray rubber cube").split()
        place = (0, 0) if index in shown else (VISIBLE_CELLS + 1, 0)
        objects.append(Object(index, color, shape, size, material, place))
    return Sample(row["id"], Scene(tuple(objects)), parse_changes(row["truth"]), row["view"])


def test_two_halves_of_fifty_with_one_mixture_of_styles() -> None:
    assert [row["id"] for row in ROWS] == [
        f"{half}-{number:02d}" for half in ("dev", "test") for number in range(1, 51)
    ]
    assert Counter(row["style"] for row in ROWS) == STYLES
    halves = [Counter(row["style"] for row in rows) for rows in (ROWS[:50], ROWS[50:])]
    assert all(abs(halves[0][style] - halves[1][style]) <= 1 for style in STYLES)


def test_forty_fresh_ones_of_the_same_styles_and_fields() -> None:
    assert [row["id"] for row in FRESH] == [f"fresh-{number:02d}" for number in range(1, 41)]
    assert Counter(row["style"] for row in FRESH) == FRESH_STYLES
    assert {tuple(row) for row in FRESH} == {tuple(row) for row in ROWS}


def test_no_completion_is_there_twice() -> None:
    assert len({row["completion"] for row in ALL}) == len(ALL)


def test_many_scenes_are_crowded_or_hold_look_alikes() -> None:
    assert sum(len(row["initial"]) >= 6 for row in ROWS) >= 30
    looks = [[look for _, look in row["initial"]] for row in ROWS]
    assert sum(len(set(scene)) < len(scene) for scene in looks) >= 10


@each_row
def test_the_scene_and_its_changes_are_real(row: dict[str, Any]) -> None:
    question = sample(row)
    assert [[o.index, o.describe()] for o in question.initial.visible] == row["initial"]
    assert 2 <= len(row["initial"]) <= 10
    assert question.changes
    assert sorted(question.changes) == sorted(difference(question.initial, question.final))
    assert {c.index for c in question.changes} <= {index for index, _ in row["initial"]}


@each_row
def test_the_labels_fit_each_other(row: dict[str, Any]) -> None:
    visible = {index for index, _ in row["initial"]}
    mentioned, compared, corresponding = (
        row[name] for name in ("mentioned", "compared", "corresponding")
    )
    assert len(set(mentioned)) == len(mentioned)
    assert compared == sorted(set(compared))
    assert corresponding == sorted(set(corresponding))
    assert set(corresponding) <= set(compared) <= set(mentioned) <= visible
    stated = [Change.parse(text) for text in row["stated"]]
    assert stated == sorted(set(stated))
    assert {change.index for change in stated} & visible <= set(compared)
