"""The reader of reasonings: what it finds in texts of many styles, and in hostile ones."""

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.patience import patience

from star_r1.analyze.reading import LONGEST, Reading, find_reasoning, read_reasoning
from star_r1.tvr import TRANCE, Change, Object, Sample, Scene, Vocabulary, parse_changes
from star_r1.tvr.vocabulary import STANDARD

SCENES = {
    "A": (
        {
            0: "small red metal cube",
            1: "large blue glass sphere",
            2: "medium green rubber cylinder",
            3: "small gray rubber cube",
            5: "large yellow metal sphere",
            7: "medium purple glass cube",
        },
        "3.material.metal, 5.color.cyan, 2.size.small",
    ),
    "B": (
        {
            1: "medium red glass cylinder",
            2: "large gray metal cube",
            4: "small blue rubber sphere",
            6: "large brown glass cube",
            8: "small yellow metal cylinder",
            9: "medium cyan rubber sphere",
        },
        "2.color.green, 4.size.large, 9.material.metal, 6.shape.sphere",
    ),
    "C": (
        {
            0: "large blue rubber cylinder",
            3: "small purple glass sphere",
            4: "medium gray metal sphere",
            5: "small green metal cube",
            7: "large red rubber cube",
            8: "medium yellow glass cylinder",
        },
        "3.color.brown, 4.material.glass, 5.size.large, 7.shape.cylinder",
    ),
    "D": (
        {
            2: "small cyan metal cube",
            4: "large purple rubber sphere",
            5: "medium blue glass cylinder",
            6: "small brown rubber cube",
            8: "large gray glass sphere",
            9: "medium red metal cylinder",
        },
        "2.material.rubber, 4.color.green, 5.size.small, 9.shape.sphere",
    ),
}
EXAMPLES = [
    json.loads(line)
    for line in (Path(__file__).parent / "examples.jsonl").read_text("utf-8").splitlines()
]
"""Written to build the reader, by whoever built it: they show what it can, not how well it does."""


def make_sample(
    shown: dict[int, str], truth: str = "none", vocabulary: Vocabulary = STANDARD
) -> Sample:
    objects = []
    for index in range(10):
        first = (vocabulary.values(name)[0] for name in ("size", "color", "material", "shape"))
        size, color, material, shape = shown[index].split() if index in shown else first
        place = (0 if index in shown else 40, 4 * index - 18)
        objects.append(Object(index, color, shape, size, material, place))
    changes = parse_changes(truth, vocabulary)
    return Sample("000000-left", Scene(tuple(objects), vocabulary), changes, "left")


SAMPLE = make_sample(*SCENES["A"])


def read(reasoning: str, sample: Sample = SAMPLE) -> Reading:
    return read_reasoning(f"<think>{reasoning}</think><answer>none</answer>", sample)


def stated(reading: Reading) -> set[str]:
    return set(map(str, reading.stated))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example["reasoning"][:50])
def test_an_example(example: dict[str, Any]) -> None:
    reading = read(example["reasoning"], make_sample(*SCENES[example["scene"]]))
    assert list(reading.mentioned) == example["mentioned"]
    assert list(reading.compared) == example["compared"]
    assert list(reading.corresponding) == example["corresponding"]
    assert stated(reading) == set(example["stated"])


def test_the_mini_models_lines_are_read_exactly(data_folder: Path) -> None:
    import numpy as np

    from star_r1.data.dataset import SAMPLE_COLUMNS, read_columns, row_to_sample
    from star_r1.model.lessons import compare

    draw = np.random.default_rng(0)
    for row in read_columns(data_folder, SAMPLE_COLUMNS):
        sample = row_to_sample(row)
        text = compare(sample.initial, sample.final, draw)
        order = tuple(int(line[0]) for line in find_reasoning(text).splitlines())
        reading = read_reasoning(text, sample)
        assert reading.mentioned == order
        assert reading.compared == reading.corresponding == tuple(sorted(order))
        assert reading.stated == {c for c in sample.changes if c.index in order}
        assert reading.follows is True
        assert reading.words == len(find_reasoning(text).split())
        assert reading.coverage == len(order) / len(sample.initial.visible)


