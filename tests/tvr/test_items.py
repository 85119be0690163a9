"""What chat models wrap answers in: it takes nothing from an answer, and adds nothing to one."""

import html
import json
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.patience import patience

from star_r1.tvr.answer import parse_answer
from star_r1.tvr.change import Change
from star_r1.tvr.items import read_items
from star_r1.tvr.vocabulary import N_OBJECTS, VALUES

CYAN, CUBE = Change(2, "color", "cyan"), Change(3, "shape", "cube")
EVERY = [Change(i, a, v) for i in range(N_OBJECTS) for a, values in VALUES.items() for v in values]


def changes(text: str) -> list[Change | None]:
    return [one.change for one in parse_answer(f"<answer>{text}</answer>").predictions]


@pytest.mark.parametrize(
    "text",
    [
        '```json\n["2.color.cyan", "3.shape.cube"]\n```',
        '```json ["2.color.cyan", "3.shape.cube"]```',
        "```\n2.color.cyan\n3.shape.cube\n```",
        "~~~text\n2.color.cyan, 3.shape.cube\n~~~",
        "```2.color.cyan, 3.shape.cube```",
        '```JSON\n{"changes": ["2.color.cyan", "3.shape.cube"]}\n```',
        '{"changes": "2.color.cyan, 3.shape.cube"}',
        '{"reasoning": "object 2 is now cyan", "answer": ["2.color.cyan", "3.shape.cube"]}',
        '{"change": "2.color.cyan", "change": "3.shape.cube"}',
        '{"1": "2.color.cyan", "2": "3.shape.cube"}',
        '{"2": {"color": "cyan"}, "3": {"shape": "cube"}}',
        '{"2": "color.cyan", "3": "shape.cube"}',
        '{"2.color": "cyan", "3.shape": "cube"}',
        '{"2": ["color.cyan"], "3": ["shape.cube"]}',
        '[{"index": 2, "attribute": "color", "value": "cyan"},'
        ' {"index": "3", "attribute": "shape", "old": "cone", "new": "cube"}]',
        '{"index": 2, "attribute": "color", "from": "red", "to": "cyan"}\n'
        '{"index": 3, "attribute": "shape", "from": "cone", "to": "cube"}',
        '- {"object": 2, "color": "cyan"}\n- {"object": 3, "shape": "cube"}',
        '{"id": 1, "change": "2.color.cyan"}, {"id": 2, "change": "3.shape.cube"}',
        '{"2": {"attribute": "color", "value": "cyan"}, "3": {"shape": "cube"}}',
        '[{"object": 2, "changes": {"color": "cyan"}}, {"object": 3, "change": "shape.cube"}]',
        '{"final_answer": {"2": {"color": "2.color.cyan"}, "3.shape": "3.shape.cube"}}',
        '[[2, "color", "cyan"], ["3", "shape", "cube"]]',
        '["2.color.cyan", "3.shape.cube",]',
        "[('2', 'color', 'cyan'), (3, 'shape', 'cube')]",
        "[{'index': 2, 'attribute': 'color', 'value': 'cyan'}, '3.shape.cube']",
        '"[\\"2.color.cyan\\", \\"3.shape.cube\\"]"',
        "2.color.cyan\\n3.shape.cube",
        "2.color.cyan，3.shape.cube",
        "2.color.cyan；3.shape.cube。",
        "2.color.cyan、3.shape.cube",
        "答案：２．ｃｏｌｏｒ．ｃｙａｎ，３．ｓｈａｐｅ．ｃｕｂｅ",
        "2。color。cyan, 3.shape.cube",
        "【2.color.cyan】，「3.shape.cube」",
        "1、2.color.cyan\n2、3.shape.cube",
        "① 2.color.cyan ② 3.shape.cube",
        "<|begin_of_box|>2.color.cyan, 3.shape.cube<|end_of_box|>",
        "\\boxed{2.color.cyan, 3.shape.cube}",
        "\\boxed{2.color.cyan}, \\boxed{3.shape.cube}",
        "$\\boxed{\\text{2.color.cyan, 3.shape.cube}}$",
        "\\[ \\boxed{\\mathrm{2.color.cyan},\\ \\mathrm{3.shape.cube}} \\]",
        '\\boxed{["2.color.cyan", "3.shape.cube"]}',
        "\\begin{itemize}\n\\item 2.color.cyan\n\\item 3.shape.cube\n\\end{itemize}",
        "1. 2.color.cyan\n2. 3.shape.cube",
        "1) 2.color.cyan 2) 3.shape.cube",
        "(1) 2.color.cyan\n(2)3.shape.cube",
        "1. 2. color. cyan\n2. **3. shape. cube**",
        "1: 2.color.cyan; 2: 3.shape.cube",
        "a) 2.color.cyan\nb) 3.shape.cube",
        "**1.** `2.color.cyan`\n**2.** `3.shape.cube`",
        "- **2.color.cyan**\n- __3.shape.cube__",
        "+ 2.color.cyan\n· 3.shape.cube",
        "- [x] 2.color.cyan\n- [X] 3.shape.cube",
        "### 2.color.cyan\n> _3.shape.cube_",
        "2\\.color\\.cyan, 3\\.shape\\.cube",
        "2.color.cyan<br>3.shape.cube<br/>",
        "<ul><li><b>2.color.cyan</b></li><li><code>3.shape.cube</code></li></ul>",
        "<changes><change>2.color.cyan</change><change>3.shape.cube</change></changes>",
        "&quot;2.color.cyan&quot;,&nbsp;&#39;3.shape.cube&#39;",
        "2.color.cyan, and 3.shape.cube",
        "\u200b2.color\u200d.cyan,\u00a03.shape.cube\ufeff",
        "2.color.cyan\u20283.shape.cube",
        "„2.color.cyan“, ‹3.shape.cube›",
        "**Final answer:** 2.color.cyan, 3.shape.cube",
        "Change 1: 2.color.cyan\nChange 2: 3.shape.cube",
        "Change 1: 2.color.cyan, Change 2: 3.shape.cube",
        "The answer is: `2.color.cyan, 3.shape.cube`.",
    ],
)
def test_a_wrapped_answer_is_what_it_wraps(text: str) -> None:
    assert changes(text) == [CYAN, CUBE]


