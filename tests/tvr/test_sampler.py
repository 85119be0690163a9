"""The sampler: pure, as balanced as planned, and inside TRANCE's rules whatever the seed."""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import dist

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from star_r1.errors import UserError
from star_r1.render.visibility import count_pixels as real_pixels
from star_r1.tvr import sampler
from star_r1.tvr.change import replay
from star_r1.tvr.rules import SceneRules, move_type
from star_r1.tvr.sample import Sample
from star_r1.tvr.sampler import CountPixels, draw_counted, draw_sample, split_seed
from star_r1.tvr.scene import Object, Rig, Scene
from star_r1.tvr.vocabulary import (
    ATTRIBUTES,
    CAMERA_JITTER,
    GAP_CELLS,
    MIN_VISIBLE_PIXELS,
    MOVES,
    STANDARD,
    TRANCE,
    VIEWS,
    Vocabulary,
    camera_position,
)

FULL = SceneRules(vocabulary=TRANCE)
BOTH = pytest.mark.parametrize("rules", [SceneRules(), FULL], ids=["standard", "trance"])
SIDE = {"center": 0, "left": -1, "right": 1}
CUSTOM = Vocabulary(
    colors={"pink": (255, 180, 200), "mint": (170, 240, 200), "sand": (230, 210, 160)},
    sizes={"tiny": 0.25, "small": 0.4, "big": 1.0},
    shapes=("cube", "sphere"),
    attributes=("color", "size", "shape", "position"),
)


def disc_pixels(scene: Scene, rig: Rig, view: str) -> dict[int, int]:
    """A stand-in for the renderer: bigger and nearer is larger; neighbours in front cover."""
    pixels = {}
    radius = scene.vocabulary.sizes
    for thing in scene.visible:
        x, y = thing.position
        shape = {"cube": 0.8, "sphere": 1.0, "cylinder": 1.1}[thing.shape]
        area = 2200 * shape * radius[thing.size] ** 2 * (1 + x / 60)
        for other in scene.visible:
            ahead = other.position[0] - x
            aside = other.position[1] - y - SIDE[view] * 0.8 * ahead
            if 0 < ahead < 15 and abs(aside) < radius[other.size] / 0.15:
                area *= 1 - min(radius[other.size], 0.9)
        pixels[thing.index] = round(area)
    return pixels


def in_full_view(scene: Scene, rig: Rig, view: str) -> dict[int, int]:
    return {thing.index: 1000 for thing in scene.visible}


def never_seen(scene: Scene, rig: Rig, view: str) -> dict[int, int]:
    return {thing.index: MIN_VISIBLE_PIXELS - 1 for thing in scene.visible}


def as_text(sample: Sample) -> str:
    scene, rig = sample.initial.to_json(), sample.rig.to_json()
    return json.dumps([sample.id, scene, rig, [change.to_dict() for change in sample.changes]])


def assert_keeps_the_rules(sample: Sample, count_pixels: CountPixels = disc_pixels) -> None:
    """TRANCE's rules, written down anew and checked step by step."""
    vocabulary, scene = sample.vocabulary, sample.initial

    def occluded(scene: Scene, view: str) -> set[int]:
        pixels = count_pixels(scene, sample.rig, view)
        return {index for index, n in pixels.items() if n < MIN_VISIBLE_PIXELS}

    def gap(one: Object, other: Object) -> float:
        radii = vocabulary.radius_cells(one.size) + vocabulary.radius_cells(other.size)
        return dist(one.position, other.position) - radii

    for thing in scene.objects:
        assert all(gap(thing, other) > 0.48 for other in scene.objects[: thing.index])
    never = occluded(scene, "center")
    changed: set[int] = set()
    slots = [(change.index, change.attribute) for change in sample.changes]
    if "position" not in vocabulary.attributes:
        assert len(set(slots)) == len(slots)
    for change in sample.changes:
        assert change.attribute in vocabulary.attributes
        after = replay(scene, [change])
        old, new = scene.objects[change.index], after.objects[change.index]
        if change.attribute == "position":
            assert old.visible or new.visible
            assert max(map(abs, new.position)) <= 40
        else:
            assert old.visible
            assert old.attribute(change.attribute) != change.value
        if old.visible:
            assert change.index not in never
        if not new.visible:
            assert change.index not in changed
        ends = {m: (old.position[0] + dx, old.position[1] + dy) for m, (dx, dy) in MOVES.items()}
        out = {m for m, (x, y) in ends.items() if 20 < max(abs(x), abs(y)) <= 40}
        assert set(change.options) == (set() if new.visible else out)
        grows = vocabulary.sizes[new.size] > vocabulary.sizes[old.size]
        if change.attribute == "position" or grows:
            assert all(gap(new, o) >= GAP_CELLS for o in after.objects if o.index != new.index)
        changed.add(change.index)
        if change.attribute in ("position", "size"):
            in_sight = {index for index in changed if after.objects[index].visible}
            assert not any(occluded(after, view) & in_sight for view in VIEWS if in_sight)
        scene = after


