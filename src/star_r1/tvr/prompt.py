"""Sample -> the chat messages that ask for its changes, in one of several named wordings."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from star_r1.errors import UserError
from star_r1.tvr.change import format_changes
from star_r1.tvr.sample import Sample
from star_r1.tvr.scene import Object, Scene
from star_r1.tvr.vocabulary import ATTRIBUTES, STANDARD, STEP_CELLS, VISIBLE_CELLS, Vocabulary

PromptName: TypeAlias = Literal["think", "direct", "think-no-table", "direct-no-table"]


class Variant(NamedTuple):
    """What a prompt asks for and gives.

    Attributes:
        think: it asks for a comparison before the answer, not for the answer alone.
        table: it lists the initial objects by index. Else the caller writes the indices onto the
            initial picture (``data.marks.mark``): set-of-mark prompting (Yang et al. 2023,
            arXiv 2310.11441).
    """

    think: bool
    table: bool


PROMPTS: Final[dict[PromptName, Variant]] = {
    "think": Variant(think=True, table=True),
    "direct": Variant(think=False, table=True),
    "think-no-table": Variant(think=True, table=False),
    "direct-no-table": Variant(think=False, table=False),
}
"""Name of each prompt -> what it is. Datasets hold ``think``, and models train on it."""

_EXAMPLES: Final = {
    "color": "cyan",
    "shape": "cube",
    "size": "small",
    "material": "metal",
    "position": "front-left.2",
}
_NOTHING_MOVED: Final = (
    "Between the pictures some of their attributes were changed; no object was moved, added or "
    "removed. Name every change.\n"
)
_MOVED: Final = (
    "Then comes their place (x, y) on the table: in the initial picture x grows downward and y to "
    f"the right; an object with x or y outside -{VISIBLE_CELLS}..{VISIBLE_CELLS} is out of sight. "
    "Between the pictures some objects were changed or moved, perhaps into sight or out of it. "
    "Name every change, in the order in which they were made. A move is a direction and 1 or 2 "
    f"steps of {STEP_CELLS} cells along x, y or both: front is up in the initial picture, behind "
    "is down.\n"
)
_LISTED: Final = (
    "The objects of the initial picture are listed by index, as size, color, material and shape. "
)
_MARKED: Final = "In the initial picture the index of each object is written on or beside it. "
_THINK: Final = (
    "First compare the objects between the two pictures inside <think></think>, then list the "
    "changes, separated by commas, inside <answer></answer>, for example:\n"
)
_DIRECT: Final = (
    "List the changes, separated by commas, inside <answer></answer>. Write nothing else, no "
    "reasoning, for example:\n"
)
_QUESTION: Final = "What was changed?"
"""The text of a user turn that has no table: some models expect one."""


def has_table(name: PromptName) -> bool:
    """Whether a prompt lists the initial objects; else the first picture must bear the indices."""
    return PROMPTS[name].table


@lru_cache(maxsize=64)
def build_instruction(vocabulary: Vocabulary = STANDARD, name: PromptName = "think") -> str:
    """The system message. STAR-R1's own wording is unpublished; this is the project's.

    Raises:
        UserError: objects move, but the prompt has no table: nothing would give the index of an
            object that comes into sight.

    >>> print(build_instruction().splitlines()[1])
    A change is index.attribute.value, where value is the new one. Attributes and values:
    >>> print(build_instruction(name="direct").splitlines()[-1])
    <answer>2.color.cyan, 3.shape.cube</answer>
    """
    think, table = PROMPTS[name]
    moves = "position" in vocabulary.attributes
    if moves and not table:
        raise UserError(
            f"prompt {name!r}: objects move in this data, and one that comes into sight has its "
            "index in no picture; use a prompt with the table"
        )
    values = "".join(f"{a}: {', '.join(v)}\n" for a, v in vocabulary.grammar.items())
    return (
        "You see two pictures of the same table: the initial one and the final one. The final "
        "picture may be taken from another viewpoint. "
        f"{_LISTED if table else _MARKED}{_MOVED if moves else _NOTHING_MOVED}"
        f"A change is index.attribute.value, where value is the new one. Attributes and values:\n"
        f"{values}{_THINK if think else _DIRECT}"
        f"{'<think>reasoning</think>' if think else ''}<answer>{_example(vocabulary)}</answer>"
    )


def _example(vocabulary: Vocabulary) -> str:
    """Two changes, the second one a move where things move."""
    first, *others = vocabulary.attributes
    second = "position" if "position" in others else [*others, first][0]
    items = []
    for index, attribute in ((2, first), (3, second)):
        values = vocabulary.values(attribute)
        value = _EXAMPLES[attribute] if _EXAMPLES[attribute] in values else values[0]
        items.append(f"{index}.{attribute}.{value}")
    return ", ".join(items)


def build_table(scene: Scene) -> str:
    """The visible objects under their index, one a line, with a heading.

    Where objects move, all ten and their places: one out of sight may come into it.
    """
    if "position" in scene.vocabulary.attributes:
        lines = [f"{o.index}: {o.describe()}, {_place(o)}" for o in scene.objects]
    else:
        lines = [f"{o.index}: {o.describe()}" for o in scene.visible]
    return "Initial objects:\n" + "\n".join(lines)


def _place(thing: Object) -> str:
    x, y = thing.position
    return f"{'' if thing.visible else 'out of sight '}at ({x}, {y})"


def build_prompt(
    sample: Sample, name: PromptName = "think", examples: Sequence[Sample] = ()
) -> list[dict[str, Any]]:
    """The conversation that asks for the changes of ``sample``; its truth is not in it.

    Two image placeholders, initial then final, and the visible initial objects under their
    index (0-9, so with gaps), one a line. Before them come the examples, each a turn of the user,
    of the same form and with two placeholders of its own, and the right answer to it.

    Args:
        sample: what is asked for.
        name: of the prompt, see ``PROMPTS``.
        examples: solved samples (few-shot), of the vocabulary of ``sample``.

    Raises:
        UserError: the prompt cannot be had of this data, see ``build_instruction``; or an example
            has another vocabulary.

    Source: the input of STAR-R1 (arXiv 2505.15804, section 3) as far as it is known. Where
    objects move, their places are given as TRANCE gives them to its models.

    >>> from star_r1.tvr import Object, Sample, Scene
    >>> objects = (Object(i, "red", "cube", "small", "metal", (8 * i - 38, 0)) for i in range(10))
    >>> sample = Sample("000000-center", Scene(tuple(objects)), ())
    >>> messages = build_prompt(sample)
    >>> [part["type"] for part in messages[1]["content"]]
    ['image', 'image', 'text']
    >>> messages[1]["content"][2]["text"].splitlines()[:2]
    ['Initial objects:', '3: small red metal cube']
    >>> [message["role"] for message in build_prompt(sample, "direct", [sample])]
    ['system', 'user', 'assistant', 'user']
    """
    for example in examples:
        if example.vocabulary != sample.vocabulary:
            raise UserError(
                f"example {example.id!r} has another vocabulary than {sample.id!r}; take the "
                "examples from data of the same attributes and values"
            )
    messages = [_message("system", _text(build_instruction(sample.vocabulary, name)))]
    for example in examples:
        messages.append(_question(example, name))
        messages.append(_message("assistant", _text(build_solution(example, name))))
    return [*messages, _question(sample, name)]


def build_solution(sample: Sample, name: PromptName = "think") -> str:
    """The completion that answers ``sample`` rightly, as an example shows it.

    Where the prompt asks for reasoning, it compares every object that is in sight before or after,
    by index, one a line; the answer follows from these lines. (Only where an attribute changes
    twice, which needs moves, or where order counts, do the lines not say all.)

    >>> from star_r1.tvr import Object, Sample, Scene, parse_changes
    >>> places = [(-40, 8 * i - 36) for i in range(8)] + [(0, -8), (0, 8)]
    >>> objects = (Object(i, "red", "cube", "small", "metal", places[i]) for i in range(10))
    >>> sample = Sample("0-center", Scene(tuple(objects)), parse_changes("9.color.cyan"))
    >>> print(build_solution(sample))
    <think>
    8: small red metal cube -> small red metal cube: same
    9: small red metal cube -> small cyan metal cube: color changed
    </think>
    <answer>9.color.cyan</answer>
    """
    moves = "position" in sample.vocabulary.attributes
    # Without moves the order carries no meaning; here it is that of the lines.
    changes = sample.changes if moves else sorted(sample.changes)
    answer = f"<answer>{format_changes(changes)}</answer>"
    if not PROMPTS[name].think:
        return answer
    pairs = zip(sample.initial.objects, sample.final.objects, strict=True)
    lines = [_comparison(old, new, moves) for old, new in pairs if old.visible or new.visible]
    return "\n".join(["<think>", *lines, "</think>", answer])


def _comparison(old: Object, new: Object, moves: bool) -> str:
    """One object in the initial picture, the same in the final one, and what differs."""
    before, after = (f"{o.describe()}, {_place(o)}" if moves else o.describe() for o in (old, new))
    differs = [a for a in ATTRIBUTES if old.attribute(a) != new.attribute(a)]
    if old.position != new.position:
        differs.append("position")
    verdict = f"{', '.join(differs)} changed" if differs else "same"
    return f"{old.index}: {before} -> {after}: {verdict}"


def _question(sample: Sample, name: PromptName) -> dict[str, Any]:
    text = build_table(sample.initial) if has_table(name) else _QUESTION
    return _message("user", {"type": "image"}, {"type": "image"}, _text(text))


def _message(role: str, *content: dict[str, str]) -> dict[str, Any]:
    return {"role": role, "content": list(content)}


def _text(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}
