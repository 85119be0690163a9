"""The parser: a strict format, lenient items, and no text that it chokes on."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.patience import patience

from star_r1.tvr.answer import Answer, opened, parse_answer, whole
from star_r1.tvr.change import Change, format_changes
from star_r1.tvr.vocabulary import N_OBJECTS, TRANCE, VALUES, Vocabulary

CYAN, CUBE = Change(2, "color", "cyan"), Change(3, "shape", "cube")
CHANGES = st.sampled_from(
    [Change(i, a, v) for i in range(N_OBJECTS) for a, values in VALUES.items() for v in values]
)


def items(text: str) -> list[Change | None]:
    return [
        prediction.change for prediction in parse_answer(f"<answer>{text}</answer>").predictions
    ]


@pytest.mark.parametrize(
    "text",
    [
        "<think>a</think><answer>2.color.cyan</answer>",
        "<think></think><answer></answer>",
        " \n<think>a\nb</think>\n\t<answer>\n2.color.cyan\n</answer>\n\u00a0",
        "<think>1 < 2 > 0, <b>, </i></think><answer>none</answer>",
    ],
)
def test_the_format_is_kept(text: str) -> None:
    answer = parse_answer(text)
    assert (answer.well_formed, answer.problem) == (True, None)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "no <think>"),
        ("2.color.cyan", "no <think>"),
        ("<answer>2.color.cyan</answer>", "no <think>"),
        ("<think>a<answer>2.color.cyan</answer>", "no </think>"),
        ("<think>a</think>", "no <answer>"),
        ("<think>a</think><answer>2.color", "no </answer>"),
        ("<THINK>a</THINK><answer></answer>", "no <think>"),
        ("<think>a</think><think>b</think><answer></answer>", "2 <think> tags"),
        ("<think>a</think><answer></answer><answer></answer>", "2 <answer> tags"),
        ("<think>a</think><answer></answer></answer>", "2 </answer> tags"),
        ("<think>a<answer>b</answer></think><answer></answer>", "2 <answer> tags"),
        ("<answer></answer><think>a</think>", "the tags are not in the order think, answer"),
        ("<think><answer></think></answer>", "the tags are not in the order think, answer"),
        ("</think><think><answer></answer>", "the tags are not in the order think, answer"),
        ("So: <think>a</think><answer></answer>", "text before the blocks"),
        ("<think>a</think> so <answer></answer>", "text between the blocks"),
        ("<think>a</think><answer></answer>.", "text after the blocks"),
    ],
)
def test_the_format_is_broken(text: str, problem: str) -> None:
    answer = parse_answer(text)
    assert (answer.well_formed, answer.problem) == (False, problem)


@pytest.mark.parametrize("text", [None, 3, b"<answer></answer>", ["2.color.cyan"]])
def test_what_is_no_text_has_no_predictions(text: object) -> None:
    answer = parse_answer(text)
    assert answer == Answer("", (), False, "the completion is not text")


@pytest.mark.parametrize(
    "text",
    [
        "2.color.cyan, 3.shape.cube",
        "2.color.cyan,3.shape.cube",
        "2.color.cyan; 3.shape.cube;",
        "2.color.cyan\n3.shape.cube\n",
        "2.color.cyan,\r\n\r\n 3.shape.cube",
        "2.color.cyan 3.shape.cube",
        "2.color.cyan. 3.shape.cube.",
        "2.color.cyan - 3.shape.cube",
        " 2 . color . cyan ,\t3 .shape. cube",
        "2.Color.CYAN, 3.SHAPE.Cube",
        "2.colour.cyan, 3.shape.cube",
        '["2.color.cyan", "3.shape.cube"]',
        "{'2.color.cyan', `3.shape.cube`}",
        "(2.color.cyan), (3.shape.cube)",
        "(2.color.cyan 3.shape.cube)",
        "2.'color'.\"cyan\", [3].[shape].[cube]",
        "- 2.color.cyan\n- 3.shape.cube",
        "* 2 . color . cyan\n• 3.shape.cube",
        "**2.color.cyan**, 3.shape.cube.",
        "“2.color.cyan”, ‘3.shape.cube’",
        ", ,, 2.color.cyan, [], 3.shape.cube, ...",
    ],
)
def test_lenient_items(text: str) -> None:
    assert items(text) == [CYAN, CUBE]


def test_grey_is_gray() -> None:
    assert items("2.colour.Grey") == [Change(2, "color", "gray")]


@pytest.mark.parametrize(
    "item",
    [
        "2.color.pink",
        "2.shape.cyan",
        "2.position.left",
        "10.color.cyan",
        "-1.color.cyan",
        "02.color.cyan",
        "٢.color.cyan",
        "2.color",
        "2.color.cyan.cyan",
        "2.color.dark cyan",
        "color.2.cyan",
        "2-color-cyan",
        "change_color(2 cyan)",
        "object 2.color.cyan",
        "2.color.cyan and 3.shape.cube",
        "the cube has turned cyan",
        "cyan",
        "none",
        "?",
    ],
)
def test_an_item_that_is_no_triplet_is_a_wrong_prediction(item: str) -> None:
    assert items(f"2.color.cyan, {item}") == [CYAN, None]
    prediction = parse_answer(f"<answer>{item}, 2.color.cyan</answer>").predictions[0]
    assert prediction.text == item


@pytest.mark.parametrize("text", ["", " \n", "none", "None.", " [NONE]\n", '"none"', ",;,", "()"])
def test_answers_without_predictions(text: str) -> None:
    assert items(text) == []


def test_repeats_and_order_are_kept() -> None:
    answer = parse_answer("<answer>3.shape.cube, nonsense, 2.color.cyan, 3.shape.cube</answer>")
    assert answer.changes == (CUBE, CYAN, CUBE)
    assert [p.text for p in answer.predictions] == [
        "3.shape.cube",
        "nonsense",
        "2.color.cyan",
        "3.shape.cube",
    ]


@pytest.mark.parametrize(
    ("text", "changes"),
    [
        ("<answer>2.color.cyan</answer> <answer>3.shape.cube</answer>", (CUBE,)),
        ("<answer>2.color.cyan</answer> <answer>3.shape.cube", (CYAN,)),
        ("<answer>2.color.cyan</answer> 3.shape.cube</answer>", (CYAN,)),
        ("<answer>2.color.cyan <answer>3.shape.cube</answer>", (CUBE,)),
        ("<think><answer>2.color.cyan</answer></think>", (CYAN,)),
        ("</answer>2.color.cyan<answer>", ()),
        ("<answer>2.color.cyan", ()),
        ("2.color.cyan</answer>", ()),
        ("2.color.cyan", ()),
    ],
)
def test_the_last_complete_answer_block_is_read(text: str, changes: tuple[Change, ...]) -> None:
    answer = parse_answer(text)
    assert answer.changes == changes
    assert not answer.well_formed


@pytest.mark.parametrize(
    ("text", "reasoning"),
    [
        ("<think>a</think><answer></answer>", "a"),
        ("<think> a\nb </think>", " a\nb "),
        ("<think>a</think><think>b</think>", "a"),
        ("<think>cut off", "cut off"),
        ("<answer></answer>", ""),
    ],
)
def test_reasoning(text: str, reasoning: str) -> None:
    assert parse_answer(text).reasoning == reasoning


RIGHT = "<answer>2.color.cyan</answer>"
CHAT = "<|im_start|>user\nInside <think></think>, please.<|im_end|>\n<|im_start|>assistant\n"


@pytest.mark.parametrize(
    ("end", "block"),
    [
        ("", ""),
        ("<think>", "<think>"),
        ("<think>\n", "<think>\n"),
        ("<think>\n\n</think>\n\n", "<think>\n\n</think>\n\n"),
        ("<think></think>", "<think></think>"),
        ("</think>", ""),
        ("<think>So", ""),
        ("<think></think></think>", ""),
    ],
)
def test_the_block_that_a_prompt_begins(end: str, block: str) -> None:
    assert opened(CHAT + end) == block
    assert opened(end) == block


@pytest.mark.parametrize(
    ("end", "text", "kept", "reasoning"),
    [
        ("", f"<think>a</think>{RIGHT}", True, "a"),
        ("", f"a</think>{RIGHT}", False, ""),
        ("", RIGHT, False, ""),
        ("<think>", f"a</think>{RIGHT}", True, "a"),
        ("<think>\n", f"a\n</think>\n\n{RIGHT}", True, "\na\n"),
        ("<think>\n", f"</think>{RIGHT}", True, "\n"),
        ("<think>\n", RIGHT, False, f"\n{RIGHT}"),
        ("<think>\n", "cut off", False, "\ncut off"),
        ("<think>\n", f"a</think>b</think>{RIGHT}", False, "\na"),
        ("<think>\n", f"a<think>b</think>{RIGHT}", False, "\na<think>b"),
        ("<think>\n", f"\n<think>a</think>{RIGHT}", True, "a"),
        ("<think>\n\n</think>\n\n", RIGHT, True, "\n\n"),
        ("<think>\n\n</think>\n\n", f"So: {RIGHT}", False, "\n\n"),
        ("<think>\n\n</think>\n\n", f"<think>a</think>{RIGHT}", True, "a"),
        ("<think>\n\n</think>\n\n", f"a</think>{RIGHT}", False, "\n\n"),
    ],
)
def test_a_known_prompt_and_the_completion_are_judged_together(
    end: str, text: str, kept: bool, reasoning: str
) -> None:
    answer = parse_answer(whole(text, CHAT + end))
    assert (answer.well_formed, answer.reasoning) == (kept, reasoning)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        (f"<think>a</think>{RIGHT}", True),
        (f"a</think>{RIGHT}", True),
        (f"</think>{RIGHT}", True),
        (RIGHT, False),
        (f"a</think>b</think>{RIGHT}", False),
        (f"a<think>b</think>{RIGHT}", False),
        (f"a</think><think>b</think>{RIGHT}", False),
        ("", False),
    ],
)
def test_without_its_prompt_a_completion_tells_what_was_opened(text: str, kept: bool) -> None:
    assert parse_answer(whole(text)).well_formed is kept


@pytest.mark.parametrize(
    ("reasoning", "text"),
    [
        ("a", RIGHT),
        ("<think>a</think>", RIGHT),
        ("<think>a", RIGHT),
        ("a</think>", RIGHT),
        ("a", f"</think>{RIGHT}"),
        ("<think>a</think>", f"</think>{RIGHT}"),
        ("<think>a</think></think>", RIGHT),
        ("<think><think>a", RIGHT),
        ("<think>a", f"</think>{RIGHT}"),
        ("a", f"<think>a</think>{RIGHT}"),
        ("other thoughts", f"<think>a</think>{RIGHT}"),
        (f"a</think>{RIGHT}", ""),
        (f"<think>a</think>{RIGHT}", ""),
        ("", f"<think>a</think>{RIGHT}"),
        (None, f"a</think>{RIGHT}"),
    ],
)
def test_reasoning_that_came_apart_gets_each_tag_once(reasoning: str | None, text: str) -> None:
    answer = parse_answer(whole(text, reasoning=reasoning))
    assert (answer.well_formed, answer.reasoning, answer.changes) == (True, "a", (CYAN,))


def test_what_is_no_text_stays_what_it_is() -> None:
    assert whole(None, "<think>", "a") is None


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("2.color.cyan, 3.shape.cube", True),
        ("3.shape.cube, 2.color.cyan, 3.shape.cube", True),
        ("3.shape.cube", False),
        ("2.color.cyan, 3.shape.cube, 3.size.small", False),
        ("2.color.cyan, 3.shape.cube, ?", False),
        ("", False),
    ],
)
def test_is_exactly(text: str, right: bool) -> None:
    assert parse_answer(f"<answer>{text}</answer>").is_exactly([CYAN, CUBE]) is right


@given(st.lists(CHANGES), st.text().filter(lambda text: "<" not in text))
def test_what_is_written_is_read_back(changes: list[Change], reasoning: str) -> None:
    text = f"<think>{reasoning}</think><answer>{format_changes(changes)}</answer>"
    answer = parse_answer(text)
    assert answer.changes == tuple(changes)
    assert len(answer.predictions) == len(changes)
    assert answer.well_formed
    assert answer.reasoning == reasoning


PIECES = st.one_of(
    st.sampled_from(["<think>", "</think>", "<answer>", "</answer>", "2.color.cyan", "none"]),
    st.sampled_from("<>.,;-*'[2 \n\x00\u2028İ\ud800"),
)


@given(st.one_of(st.text(), st.lists(PIECES, max_size=60).map("".join)))
def test_no_text_raises(text: str) -> None:
    answer = parse_answer(text)
    assert answer.well_formed == (answer.problem is None)
    assert len(answer.changes) <= len(answer.predictions)
    if answer.well_formed:
        assert text.strip().startswith("<think>")
        assert text.strip().endswith("</answer>")


SAID = st.lists(PIECES, max_size=12).map("".join)


@given(SAID)
def test_a_template_that_begins_the_block_need_not_be_known(text: str) -> None:
    """Our own training and evaluation know it, other engines' rewards do not."""
    known = parse_answer(whole(text, "<think>\n"))
    found = parse_answer(whole(text))
    assert (known.well_formed, known.predictions) == (found.well_formed, found.predictions)


