"""The STAR reward: the table of the method, its terms, and what no answer can get out of it."""

from collections.abc import Sequence
from itertools import permutations, product
from random import Random
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.patience import patience

from star_r1.errors import UserError
from star_r1.reward.star import Match, Matching, Miss, Reward, StarConfig, star
from star_r1.tvr.answer import Answer, Prediction, parse_answer
from star_r1.tvr.change import Change, parse_changes
from star_r1.tvr.vocabulary import N_OBJECTS, TRANCE, VALUES

TRUTH = parse_changes("2.color.cyan, 0.shape.cube")
EVERY = [Change(i, a, v) for i in range(N_OBJECTS) for a, values in VALUES.items() for v in values]

READINGS: list[tuple[Matching, Miss]] = [
    ("independent", "inexact"),
    ("independent", "unmatched"),
    ("one-to-one", "inexact"),
    ("one-to-one", "unmatched"),
]


def said(text: str) -> Answer:
    return parse_answer(f"<think>.</think><answer>{text}</answer>")


def listed(changes: list[Change]) -> str:
    return ", ".join(map(str, changes))


VALUES_OF_RIGHT_ATTRIBUTES = [
    c for c in EVERY if (c.index, c.attribute) in [(2, "color"), (0, "shape")]
]
TRIPLETS_OF_RIGHT_OBJECTS = [c for c in EVERY if c.index in (0, 2)]

# R_acc (format left out) for the readings in the order of READINGS.
TABLE = {
    "both right": ("2.color.cyan, 0.shape.cube", (10.0, 10.0, 10.0, 10.0)),
    "nothing": ("none", (-2.0, -2.0, -2.0, -2.0)),
    "one right, nothing else": ("2.color.cyan", (4.0, 4.0, 4.0, 4.0)),
    "one right + right attribute": ("2.color.cyan, 0.shape.sphere", (5.5, 6.5, 5.5, 6.5)),
    "one right + right index only": ("2.color.cyan, 0.size.small", (4.5, 5.5, 4.5, 5.5)),
    "one right + a wrong object": ("2.color.cyan, 7.shape.cube", (4.0, 4.0, 4.0, 4.0)),
    "11 triplets": (listed(VALUES_OF_RIGHT_ATTRIBUTES), (14.5, 23.5, 1.0, 1.0)),
    "34 triplets": (listed(TRIPLETS_OF_RIGHT_OBJECTS), (3.0, 35.0, -22.0, -22.0)),
    "170 triplets": (listed(EVERY), (-133.0, -101.0, -158.0, -158.0)),
}


def test_the_enumerations_are_as_long_as_the_table_says() -> None:
    lengths = (len(VALUES_OF_RIGHT_ATTRIBUTES), len(TRIPLETS_OF_RIGHT_OBJECTS), len(EVERY))
    assert lengths == (11, 34, 170)


@pytest.mark.parametrize(("text", "expected"), TABLE.values(), ids=TABLE.keys())
def test_the_table_of_readings(text: str, expected: tuple[float, ...]) -> None:
    for (matching, miss), value in zip(READINGS, expected, strict=True):
        config = StarConfig(matching=matching, miss=miss)
        assert star(said(text), TRUTH, config).total - 1.0 == value
        assert star(said(text), TRUTH, StarConfig(0, matching=matching, miss=miss)).total == value


def test_the_default_is_one_to_one_and_unmatched() -> None:
    assert StarConfig() == StarConfig(1.0, 5.0, 1.5, 0.5, 1.0, 1.0, "one-to-one", "unmatched")


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        # format, exact, attribute, object, wrong, missing
        ("2.color.cyan, 0.shape.cube", (1, 10, 0, 0, 0, 0)),
        ("2.color.cyan, 0.shape.sphere", (1, 5, 1.5, 0, 0, 0)),
        ("2.color.cyan, 0.size.large", (1, 5, 0, 0.5, 0, 0)),
        ("2.color.cyan, 2.color.cyan", (1, 5, 0, 0, -1, 0)),
        ("2.color.cyan, 2.color.red", (1, 5, 0, 0, -1, 0)),
        ("2.color.cyan, ?, 0.shape.cone", (1, 5, 0, 0, -2, 0)),
        ("?", (1, 0, 0, 0, -1, -1)),
        ("", (1, 0, 0, 0, 0, -2)),
    ],
)
def test_terms(text: str, terms: tuple[float, ...]) -> None:
    reward = star(said(text), TRUTH)
    assert (
        reward.format,
        reward.exact,
        reward.attribute,
        reward.object,
        reward.wrong,
        reward.missing,
    ) == terms
    assert reward.positive == sum(terms[1:4])
    assert reward.total == sum(terms)
    assert list(reward.terms) == ["format", "positive", "wrong", "missing", "total"]
    assert "-0.0" not in map(str, reward.terms.values())


