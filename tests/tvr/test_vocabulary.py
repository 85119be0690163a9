"""The vocabulary: TRANCE's numbers, and what a custom one may and may not be."""

import json
from typing import Any

import pytest

from star_r1.tvr.vocabulary import (
    MOVES,
    RADIUS_CELLS,
    STANDARD,
    TRANCE,
    Vocabulary,
    camera_position,
)


def test_trance_has_33_values() -> None:
    assert sum(len(values) for values in TRANCE.grammar.values()) == 33
    assert sum(len(values) for values in STANDARD.grammar.values()) == 17


def test_moves_in_cells() -> None:
    assert len(MOVES) == 16
    assert MOVES["behind.2"] == (20, 0)
    assert MOVES["front-left.1"] == (-10, -10)
    assert MOVES["right.1"] == (0, 10)
    assert RADIUS_CELLS == {"small": 2, "medium": 4, "large": 6}


@pytest.mark.parametrize("vocabulary", [STANDARD, TRANCE])
def test_json_comes_back_exactly(vocabulary: Vocabulary) -> None:
    back = Vocabulary.from_json(vocabulary.to_json())
    assert back == vocabulary
    assert hash(back) == hash(vocabulary)
    assert Vocabulary.from_json("{}") == STANDARD
    assert STANDARD != TRANCE


def test_the_order_of_values_makes_another_vocabulary() -> None:
    assert Vocabulary(shapes=("sphere", "cube", "cylinder")) != STANDARD
    swapped = Vocabulary(sizes={"large": 0.9, "medium": 0.6, "small": 0.3})
    assert swapped != STANDARD
    assert swapped.values("size") == ("large", "medium", "small")


def test_a_custom_vocabulary() -> None:
    text = json.dumps(
        {
            "colors": {"pink": [255, 180, 200], "mint": [170, 240, 200]},
            "sizes": {"tiny": 0.2, "s": 0.4},
        }
    )
    vocabulary = Vocabulary.from_json(text)
    assert vocabulary.values("color") == ("pink", "mint")
    assert [vocabulary.radius_cells(size) for size in ("tiny", "s")] == [2, 3]
    assert vocabulary.values("shape") == STANDARD.values("shape")


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ([], "not a mapping of colors"),
        ({"colours": {}}, "'colours' is not one of colors"),
        ({"colors": ["red"]}, "colors: .* is not a mapping"),
        ({"colors": {"red": 5, "blue": [0, 0, 1]}}, "not a vocabulary"),
        ({"colors": {"red": [0, 0, 256], "blue": [0, 0, 1]}}, "red is .* each 0-255"),
        ({"colors": {"Red": [0, 0, 0], "blue": [0, 0, 1]}}, "'Red' is no name"),
        ({"colors": {"a.b": [0, 0, 0], "blue": [0, 0, 1]}}, "'a.b' is no name"),
        ({"colors": {}}, "colors: give at least one"),
        ({"colors": {"red": [1, 2, 3]}}, "color has one value only"),
        ({"sizes": {"huge": 5, "small": 1}}, "huge is 5"),
        ({"sizes": {"none": 0, "small": 1}}, "none is 0"),
        ({"sizes": {"odd": "x", "small": 1}}, "odd is x"),
        ({"shapes": ["cube", "cone"]}, "'cone' is not one of cube"),
        ({"shapes": ["cube", "cube"]}, "each once"),
        ({"shapes": ["cube", ["x"]]}, "not a vocabulary"),
        ({"materials": "metal"}, "is not a list"),
        ({"attributes": ["weight"]}, "'weight' is not one of color"),
        ({"attributes": []}, "attributes: give at least one"),
    ],
)
def test_what_is_no_vocabulary_is_a_value_error(raw: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Vocabulary.from_json(json.dumps(raw))


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000])
def test_what_is_not_json_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        Vocabulary.from_json(text)


@pytest.mark.parametrize("view", ["bottom", "az", "az360", "az-1", "az01", "az1.5", "az٣", ""])
def test_there_are_no_other_views(view: str) -> None:
    with pytest.raises(ValueError, match="choose from center, left, right, top, and az0"):
        camera_position(view)


def test_azimuths_start_at_the_center_camera() -> None:
    assert camera_position("az0") == camera_position("center")
    assert camera_position("az180")[0] == pytest.approx(-camera_position("center")[0])
    assert camera_position("top")[:2] == (0, 0)
