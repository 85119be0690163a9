"""TRANCE's metrics, against hand-computed cases and the real samples beside the repository."""

import random
from collections.abc import Sequence
from itertools import permutations

import pytest

from star_r1.errors import UserError
from star_r1.metrics import Scores
from star_r1.trance_metrics import BASIC_METRICS, METRICS, SETTINGS, Setting, score_trance
from star_r1.tvr.answer import Answer, parse_answer
from star_r1.tvr.change import Change, format_changes, parse_changes
from star_r1.tvr.sample import Sample
from star_r1.tvr.scene import STANDARD_RIG, Object, Rig, Scene
from star_r1.tvr.simulate import order_sensitive, simulate
from star_r1.tvr.vocabulary import TRANCE, camera_position

RIG = Rig(
    {**STANDARD_RIG.cameras, "top": camera_position("top"), "az200": camera_position("az200")},
    STANDARD_RIG.lamps,
)


def scene() -> Scene:
    """Small red metal cubes: 0 and 1 in sight, five cells from each other's outlines."""
    places = [(0, -5), (0, 4), *((-40, 8 * i - 36) for i in range(8))]
    things = (Object(i, "red", "cube", "small", "metal", place) for i, place in enumerate(places))
    return Scene(tuple(things), TRANCE)


def sample(truth: str | tuple[Change, ...], view: str = "center") -> Sample:
    changes = parse_changes(truth, TRANCE) if isinstance(truth, str) else truth
    return Sample(f"000000-{view}", scene(), changes, view, RIG)


def said(text: str | Sequence[Change]) -> Answer:
    text = text if isinstance(text, str) else format_changes(text)
    return parse_answer(f"<think>.</think><answer>{text}</answer>", TRANCE)


def values(scores: Scores, group: str = "overall") -> dict[str, float | None]:
    return {metric: measured["value"] for metric, measured in scores[group].items()}


OUT = Change(0, "position", "left.2", ("left.2", "front-left.2", "behind-left.2"))
AROUND = "1.position.behind.1, 0.position.right.1"
"""Object 1 makes way for object 0: the other way round they meet."""


@pytest.mark.parametrize(
    ("truth", "answer", "right"),
    [
        ("0.color.cyan", "0.color.cyan", (1, 1, 1, 1)),
        ("0.color.cyan", "1.color.cyan", (0, 1, 1, 0)),
        ("0.color.cyan", "0.color.blue", (1, 1, 0, 0)),
        ("0.color.cyan", "0.shape.sphere", (1, 0, 0, 0)),
        ("0.color.cyan", "1.shape.sphere", (0, 0, 0, 0)),
        # The first prediction counts, whatever follows.
        ("0.color.cyan", "0.color.cyan, 1.size.large, ?", (1, 1, 1, 1)),
        ("0.color.cyan", "1.color.blue, 0.color.cyan", (0, 1, 0, 0)),
        ("0.color.cyan", "?, 0.color.cyan", (0, 0, 0, 0)),
        ("0.color.cyan", "none", (0, 0, 0, 0)),
        ("0.position.right.1", "0.position.right.1", (1, 1, 1, 1)),
        ("0.position.right.1", "0.position.right.2", (1, 1, 0, 0)),
        # Any option of a move out of sight, of the right object or not.
        ((OUT,), "0.position.left.2", (1, 1, 1, 1)),
        ((OUT,), "0.position.front-left.2", (1, 1, 1, 1)),
        ((OUT,), "1.position.front-left.2", (0, 1, 1, 0)),
        ((OUT,), "0.position.left.1", (1, 1, 0, 0)),
    ],
)
def test_basic_by_hand(
    truth: str | tuple[Change, ...], answer: str, right: tuple[float, ...]
) -> None:
    scores = score_trance([(said(answer), sample(truth))], "basic")
    assert tuple(values(scores).values()) == right