@pytest.mark.parametrize(
    ("text", "items"),
    [
        ("1.2.color.cyan", ["1.2.color.cyan"]),
        ("1 2.color.cyan", ["1 2.color.cyan"]),
        ("1, 2.color.cyan", ["1", "2.color.cyan"]),
        ("2. color.cyan", ["2. color.cyan"]),
        ("2.color.cyan 5.", ["2.color.cyan 5."]),
        ("~~2.color.cyan~~", ["~~2.color.cyan~~"]),
        ("<del>2.color.cyan</del>", ["<del>2.color.cyan</del>"]),
        ("\\cancel{2.color.cyan}", ["\\cancel{2.color.cyan}"]),
        ("not 2.color.cyan", ["not 2.color.cyan"]),
        ("No changes: 2.color.cyan", ["No changes: 2.color.cyan"]),
        ("2.color.red -> 2.color.cyan", ["2.color.red -> 2.color.cyan"]),
        ("2.color.cyan or 2.color.red", ["2.color.cyan or 2.color.red"]),
        ("2:color:cyan", ["2:color:cyan"]),
        ("2, color, cyan", ["2", "color", "cyan"]),
        ('{"color": "cyan"}', ["color.cyan"]),
        ('{"index": 2}', ["index.2"]),
        ('[2, "color"]', ["2", "color"]),
        ('{"color": {"2": "cyan"}}', ["color.2.cyan"]),
        ("[1, 2, 3]", ["1", "2", "3"]),
        ('["2.color.cyan", null]', ["2.color.cyan", "none"]),
        ("```pink\n2.color.cyan\n```", ["pink", "2.color.cyan"]),
    ],
)
def test_what_is_more_than_wrapping_stays_a_wrong_item(text: str, items: list[str]) -> None:
    assert read_items(text) == items


