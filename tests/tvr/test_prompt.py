"""The prompt: what is asked, and that the truth is not in it."""

from dataclasses import replace

import pytest

from star_r1.errors import UserError
from star_r1.tvr.answer import parse_answer
from star_r1.tvr.change import parse_changes
from star_r1.tvr.prompt import (
    PROMPTS,
    PromptName,
    build_instruction,
    build_prompt,
    build_solution,
)
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


DEFAULT = """\
You see two pictures of the same table: the initial one and the final one. The final picture may \
be taken from another viewpoint. The objects of the initial picture are listed by index, as size, \
color, material and shape. Between the pictures some of their attributes were changed; no object \
was moved, added or removed. Name every change.
A change is index.attribute.value, where value is the new one. Attributes and values:
color: gray, red, blue, green, brown, purple, cyan, yellow
shape: cube, sphere, cylinder
size: small, medium, large
material: rubber, metal, glass
First compare the objects between the two pictures inside <think></think>, then list the changes, \
separated by commas, inside <answer></answer>, for example:
<think>reasoning</think><answer>2.color.cyan, 3.shape.cube</answer>"""
"""Published datasets hold these very words, and models were trained on them."""


def test_the_default_never_changes() -> None:
    assert build_instruction() == DEFAULT
    assert build_prompt(SAMPLE) == build_prompt(SAMPLE, "think", ())


SAMPLE = Sample("000001-left", SCENE, parse_changes("9.color.red, 3.size.large, 3.shape.sphere"))


@pytest.mark.parametrize("name", PROMPTS)
def test_variants_differ_in_what_they_ask_and_give(name: PromptName) -> None:
    think, table = PROMPTS[name]
    system, user = build_prompt(SAMPLE, name)
    instruction = system["content"][0]["text"]
    assert ("<think>" in instruction) == think
    assert ("no reasoning" in instruction) != think
    assert ("listed by index" in instruction) == table
    assert ("is written on or beside it" in instruction) != table
    assert f"color: {', '.join(VALUES['color'])}\n" in instruction
    *pictures, text = user["content"]
    assert pictures == [{"type": "image"}] * 2
    assert (text["text"] == build_prompt(SAMPLE)[1]["content"][2]["text"]) == table
    answer = parse_answer(instruction.splitlines()[-1])
    assert len(answer.changes) == 2
    assert answer.well_formed == think


@pytest.mark.parametrize("name", ["think-no-table", "direct-no-table"])
def test_without_a_table_nothing_may_come_into_sight(name: PromptName) -> None:
    with pytest.raises(UserError, match=r"^prompt '.*-no-table': .*; use a prompt with the table"):
        build_prompt(Sample("0-center", replace(SCENE, vocabulary=TRANCE), ()), name)


def test_a_solution_compares_every_visible_object_in_order() -> None:
    assert build_solution(SAMPLE) == (
        "<think>\n"
        "1: small red metal cube -> small red metal cube: same\n"
        "3: small red metal cube -> large red metal sphere: shape, size changed\n"
        "6: small red metal cube -> small red metal cube: same\n"
        "9: large cyan glass sphere -> large red glass sphere: color changed\n"
        "</think>\n"
        "<answer>3.shape.sphere, 3.size.large, 9.color.red</answer>"
    )
    assert build_solution(SAMPLE, "direct") == (
        "<answer>3.shape.sphere, 3.size.large, 9.color.red</answer>"
    )


def test_a_solution_says_what_moves_into_sight_and_out_of_it() -> None:
    changes = parse_changes("2.position.behind.2, 1.position.front-left.2", TRANCE)
    sample = Sample("0-center", replace(SCENE, vocabulary=TRANCE), changes)
    text = build_solution(sample)
    assert text.splitlines()[1:3] == [
        "1: small red metal cube, at (0, 0) -> small red metal cube, at (-20, -20): "
        "position changed",
        "2: small red metal cube, out of sight at (-40, 0) -> small red metal cube, at (-20, 0): "
        "position changed",
    ]
    answer = parse_answer(text, TRANCE)
    assert answer.well_formed
    assert answer.is_exactly(changes)


@pytest.mark.parametrize("name", PROMPTS)
def test_examples_stand_before_the_question_with_pictures_and_answers(name: PromptName) -> None:
    asked = Sample("000002-left", SCENE, parse_changes("1.color.cyan"), "left")
    system, user, solution, last = build_prompt(asked, name, [SAMPLE])
    assert [system, last] == build_prompt(asked, name)
    assert user == build_prompt(SAMPLE, name)[1]
    assert solution["role"] == "assistant"
    answer = parse_answer(solution["content"][0]["text"])
    assert answer.is_exactly(SAMPLE.changes)
    assert answer.well_formed == PROMPTS[name].think


def test_an_example_of_another_vocabulary_is_refused() -> None:
    other = Sample("000003-left", replace(SCENE, vocabulary=TRANCE), ())
    with pytest.raises(UserError, match="example '000003-left' has another vocabulary than"):
        build_prompt(SAMPLE, "think", [other])
