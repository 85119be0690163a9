"""The 11 metrics of TVR, by view and overall, each with its bootstrap interval."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias, TypedDict

import numpy as np

from star_r1.tvr.answer import Answer
from star_r1.tvr.change import difference, replay
from star_r1.tvr.sample import Sample
from star_r1.tvr.vocabulary import ATTRIBUTES, VIEWS

POPULATIONS: Final[dict[str, range]] = {
    "objects_1_3": range(1, 4),
    "objects_4_6": range(4, 7),
    "objects_7_8": range(7, 9),
    "objects_9_10": range(9, 11),
}
"""Metric -> the numbers of visible objects of its scenes."""

METRICS: Final[tuple[str, ...]] = ("tacc", "diff", "ndiff", *ATTRIBUTES, *POPULATIONS)

GROUPS: Final[dict[str, tuple[str, ...]]] = {
    "overall": VIEWS,
    "center": ("center",),
    "left": ("left",),
    "right": ("right",),
    "id": ("center",),
    "ood": ("left", "right"),
}
"""Group -> the final views of its samples. Training sees ``center`` alone: the rest is OOD."""


@dataclass(frozen=True, slots=True)
class Judged:
    """One answer against its sample.

    Attributes:
        correct: the predicted set of changes is the true one; an invalid item makes it wrong.
        diff: (object, attribute) cells in which the initial scene with the valid predictions
            replayed differs from the true final scene. 0 or more.
        ndiff: ``diff`` / number of true changes, unclipped.
        by_attribute: attribute -> whether the valid predictions of that attribute are the true
            ones; None where the truth does not change it.
    """

    correct: bool
    diff: int
    ndiff: float
    by_attribute: dict[str, bool | None]


class Measured(TypedDict):
    """One metric of one group: ``value`` and ``ci95`` are None where ``n``, its samples, is 0."""

    value: float | None
    ci95: list[float] | None
    n: int


Scores: TypeAlias = dict[str, dict[str, Measured]]
"""Group -> metric -> its value."""


def judge(answer: Answer, sample: Sample) -> Judged:
    """Compare an answer with the truth of its sample.

    Without a prediction ``diff`` is the number of true changes. Of two predictions for one
    (object, attribute) the later one counts in ``diff``, as in a replay.

    Source: TAcc, Diff and NDiff of STAR-R1 (arXiv 2505.15804); Diff is TRANCE's (Hong et al.,
    CVPR 2021) without positions.

    >>> from star_r1.tvr import Object, Scene, parse_answer, parse_changes
    >>> objects = [Object(i, "red", "cube", "small", "metal", (8 * i - 36, 0)) for i in range(10)]
    >>> truth = parse_changes("2.color.cyan, 3.shape.sphere")
    >>> sample = Sample("000000-left", Scene(tuple(objects)), truth, "left")
    >>> judge(parse_answer("<answer>2.color.cyan, 3.shape.cylinder</answer>"), sample)
    ... # doctest: +NORMALIZE_WHITESPACE
    Judged(correct=False, diff=1, ndiff=0.5,
           by_attribute={'color': True, 'shape': False, 'size': None, 'material': None})
    """
    diff = len(difference(replay(sample.initial, answer.changes), sample.final))
    predicted, true = set(answer.changes), set(sample.changes)
    by_attribute: dict[str, bool | None] = {}
    for attribute in ATTRIBUTES:
        wanted = {change for change in true if change.attribute == attribute}
        given = {change for change in predicted if change.attribute == attribute}
        by_attribute[attribute] = given == wanted if wanted else None
    # A sample without changes, which generated data never holds, is divided by 1.
    ndiff = diff / max(len(sample.changes), 1)
    return Judged(answer.is_exactly(true), diff, ndiff, by_attribute)


def score(pairs: Sequence[tuple[Answer, Sample]], seed: int = 0, resamples: int = 1000) -> Scores:
    """The 11 metrics of answers to samples, overall and by view.

    ``tacc``: share of samples answered exactly. ``diff``, ``ndiff``: mean ``Judged.diff`` and
    ``.ndiff``, lower is better. ``color``, ``shape``, ``size``, ``material``: share of the samples
    whose truth changes that attribute in which its changes are exactly right. ``objects_1_3`` to
    ``objects_9_10``: ``tacc`` over the scenes with that many visible objects. Accuracies are
    fractions of 1.

    Args:
        pairs: each answer with the sample that it answers.
        seed: of the bootstrap; the same seed gives the same intervals, and groups of the same
            samples (``center`` and ``id``) the same ones.
        resamples: bootstrap resamples, at least 1.

    Returns:
        group -> metric -> ``{"value", "ci95": [low, high], "n"}``, for all ``GROUPS`` and
        ``METRICS``. The interval is the percentile bootstrap over the samples that the metric is
        a mean of.

    Source: arXiv 2505.15804; the list of the 11 is inferred (3 overall, 4 attributes, 4
    populations).

    >>> from star_r1.tvr import Object, Scene, parse_answer, parse_changes
    >>> objects = [Object(i, "red", "cube", "small", "metal", (8 * i - 36, 0)) for i in range(10)]
    >>> sample = Sample("000000-center", Scene(tuple(objects)), parse_changes("2.color.cyan"))
    >>> answers = [parse_answer("<answer>2.color.cyan</answer>"), parse_answer("")]
    >>> scores = score([(answer, sample) for answer in answers])
    >>> scores["overall"]["tacc"]
    {'value': 0.5, 'ci95': [0.0, 1.0], 'n': 2}
    >>> scores["left"]["tacc"]
    {'value': None, 'ci95': None, 'n': 0}
    """
    rows = [(sample.view, _values(judge(answer, sample), sample)) for answer, sample in pairs]
    return {
        group: {
            metric: _measure([row[metric] for view, row in rows if view in views], seed, resamples)
            for metric in METRICS
        }
        for group, views in GROUPS.items()
    }


def _values(judged: Judged, sample: Sample) -> dict[str, float | None]:
    """What one sample adds to each metric; None where the metric leaves it out."""
    population = len(sample.initial.visible)
    return {
        "tacc": judged.correct,
        "diff": judged.diff,
        "ndiff": judged.ndiff,
        **judged.by_attribute,
        **{m: judged.correct if population in n else None for m, n in POPULATIONS.items()},
    }


def _measure(values: Sequence[float | None], seed: int, resamples: int) -> Measured:
    sample = np.array([value for value in values if value is not None], dtype=np.float64)
    if not len(sample):
        return {"value": None, "ci95": None, "n": 0}
    # To draw n samples with replacement is to draw how often each distinct value occurs: one
    # multinomial a resample, whose cost does not grow with n.
    distinct, counts = np.unique(sample, return_counts=True)
    draws = np.random.default_rng(seed).multinomial(len(sample), counts / len(sample), resamples)
    low, high = np.percentile(draws @ distinct / len(sample), (2.5, 97.5)).tolist()
    return {"value": float(sample.mean()), "ci95": [low, high], "n": len(sample)}
