"""The 11 metrics of TVR, by view and overall, each with its bootstrap interval."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias, TypedDict

import numpy as np

from star_r1.tvr.answer import Answer
from star_r1.tvr.change import same_changes
from star_r1.tvr.sample import Sample
from star_r1.tvr.simulate import simulate
from star_r1.tvr.vocabulary import ATTRIBUTES, VIEWS

POPULATIONS: Final[dict[str, range]] = {
    "objects_1_3": range(1, 4),
    "objects_4_6": range(4, 7),
    "objects_7_8": range(7, 9),
    "objects_9_10": range(9, 11),
}
"""Metric -> the numbers of visible objects of its scenes."""

METRICS: Final[tuple[str, ...]] = ("tacc", "diff", "ndiff", *ATTRIBUTES, *POPULATIONS)
"""The 11. Where objects move, ``position`` stands after the other attributes as a twelfth."""

COUNTS: Final[tuple[str, ...]] = ("diff", "ndiff")
"""Means of counts, lower is better; all others are accuracies, fractions of 1."""


def group_views(views: Iterable[str] = ()) -> dict[str, tuple[str, ...]]:
    """Group -> the final views of its samples, for data that have ``views`` (or fewer).

    TRANCE's three views are always there. Training sees ``center`` alone: all the rest is OOD.

    >>> list(group_views(["az90", "top"]))
    ['overall', 'center', 'left', 'right', 'top', 'az90', 'id', 'ood']
    >>> group_views()["ood"]
    ('left', 'right')
    """
    # The top, then the azimuths as numbers.
    others = sorted(set(views) - set(VIEWS), key=lambda v: (v.startswith("az"), len(v), v))
    all_views = (*VIEWS, *others)
    return {
        "overall": all_views,
        **{view: (view,) for view in all_views},
        "id": all_views[:1],
        "ood": all_views[1:],
    }


GROUPS: Final[dict[str, tuple[str, ...]]] = group_views()
"""The groups of data with TRANCE's views alone."""


@dataclass(frozen=True, slots=True)
class Judged:
    """One answer against its sample.

    Attributes:
        correct: the predictions are the true changes, in any order; an invalid item makes it
            wrong. ``tvr.change.same_changes`` says how repeats and moves compare.
        diff: (object, attribute) cells in which the initial scene, after the valid predictions,
            differs from the true final scene: ``tvr.simulate.Simulation.distance``. 0-50.
        ndiff: ``diff`` / number of true changes, unclipped.
        by_attribute: attribute -> whether the valid predictions of that attribute are the true
            ones; None where the truth does not change it. ``position`` is among them only where
            it may change.
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

    Without a prediction ``diff`` is the number of cells that the true changes alter. Of two
    predictions for one (object, attribute) the later one counts in ``diff``; moves add up.

    Source: TAcc, Diff and NDiff of STAR-R1 (arXiv 2505.15804), which has no moves; Diff is AD of
    TRANCE (Hong et al., CVPR 2021).

    >>> from star_r1.tvr import Object, Scene, parse_answer, parse_changes
    >>> objects = [Object(i, "red", "cube", "small", "metal", (8 * i - 36, 0)) for i in range(10)]
    >>> truth = parse_changes("2.color.cyan, 3.shape.sphere")
    >>> sample = Sample("000000-left", Scene(tuple(objects)), truth, "left")
    >>> judge(parse_answer("<answer>2.color.cyan, 3.shape.cylinder</answer>"), sample)
    ... # doctest: +NORMALIZE_WHITESPACE
    Judged(correct=False, diff=1, ndiff=0.5,
           by_attribute={'color': True, 'shape': False, 'size': None, 'material': None})
    """
    said, true = answer.changes, sample.changes
    diff = simulate(sample.initial, said).distance(sample.final)
    by_attribute: dict[str, bool | None] = {}
    for attribute in (*ATTRIBUTES, *(("position",) if _moves(sample) else ())):
        wanted = [change for change in true if change.attribute == attribute]
        given = (change for change in said if change.attribute == attribute)
        by_attribute[attribute] = same_changes(given, wanted) if wanted else None
    # A sample without changes, which generated data never holds, is divided by 1.
    return Judged(answer.is_exactly(true), diff, diff / max(len(true), 1), by_attribute)


def score(pairs: Sequence[tuple[Answer, Sample]], seed: int = 0, resamples: int = 1000) -> Scores:
    """The 11 metrics of answers to samples, overall and by view; 12 where objects may move.

    ``tacc``: share of samples answered exactly. ``diff``, ``ndiff``: mean ``Judged.diff`` and
    ``.ndiff``, lower is better. ``color``, ``shape``, ``size``, ``material``, and ``position``
    where some sample's vocabulary has it: share of the samples whose truth changes that attribute
    in which its changes are exactly right. ``objects_1_3`` to ``objects_9_10``: ``tacc`` over the
    scenes with that many visible objects at first. Accuracies are fractions of 1.

    Args:
        pairs: each answer with the sample that it answers.
        seed: of the bootstrap; the same seed gives the same intervals, and groups of the same
            samples (``center`` and ``id``) the same ones.
        resamples: bootstrap resamples, at least 1.

    Returns:
        group -> metric -> ``{"value", "ci95": [low, high], "n"}``, for all of ``group_views`` and
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
    metrics = METRICS
    if any(_moves(sample) for _, sample in pairs):
        after = METRICS.index(ATTRIBUTES[-1]) + 1
        metrics = (*METRICS[:after], "position", *METRICS[after:])
    return {
        group: {
            metric: measure(
                [row.get(metric) for view, row in rows if view in views], seed, resamples
            )
            for metric in metrics
        }
        for group, views in group_views(view for view, _ in rows).items()
    }


def _moves(sample: Sample) -> bool:
    return "position" in sample.vocabulary.attributes


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


def measure(values: Sequence[float | None], seed: int, resamples: int) -> Measured:
    """The mean of what each sample adds, with its bootstrap interval.

    Args:
        values: one a sample; None where the metric leaves it out.
        seed: of the bootstrap.
        resamples: at least 1.

    >>> measure([True, False, None], seed=0, resamples=100)
    {'value': 0.5, 'ci95': [0.0, 1.0], 'n': 2}
    """
    sample = np.array([value for value in values if value is not None], dtype=np.float64)
    if not len(sample):
        return {"value": None, "ci95": None, "n": 0}
    # To draw n samples with replacement is to draw how often each distinct value occurs: one
    # multinomial a resample, whose cost does not grow with n.
    distinct, counts = np.unique(sample, return_counts=True)
    draws = np.random.default_rng(seed).multinomial(len(sample), counts / len(sample), resamples)
    low, high = np.percentile(draws @ distinct / len(sample), (2.5, 97.5)).tolist()
    return {"value": float(sample.mean()), "ci95": [low, high], "n": len(sample)}