@contextmanager
def small_blocks() -> Iterator[None]:
    """Where each example has a block of its own, planning would take most of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sampler, "BLOCK", 10)
        sampler._block.cache_clear()
        yield
    sampler._block.cache_clear()


@BOTH
@settings(max_examples=80)
@given(seed=st.integers(0, 1), index=st.integers(0, 999))
def test_every_sample_keeps_the_rules(rules: SceneRules, seed: int, index: int) -> None:
    sample = draw_sample(seed, index, disc_pixels, rules)
    assert sample.id == f"{index:06d}-center"
    assert sample.view == "center"
    assert sample.vocabulary == rules.vocabulary
    assert 1 <= len(sample.initial.visible) <= 10
    assert 1 <= len(sample.changes) <= 4
    assert_keeps_the_rules(sample)


@BOTH
def test_rules_hold_by_real_masks(rules: SceneRules) -> None:
    for index in range(30):
        sample = draw_sample(8, index, real_pixels, rules)
        assert_keeps_the_rules(sample, real_pixels)


@settings(max_examples=20)
@given(
    seed=st.integers(0, 2**140),
    index=st.integers(0, 2**70),
    low=st.integers(1, 10),
    more=st.integers(0, 9),
    fewest=st.integers(1, 5),
    most=st.integers(1, 5),
    attributes=st.sets(st.sampled_from([*ATTRIBUTES, "position"]), min_size=1),
)
def test_rules_bound_the_sample(
    seed: int, index: int, low: int, more: int, fewest: int, most: int, attributes: set[str]
) -> None:
    vocabulary = Vocabulary(attributes=tuple(sorted(attributes)))
    slots = 5 if "position" in attributes else low * len(attributes)
    changes = min(fewest, most, slots), min(max(fewest, most), slots)
    rules = SceneRules((low, min(low + more, 10)), changes, vocabulary)
    with small_blocks():
        sample = draw_sample(seed, index, in_full_view, rules)
    assert rules.visible[0] <= len(sample.initial.visible) <= rules.visible[1]
    assert changes[0] <= len(sample.changes) <= changes[1]
    assert_keeps_the_rules(sample, in_full_view)


def test_values_may_be_others() -> None:
    samples = [
        draw_sample(0, i, disc_pixels, SceneRules((2, 6), (2, 3), CUSTOM)) for i in range(60)
    ]
    for sample in samples:
        assert_keeps_the_rules(sample)
    said = {change.value for sample in samples for change in sample.changes}
    assert said == {"pink", "mint", "sand", "tiny", "small", "big", "cube", "sphere", *MOVES}


@BOTH
def test_a_sample_is_a_function_of_its_arguments_alone(rules: SceneRules) -> None:
    backwards = {index: draw_sample(5, index, disc_pixels, rules) for index in reversed(range(12))}
    sampler._block.cache_clear()
    for index in (7, 3, 11, 0):
        again = draw_sample(5, index, disc_pixels, rules)
        assert again == backwards[index]
        assert as_text(again) == as_text(backwards[index])


def test_another_process_draws_the_same() -> None:
    code = (
        "from star_r1.render.visibility import count_pixels\n"
        "from star_r1.tvr.sampler import SceneRules, draw_sample\n"
        "from star_r1.tvr.vocabulary import TRANCE\n"
        "sample = draw_sample(5, 1003, count_pixels, SceneRules(vocabulary=TRANCE))\n"
        "print(sample.initial.to_json(), sample.rig.to_json(), *sample.changes)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    sample = draw_sample(5, 1003, real_pixels, FULL)
    expected = f"{sample.initial.to_json()} {sample.rig.to_json()}"
    assert run.stdout.split() == [*expected.split(), *map(str, sample.changes)]


@BOTH
def test_samples_are_as_planned(rules: SceneRules) -> None:
    values: Counter[tuple[str, str]] = Counter()
    for index in range(150):
        sample, scenes = draw_counted(3, index, disc_pixels, rules)
        plan = sampler._plan(3, index, (scenes - 1) // sampler.SCENES_A_PLAN, rules)
        assert {thing.index for thing in sample.initial.visible} == plan.visible
        said = [(change.index, change.attribute, change.value) for change in sample.changes]
        assert said == [(step.index, step.attribute, step.value) for step in plan.steps]
        scene = sample.initial
        for change, step in zip(sample.changes, plan.steps, strict=True):
            before, scene = scene.objects[change.index], replay(scene, [change])
            if step.type is not None:
                assert move_type(before.position, scene.objects[change.index].position) == step.type
        values.update((change.attribute, change.value) for change in sample.changes)
    assert max(values.values()) - min(values.values()) <= 4
    assert len(values) == sum(map(len, rules.vocabulary.grammar.values()))


def test_small_sets_are_balanced() -> None:
    samples = [draw_sample(1, index, in_full_view) for index in range(40)]
    visible = Counter(len(sample.initial.visible) for sample in samples)
    changes = Counter(len(sample.changes) for sample in samples)
    assert min(visible[n] for n in range(1, 11)) >= 2
    assert max(visible.values()) <= 6
    assert min(changes[n] for n in range(1, 5)) >= 8
    assert max(changes.values()) <= 12


def test_rejection_leaves_the_scenes_varied() -> None:
    samples = [draw_sample(2, index, in_full_view) for index in range(400)]
    things = [thing for sample in samples for thing in sample.initial.objects]
    for attribute in ATTRIBUTES:
        for value in STANDARD.values(attribute):
            share = sum(thing.attribute(attribute) == value for thing in things) / len(things)
            assert share == pytest.approx(1 / len(STANDARD.values(attribute)), rel=0.15)


def test_seeds_and_indices_give_different_scenes() -> None:
    samples = [draw_sample(seed, index, in_full_view) for seed in range(3) for index in range(25)]
    assert len({sample.initial for sample in samples}) == 75
    assert len({sample.rig.to_json() for sample in samples}) == 75


def test_splits_have_seeds_of_their_own() -> None:
    assert split_seed(7, "train") == 7
    seeds = [split_seed(seed, split) for seed in range(20) for split in ("val", "test", "test2")]
    assert len(set(seeds)) == 60
    assert min(seeds) > 2**64
    assert split_seed(0, "test") == 188637866013967662884516678515305979834  # for ever
    train, test = (draw_sample(split_seed(0, s), 0, in_full_view) for s in ("train", "test"))
    assert train.initial != test.initial


def test_more_views_leave_the_rest_as_it_was() -> None:
    plain = draw_sample(0, 4, disc_pixels, FULL)
    more = {
        views: draw_sample(0, 4, disc_pixels, SceneRules(vocabulary=TRANCE, extra_views=views))
        for views in (("top",), ("az90", "top"))
    }
    for views, sample in more.items():
        assert (sample.initial, sample.changes) == (plain.initial, plain.changes)
        assert sample.rig.lamps == plain.rig.lamps
        assert list(sample.rig.cameras) == [*plain.rig.cameras, *views]
        assert plain.rig.cameras.items() <= sample.rig.cameras.items()
    rigs = [sample.rig for sample in more.values()]
    assert rigs[0].cameras["top"] == rigs[1].cameras["top"]
    for view, at in rigs[1].cameras.items():
        offsets = [abs(a - b) for a, b in zip(at, camera_position(view), strict=True)]
        assert 0 < max(offsets) <= CAMERA_JITTER


def test_one_object_can_take_four_changes() -> None:
    sample = draw_sample(0, 0, in_full_view, SceneRules((1, 1), (4, 4)))
    assert sorted(change.attribute for change in sample.changes) == sorted(ATTRIBUTES)


@pytest.mark.parametrize("attribute", ["color", "shape", "material"])
def test_pixels_are_counted_only_where_they_matter(attribute: str) -> None:
    views: list[str] = []

    def counted(scene: Scene, rig: Rig, view: str) -> dict[int, int]:
        views.append(view)
        return in_full_view(scene, rig, view)

    for index in range(5):
        draw_sample(
            4,
            index,
            counted,
            SceneRules(vocabulary=Vocabulary(attributes=(attribute,)), changes=(1, 1)),
        )
    assert views == ["center"] * 5
    views.clear()
    draw_sample(
        4, 0, counted, SceneRules(changes=(1, 1), vocabulary=Vocabulary(attributes=("size",)))
    )
    assert views == ["center", *VIEWS]


def test_a_plan_that_fits_no_scene_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampler, "SCENES_A_PLAN", 1)
    monkeypatch.setattr(sampler, "PLANS", 2000)
    replaced = 0
    for index in range(40):
        first = sampler._plan(6, index, 0, FULL)
        sample, scenes = draw_counted(6, index, disc_pixels, FULL)
        replaced += scenes > 1
        assert_keeps_the_rules(sample)
        assert len(sample.initial.visible) == len(first.visible)
        assert len(sample.changes) == len(first.steps)
        assert sample == draw_sample(6, index, disc_pixels, FULL)
    assert replaced > 5


@pytest.mark.parametrize(
    ("count_pixels", "rules"),
    [
        (never_seen, SceneRules()),
        (in_full_view, SceneRules((10, 10), (4, 4), Vocabulary(sizes={"a": 1.4, "b": 1.5}))),
    ],
    ids=["never seen", "no room"],
)
def test_hopeless_rules_end_in_one_line(
    count_pixels: Callable[[Scene, Rig, str], dict[int, int]],
    rules: SceneRules,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sampler, "SCENES_A_PLAN", 50)
    with pytest.raises(UserError, match=r"sample 8 of seed 1: no \d clearly visible") as caught:
        draw_sample(1, 8, count_pixels, rules)
    assert "\n" not in str(caught.value)


def test_a_negative_seed_is_refused() -> None:
    with pytest.raises(UserError, match="seed -1 is negative"):
        draw_sample(-1, 0, in_full_view)
