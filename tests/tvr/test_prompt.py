"""The prompt: what is asked, and that the truth is not in it."""

from star_r1.tvr.change import parse_changes
from star_r1.tvr.prompt import INSTRUCTION, build_prompt
from star_r1.tvr.sample import Sample
from star_r1.tvr.scene import Object, Scene
from star_r1.tvr.vocabulary import VALUES

PLACES = [(-40, -40), (0, 0), (-40, 0), (10, 10), (40, 40), (40, -40), (-10, 10), (0, 40), (40, 0)]
SCENE = Scene(
    (
        *(Object(i, "red", "cube", "small", "metal", place) for i, place in enumerate(PLACES)),
        Object(9, "cyan", "sphere", "large", "glass", (-12, -12), 1.0),
    )
)


def test_messages() -> None:
    system, user = build_prompt(Sample("000001-left", SCENE, parse_changes("9.color.red"), "left"))
    assert system == {"role": "system", "content": [{"type": "text", "text": INSTRUCTION}]}
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
        assert f"{attribute}: {', '.join(values)}\n" in INSTRUCTION
    assert "<think>reasoning</think><answer>2.color.cyan, 3.shape.cube</answer>" in INSTRUCTION
