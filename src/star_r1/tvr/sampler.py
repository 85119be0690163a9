"""Draws scenes and changes under TRANCE's rules, each sample from its seed and index alone.

A sample's plan (``plan``: how many objects are visible, which values are taken, which way objects
move) comes from the balance of its block of indices. Here a scene is found for it by rejection:
scenes are drawn as TRANCE draws them until the planned changes can be made in one. So the counts
come out as planned, and a value that few scenes allow is no rarer than any other.

No two samples share random numbers, nor do two seeds. A split has a seed of its own: see
``split_seed``.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import cached_property, lru_cache
from typing import Final, TypeAlias

import numpy as np

from star_r1.errors import UserError
from star_r1.tvr.change import Change, replay
from star_r1.tvr.initial import draw_rig, draw_scene, jittered
from star_r1.tvr.plan import BLOCK, Plan, Step, plan_samples
from star_r1.tvr.rules import (
    STANDARD_RULES,
    MoveType,
    SceneRules,
    move_options,
    move_type,
    moved,
    touches,
)
from star_r1.tvr.sample import Sample
from star_r1.tvr.scene import Rig, Scene
from star_r1.tvr.vocabulary import (
    CAMERA_JITTER,
    MIN_VISIBLE_PIXELS,
    N_OBJECTS,
    VIEWS,
    Vocabulary,
    camera_position,
)

__all__ = ["CountPixels", "SceneRules", "draw_counted", "draw_sample", "split_seed"]

CountPixels: TypeAlias = Callable[[Scene, Rig, str], Mapping[int, int]]
"""(scene, rig, view) -> mask pixels of each visible object, as of a 320 x 240 picture."""

SCENES_A_PLAN: Final = 500
PLANS: Final = 4
"""A sample whose plan fits none of so many scenes gets another plan: fewer than one in a thousand.
The number of visible objects and of changes stay as they were."""

# First part of a random stream's key: no two purposes share random numbers.
_PLAN_STREAM, _OTHER_PLAN_STREAM, _SCENE_STREAM, _VIEW_STREAM = range(4)


def draw_sample(
    seed: int, index: int, count_pixels: CountPixels, rules: SceneRules = STANDARD_RULES
) -> Sample:
    """Draw sample ``index`` of the dataset that ``seed`` names: a pure function of its arguments.

    The scene is drawn as ``draw_scene`` says, with which indices are visible shuffled; the changes
    are those of the sample's plan, by TRANCE's rules:

    - A value is a new one. A move stays on the table, and does not lead from one place out of sight
      to another.
    - A: after a move, or when its size grows, an object is at least ``GAP_CELLS`` from any other.
    - B1: an object with fewer than ``MIN_VISIBLE_PIXELS`` in the initial picture does not change.
    - B2: an object that has changed does not move out of sight.
    - B3: after a move or a change of size, that object and those that changed before it have that
      many pixels in each of TRANCE's three views, those out of sight excepted. (Other changes are
      not checked, so an object that took a new color may be hidden from the left or right.)

    In TRANCE an object's index is its place in the order of creation. Here two objects may have
    exchanged theirs afterwards: the plan says how often each index changes.

    Args:
        seed: of the dataset, zero or greater.
        index: of the sample in it, zero or greater.
        count_pixels: measures visibility; called as rarely as possible.
        rules: what may be drawn.

    Returns:
        The sample seen from ``center``, with id ``{index:06d}-center``. Moves out of sight have
        their ``options``.

    Raises:
        UserError: the seed is negative, or no scene and changes that keep the rules were found.

    Source: the generator of TRANCE (Hong et al., CVPR 2021), from its description.

    >>> def all_clear(scene, rig, view):
    ...     return {o.index: 1000 for o in scene.visible}
    >>> sample = draw_sample(0, 7, all_clear, SceneRules(visible=(3, 3), changes=(2, 2)))
    >>> sample.id, len(sample.initial.visible), len(sample.changes)
    ('000007-center', 3, 2)
    """
    return draw_counted(seed, index, count_pixels, rules)[0]


def draw_counted(
    seed: int, index: int, count_pixels: CountPixels, rules: SceneRules = STANDARD_RULES
) -> tuple[Sample, int]:
    """``draw_sample``, and how many scenes it took; more than ``SCENES_A_PLAN``: another plan."""
    if seed < 0:
        raise UserError(f"seed {seed} is negative; give 0 or a greater number")
    for number in range(PLANS):
        plan = _plan(seed, index, number, rules)
        for attempt in range(number * SCENES_A_PLAN, (number + 1) * SCENES_A_PLAN):
            rng = _generator(seed, _SCENE_STREAM, index, attempt)
            found = _try(rng, plan, count_pixels, rules.vocabulary)
            if found is not None:
                initial, changes, rig = found
                rig = _with_extra_views(rig, seed, index, rules.extra_views)
                return Sample(f"{index:06d}-center", initial, changes, "center", rig), attempt + 1
    raise UserError(
        f"sample {index} of seed {seed}: no {len(plan.steps)} clearly visible changes among "
        f"{len(plan.visible)} visible objects in {PLANS * SCENES_A_PLAN} scenes; "
        "ask for fewer changes or smaller objects"
    )


def split_seed(seed: int, split: str) -> int:
    """The seed of a split of the dataset that ``seed`` names.

    ``train`` is the dataset itself. Any other split has a seed of 128 bits, a hash of both, that no
    one would choose: whatever the numbers of samples, splits share no random numbers, and so have
    no scene in common.

    >>> split_seed(3, "train")
    3
    >>> split_seed(3, "test") == split_seed(3, "val")
    False
    """
    if split == "train":
        return seed
    return int.from_bytes(hashlib.sha256(f"{seed} {split}".encode()).digest()[:16])


def _generator(seed: int, *key: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def _plan(seed: int, index: int, number: int, rules: SceneRules) -> Plan:
    """A sample's plan: the block's, then others with as many visible objects and changes."""
    block, place = divmod(index, BLOCK)
    plan = _block(seed, block, rules.visible, rules.changes, rules.vocabulary)[place]
    if number == 0:
        return plan
    visible, changes = len(plan.visible), len(plan.steps)
    rng = _generator(seed, _OTHER_PLAN_STREAM, index, number)
    return plan_samples(rng, 1, (visible, visible), (changes, changes), rules.vocabulary)[0]


@lru_cache(maxsize=4)
def _block(
    seed: int,
    block: int,
    visible: tuple[int, int],
    changes: tuple[int, int],
    vocabulary: Vocabulary,
) -> tuple[Plan, ...]:
    return plan_samples(_generator(seed, _PLAN_STREAM, block), BLOCK, visible, changes, vocabulary)


def _try(
    rng: np.random.Generator, plan: Plan, count_pixels: CountPixels, vocabulary: Vocabulary
) -> tuple[Scene, tuple[Change, ...], Rig] | None:
    """Draw a scene and a rig; None where the plan cannot be realised there."""
    scene = draw_scene(rng, plan.visible, vocabulary)
    if scene is None:
        return None
    rig, order = draw_rig(rng), rng.permutation(N_OBJECTS).tolist()
    # Geometry alone rules most scenes out: pixels are counted in the others.
    if not _Trial(scene, rig, order, _in_full_view).make(plan.steps):
        return None
    trial = _Trial(scene, rig, order, count_pixels)
    return (*trial.result(), rig) if trial.make(plan.steps) else None


def _with_extra_views(rig: Rig, seed: int, index: int, views: tuple[str, ...]) -> Rig:
    """Each camera has a stream of its own, so that none depends on which others there are."""
    cameras = {
        view: jittered(
            _generator(seed, _VIEW_STREAM, index, *view.encode()),
            camera_position(view),
            CAMERA_JITTER,
        )
        for view in views
    }
    return Rig({**rig.cameras, **cameras}, rig.lamps)


def _in_full_view(scene: Scene, rig: Rig, view: str) -> Mapping[int, int]:
    """Stands for counts among which none is too low."""
    return {}


class _Trial:
    """The planned changes made in one scene so far.

    A plan's indices say which steps are of one object, and how often each index changes. Which of
    the objects is the planned one is open until its first step: it is the first, in the order
    given, that can make that step. In the end it gets the planned index.
    """

    def __init__(self, scene: Scene, rig: Rig, order: list[int], count_pixels: CountPixels) -> None:
        self.initial = self.scene = scene
        self.rig = rig
        self.order = order
        self.count_pixels = count_pixels
        self.changes: list[Change] = []
        self.role: dict[int, int] = {}  # index of an object that changed -> its index in the plan

    def make(self, steps: Iterable[Step]) -> bool:
        """Make the steps one after the other; False where one breaks the rules on every object."""
        return all(map(self._make, steps))

    def result(self) -> tuple[Scene, tuple[Change, ...]]:
        """The initial scene and the changes, by the plan's indices."""
        role = dict(self.role)
        for visible in (True, False):
            alike = [o.index for o in self.initial.objects if o.visible == visible]
            free = [index for index in alike if index not in self.role.values()]
            role |= zip((index for index in alike if index not in self.role), free, strict=True)
        objects = sorted(
            (replace(thing, index=role[thing.index]) for thing in self.initial.objects),
            key=lambda thing: thing.index,
        )
        changes = (replace(change, index=role[change.index]) for change in self.changes)
        return replace(self.initial, objects=tuple(objects)), tuple(changes)

    def _make(self, step: Step) -> bool:
        known = [index for index, role in self.role.items() if role == step.index]
        for index in known or (index for index in self.order if index not in self.role):
            change = Change(index, step.attribute, step.value)
            after = self._after(change, step.type)
            if after is not None:
                self.changes.append(replace(change, options=move_options(self.scene, change)))
                self.role[index] = step.index
                self.scene = after
                return True
        return False

    def _after(self, change: Change, kind: MoveType | None) -> Scene | None:
        """The scene after a change; None where it breaks a rule. The cheapest come first.

        B2, and that without moves no attribute changes twice, is the plan's concern.
        """
        thing = self.scene.objects[change.index]
        if kind is None:
            legal = thing.visible and thing.attribute(change.attribute) != change.value
        else:
            legal = move_type(thing.position, moved(thing.position, change.value)) == kind
        if not legal:
            return None
        after = replay(self.scene, [change])
        sizes = self.scene.vocabulary.sizes
        grows = sizes[after.objects[change.index].size] > sizes[thing.size]
        if (
            ((kind is not None or grows) and touches(after, change.index))  # A
            or (thing.visible and change.index in self._occluded_at_first)  # B1
            or (
                (kind is not None or change.attribute == "size")
                and self._hides(after, change.index)
            )  # B3
        ):
            return None
        return after

    @cached_property
    def _occluded_at_first(self) -> set[int]:
        return self._occluded(self.initial, "center")

    def _hides(self, after: Scene, index: int) -> bool:
        """Whether an object that has changed is in sight, but occluded in one of the views."""
        in_sight = {i for i in (index, *self.role) if after.objects[i].visible}
        return bool(in_sight) and any(in_sight & self._occluded(after, view) for view in VIEWS)

    def _occluded(self, scene: Scene, view: str) -> set[int]:
        pixels = self.count_pixels(scene, self.rig, view)
        return {index for index, n in pixels.items() if n < MIN_VISIBLE_PIXELS}
