"""The sampler: pure, balanced, and inside TRANCE's rules whatever the seed."""

import math
from collections import Counter
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from star_r1.errors import UserError
from star_r1.tvr.sample import Sample
from star_r1.tvr.sampler import SceneRules, draw_sample
from star_r1.tvr.scene import STANDARD_RIG, Rig, Scene
from star_r1.tvr.vocabulary import (
    ATTRIBUTES,
    CAMERA_JITTER,
    GAP_CELLS,
    LAMP_JITTER,
    MIN_VISIBLE_PIXELS,
    RADIUS_CELLS,
    SIZE_RADIUS,
)

SIDE = {"center": 0, "left": -1, "right": 1}


def disc_pixels(scene: Scene, rig: Rig, view: str) -> dict[int, int]:
    """A stand-in for the renderer: bigger and nearer is larger; neighbours in front cover."""
    pixels = {}
    for thing in scene.visible:
        x, y = thing.position
        shape = {"cube": 0.8, "sphere": 1.0, "cylinder": 1.1}[thing.shape]
        area = 1500 * shape * SIZE_RADIUS[thing.size] ** 2 * (1 + x / 60)
        for other in scene.visible:
            ahead = other.position[0] - x
            aside = other.position[1] - y - SIDE[view] * 0.8 * ahead
            if 0 < ahead < 15 and abs(aside) < RADIUS_CELLS[other.size]:
                area *= 1 - SIZE_RADIUS[other.size]
        pixels[thing.index] = round(area)
    return pixels


def in_full_view(scene: Scene, rig: Rig, view: str) -> dict[int, int]:
    return {thing.index: 1000 for thing in scene.visible}


def never_seen(scene: Scene, rig: Rig, view: str) -> dict[int, int]:
    return {thing.index: MIN_VISIBLE_PIXELS - 1 for thing in scene.visible}


def assert_apart(scene: Scene) -> None:
    for one, other in combinations(scene.objects, 2):
        gap = RADIUS_CELLS[one.size] + RADIUS_CELLS[other.size] + GAP_CELLS
        assert math.dist(one.position, other.position) >= gap


def assert_clear(sample: Sample, views: tuple[str, ...]) -> None:
    changed = {change.index for change in sample.changes}
    seen = [disc_pixels(sample.initial, sample.rig, "center")]
    seen += [disc_pixels(sample.final, sample.rig, view) for view in views]
    assert all(pixels[index] >= MIN_VISIBLE_PIXELS for pixels in seen for index in changed)


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**70), index=st.integers(0, 2**40))
def test_every_sample_keeps_the_rules(seed: int, index: int) -> None:
    sample = draw_sample(seed, index, disc_pixels)
    assert sample.id == f"{index:06d}-center"
    assert sample.view == "center"
    assert 1 <= len(sample.initial.visible) <= 10
    assert 1 <= len(sample.changes) <= 4
    assert len({(c.index, c.attribute) for c in sample.changes}) == len(sample.changes)
    for change in sample.changes:
        thing = sample.initial.objects[change.index]
        assert thing.visible
        assert thing.attribute(change.attribute) != change.value
    assert_apart(sample.initial)
    assert_apart(sample.final)
    assert_clear(sample, ("center", "left", "right"))


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 1000),
    low=st.integers(1, 10),
    more=st.integers(0, 9),
    fewest=st.integers(1, 4),
    most=st.integers(1, 4),
    views=st.sampled_from([(), ("center",), ("left",), ("right", "center")]),
)
def test_rules_bound_the_sample(
    seed: int, low: int, more: int, fewest: int, most: int, views: tuple[str, ...]
) -> None:
    high = min(low + more, 10)
    rules = SceneRules((low, high), (min(fewest, most), max(fewest, most)), views)
    sample = draw_sample(seed, 3, disc_pixels, rules)
    assert low <= len(sample.initial.visible) <= high
    assert rules.changes[0] <= len(sample.changes) <= rules.changes[1]
    assert_clear(sample, views)


def test_a_sample_is_a_function_of_its_arguments_alone() -> None:
    backwards = {index: draw_sample(5, index, disc_pixels) for index in reversed(range(12))}
    assert backwards == {index: draw_sample(5, index, disc_pixels) for index in range(12)}