@pytest.mark.parametrize(
    ("completion", "reasoning"),
    [
        ("<think>a</think><answer>b</answer>", "a"),
        ("<think>a<answer>b</answer>", "a<answer>b</answer>"),
        ("a</think><answer>b</answer>", "a"),
        ("a</think>", "a"),
        ("a <answer>b</answer> c", "a "),
        ("a <answer>b</answer> c <answer>d</answer>", "a <answer>b</answer> c "),
        ("a", "a"),
        ("", ""),
        (None, ""),
    ],
)
def test_where_the_reasoning_is(completion: str | None, reasoning: str) -> None:
    assert find_reasoning(completion) == reasoning


@pytest.mark.parametrize(
    ("reasoning", "answer", "follows"),
    [
        ("5: yellow -> cyan", "5.color.cyan", True),
        ("5: yellow -> cyan", "5.color.cyan, 3.material.metal", False),
        ("5: yellow -> cyan", "none", False),
        ("all is the same", "none", True),
        ("5: yellow -> cyan", "5.color.cyan, nonsense", True),
        (" \n", "none", None),
    ],
)
def test_whether_the_answer_follows(reasoning: str, answer: str, follows: bool | None) -> None:
    text = f"<think>{reasoning}</think><answer>{answer}</answer>"
    assert read_reasoning(text, SAMPLE).follows is follows


def test_only_visible_objects_are_named_but_any_change_is_stated() -> None:
    reading = read("4: small red metal cube now small blue metal cube color\n0: same")
    assert (reading.mentioned, reading.compared, reading.corresponding) == ((0,), (0,), ())
    assert stated(reading) == {"4.color.blue"}


@pytest.mark.parametrize(
    "reasoning",
    [
        "Object 4: a cube. In the final picture, this sphere is green.",
        "Object 4 is gone. In the final image, this ball is green.",
    ],
)
def test_how_an_object_out_of_sight_looks_is_not_known(reasoning: str) -> None:
    reading = read(reasoning)
    assert (reading.mentioned, reading.compared) == ((), ())
    assert stated(reading) == {"4.color.green"}


def test_what_a_text_says_does_not_depend_on_looks_out_of_sight() -> None:
    text = "Object 4 is a small blue cube. In the second picture there is a small red cube."
    shown, _ = SCENES["A"]
    for hidden in ("small blue glass cube", "large green metal sphere"):
        objects = list(make_sample(shown).initial.objects)
        size, color, material, shape = hidden.split()
        objects[4] = replace(objects[4], size=size, color=color, material=material, shape=shape)
        reading = read(text, Sample("000000-left", Scene(tuple(objects)), (), "left"))
        assert stated(reading) == {"4.color.red"}


def test_a_vocabulary_of_ones_own() -> None:
    vocabulary = Vocabulary.from_dict(
        {
            "colors": {"light-blue": [1, 2, 3], "pink2": [3, 2, 1], "left": [2, 2, 2]},
            "sizes": {"x-small": 0.3, "gigantic": 1.0},
        }
    )
    sample = make_sample(
        {2: "x-small light-blue metal cube", 3: "gigantic left glass sphere"}, "none", vocabulary
    )
    reading = read(
        "The light blue cube became pink2. The left sphere is now x-small. "
        "2: x-small light-blue metal cube now x-small pink2 metal cube color",
        sample,
    )
    assert reading.mentioned == reading.compared == (2, 3)
    assert stated(reading) == {"2.color.pink2", "3.size.x-small"}


MOVES = make_sample({2: "small red metal cube", 3: "large blue glass sphere"}, "none", TRANCE)


