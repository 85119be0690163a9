"""The prompt: what is asked, and that the truth is not in it."""

from dataclasses import replace

import pytest

from star_r1.tvr.answer import parse_answer
from star_r1.tvr.change import parse_changes
from star_r1.tvr.prompt import build_instruction, build_prompt
from star_r1.tvr.sample import Sample
from star_r1.tvr.scene import Object, Scene
from star_r1.tvr.vocabulary import MOVES, STANDARD, TRANCE, VALUES, Vocabulary

PLACES = [(-40, -40), (0, 0), (-40, 0), (10, 10), (40, 40), (40, -40), (-10, 10), (0, 40), (40, 0)]
SCENE = Scene(
    (
        *(Object(i, "red", "cube", "small", "metal", place) for i, place in enumerate(PLACES)),
        Object(9, "cyan", "sphere", "large", "glass", (-12, -12), 1.0),
    )
)


def test_messages() -> None:
    system, user = build_prompt(Sample("000001-left", SCENE, parse_changes("9.color.red"), "left"))
    assert system == {"role": "system", "content": [{"type": "text", "text": build_instruction()}]}
    assert user["role"] == "user"
    assert user["content"] == [
        {"type": "image"},
        {"type": "image"},
        {
            "type": "text",
            "text": "Initial objects:\n"
            "1: small red metal cube\n"
            "3: small red metal cube\n"
            "6: small red metal cube\n"
            "9: large cyan glass sphere",
        },
    ]


def test_the_prompt_does_not_depend_on_truth_or_view() -> None:
    first = Sample("000001-center", SCENE, parse_changes("9.color.red"))
    second = Sample("000001-right", SCENE, parse_changes("1.shape.sphere, 3.size.large"), "right")
    assert build_prompt(first) == build_prompt(second)


def test_the_instruction_names_vocabulary_and_format() -> None:
    for attribute, values in VALUES.items():
        assert f"{attribute}: {', '.join(values)}\n" in build_instruction()
    assert (
        "<think>reasoning</think><answer>2.color.cyan, 3.shape.cube</answer>" in build_instruction()
    )


def test_where_objects_move_all_ten_are_listed_with_their_places() -> None:
    sample = Sample("000001-center", replace(SCENE, vocabulary=TRANCE), ())
    system, user = build_prompt(sample)
    lines = user["content"][2]["text"].splitlines()
    assert len(lines) == 11
    assert lines[1] == "0: small red metal cube, out of sight at (-40, -40)"
    assert lines[10] == "9: large cyan glass sphere, at (-12, -12)"
    instruction = system["content"][0]["text"]
    assert f"position: {', '.join(MOVES)}\n" in instruction
    assert "no object was moved" not in instruction


@pytest.mark.parametrize(
    "vocabulary",
    [
        STANDARD,
        TRANCE,
        Vocabulary(attributes=("material",)),
        Vocabulary(attributes=("position",)),
        Vocabulary(colors={"pink": (255, 180, 200), "mint": (170, 240, 200)}),
    ],
)
def test_the_example_is_an_answer_of_the_vocabulary(vocabulary: Vocabulary) -> None:
    answer = parse_answer(build_instruction(vocabulary).splitlines()[-1], vocabulary)
    assert answer.well_formed
    assert len(answer.changes) == 2
