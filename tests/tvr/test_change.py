"""Changes: reading and writing, replay, and difference as its inverse."""

import json
from itertools import permutations
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.patience import patience

from star_r1.tvr.change import (
    Change,
    difference,
    format_changes,
    pair_moves,
    parse_changes,
    replay,
    same_changes,
)
from star_r1.tvr.scene import Object, Scene
from star_r1.tvr.vocabulary import ATTRIBUTES, MOVES, N_OBJECTS, TRANCE, VALUES

EVERY = [Change(i, a, v) for i in range(N_OBJECTS) for a, values in VALUES.items() for v in values]
EVERY_MOVE = [Change(i, "position", value) for i in range(N_OBJECTS) for value in MOVES]
OUT = Change(3, "position", "left.2", ("left.1", "left.2", "front-left.2"))
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
        ((True, "color", "red"), "object index True"),
        ((0, "weight", "5"), "attribute 'weight' is not one of color, shape"),
        ((0, "position", "left"), "position 'left' is not one of front.1, front.2"),
        ((0, "color", 5), "color 5 is not text"),
        ((0, "position", "left.1", ("left.2",)), "options left.2 do not hold it"),
        ((0, "color", "red", ("red", "blue")), "its options red, blue"),
    ],
)
def test_what_can_be_no_change_is_refused(fields: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Change(*fields)


@pytest.mark.parametrize(
    "text", ["", "2", "2.color", "2.color.", "a.color.red", "².color.red", "22.color.red"]
)
def test_the_strict_form_is_strict(text: str) -> None:
    with pytest.raises(ValueError, match="is not of the form"):
        Change.parse(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0.shape.red", "shape 'red' is not one of cube, sphere, cylinder"),
        ("0.color.cyan.", "color 'cyan.' is not one of"),
        ("0.position.left.1", "'position' is not one of color, shape, size, material"),
    ],
)
def test_what_is_not_in_the_vocabulary_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Change.parse(text)
    index, attribute, value = text.split(".", 2)
    with pytest.raises(ValueError, match=message):
        Change.from_dict({"index": int(index), "attribute": attribute, "value": value})


def test_moves_are_changes_where_the_vocabulary_has_them() -> None:
    assert len(set(EVERY_MOVE)) == 160
    assert [Change.parse(str(change), TRANCE) for change in EVERY + EVERY_MOVE] == [
        *EVERY,
        *EVERY_MOVE,
    ]


def test_a_move_out_of_sight_accepts_its_options() -> None:
    assert [str(move) for move in EVERY_MOVE if OUT.accepts(move)] == [
        "3.position.left.1",
        "3.position.left.2",
        "3.position.front-left.2",
    ]
    assert not any(OUT.accepts(change) for change in EVERY)
    assert Change(3, "position", "left.2").accepts(OUT)


@given(st.sampled_from([*EVERY, *EVERY_MOVE, OUT]))
def test_dictionaries_come_back_exactly(change: Change) -> None:
    back = Change.from_dict(json.loads(json.dumps(change.to_dict())), TRANCE)
    assert back == change
    assert back.options == change.options


@pytest.mark.parametrize(
    "raw",
    [
        None,
        [],
        {},
        {"index": 0, "attribute": "color"},
        {"index": 0, "attribute": "color", "value": "red", "why": 1},
        {"index": 0, "attribute": "position", "value": "left.1", "options": 5},
    ],
)
def test_what_is_no_change_is_a_value_error(raw: Any) -> None:
    with pytest.raises(ValueError, match="not a change"):
        Change.from_dict(raw)


@pytest.mark.parametrize(
    ("move", "place"),
    [
        ("front.1", (-10, 4)),
        ("behind.2", (20, 4)),
        ("left.1", (0, -6)),
        ("front-right.2", (-20, 24)),
    ],
)
def test_moves_are_replayed(move: str, place: tuple[int, int]) -> None:
    objects = tuple(Object(i, "red", "cube", "small", "metal", (0, 4 * i)) for i in range(10))
    after = replay(Scene(objects), [Change(1, "position", move)])
    assert after.objects[1].position == place
    with pytest.raises(ValueError, match="off the table"):
        replay(after, [Change(9, "position", "right.1")])


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


def test_moves_pair_off_as_far_as_they_can() -> None:
    """As by trying every order, and in time where trying every order would take years."""
    draw = Random(0)
    steps = ["front.1", "front.2", "behind.1", "left.2"]
    for _ in range(300):
        truth = []
        for _ in range(draw.randint(1, 4)):
            options = draw.sample(steps, draw.choice((0, 2, 3)))
            truth.append(Change(0, "position", draw.choice(options or steps), tuple(options)))
        said = [Change(0, "position", step) for step in draw.choices(steps, k=draw.randint(0, 3))]
        pairs = pair_moves(said, truth)
        assert all(truth[true].accepts(said[place]) for true, place in pairs.items())
        assert len(set(pairs.values())) == len(pairs)
        none = [Change(9, "size", "small")] * len(truth)
        most = max(
            sum(true.accepts(one) for true, one in zip(truth, order, strict=True))
            for order in permutations([*said, *none], len(truth))
        )
        assert len(pairs) == most
    moves = [move for move in MOVES if move != "right.2"]
    open_ended = [Change(3, "position", move, tuple(moves)) for move in moves]
    truth = [*open_ended, Change(3, "position", "right.2")]
    said = [Change(3, "position", move) for move in [*moves, moves[0]]]
    with patience():
        assert not same_changes(said, truth)
        assert same_changes([*said[:-1], truth[-1]], truth)
