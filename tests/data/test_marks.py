"""Indices on pictures: on their objects, to be read at any size, and never guessed."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from star_r1.data.dataset import read_row, row_to_sample
from star_r1.data.marks import label_places, mark
from star_r1.errors import UserError
from star_r1.render.visibility import boxes, instance_mask
from star_r1.tvr.scene import STANDARD_RIG, UNKNOWN_RIG, Object, Rig, Scene


def scene_of(*things: Object) -> Scene:
    """These objects, the others out of sight."""
    given = {thing.index: thing for thing in things}
    return Scene(
        tuple(
            given.get(i, Object(i, "red", "cube", "small", "rubber", (-40, 8 * i - 36)))
            for i in range(10)
        )
    )


def ball(index: int, size: str, at: tuple[int, int]) -> Object:
    return Object(index, "red", "sphere", size, "rubber", at)


APART = scene_of(ball(2, "large", (-10, 12)), ball(5, "small", (0, 0)), ball(7, "large", (0, -14)))


@pytest.mark.parametrize("view", ["center", "left", "right"])
def test_labels_lie_on_their_objects(rendered: Path, view: str) -> None:
    sample = row_to_sample(read_row(rendered, f"000004-{view}"))
    mask = instance_mask(sample.final, sample.rig, view, (320, 240))
    places = label_places(mask, sample.final)
    assert places
    assert set(places) == {thing.index for thing in sample.final.visible} & set(np.unique(mask))
    for index, (column, row) in places.items():
        assert mask[row, column] == index


@pytest.mark.parametrize("size", [(160, 120), (320, 240), (640, 480)])
def test_digits_stand_on_large_objects_and_beside_small_ones(size: tuple[int, int]) -> None:
    plain = Image.new("RGB", size, (90, 90, 90))
    marked = mark(plain, APART, STANDARD_RIG, "left")
    assert marked.size == size
    assert plain.getextrema() == ((90, 90),) * 3  # the picture given is not drawn on
    white = (np.asarray(marked) > 230).all(-1)
    drawn = (np.asarray(marked) != 90).any(-1)
    mask = instance_mask(APART, STANDARD_RIG, "left", size)
    assert {i: bool(white[mask == i].any()) for i in (2, 5, 7)} == {2: True, 5: False, 7: True}
    # The digit of the small one touches it.
    x0, y0, x1, y1 = boxes(mask)[5]
    reach = size[0] // 12
    assert (drawn & (mask == 255))[y0 - reach : y1 + reach, x0 - reach : x1 + reach].any()
    assert drawn[mask == 5].mean() < 0.2


def test_the_mark_of_a_small_object_covers_no_other_one() -> None:
    # Behind the small one, above it in the picture, there is a large one, beside it there is room.
    scene = scene_of(ball(1, "small", (0, 0)), ball(3, "large", (-10, 0)))
    mask = instance_mask(scene, STANDARD_RIG, "center", (160, 120))
    alone = replace(scene, objects=scene_of(ball(3, "large", (-10, 0))).objects)
    plain = Image.new("RGB", (160, 120), (90, 90, 90))
    both, one = (
        np.asarray(mark(plain, s, STANDARD_RIG, "center")).astype(int) for s in (scene, alone)
    )
    differs = (both != one).any(-1)
    assert differs.any()
    assert not differs[mask == 3].any()


def test_marks_stay_in_the_picture() -> None:
    # Of the second object there is only a strip of two columns at the right border.
    near = Rig({**STANDARD_RIG.cameras, "center": (4.0, 0.0, 2.0)}, STANDARD_RIG.lamps)
    blank = Image.new("RGB", (320, 240))
    whole, strip = (
        np.asarray(mark(blank, scene_of(ball(8, "small", at)), rig, "center"))
        for at, rig in (((0, 0), STANDARD_RIG), ((8, 12), near))
    )
    assert (whole > 100).sum() == (strip > 100).sum() > 50


def test_what_is_hidden_has_no_mark() -> None:
    scene = scene_of(ball(0, "small", (0, 0)), ball(1, "large", (10, 0)))
    mask = instance_mask(scene, STANDARD_RIG, "center", (160, 120))
    assert list(label_places(mask, scene)) == [1]


def test_nothing_is_guessed() -> None:
    picture = Image.new("RGB", (160, 120))
    with pytest.raises(UserError, match=r"does not say where .*; use a prompt with the table$"):
        mark(picture, APART, UNKNOWN_RIG, "center")
    with pytest.raises(UserError, match=r"^view 'top' is not one of center, left, right$"):
        mark(picture, APART, STANDARD_RIG, "top")
