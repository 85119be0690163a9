"""Draws scenes and changes under TRANCE's rules, each sample from its seed and index alone.

Nothing is carried from one sample to the next, so any worker may draw any index: the balance
that TRANCE keeps by counting the samples before comes here from seeded permutations. In every run
of ``high - low + 1`` consecutive indices (counted from 0) each number of visible objects occurs
exactly once, and likewise, on its own, each number of changes.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from star_r1.errors import UserError
from star_r1.tvr.change import Change, replay
from star_r1.tvr.sample import Sample
from star_r1.tvr.scene import STANDARD_RIG, Object, Rig, Scene, Vec3
from star_r1.tvr.vocabulary import (
    ATTRIBUTES,
    CAMERA_JITTER,
    GAP_CELLS,
    LAMP_JITTER,
    MIN_VISIBLE_PIXELS,
    N_OBJECTS,
    RADIUS_CELLS,
    TABLE_CELLS,
    VALUES,
    VIEWS,
    VISIBLE_CELLS,
)

CountPixels: TypeAlias = Callable[[Scene, Rig, str], Mapping[int, int]]
"""(scene, rig, view) -> mask pixels of each visible object, as of a 320 x 240 picture."""

ATTRIBUTE_WEIGHTS: Final[dict[str, float]] = {"color": 8, "shape": 3, "size": 3, "material": 3}
"""How often each attribute changes: TRANCE's 33 atomic values less the 16 of position."""

SCENE_ATTEMPTS: Final = 200
CHANGE_ATTEMPTS: Final = 10
"""Sets of changes tried on one scene before another scene is drawn."""

_GRID: Final = np.stack(
    np.meshgrid(*[np.arange(-TABLE_CELLS, TABLE_CELLS + 1)] * 2, indexing="ij"), axis=-1
).reshape(-1, 2)
_IN_SIGHT: Final = np.abs(_GRID).max(axis=1) <= VISIBLE_CELLS

# First part of a random stream's key: no two purposes share random numbers.
_VISIBLE_STREAM, _CHANGES_STREAM, _SCENE_STREAM = range(3)


@dataclass(frozen=True, slots=True)
class SceneRules:
    """What scenes and changes may be drawn.

    Attributes:
        visible: fewest and most visible objects, within 1-10.
        changes: fewest and most changes a sample, at least 1; no more than the four attributes
            of each object of the emptiest scene.
        views: the final views in which every changed object must be clear; the initial picture,
            always ``center``, counts in any case.

    Raises:
        UserError: a range is empty or cannot be met, or a view is unknown.

    >>> SceneRules(visible=(2, 5), changes=(1, 2)).views
    ('center', 'left', 'right')
    """

    visible: tuple[int, int] = (1, N_OBJECTS)
    changes: tuple[int, int] = (1, 4)
    views: tuple[str, ...] = VIEWS

    def __post_init__(self) -> None:
        (few, many), (fewest, most) = self.visible, self.changes
        if not 1 <= few <= many <= N_OBJECTS:
            raise UserError(
                f"visible objects {few}-{many}: give two numbers within 1-{N_OBJECTS}, "
                "the smaller one first"
            )
        if not 1 <= fewest <= most:
            raise UserError(
                f"changes {fewest}-{most}: give two numbers from 1 on, the smaller one first"
            )
        if most > few * len(ATTRIBUTES):
            raise UserError(
                f"changes {fewest}-{most}: {few} visible objects have only "
                f"{few * len(ATTRIBUTES)} attributes; ask for more objects or fewer changes"
            )
        for view in self.views:
            if view not in VIEWS:
                raise UserError(f"view {view!r} is unknown; choose from {', '.join(VIEWS)}")


def draw_sample(
    seed: int, index: int, count_pixels: CountPixels, rules: SceneRules = SceneRules()
) -> Sample:
    """Draw sample ``index`` of the dataset that ``seed`` names: a pure function of its arguments.

    Ten objects with uniform attributes are placed one after the other on a uniformly drawn free
    cell, the visible ones in the inner square, the others in the ring around it; visibility is
    shuffled over the indices. Two outlines are at least ``GAP_CELLS`` apart, before and after
    (TRANCE measures with pixelised discs, which lets the gap shrink to 0.6 cells).

    Each change takes an attribute by ``ATTRIBUTE_WEIGHTS``, one of the objects clear enough to
    change it, and one of its other values; no (object, attribute) changes twice. A changed object
    has at least ``MIN_VISIBLE_PIXELS`` in the initial center picture and in the pictures of
    ``rules.views``, before its change and after. (TRANCE asks for the last, and for the first in
    the center view alone; asking before the change as well costs fewer pixel counts.)

    Args:
        seed: of the dataset, zero or greater.
        index: of the sample in it, zero or greater.
        count_pixels: measures visibility; called as rarely as possible.
        rules: what may be drawn.

    Returns:
        The sample seen from ``center``, with id ``{index:06d}-center``.

    Raises:
        UserError: the seed is negative, or no scene and changes that keep the rules were found.

    Source: the TRANCE generator (Hong et al., CVPR 2021), without its position changes.

    >>> def all_clear(scene, rig, view):
    ...     return {o.index: 1000 for o in scene.visible}
    >>> sample = draw_sample(0, 7, all_clear, SceneRules(visible=(3, 3), changes=(2, 2)))
    >>> sample.id, len(sample.initial.visible), len(sample.changes)
    ('000007-center', 3, 2)
    """
    if seed < 0:
        raise UserError(f"seed {seed} is negative; give 0 or a greater number")
    n_visible = _balanced(seed, _VISIBLE_STREAM, index, *rules.visible)
    n_changes = _balanced(seed, _CHANGES_STREAM, index, *rules.changes)
    for attempt in range(SCENE_ATTEMPTS):
        rng = _generator(seed, _SCENE_STREAM, index, attempt)
        rig = _draw_rig(rng)
        scene = _draw_scene(rng, n_visible)
        if scene is None:
            continue
        changes = _draw_clear_changes(rng, scene, rig, n_changes, rules.views, count_pixels)
        if changes is not None:
            return Sample(f"{index:06d}-center", scene, changes, "center", rig)
    raise UserError(
        f"sample {index} of seed {seed}: no {n_changes} clearly visible changes among "
        f"{n_visible} visible objects in {SCENE_ATTEMPTS} scenes; ask for fewer views or changes"
    )


