"""What may be drawn, and TRANCE's rules of moving, checked against its published samples."""

from typing import Any

import numpy as np
import pytest

from star_r1.errors import UserError
from star_r1.tvr.change import Change, replay
from star_r1.tvr.rules import (
    IN_SIGHT,
    MOVE_TYPES,
    SceneRules,
    move_options,
    move_type,
    moved,
    touches,
)
from star_r1.tvr.sample import Sample
from star_r1.tvr.scene import Object, Scene
from star_r1.tvr.vocabulary import RADIUS_CELLS, TRANCE, Vocabulary


def scene_of(*cells: tuple[int, int], size: str = "small") -> Scene:
    """The first objects stand on ``cells``, the others out of the way at the table's border."""
    border = [(-40, 5 * i - 20) for i in range(10)]
    places = [*cells, *border[len(cells) :]]
    return Scene(
        tuple(Object(i, "red", "cube", size, "metal", cell) for i, cell in enumerate(places)),
        TRANCE,
    )


def test_published_options_are_derived(real_samples: list[tuple[Sample, Scene]]) -> None:
    out = 0
    for sample, _ in real_samples:
        scene = sample.initial
        for change in sample.changes:
            assert set(move_options(scene, change)) == set(change.options)
            out += bool(change.options)
            scene = replay(scene, [change])
    assert out == 16


def test_published_changes_keep_the_rules(real_samples: list[tuple[Sample, Scene]]) -> None:
    for sample, _ in real_samples:
        scene, changed = sample.initial, set[int]()
        for change in sample.changes:
            thing, after = scene.objects[change.index], replay(scene, [change])
            if change.attribute == "position":
                kind = move_type(thing.position, moved(thing.position, change.value))
                assert kind in MOVE_TYPES
                assert (kind == "out") == bool(change.options)
                assert kind != "out" or change.index not in changed
            else:
                assert thing.attribute(change.attribute) != change.value
            if change.attribute in ("position", "size"):
                assert not touches(after, change.index)
            scene, changed = after, changed | {change.index}


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ((20, -20), (-20, 20), "inner"),
        ((20, 0), (21, 0), "out"),
        ((20, 0), (20, 40), "out"),
        ((20, 0), (20, 41), None),
        ((-21, 0), (-20, 0), "in"),
        ((-21, 0), (-22, 0), None),
        ((40, 40), (20, 20), "in"),
        ((40, 40), (50, 40), None),
    ],
)
def test_types_of_moves(
    before: tuple[int, int], after: tuple[int, int], expected: str | None
) -> None:
    assert move_type(before, after) == expected


def test_in_sight_is_where_objects_are_visible() -> None:
    for x, y in ((0, 0), (20, -20), (21, 0), (0, -21), (40, 40)):
        assert IN_SIGHT[x + 40, y + 40] == scene_of((x, y)).objects[0].visible
    assert IN_SIGHT.shape == (81, 81)
    assert IN_SIGHT.sum() == 41**2


def test_only_moves_out_of_sight_have_options() -> None:
    scene = scene_of((0, 15), (0, 30))
    assert move_options(scene, Change(0, "position", "right.1")) == (
        "right.1",
        "right.2",
        "front-right.1",
        "front-right.2",
        "behind-right.1",
        "behind-right.2",
    )
    for text in ("0.position.left.1", "1.position.left.1", "0.color.blue"):
        assert move_options(scene, Change.parse(text, TRANCE)) == ()


@pytest.mark.parametrize("size", ["small", "medium", "large"])
def test_objects_touch_below_one_cell(size: str) -> None:
    apart = 2 * RADIUS_CELLS[size] + 1
    assert not touches(scene_of((0, 0), (0, apart), size=size), 0)
    assert touches(scene_of((0, 0), (0, apart - 1), size=size), 0)
    assert touches(scene_of((20, 0), (21, 0), size=size), 0)  # the other one is hidden


def test_diagonal_distances_are_exact() -> None:
    assert not touches(scene_of((0, 0), (3, 4)), 0)  # 5 = 2 + 2 + 1
    assert touches(scene_of((0, 0), (2, 4)), 0)


def test_repeats_come_with_moves() -> None:
    assert not SceneRules().repeats
    assert SceneRules(vocabulary=TRANCE).repeats
    # Moves make room for more changes than one object has attributes.
    SceneRules(visible=(1, 1), changes=(9, 9), vocabulary=Vocabulary(attributes=("position",)))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"visible": (0, 3)}, "visible objects 0-3"),
        ({"visible": (4, 3)}, "visible objects 4-3"),
        ({"visible": (1, 11)}, "visible objects 1-11"),
        ({"changes": (0, 2)}, "changes 0-2"),
        ({"changes": (3, 2)}, "changes 3-2"),
        ({"visible": (1, 4), "changes": (1, 5)}, "1 visible objects have only 4 attributes"),
        (
            {"visible": (2, 4), "vocabulary": Vocabulary(attributes=("color",))},
            "2 visible objects have only 2 attributes",
        ),
        ({"extra_views": ("bottom",)}, "view 'bottom' is unknown"),
        ({"extra_views": ("top", "top")}, "extra views top,top"),
        ({"extra_views": ("left",)}, "extra views left"),
    ],
)
def test_rules_that_cannot_be_met_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        SceneRules(**fields)
    assert "\n" not in str(caught.value)


def test_cells_are_indexed_by_x_then_y() -> None:
    assert moved((3, -4), "behind-left.2") == (23, -24)
    assert np.argwhere(IN_SIGHT).min(0).tolist() == [20, 20]
