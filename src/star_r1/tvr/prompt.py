"""Sample -> the chat messages that ask for its changes."""

from functools import lru_cache
from typing import Any, Final

from star_r1.tvr.sample import Sample
from star_r1.tvr.scene import Object, Scene
from star_r1.tvr.vocabulary import STANDARD, STEP_CELLS, VISIBLE_CELLS, Vocabulary

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


@lru_cache(maxsize=64)
def build_instruction(vocabulary: Vocabulary = STANDARD) -> str:
    """The system message. STAR-R1's own wording is unpublished; this is the project's.

    >>> print(build_instruction().splitlines()[1])
    A change is index.attribute.value, where value is the new one. Attributes and values:
    """
    values = "".join(f"{name}: {', '.join(v)}\n" for name, v in vocabulary.grammar.items())
    return (
        "You see two pictures of the same table: the initial one and the final one. The final "
        "picture may be taken from another viewpoint. The objects of the initial picture are "
        "listed by index, as size, color, material and shape. "
        f"{_MOVED if 'position' in vocabulary.attributes else _NOTHING_MOVED}"
        f"A change is index.attribute.value, where value is the new one. Attributes and values:\n"
        f"{values}"
        "First compare the objects between the two pictures inside <think></think>, then list the "
        "changes, separated by commas, inside <answer></answer>, for example:\n"
        f"<think>reasoning</think><answer>{_example(vocabulary)}</answer>"
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


def build_prompt(sample: Sample) -> list[dict[str, Any]]:
    """The conversation that asks for the changes of ``sample``; its truth is not in it.

    Two image placeholders, initial then final, and the visible initial objects under their
    index (0-9, so with gaps), one a line.

    Source: the input of STAR-R1 (arXiv 2505.15804, section 3) as far as it is known. Where
    objects move, their places are given as TRANCE gives them to its models.

    >>> from star_r1.tvr import Object, Sample, Scene
    >>> objects = (Object(i, "red", "cube", "small", "metal", (8 * i - 38, 0)) for i in range(10))
    >>> messages = build_prompt(Sample("000000-center", Scene(tuple(objects)), ()))
    >>> [part["type"] for part in messages[1]["content"]]
    ['image', 'image', 'text']
    >>> messages[1]["content"][2]["text"].splitlines()[:2]
    ['Initial objects:', '3: small red metal cube']
    """
    instruction = build_instruction(sample.vocabulary)
    return [
        {"role": "system", "content": [{"type": "text", "text": instruction}]},
        {
            "role": "user",
            "content": [
                {"type": "image"},
                {"type": "image"},
                {"type": "text", "text": build_table(sample.initial)},
            ],
        },
    ]