@pytest.mark.parametrize(
    "text",
    [
        # Signs that reject, at a label or at the number of a list.
        "❌ Answer: 2.color.cyan",
        "❌ Change 1: 2.color.cyan",
        "≠ answer: 2.color.cyan",
        "¬1) 2.color.cyan",
        "1.❌ 2.color.cyan",
        "1)❌2.color.cyan",
        "❌1)2.color.cyan",
        "✗Change 1: 2.color.cyan",
        "🚫1) 2.color.cyan",
        "~~Change 1: 2.color.cyan",
        '❌ Answer: ["2.color.cyan"]',
        '⛔1. ["2.color.cyan"]',
        "&cross;1) 2.color.cyan",
        "~~~2.color.cyan~~~",
        "N) 2.color.cyan",
        # JSON that says no, in a name or in a value beside the change.
        '[{"index": 2, "attribute": "color", "value": "cyan", "changed": false}]',
        '[{"index": 2, "attribute": "color", "value": "cyan", "correct": false}]',
        '[{"index": 2, "attribute": "color", "value": "cyan", "negated": true}]',
        '{"object": 2, "color": "cyan", "changed": false}',
        '{"2": {"color": "cyan", "changed": false}}',
        '{"negated": true, "answer": ["2.color.cyan"]}',
        '{"unchanged": ["2.color.cyan"]}',
        '{"no changes": "2.color.cyan"}',
        '{"not": ["2.color.cyan"]}',
        '{"wrong": [{"index": 2, "attribute": "color", "value": "cyan"}]}',
        '{"rejected": {"changes": ["2.color.cyan"]}}',
        '{"changes": {"unchanged": {"2": {"color": "cyan"}}}}',
        '{"": "2.color.cyan"}',
        '{"[]": "2.color.cyan"}',
        '{"2.color.cyan": false}',
        '{"2.color.cyan": ""}',
        '{"2.color' + " " * 80 + 'no": "cyan"}',
        '{"before": "2.color.cyan"}',
        '{"id": "not this", "change": "2.color.cyan"}',
        # What contradicts itself, and what stands beside JSON.
        '{"index": 2, "attribute": "color", "value": "cyan", "also": "3.shape.cube"}',
        '{"index": 2, "attribute": "color", "value": "red", "new_value": "cyan"}',
        '{"index": 2, "attribute": "color", "value": "red", "value": "cyan"}',
        '{"index": 3, "index": 2, "attribute": "color", "value": "cyan"}',
        '{"object": 3, "change": "2.color.cyan"}',
        '{"3": {"color": "2.color.cyan"}}',
        '{"2.color.red": "2.color.cyan"}',
        '[3, "color", "2.color.cyan"]',
        '["2.color.cyan"] 3',
        '["2.color.cyan"] [3]',
        '["2.color.cyan"] 1)',
        '"2.color.cyan" 7',
        '1["2.color.cyan"]',
        '3 "2.color.cyan"',
        # A box that is not ticked.
        "[ ] 2.color.cyan",
        "- [ ] 2.color.cyan",
        "- [] 2.color.cyan",
        "[-] 2.color.cyan",
        "( ) 2.color.cyan",
        "☐ 2.color.cyan",
        "□ 2.color.cyan",
        "○ 2.color.cyan",
        "[ ] Change 1: 2.color.cyan",
        '[ ] ["2.color.cyan"]',
        '["[ ] 2.color.cyan"]',
        # HTML that hides or strikes, and tokens that nobody knows.
        '<span style="text-decoration:line-through">2.color.cyan</span>',
        '<change valid="false">2.color.cyan</change>',
        "<p hidden>2.color.cyan</p>",
        "&lt;p hidden&gt;2.color.cyan",
        "<|no|>2.color.cyan<|/no|>",
        # From something to something else.
        "2.color.cyan > 2.color.cyan",
        "2.color.cyan >> 2.color.cyan",
        "2.color.cyan &gt; 2.color.cyan",
        "2.color.cyan » 2.color.cyan",
        "2.color.cyan ► 2.color.cyan",
        "2.color.cyan ... 2.color.cyan",
    ],
)
def test_what_denies_or_contradicts_a_change_makes_it_wrong(text: str) -> None:
    assert None in changes(text), read_items(text)
    assert None in changes(f"```json\n{text}\n```")


@pytest.mark.parametrize("sign", ["->", ">", ">>", "»", "►", "→", "to"])
def test_from_one_change_to_another_is_one_wrong_item(sign: str) -> None:
    assert changes(f"2.color.red {sign} 2.color.cyan") == [None]