def _generator(seed: int, *key: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def _balanced(seed: int, stream: int, index: int, low: int, high: int) -> int:
    """A number of ``low..high`` such that each block of indices holds every number once."""
    block, place = divmod(index, high - low + 1)
    return low + int(_generator(seed, stream, block).permutation(high - low + 1)[place])


def _draw_rig(rng: np.random.Generator) -> Rig:
    def move(positions: dict[str, Vec3], jitter: float) -> dict[str, Vec3]:
        return {name: _jittered(rng, at, jitter) for name, at in positions.items()}

    return Rig(move(STANDARD_RIG.cameras, CAMERA_JITTER), move(STANDARD_RIG.lamps, LAMP_JITTER))


def _jittered(rng: np.random.Generator, at: Vec3, jitter: float) -> Vec3:
    x, y, z = (np.array(at) + rng.uniform(-jitter, jitter, size=3)).tolist()
    return x, y, z


def _draw_scene(rng: np.random.Generator, n_visible: int) -> Scene | None:
    """Ten objects, ``n_visible`` of them in sight; None where one finds no free cell."""
    objects: list[Object] = []
    # From each cell to the nearest outline, in cells.
    clearance: NDArray[np.float64] = np.full(len(_GRID), np.inf)
    for index, in_sight in enumerate(rng.permutation(N_OBJECTS) < n_visible):
        shape, size = _pick(rng, VALUES["shape"]), _pick(rng, VALUES["size"])
        rotation = float(rng.uniform(0, 2 * math.pi))
        radius = RADIUS_CELLS[size]
        free = np.flatnonzero((clearance >= radius + GAP_CELLS) & (in_sight == _IN_SIGHT))
        if not len(free):
            return None
        x, y = _GRID[rng.choice(free)].tolist()
        material, color = _pick(rng, VALUES["material"]), _pick(rng, VALUES["color"])
        objects.append(Object(index, color, shape, size, material, (x, y), rotation))
        clearance = np.minimum(clearance, np.hypot(*(_GRID - (x, y)).T) - radius)
    return Scene(tuple(objects))


def _pick(rng: np.random.Generator, options: tuple[str, ...]) -> str:
    return options[rng.integers(len(options))]


def _draw_clear_changes(
    rng: np.random.Generator,
    scene: Scene,
    rig: Rig,
    count: int,
    views: tuple[str, ...],
    count_pixels: CountPixels,
) -> tuple[Change, ...] | None:
    """``count`` changes of objects that are clear in every view; None where none were found."""
    clear = {o.index for o in scene.visible}
    for view in dict.fromkeys(("center", *views)):
        clear &= _clear(scene, rig, view, count_pixels)
        if len(clear) * len(ATTRIBUTES) < count:
            return None
    for _ in range(CHANGE_ATTEMPTS):
        changes = _draw_changes(rng, scene, sorted(clear), count)
        if changes is None:
            continue
        # Colors and materials leave the outlines, and so the pixel counts, as they were.
        if all(change.attribute in ("color", "material") for change in changes):
            return changes
        final, changed = replay(scene, changes), {change.index for change in changes}
        if all(changed <= _clear(final, rig, view, count_pixels) for view in views):
            return changes
    return None


def _clear(scene: Scene, rig: Rig, view: str, count_pixels: CountPixels) -> set[int]:
    pixels = count_pixels(scene, rig, view)
    return {index for index, n in pixels.items() if n >= MIN_VISIBLE_PIXELS}


def _draw_changes(
    rng: np.random.Generator, scene: Scene, indices: list[int], count: int
) -> tuple[Change, ...] | None:
    """``count`` legal changes of the objects ``indices``; None where they run out."""
    changes: list[Change] = []
    used: set[tuple[int, str]] = set()
    for _ in range(count):
        options = {
            attribute: [
                (index, values)
                for index in indices
                if (index, attribute) not in used
                and (values := _new_values(scene, scene.objects[index], attribute))
            ]
            for attribute in ATTRIBUTES
        }
        possible = tuple(attribute for attribute in ATTRIBUTES if options[attribute])
        if not possible:
            return None
        weights = np.array([ATTRIBUTE_WEIGHTS[attribute] for attribute in possible])
        attribute = possible[rng.choice(len(possible), p=weights / weights.sum())]
        index, values = options[attribute][rng.integers(len(options[attribute]))]
        changes.append(Change(index, attribute, _pick(rng, values)))
        used.add((index, attribute))
        scene = replay(scene, changes[-1:])
    return tuple(changes)


def _new_values(scene: Scene, thing: Object, attribute: str) -> tuple[str, ...]:
    """The values that ``thing`` may take: not its own, and no size that touches a neighbour."""
    return tuple(
        value
        for value in VALUES[attribute]
        if value != thing.attribute(attribute)
        and (attribute != "size" or _fits(scene, thing, RADIUS_CELLS[value]))
    )


def _fits(scene: Scene, thing: Object, radius: int) -> bool:
    return all(
        math.dist(thing.position, other.position) >= radius + RADIUS_CELLS[other.size] + GAP_CELLS
        for other in scene.objects
        if other.index != thing.index
    )