@given(SAID, st.sampled_from(["", "<think>\n", "<think>\n\n</think>\n\n"]))
def test_what_is_whole_stays_so_and_no_prompt_makes_it_worse(text: str, prompt: str) -> None:
    assert whole(whole(text)) == whole(text)
    if parse_answer(text).well_formed:
        assert whole(text, prompt) == text


@given(SAID, SAID)
def test_reasoning_apart_always_lies_in_one_block(text: str, reasoning: str) -> None:
    found = whole(text, reasoning=reasoning)
    if reasoning and "<think>" not in text:
        assert found.count("<think>") == 1
        assert found.count("</think>") == max(1, text.count("</think>"))
    if "<think>" not in text + reasoning and "</think>" not in text + reasoning and reasoning:
        assert found == f"<think>{reasoning}</think>{text}"


MEGABYTE = 1_000_000
HOSTILE = {
    "open think": "<think>",
    "open answer": "<answer>",
    "closed answer": "</answer>",
    "pairs": "<answer></answer>",
    "crossed": "<think><answer></think></answer>",
    "angle": "<",
    "commas": ",",
    "spaces": " ",
    "new lines": "\n",
    "dots": ".",
    "spaced dots": " .",
    "bullets": "- ",
    "quotes": '"',
    "brackets": "[",
    "items": "2.color.cyan,",
    "words": "2.color.cyan ",
    "junk": "a",
    "short items": "1;",
    "nulls": "\x00",
}


