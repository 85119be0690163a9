"""Every term as a number, whatever is trained on."""

from typing import Any

import pytest

from star_r1.errors import UserError
from star_r1.reward.adapters.score import RIVALS, TERMS, score
from star_r1.reward.adapters.trl import REWARDS
from star_r1.tvr.answer import parse_answer
from star_r1.tvr.change import parse_changes

TRUTH = parse_changes("2.color.cyan, 0.shape.cube, 5.size.small")
SAID = parse_answer("<think>.</think><answer>2.color.cyan, 0.shape.cone, 7.size.big</answer>")


def test_the_terms_add_up_to_the_score() -> None:
    scored = score(SAID, TRUTH)
    assert scored == {
        "score": 4.0,
        **{"format": 1.0, "exact": 5.0, "attribute": 0.0, "object": 0.0},
        **{"wrong": -2.0, "missing": 0.0},
        **{"right": 0.0, "well_formed": 1.0, "predictions": 3.0},
    }
    assert sum(scored[term] for term in TERMS) == scored["score"]
    assert {type(value) for value in scored.values()} == {float}


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [({"exact": 0}, 0.5), ({"wrong": 0}, 6.0), ({"format": 0, "wrong": 0.5}, 4.0)],
)
def test_an_ablation_is_a_number(numbers: dict[str, Any], expected: float) -> None:
    assert score(SAID, TRUTH, **numbers)["score"] == expected


@pytest.mark.parametrize("name", RIVALS)
def test_a_rival_is_trained_on_and_the_terms_still_logged(name: str) -> None:
    scored = score(SAID, TRUTH, name)
    assert scored["score"] == RIVALS[name](SAID, TRUTH) != score(SAID, TRUTH)["score"]
    assert scored["exact"] == 5.0


def test_the_names_are_those_of_the_recipes() -> None:
    assert ["star", *RIVALS] == list(REWARDS)


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"objekt": 0}, "star reward: no number 'objekt'; it has format, exact, "),
        ({"object": -1}, "star reward: object is -1; give a number of 0 or more"),
        ({"object": "0"}, "star reward: object is '0'"),
        ({"matching": "best"}, "star reward: matching is 'best'"),
        ({"reward": "dense"}, "reward 'dense': choose from star, sparse, "),
        ({"reward": "sparse", "object": 0}, "object: numbers of the star reward, not of sparse"),
    ],
)
def test_what_is_not_there_is_said(chosen: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        score(SAID, TRUTH, **chosen)