def test_seeds_and_indices_give_different_scenes() -> None:
    scenes = [draw_sample(seed, index, in_full_view) for seed in range(4) for index in range(25)]
    assert len({sample.initial for sample in scenes}) == 100
    assert len({sample.rig.to_json() for sample in scenes}) == 100


def test_counts_are_balanced_in_every_block() -> None:
    samples = [draw_sample(1, index, in_full_view) for index in range(40)]
    for start in range(0, 40, 10):
        block = samples[start : start + 10]
        assert sorted(len(sample.initial.visible) for sample in block) == list(range(1, 11))
    for start in range(0, 40, 4):
        assert sorted(len(sample.changes) for sample in samples[start : start + 4]) == [1, 2, 3, 4]
    # The permutations of the blocks differ, or the index would tell the number of changes.
    orders = [tuple(len(s.changes) for s in samples[i : i + 4]) for i in range(0, 40, 4)]
    assert len(set(orders)) > 4


def test_attributes_values_and_indices_are_drawn_evenly() -> None:
    samples = [draw_sample(2, index, in_full_view) for index in range(600)]
    changes = [change for sample in samples for change in sample.changes]
    drawn = Counter(change.attribute for change in changes)
    for attribute, expected in zip(ATTRIBUTES, (8 / 17, 3 / 17, 3 / 17, 3 / 17), strict=True):
        # Wide enough for what scenes with one object force, narrow enough to miss an even split.
        assert drawn[attribute] / len(changes) == pytest.approx(expected, abs=0.06)
    objects = [thing for sample in samples for thing in sample.initial.objects]
    assert Counter(o.color for o in objects)["cyan"] / len(objects) == pytest.approx(
        1 / 8, abs=0.02
    )
    assert Counter(o.size for o in objects)["large"] / len(objects) == pytest.approx(
        1 / 3, abs=0.03
    )
    shown = Counter(o.index for sample in samples for o in sample.initial.visible)
    assert min(shown.values()) > 0.8 * max(shown.values())


def test_the_rig_is_jittered_within_its_bounds() -> None:
    rigs = [draw_sample(3, index, in_full_view).rig for index in range(60)]
    pieces = [(rig.cameras, STANDARD_RIG.cameras, CAMERA_JITTER) for rig in rigs]
    pieces += [(rig.lamps, STANDARD_RIG.lamps, LAMP_JITTER) for rig in rigs]
    for moved, still, jitter in pieces:
        assert moved.keys() == still.keys()
        offsets = [abs(a - b) for n in still for a, b in zip(moved[n], still[n], strict=True)]
        assert 0.1 * jitter < max(offsets) <= jitter


def test_one_object_can_take_four_changes() -> None:
    sample = draw_sample(0, 0, in_full_view, SceneRules((1, 1), (4, 4)))
    assert sorted(change.attribute for change in sample.changes) == sorted(ATTRIBUTES)


def test_pixels_are_counted_only_where_a_change_can_move_them() -> None:
    calls: list[str] = []

    def counted(scene: Scene, rig: Rig, view: str) -> dict[int, int]:
        calls.append(view)
        return in_full_view(scene, rig, view)

    for index in range(40):
        calls.clear()
        sample = draw_sample(4, index, counted)
        outline = any(change.attribute in ("shape", "size") for change in sample.changes)
        assert len(calls) == (6 if outline else 3)


def test_hopeless_visibility_ends_in_one_line() -> None:
    with pytest.raises(UserError, match=r"sample 8 of seed 1: no \d clearly visible") as caught:
        draw_sample(1, 8, never_seen)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"visible": (0, 3)}, "visible objects 0-3"),
        ({"visible": (4, 3)}, "visible objects 4-3"),
        ({"visible": (1, 11)}, "visible objects 1-11"),
        ({"changes": (0, 2)}, "changes 0-2"),
        ({"changes": (3, 2)}, "changes 3-2"),
        ({"visible": (1, 4), "changes": (1, 5)}, "1 visible objects have only 4 attributes"),
        ({"views": ("center", "top")}, "view 'top' is unknown"),
    ],
)
def test_rules_that_cannot_be_met_are_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        SceneRules(**fields)


def test_a_negative_seed_is_refused() -> None:
    with pytest.raises(UserError, match="seed -1 is negative"):
        draw_sample(-1, 0, in_full_view)
