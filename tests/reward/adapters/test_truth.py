"""The packed ground truth: all that the columns say, in one text."""

import json
from typing import Any

import pytest

from star_r1.errors import UserError
from star_r1.reward.adapters.truth import pack, read, read_packed
from star_r1.tvr.change import Change
from star_r1.tvr.vocabulary import STANDARD, TRANCE, Vocabulary

OUT = Change(3, "position", "left.2", ("left.2", "front-left.2"))
PASTEL = Vocabulary(colors={"pink": (255, 180, 200), "mint": (170, 240, 200)})


def row(changes: list[Change], vocabulary: Vocabulary) -> dict[str, str]:
    """The columns of a dataset that ``pack`` reads."""
    return {
        "id": "000007-left",
        "answer": ", ".join(map(str, changes)),
        "changes": json.dumps([change.to_dict() for change in changes]),
        "vocabulary": vocabulary.to_json(),
    }


@pytest.mark.parametrize(
    ("changes", "vocabulary"),
    [
        ([], STANDARD),
        ([Change(2, "color", "cyan"), Change(0, "shape", "cube")], STANDARD),
        ([Change(1, "color", "mint")], PASTEL),
        ([Change(1, "size", "small"), OUT], TRANCE),
    ],
)
def test_says_what_the_columns_say(changes: list[Change], vocabulary: Vocabulary) -> None:
    columns = row(changes, vocabulary)
    completion = "<think>.</think><answer>1.color.mint, 3.position.front-left.2</answer>"
    packed = read_packed(completion, pack(columns))
    name = columns.pop("id")
    assert packed == read(completion, name, **columns)
    # Options do not count when changes are compared.
    assert [change.options for change in packed[1]] == [change.options for change in changes]


def test_plain_triplets_will_do() -> None:
    _, truth = read_packed("", "2.color.cyan, 0.shape.cube")
    assert truth == (Change(2, "color", "cyan"), Change(0, "shape", "cube"))


GOOD = json.loads(pack(row([OUT], TRANCE)))


@pytest.mark.parametrize(
    ("truth", "message"),
    [
        (None, "a sample: the ground truth is None "),
        (["2.color.cyan"], r"a sample: the ground truth is \['2.color.cyan'\] "),
        ("2.color.pink", "a sample: the ground truth is '2.color.pink' "),
        ("{", "a sample: the ground truth is '{' "),
        ("{}", r"a sample: the ground truth is '{}' \(no 'id'\)"),
        ({**GOOD, "changes": 5}, "sample 000007-left: the ground truth is "),
        ({**GOOD, "changes": [5]}, "not a change"),
        ({**GOOD, "vocabulary": {"colours": {}}}, "sample 000007-left: .*'colours' is not one of"),
        ({**GOOD, "vocabulary": None}, "sample 000007-left: .*not a mapping"),
        ("[" * 100_000, "a sample: the ground truth is "),
        ('{"a":' * 100_000, "a sample: the ground truth is "),
    ],
)
def test_what_is_no_truth_is_said_in_one_line(truth: Any, message: str) -> None:
    text = json.dumps(truth) if isinstance(truth, dict) else truth
    with pytest.raises(UserError, match=message) as caught:
        read_packed("", text)
    assert len(str(caught.value)) < 400
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="sample 000001-top: the ground truth is "):
        read_packed("", text, "sample 000001-top")
