"""Runs side by side over the same rows: the metrics of each, and their paired differences."""

import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from star_r1.errors import UserError
from star_r1.evaluate.paired import Floats, Paired, pair_up, read_lines
from star_r1.evaluate.runs import Evaluation
from star_r1.metrics import ALL_METRICS, COUNTS, METRICS, group_views

Marks: TypeAlias = NDArray[np.bool_]

RESAMPLES: Final = 2000

WEIGHTS_AT_ONCE: Final = 2**24
"""Of all scenes in some draws: 128 MB."""

FEWEST_SCENES: Final = 10
"""With fewer, no difference is called significant: resamples of so few know no spread."""

_T975: Final = (
    *(4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145),
    *(2.131, 2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052),
    *(2.048, 2.045, 2.042),
)
"""97.5% quantiles of Student's t with 2 to 30 degrees of freedom; more are taken as 30."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A metric of one line of the table, or the difference of two lines.

    Attributes:
        value: in the units of ``metrics.score`` (fractions of 1, means of counts); over several
            training seeds the mean of their values.
        ci95: percentile bootstrap over scenes, the training seeds as they are.
        n: rows that the metric is a mean of, those of all test sets.
        by_seed: the value of each training seed; one value where there is one run.
        marked: of a value: it is the best or not significantly worse than the best, and some other
            line is; of a difference: it is significant, ``ci95`` lies on one side of 0.
        p: of a difference: twice the share of resamples on the other side of 0, or on it; at least
            2 / (resamples + 1), at most 1. None for values, and below ``FEWEST_SCENES`` scenes.
    """

    value: float
    ci95: tuple[float, float]
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
        half = _T975[min(seeds - 3, len(_T975) - 1)] * error
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
        scenes: how many were resampled.
        seed, resamples: of the bootstrap.
    """

    runs: dict[str, tuple[Evaluation, ...]]
    against: str
    groups: tuple[str, ...]
    metrics: tuple[str, ...]
    values: Estimates
    differences: Estimates
    scenes: int
    seed: int
    resamples: int


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
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Comparison:
    """Compare evaluations row by row.

    All lines must be over the same rows: the same samples, whatever the folder of the data or the
    size of the pictures. The value of a row is the mean over its completions. Of several training
    seeds the k-th run of one line is paired with the k-th of another, so that each seed may have a
    test set of its own; a line of one run is paired with each of them. The value of a line is the
    mean over its seeds.

    The bootstrap draws scenes, not rows: the views of a scene show the same objects and the same
    changes, so the answers to them tend to be right or wrong together, and rows drawn one by one
    would pass for more evidence than there is (a cluster bootstrap: Cameron, Gelbach and Miller,
    2008). Every line gets the same draws. That pairs them: what makes a scene hard for both lines
    cancels in their difference. Training seeds are not drawn; what another seed may give is seen
    in ``Estimate.by_seed``.

    Args:
        lines: name -> folders of finished evaluations, see ``name_lines``.
        against: the line that the others are compared with; the first unless given.
        groups: some of ``metrics.group_views``.
        metrics: some of ``ALL_METRICS``; the 11, or 12, unless given.
        common: compare the rows that all lines have, instead of refusing lines over other rows.
        seed: of the bootstrap.
        resamples: at least 1.

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
    values, differences = contrast(paired, against, inside, metrics, alone, seed, resamples)
    return Comparison(
        {name: tuple(judged.run for judged in runs) for name, runs in read.items()},
        against,
        groups,
        metrics,
        values,
        differences,
        scenes=len({scene for part in paired for scene in part.scenes}),
        seed=seed,
        resamples=resamples,
    )


