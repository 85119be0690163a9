import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.patience import patience

from star_r1.explore.mentions import split
from star_r1.tvr.scene import Object
from star_r1.tvr.vocabulary import STANDARD, Vocabulary

BEFORE = [
    Object(0, "red", "cube", "small", "metal", (0, 0)),
    Object(3, "red", "cube", "large", "metal", (9, 9)),
    Object(5, "blue", "sphere", "large", "glass", (9, -9)),
]
AFTER = [
    BEFORE[0],
    Object(3, "cyan", "cube", "large", "metal", (9, 9)),
    BEFORE[2],
]


def mentions(text: str) -> list[tuple[int, str]]:
    pieces = split(text, BEFORE, AFTER, STANDARD)
    assert "".join(p if isinstance(p, str) else p[1] for p in pieces) == text
    return [piece for piece in pieces if not isinstance(piece, str)]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Object 3 is here", [(3, "Object 3")]),
        ("obj 3, object #5, item 0", [(3, "obj 3"), (5, "object #5"), (0, "item 0")]),
        ("#3 and #33 and &#3; and a#3", [(3, "#3")]),
        ("<think>3: a\n - 5: b\n**0**: c", [(3, "3:"), (5, " - 5:"), (0, "**0**:")]),
        ("at 3:15, 3: in the middle", []),
        ("3:15 at the beginning", []),
        ("<answer>3.color.cyan, 5.shape.cube</answer>", [(3, "3.color.cyan"), (5, "5.shape.cube")]),
        ("0.3.color.red and 13.color.red", []),
        ("object 7, object 30, objects 3", []),  # not listed, no index, plural
        ("the small red metal cube", [(0, "small red metal cube")]),
        ("the SMALL RED cube", [(0, "SMALL RED cube")]),
        ("a red metal cube", [(3, "red metal cube")][:0]),  # two of them at first
        ("a cyan cube", [(3, "cyan cube")]),  # as it looks at the end
        ("the large glass sphere", [(5, "large glass sphere")]),
        ("the sphere", []),  # no attribute beside the shape
        ("a small yellow cube, a dark-red cube", []),
        ("large  blue\tglass sphere", [(5, "large  blue\tglass sphere")]),
        ("", []),
    ],
)
def test_a_word_is_linked_only_where_it_names_one_object(
    text: str, found: list[tuple[int, str]]
) -> None:
    assert mentions(text) == found


def test_words_of_a_custom_vocabulary() -> None:
    words = Vocabulary(colors={"red": (1, 2, 3), "red-hot": (4, 5, 6)})
    thing = Object(2, "red-hot", "cube", "small", "metal", (0, 0))
    assert split("red-hot cube", [thing], [thing], words) == [(2, "red-hot cube")]


@given(st.text(alphabet="03:#. \n<>*-objectredsmallmetalcube", max_size=80))
def test_the_pieces_are_the_text(text: str) -> None:
    mentions(text)


@pytest.mark.parametrize(
    "unit", ["object 3 ", "small red ", "3.color.", "*", " ", "- ", "object", "<", "0.0.0."]
)
def test_time_is_linear_in_the_text(unit: str) -> None:
    with patience():
        mentions(unit * (400_000 // len(unit)))
