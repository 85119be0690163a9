"""Changes: reading and writing, replay, and difference as its inverse."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from star_r1.tvr.change import Change, difference, format_changes, parse_changes, replay
from star_r1.tvr.scene import Object, Scene
from star_r1.tvr.vocabulary import ATTRIBUTES, N_OBJECTS, VALUES

EVERY = [Change(i, a, v) for i in range(N_OBJECTS) for a, values in VALUES.items() for v in values]
SCENES = st.lists(
    st.tuples(*(st.sampled_from(VALUES[attribute]) for attribute in ATTRIBUTES)),
    min_size=N_OBJECTS,
    max_size=N_OBJECTS,
).map(lambda rows: Scene(tuple(Object(i, *row, (0, i)) for i, row in enumerate(rows))))


def test_there_are_170_changes() -> None:
    assert len(set(EVERY)) == 170
    assert [Change.parse(str(change)) for change in EVERY] == EVERY
    assert parse_changes(format_changes(EVERY)) == tuple(EVERY)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ((10, "color", "red"), "object index 10 is not in 0-9"),
        ((-1, "color", "red"), "object index -1"),
        ((0, "position", "left"), "attribute 'position' is not one of color, shape"),
        ((0, "shape", "red"), "shape 'red' is not one of cube, sphere, cylinder"),
    ],
)
def test_a_change_outside_the_vocabulary_is_refused(
    fields: tuple[int, str, str], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Change(*fields)


@pytest.mark.parametrize(
    "text", ["", "2", "2.color", "2.color.cyan.", "a.color.red", "².color.red", "22.color.red"]
)
def test_the_strict_form_is_strict(text: str) -> None:
    with pytest.raises(ValueError, match="is not of the form"):
        Change.parse(text)


@pytest.mark.parametrize(
    ("text", "changes"),
    [
        ("", ()),
        ("none", ()),
        (" 2.color.cyan ,0.shape.cube\n", (Change(2, "color", "cyan"), Change(0, "shape", "cube"))),
    ],
)
def test_parse_changes(text: str, changes: tuple[Change, ...]) -> None:
    assert parse_changes(text) == changes


def test_no_changes_are_written_none() -> None:
    assert format_changes([]) == "none"


@given(SCENES, SCENES)
def test_replay_of_the_difference_gives_the_other_scene(before: Scene, after: Scene) -> None:
    changes = difference(before, after)
    assert replay(before, changes) == after
    assert list(changes) == sorted(changes, key=lambda c: (c.index, ATTRIBUTES.index(c.attribute)))
    assert all(before.objects[c.index].attribute(c.attribute) != c.value for c in changes)


@given(SCENES, st.lists(st.sampled_from(EVERY)))
def test_the_later_change_of_a_cell_wins(scene: Scene, changes: list[Change]) -> None:
    last = {(change.index, change.attribute): change.value for change in changes}
    after = replay(scene, changes)
    for thing in after.objects:
        for attribute in ATTRIBUTES:
            old = scene.objects[thing.index].attribute(attribute)
            assert thing.attribute(attribute) == last.get((thing.index, attribute), old)