@pytest.mark.parametrize(
    "text",
    [
        "```\nnone\n```",
        "```json\n[]\n```",
        '{"changes": []}',
        '{"changes": null}',
        "null",
        "1. none",
        "[ ]",
        '["none"]',
        "{}",
        "\\boxed{none}",
        "**Answer:** None.",
        "- none",
        "ｎｏｎｅ。",
        "\u200b",
        "---",
        "and",
    ],
)
def test_wrapped_answers_without_predictions(text: str) -> None:
    assert changes(text) == []


FORMS: dict[str, Callable[[Sequence[str]], str]] = {
    "commas": ", ".join,
    "semicolons": "; ".join,
    "lines": "\n".join,
    "full width": "，".join,
    "enumerated": "、".join,
    "breaks": "<br>".join,
    "Windows": "\r\n".join,
    "bullets": lambda items: "\n".join(f"- {item}" for item in items),
    "stars": lambda items: "\n".join(f"* **{item}**" for item in items),
    "numbers": lambda items: "\n".join(f"{n}. {item}" for n, item in enumerate(items, 1)),
    "brackets": lambda items: "\n".join(f"({n}) {item}" for n, item in enumerate(items, 1)),
    "labels": lambda items: "\n".join(f"Change {n}: {item}" for n, item in enumerate(items, 1)),
    "code": lambda items: ", ".join(f"`{item}`" for item in items),
    "italics": lambda items: ", ".join(f"_{item}_" for item in items),
    "boxes": lambda items: ", ".join(f"\\boxed{{{item}}}" for item in items),
    "list": lambda items: f"<ul>{''.join(f'<li>{item}</li>' for item in items)}</ul>",
    "JSON": json.dumps,
    "JSON, indented": lambda items: json.dumps(items, indent=2),
    "JSON, numbered": lambda items: json.dumps(dict(enumerate(items, 1))),
    "Python": repr,
}
"""Lists of items, in the forms in which models write them."""
PARTS: dict[str, Callable[[Sequence[str]], str]] = {
    "spaces": " ".join,
    "numbers in a line": lambda items: " ".join(f"{n}. {i}" for n, i in enumerate(items, 1)),
    "periods": lambda items: "".join(f"{item}. " for item in items),
    "objects": lambda items: json.dumps(
        [dict(zip(("index", "attribute", "value"), item.split("."), strict=True)) for item in items]
    ),
    "lines of objects": lambda items: "\n".join(
        json.dumps({"object": int(item.split(".")[0]), item.split(".")[1]: item.split(".")[2]})
        for item in items
    ),
    "triplets": lambda items: json.dumps([item.split(".") for item in items]),
    "tuples": lambda items: repr([tuple(item.split(".")) for item in items]),
}
"""Forms of triplets alone, whether they are changes or not."""
WRAPPINGS: dict[str, Callable[[str], str]] = {
    "fence": "```json\n{}\n```".format,
    "bare fence": "```\n{}\n```".format,
    "line fence": "```text {}```".format,
    "box": "<|begin_of_box|>{}<|end_of_box|>".format,
    "boxed": "\\boxed{{{}}}".format,
    "text": "\\text{{{}}}".format,
    "mathematics": "$${}$$".format,
    "bold": "**{}**".format,
    "paragraph": "<p>{}</p>".format,
    "strong": "<strong>{}</strong>".format,
    "quotes": "“{}”".format,
    "brackets": "[{}]".format,
    "braces": "{{{}}}".format,
    "label": "Final answer: {}".format,
    "white space": "\n\t {}\u00a0\n".format,
    "zero width": lambda text: "\u200b".join(text),
    "full width": lambda text: text.translate({n: n + 0xFEE0 for n in range(0x21, 0x7F)}),
    "other spaces": lambda text: text.replace(" ", "\u202f"),
    "entities": html.escape,
    "JSON text": json.dumps,
    "JSON object": lambda text: json.dumps({"answer": text}),
    "JSON list": lambda text: json.dumps([text]),
}
TRIPLETS = st.one_of(
    st.sampled_from(EVERY).map(str),
    st.sampled_from(["2.color.pink", "12.color.red", "2.shape.cyan", "2.position.left"]),
)
WORDS = st.sampled_from(["cyan", "object 2.color.cyan", "the cube is cyan", "2.color", "?"])


def check(items: list[str], form: Callable[[Sequence[str]], str], wrappings: list[str]) -> None:
    text = form(items)
    for name in wrappings:
        text = WRAPPINGS[name](text)
    assert changes(text) == changes("\n".join(items)), text


