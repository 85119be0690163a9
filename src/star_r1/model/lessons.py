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


def closest(objects: Sequence[Object], rng: np.random.Generator) -> Lesson:
    """Find the object of a list given as text that is most like a description.

    The description is that of an object with up to two words exchanged; where another object is
    as close to it, an exact description is asked instead.
    """
    target = objects[rng.integers(len(objects))]
    words = {a: target.attribute(a) for a in _WORD_ORDER}
    for a in rng.permutation(_WORD_ORDER)[: rng.integers(0, 3)]:
        words[str(a)] = VALUES[a][rng.integers(len(VALUES[a]))]
    alike = [sum(o.attribute(a) == words[a] for a in _WORD_ORDER) for o in objects]
    if sum(score >= max(alike) for score in alike) > 1 or objects[int(np.argmax(alike))] != target:
        words = {a: target.attribute(a) for a in _WORD_ORDER}
    query = "".join(" " + words[a] for a in _WORD_ORDER)
    return Lesson(f"{_listed(objects, rng)}Find:{query}", target.describe() + "\n")


def describe(objects: Sequence[Object], rng: np.random.Generator) -> Lesson:
    """Name the objects of one picture, in any order."""
    order = rng.permutation(len(objects))
    return Lesson("Describe:", "".join(objects[i].describe() + "\n" for i in order))


def find(objects: Sequence[Object], rng: np.random.Generator) -> Lesson:
    """Complete the description of one object of a picture, one or two of its words withheld.

    Only what is left unique by the words given is asked.
    """
    target = objects[rng.integers(len(objects))]
    for withheld in rng.permutation(len(ATTRIBUTES)):
        hidden = {_WORD_ORDER[withheld], _WORD_ORDER[rng.integers(len(ATTRIBUTES))]}
        given = [a for a in _WORD_ORDER if a not in hidden]
        if sum(all(o.attribute(a) == target.attribute(a) for a in given) for o in objects) == 1:
            break
    words = "".join(" ?" if a in hidden else " " + target.attribute(a) for a in _WORD_ORDER)
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
        Scene(tuple(Object(i, **o, position=(0, 0) if i in shown else _HIDDEN) for i, o in enumerate(scene)))
        for scene in (before, after)
    )
    return first, second