def test_a_broken_format_costs_the_format_term_alone() -> None:
    answer = parse_answer("<answer>2.color.cyan, 0.shape.cube</answer>")
    assert star(answer, TRUTH).terms == {
        "format": 0.0,
        "positive": 10.0,
        "wrong": 0.0,
        "missing": 0.0,
        "total": 10.0,
    }


@pytest.mark.parametrize(
    ("field", "text", "total"),
    [
        ("format", "2.color.cyan, 0.shape.cube", 10.0),
        ("exact", "2.color.cyan, 0.shape.cube", 4.0),
        ("attribute", "2.color.red, 0.shape.cube", 6.5),
        ("object", "2.size.small, 0.shape.cube", 5.0),
        ("wrong", "2.color.cyan, 0.shape.cube, 5.size.small, ?", 11.0),
        ("missing", "2.color.cyan", 6.0),
    ],
)
def test_each_ablation_is_one_changed_field(field: str, text: str, total: float) -> None:
    assert star(said(text), TRUTH, StarConfig(**{field: 0})).total == total
    assert star(said(text), TRUTH).total != total


def test_the_best_tier_is_matched_first_whatever_the_order() -> None:
    # In order of appearance alone, 2.size.large would take the color change from 2.color.cyan.
    texts = ("2.size.large", "2.color.red", "2.color.cyan")
    for order in permutations(texts):
        reward = star(said(", ".join(order)), parse_changes("2.color.cyan, 2.shape.cube"))
        fates = dict(zip(order, reward.fates, strict=True))
        assert fates["2.color.cyan"] == "exact"
        # The open change is 2.shape.cube: the first of the two others names its object.
        others = [text for text in order if text != "2.color.cyan"]
        assert [fates[text] for text in others] == ["object", "wrong"]
        assert reward.total == 1 + 5 + 0.5 - 1


def test_matches_name_the_prediction_of_each_true_change() -> None:
    reward = star(said("?, 0.shape.sphere, 2.color.cyan"), (*TRUTH, Change(5, "size", "small")))
    assert reward.fates == ("wrong", "attribute", "exact")
    assert reward.matches == (
        Match(TRUTH[0], 2, "exact"),
        Match(TRUTH[1], 1, "attribute"),
        Match(Change(5, "size", "small"), None, None),
    )


def test_true_changes_are_used_in_order_of_appearance() -> None:
    truth = parse_changes("2.color.cyan, 2.shape.cube")
    assert star(said("2.size.small"), truth).matches == (
        Match(truth[0], 0, "object"),
        Match(truth[1], None, None),
    )


def test_independent_matching_names_the_first_of_the_best_predictions() -> None:
    reward = star(
        said("2.size.small, 2.color.red, 2.color.cyan, 2.color.cyan"),
        TRUTH,
        StarConfig(matching="independent"),
    )
    assert reward.fates == ("object", "attribute", "exact", "exact")
    assert reward.matches == (Match(TRUTH[0], 2, "exact"), Match(TRUTH[1], None, None))
    assert reward.missing == 0


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"wrong": -1.0}, "wrong is -1.0"),
        ({"exact": float("nan")}, "exact is nan"),
        ({"format": float("inf")}, "format is inf"),
        ({"object": "0.5"}, "object is '0.5'"),
        ({"matching": "greedy"}, "matching is 'greedy'; choose one-to-one or independent"),
        ({"miss": "any"}, "miss is 'any'; choose unmatched or inexact"),
    ],
)
def test_a_config_that_makes_no_sense_is_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        StarConfig(**fields)


ABLATIONS: dict[str, dict[str, Any]] = {
    "default": {},
    **{f"no {name}": {name: 0} for name in ("exact", "attribute", "object", "wrong", "missing")},
    "exact alone": {"attribute": 0, "object": 0},
    "no tiers": {"exact": 0, "attribute": 0, "object": 0},
    "independent": {"matching": "independent"},
    "inexact": {"miss": "inexact"},
    "independent, inexact": {"matching": "independent", "miss": "inexact"},
    "independent, no attribute": {"matching": "independent", "attribute": 0},
    "inexact, no object": {"miss": "inexact", "object": 0},
    "upside down": {"exact": 1, "attribute": 2, "object": 3},
    "attribute least": {"attribute": 0.2},
    "all alike": {"exact": 1, "attribute": 1, "object": 1},
}


