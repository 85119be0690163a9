"""The balance: what each sample of a block shall show, planned before any scene is drawn.

TRANCE keeps its data balanced by counting: whatever came up least so far is likeliest to come next,
so that no sample can be drawn before all the ones ahead of it. Here the counting is done ahead and
in the abstract, for ``BLOCK`` consecutive samples at a time, from zero: a block's plan is
a pure function of (seed, block) and costs a tenth of a millisecond a sample, so that any worker
that needs a sample of the block makes it anew. ``sampler`` then finds a scene for each plan: the
data has the planned counts, whichever samples of it are drawn, in whatever order, and wherever.
"""

import itertools
import math
from collections import defaultdict
from collections.abc import Collection, Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from star_r1.tvr.rules import IN_SIGHT, MOVE_TYPES, Cells, MoveType
from star_r1.tvr.vocabulary import GAP_CELLS, MOVES, N_OBJECTS, Vocabulary

BLOCK: Final = 1000
"""Samples that are planned together: enough to bring up nearly all of TRANCE's 1,089 pairs of
successive values, few enough to be planned in a fifth of a second."""
TOLERANCE: Final = 0.1
"""Weight of what came up most often (TRANCE)."""

_Key = TypeVar("_Key", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Step:
    """One planned change: ``type`` says which way an object moves, None where it does not."""

    index: int
    attribute: str
    value: str
    type: MoveType | None


@dataclass(frozen=True, slots=True)
class Plan:
    """What one sample shall show: the indices of the objects visible at first, and the steps."""

    visible: frozenset[int]
    steps: tuple[Step, ...]


def plan_samples(
    rng: np.random.Generator,
    samples: int,
    visible: tuple[int, int],
    changes: tuple[int, int],
    vocabulary: Vocabulary,
) -> tuple[Plan, ...]:
    """Plan samples one after the other by TRANCE's balance, starting from zero counts.

    The numbers of visible objects and of changes are balanced each on its own. A value is drawn
    from the rarer half of all values, where it counts how often it came up at all, how often after
    the value before it, after the two before it, and so on; the type of a move from the two rarer
    ones of three; the object from all that could make the change.

    As in TRANCE, other objects, types and values are tried where these do not fit. In the abstract
    an object makes a move with the chance that its unknown place, anywhere in sight or out of it
    less what earlier moves rule out, leads to where it shall go, times the chance that none of the
    objects there is in the way. So the plans are about as various as what TRANCE arrives at (few
    moves into a crowd, for one), and scenes for them are not hard to find.

    Args:
        rng: gives all random numbers.
        samples: how many.
        visible, changes, vocabulary: as in ``SceneRules``, which has checked them.

    Source: the sampler of TRANCE (Hong et al., CVPR 2021), from its description.

    >>> from star_r1.tvr.vocabulary import STANDARD
    >>> plans = plan_samples(np.random.default_rng(0), 100, (1, 10), (1, 4), STANDARD)
    >>> sorted(sum(len(plan.visible) == n for plan in plans) for n in range(1, 11))
    [9, 9, 9, 10, 10, 10, 10, 10, 11, 12]
    """
    balance = _Balance(rng, visible, changes, vocabulary)
    return tuple(balance.plan() for _ in range(samples))


def draw_balanced(
    rng: np.random.Generator,
    counts: Mapping[_Key, int],
    top: int | None = None,
    tried: Collection[_Key] = (),
) -> _Key | None:
    """Draw the rarer the likelier: each of the ``top`` rarest with a weight of what it lacks.

    Args:
        rng: gives one number.
        counts: of all there is to draw; of equal ones the first is taken for the rarer.
        top: how many of the rarest may be drawn; None for all.
        tried: those that may not be drawn any more.

    Returns:
        One key; None where all have been tried.

    >>> draw_balanced(np.random.default_rng(0), {"a": 3, "b": 0, "c": 9}, top=2, tried=["b"])
    'a'
    """
    rarest = sorted(counts, key=counts.__getitem__)[:top]
    left = [key for key in rarest if key not in tried]
    if not left:
        return None
    most = max(counts[key] for key in left)
    cumulated = list(itertools.accumulate(most - counts[key] + TOLERANCE for key in left))
    aim = rng.random() * cumulated[-1]
    return next((key for key, sum_ in zip(left, cumulated, strict=True) if aim < sum_), left[-1])


class _Balance:
    """The counts of one block."""

    def __init__(
        self,
        rng: np.random.Generator,
        visible: tuple[int, int],
        changes: tuple[int, int],
        vocabulary: Vocabulary,
    ) -> None:
        def zeros(keys: Iterable[_Key]) -> dict[_Key, int]:
            # In an order of this block's own: the first of equals comes up a little more often.
            listed = list(keys)
            return {listed[place]: 0 for place in rng.permutation(len(listed))}

        self.rng = rng
        self.repeats = "position" in vocabulary.attributes
        self.visible = zeros(range(visible[0], visible[1] + 1))
        self.changes = zeros(range(changes[0], changes[1] + 1))
        self.types = zeros(MOVE_TYPES)
        self.objects = zeros(range(N_OBJECTS))
        radii = [vocabulary.radius_cells(size) for size in vocabulary.sizes]
        # Cells around an object where another one is too close, at the mean of their sizes.
        self.taken = math.pi * float(np.mean((np.add.outer(radii, radii) + GAP_CELLS) ** 2))
        self.values = [*zeros((a, v) for a, values in vocabulary.grammar.items() for v in values)]
        # The values just before (by place in ``values``) -> how often each value came after them.
        self.grams: defaultdict[tuple[int, ...], NDArray[np.int64]] = defaultdict(
            lambda: np.zeros(len(self.values), np.int64)
        )

    def plan(self) -> Plan:
        """Plan the next sample, and count it."""
        n_visible, n_changes = self._draw(self.visible), self._draw(self.changes)
        visible = frozenset(self.rng.permutation(N_OBJECTS)[:n_visible].tolist())
        table = _Table(visible, self.repeats, self.taken)
        steps: list[Step] = []
        before: tuple[int, ...] = ()
        while len(steps) < n_changes:
            found = self._step(table, [before[start:] for start in range(len(before) + 1)])
            if found is not None:  # else chance was against every value: once more
                place, step = found
                steps.append(step)
                before = (*before, place)
        return Plan(visible, tuple(steps))

    def _step(self, table: "_Table", endings: list[tuple[int, ...]]) -> tuple[int, Step] | None:
        """Try values in turn: the place of the first that some object takes, and the step."""
        counts = dict(enumerate(np.sum([self.grams[ending] for ending in endings], 0).tolist()))
        tried: list[int] = []
        # TRANCE gives the sample up where nothing but the rarest fits; here the others get a turn.
        for top, top_types in ((len(self.values) // 2 + 1, len(self.types) // 2 + 1), (None, None)):
            tried.clear()
            while (place := draw_balanced(self.rng, counts, top, tried)) is not None:
                tried.append(place)
                attribute, value = self.values[place]
                step = (
                    self._move(table, value, top_types)
                    if attribute == "position"
                    else self._change(table, attribute, value, None)
                )
                if step is not None:
                    for ending in endings:
                        self.grams[ending][place] += 1
                    return place, step
        return None

    def _move(self, table: "_Table", value: str, top: int | None) -> Step | None:
        tried: list[MoveType] = []
        while (kind := draw_balanced(self.rng, self.types, top, tried)) is not None:
            tried.append(kind)
            if (step := self._change(table, "position", value, kind)) is not None:
                self.types[kind] += 1
                return step
        return None

    def _change(
        self, table: "_Table", attribute: str, value: str, kind: MoveType | None
    ) -> Step | None:
        """Try objects in turn: the step of the first that takes the value."""
        tried = [i for i in range(N_OBJECTS) if (i in table.visible) == (kind == "in")]
        while (index := draw_balanced(self.rng, self.objects, None, tried)) is not None:
            tried.append(index)
            if self.rng.random() < table.chance(index, attribute, value, kind):
                table.change(index, attribute, value, kind)
                self.objects[index] += 1
                return Step(index, attribute, value, kind)
        return None

    def _draw(self, counts: dict[int, int]) -> int:
        key = draw_balanced(self.rng, counts)
        assert key is not None  # there always is one
        counts[key] += 1
        return key


class _Table:
    """What is known of ten objects of which only the planned changes are known."""

    def __init__(self, visible: Collection[int], repeats: bool, taken: float) -> None:
        self.visible = set(visible)
        self.repeats = repeats
        self.taken = taken
        self.changed: dict[tuple[int, str], str] = {}
        self.cells = [IN_SIGHT if index in visible else ~IN_SIGHT for index in range(N_OBJECTS)]

    def chance(self, index: int, attribute: str, value: str, kind: MoveType | None) -> float:
        """How likely an object can make a change, 0-1; it is hidden for type ``in`` alone."""
        if kind is None:
            before = self.changed.get((index, attribute))
            return float(before is None or (self.repeats and before != value))
        if kind == "out" and any(i == index for i, _ in self.changed):
            return 0.0
        # The place is right, and none of the objects that are there is in the way.
        allowed = _moved(self.cells[index], value, kind).sum() / self.cells[index].sum()
        if kind == "out":
            area, others = ~IN_SIGHT, N_OBJECTS - len(self.visible)
        else:
            area, others = IN_SIGHT, len(self.visible - {index})
        return float(allowed * (1 - self.taken / area.sum()) ** others)

    def change(self, index: int, attribute: str, value: str, kind: MoveType | None) -> None:
        """Make a change that has a chance."""
        self.changed[index, attribute] = value
        if kind is not None:
            self.cells[index] = _moved(self.cells[index], value, kind)
            (self.visible.discard if kind == "out" else self.visible.add)(index)


def _moved(cells: Cells, value: str, kind: MoveType) -> Cells:
    """Where an object may be after a move, if it was on one of ``cells``."""
    dx, dy = MOVES[value]
    there, here = zip(_shifted(len(cells), dx), _shifted(len(cells), dy), strict=True)
    result = np.zeros_like(cells)
    result[there] = cells[here]
    return result & (~IN_SIGHT if kind == "out" else IN_SIGHT)


def _shifted(side: int, by: int) -> tuple[slice, slice]:
    """Along one axis: the cells that are reached, and those that they are reached from."""
    return slice(max(by, 0), side + min(by, 0)), slice(max(-by, 0), side + min(-by, 0))