@pytest.mark.parametrize(
    ("truth", "answer", "expected"),
    [
        # AD, AND, LAcc, Acc, err_overlap, err_out, avg_step_diff, EO
        (AROUND, AROUND, (0, 0, 1, 1, 0, 0, 0, 0)),
        # In the wrong order they arrive all the same: LAcc, not Acc.
        (AROUND, "0.position.right.1, 1.position.behind.1", (0, 0, 1, 0, 1, 0, 0, 1)),
        (AROUND, "0.position.right.1", (1, 0.5, 0, 0, 1, 0, -1, None)),
        (AROUND, "none", (2, 1, 0, 0, 0, 0, -2, None)),
        # A detour is as good ...
        (AROUND, f"{AROUND}, 0.color.blue, 0.color.red", (0, 0, 1, 1, 0, 0, 2, 0)),
        # ... unless it leads over the edge.
        (
            "0.color.blue",
            "0.color.blue, 0.position.left.2, 0.position.left.2, 0.position.right.2,"
            " 0.position.right.2",
            (0, 0, 1, 0, 0, 1, 4, None),
        ),
        # An invalid prediction is no step; for STAR-R1's TAcc the answer would be wrong.
        ("0.color.blue", "?, 0.color.blue", (0, 0, 1, 1, 0, 0, 0, None)),
        (
            "0.color.blue",
            "0.color.green, 1.size.large, 1.shape.sphere",
            (3, 3, 0, 0, 0, 0, 2, None),
        ),
        ((OUT,), "0.position.front-left.2", (0, 0, 1, 1, 0, 0, 0, None)),
        ((OUT,), "0.position.left.1, 0.position.left.1", (0, 0, 1, 1, 0, 0, 1, None)),
    ],
)
@pytest.mark.parametrize("setting", ["event", "view"])
def test_event_and_view_by_hand(
    setting: Setting,
    truth: str | tuple[Change, ...],
    answer: str,
    expected: tuple[float | None, ...],
) -> None:
    scores = score_trance([(said(answer), sample(truth))], setting)
    assert tuple(values(scores).values()) == expected
    assert values(scores, f"steps_{len(sample(truth).changes)}") == values(scores)


def test_each_setting_takes_its_samples() -> None:
    pairs = [
        (said("none"), sample(truth, view))
        for view, count in (("center", 1), ("left", 2), ("top", 4))
        for truth in ["0.color.blue", AROUND] * count
    ]
    taken = {setting: score_trance(pairs, setting) for setting in SETTINGS}
    counts = {
        setting: {group: metrics["Acc"]["n"] for group, metrics in scores.items()}
        for setting, scores in taken.items()
    }
    assert counts == {
        "basic": {"overall": 1},
        "event": {
            **{"overall": 2, "steps_1": 1, "steps_2": 1, "steps_3": 0, "steps_4": 0},
            "order_sensitive": 1,
        },
        "view": {
            **{"overall": 14, "center": 2, "left": 4, "right": 0, "top": 8},
            **{"steps_1": 7, "steps_2": 7, "steps_3": 0, "steps_4": 0},
            "order_sensitive": 7,
        },
    }
    assert tuple(taken["basic"]["overall"]) == BASIC_METRICS
    assert tuple(taken["event"]["overall"]) == tuple(taken["view"]["left"]) == METRICS


def test_means_over_samples_and_the_error_of_order() -> None:
    wrong_order = "0.position.right.1, 1.position.behind.1"
    pairs = [
        (said(AROUND), sample(AROUND)),
        (said(wrong_order), sample(AROUND)),
        (said(wrong_order), sample(AROUND)),
        (said("none"), sample(AROUND)),
        (said("0.color.blue"), sample("0.color.cyan")),
    ]
    scores = score_trance(pairs, "event")
    assert values(scores) == pytest.approx(
        {
            "AD": (2 + 1) / 5,
            "AND": (1 + 1) / 5,
            "LAcc": 3 / 5,
            "Acc": 1 / 5,
            "err_overlap": 2 / 5,
            "err_out": 0,
            "avg_step_diff": -2 / 5,
            "EO": 2 / 3,
        }
    )
    order = values(scores, "order_sensitive")
    assert order["LAcc"] is not None
    assert order["Acc"] is not None
    assert order["EO"] == pytest.approx((order["LAcc"] - order["Acc"]) / order["LAcc"])
    assert scores["steps_1"]["EO"] == {"value": None, "ci95": None, "n": 0, "scenes": 0}


