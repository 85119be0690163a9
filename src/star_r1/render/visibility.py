"""What each pixel shows and how far away it is, from exact ray intersections. Numpy only.

The renderer meets the same shapes and rounds edges in the shading only, so both agree on all but a
few pixel centres, which rounding puts on either side of an edge. (TRANCE's own meshes have small
bevels.)
Glass hides what is behind it, as in TRANCE's flat-colour check, for the depth too.
"""

import itertools
import math
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from star_r1.render.cameras import Camera, Floats
from star_r1.tvr.scene import Object, Rig, Scene
from star_r1.tvr.vocabulary import CELL, REFERENCE_SIZE, Vocabulary

Mask: TypeAlias = NDArray[np.uint8]

BACKGROUND = 255
"""The value of a mask pixel that shows no object."""

_BOX = np.array(list(itertools.product((-1.0, 1.0), repeat=3)))


class Sight(NamedTuple):
    """What the centres of the pixels of a picture show; arrays of shape (height, width).

    Attributes:
        mask: index of the object, ``BACKGROUND`` where there is none.
        depth: z-depth, as depth datasets have it: how far along the axis of the camera
            (``Camera.forward``), in world units, the object or floor is; not the length of the
            ray. ``inf`` above the horizon, which none of TRANCE's views shows. A point is
            ``camera.origin + depth * ray``, the ray being that of ``Camera.rays``.
    """

    mask: Mask
    depth: Floats


def half_height(thing: Object, vocabulary: Vocabulary) -> float:
    """The half extent of an object along each axis of its own frame, which is also the height of
    its centre: the radius of a sphere or cylinder, half the edge of a cube (TRANCE).
    """
    radius = vocabulary.sizes[thing.size]
    return radius / math.sqrt(2) if thing.shape == "cube" else radius


def centre(thing: Object, vocabulary: Vocabulary) -> tuple[float, float, float]:
    """The centre of an object that rests on the table, world units."""
    x, y = thing.position
    return x * CELL, y * CELL, half_height(thing, vocabulary)


def look(scene: Scene, rig: Rig, view: str, size: tuple[int, int]) -> Sight:
    """Mask and depth of one picture, from one pass.

    Args:
        scene: its visible objects are seen, and the floor.
        rig: the cameras.
        view: a camera of ``rig``.
        size: width, height in pixels.

    Raises:
        KeyError: the rig has no such view.

    >>> from star_r1.tvr import STANDARD_RIG, Object, Scene
    >>> ball = Object(0, "red", "sphere", "large", "metal", (0, 0))
    >>> rest = (Object(i, "red", "cube", "small", "rubber", (40, 40)) for i in range(1, 10))
    >>> mask, depth = look(Scene((ball, *rest)), STANDARD_RIG, "center", (320, 240))
    >>> int(mask[110, 160]), round(float(depth[110, 160]), 2)
    (0, 10.14)
    """
    camera = Camera.of(rig, view, size)
    sight = _look(scene, camera)
    slope = camera.slopes()
    with np.errstate(divide="ignore"):
        floor = np.where(slope < 0, -camera.origin[2] / slope, np.inf)
    return Sight(sight.mask, np.minimum(sight.depth, floor))


def instance_mask(scene: Scene, rig: Rig, view: str, size: tuple[int, int]) -> Mask:
    """The mask of ``look`` alone: the index of the object that each pixel centre shows.

    Returns:
        uint8, shape (height, width), ``BACKGROUND`` where there is no object.

    Raises:
        KeyError: the rig has no such view.
    """
    return _look(scene, Camera.of(rig, view, size)).mask


def boxes(mask: Mask) -> dict[int, tuple[int, int, int, int]]:
    """The bounding box of each object's pixels; an object that shows none has no box.

    Returns:
        index -> (x0, y0, x1, y1), half-open: columns x0 to x1 - 1, rows y0 to y1 - 1, so that
        ``mask[y0:y1, x0:x1]`` and Pillow's ``crop`` take the box as it is, and COCO's box is
        (x0, y0, x1 - x0, y1 - y0).

    >>> boxes(np.array([[255, 255, 255, 255], [255, 7, 7, 7]], np.uint8))
    {7: (1, 1, 4, 2)}
    """
    found = {}
    for index in np.unique(mask).tolist():
        if index == BACKGROUND:
            continue
        shown = mask == index
        rows, columns = np.flatnonzero(shown.any(1)), np.flatnonzero(shown.any(0))
        found[index] = (
            int(columns[0]),
            int(rows[0]),
            int(columns[-1]) + 1,
            int(rows[-1]) + 1,
        )
    return found


