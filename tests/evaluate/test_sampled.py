from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from star_r1.evaluate.sampled import SampledTally, pass_at, pass_sizes, vote
from star_r1.tvr.answer import Answer, parse_answer
from star_r1.tvr.change import parse_changes
from star_r1.tvr.sample import Sample
from star_r1.tvr.scene import Object, Scene
from star_r1.tvr.vocabulary import TRANCE


def said(text: str) -> Answer:
    return parse_answer(f"<answer>{text}</answer>", TRANCE)


@pytest.mark.parametrize(
    ("answers", "sizes"),
    [(1, (1,)), (2, (1, 2)), (3, (1, 2, 3)), (5, (1, 2, 4, 5)), (16, (1, 2, 4, 8, 16))],
)
def test_sizes_are_powers_of_two_and_all(answers: int, sizes: tuple[int, ...]) -> None:
    assert pass_sizes(answers) == sizes


@given(st.lists(st.booleans(), min_size=1, max_size=8), st.data())
def test_pass_at_k_is_the_share_of_subsets_with_a_right_answer(
    correct: list[bool], data: st.DataObject
) -> None:
    k = data.draw(st.integers(1, len(correct)))
    subsets = list(combinations(correct, k))
    share = sum(map(any, subsets)) / len(subsets)
    assert pass_at(k, sum(correct), len(correct)) == pytest.approx(share)


@pytest.mark.parametrize(
    ("answers", "winner"),
    [
        (["2.color.red"], 0),
        (["2.color.red", "2.color.cyan", "2.color.cyan"], 1),
        # Ties go to the earliest.
        (["2.color.red", "2.color.cyan"], 0),
        (["none", "2.color.red", "2.color.cyan", "2.color.red", "2.color.cyan"], 1),
        # The order of changes, spelling and repeats of looks are not looked at.
        (["1.size.large", "2.color.gray, 1.size.small", "1.size.small; 2.Colour.Grey"], 1),
        (["1.size.large", "2.color.red, 2.color.red", "2.color.red"], 1),
        # A move said twice is another answer than one said once.
        (["2.position.left.1, 2.position.left.1", "2.position.left.1", "2.position.left.1"], 1),
        (["1.color.red", *["0.position.left.1, 1.position.left.2"] * 2], 1),
        # Invalid items agree with nobody, not even with themselves.
        (["2.color.red", "2.color.pink", "2.color.pink"], 0),
        (["2.color.pink", "2.color.red", "2.color.red, 2.color.pink"], 0),
        (["2.color.pink", "2.color.red", "2.color.red"], 1),
        # To say nothing is an answer like others.
        (["2.color.red", "none", ""], 1),
    ],
)
def test_votes_by_hand(answers: list[str], winner: int) -> None:
    assert vote([said(text) for text in answers]) == winner


@given(st.lists(st.sampled_from(["2.color.red", "2.color.cyan", "none", "?"]), min_size=1))
def test_a_vote_has_the_most_votes(texts: list[str]) -> None:
    winner = vote([said(text) for text in texts])
    most = max(1 if text == "?" else texts.count(text) for text in texts)
    assert (1 if texts[winner] == "?" else texts.count(texts[winner])) == most


def test_scores_by_hand() -> None:
    objects = [Object(i, "red", "cube", "small", "metal", (8 * i - 36, 0)) for i in range(10)]
    center = Sample("0-center", Scene(tuple(objects)), parse_changes("2.color.cyan"))
    tally = SampledTally(3)
    right, wrong = said("2.color.cyan"), said("2.color.blue")
    tally.add(center, [wrong, right, right], [False, True, True])
    tally.add(center.seen_from("left"), [wrong, right, wrong], [False, True, False])
    scores = tally.scores()
    values = {
        group: {metric: measured["value"] for metric, measured in metrics.items()}
        for group, metrics in scores.items()
    }
    assert values["overall"] == pytest.approx(
        {"pass@1": 1 / 2, "pass@2": (1 + 2 / 3) / 2, "pass@3": 1, "majority": 1 / 2}
    )
    assert values["id"] == pytest.approx({"pass@1": 2 / 3, "pass@2": 1, "pass@3": 1, "majority": 1})
    assert values["ood"] == values["left"]
    assert scores["right"]["majority"] == {"value": None, "ci95": None, "n": 0, "scenes": 0}
    majority = scores["overall"]["majority"]
    assert (majority["value"], majority["n"], majority["scenes"]) == (0.5, 2, 1)
