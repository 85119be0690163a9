"""Runs side by side over the same rows: the metrics of each, and their paired differences."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np

from star_r1.errors import UserError
from star_r1.evaluate.paired import Paired, pair_up, read_lines
from star_r1.evaluate.runs import Evaluation
from star_r1.intervals import (
    ANY,
    SHARE,
    Bounds,
    Floats,
    Integers,
    Mean,
    average,
    interval,
    mean_by_scene,
    p_value,
    t_quantile,
)
from star_r1.metrics import ALL_METRICS, BOUNDS, COUNTS, METRICS, group_views

FEWEST_SCENES: Final = 10
"""With fewer, no difference is called significant: they say little of a spread."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A metric of one line of the table, or the difference of two lines.

    Attributes:
        value: in the units of ``metrics.score`` (fractions of 1, means of counts); over several
            training seeds the mean of their values.
        ci95: its 95% interval by scenes (``intervals.interval``), the training seeds as they are;
            None where it has none.
        n: rows that the metric is a mean of, those of all test sets.
        by_seed: the value of each training seed; one value where there is one run.
        marked: of a value: it is the best or not significantly worse than the best, and some other
            line is; of a difference: it is significant, ``ci95`` lies on one side of 0.
        p: of a difference: of the test that it is 0, below 0.05 where ``ci95`` leaves out 0. None
            for values, and below ``FEWEST_SCENES`` scenes.
    """

    value: float
    ci95: tuple[float, float] | None
    n: int
    by_seed: tuple[float, ...]
    marked: bool = False
    p: float | None = None

    @property
    def spread(self) -> tuple[float, float] | None:
        """Least and greatest value of a training seed; None for one seed."""
        return (min(self.by_seed), max(self.by_seed)) if len(self.by_seed) > 1 else None

    @property
    def t95(self) -> tuple[float, float] | None:
        """Student's 95% interval of the mean over training seeds; None for fewer than three.

        >>> low, high = Estimate(0.3, (0.2, 0.4), 900, (0.28, 0.30, 0.32)).t95
        >>> print(f"{low:.2f} {high:.2f}")
        0.25 0.35
        """
        seeds = len(self.by_seed)
        if seeds < 3:
            return None
        centre = float(np.mean(self.by_seed))
        error = float(np.std(self.by_seed, ddof=1)) / seeds**0.5
        half = t_quantile(seeds - 1) * error
        return centre - half, centre + half


Estimates: TypeAlias = dict[str, dict[str, dict[str, Estimate | None]]]
"""Line -> group -> metric -> its estimate; None where no row has that metric."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """What ``compare`` found.

    Attributes:
        runs: line -> its evaluations, one a training seed.
        against: the line that the differences are from.
        groups, metrics: in order; ``position`` only where objects move.
        values: of every line.
        differences: of every line but ``against``: its value less that of ``against``.
        scenes: of which the rows are views.
    """

    runs: dict[str, tuple[Evaluation, ...]]
    against: str
    groups: tuple[str, ...]
    metrics: tuple[str, ...]
    values: Estimates
    differences: Estimates
    scenes: int


def name_lines(arguments: Sequence[str]) -> dict[str, tuple[Path, ...]]:
    """The lines of the table: name -> run folders, one a training seed.

    Args:
        arguments: each a run folder, named after itself, or ``NAME=RUN,RUN,RUN`` (or ``NAME=RUN``).
            Two folders of one name are told apart by their paths as given.

    Raises:
        UserError: an argument is neither, or two lines have one name.

    >>> name_lines(["star=runs/a,runs/b", "base=runs/c"])
    {'star': (PosixPath('runs/a'), PosixPath('runs/b')), 'base': (PosixPath('runs/c'),)}
    """
    folders = [argument for argument in arguments if Path(argument).is_dir()]
    names = [Path(folder).resolve().name for folder in folders]
    lines: dict[str, tuple[Path, ...]] = {}
    for argument in arguments:
        paths: tuple[Path, ...] = (Path(argument),)
        if argument in folders:
            name = Path(argument).resolve().name
            name = argument if names.count(name) > 1 else name
        else:
            name, _, given = argument.partition("=")
            paths = tuple(Path(part) for part in given.split(",") if part)
            if not name or not paths:
                raise UserError(f"{argument}: no such run folder; give RUN or NAME=RUN,RUN,...")
        if name in lines:
            raise UserError(f"two lines are called {name!r}; name them, as in NAME={paths[0]}")
        lines[name] = paths
    return lines


def compare(
    lines: Mapping[str, Sequence[Path]],
    against: str | None = None,
    groups: Sequence[str] = ("overall", "id", "ood"),
    metrics: Sequence[str] | None = None,
    common: bool = False,
) -> Comparison:
    """Compare evaluations row by row.

    All lines must be over the same rows: the same samples, whatever the folder of the data or the
    size of the pictures. The value of a row is the mean over its completions. Of several training
    seeds the k-th run of one line is paired with the k-th of another, so that each seed may have a
    test set of its own; a line of one run is paired with each of them. The value of a line is the
    mean over its seeds.

    Intervals go by scenes, not rows: the views of a scene show the same objects and the same
    changes, so the answers to them tend to be right or wrong together, and rows taken one by one
    would pass for more evidence than there is. Differences are paired: what makes a scene hard for
    both lines cancels. Training seeds are taken as they are; what another seed may give is seen in
    ``Estimate.by_seed``.

    Args:
        lines: name -> folders of finished evaluations, see ``name_lines``.
        against: the line that the others are compared with; the first unless given.
        groups: some of ``metrics.group_views``.
        metrics: some of ``ALL_METRICS``; the 11, or 12, unless given.
        common: compare the rows that all lines have, instead of refusing lines over other rows.

    Raises:
        UserError: a run or its data are missing, unfinished or damaged; the lines are over
            different rows, or have different numbers of seeds; there is no such line, group or
            metric.
    """
    against = next(iter(lines)) if against is None else against
    _check_known("--against", [against], list(lines))
    _check_known("--metrics", metrics or (), ALL_METRICS)
    read = read_lines(lines)
    paired = pair_up(read, common)
    views_of = group_views(view for part in paired for view in part.views)
    _check_known("--groups", groups, list(views_of))
    groups = tuple(dict.fromkeys(groups))
    metrics = tuple(dict.fromkeys(metrics or _present(paired)))
    inside = {group: views_of[group] for group in groups}
    alone = [name for name, runs in read.items() if len(runs) == 1]
    values, differences = contrast(paired, against, inside, metrics, alone)
    return Comparison(
        {name: tuple(judged.run for judged in runs) for name, runs in read.items()},
        against,
        groups,
        metrics,
        values,
        differences,
        scenes=len(np.unique(np.concatenate([part.scene_keys for part in paired]))),
    )


def contrast(
    paired: Sequence[Paired],
    against: str,
    groups: Mapping[str, tuple[str, ...]],
    metrics: Sequence[str],
    alone: Collection[str] = (),
    bounds: Mapping[str, Bounds] = BOUNDS,
) -> tuple[Estimates, Estimates]:
    """The values of all lines and their differences from one, as ``compare`` has them.

    Args:
        paired: the rows, one a training seed.
        against: the line that the differences are from.
        groups: group -> the views of its rows.
        metrics: some of those that the rows have.
        alone: lines of one run, which takes part in every seed.
        bounds: metric -> between which values it lies.

    Returns:
        The values of all lines; the differences of all but ``against``.
    """
    cells = _Cells(paired, alone)
    values: Estimates = {name: {group: {} for group in groups} for name in cells.lines}
    differences: Estimates = {name: {group: {} for group in groups} for name in cells.lines}
    for group, views in groups.items():
        for metric in metrics:
            lines = {name: cells.measure(name, metric, views) for name in cells.lines}
            known = {name: line for name, line in lines.items() if line is not None}
            best = _best(known, metric in COUNTS)
            base = known.get(against)
            for name in cells.lines:
                line = known.get(name)
                values[name][group][metric] = (
                    line.estimate(bounds[metric], name in best) if line else None
                )
                differences[name][group][metric] = (
                    line.less(base, bounds[metric]) if line and base else None
                )
    del differences[against]
    return values, differences


@dataclass(frozen=True, slots=True, eq=False)
class _Line:
    """A metric of one line: the mean over training seeds, and that of each; ``alone``: of one."""

    mean: Mean
    by_seed: tuple[Mean | None, ...]
    alone: bool

    def estimate(self, bounds: Bounds, marked: bool) -> Estimate:
        seeds = [mean.value for mean in self.by_seed[: 1 if self.alone else None] if mean]
        mean = self.mean
        return Estimate(mean.value, interval(mean, bounds), mean.n, tuple(seeds), marked)

    def less(self, other: "_Line", bounds: Bounds) -> Estimate:
        """The difference from another line, the seeds of both paired."""
        pairs = list(zip(self.by_seed, other.by_seed, strict=True))
        pairs = pairs[: 1 if self.alone and other.alone else None]
        difference = self.mean - other.mean
        return Estimate(
            difference.value,
            interval(difference, (-1.0, 1.0) if bounds == SHARE else ANY),
            difference.n,
            tuple((a - b).value for a, b in pairs if a and b),
            _significant(difference),
            p_value(difference) if difference.scenes >= FEWEST_SCENES else None,
        )


class _Cells:
    """The metrics of some lines over the same rows, by group; scenes are numbered once for all."""

    def __init__(self, paired: Sequence[Paired], alone: Collection[str]) -> None:
        self.lines = tuple(paired[0].values)
        self._paired, self._alone = paired, alone
        keys, codes = np.unique(
            np.concatenate([part.scene_keys for part in paired]), return_inverse=True
        )
        self._scenes = len(keys)
        ends = np.cumsum([len(part.scene_keys) for part in paired])
        self._codes: list[Integers] = np.split(codes, ends[:-1])
        # Rows of one test set under several seeds are counted once.
        _, first = np.unique(np.concatenate([part.keys for part in paired]), return_index=True)
        new = np.zeros(len(codes), dtype=bool)
        new[first] = True
        self._new = np.split(new, ends[:-1])

    def measure(self, line: str, metric: str, views: Collection[str]) -> _Line | None:
        """None where no row has the metric."""
        means: list[Mean | None] = []
        n = 0
        for part, codes, new in zip(self._paired, self._codes, self._new, strict=True):
            values: Floats = part.values[line][:, part.metrics.index(metric)]
            there = ~np.isnan(values) & np.isin(part.views, list(views))
            means.append(mean_by_scene(values[there], codes[there], self._scenes))
            n += int(np.count_nonzero(there & new))
        known = [mean for mean in means if mean is not None]
        if not known:
            return None
        return _Line(average(known, n), tuple(means), line in self._alone)


def _significant(difference: Mean) -> bool:
    """Whether the interval of a difference leaves out 0, and scenes are enough to tell."""
    ends = interval(difference)
    return ends is not None and not ends[0] <= 0 <= ends[1] and difference.scenes >= FEWEST_SCENES


def _best(lines: Mapping[str, _Line], lower: bool) -> set[str]:
    """The lines that are best or not significantly worse, where any is worse: ``marked``."""
    if not lines:
        return set()
    sign = -1 if lower else 1
    best = max(lines, key=lambda name: sign * lines[name].mean.value)
    worse = {name for name in lines if _significant(lines[best].mean - lines[name].mean)}
    return set(lines) - worse if worse else set()


def _check_known(flag: str, given: Iterable[str], known: Collection[str]) -> None:
    for name in given:
        if name not in known:
            raise UserError(f"{flag} {name}: give one of {', '.join(known)}")


def _present(paired: Sequence[Paired]) -> tuple[str, ...]:
    """The metrics that data with or without moves have."""
    place = ALL_METRICS.index("position")
    moves = any(
        not np.isnan(values[:, place]).all() for part in paired for values in part.values.values()
    )
    return ALL_METRICS if moves else METRICS