@pytest.mark.parametrize("piece", HOSTILE.values(), ids=HOSTILE.keys())
@pytest.mark.parametrize(
    "frame", ["{}", "<answer>{}</answer>", "<think>{}</think><answer>{}</answer>"]
)
def test_a_hostile_megabyte_costs_linear_time(piece: str, frame: str) -> None:
    text = frame.replace("{}", piece * (MEGABYTE // len(piece)))
    with patience():
        parse_answer(whole(text))
        whole(text, text, text)


def test_all_of_a_long_list_is_kept() -> None:
    assert items("2.color.cyan, " * 50_000 + "x") == [CYAN] * 50_000 + [None]


OUT = Change(3, "position", "left.2", ("left.1", "left.2", "front-left.2"))


@pytest.mark.parametrize(
    ("text", "moves"),
    [
        ("3.position.front-left.2", ["3.position.front-left.2"]),
        ("3.Position.Front_Left.2, 4.position.front left.1", [
            "3.position.front-left.2",
            "4.position.front-left.1",
        ]),
        ("3.position.left.2 4.position.behind.1", ["3.position.left.2", "4.position.behind.1"]),
        ("2.color.cyan 3.position.left.2.", ["2.color.cyan", "3.position.left.2"]),
        ("[3.position.left.2]", ["3.position.left.2"]),
    ],
)  # fmt: skip
def test_moves_are_read_where_objects_move(text: str, moves: list[str]) -> None:
    answer = parse_answer(f"<answer>{text}</answer>", TRANCE)
    assert [str(change) for change in answer.changes] == moves


@pytest.mark.parametrize(
    "item", ["3.position.left", "3.position.left.3", "3.position.up.1", "3.position.left.2.1"]
)
def test_what_is_no_move(item: str) -> None:
    answer = parse_answer(f"<answer>{item}</answer>", TRANCE)
    assert [p.change for p in answer.predictions] == [None]


def test_where_nothing_moves_a_move_is_a_wrong_prediction() -> None:
    assert items("3.position.left.2") == [None]


def test_a_custom_vocabulary_has_its_own_triplets() -> None:
    pastel = Vocabulary(colors={"pink": (255, 180, 200), "mint": (170, 240, 200)})
    answer = parse_answer("<answer>2.color.pink, 2.color.red</answer>", pastel)
    assert [p.change for p in answer.predictions] == [Change(2, "color", "pink"), None]


@pytest.mark.parametrize(
    ("truth", "text", "right"),
    [
        ([OUT], "3.position.left.2", True),
        ([OUT], "3.position.front-left.2", True),
        ([OUT], "3.position.right.2", False),
        ([OUT], "3.position.left.2, 3.position.left.1", False),
        ([OUT, CYAN], "2.color.cyan, 2.color.cyan, 3.position.left.1", True),
        ([Change(1, "position", "left.1")] * 2, "1.position.left.1, 1.position.left.1", True),
        ([Change(1, "position", "left.1")] * 2, "1.position.left.1", False),
        ([Change(1, "position", "left.1")] * 2, "1.position.left.2", False),
        (
            [OUT, Change(3, "position", "front-left.2")],
            "3.position.front-left.2, 3.position.left.1",
            True,
        ),
    ],
)
def test_moves_are_right_one_by_one(truth: list[Change], text: str, right: bool) -> None:
    assert parse_answer(f"<answer>{text}</answer>", TRANCE).is_exactly(truth) is right


def test_plain_items_are_read_as_decorated_ones_are() -> None:
    """Those that need no lenience are looked up: also where a value has the name of a spelling."""
    vocabulary = Vocabulary(
        colors={"grey": (9, 9, 9), "gray": (8, 8, 8), "colour": (7, 7, 7)},
        attributes=("color", "shape", "position"),
    )
    for index in (0, 9):
        for attribute, values in vocabulary.grammar.items():
            for value in values:
                text = f"{index}.{attribute}.{value}"
                plain = parse_answer(f"<answer> {text},\t{text}</answer>", vocabulary)
                decorated = parse_answer(f"<answer>**{text}**; - {text}.</answer>", vocabulary)
                assert plain.changes == decorated.changes
                assert [one.text for one in plain.predictions] == [text, text]
