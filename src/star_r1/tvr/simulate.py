"""What predicted changes do to a scene by the rules of TRANCE's evaluator, legal or not."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TypeAlias

from star_r1.tvr.change import Change
from star_r1.tvr.sample import Sample
from star_r1.tvr.scene import Scene
from star_r1.tvr.vocabulary import ATTRIBUTES, GAP_CELLS, MOVES, TABLE_CELLS, VISIBLE_CELLS

Cell: TypeAlias = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Simulation:
    """A scene after changes, and what went wrong on the way.

    Attributes:
        values: attribute -> its value on each of the ten objects, by index.
        positions: cell of each object, by index; it may lie off the table.
        overlap: after some move or change of size the object stood closer than one cell to
            another one, hidden ones included.
        out: after some move the object stood off the table.
    """

    values: dict[str, tuple[str, ...]]
    positions: tuple[Cell, ...]
    overlap: bool
    out: bool

    @property
    def legal(self) -> bool:
        """Whether nothing went wrong on the way."""
        return not (self.overlap or self.out)

    def distance(self, final: Scene) -> int:
        """(object, attribute) cells, position among them, that differ from ``final``: 0-50.

        A visible object must stand on its cell. Of a hidden one the pictures do not say where it
        is: any cell of the table outside the visible square will do.
        """
        looks = sum(
            value != thing.attribute(attribute)
            for attribute, values in self.values.items()
            for value, thing in zip(values, final.objects, strict=True)
        )
        places = sum(
            cell != thing.position
            and (thing.visible or _within(VISIBLE_CELLS, cell) or not _within(TABLE_CELLS, cell))
            for cell, thing in zip(self.positions, final.objects, strict=True)
        )
        return looks + places


def simulate(scene: Scene, changes: Iterable[Change]) -> Simulation:
    """Apply predicted changes in order, whatever they are.

    A value that the object already has may be set, and every move is made, off the table and into
    other objects too: both are noted, and later moves do not take the note back. Nothing else is
    an error (TRANCE's generator would not move an object from one hidden place to another, its
    evaluator does not mind). Linear in the number of changes; never raises.

    Args:
        scene: where the changes start.
        changes: of the scene's vocabulary.

    Source: the evaluator of TRANCE (Hong et al., CVPR 2021), from its description.

    >>> from star_r1.tvr import TRANCE, Object, parse_changes
    >>> row = [Object(i, "red", "cube", "small", "metal", (0, 8 * i - 36)) for i in range(10)]
    >>> scene = Scene(tuple(row), TRANCE)
    >>> result = simulate(scene, parse_changes("0.position.right.1, 0.position.front.1", TRANCE))
    >>> result.positions[0], result.overlap, result.out
    ((-10, -26), True, False)
    >>> result.distance(scene)  # object 0 was hidden at (0, -36) and still is
    0
    """
    values = {a: [thing.attribute(a) for thing in scene.objects] for a in ATTRIBUTES}
    xs = [thing.position[0] for thing in scene.objects]
    ys = [thing.position[1] for thing in scene.objects]
    radius = {size: scene.vocabulary.radius_cells(size) for size in scene.vocabulary.sizes}
    radii = [radius[size] for size in values["size"]]
    overlap = out = False
    for change in changes:
        index = change.index
        if change.attribute == "position":
            dx, dy = MOVES[change.value]
            xs[index] += dx
            ys[index] += dy
            out = out or not _within(TABLE_CELLS, (xs[index], ys[index]))
        else:
            values[change.attribute][index] = change.value
            if change.attribute != "size":
                continue
            radii[index] = radius[change.value]
        overlap = overlap or _touches_another(index, xs, ys, radii)
    looks = {attribute: tuple(column) for attribute, column in values.items()}
    return Simulation(looks, tuple(zip(xs, ys, strict=True)), overlap, out)


def order_sensitive(sample: Sample) -> bool:
    """Whether the true changes can be made in a wrong order: one that breaks a rule on its way.

    That is: in every order they end in the true final scene, and in some order an object leaves
    the table or stands too close to another one in between. On such samples TRANCE measures
    whether a model pays attention to order.

    Source: the order-sensitive samples of TRANCE (Hong et al., TPAMI 2023), from their description.

    >>> from star_r1.tvr import TRANCE, Object, parse_changes
    >>> row = [Object(i, "red", "cube", "small", "metal", (0, 8 * i - 36)) for i in range(10)]
    >>> around = "4.position.front.1, 4.position.right.1, 4.position.behind.1"
    >>> away = "5.position.behind.1"
    >>> scene = Scene(tuple(row), TRANCE)
    >>> order_sensitive(Sample("0-center", scene, parse_changes(away, TRANCE)))
    False
    >>> order_sensitive(Sample("0-center", scene, parse_changes(f"{away}, {around}", TRANCE)))
    True
    """
    # Instead of all orders: all that an object can have become on the way, its place after any part
    # of its moves and its size before or after, with whether it has been moved or resized yet. Any
    # two objects meet in any two of these states, in some order right after a step of one of them.
    radius_of = sample.initial.vocabulary.radius_cells
    states = [{(*thing.position, radius_of(thing.size), False)} for thing in sample.initial.objects]
    set_to: dict[tuple[int, str], str] = {}
    for change in sample.changes:
        seen = states[change.index]
        if change.attribute == "position":
            dx, dy = MOVES[change.value]
            seen |= {(x + dx, y + dy, radius, True) for x, y, radius, _ in seen}
        elif set_to.setdefault((change.index, change.attribute), change.value) != change.value:
            return False  # which of two values stays depends on the order
        elif change.attribute == "size":
            seen |= {(x, y, radius_of(change.value), True) for x, y, *_ in seen}
    return any(not _within(TABLE_CELLS, (x, y)) for seen in states for x, y, *_ in seen) or any(
        (stepped or other_stepped) and _touch(x - u, y - v, radius + other_radius)
        for seen, others in combinations(states, 2)
        for x, y, radius, stepped in seen
        for u, v, other_radius, other_stepped in others
    )


def _within(half: int, cell: Cell) -> bool:
    """Whether a cell lies in the square of this half edge about the origin, border included."""
    return max(abs(cell[0]), abs(cell[1])) <= half


def _touch(dx: int, dy: int, radii: int) -> bool:
    """Whether two objects so far apart leave less than the gap between their outlines.

    Exact in integers: TRANCE's tolerance of 0.0001 cells never decides between whole cells.
    """
    return dx * dx + dy * dy < (radii + GAP_CELLS) ** 2


def _touches_another(
    index: int, xs: Sequence[int], ys: Sequence[int], radii: Sequence[int]
) -> bool:
    x, y, radius = xs[index], ys[index], radii[index]
    return any(
        _touch(x - xs[other], y - ys[other], radius + radii[other])
        for other in range(len(xs))
        if other != index
    )
