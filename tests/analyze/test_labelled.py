"""The reader against labels by hand."""

import json
from pathlib import Path

import pytest

from star_r1.analyze.labelled import FIELDS, precision_recall, read_labelled, validate
from star_r1.errors import UserError

LABELS = Path(__file__).parents[1] / "data" / "labelled_reasonings.jsonl"


@pytest.mark.parametrize("half", ["dev-", "test-"])
@pytest.mark.parametrize("field", FIELDS)
def test_the_reader_finds_what_a_person_found(half: str, field: str) -> None:
    figures = validate(LABELS, half)
    assert figures["n"] == 50
    assert figures[field]["precision"] >= 0.9
    assert figures[field]["recall"] >= 0.9


def test_precision_and_recall() -> None:
    pairs = [({1, 2, 3}, {2, 3, 4, 5}), (set(), set()), ({7}, set())]
    assert precision_recall([(frozenset(a), frozenset(b)) for a, b in pairs]) == {
        "precision": 0.5,
        "recall": 0.5,
        "found": 4,
        "labelled": 4,
        "both": 2,
    }
    assert precision_recall([])["precision"] is None


def test_labels_are_compared_as_they_are(tmp_path: Path) -> None:
    row = {
        "id": "a-1",
        "view": "left",
        "initial": [[3, "small gray rubber cube"], [4, "large red glass sphere"]],
        "truth": "3.material.metal",
        "completion": "\u2028<think>4: same\n3: rubber -> metal</think><answer>none</answer>",
        "mentioned": [3, 4],
        "compared": [3],
        "corresponding": [4],
        "stated": ["3.material.metal", "4.color.blue"],
    }
    path = tmp_path / "labels"
    other = json.dumps({**row, "id": "b-1"}, ensure_ascii=False)
    path.write_text(json.dumps(row) + "\n" + other + "\n", "utf-8")
    (labelled,) = read_labelled(path, "b-")
    assert labelled.id == "b-1"
    assert [thing.index for thing in labelled.sample.initial.visible] == [3, 4]
    assert labelled.sample.initial.objects[4].describe() == "large red glass sphere"
    figures = validate(path, "a-")
    assert figures["order"] == 0
    assert (figures["mentioned"]["precision"], figures["mentioned"]["recall"]) == (1, 1)
    assert (figures["compared"]["precision"], figures["compared"]["recall"]) == (0.5, 1)
    assert (figures["corresponding"]["precision"], figures["corresponding"]["recall"]) == (None, 0)
    assert (figures["stated"]["precision"], figures["stated"]["recall"]) == (1, 0.5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", ":1: no labelled"),
        ('{"id": 3}', ":1: no labelled"),
        ('{"id": "a"}', ":1: no labelled"),
        ("\n" + "[" * 100_000, ":2: no labelled"),
    ],
)
def test_a_broken_line_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "labels"
    path.write_text(text)
    with pytest.raises(UserError) as error:
        read_labelled(path)
    assert f"{path}{message}" in str(error.value)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No such file"):
        read_labelled(tmp_path / "none")
