"""The plan: as balanced as TRANCE, and possible as far as one can tell without a scene."""

from collections import Counter
from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from star_r1.tvr.plan import BLOCK, Plan, draw_balanced, plan_samples
from star_r1.tvr.vocabulary import ATTRIBUTES, STANDARD, TRANCE, Vocabulary

ATTRIBUTE_SETS = [("color", "shape"), ("size",), ("position",), ("material", "position")]
SETTINGS = [
    STANDARD,
    TRANCE,
    *(Vocabulary(attributes=attributes) for attributes in ATTRIBUTE_SETS),
    Vocabulary(colors={"pink": (255, 0, 99), "mint": (0, 255, 99)}, attributes=("color",)),
]


def planned(
    seed: int,
    samples: int,
    vocabulary: Vocabulary,
    visible: tuple[int, int] = (1, 10),
    changes: tuple[int, int] = (1, 4),
) -> tuple[Plan, ...]:
    rng = np.random.default_rng(seed)
    return plan_samples(rng, samples, visible, changes, vocabulary)


def assert_possible(plan: Plan, vocabulary: Vocabulary) -> None:
    visible, values = set(plan.visible), dict[tuple[int, str], str]()
    for step in plan.steps:
        vocabulary.check(step.attribute, step.value)
        assert step.attribute in vocabulary.attributes
        changed = {index for index, _ in values}
        slot = step.index, step.attribute
        if step.attribute == "position":
            assert (step.index in visible) == (step.type != "in")
            assert step.type != "out" or step.index not in changed
            visible = visible - {step.index} if step.type == "out" else visible | {step.index}
        else:
            assert step.type is None
            assert step.index in visible
            assert values.get(slot) != step.value
            assert "position" in vocabulary.attributes or slot not in values
        values[slot] = step.value


def spread(counts: Counter[object]) -> int:
    return max(counts.values()) - min(counts.values())


@pytest.mark.parametrize("vocabulary", [STANDARD, TRANCE], ids=["standard", "trance"])
def test_a_block_is_balanced(vocabulary: Vocabulary) -> None:
    plans = planned(0, BLOCK, vocabulary)
    steps = [step for plan in plans for step in plan.steps]
    assert spread(Counter(len(plan.visible) for plan in plans)) <= 6
    assert spread(Counter(len(plan.steps) for plan in plans)) <= 6
    assert spread(Counter(step.index for step in steps)) <= 5
    values = Counter((step.attribute, step.value) for step in steps)
    assert len(values) == sum(map(len, vocabulary.grammar.values()))
    assert spread(values) <= 4
    types = Counter(step.type for step in steps if step.type)
    assert not types or (len(types) == 3 and spread(types) <= 0.05 * types.total())
    shown = Counter(index for plan in plans for index in plan.visible)
    assert spread(shown) < 0.15 * BLOCK


def test_counts_look_back_over_the_values_before() -> None:
    following = Counter(
        pair
        for plan in planned(1, BLOCK, TRANCE)
        for pair in pairwise((step.attribute, step.value) for step in plan.steps)
    )
    # 1500 pairs over 33 x 33: by chance 275 would be missing, and one or another come 6 times.
    assert len(following) > 1000
    assert max(following.values()) <= 4


def test_the_beginning_of_a_block_is_balanced_too() -> None:
    plans = planned(2, 100, TRANCE)
    assert spread(Counter(len(plan.visible) for plan in plans)) <= 6
    assert spread(Counter(len(plan.steps) for plan in plans)) <= 6


@pytest.mark.parametrize("vocabulary", SETTINGS, ids=lambda v: ",".join(v.attributes))
def test_every_number_of_objects_and_changes_can_be_planned(vocabulary: Vocabulary) -> None:
    for visible, changes in product(range(1, 11), range(1, 5)):
        if "position" not in vocabulary.attributes:
            changes = min(changes, visible * len(vocabulary.attributes))
        for plan in planned(visible, 4, vocabulary, (visible,) * 2, (changes,) * 2):
            assert len(plan.visible) == visible
            assert len(plan.steps) == changes
            assert_possible(plan, vocabulary)


@settings(max_examples=25)
@given(
    seed=st.integers(0, 10**6),
    few=st.integers(1, 10),
    more=st.integers(0, 9),
    fewest=st.integers(1, 8),
    most=st.integers(1, 8),
    attributes=st.sets(st.sampled_from([*ATTRIBUTES, "position"]), min_size=1),
)
def test_plans_are_possible(
    seed: int, few: int, more: int, fewest: int, most: int, attributes: set[str]
) -> None:
    vocabulary = Vocabulary(attributes=tuple(sorted(attributes)))
    visible = few, min(few + more, 10)
    slots = 8 if "position" in attributes else few * len(attributes)
    changes = min(fewest, most, slots), min(max(fewest, most), slots)
    for plan in planned(seed, 10, vocabulary, visible, changes):
        assert visible[0] <= len(plan.visible) <= visible[1]
        assert changes[0] <= len(plan.steps) <= changes[1]
        assert_possible(plan, vocabulary)


def test_four_changes_of_one_object_take_each_attribute_once() -> None:
    for plan in planned(3, 20, STANDARD, (1, 1), (4, 4)):
        assert sorted(step.attribute for step in plan.steps) == sorted(ATTRIBUTES)


def test_few_move_into_a_crowd() -> None:
    plans = planned(4, BLOCK, TRANCE)
    into = Counter(len(p.visible) for p in plans for step in p.steps if step.type == "in")
    assert into[1] + into[2] > 6 * (into[8] + into[9])
    assert into[8] + into[9] > 0


@pytest.mark.parametrize(
    ("top", "tried", "expected"),
    [
        # Weights: the most frequent that may be drawn, less the count, and 0.1.
        (None, [], {"a": 2.1, "b": 5.1, "c": 0.1, "d": 5.1}),
        (2, [], {"b": 0.1, "d": 0.1}),
        (3, [], {"a": 0.1, "b": 3.1, "d": 3.1}),
        (3, ["b"], {"a": 0.1, "d": 3.1}),
        (None, ["a", "b", "d"], {"c": 0.1}),
    ],
)
def test_what_is_rare_is_drawn_more(
    top: int | None, tried: list[str], expected: dict[str, float]
) -> None:
    rng, counts = np.random.default_rng(0), {"a": 3, "b": 0, "c": 5, "d": 0}
    drawn = Counter(draw_balanced(rng, counts, top, tried) for _ in range(4000))
    assert drawn.keys() <= expected.keys()
    for key, weight in expected.items():
        share = weight / sum(expected.values())
        assert drawn[key] / 4000 == pytest.approx(share, abs=0.03)


def test_nothing_is_left_to_draw() -> None:
    assert draw_balanced(np.random.default_rng(0), {"a": 0, "b": 1}, 1, ["a"]) is None