def contrast(
    paired: Sequence[Paired],
    against: str,
    groups: Mapping[str, tuple[str, ...]],
    metrics: Sequence[str],
    alone: Collection[str] = (),
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> tuple[Estimates, Estimates]:
    """The values of all lines and their differences from one, by the bootstrap of ``compare``.

    Args:
        paired: the rows, one a training seed.
        against: the line that the differences are from.
        groups: group -> the views of its rows.
        metrics: some of ``ALL_METRICS``.
        alone: lines of one run, which takes part in every seed.
        seed: of the bootstrap.
        resamples: at least 1.

    Returns:
        The values of all lines; the differences of all but ``against``.
    """
    sums, counts, n = _by_scene(paired, list(groups.values()), metrics)
    drawn = _draw(sums, counts, seed, resamples)
    means = {name: _mean_of_seeds(draws) for name, draws in drawn.items()}
    enough = (np.sum(counts, axis=0) > 0).sum(axis=0) >= FEWEST_SCENES
    best = _best(means, np.array([metric in COUNTS for _ in groups for metric in metrics]))

    def nested(estimates: Iterable[Estimate | None]) -> dict[str, dict[str, Estimate | None]]:
        rest = iter(estimates)
        return {group: {metric: next(rest) for metric in metrics} for group in groups}

    values, differences = {}, {}
    for name, draws in drawn.items():
        seeds = draws[0, :1] if name in alone else draws[0]
        values[name] = nested(_estimates(means[name], n, seeds, best[name] & enough))
        if name != against:
            less = _subtract(means[name], means[against])
            seeds = _subtract(draws[0], drawn[against][0])
            seeds = seeds[:1] if {name, against} <= set(alone) else seeds
            marked = _significant(less) & enough
            differences[name] = nested(_estimates(less, n, seeds, marked, _p(less, enough)))
    return values, differences


def _check_known(flag: str, given: Iterable[str], known: Collection[str]) -> None:
    for name in given:
        if name not in known:
            raise UserError(f"{flag} {name}: give one of {', '.join(known)}")


def _present(paired: Sequence[Paired]) -> tuple[str, ...]:
    """The metrics that data with or without moves have."""
    parts = [values for part in paired for values in part.values.values()]
    moves = any(not np.isnan(values[:, ALL_METRICS.index("position")]).all() for values in parts)
    return ALL_METRICS if moves else METRICS


def _by_scene(
    paired: Sequence[Paired], groups: Sequence[tuple[str, ...]], metrics: Sequence[str]
) -> tuple[dict[str, list[Floats]], list[Floats], NDArray[np.int64]]:
    """What each scene adds to each cell of the table, a cell being a metric of a group.

    Returns:
        line -> for each training seed (scenes, cells), the sums over the rows of a scene; for each
        seed (scenes, cells), how many rows those are; (cells,), the rows of all test sets.
    """
    place = {scene: i for i, scene in enumerate({s: 0 for part in paired for s in part.scenes})}
    columns = [ALL_METRICS.index(metric) for _ in groups for metric in metrics]
    sums: dict[str, list[Floats]] = {name: [] for name in paired[0].values}
    counts: list[Floats] = []
    n = np.zeros(len(columns), dtype=np.int64)
    counted: set[str] = set()
    for part in paired:
        scene = np.array([place[scene] for scene in part.scenes])
        inside = np.array([[view in views for views in groups] for view in part.views])
        inside = np.repeat(inside, len(metrics), axis=1)
        for name, values in part.values.items():
            cells = np.where(inside, values[:, columns], np.nan)
            sums[name].append(_add_up(np.nan_to_num(cells), scene, len(place)))
        # Whether a metric leaves a row out is the truth's doing: the last line speaks for all.
        taken = ~np.isnan(cells)
        counts.append(_add_up(taken.astype(np.float64), scene, len(place)))
        n += taken[[key not in counted for key in part.keys]].sum(axis=0)
        counted.update(part.keys)
    return sums, counts, n


def _add_up(rows: Floats, place: NDArray[np.int64], places: int) -> Floats:
    total = np.zeros((places, rows.shape[1]))
    np.add.at(total, place, rows)
    return total


def _draw(
    sums: Mapping[str, Sequence[Floats]], counts: Sequence[Floats], seed: int, resamples: int
) -> dict[str, Floats]:
    """Line -> (1 + resamples, seeds, cells): its means over all scenes, then over each draw.

    NaN where no row that was drawn has the metric.
    """
    chunks: dict[str, list[Floats]] = {name: [] for name in sums}
    for weights in _weights(len(counts[0]), seed, resamples):
        rows = [weights @ count for count in counts]
        for name, parts in sums.items():
            with np.errstate(invalid="ignore"):
                means = [weights @ part / n for part, n in zip(parts, rows, strict=True)]
            chunks[name].append(np.stack(means, axis=1))
    return {name: np.concatenate(parts) for name, parts in chunks.items()}


def _weights(scenes: int, seed: int, resamples: int) -> Iterator[Floats]:
    """How often each scene counts: once, then as drawn; (some, scenes) at a time."""
    yield np.ones((1, scenes))
    random = np.random.default_rng(seed)
    some = max(1, WEIGHTS_AT_ONCE // scenes)
    for start in range(0, resamples, some):
        draws = (
            random.integers(scenes, size=scenes) for _ in range(start, min(start + some, resamples))
        )
        yield np.stack([np.bincount(draw, minlength=scenes) for draw in draws]).astype(np.float64)


def _mean_of_seeds(draws: Floats) -> Floats:
    """(draws, cells) from (draws, seeds, cells); a seed without such rows does not count."""
    there = ~np.isnan(draws)
    with np.errstate(invalid="ignore"):
        means: Floats = np.where(there, draws, 0.0).sum(axis=1) / there.sum(axis=1)
    return means


def _subtract(a: Floats, b: Floats) -> Floats:
    """The difference, without what rounding leaves where both are the same."""
    return np.round(a - b, 12)


def _interval(means: Floats) -> tuple[Floats, Floats]:
    """Of each cell, from the draws that have it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a cell that no row has
        low, high = np.nanpercentile(means[1:], (2.5, 97.5), axis=0)
    return low, high


def _significant(difference: Floats) -> Marks:
    low, high = _interval(difference)
    return (low > 0) | (high < 0)


def _p(difference: Floats, enough: Marks) -> Floats:
    """See ``Estimate.p``; NaN for None."""
    drawn = difference[1:]
    fewer = np.minimum((drawn <= 0).sum(axis=0), (drawn >= 0).sum(axis=0))
    p = np.minimum(1.0, 2 * (fewer + 1) / ((~np.isnan(drawn)).sum(axis=0) + 1))
    return np.where(enough, p, np.nan)


def _best(means: Mapping[str, Floats], lower: Marks) -> dict[str, Marks]:
    """Line -> of each cell whether it is among the best: see ``Estimate.marked``."""
    names = list(means)
    stacked = np.stack([np.where(lower, -means[name], means[name]) for name in names])
    first = np.nan_to_num(stacked[:, 0], nan=-np.inf).argmax(axis=0)
    leader = stacked[first, :, np.arange(len(lower))].T
    worse = np.stack([_significant(_subtract(leader, line)) for line in stacked])
    return dict(zip(names, ~worse & worse.any(axis=0), strict=True))


def _estimates(
    means: Floats,
    n: NDArray[np.int64],
    by_seed: Floats,
    marked: Marks,
    p: Floats | None = None,
) -> Iterator[Estimate | None]:
    """The estimate of each cell, from (1 + resamples, cells) and (seeds, cells)."""
    low, high = _interval(means)
    for i, value in enumerate(means[0]):
        if np.isnan(value):
            yield None
            continue
        seeds = by_seed[:, i]
        yield Estimate(
            float(value),
            (float(low[i]), float(high[i])),
            int(n[i]),
            tuple(seeds[~np.isnan(seeds)].tolist()),
            bool(marked[i]),
            None if p is None or np.isnan(p[i]) else float(p[i]),
        )