def test_more_changes_than_in_trance_are_groups_too() -> None:
    truth = "0.color.blue, 0.shape.sphere, 0.size.large, 1.color.blue, 1.shape.sphere"
    scores = score_trance([(said(truth), sample(truth))], "event")
    assert list(scores)[1:] == [*(f"steps_{n}" for n in range(1, 6)), "order_sensitive"]
    assert scores["steps_5"]["Acc"]["value"] == 1


def test_intervals_are_by_scenes() -> None:
    truths = [f"{n}.color.blue" for n in range(5)]
    pairs = [
        (said(truth if n % 2 else "none"), sample(truth, view))
        for n, truth in enumerate(truths)
        for view in ("center", "left", "top")
    ]
    event, view = (score_trance(pairs, setting)["overall"]["Acc"] for setting in ("event", "view"))
    assert (event["n"], event["scenes"], view["n"], view["scenes"]) == (5, 5, 15, 5)
    assert event["ci95"] == pytest.approx(view["ci95"])
    assert event["ci95"] == pytest.approx([0.0527, 0.8534], abs=1e-4)  # Clopper-Pearson, 2 of 5


@pytest.mark.parametrize("setting", SETTINGS)
def test_no_samples_give_null(setting: Setting) -> None:
    nothing = {"value": None, "ci95": None, "n": 0, "scenes": 0}
    scores = score_trance([], setting)
    assert scores["overall"] == dict.fromkeys(scores["overall"], nothing)


def test_an_unknown_setting() -> None:
    with pytest.raises(UserError, match="TRANCE setting 'hard': choose basic, event, view"):
        score_trance([], "hard")  # type: ignore[arg-type]


def test_real_samples_answered_rightly(real_samples: list[tuple[Sample, Scene]]) -> None:
    samples = [
        one.seen_from(view) for one, _ in real_samples for view in ("center", "left", "right")
    ]
    pairs = [(said(one.changes), one) for one in samples]
    basic = score_trance(pairs, "basic")["overall"]
    single = sum(len(one.changes) == 1 for one, _ in real_samples)
    assert {m["n"] for m in basic.values()} == {single}
    assert {m["value"] for m in basic.values()} == {1.0}
    for setting, rows in (("event", 40), ("view", 120)):
        scores = score_trance(pairs, setting)  # type: ignore[arg-type]
        assert scores["overall"]["Acc"]["n"] == rows
        for group in scores:
            if scores[group]["Acc"]["n"]:
                assert values(scores, group) == {
                    **{"AD": 0, "AND": 0, "LAcc": 1, "Acc": 1},
                    **{"err_overlap": 0, "err_out": 0, "avg_step_diff": 0},
                    "EO": 0 if scores[group]["EO"]["n"] else None,
                }, (setting, group)


def test_the_order_of_a_real_sample_matters_to_acc_alone(
    real_samples: list[tuple[Sample, Scene]],
) -> None:
    """As TRANCE's check with shuffled references: LAcc stays 1, Acc does not."""
    sensitive = [one for one, _ in real_samples if order_sensitive(one)]
    pairs = []
    for one in sensitive:
        orders = list(permutations(one.changes))
        random.Random(0).shuffle(orders)
        wrong = next(order for order in orders if not simulate(one.initial, order).legal)
        pairs.append((said(wrong), one))
    scores = score_trance(pairs, "event")
    assert scores["order_sensitive"] == {**scores["overall"]}
    assert values(scores, "order_sensitive")["LAcc"] == 1
    assert values(scores, "order_sensitive")["Acc"] == 0
    assert values(scores, "order_sensitive")["EO"] == 1
