"""How well a shape of some size explains the outline of a segment, and where it would stand."""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from star_r1.render.cameras import Camera, Floats
from star_r1.render.visibility import BACKGROUND, Mask, boxes, half_height, instance_mask
from star_r1.tvr.scene import Object, Rig, Scene
from star_r1.tvr.vocabulary import (
    CELL,
    N_OBJECTS,
    TABLE_CELLS,
    VISIBLE_CELLS,
    Vocabulary,
    camera_position,
)

Bits: TypeAlias = NDArray[np.bool_]

_TURNS: Final = 4
"""Rotations of a cube that are tried, evenly within a quarter turn."""


@dataclass(frozen=True, slots=True, eq=False)
class Outline:
    """The pixels of one object in a picture.

    Attributes:
        own: where it is seen, shape (height, width).
        others: where any other object is seen, perhaps before it.
        area: pixels of ``own``, at least 1.
        box: x0, y0, x1, y1 of ``own``, half-open.
    """

    own: Bits
    others: Bits
    area: int
    box: tuple[int, int, int, int]

    def misfit(self, shape: Bits, left: int, top: int) -> float:
        """1 - intersection over union with a shape laid at a pixel; pixels of others do not count.

        Args:
            shape: a cut-out of a mask.
            left, top: where its corner lies; it may reach out of the picture.
        """
        height, width = self.own.shape
        rows = slice(max(top, 0), min(top + shape.shape[0], height))
        columns = slice(max(left, 0), min(left + shape.shape[1], width))
        part = shape[
            rows.start - top : max(rows.stop - top, 0),
            columns.start - left : max(columns.stop - left, 0),
        ]
        part = part & ~self.others[rows, columns]
        both = int((part & self.own[rows, columns]).sum())
        return 1 - both / (int(part.sum()) + self.area - both)


@dataclass(frozen=True, slots=True, eq=False)
class Fit:
    """What a shape of some size makes of an outline.

    Attributes:
        misfit: 1 - intersection over union, 0-1.
        place: where it would stand: x, y on the table, world units, shape (2,).
    """

    misfit: float
    place: Floats


def outlines(mask: Mask) -> dict[int, Outline]:
    """Each label of a mask -> its outline."""
    objects = mask != BACKGROUND
    found = {}
    for label, box in boxes(mask).items():
        own = mask == label
        found[label] = Outline(own, objects & ~own, int(own.sum()), box)
    return found


def fit(outline: Outline, shape: str, size: str, view: str, vocabulary: Vocabulary) -> Fit:
    """Lay a shape over an outline so that it covers it best.

    The camera is that of ``view`` without jitter. The shape is drawn where the middle of the
    outline would be, and shifted until the left sides, the right sides or the middles meet, and so
    up and down: where an object is half hidden, one side of it still shows where it is.
    """
    height, width = outline.own.shape
    camera = _camera(view, (width, height))
    raised = half_height(Object(0, "", shape, size, "", (0, 0)), vocabulary)
    x0, y0, x1, y1 = outline.box
    middle = _ground(camera, np.array([x0 + x1, y0 + y1]) / 2, raised)
    x, y = np.rint(middle / CELL).clip(-VISIBLE_CELLS, VISIBLE_CELLS).astype(int).tolist()
    drawn_at = camera.project([[x * CELL, y * CELL, raised]])[0]
    best = Fit(1.0, middle)
    for turn in range(_TURNS if shape == "cube" else 1):
        cut, (left, top) = _draw(shape, size, (x, y), turn, view, (width, height), vocabulary)
        right, bottom = x1 - cut.shape[1], y1 - cut.shape[0]
        for column in (x0, right, (x0 + right) // 2):
            for row in (y0, bottom, (y0 + bottom) // 2):
                misfit = outline.misfit(cut, column, row)
                if misfit < best.misfit:
                    shifted = drawn_at + np.array([column - left, row - top])
                    best = Fit(misfit, _ground(camera, shifted, raised))
    return best


@lru_cache(maxsize=50_000)
def _draw(
    shape: str,
    size: str,
    cell: tuple[int, int],
    turn: int,
    view: str,
    picture: tuple[int, int],
    vocabulary: Vocabulary,
) -> tuple[Bits, tuple[int, int]]:
    """The silhouette of an object alone on the table, cut out, and the corner of the cut."""
    color, material = next(iter(vocabulary.colors)), vocabulary.materials[0]
    corner = (TABLE_CELLS, TABLE_CELLS)  # out of sight
    things = [Object(i, color, shape, size, material, corner) for i in range(1, N_OBJECTS)]
    rotation = turn * math.pi / 2 / _TURNS
    scene = Scene((Object(0, color, shape, size, material, cell, rotation), *things), vocabulary)
    mask = instance_mask(scene, _rig(view), view, picture)
    if 0 not in (found := boxes(mask)):
        return np.zeros((1, 1), bool), (0, 0)
    x0, y0, x1, y1 = found[0]
    return mask[y0:y1, x0:x1] == 0, (x0, y0)


@lru_cache(maxsize=64)
def _rig(view: str) -> Rig:
    return Rig({view: camera_position(view)}, {})


@lru_cache(maxsize=64)
def _camera(view: str, picture: tuple[int, int]) -> Camera:
    return Camera.of(_rig(view), view, picture)


def _ground(camera: Camera, pixel: Floats, height: float) -> Floats:
    """x, y of the point at a height above the table that a pixel (column, row) shows."""
    across, down = pixel - np.array(camera.size) / 2
    ray = camera.focal * camera.forward + across * camera.right + down * camera.down
    point: Floats = camera.origin + ray * (height - camera.origin[2]) / ray[2]
    return point[:2]
