"""What the reasonings of an evaluation do, in numbers: coverage, matches, errors, lengths."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final, TypeAlias

import numpy as np

from star_r1.analyze.reading import Reading, read_reasoning
from star_r1.evaluate.finished import Said
from star_r1.evaluate.predictions import Completion
from star_r1.intervals import COUNT, SHARE, Bounds, Floats, Integers, mean_by_scene
from star_r1.metrics import POPULATIONS, Measured, Rows, group_views, mean_values, measure
from star_r1.tvr.answer import Answer, parse_answer
from star_r1.tvr.change import Change
from star_r1.tvr.sample import Sample
from star_r1.tvr.vocabulary import ATTRIBUTES

PAPER: Final[Mapping[str, float]] = {"id": 0.67, "ood": 0.81}
"""Samples with explicit cross-view correspondences, as reported of STAR-R1 7B (arXiv 2505.15804).
How they were counted is not known."""

DEFINITION: Final = (
    "share of reasonings that say of at least one object which one it is in the final picture, "
    "describing it there or naming its place"
)
"""What ``correspondence`` means here."""

_ERRORS: Final = tuple(
    f"{kind}_{of}" for of in ("all", *ATTRIBUTES, "position") for kind in ("invented", "missed")
)
FIELDS: Final[tuple[str, ...]] = (
    *("tacc", "mentioned", "compared", "coverage", "complete", "correspondence", "corresponding"),
    *("follows", "in_order", "words", "tokens"),
    *_ERRORS,
)
"""What is measured of each completion:

- ``tacc``: whether it is exactly right.
- ``mentioned``, ``compared``: objects.
- ``coverage``: compared / visible objects; ``complete``: whether all are compared.
- ``correspondence``: see ``DEFINITION``; ``corresponding``: objects with one / visible objects.
- ``follows``: whether the answer is what the reasoning says.
- ``in_order``: of two objects mentioned one after the other, how often the second has the greater
  index.
- ``words`` of the reasoning, ``tokens`` of the completion.
- ``invented_*``, ``missed_*``: predicted changes that are not true, true ones not predicted, of
  all attributes and of each.

