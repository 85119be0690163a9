import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from tests.patience import patience

from star_r1.explore.outlines import outlines, trace
from star_r1.render.visibility import instance_mask
from star_r1.tvr.scene import STANDARD_RIG, Object, Scene

SHAPES = st.tuples(st.integers(1, 7), st.integers(1, 7))


def fill(path: str, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """What a browser fills by the even-odd rule: pixels with an odd number of borders above."""
    crossings = np.zeros((shape[0] + 1, shape[1]), int)
    x = y = 0
    for letter, numbers in re.findall(r"([Mhvz])([-\d ]*)", path):
        if letter == "M":
            x, y = begin = tuple(map(int, numbers.split()))
        elif letter == "h":
            end = x + int(numbers)
            crossings[y, min(x, end) : max(x, end)] += 1
            x = end
        elif letter == "v":
            y += int(numbers)
        else:
            assert x == begin[0], "the last line of a closed border is vertical"
            y = begin[1]
    return np.cumsum(crossings, axis=0)[:-1] % 2 == 1


@given(arrays(np.bool_, SHAPES))
def test_the_path_fills_exactly_the_mask(shown: NDArray[np.bool_]) -> None:
    assert (fill(trace(shown), shown.shape) == shown).all()


@pytest.mark.parametrize(
    ("rows", "path"),
    [
        (["."], ""),
        (["#"], "M0 0h1v1h-1z"),
        (["###", "#.#", "###"], "M0 0h3v3h-3zM2 1h-1v1h1z"),
        (["#.", ".#"], None),
        ([".#", "#."], None),
    ],
)
def test_borders_close_about_holes_and_tips(rows: list[str], path: str | None) -> None:
    shown = np.array([[letter == "#" for letter in row] for row in rows])
    traced = trace(shown)
    assert (fill(traced, shown.shape) == shown).all()
    assert path is None or traced == path


def test_a_checkerboard_takes_linear_time() -> None:
    shown = np.indices((300, 300)).sum(0) % 2 == 0
    with patience():
        path = trace(shown)
    assert (fill(path, shown.shape) == shown).all()


def test_objects_of_a_scene_are_outlined_where_they_are_seen() -> None:
    front = Object(0, "red", "cube", "large", "metal", (8, 0))
    behind = Object(1, "red", "sphere", "small", "metal", (-4, 0))
    rest = (Object(i, "red", "cube", "small", "metal", (40, 40)) for i in range(2, 10))
    mask = instance_mask(Scene((front, behind, *rest)), STANDARD_RIG, "center", (160, 120))
    found = outlines(mask)
    assert sorted(found) == sorted(set(np.unique(mask).tolist()) - {255})
    for index, outline in found.items():
        assert (fill(outline.path, mask.shape) == (mask == index)).all()
        assert outline.label[1] == np.argwhere(mask == index)[:, 0].min()
