"""The 11 metrics of TVR, by view and overall, each with its 95% interval."""

import math
from array import array
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NotRequired, TypeAlias, TypedDict

import numpy as np

from star_r1.intervals import (
    COUNT,
    SHARE,
    Bounds,
    Floats,
    Integers,
    Mean,
    interval,
    mean_by_scene,
)
from star_r1.tvr.answer import Answer
from star_r1.tvr.change import Change, same_changes
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

_POPULATION_OF: Final = {n: metric for metric, numbers in POPULATIONS.items() for n in numbers}

METRICS: Final[tuple[str, ...]] = ("tacc", "diff", "ndiff", *ATTRIBUTES, *POPULATIONS)
"""The 11."""

ALL_METRICS: Final = ("tacc", "diff", "ndiff", *ATTRIBUTES, "position", *POPULATIONS)
"""The 11, and ``position`` after the other attributes as a twelfth where objects move."""

COUNTS: Final[tuple[str, ...]] = ("diff", "ndiff")
"""Means of counts, lower is better; all others are accuracies, fractions of 1."""

BOUNDS: Final[dict[str, Bounds]] = {
    metric: COUNT if metric in COUNTS else SHARE for metric in ALL_METRICS
}
"""Between which values each metric lies."""

BESIDE_GROUPS: Final[tuple[str, ...]] = ("trance", "samples", "answers", "usage", "truth")
"""What a metrics.json may hold beside the groups of these metrics."""


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
    """One metric of one group.

    Attributes:
        value: its mean over rows; None where there are none.
        ci95: low and high end of its 95% interval, ``intervals.interval``; None where it has none.
        n: rows.
        scenes: of which these are views; metrics.json files of old lack it.
    """

    value: float | None
    ci95: list[float] | None
    n: int
    scenes: NotRequired[int]


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
    if any(change.attribute == "position" for change in (*said, *true)):
        same, diff, by_attribute = _compare_moves(said, sample)
    else:
        same, diff, by_attribute = _compare_looks(said, sample)
    if _moves(sample):
        by_attribute.setdefault("position", None)
    correct = same and len(said) == len(answer.predictions)
    # A sample without changes, which generated data never holds, is divided by 1.
    return Judged(correct, diff, diff / max(len(true), 1), by_attribute)


_Comparison: TypeAlias = tuple[bool, int, dict[str, bool | None]]
"""Whether ``same_changes`` holds, ``Judged.diff`` and ``Judged.by_attribute``."""


def _compare_moves(said: Sequence[Change], sample: Sample) -> _Comparison:
    """By carrying the answer out: right for any changes."""
    diff = simulate(sample.initial, said).distance(sample.final)
    by_attribute: dict[str, bool | None] = {}
    for attribute in (*ATTRIBUTES, *(("position",) if _moves(sample) else ())):
        wanted = [change for change in sample.changes if change.attribute == attribute]
        given = (change for change in said if change.attribute == attribute)
        by_attribute[attribute] = same_changes(given, wanted) if wanted else None
    return same_changes(said, sample.changes), diff, by_attribute


def _compare_looks(said: Sequence[Change], sample: Sample) -> _Comparison:
    """The same where nothing moves, ten times as fast.

    Changes then compare as sets, and the scenes differ at most in cells that somebody changes.
    """
    true = sample.changes
    wrong = {change.attribute for change in set(said) ^ set(true)}
    by_attribute: dict[str, bool | None] = dict.fromkeys(ATTRIBUTES)
    for change in true:
        by_attribute[change.attribute] = change.attribute not in wrong
    predicted = {(change.index, change.attribute): change.value for change in said}
    if not wrong and len(predicted) == len(said):
        return True, 0, by_attribute
    wanted = {(change.index, change.attribute): change.value for change in true}
    diff = 0
    for cell in predicted.keys() | wanted.keys():
        index, attribute = cell
        at_first = sample.initial.objects[index].attribute(attribute)
        diff += predicted.get(cell, at_first) != wanted.get(cell, at_first)
    return not wrong, diff, by_attribute