Completions without a reasoning are left out, but for ``tacc``, ``tokens`` and the errors.
"""
SHARES: Final = frozenset(
    ("tacc", "coverage", "complete", "correspondence", "corresponding", "follows", "in_order")
)
"""Of these, the fractions of 1."""

BOUNDS: Final[dict[str, Bounds]] = {field: SHARE if field in SHARES else COUNT for field in FIELDS}
"""Between which values each lies."""

BINS: Final = 4
"""Lengths are looked at in quarters."""

Groups: TypeAlias = dict[str, dict[str, Measured]]


@dataclass(frozen=True, slots=True)
class Read:
    """A completion with its sample, read."""

    sample: Sample
    completion: Completion
    answer: Answer
    reading: Reading

    @property
    def right(self) -> bool:
        """Whether the answer is exactly the truth."""
        return self.answer.is_exactly(self.sample.changes)


def read_row(said: Said, sample: Sample) -> list[Read]:
    """What one run said to a row, its reasonings read."""
    return [
        Read(sample, completion, answer, read_reasoning(completion.text, sample, answer))
        for completion, answer in zip(said.completions, said.answers, strict=True)
    ]


def read_completion(completion: Completion, sample: Sample) -> Read:
    """A completion, read as an answer and as a reasoning."""
    answer = parse_answer(completion.text, sample.vocabulary)
    return Read(sample, completion, answer, read_reasoning(completion.text, sample, answer))


def tabulate(rows: Sequence[Sequence[Read]]) -> Rows:
    """What each row adds to ``FIELDS``: the mean over its completions.

    Args:
        rows: the completions of each row, from ``read_row``.

    Returns:
        Labelled by view and by ``metrics.POPULATIONS``.
    """
    table = Rows(BOUNDS)
    for row in rows:
        sample = row[0].sample
        population = len(sample.initial.visible)
        labels = [sample.view, *(name for name, of in POPULATIONS.items() if population in of)]
        table.add(sample.scene_key, labels, mean_values([values(one) for one in row]))
    return table


def summarize(rows: Sequence[Sequence[Read]], table: Rows | None = None) -> dict[str, Any]:
    """What the reasonings of some rows do.

    Args:
        rows: the completions of each row, from ``read_row``; of several completions a row counts
            with their mean.
        table: of these rows, from ``tabulate``, where it is there already.

    Returns:
        ``n``: completions. ``groups``: of ``metrics.group_views`` and ``metrics.POPULATIONS`` ->
        ``FIELDS`` -> ``{"value", "ci95", "n", "scenes"}``, n being rows, intervals by scenes.
        ``by_length``, ``by_coverage``: bins ``{"from", "to", "tacc"}`` of completions by words of
        the reasoning and by coverage. ``length_and_right``: the correlation (Pearson's r) of words
        and being right, None where one of them does not vary. ``correspondences``: ID and OOD, with
        the paper's numbers beside.
    """
    table = tabulate(rows) if table is None else table
    groups = {
        name: {field: table.measure(field, labels) for field in FIELDS}
        for name, labels in _groups(rows).items()
    }
    said = [one for row in rows for one in row if one.reading.follows is not None]
    words = np.array([one.reading.words for one in said], dtype=float)
    right = np.array([one.right for one in said], dtype=float)
    covered = np.array([one.reading.coverage for one in said], dtype=float)
    scene = np.array([one.sample.scene_key for one in said], dtype=np.int64)
    correspondences: dict[str, Any] = {
        group: {**groups[group]["correspondence"], "paper": PAPER[group]} for group in PAPER
    }
    return {
        "n": sum(map(len, rows)),
        "groups": groups,
        "by_length": _bins(words, right, scene, _quantiles(words)),
        "by_coverage": _bins(covered, right, scene, [0, 1e-9, 0.5, 1 - 1e-9, 1]),
        "length_and_right": _correlation(words, right),
        "correspondences": {**correspondences, "definition": DEFINITION},
    }


def values(read: Read) -> dict[str, float | None]:
    """What one completion adds to each of ``FIELDS``; None where it is left out."""
    reading = read.reading
    found: dict[str, float | None] = dict.fromkeys(FIELDS)
    found["tacc"] = read.right
    if reading.follows is not None:
        steps = list(pairwise(reading.mentioned))
        found |= {
            "mentioned": len(reading.mentioned),
            "compared": len(reading.compared),
            "coverage": reading.coverage,
            "complete": len(reading.compared) == reading.visible,
            "correspondence": bool(reading.corresponding),
            "corresponding": len(reading.corresponding) / max(reading.visible, 1),
            "follows": reading.follows,
            "in_order": sum(a < b for a, b in steps) / len(steps) if steps else None,
            "words": reading.words,
        }
    found["tokens"] = read.completion.completion_tokens or None
    invented, missed = errors(read.answer, read.sample)
    for kind, counts in (("invented", invented), ("missed", missed)):
        found[f"{kind}_all"] = counts.total()
        for attribute in read.sample.vocabulary.attributes:
            found[f"{kind}_{attribute}"] = counts[attribute]
    return found


def errors(answer: Answer, sample: Sample) -> tuple[Counter[str], Counter[str]]:
    """By attribute, how many predicted changes are not true, and how many true ones are missing.

    A change said twice is one. Any option of a move out of sight is that move.

    >>> from star_r1.tvr import Object, Scene, parse_changes
    >>> objects = (Object(i, "red", "cube", "small", "metal", (8 * i - 38, 0)) for i in range(10))
    >>> sample = Sample("0-left", Scene(tuple(objects)), parse_changes("3.color.cyan"), "left")
    >>> errors(parse_answer("<answer>3.color.blue, 3.color.blue</answer>"), sample)
    (Counter({'color': 1}), Counter({'color': 1}))
    """
    said, open_truth = dict.fromkeys(answer.changes), list(sample.changes)
    invented: list[Change] = []
    for change in said:
        match = next((true for true in open_truth if true.accepts(change)), None)
        if match is None:
            invented.append(change)
        else:
            open_truth.remove(match)
    return _by_attribute(invented), _by_attribute(open_truth)


def _by_attribute(changes: Sequence[Change]) -> Counter[str]:
    return Counter(change.attribute for change in changes)


def _groups(rows: Sequence[Sequence[Read]]) -> dict[str, tuple[str, ...]]:
    """Name -> the labels of its rows."""
    return group_views(row[0].sample.view for row in rows) | {name: (name,) for name in POPULATIONS}


def _quantiles(values: Any) -> list[float]:
    """The edges of ``BINS`` parts with about as many values in each; fewer where values repeat."""
    if not len(values):
        return []
    edges = np.quantile(values, np.linspace(0, 1, BINS + 1), method="inverted_cdf")
    return sorted(set(edges.tolist()))


def _bins(
    values: Floats, right: Floats, scene: Integers, edges: Sequence[float]
) -> list[dict[str, Any]]:
    """TAcc between neighbouring edges; the last bin holds its upper edge too."""
    found = []
    for low, high in pairwise(edges if len(edges) > 1 else [*edges, *edges]):
        inside = (values >= low) & ((values < high) | (high == edges[-1]) & (values == high))
        if inside.any():
            keys, codes = np.unique(scene[inside], return_inverse=True)
            tacc = measure(mean_by_scene(right[inside], codes, len(keys)), SHARE)
            shown = values[inside]
            found.append({"from": shown.min().item(), "to": shown.max().item(), "tacc": tacc})
    return found


def _correlation(values: Any, right: Any) -> float | None:
    if len(values) < 2 or not values.std() or not right.std():
        return None
    return float(np.corrcoef(values, right)[0, 1])