def best_by_hand(answer: Answer, truth: Sequence[Change], config: StarConfig) -> float:
    """The largest total of all matchings, and of all tiers that fit each pair."""
    tiers = (config.object, config.attribute, config.exact)
    said = [prediction.change for prediction in answer.predictions]

    def pay(one: Change | None, true: Change | None) -> float:
        """What a pair adds; a prediction without a partner costs a miss."""
        same = 0  # of index, attribute and value, from the first
        if one is not None and true is not None and one.index == true.index:
            same = 1 if one.attribute != true.attribute else 3 if true.accepts(one) else 2
        earned = max((worth for worth in tiers[:same]), default=0)
        hit = same == 3 if config.miss == "inexact" else True
        return earned - (0 if hit and earned else config.wrong)

    fewer = max(0, len(truth) - len(said))
    total = config.format * answer.well_formed - config.missing * fewer
    if config.matching == "independent":
        return total + sum(max(pay(one, true) for true in [*truth, None]) for one in said)

    def matched(first: int, left: tuple[Change, ...]) -> float:
        if first == len(said):
            return 0
        partners = [None, *range(len(left))]
        return max(
            pay(said[first], None if n is None else left[n])
            + matched(first + 1, left if n is None else left[:n] + left[n + 1 :])
            for n in partners
        )

    return total + matched(0, tuple(truth))


@pytest.mark.parametrize("numbers", ABLATIONS.values(), ids=ABLATIONS)
def test_no_matching_gives_more_under_any_numbers(numbers: dict[str, Any]) -> None:
    config, draw = StarConfig(**numbers), Random(0)
    few = [c for c in EVERY if c.index < 2 and c.attribute in ("size", "material", "shape")]
    for _ in range(1000):
        cells = draw.sample([(i, a) for i in (0, 1) for a in ("size", "material", "shape")], 3)
        truth = [draw.choice([c for c in few if (c.index, c.attribute) == at]) for at in cells]
        truth = truth[: draw.randint(1, 3)]
        near = draw.choices([*truth, *few, None], k=draw.randint(0, 5))
        answer = Answer("", tuple(Prediction(str(c), c) for c in near), True, None)
        reward = star(answer, truth, config)
        assert reward.total == pytest.approx(best_by_hand(answer, truth, config))
        check_story(reward, answer, truth, config)


@pytest.mark.parametrize("numbers", ABLATIONS.values(), ids=ABLATIONS)
def test_options_of_moves_may_overlap(numbers: dict[str, Any]) -> None:
    """Two true moves of one object may both end out of sight, by moves that serve for either."""
    config, draw = StarConfig(**numbers), Random(0)
    steps = ["front.1", "front.2", "behind.1", "left.2"]
    for _ in range(400):
        truth = []
        for _ in range(draw.randint(1, 3)):
            options = draw.sample(steps, draw.choice((0, 2, 3)))
            value = draw.choice(options or steps)
            truth.append(Change(draw.choice((0, 0, 1)), "position", value, tuple(options)))
        moves = [Change(i, "position", step) for i in (0, 0, 0, 1) for step in steps]
        near = draw.choices([*moves, Change(0, "size", "small"), None], k=draw.randint(0, 4))
        answer = Answer("", tuple(Prediction(str(c), c) for c in near), True, None)
        reward = star(answer, truth, config)
        assert reward.total == pytest.approx(best_by_hand(answer, truth, config))
        check_story(reward, answer, truth, config)
        all_exact = reward.fates == ("exact",) * len(truth)
        if not numbers:
            assert all_exact == answer.is_exactly(truth)


def check_story(
    reward: Reward, answer: Answer, truth: Sequence[Change], config: StarConfig
) -> None:
    """Fates, matches and terms say the same, and no tier that is worth nothing is among them."""
    for tier in ("exact", "attribute", "object"):
        assert getattr(reward, tier) == getattr(config, tier) * reward.fates.count(tier)
        assert tier not in reward.fates or getattr(config, tier) > 0
    assert [match.change for match in reward.matches] == list(truth)
    for match in reward.matches:
        if match.prediction is not None:
            assert reward.fates[match.prediction] == match.tier or config.matching != "one-to-one"
    if config.matching == "one-to-one":
        hits = [match.prediction for match in reward.matches if match.prediction is not None]
        assert len(hits) == len(set(hits)) == sum(fate != "wrong" for fate in reward.fates)
    if config.miss == "unmatched":
        assert reward.wrong == -config.wrong * reward.fates.count("wrong")


@pytest.mark.parametrize(
    ("numbers", "ranks"),
    [
        ({}, ["2.color.cyan", "2.color.red", "2.size.large", "none", "7.size.large"]),
        ({"attribute": 0}, ["2.color.cyan", "2.color.red = 2.size.large", "none"]),
        ({"object": 0}, ["2.color.cyan", "2.color.red", "none", "2.size.large = 7.size.large"]),
        ({"exact": 0}, ["2.color.cyan = 2.color.red", "2.size.large"]),
    ],
)
def test_ablations_rank_answers_as_one_expects(numbers: dict[str, Any], ranks: list[str]) -> None:
    truth = parse_changes("2.color.cyan")
    config = StarConfig(**numbers, missing=0)
    totals = [{star(said(t), truth, config).total for t in rank.split(" = ")} for rank in ranks]
    assert all(len(equal) == 1 for equal in totals)
    assert [max(equal) for equal in totals] == sorted(map(max, totals), reverse=True)
    assert len(set(map(max, totals))) == len(totals)


