"""The 11 metrics, against hand-computed cases and what must hold for any answers."""

from dataclasses import replace
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from star_r1.intervals import COUNT, SHARE, mean_by_scene
from star_r1.metrics import (
    BOUNDS,
    GROUPS,
    METRICS,
    Judged,
    Rows,
    Tally,
    _compare_looks,
    _compare_moves,
    group_views,
    judge,
    measure,
    score,
)
from star_r1.tvr.answer import Answer, parse_answer
from star_r1.tvr.change import (
    Change,
    difference,
    format_changes,
    parse_changes,
    replay,
)
from star_r1.tvr.sample import Sample
from star_r1.tvr.scene import STANDARD_RIG, Object, Rig, Scene
from star_r1.tvr.vocabulary import ATTRIBUTES, TRANCE, VALUES, VIEWS, camera_position


def scene(visible: int) -> Scene:
    """Ten small red metal cubes, the first ``visible`` of them in sight."""
    places = [(0 if i < visible else 40, 4 * i - 18) for i in range(10)]
    return Scene(tuple(Object(i, "red", "cube", "small", "metal", p) for i, p in enumerate(places)))


def sample(truth: str, view: str = "center", visible: int = 5) -> Sample:
    return Sample(f"000000-{view}", scene(visible), parse_changes(truth), view)


def said(text: str) -> Answer:
    return parse_answer(f"<think>.</think><answer>{text}</answer>")


TRUTH = "2.color.cyan, 2.shape.sphere, 0.size.large, 1.color.blue"


@pytest.mark.parametrize(
    ("text", "correct", "diff", "by_attribute"),
    [
        (TRUTH, True, 0, (True, True, True, None)),
        (
            "1.color.blue, 0.size.large, 2.shape.sphere, 2.color.cyan",
            True,
            0,
            (True, True, True, None),
        ),
        (f"{TRUTH}, 2.color.cyan", True, 0, (True, True, True, None)),
        ("none", False, 4, (False, False, False, None)),
        ("2.color.cyan, 1.color.blue", False, 2, (True, False, False, None)),
        # A wrong value in a cell that changed is still one cell.
        (TRUTH.replace("cyan", "green"), False, 1, (False, True, True, None)),
        # A cell that did not change, on a visible object and on a hidden one.
        (f"{TRUTH}, 3.material.glass", False, 1, (True, True, True, None)),
        (f"{TRUTH}, 9.color.gray", False, 1, (False, True, True, None)),
        # To set a value that the object already has changes nothing, but was not asked for.
        (f"{TRUTH}, 3.color.red", False, 0, (False, True, True, None)),
        # The later of two predictions for one cell counts in the replay.
        (f"2.color.green, {TRUTH}", False, 0, (False, True, True, None)),
        (f"{TRUTH}, 2.color.green", False, 1, (False, True, True, None)),
        # An invalid item makes the sample wrong; the replay skips it.
        (f"{TRUTH}, 2.color.pink", False, 0, (True, True, True, None)),
        ("?", False, 4, (False, False, False, None)),
    ],
)
def test_judge_by_hand(
    text: str, correct: bool, diff: int, by_attribute: tuple[bool | None, ...]
) -> None:
    expected = Judged(correct, diff, diff / 4, dict(zip(ATTRIBUTES, by_attribute, strict=True)))
    assert judge(said(text), sample(TRUTH)) == expected


def test_ndiff_is_not_clipped() -> None:
    judged = judge(said("0.color.blue, 1.color.blue, 2.color.blue"), sample("4.size.large"))
    assert (judged.diff, judged.ndiff) == (4, 4.0)


def test_a_sample_without_changes_has_a_score() -> None:
    assert judge(said("none"), sample("none")) == Judged(True, 0, 0.0, dict.fromkeys(ATTRIBUTES))
    assert judge(said("1.color.blue"), sample("none")).ndiff == 1.0


def test_scores_by_hand() -> None:
    pairs = [
        (said("2.color.cyan"), sample("2.color.cyan", "center", 3)),
        (said("none"), sample("2.color.cyan, 1.shape.sphere", "center", 4)),
        (said("2.color.blue"), sample("2.color.cyan", "left", 7)),
        (said("1.size.large"), sample("1.size.large", "left", 8)),
        (said("1.shape.sphere, 0.color.gray"), sample("1.shape.sphere", "right", 10)),
    ]
    scores = score(pairs)
    values = {group: {m: scores[group][m]["value"] for m in METRICS} for group in GROUPS}
    assert values["overall"] == pytest.approx(
        {
            "tacc": 2 / 5,
            "diff": (0 + 2 + 1 + 0 + 1) / 5,
            "ndiff": (0 + 1 + 1 + 0 + 1) / 5,
            "color": 1 / 3,
            "shape": 1 / 2,
            "size": 1.0,
            "material": None,
            "objects_1_3": 1.0,
            "objects_4_6": 0.0,
            "objects_7_8": 1 / 2,
            "objects_9_10": 0.0,
        }
    )
    assert {m: scores["overall"][m]["n"] for m in METRICS} == {
        "tacc": 5,
        "diff": 5,
        "ndiff": 5,
        "color": 3,
        "shape": 2,
        "size": 1,
        "material": 0,
        "objects_1_3": 1,
        "objects_4_6": 1,
        "objects_7_8": 2,
        "objects_9_10": 1,
    }
    assert [values[group]["tacc"] for group in GROUPS] == pytest.approx(
        [0.4, 0.5, 0.5, 0, 0.5, 1 / 3]
    )
    assert [values[group]["diff"] for group in GROUPS] == pytest.approx([0.8, 1, 0.5, 1, 1, 2 / 3])
    assert scores["id"] == scores["center"]


