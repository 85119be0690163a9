"""What may be drawn: the user's ranges, and TRANCE's rules of where objects may stand and go."""

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from star_r1.errors import UserError
from star_r1.tvr.change import Change
from star_r1.tvr.scene import Scene
from star_r1.tvr.vocabulary import (
    GAP_CELLS,
    MOVES,
    N_OBJECTS,
    STANDARD,
    TABLE_CELLS,
    VIEWS,
    VISIBLE_CELLS,
    Vocabulary,
    camera_position,
)

MoveType: TypeAlias = Literal["inner", "out", "in"]
MOVE_TYPES: Final[tuple[MoveType, ...]] = ("inner", "out", "in")
"""In sight before and after; out of sight after; out of sight before. TRANCE has no fourth."""


Cells: TypeAlias = NDArray[np.bool_]
"""Some cells of the table, shape (81, 81), by x and y from -TABLE_CELLS on."""
_FROM_THE_MIDDLE: Final = np.abs(np.arange(-TABLE_CELLS, TABLE_CELLS + 1))
IN_SIGHT: Final[Cells] = np.maximum.outer(_FROM_THE_MIDDLE, _FROM_THE_MIDDLE) <= VISIBLE_CELLS
"""Where an object is visible."""


@dataclass(frozen=True, slots=True)
class SceneRules:
    """What scenes and changes may be drawn.

    Attributes:
        visible: fewest and most objects that are visible at first, within 1-10.
        changes: fewest and most changes a sample, at least 1. Where nothing moves, no (object,
            attribute) changes twice: no more than the attributes of the emptiest scene.
        vocabulary: the values, and which attributes change. With ``position`` among these
            TRANCE's full rules hold: the order counts and an attribute may change twice.
        extra_views: cameras that the rig gets beside ``center``, ``left`` and ``right``; scenes,
            changes and those three do not depend on them.

    Raises:
        UserError: a range is empty or cannot be met, or a view is unknown.

    >>> from star_r1.tvr.vocabulary import TRANCE
    >>> SceneRules(visible=(2, 5), changes=(1, 2), vocabulary=TRANCE).repeats
    True
    """

    visible: tuple[int, int] = (1, N_OBJECTS)
    changes: tuple[int, int] = (1, 4)
    vocabulary: Vocabulary = STANDARD
    extra_views: tuple[str, ...] = ()

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
        slots = few * len(self.vocabulary.attributes)
        if most > slots and not self.repeats:
            raise UserError(
                f"changes {fewest}-{most}: {few} visible objects have only {slots} attributes "
                "that change; ask for more objects or fewer changes"
            )
        for view in self.extra_views:
            try:
                camera_position(view)
            except ValueError as error:
                raise UserError(str(error)) from None
        views = (*VIEWS, *self.extra_views)
        if len(set(views)) < len(views):
            raise UserError(
                f"extra views {','.join(self.extra_views)}: name each once, and none of "
                f"{','.join(VIEWS)}, which are there in any case"
            )

    @property
    def repeats(self) -> bool:
        """Whether an (object, attribute) may change twice: in TRANCE's full setting, with moves."""
        return "position" in self.vocabulary.attributes


STANDARD_RULES: Final = SceneRules()
"""STAR-R1's setting, balanced as TRANCE."""


def move_type(before: tuple[int, int], after: tuple[int, int]) -> MoveType | None:
    """What TRANCE calls a move from one cell to another; None where it has no such move.

    >>> move_type((0, 0), (0, 10)), move_type((0, 0), (0, 30)), move_type((0, 30), (0, 20))
    ('inner', 'out', 'in')
    >>> move_type((0, 30), (0, 40)) is move_type((0, 30), (0, 50)) is None
    True
    """
    if _reach(after) > TABLE_CELLS:
        return None
    if _reach(before) <= VISIBLE_CELLS:
        return "inner" if _reach(after) <= VISIBLE_CELLS else "out"
    return "in" if _reach(after) <= VISIBLE_CELLS else None


def moved(cell: tuple[int, int], move: str) -> tuple[int, int]:
    """The cell that a move such as ``front-left.2`` leads to; it may lie off the table."""
    (x, y), (dx, dy) = cell, MOVES[move]
    return x + dx, y + dy


def move_options(scene: Scene, change: Change) -> tuple[str, ...]:
    """All moves that are as good an answer as a move out of sight; empty for any other change.

    They are the moves of that object that end out of sight and on the table, whether or not
    something stands there: so TRANCE stores them (checked against its published samples).

    Args:
        scene: just before the change.
        change: of this scene.

    Returns:
        Values of ``position`` in the order of ``MOVES``, the one of ``change`` among them.

    >>> from star_r1.tvr.scene import Object
    >>> row = [Object(i, "red", "cube", "small", "metal", (0, 8 * i - 36)) for i in range(10)]
    >>> move_options(Scene(tuple(row)), Change(4, "position", "left.2"))
    ('left.2', 'front-left.2', 'behind-left.2')
    >>> move_options(Scene(tuple(row)), Change(4, "position", "left.1"))
    ()
    """
    cell = scene.objects[change.index].position
    if change.attribute != "position" or move_type(cell, moved(cell, change.value)) != "out":
        return ()
    return tuple(move for move in MOVES if move_type(cell, moved(cell, move)) == "out")


def touches(scene: Scene, index: int) -> bool:
    """Whether an object stands too close to any other one, hidden ones included (TRANCE's rule A).

    Too close is less than ``GAP_CELLS`` between the outlines, by the distance of the centres.
    """
    radius_of = scene.vocabulary.radius_cells
    thing = scene.objects[index]
    x, y = thing.position
    reach = radius_of(thing.size) + GAP_CELLS
    return any(
        (x - other.position[0]) ** 2 + (y - other.position[1]) ** 2
        < (reach + radius_of(other.size)) ** 2
        for other in scene.objects
        if other.index != index
    )


def _reach(cell: tuple[int, int]) -> int:
    return max(abs(cell[0]), abs(cell[1]))
