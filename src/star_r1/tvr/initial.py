"""Draws what there is before any change, as TRANCE does: ten objects, cameras and lamps."""

import math
from collections.abc import Collection, Iterable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from star_r1.tvr.rules import IN_SIGHT, Cells
from star_r1.tvr.scene import STANDARD_RIG, Object, Rig, Scene, Vec3
from star_r1.tvr.vocabulary import (
    CAMERA_JITTER,
    GAP_CELLS,
    LAMP_JITTER,
    N_OBJECTS,
    TABLE_CELLS,
    Vocabulary,
)


def draw_scene(
    rng: np.random.Generator, visible: Collection[int], vocabulary: Vocabulary
) -> Scene | None:
    """Ten objects with uniform looks, one after the other on a uniformly drawn free cell.

    Args:
        rng: gives all random numbers.
        visible: the indices of the objects in sight; the others stand around the visible square.
        vocabulary: how objects may look.

    Returns:
        None where an object finds no free cell.
    """
    radii = {size: vocabulary.radius_cells(size) for size in vocabulary.sizes}
    objects: list[Object] = []
    for index in range(N_OBJECTS):
        shape, size = _pick(rng, vocabulary.shapes), _pick(rng, tuple(radii))
        rotation = float(rng.uniform(0, 2 * math.pi))
        discs = [(*thing.position, radii[thing.size]) for thing in objects]
        free = np.argwhere(free_cells(radii[size], discs) & ((index in visible) == IN_SIGHT))
        if not len(free):
            return None
        x, y = (free[rng.integers(len(free))] - TABLE_CELLS).tolist()
        material, color = _pick(rng, vocabulary.materials), _pick(rng, tuple(vocabulary.colors))
        objects.append(Object(index, color, shape, size, material, (x, y), rotation))
    return Scene(tuple(objects), vocabulary)


def free_cells(radius: int, discs: Iterable[tuple[int, int, int]]) -> Cells:
    """The cells where an object can stand: its disc meets none of the others', widened by the gap.

    A disc is all cells whose centres are at most the radius away, as in TRANCE. The gap between two
    outlines can therefore shrink below ``GAP_CELLS``, to 0.49 cells between TRANCE's sizes.

    Args:
        radius: of the object, cells.
        discs: x, y, radius in cells of the objects that are there.

    """
    free = np.ones_like(IN_SIGHT)
    for x, y, other in discs:
        reach = radius + other + GAP_CELLS
        left, low = x + TABLE_CELLS - reach, y + TABLE_CELLS - reach
        window = free[max(left, 0) : left + 2 * reach + 1, max(low, 0) : low + 2 * reach + 1]
        clear = _clear(radius, other + GAP_CELLS)[max(-left, 0) :, max(-low, 0) :]
        window &= clear[: window.shape[0], : window.shape[1]]
    return free


@lru_cache(maxsize=256)
def _clear(one: int, other: int) -> NDArray[np.bool_]:
    """By the offset of their centres from -(one + other) on: whether two discs share no cell.

    Part of two discs may lie off the table, where TRANCE has no cells to share. That makes no
    difference: both centres being on it, a shared cell off the table has a shared one on its edge.
    """
    reach = one + other
    shared = np.zeros((2 * reach + 1, 2 * reach + 1), bool)
    disc = _disc(one)
    for x, y in np.argwhere(_disc(other)):
        shared[x : x + len(disc), y : y + len(disc)] |= disc
    return ~shared


def _disc(radius: int) -> NDArray[np.bool_]:
    squares = np.arange(-radius, radius + 1) ** 2
    return np.add.outer(squares, squares) <= radius**2


def _pick(rng: np.random.Generator, options: tuple[str, ...]) -> str:
    return options[rng.integers(len(options))]


def draw_rig(rng: np.random.Generator) -> Rig:
    """TRANCE's cameras and lamps, each moved a little."""

    def move(positions: dict[str, Vec3], jitter: float) -> dict[str, Vec3]:
        return {name: jittered(rng, at, jitter) for name, at in positions.items()}

    return Rig(move(STANDARD_RIG.cameras, CAMERA_JITTER), move(STANDARD_RIG.lamps, LAMP_JITTER))


def jittered(rng: np.random.Generator, at: Vec3, jitter: float) -> Vec3:
    """A point moved by up to ``jitter`` along each axis."""
    x, y, z = (np.array(at) + rng.uniform(-jitter, jitter, size=3)).tolist()
    return x, y, z