def score(pairs: Sequence[tuple[Answer, Sample]]) -> Scores:
    """The 11 metrics of answers to samples, overall and by view; 12 where objects may move.

    ``tacc``: share of samples answered exactly. ``diff``, ``ndiff``: mean ``Judged.diff`` and
    ``.ndiff``, lower is better. ``color``, ``shape``, ``size``, ``material``, and ``position``
    where some sample's vocabulary has it: share of the samples whose truth changes that attribute
    in which its changes are exactly right. ``objects_1_3`` to ``objects_9_10``: ``tacc`` over the
    scenes with that many visible objects at first. Accuracies are fractions of 1.

    Args:
        pairs: each answer with the sample that it answers.

    Returns:
        group -> metric -> ``{"value", "ci95": [low, high], "n", "scenes"}``, for all of
        ``group_views`` and ``METRICS``. The interval counts scenes (``Sample.scene_key``), not
        rows: ``intervals.interval``.

    Source: arXiv 2505.15804; the list of the 11 is inferred (3 overall, 4 attributes, 4
    populations).

    >>> from star_r1.tvr import Object, Scene, parse_answer, parse_changes
    >>> objects = [Object(i, "red", "cube", "small", "metal", (8 * i - 36, 0)) for i in range(10)]
    >>> sample = Sample("000000-center", Scene(tuple(objects)), parse_changes("2.color.cyan"))
    >>> answers = [parse_answer("<answer>2.color.cyan</answer>"), parse_answer("")]
    >>> scores = score([(answer, sample) for answer in answers])
    >>> scores["overall"]["tacc"]  # doctest: +ELLIPSIS
    {'value': 0.5, 'ci95': [0.0003..., 0.9996...], 'n': 2, 'scenes': 1}
    >>> scores["left"]["tacc"]
    {'value': None, 'ci95': None, 'n': 0, 'scenes': 0}
    """
    tally = Tally()
    for answer, sample in pairs:
        tally.add(sample, [judge(answer, sample)])
    return tally.scores()


class Rows:
    """What each row adds to each metric, its scene, and the labels by which rows are grouped.

    Rows are added one by one and take some ten bytes a metric, however large the samples are.
    """

    def __init__(self, bounds: Mapping[str, Bounds]) -> None:
        """``bounds``: of the values that rows will be added with, by metric."""
        self._bounds = dict(bounds)
        self._values = array("d")  # all metrics of the first row, of the second, ...
        self._keys = array("q")
        self._members: dict[str, array[int]] = {}
        self._scenes: tuple[Integers, int] | None = None

    def __len__(self) -> int:
        return len(self._keys)

    @property
    def bounds(self) -> Mapping[str, Bounds]:
        """Metric -> between which values it lies."""
        return self._bounds

    @property
    def metrics(self) -> tuple[str, ...]:
        """Their names, in order."""
        return tuple(self._bounds)

    @property
    def labels(self) -> Collection[str]:
        """The labels of all rows, in the order of their first rows."""
        return self._members.keys()

    @property
    def values(self) -> Floats:
        """(rows, metrics): what was added; NaN where a metric leaves the row out."""
        table = np.array(self._values) if len(self) else np.empty(0)
        return table.reshape(-1, len(self._bounds))

    @property
    def scene_keys(self) -> Integers:
        """(rows,): ``Sample.scene_key`` of each."""
        return np.array(self._keys, dtype=np.int64)

    def add(
        self, scene_key: int, labels: Iterable[str], values: Mapping[str, float | None]
    ) -> None:
        """Add one row: a value for each metric, None (or none given) where it leaves the row out.

        >>> rows = Rows({"tacc": SHARE})
        >>> rows.add(1, ["left"], {"tacc": True})
        >>> rows.add(1, ["left", "hard"], {"tacc": None})
        >>> rows.add(2, ["right"], {"tacc": False})
        >>> rows.measure("tacc", ["left", "right"])["n"]
        2
        """
        known = map(values.get, self._bounds)
        self._values.fromlist([math.nan if value is None else value for value in known])
        for label in labels:
            if label not in self._members:
                self._members[label] = array("q")
            self._members[label].append(len(self._keys))
        self._keys.append(scene_key)
        self._scenes = None

    def extend(self, others: "Rows") -> None:
        """Add the rows of another one of the same metrics behind the rows here."""
        for label, members in others._members.items():
            own = self._members.setdefault(label, array("q"))
            own.frombytes((np.array(members) + len(self)).tobytes())
        self._values.extend(others._values)
        self._keys.extend(others._keys)
        self._scenes = None

    def measure(self, metric: str, labels: Iterable[str] | None) -> Measured:
        """The mean over the rows with one of ``labels`` (None: over all), see ``measure``."""
        if self._scenes is None:
            keys, codes = np.unique(self.scene_keys, return_inverse=True)
            self._scenes = codes, len(keys)
        codes, scenes = self._scenes
        table = np.frombuffer(self._values) if len(self) else np.empty(0)
        values = table.reshape(-1, len(self._bounds))[:, list(self._bounds).index(metric)]
        counted = ~np.isnan(values)
        if labels is not None:
            labelled = np.zeros(len(values), dtype=bool)
            for label in labels:
                labelled[np.array(self._members.get(label, ()), dtype=np.int64)] = True
            counted &= labelled
        return measure(mean_by_scene(values[counted], codes[counted], scenes), self._bounds[metric])


