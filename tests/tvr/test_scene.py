"""Scenes and rigs: what they refuse, and JSON that comes back exactly."""

import json
import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from star_r1.tvr.sampler import draw_sample
from star_r1.tvr.scene import STANDARD_RIG, UNKNOWN_RIG, Object, Rig, Scene
from star_r1.tvr.vocabulary import CAMERA_POSITION, LAMP_POSITION, Vocabulary

CUBE = Object(0, "red", "cube", "small", "metal", (0, 0))
SCENE = Scene(tuple(Object(i, "red", "cube", "small", "metal", (0, 4 * i)) for i in range(10)))


@pytest.mark.parametrize(
    ("position", "visible"),
    [
        ((0, 0), True),
        ((20, -20), True),
        ((-20, 20), True),
        ((21, 0), False),
        ((0, -21), False),
        ((40, 40), False),
    ],
)
def test_the_visible_square_includes_its_border(position: tuple[int, int], visible: bool) -> None:
    assert Object(0, "red", "cube", "small", "metal", position).visible is visible


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"color": "pink"}, "color 'pink' is not one of gray, red"),
        ({"shape": "cone"}, "shape 'cone' is not one of"),
        ({"size": "tiny"}, "size 'tiny' is not one of"),
        ({"material": "wood"}, "material 'wood' is not one of"),
        ({"position": (41, 0)}, "is off the table"),
        ({"position": (0, -41)}, "is off the table"),
        ({"rotation": math.nan}, "is not a finite number"),
    ],
)
def test_an_object_outside_the_vocabulary_is_refused(fields: dict[str, Any], message: str) -> None:
    good = {"color": "red", "shape": "cube", "size": "small", "material": "metal"}
    with pytest.raises(ValueError, match=message):
        Scene((Object(0, **{**good, "position": (0, 0), **fields}), *SCENE.objects[1:]))


@pytest.mark.parametrize("objects", [(), SCENE.objects[:9], SCENE.objects[::-1], (CUBE,) * 10])
def test_a_scene_holds_ten_objects_in_order(objects: tuple[Object, ...]) -> None:
    with pytest.raises(ValueError, match="a scene has 10 objects"):
        Scene(objects)


def test_visible_objects_keep_their_index() -> None:
    assert [thing.index for thing in SCENE.visible] == [0, 1, 2, 3, 4, 5]


@given(st.integers(0, 10_000))
def test_json_comes_back_exactly(index: int) -> None:
    sample = draw_sample(0, index, lambda scene, rig, view: dict.fromkeys(range(10), 1000))
    assert Scene.from_json(sample.initial.to_json()) == sample.initial
    assert Rig.from_json(sample.rig.to_json()) == sample.rig
    assert "\n" not in sample.initial.to_json() + sample.rig.to_json()


def edited(**fields: Any) -> str:
    rows = json.loads(SCENE.to_json())
    rows[3].update(fields)
    return json.dumps(rows)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "5",
        "null",
        "[]",
        "[1]",
        "{}",
        json.dumps(json.loads(SCENE.to_json())[:9]),
        json.dumps([{"index": 0}]),
        edited(color="pink"),
        edited(color=["red"]),
        edited(weight=3),
        edited(position=[0]),
        edited(position=[0.5, 0]),
        edited(position=[True, 0]),
        edited(position=None),
        edited(rotation="east"),
        edited(index=4),
        "[" * 100_000,
    ],
)
def test_what_is_no_scene_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        Scene.from_json(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"cameras":{}}',
        json.dumps({"cameras": CAMERA_POSITION}),
        json.dumps({"cameras": {**CAMERA_POSITION, "left": [1, 2]}, "lamps": LAMP_POSITION}),
        json.dumps(
            {"cameras": {**CAMERA_POSITION, "left": [1, 2, math.nan]}, "lamps": LAMP_POSITION}
        ),
        json.dumps({"cameras": {"center": [1, 2, 3]}, "lamps": LAMP_POSITION}),
        json.dumps({"cameras": {**CAMERA_POSITION, "az360": [1, 2, 3]}, "lamps": LAMP_POSITION}),
        "[" * 100_000,
    ],
)
def test_what_is_no_rig_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        Rig.from_json(text)


def test_a_rig_may_hold_other_cameras() -> None:
    rig = Rig({**CAMERA_POSITION, "top": (0.0, 0.0, 11.0), "az90": (0.0, 9.0, 6.0)}, LAMP_POSITION)
    assert Rig.from_json(rig.to_json()) == rig


def test_a_scene_keeps_to_its_vocabulary() -> None:
    pastel = Vocabulary(colors={"pink": (255, 180, 200), "mint": (170, 240, 200)})
    objects = tuple(replace(thing, color="mint") for thing in SCENE.objects)
    scene = Scene(objects, pastel)
    assert Scene.from_json(scene.to_json(), pastel) == scene
    with pytest.raises(ValueError, match="color 'mint' is not one of gray"):
        Scene.from_json(scene.to_json())
    with pytest.raises(ValueError, match="color 'red' is not one of pink, mint"):
        Scene(SCENE.objects, pastel)


def test_the_standard_rig_is_tranches() -> None:
    assert STANDARD_RIG.cameras == CAMERA_POSITION
    assert STANDARD_RIG.lamps == LAMP_POSITION


def test_an_unknown_rig_is_empty() -> None:
    assert Rig.from_json('{"cameras":{},"lamps":{}}') == UNKNOWN_RIG
