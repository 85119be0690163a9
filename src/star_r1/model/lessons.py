"""What the mini model is taught before RL: texts of describing, finding, and comparing two lists.

A lesson is a user text and the assistant's answer; pictures, where a lesson has any, stand before
the user text. No lesson answers a pair of pictures from different views: that is left to RL.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from star_r1.tvr.change import difference, format_changes
from star_r1.tvr.prompt import build_table
from star_r1.tvr.scene import Object, Scene
from star_r1.tvr.vocabulary import ATTRIBUTES, N_OBJECTS, VALUES, VISIBLE_CELLS

COMPARE_ALL = 0.4
"""Share of the reasonings that compare every object. The others stop early, anywhere: whether it
pays to compare all of them is what RL is to find out."""

_HIDDEN = (VISIBLE_CELLS + 1, 0)
_WORD_ORDER = ("size", "color", "material", "shape")


class Lesson(NamedTuple):
    """One example: what the user says, what the assistant answers."""

    user: str
    assistant: str


def compare(before: Scene, after: Scene, rng: np.random.Generator) -> str:
    """A reasoning about two scenes and the answer that follows from it.

    Objects are taken in random order; each line names the object before, the same object now, and
    what differs. With probability ``1 - COMPARE_ALL`` the reasoning stops early, and its answer
    then holds only the changes it came across.
    """
    order = rng.permutation([o.index for o in before.visible])
    if rng.random() >= COMPARE_ALL and len(order) > 1:
        order = order[: rng.integers(1, len(order))]
    found = sorted(c for c in difference(before, after) if c.index in order)
    lines = "".join(compare_line(before, after, int(i)) + "\n" for i in order)
    return f"<think>{lines}</think><answer>{format_changes(found)}</answer>"


def compare_line(before: Scene, after: Scene, index: int) -> str:
    """One line of a reasoning: an object before, the same object now, and what differs."""
    old, new = before.objects[index], after.objects[index]
    differs = [a for a in ATTRIBUTES if old.attribute(a) != new.attribute(a)]
    return f"{index}: {old.describe()} now {new.describe()} {' '.join(differs) or 'same'}"


def compare_lists(before: Scene, after: Scene, rng: np.random.Generator) -> Lesson:
    """Find the changes between two lists given as text; the final one has no indices, no order."""
    return Lesson(_listed(after.visible, rng) + build_table(before), compare(before, after, rng))


def compare_pair(before: Scene, after: Scene, rng: np.random.Generator) -> Lesson:
    """The task itself, two pictures from the same view before the text: an example of its form."""
    return Lesson(build_table(before), compare(before, after, rng))


def find_in_list(objects: Sequence[Object], rng: np.random.Generator) -> Lesson:
    """``find``, the objects given as text."""
    question = find(objects, rng)
    return Lesson(_listed(objects, rng) + question.user, question.assistant)


def find_by_index(scene: Scene, rng: np.random.Generator) -> Lesson:
    """Read the row of one object from the table."""
    target = scene.visible[rng.integers(len(scene.visible))]
    return Lesson(f"{build_table(scene)}\nFind:{target.index}:", target.describe() + "\n")


def describe(objects: Sequence[Object], rng: np.random.Generator) -> Lesson:
    """Name the objects of one picture, in any order."""
    order = rng.permutation(len(objects))
    return Lesson("Describe:", "".join(objects[i].describe() + "\n" for i in order))


def find(objects: Sequence[Object], rng: np.random.Generator) -> Lesson:
    """Complete the description of one object of a picture, one or two of its words withheld.

    Words are withheld such that the others leave one object only, where that can be.
    """
    target = objects[int(rng.integers(len(objects)))]
    for _ in range(4):
        withheld = rng.permutation(_WORD_ORDER)[: rng.integers(1, 3)]
        given = [a for a in _WORD_ORDER if a not in withheld]
        if sum(all(o.attribute(a) == target.attribute(a) for a in given) for o in objects) == 1:
            break
    words = "".join(" " + target.attribute(a) if a in given else " ?" for a in _WORD_ORDER)
    return Lesson(f"Find:{words}", target.describe() + "\n")


def _listed(objects: Sequence[Object], rng: np.random.Generator) -> str:
    order = rng.permutation(len(objects))
    return "Final objects:\n" + "".join(objects[i].describe() + "\n" for i in order)


def random_scenes(
    rng: np.random.Generator, visible: tuple[int, int], changes: tuple[int, int]
) -> tuple[Scene, Scene]:
    """A scene and its changed twin for lessons in text, where nothing has a place."""
    n = int(rng.integers(visible[0], visible[1] + 1))
    shown = set(rng.permutation(N_OBJECTS)[:n].tolist())
    draws = rng.integers(0, 24, (N_OBJECTS, len(ATTRIBUTES)))  # 24 is a multiple of 8 and of 3
    before = [
        {a: VALUES[a][draws[i, k] % len(VALUES[a])] for k, a in enumerate(ATTRIBUTES)}
        for i in range(N_OBJECTS)
    ]
    after = [dict(o) for o in before]
    cells = rng.permutation([(i, a) for i in sorted(shown) for a in ATTRIBUTES])
    for i, a in cells[: rng.integers(changes[0], changes[1] + 1)]:
        others = [v for v in VALUES[a] if v != before[int(i)][a]]
        after[int(i)][a] = others[rng.integers(len(others))]
    first, second = (
        Scene(
            tuple(
                Object(i, **o, position=(0, 0) if i in shown else _HIDDEN)
                for i, o in enumerate(scene)
            )
        )
        for scene in (before, after)
    )
    return first, second