@pytest.mark.parametrize(
    ("reasoning", "moves"),
    [
        ("Object 2 moved 2 steps to the front left.", {"2.position.front-left.2"}),
        ("The blue sphere moved behind by 1 step.", {"3.position.behind.1"}),
        ("3.position.right.1 and 2.color.blue", {"3.position.right.1", "2.color.blue"}),
        ("Object 2 has not moved 2 steps to the left.", set()),
        ("Object 2 moved to the left.", set()),
    ],
)
def test_moves(reasoning: str, moves: set[str]) -> None:
    assert stated(read(reasoning, MOVES)) == moves


def test_without_moves_there_are_none() -> None:
    reading = read("Object 3 moved 2 steps to the left. 3.position.left.2")
    assert reading.stated == frozenset()
    assert reading.mentioned == (3,)


TEXT = (
    "object 3 red cube sphere , . and now is -> the first picture second changed from to ( ) : ; "
    "not no wait 1 2 5 - small large metal | its both all except if in same still 's mixed was "
    "there is instead where nor <think> </think> <answer> 2.color.cyan # ? ! ✓ = 0 - 9 that"
)
WORDS = [*TEXT.split(), "\n"]


PIECES = [
    " ".join(words[start : start + 6])
    for words in (example["reasoning"].split(" ") for example in EXAMPLES)
    for start in range(0, len(words), 6)
]


@given(
    st.lists(st.sampled_from(WORDS), max_size=80)
    | st.lists(st.sampled_from(PIECES), max_size=12)
    | st.lists(st.characters(), max_size=60)
)
def test_any_text_is_read(parts: list[str]) -> None:
    for joint in (" ", ""):
        text = joint.join(parts)
        for completion in (text, f"<think>{text}</think><answer>none</answer>"):
            reading = read_reasoning(completion, SAMPLE)
            visible = {thing.index for thing in SAMPLE.initial.visible}
            assert len(set(reading.mentioned)) == len(reading.mentioned)
            assert set(reading.mentioned) | set(reading.compared) <= visible
            assert set(reading.corresponding) <= set(reading.compared)
            assert all(type(change) is Change for change in reading.stated)
            assert 0 <= reading.coverage <= 1
            assert read_reasoning(completion, SAMPLE) == reading


def test_what_is_no_text() -> None:
    for completion in (None, 3, b"3: same", ["3: same"]):
        assert read_reasoning(completion, SAMPLE) == Reading(  # type: ignore[arg-type]
            (), (), (), frozenset(), None, 0, 6
        )


DRAW = random.Random(0)


@pytest.mark.parametrize(
    "unit",
    [
        "3: small gray rubber cube now small gray metal cube material\n",
        *("object 1, ", "1, ", "red ", "red, ", "red cube, ", "the same object ", "both red cube "),
        *(
            "(",
            "((a",
            "the of ",
            "behind of the ",
            "->",
            "1 and ",
            "3? ",
            "'s",
            "a-",
            "1",
            "1.",
            "\n",
        ),
        *("a cyan sphere is cyan, ", "a cyan sphere is the same, ", "wait mixed 3 is blue ", "İ"),
        "a cyan sphere in the second picture was the red cube. wait, mixed. ",
        " ".join(DRAW.choice(WORDS[:60]) for _ in range(2000)),
        "".join(DRAW.choice("abc <>()[]{}:;,.'\"-3#\n→") for _ in range(2000)),
    ],
    ids=lambda unit: repr(unit[:24]),
)
def test_time_grows_with_length_alone(unit: str) -> None:
    with patience():
        read_reasoning("<think>" + unit * (LONGEST // len(unit)), SAMPLE)


def test_of_a_text_without_end_the_beginning_is_read() -> None:
    long = "0: same\n" + "and so on " * (LONGEST // 10)
    with patience():
        reading = read_reasoning("<think>" + long + 20 * long + "3: same", SAMPLE)
    assert reading.mentioned == (0,)
    assert reading.words == len((long + 20 * long + "3: same").split())