class Tally:
    """The 11 metrics of rows that come one by one; see ``score`` for what they are.

    Of several answers to one row each metric is their mean.
    """

    def __init__(self) -> None:
        """No rows yet."""
        self._rows = Rows(BOUNDS)
        self._moves = False

    @property
    def rows(self) -> Rows:
        """Those so far, with ``ALL_METRICS`` and their view as label."""
        return self._rows

    def add(self, sample: Sample, judged: Sequence[Judged]) -> None:
        """Add one row: its answers as ``judge`` sees them, at least one."""
        self._moves = self._moves or _moves(sample)
        values = mean_values([judged_values(one, sample) for one in judged])
        self._rows.add(sample.scene_key, (sample.view,), values)

    def extend(self, others: "Tally") -> None:
        """Add the rows of another tally behind the rows here."""
        self._rows.extend(others._rows)
        self._moves = self._moves or others._moves

    def scores(self) -> Scores:
        """The metrics of the rows so far, as ``score`` returns them."""
        metrics = ALL_METRICS if self._moves else METRICS
        return {
            group: {metric: self._rows.measure(metric, views) for metric in metrics}
            for group, views in group_views(self._rows.labels).items()
        }


def _moves(sample: Sample) -> bool:
    return "position" in sample.vocabulary.attributes


def judged_values(judged: Judged, sample: Sample) -> dict[str, float | None]:
    """What one answer adds to each metric; None, or nothing, where the metric leaves it out."""
    values = {
        "tacc": judged.correct,
        "diff": judged.diff,
        "ndiff": judged.ndiff,
        **judged.by_attribute,
    }
    if population := _POPULATION_OF.get(len(sample.initial.visible)):
        values[population] = judged.correct
    return values


def mean_values(answers: Sequence[Mapping[str, float | None]]) -> Mapping[str, float | None]:
    """What a row adds to each metric: the mean of what its answers add.

    >>> mean_values([{"tacc": True, "EO": None}, {"tacc": False, "EO": True}])
    {'tacc': 0.5, 'EO': 1.0}
    """
    if len(answers) == 1:
        return answers[0]
    means: dict[str, float | None] = {}
    for metric in answers[0]:
        known = [value for own in answers if (value := own[metric]) is not None]
        means[metric] = sum(known) / len(known) if known else None
    return means


def measure(mean: Mean | None, bounds: Bounds) -> Measured:
    """A mean with its 95% interval; None is a mean over no rows."""
    if mean is None:
        return {"value": None, "ci95": None, "n": 0, "scenes": 0}
    ends = interval(mean, bounds)
    return {
        "value": mean.value,
        "ci95": None if ends is None else list(ends),
        "n": mean.n,
        "scenes": mean.scenes,
    }