def test_the_paper_has_eleven_metrics() -> None:
    assert (
        *("tacc", "diff", "ndiff", "color", "shape", "size", "material"),
        *("objects_1_3", "objects_4_6", "objects_7_8", "objects_9_10"),
    ) == METRICS
    assert tuple(GROUPS) == ("overall", "center", "left", "right", "id", "ood")


def test_each_scene_is_in_one_population() -> None:
    populations = ("objects_1_3", "objects_4_6", "objects_7_8", "objects_9_10")
    for visible in range(1, 11):
        overall = score([(said("none"), sample("0.color.blue", visible=visible))])["overall"]
        population = next(m for m in populations if visible <= int(m.rsplit("_", 1)[1]))
        assert [m for m in populations if overall[m]["n"]] == [population]


def test_no_samples_give_null() -> None:
    nothing = {"value": None, "ci95": None, "n": 0, "scenes": 0}
    assert score([]) == {group: dict.fromkeys(METRICS, nothing) for group in GROUPS}


CHANGES = st.builds(
    lambda index, pair: Change(index, *pair),
    st.integers(0, 9),
    st.sampled_from([(a, v) for a, values in VALUES.items() for v in values]),
).filter(
    lambda change: (
        str(change)[2:] not in ("color.red", "shape.cube", "size.small", "material.metal")
    )
)
SAMPLES = st.builds(
    lambda changes, view, visible: Sample("0-x", scene(visible), tuple(changes), view),
    st.lists(CHANGES, min_size=1, max_size=4, unique_by=lambda c: (c.index, c.attribute)),
    st.sampled_from(VIEWS),
    st.integers(1, 10),
)


@given(st.lists(SAMPLES, min_size=1, max_size=8))
def test_perfect_answers(samples: list[Sample]) -> None:
    scores = score([(said(format_changes(s.changes)), s) for s in samples])
    for group in scores.values():
        for metric, measured in group.items():
            if measured["n"]:
                best = 0.0 if metric in ("diff", "ndiff") else 1.0
                assert measured["value"] == best
                ends = measured["ci95"]
                if metric in ("diff", "ndiff"):  # none of one scene, or where one outweighs others
                    assert ends is None or (measured["scenes"] > 1 and ends[0] == 0 < ends[1])
                else:
                    low = 0.025 ** (1 / measured["scenes"])  # where scenes are of one size
                    assert ends == [pytest.approx((0.025 + low) / 2, abs=(low - 0.0249) / 2), 1]


@given(st.lists(SAMPLES, min_size=1, max_size=8))
def test_empty_answers(samples: list[Sample]) -> None:
    overall = score([(said(""), s) for s in samples])["overall"]
    assert overall["tacc"]["value"] == 0
    assert overall["diff"]["value"] == pytest.approx(np.mean([len(s.changes) for s in samples]))
    assert (overall["ndiff"]["value"], overall["ndiff"]["n"]) == (1, len(samples))


@given(SAMPLES, st.lists(CHANGES, max_size=6))
def test_judgements_agree_with_each_other(truth: Sample, predicted: list[Change]) -> None:
    judged = judge(said(format_changes(predicted)), truth)
    assert 0 <= judged.diff <= len(truth.changes) + len(predicted)
    assert judged.ndiff == judged.diff / len(truth.changes)
    changed = {change.attribute for change in truth.changes}
    assert {a for a, right in judged.by_attribute.items() if right is not None} == changed
    if judged.correct:
        assert judged.diff == 0
        assert all(judged.by_attribute[attribute] for attribute in changed)


@given(SAMPLES, st.lists(CHANGES, max_size=6))
def test_without_moves_answers_compare_as_sets(truth: Sample, predicted: list[Change]) -> None:
    judged = judge(said(format_changes(predicted)), truth)
    assert judged.correct == (set(predicted) == set(truth.changes))
    assert judged.diff == len(difference(replay(truth.initial, predicted), truth.final))
    for attribute, right in judged.by_attribute.items():
        given, true = (
            {change for change in changes if change.attribute == attribute}
            for changes in (predicted, truth.changes)
        )
        assert right == ((given == true) if true else None)


