"""The indices of objects written onto a picture, and where in a picture a label belongs."""

from typing import Final

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from star_r1.errors import UserError
from star_r1.render.visibility import BACKGROUND, Mask, boxes, instance_mask
from star_r1.tvr.scene import UNKNOWN_RIG, Rig, Scene

_SMALLEST: Final = 11
"""Pixels of a font whose digits can still be told apart."""
_ROOM: Final = 2.5
"""An object with fewer pixels than so many digits would take has its index beside it, not on it."""


def mark(picture: Image.Image, scene: Scene, rig: Rig, view: str) -> Image.Image:
    """Write the index of each object onto it, or beside it where it would be covered.

    White with a dark rim; digits grow with the picture. An object that others hide has no mark; in
    generated data it does not change.

    Args:
        picture: of ``scene``, RGB; it stays as it is.
        scene: what the picture shows.
        rig: its cameras.
        view: the one that took it.

    Returns:
        A copy of the same size, RGB.

    Raises:
        UserError: nobody knows where in the picture an object is (imported data), or the rig has no
            such view.

    Source: set-of-mark prompting (Yang et al. 2023, arXiv 2310.11441).

    >>> from star_r1.tvr import STANDARD_RIG, Object
    >>> row = (Object(i, "red", "cube", "large", "metal", (20 * i - 90, 0)) for i in range(3, 7))
    >>> rest = (Object(i, "red", "cube", "small", "metal", (-40, 8 * i - 36)) for i in range(10))
    >>> things = {thing.index: thing for thing in (*rest, *row)}
    >>> scene = Scene(tuple(things.values()))
    >>> marked = mark(Image.new("RGB", (320, 240)), scene, STANDARD_RIG, "center")
    >>> marked.size, marked.getextrema()[0]
    ((320, 240), (0, 255))
    """
    if rig == UNKNOWN_RIG:
        raise UserError(
            "the indices cannot be written onto the picture: this data does not say where its "
            "cameras and objects stand; use a prompt with the table"
        )
    if view not in rig.cameras:
        raise UserError(f"view {view!r} is not one of {', '.join(rig.cameras)}")
    marked = picture.convert("RGB")  # a copy, even where it is RGB already
    draw = ImageDraw.Draw(marked)
    size = max(_SMALLEST, marked.width // 20)
    for index, place in _mark_places(instance_mask(scene, rig, view, marked.size), scene, size):
        draw.text(
            place,
            str(index),
            (255, 255, 255),
            ImageFont.load_default(size),
            anchor="mm",
            stroke_width=max(1, size // 8),
            stroke_fill=(20, 20, 22),
        )
    return marked


def label_places(mask: Mask, scene: Scene) -> dict[int, tuple[int, int]]:
    """Index of each object that is seen -> column, row of its pixel nearest to their centroid.

    The centroid itself may lie on another object that stands before this one.
    """
    places = {}
    for thing in scene.visible:
        points = np.argwhere(mask == thing.index)
        if len(points):
            distance = np.square(points - points.mean(0)).sum(1)
            row, column = points[distance.argmin()].tolist()
            places[thing.index] = (column, row)
    return places


def _mark_places(mask: Mask, scene: Scene, size: int) -> list[tuple[int, tuple[int, int]]]:
    """Index and middle (column, row) of each mark of a font of ``size`` pixels: on its object if
    that is large enough, else beside it, where it covers least of the objects and other marks.
    """
    half = (size + 2) // 3, (size + 1) // 2  # of a digit with its rim
    taken = mask != BACKGROUND
    around = boxes(mask)
    found = []
    for index, place in label_places(mask, scene).items():
        if (mask == index).sum() < _ROOM * 4 * half[0] * half[1]:
            sides = _beside(place, around[index], half, mask.shape)
            place = min(sides, key=lambda side: int(taken[_window(side, half)].sum()))
        taken[_window(place, half)] = True
        found.append((index, place))
    return found


def _beside(
    place: tuple[int, int],
    box: tuple[int, int, int, int],
    half: tuple[int, int],
    shape: tuple[int, ...],
) -> list[tuple[int, int]]:
    """Above an object, right and left of it, below it; moved where the picture ends."""
    (x, y), (x0, y0, x1, y1), (dx, dy) = place, box, half
    height, width = shape
    return [
        (min(max(column, dx), width - dx), min(max(row, dy), height - dy))
        for column, row in ((x, y0 - dy), (x1 + dx, y), (x0 - dx, y), (x, y1 + dy))
    ]


def _window(place: tuple[int, int], half: tuple[int, int]) -> tuple[slice, slice]:
    (x, y), (dx, dy) = place, half
    return slice(max(y - dy, 0), y + dy), slice(max(x - dx, 0), x + dx)