CHANGES = st.sampled_from(EVERY)
FEW_CHANGES = st.sampled_from([c for c in EVERY if c.index < 2 and c.attribute != "color"])
PREDICTIONS = st.one_of(CHANGES, FEW_CHANGES, st.none()).map(lambda c: Prediction(str(c), c))
ANSWERS = st.builds(
    lambda predictions, ok: Answer("", tuple(predictions), ok, None if ok else "no <think>"),
    st.lists(PREDICTIONS, max_size=12),
    st.booleans(),
)
TRUTHS = st.lists(
    st.one_of(CHANGES, FEW_CHANGES),
    min_size=1,
    max_size=4,
    unique_by=lambda change: (change.index, change.attribute),
)


@given(ANSWERS, TRUTHS)
def test_nothing_beats_the_perfect_answer(answer: Answer, truth: list[Change]) -> None:
    best = 1 + 5 * len(truth)
    total = star(answer, truth).total
    assert total <= best
    if total == best:
        assert answer.is_exactly(truth)
        assert len(answer.predictions) == len(truth)


@given(ANSWERS, TRUTHS)
def test_matches_and_fates_tell_the_same_story(answer: Answer, truth: list[Change]) -> None:
    reward = star(answer, truth)
    matched = {m.prediction: m.tier for m in reward.matches if m.prediction is not None}
    assert len(matched) == sum(match.tier is not None for match in reward.matches)
    assert [matched.get(i, "wrong") for i in range(len(reward.fates))] == list(reward.fates)
    assert [match.change for match in reward.matches] == truth
    assert reward.wrong == -reward.fates.count("wrong")
    assert reward.missing == -max(0, len(truth) - len(answer.predictions))


@given(ANSWERS, TRUTHS)
def test_an_extra_prediction_never_pays_once_there_are_enough(
    answer: Answer, truth: list[Change]
) -> None:
    """Enumerating is closed: with every change matched exactly, more text only costs."""
    perfect = tuple(Prediction(str(change), change) for change in truth)
    longer = Answer("", perfect + answer.predictions, True, None)
    assert star(longer, truth).total == 1 + 5 * len(truth) - len(answer.predictions)


@given(ANSWERS, TRUTHS)
def test_readings_differ_in_one_direction(answer: Answer, truth: list[Change]) -> None:
    totals = {
        (matching, miss): star(answer, truth, StarConfig(matching=matching, miss=miss)).total
        for matching, miss in product(get_args(Matching), get_args(Miss))
    }
    for matching in get_args(Matching):
        assert totals[matching, "inexact"] <= totals[matching, "unmatched"]
    for miss in get_args(Miss):
        assert totals["one-to-one", miss] <= totals["independent", miss]


@given(st.text(), TRUTHS)
def test_any_text_has_a_reward(text: str, truth: list[Change]) -> None:
    reward = star(parse_answer(f"<answer>{text}</answer>"), truth)
    assert reward.total <= 5 * len(truth)


@pytest.mark.parametrize("matching", get_args(Matching))
@pytest.mark.parametrize(
    "item", ["2.color.cyan,", "2.color.red,", "2.size.small,", "9.size.small,", "1,"]
)
def test_a_hundred_thousand_predictions_cost_linear_time(item: str, matching: Matching) -> None:
    answer = said(item * 100_000)
    with patience():
        reward = star(answer, TRUTH, StarConfig(matching=matching))
    assert len(reward.fates) == 100_000


OUT = Change(3, "position", "left.2", ("left.1", "left.2", "front-left.2"))


@pytest.mark.parametrize(
    ("truth", "text", "fates"),
    [
        ([OUT], "3.position.front-left.2", ("exact",)),
        ([OUT], "3.position.left.2, 3.position.left.1", ("exact", "wrong")),
        ([OUT], "3.position.right.1", ("attribute",)),
        ([OUT], "3.color.red", ("object",)),
        # What is an option of one move and another move itself is taken for the latter.
        (
            [OUT, Change(3, "position", "left.1")],
            "3.position.left.1, 3.position.front-left.2",
            ("exact", "exact"),
        ),
        (
            [Change(1, "position", "left.1")] * 2,
            "1.position.left.1, 1.position.left.1, 1.position.left.1",
            ("exact", "exact", "wrong"),
        ),
    ],
)
def test_moves(truth: list[Change], text: str, fates: tuple[str, ...]) -> None:
    assert star(parse_answer(f"<answer>{text}</answer>", TRANCE), truth).fates == fates