FEW_CELLS = st.sampled_from(
    [
        Change(i, a, v)
        for i in (0, 1)
        for a, v in (("color", "blue"), ("color", "red"), ("size", "large"))
    ]
)
"""Few enough for the same cell to change twice, and for answers to be half right."""


@given(st.lists(FEW_CELLS, max_size=4), st.lists(FEW_CELLS, max_size=2), st.randoms())
def test_looks_are_compared_as_moves_are(
    true: list[Change], more: list[Change], shuffler: Random
) -> None:
    """The fast way of answers without moves, against carrying them out."""
    truth = Sample("0-center", scene(5), tuple(true))
    for predicted in (more, shuffler.sample(true, len(true)), [*true, *more]):
        assert _compare_looks(predicted, truth) == _compare_moves(predicted, truth)
        judged = judge(said(format_changes(predicted)), truth)
        assert (judged.correct, judged.diff, judged.by_attribute) == _compare_moves(
            predicted, truth
        )


LOST = Change(0, "position", "right.2", ("right.2", "behind-right.2", "front-right.2"))
"""Object 0 leaves the visible square; any of three moves takes it out of sight."""


def moved(truth: str, *more: Change, view: str = "center") -> Sample:
    """Object 0 at (0, 2), four more in a column beside it, in TRANCE's full setting."""
    rig = Rig({**STANDARD_RIG.cameras, "top": camera_position("top")}, STANDARD_RIG.lamps)
    initial = Scene(
        tuple(replace(o, position=(o.position[0], o.position[1] + 20)) for o in scene(5).objects),
        TRANCE,
    )
    return Sample(f"0-{view}", initial, (*parse_changes(truth, TRANCE), *more), view, rig)


@pytest.mark.parametrize(
    ("truth", "text", "correct", "diff", "position"),
    [
        (moved("0.position.behind.2"), "0.position.behind.2", True, 0, True),
        (moved("0.position.behind.2"), "0.position.behind.1", False, 1, False),
        (moved("0.position.behind.2"), "none", False, 1, False),
        # To say a move twice is to make it twice; to say a color twice is not.
        (moved("0.position.behind.1"), "0.position.behind.1, 0.position.behind.1", False, 1, False),
        (
            moved("0.position.behind.1, 0.position.behind.1, 1.color.blue"),
            "0.position.behind.1, 1.color.blue, 0.position.behind.1, 1.color.blue",
            True,
            0,
            True,
        ),
        (
            moved("0.position.behind.1, 0.position.behind.1"),
            "0.position.behind.1, 1.position.behind.1",
            False,
            2,
            False,
        ),
        # The same place by another way is not the true set of changes.
        (
            moved("0.position.behind.2"),
            "0.position.behind.1, 0.position.behind.1",
            False,
            0,
            False,
        ),
        # Order does not count.
        (
            moved("0.position.behind.1, 0.position.left.1, 1.color.blue"),
            "1.color.blue, 0.position.left.1, 0.position.behind.1",
            True,
            0,
            True,
        ),
        # Out of sight is out of sight.
        (moved("none", LOST), "0.position.front-right.2", True, 0, True),
        (moved("none", LOST), "0.position.right.2, 0.position.right.1", False, 0, False),
        (moved("none", LOST), "1.position.right.2", False, 2, False),
        # A true move with options takes what the others leave.
        (
            moved("0.position.right.2, 0.position.left.2", LOST),
            "0.position.right.2, 0.position.behind-right.2, 0.position.left.2",
            True,
            0,
            True,
        ),
        (
            moved("1.color.blue", LOST),
            "1.color.blue, 0.position.right.2, ?",
            False,
            0,
            True,
        ),
    ],
)
def test_moves_by_hand(truth: Sample, text: str, correct: bool, diff: int, position: bool) -> None:
    answer = parse_answer(f"<think>.</think><answer>{text}</answer>", TRANCE)
    judged = judge(answer, truth)
    assert (judged.correct, judged.diff, judged.by_attribute["position"]) == (
        correct,
        diff,
        position,
    )


def test_position_is_a_twelfth_metric_where_objects_move() -> None:
    pairs = [
        (parse_answer("<answer>0.position.behind.2</answer>", TRANCE), moved(truth))
        for truth in ("0.position.behind.2", "0.position.behind.1", "0.color.blue")
    ]
    overall = score(pairs)["overall"]
    assert list(overall) == [*METRICS[:7], "position", *METRICS[7:]]
    assert (overall["position"]["value"], overall["position"]["n"]) == (0.5, 2)
    assert "position" not in score([(said("none"), sample(TRUTH))])["overall"]


