"""Reference points that learn nothing: a floor, a ceiling, and what colors and outlines give."""

import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias

import numpy as np

from star_r1.errors import UserError
from star_r1.evaluate.pixels import compare_pixels
from star_r1.evaluate.predictions import Completion
from star_r1.evaluate.predictor import Question
from star_r1.tvr.change import Change, format_changes
from star_r1.tvr.prompt import build_solution
from star_r1.tvr.rules import STANDARD_RULES, move_type, moved
from star_r1.tvr.sample import Sample

Baseline: TypeAlias = Callable[[Sample, Sequence[Any], np.random.Generator], str]
"""(sample, initial and final picture as Pillow images, random numbers) -> a completion."""


def silent(sample: Sample, images: Sequence[Any], rng: np.random.Generator) -> str:
    """Nothing was changed."""
    return _completion([])


def random(sample: Sample, images: Sequence[Any], rng: np.random.Generator) -> str:
    """Some changes that could have been made: 1-4, as many objects and attributes allow.

    Their number, then which (object, attribute) change, each once, then the new values are drawn,
    all evenly. The pictures are not looked at.
    """
    cells: dict[tuple[int, str], list[Change]] = {}
    for change in possible_changes(sample):
        cells.setdefault((change.index, change.attribute), []).append(change)
    few, many = STANDARD_RULES.changes
    number = min(int(rng.integers(few, many + 1)), len(cells))
    choices = list(cells.values())
    chosen = [choices[place] for place in rng.choice(len(choices), number, replace=False)]
    return _completion([values[rng.integers(len(values))] for values in chosen])


def enumerate_all(sample: Sample, images: Sequence[Any], rng: np.random.Generator) -> str:
    """Every change that could have been made: nothing is missed, and nothing is said."""
    return _completion(possible_changes(sample))


def oracle(sample: Sample, images: Sequence[Any], rng: np.random.Generator) -> str:
    """The truth, with a comparison of every object: the ceiling of metrics and of analysis."""
    return build_solution(sample)


def pixels(sample: Sample, images: Sequence[Any], rng: np.random.Generator) -> str:
    """What ``pixels.compare_pixels`` finds in the pictures and the segments of their objects."""
    return _completion(compare_pixels(sample, images, rng))


BASELINES: Final[dict[str, Baseline]] = {
    "silent": silent,
    "random": random,
    "enumerate": enumerate_all,
    "oracle": oracle,
    "pixels": pixels,
}
"""The name behind ``--model baseline:`` -> what it answers."""


class BaselinePredictor:
    """One of ``BASELINES``, as ``--model baseline:NAME`` asks for it."""

    def __init__(self, name: str, seed: int = 0) -> None:
        """``seed``: what is drawn follows from it, from the row and the number of the completion.

        Raises:
            UserError: there is no such baseline.
        """
        if name not in BASELINES:
            raise UserError(f"baseline {name!r}: choose {', '.join(BASELINES)}")
        self.name, self.seed = name, seed
        self.left_out: set[str] = set()

    @property
    def identity(self) -> Mapping[str, Any]:
        """Its name and seed."""
        return {"baseline": self.name, "baseline_seed": self.seed}

    def predict(self, questions: Iterable[Question]) -> Iterator[Completion]:
        """Answer in the given order."""
        for question in questions:
            images = question.see()
            for number in question.numbers:
                rng = np.random.default_rng([self.seed, zlib.crc32(question.id.encode()), number])
                text = BASELINES[self.name](question.sample, images, rng)
                yield Completion(question.id, text, number, key=question.key)


def possible_changes(sample: Sample) -> list[Change]:
    """Every first change that the table allows, by index, then as the vocabulary has it.

    A visible object takes any value but the one it has. Where objects move, an object moves within
    sight, out of it or into it, on the table; whether another one stands there is not looked at.

    >>> from star_r1.tvr import Object, Scene
    >>> objects = (Object(i, "red", "cube", "small", "metal", (8 * i - 38, 0)) for i in range(10))
    >>> changes = possible_changes(Sample("000000-center", Scene(tuple(objects)), ()))
    >>> len(changes), str(changes[0])  # 13 of each visible object
    (65, '3.color.gray')
    """
    return [
        Change(thing.index, attribute, value)
        for thing in sample.initial.objects
        for attribute, values in sample.vocabulary.grammar.items()
        for value in values
        if (
            move_type(thing.position, moved(thing.position, value)) is not None
            if attribute == "position"
            else thing.visible and value != thing.attribute(attribute)
        )
    ]


def _completion(changes: Sequence[Change]) -> str:
    return f"<think></think><answer>{format_changes(changes)}</answer>"