def count_pixels(scene: Scene, rig: Rig, view: str) -> dict[int, int]:
    """How many mask pixels each visible object has in a 320 x 240 picture (0: fully hidden).

    TRANCE calls an object with fewer than ``MIN_VISIBLE_PIXELS`` occluded.

    Raises:
        KeyError: the rig has no such view.
    """
    return count_mask(instance_mask(scene, rig, view, REFERENCE_SIZE), scene)


def count_mask(mask: Mask, scene: Scene) -> dict[int, int]:
    """How many pixels of ``mask`` each visible object of ``scene`` has (0: fully hidden)."""
    counts = np.bincount(mask.ravel(), minlength=BACKGROUND + 1)
    return {thing.index: int(counts[thing.index]) for thing in scene.visible}


def _look(scene: Scene, camera: Camera) -> Sight:
    """Mask and depth of the objects; the depth is inf where there is none."""
    size = camera.size
    mask = np.full((size[1], size[0]), BACKGROUND, np.uint8)
    depth = np.full((size[1], size[0]), np.inf)
    for thing in scene.visible:
        middle = np.array(centre(thing, scene.vocabulary))
        half = half_height(thing, scene.vocabulary)
        cos, sin = math.cos(thing.rotation), math.sin(thing.rotation)
        # Rows are the object's axes: world -> object space, where it spans [-1, 1]^3.
        to_object = np.array([[cos, sin, 0.0], [-sin, cos, 0.0], [0.0, 0.0, 1.0]]) / half
        corners = camera.project(middle + _BOX @ to_object * half**2)
        low = np.clip(np.floor(corners.min(0)).astype(int), 0, size)
        high = np.clip(np.ceil(corners.max(0)).astype(int), 0, size)
        window = np.s_[low[1] : high[1], low[0] : high[0]]
        directions = camera.rays(np.arange(low[0], high[0]), np.arange(low[1], high[1]))
        origin = to_object @ (camera.origin - middle)
        distance = _ENTER[thing.shape](origin, directions @ to_object.T)
        nearer = distance < depth[window]
        depth[window][nearer] = distance[nearer]
        mask[window][nearer] = thing.index
    return Sight(mask, depth)


# Distance along each ray at which it enters the unit shape, inf where it misses. The origin is
# one point outside the shape, directions have shape (rows, columns, 3).


def _slab(origin: Floats, directions: Floats) -> tuple[Floats, Floats]:
    with np.errstate(divide="ignore", invalid="ignore"):
        one, other = (-1 - origin) / directions, (1 - origin) / directions
    return np.fmin(one, other), np.fmax(one, other)


def _quadratic(a: Floats, half_b: Floats, c: float) -> tuple[Floats, Floats]:
    root = np.sqrt(np.maximum(half_b * half_b - a * c, 0.0))
    missed = half_b * half_b < a * c
    return np.where(missed, np.inf, (-half_b - root) / a), np.where(
        missed, -np.inf, (-half_b + root) / a
    )


def _interval(enter: Floats, leave: Floats) -> Floats:
    return np.where((enter <= leave) & (enter > 0), enter, np.inf)


def _enter_cube(origin: Floats, directions: Floats) -> Floats:
    enter, leave = _slab(origin, directions)
    return _interval(enter.max(-1), leave.min(-1))


def _enter_sphere(origin: Floats, directions: Floats) -> Floats:
    a = (directions * directions).sum(-1)
    return _interval(*_quadratic(a, directions @ origin, float(origin @ origin) - 1))


def _enter_cylinder(origin: Floats, directions: Floats) -> Floats:
    flat, side = origin[:2], directions[..., :2]
    side_enter, side_leave = _quadratic((side * side).sum(-1), side @ flat, float(flat @ flat) - 1)
    cap_enter, cap_leave = _slab(origin[2:], directions[..., 2:])
    return _interval(
        np.maximum(side_enter, cap_enter[..., 0]), np.minimum(side_leave, cap_leave[..., 0])
    )


_ENTER = {"cube": _enter_cube, "sphere": _enter_sphere, "cylinder": _enter_cylinder}
