"""The rival rewards, against values worked out by hand from their formulas."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from star_r1.reward import rivals
from star_r1.tvr.answer import Answer, parse_answer
from star_r1.tvr.change import parse_changes

TRUTH = parse_changes("2.color.cyan, 0.shape.cube")
RIVALS = [
    rivals.sparse,
    rivals.count_penalty,
    rivals.reason_rft_graded,
    rivals.reason_rft_full,
    rivals.reason_rft_penalty,
]


def said(text: str) -> Answer:
    return parse_answer(f"<think>.</think><answer>{text}</answer>")


# Without format: sparse, count penalty, Reason-RFT graded, full, penalty.
TABLE = {
    "both right": ("0.shape.cube, 2.color.cyan", (1, 10, 1, 1, 1)),
    "nothing": ("", (0, -2, 0, 0, 0)),
    "one right": ("2.color.cyan", (0, 5 - 1, 1 / 2, 1 / 2, 1 / 2)),
    "a repeat": (
        "2.color.cyan, 2.color.cyan, 0.shape.cube",
        # two unique of three predictions
        (1, 10 - 1, 2 / 3, 2 / 3, 2 / 3),
    ),
    "right attribute": ("2.color.cyan, 0.shape.sphere", (0, 6.5, 1.5 / 2, 1 / 2, 0.75 / 2)),
    "attribute and value": ("2.color.cyan, 7.shape.cube", (0, 5, 1.5 / 2, 1 / 2, 0.75 / 2)),
    "attribute alone": ("2.color.cyan, 7.shape.sphere", (0, 5, 1.25 / 2, 1 / 2, 0.5 / 2)),
    "index alone": ("2.color.cyan, 0.size.small", (0, 5.5, 1 / 2, 1 / 2, 1 / 2)),
    "invalid items": ("2.color.cyan, 0.shape.cube, ?, !", (0, 10 - 2, 2 / 4, 2 / 4, 2 / 4)),
    "a repeated invalid item": ("2.color.cyan, ?, ?", (0, 5 - 1, 2 / 3 / 2, 2 / 3 / 2, 2 / 3 / 2)),
    "more than enough": (
        "2.color.cyan, 0.shape.cube, 1.size.small, 1.size.large",
        (0, 10 - 2, 2 / 4, 2 / 4, 2 / 4),
    ),
    # 2.color.red takes the color change before 5.color.cyan can: index before value.
    "tiers in order": ("5.color.cyan, 2.color.red", (0, 1.5, 0.5 / 2, 0, -0.25 / 2)),
}


@pytest.mark.parametrize(("text", "expected"), TABLE.values(), ids=TABLE.keys())
def test_rewards_by_hand(text: str, expected: tuple[float, ...]) -> None:
    for rival, value in zip(RIVALS, expected, strict=True):
        assert rival(said(text), TRUTH) == pytest.approx(1 + value), rival.__name__
        # The same answer without a think block loses the format term alone.
        bare = parse_answer(f"<answer>{text}</answer>")
        assert rival(bare, TRUTH) == pytest.approx(value), rival.__name__


@pytest.mark.parametrize("rival", RIVALS, ids=lambda rival: rival.__name__)
@given(text=st.text(alphabet="02.colorshapecyanbe,; ", max_size=80))
def test_nothing_beats_the_truth(rival: rivals.Rival, text: str) -> None:
    perfect = rival(said("2.color.cyan, 0.shape.cube"), TRUTH)
    assert rival(said(text), TRUTH) <= perfect
