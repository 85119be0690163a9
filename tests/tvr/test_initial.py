"""What there is before any change: free cells as TRANCE has them, uniform looks, jittered rigs."""

from collections import Counter
from itertools import combinations
from math import dist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from star_r1.tvr.initial import draw_rig, draw_scene, free_cells
from star_r1.tvr.rules import Cells
from star_r1.tvr.scene import STANDARD_RIG, Scene
from star_r1.tvr.vocabulary import (
    CAMERA_JITTER,
    LAMP_JITTER,
    RADIUS_CELLS,
    STANDARD,
    Vocabulary,
)

CELL = st.integers(-40, 40)
DISCS = st.lists(st.tuples(CELL, CELL, st.integers(1, 10)), max_size=9)


def bitmap_free(radius: int, discs: list[tuple[int, int, int]]) -> Cells:
    """TRANCE's way: blank the widened discs, then erode what is left; off the table all is free."""
    grid = np.arange(-40, 41)
    taken = np.zeros((81, 81), bool)
    for x, y, other in discs:
        taken |= np.add.outer((grid - x) ** 2, (grid - y) ** 2) <= (other + 1) ** 2
    blocked = np.zeros((81, 81), bool)
    for x, y in np.argwhere(taken) - 40:
        blocked |= np.add.outer((grid - x) ** 2, (grid - y) ** 2) <= radius**2
    return ~blocked


@given(radius=st.integers(1, 10), discs=DISCS)
def test_free_cells_are_those_of_the_eroded_bitmap(
    radius: int, discs: list[tuple[int, int, int]]
) -> None:
    assert (free_cells(radius, discs) == bitmap_free(radius, discs)).all()


def test_pixelised_discs_let_the_gap_shrink() -> None:
    gaps = {}
    for old in RADIUS_CELLS.values():
        for new in RADIUS_CELLS.values():
            free = np.argwhere(free_cells(new, [(0, 0, old)])) - 40
            gaps[old, new] = min(np.hypot(*free.T)) - old - new
    assert min(gaps.values()) == pytest.approx(gaps[6, 2]) == pytest.approx(0.485, abs=1e-3)
    assert max(gaps.values()) < 1.1


def drawn(seed: int, visible: set[int], vocabulary: Vocabulary = STANDARD) -> Scene:
    scene = draw_scene(np.random.default_rng(seed), visible, vocabulary)
    assert scene is not None
    return scene


@given(seed=st.integers(0, 10**6), visible=st.sets(st.integers(0, 9)))
def test_scenes(seed: int, visible: set[int]) -> None:
    scene = draw_scene(np.random.default_rng(seed), visible, STANDARD)
    if scene is None:  # too crowded
        assert len(visible) >= 8
        return
    assert {thing.index for thing in scene.visible} == visible
    for one, other in combinations(scene.objects, 2):
        gap = dist(one.position, other.position) - sum(RADIUS_CELLS[o.size] for o in (one, other))
        assert gap > 0.48


def test_looks_are_uniform() -> None:
    visible = {0, 3, 5, 8}
    objects = [thing for seed in range(400) for thing in drawn(seed, visible).objects]
    for attribute in ("color", "shape", "size", "material"):
        values = STANDARD.values(attribute)
        counts = Counter(thing.attribute(attribute) for thing in objects)
        for value in values:
            assert counts[value] / len(objects) == pytest.approx(1 / len(values), rel=0.15)
    assert 0 <= min(thing.rotation for thing in objects) < 0.1
    assert 6.2 < max(thing.rotation for thing in objects) < 6.29
    xs = [thing.position[0] for thing in objects if thing.visible]
    assert min(xs) == -20
    assert max(xs) == 20
    assert np.mean(xs) == pytest.approx(0, abs=1.2)


def test_there_may_be_no_room() -> None:
    giants = Vocabulary(sizes={"giant": 1.5}, attributes=("color",))
    scenes = [draw_scene(np.random.default_rng(seed), range(10), giants) for seed in range(20)]
    assert None in scenes
    assert drawn(0, {0}, giants).vocabulary == giants


def test_rigs_are_jittered_within_their_bounds() -> None:
    rigs = [draw_rig(np.random.default_rng(seed)) for seed in range(60)]
    pieces = [(rig.cameras, STANDARD_RIG.cameras, CAMERA_JITTER) for rig in rigs]
    pieces += [(rig.lamps, STANDARD_RIG.lamps, LAMP_JITTER) for rig in rigs]
    for moved, still, jitter in pieces:
        assert moved.keys() == still.keys()
        offsets = [abs(a - b) for n in still for a, b in zip(moved[n], still[n], strict=True)]
        assert 0.1 * jitter < max(offsets) <= jitter
