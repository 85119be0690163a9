"""Sample -> the chat messages that ask for its changes."""

from typing import Any, Final

from star_r1.tvr.sample import Sample
from star_r1.tvr.scene import Scene
from star_r1.tvr.vocabulary import VALUES

INSTRUCTION: Final = (
    "You see two pictures of the same table: the initial one and the final one. The final picture "
    "may be taken from another viewpoint. The objects of the initial picture are listed by index, "
    "as size, color, material and shape. Between the pictures some of their attributes were "
    "changed; no object was moved, added or removed. Name every change.\n"
    "A change is index.attribute.value, where value is the new one. Attributes and values:\n"
    + "".join(f"{attribute}: {', '.join(values)}\n" for attribute, values in VALUES.items())
    + "First compare the objects between the two pictures inside <think></think>, then list the "
    "changes, separated by commas, inside <answer></answer>, for example:\n"
    "<think>reasoning</think><answer>2.color.cyan, 3.shape.cube</answer>"
)
"""The system message. STAR-R1's own wording is unpublished; this is the project's."""


def build_table(scene: Scene) -> str:
    """The visible objects under their index, one a line, with a heading."""
    return "Initial objects:\n" + "\n".join(f"{o.index}: {o.describe()}" for o in scene.visible)


def build_prompt(sample: Sample) -> list[dict[str, Any]]:
    """The conversation that asks for the changes of ``sample``; its truth is not in it.

    Two image placeholders, initial then final, and the visible initial objects under their
    index (0-9, so with gaps), one a line.

    Source: the input of STAR-R1 (arXiv 2505.15804, section 3) as far as it is known.

    >>> from star_r1.tvr import Object, Sample, Scene
    >>> objects = (Object(i, "red", "cube", "small", "metal", (8 * i - 38, 0)) for i in range(10))
    >>> messages = build_prompt(Sample("000000-center", Scene(tuple(objects)), ()))
    >>> [part["type"] for part in messages[1]["content"]]
    ['image', 'image', 'text']
    >>> messages[1]["content"][2]["text"].splitlines()[:2]
    ['Initial objects:', '3: small red metal cube']
    """
    return [
        {"role": "system", "content": [{"type": "text", "text": INSTRUCTION}]},
        {
            "role": "user",
            "content": [
                {"type": "image"},
                {"type": "image"},
                {"type": "text", "text": build_table(sample.initial)},
            ],
        },
    ]