@given(
    st.lists(TRIPLETS, min_size=1, max_size=4),
    st.sampled_from(sorted(FORMS | PARTS)),
    st.lists(st.sampled_from(sorted(WRAPPINGS)), max_size=3),
)
@settings(max_examples=400)
def test_no_nesting_of_wrappings_changes_an_answer(
    items: list[str], form: str, wrappings: list[str]
) -> None:
    check(items, (FORMS | PARTS)[form], wrappings)


@given(
    st.lists(st.one_of(TRIPLETS, WORDS), min_size=1, max_size=4),
    st.sampled_from(sorted(FORMS)),
    st.lists(st.sampled_from(sorted(WRAPPINGS)), max_size=2),
)
@settings(max_examples=200)
def test_no_wrapping_hides_a_word_too_many(
    items: list[str], form: str, wrappings: list[str]
) -> None:
    check(items, FORMS[form], wrappings)


DENIALS = [
    "❌",
    "✗",
    "🚫",
    "≠",
    "¬",
    "!",
    "~~",
    "☐",
    "☒",
    "[ ]",
    "not ",
    "<s>",
    "<p hidden>",
]


@given(
    st.sampled_from(DENIALS),
    st.sampled_from(["", " ", "- ", "1. ", "1) ", "(1)", "Answer: ", "**Change 1:** "]),
    st.booleans(),
    st.lists(st.sampled_from(sorted(WRAPPINGS)), max_size=2),
)
def test_no_wrapping_hides_a_denial(
    denial: str, lead: str, first: bool, wrappings: list[str]
) -> None:
    text = f"{denial}{lead}2.color.cyan" if first else f"{lead}{denial}2.color.cyan"
    for name in wrappings:
        text = WRAPPINGS[name](text)
    assert None in changes(text), text


SCRAPS = [*"[]{}()<>\\`~&;:,.\"'|*_#-12\n ", "</b>", "\\n", "and ", "&quot;", "color", "\ud800"]


@given(st.lists(st.sampled_from(SCRAPS), max_size=40).map("".join))
def test_no_scraps_of_wrapping_raise(text: str) -> None:
    assert all(item.strip() for item in read_items(text))


LONG = 200_000
BOMBS = {
    **{f"{piece} again and again": piece * (LONG // len(piece)) for piece in (
        *("[", "{", "(", "'", "[]", "{},", "[1,", "(1,", '{"1":', '{"a":[', '"a",', '["'),
        *("\\", "\\\\n", "\\text{", "&", "&amp;", "&#1;", "```json ", "<b>", "<|", "1. ", "(1)2"),
        *("and ", "，", "1、", "\u200b", "①", "Answer: ", "} {", ", ]", "2.color.pink\n"),
    )},
    "digits": "1" * LONG,
    "digits in JSON": f"[{'1' * LONG}]",
    "fractions in JSON": f'[{{"index": 1.{"1" * LONG}e{"9" * LONG}}}]',
    "digits of an entity": f"&#{'1' * LONG};",
    "closed nesting": "[" * (LONG // 2) + "]" * (LONG // 2),
    "deep objects": '{"2":' * 900 + '"color"' + "}" * 900,
    "deep and wide": "[" * 900 + ",".join(['"a"'] * (LONG // 4)) + "]" * 900,
    "deep names": '{"2":' * 900 + json.dumps(["a"] * 10_000) + "}" * 900,
    "a name": json.dumps({"2" * LONG: ["a"] * 10_000}),
    "an index": json.dumps({"index": "2" * LONG, "changes": ["a"] * 10_000}),
    "boxes": "[ ] 2 " * (LONG // 6),
    "one name": "{" + ",".join(['"2": "color.cyan"'] * 10_000) + "}",
}  # fmt: skip


@pytest.mark.parametrize("text", BOMBS.values(), ids=BOMBS)
def test_bombs_cost_linear_time(text: str) -> None:
    with patience():
        read_items(text)


def test_texts_within_texts_come_to_an_end() -> None:
    text, entity = "2.color.cyan", "2.color.cyan"
    for _ in range(12):
        text = json.dumps([text])
        entity = html.escape(json.dumps([entity]))
    assert len(read_items(text)) == 1
    with patience():
        read_items(entity)