def test_other_views_are_groups_and_out_of_distribution() -> None:
    views = ("center", "top", "top", "left")
    right = ("center", "top")
    pairs = [
        (said("1.color.blue" if view in right else "none"), moved("1.color.blue", view=view))
        for view in views
    ]
    scores = score(pairs)
    assert list(scores) == ["overall", "center", "left", "right", "top", "id", "ood"]
    assert {group: metrics["tacc"]["value"] for group, metrics in scores.items()} == {
        "overall": 3 / 4,
        "center": 1,
        "left": 0,
        "right": None,
        "top": 1,
        "id": 1,
        "ood": pytest.approx(2 / 3),
    }


def test_views_stand_in_order() -> None:
    views = group_views(["az270", "az5", "top", "left", "az90"])
    assert views["overall"] == (*VIEWS, "top", "az5", "az90", "az270")
    assert views["ood"] == views["overall"][1:]
    assert list(views) == ["overall", *views["overall"], "id", "ood"]


def mixed(n: int) -> list[tuple[Answer, Sample]]:
    rng = np.random.default_rng(0)
    answers = [said("2.color.cyan"), said("none"), said("2.color.cyan, 1.size.large, 0.color.blue")]
    samples = [sample("2.color.cyan", view, v) for view in VIEWS for v in (2, 5, 8, 10)]
    return [(answers[rng.integers(3)], samples[rng.integers(12)]) for _ in range(n)]


def test_intervals_contain_the_value() -> None:
    pairs = mixed(200)
    scores = score(pairs)
    assert scores == score(pairs)
    assert scores["id"] == scores["center"]
    for metric, bounds in BOUNDS.items():
        for group in scores.values():
            if metric in group and group[metric]["n"]:
                low, high = group[metric]["ci95"]
                assert bounds[0] <= low <= group[metric]["value"] <= high <= bounds[1]


def test_rows_of_one_scene_count_as_one() -> None:
    """Three views that agree are as sure as one, wherever they stand."""
    truths = [f"{n % 5}.color.{color}" for n in range(20) for color in ("blue", "cyan")]
    once, thrice = [], []
    for n, truth in enumerate(dict.fromkeys(truths)):
        answer = said(truth if n % 3 else "none")
        once.append((answer, sample(truth)))
        thrice += [(answer, sample(truth, view)) for view in VIEWS]
    one, three, apart = (score(p)["overall"] for p in (once, thrice, sorted(thrice, key=by_view)))
    assert one["tacc"]["scenes"] == three["tacc"]["scenes"] == len(once)
    assert three["tacc"]["n"] == 3 * one["tacc"]["n"]
    for metric in ("tacc", "ndiff", "color"):
        assert three[metric]["ci95"] == pytest.approx(one[metric]["ci95"])
        assert apart[metric]["ci95"] == pytest.approx(three[metric]["ci95"])


def by_view(pair: tuple[Answer, Sample]) -> str:
    return pair[1].view


VALUES_OF_A_ROW = st.one_of(st.none(), st.booleans(), st.floats(0, 1))


@given(
    st.lists(
        st.tuples(st.integers(0, 4), st.sampled_from("ab"), st.sampled_from("xyz"), VALUES_OF_A_ROW)
    ),
    st.integers(0, 30),
)
def test_rows_are_measured_as_lists_of_values_are(
    given_rows: list[tuple[int, str, str, float | None]], cut: int
) -> None:
    """However they are cut into parts: the same bits."""
    bounds = {"other": COUNT, "value": SHARE}
    parts = (Rows(bounds), Rows(bounds))
    for n, (scene_key, one, two, value) in enumerate(given_rows):
        parts[n >= cut].add(scene_key, {one, two}, {"other": n, "value": value})
    rows = parts[0]
    rows.extend(parts[1])
    assert len(rows) == len(given_rows)
    for labels in (None, ["a"], ["x", "a"], ["none"]):
        known = [
            (scene_key, value)
            for scene_key, one, two, value in given_rows
            if value is not None and (labels is None or {one, two} & set(labels))
        ]
        values = np.array([value for _, value in known], dtype=float)
        scene = np.array([scene_key for scene_key, _ in known], dtype=np.int64)
        measured = rows.measure("value", labels)
        assert measured == measure(mean_by_scene(values, scene, 5), SHARE)
        assert measured["scenes"] == len(set(scene.tolist()))


def test_tallies_of_parts_add_up() -> None:
    pairs = [*mixed(50), (said("none"), moved("0.position.behind.1", view="top"))]
    first, second = Tally(), Tally()
    for tally, part in ((first, pairs[:20]), (second, pairs[20:])):
        for answer, truth in part:
            tally.add(truth, [judge(answer, truth)])
    first.extend(second)
    assert first.scores() == score(pairs)
