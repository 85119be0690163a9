"""How sure a mean over rows is whose scenes, not its rows, are independent; and a difference."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
Integers: TypeAlias = NDArray[np.int64]
Bounds: TypeAlias = tuple[float, float]
"""Between which values lie."""

SHARE: Final[Bounds] = (0.0, 1.0)
COUNT: Final[Bounds] = (0.0, math.inf)
ANY: Final[Bounds] = (-math.inf, math.inf)

_FEWEST: Final = 1.5
"""Scenes of one size for which a spread can be told: two, or two of not too different sizes."""
_NORMAL: Final = 1.959963984540054
"""Its 97.5% quantile."""


@dataclass(frozen=True, slots=True, eq=False)
class Mean:
    """A mean over rows, by scene.

    Attributes:
        value: the mean over all rows, each counting the same.
        n: rows.
        weight: (scenes,): the share of the rows that are of each scene; their sum is 1.
        pull: (scenes,): how far each scene moves the mean, the sum over its rows of (value - mean)
            / n; their sum is 0.
    """

    value: float
    n: int
    weight: Floats
    pull: Floats

    @property
    def scenes(self) -> int:
        """Of which there are rows."""
        return int(np.count_nonzero(self.weight))

    def __sub__(self, other: "Mean") -> "Mean":
        """The paired difference: of two means over the same rows, their scenes in one order."""
        weight = (self.weight + other.weight) / 2
        # Without what rounding leaves where both are the same.
        value = round(self.value - other.value, 12) + 0.0
        return Mean(value, self.n, weight, np.round(self.pull - other.pull, 15))


def mean_by_scene(values: Floats, scene: Integers, scenes: int) -> Mean | None:
    """The mean of ``values``, None where there are none.

    Args:
        values: (rows,), finite.
        scene: (rows,), the number of the scene of each row, below ``scenes``.
        scenes: how many there are; they need not all have rows.
    """
    n = len(values)
    if not n:
        return None
    value = float(values.mean())
    rows = np.bincount(scene, minlength=scenes)
    sums = np.bincount(scene, weights=values, minlength=scenes)
    return Mean(value, n, rows / n, (sums - value * rows) / n)


def average(means: Sequence[Mean], n: int) -> Mean:
    """The mean of several means, each counting the same, over scenes in one order.

    Args:
        means: at least one, such as those of several training seeds.
        n: the rows of all together.
    """
    if len(means) == 1:
        return means[0]
    return Mean(
        float(np.mean([mean.value for mean in means])),
        n,
        np.mean([mean.weight for mean in means], axis=0),
        np.mean([mean.pull for mean in means], axis=0),
    )


def interval(mean: Mean, bounds: Bounds = ANY) -> tuple[float, float] | None:
    """The 95% interval of a mean, or of a difference of means.

    Rows of one scene tend to be right or wrong together, so the spread is that of the scenes.

    A share gets the interval of Clopper and Pearson for as many independent draws as would have
    that spread, with the allowance of Student's t for a spread that few scenes show; but for no
    fewer than there are scenes, which is what they are worth where the rows of each agree. So it
    has a width where all rows are right, or none.

    All else gets the interval of Student. Two more scenes count in its spread, one as far above
    the mean as the farthest scene, or as 1, and one as far below: so it has a width where all
    scenes are the same. Its degrees of freedom are fewer where few scenes make up the spread.

    Args:
        mean: what is estimated.
        bounds: where values lie: ``SHARE`` for a share, ``(-1, 1)`` for a difference of two,
            ``COUNT`` for counts, ``ANY`` for their differences.

    Returns:
        Its ends. None where there is one scene, or one that outweighs all others, and ``bounds``
        are not ``SHARE``: no spread can be told then.

    Source: the spread over clusters, by linearisation, and paired differences: Miller (arXiv
    2411.00640). Shares: Korn and Graubard, Survey Methodology 24 (1998); the rest is chosen.
    ``benchmarks/interval_coverage.py`` measures how often these intervals hold the truth.

    >>> scenes = np.arange(6)
    >>> low, high = interval(mean_by_scene(np.zeros(6), scenes, 6), SHARE)
    >>> print(f"{low:.2f} {high:.2f}")
    0.00 0.46
    """
    alike = _scenes_alike(mean)
    if bounds == SHARE:
        share = min(max(mean.value, 0.0), 1.0)
        return _clopper_pearson(share, _draws(mean, share, alike))
    if alike < _FEWEST:
        return None
    variance, freedom = _student(mean, alike)
    half = t_quantile(freedom) * math.sqrt(variance)
    return max(mean.value - half, bounds[0]), min(mean.value + half, bounds[1])


def p_value(difference: Mean) -> float | None:
    """Of the test that a difference is 0: below 0.05 where its ``interval`` leaves out 0."""
    if (alike := _scenes_alike(difference)) < _FEWEST:
        return None
    variance, freedom = _student(difference, alike)
    return beta_cdf(freedom / (freedom + difference.value**2 / variance), freedom / 2, 0.5)


def _scenes_alike(mean: Mean) -> float:
    """How many scenes of one size would weigh as these do (Kish's effective number)."""
    return 1 / float(mean.weight @ mean.weight)


def _variance(mean: Mean, alike: float) -> float:
    """Of the mean, by the spread of the scenes that were seen."""
    return float(mean.pull @ mean.pull) / (1 - 1 / alike)


def _draws(mean: Mean, share: float, alike: float) -> float:
    """How many independent draws a share over scenes is worth."""
    if alike < _FEWEST:
        return alike
    # As if two more rows had been seen, one right and one wrong: a few rows that are right in part
    # would else pass for all that can be.
    variance = _variance(mean, alike) + 2 / mean.n**2
    worth = share * (1 - share) / variance * (_NORMAL / t_quantile(alike - 1)) ** 2
    return max(alike, worth)


def _student(mean: Mean, alike: float) -> tuple[float, float]:
    """Variance and degrees of freedom: those of a variance with this kurtosis (Satterthwaite)."""
    pulls = mean.pull[mean.weight > 0]
    squares = pulls**2
    farthest = max(1.0, float(np.abs(pulls / mean.weight[mean.weight > 0]).max()))
    variance = _variance(mean, alike) + 2 * (farthest / alike) ** 2
    freedom = alike - 1
    if total := float(squares.sum()):
        kurtosis = alike * float(squares @ squares) / total**2
        freedom = min(freedom, 2 * alike / max(kurtosis - 1, 1e-9))
    return variance, freedom


def _clopper_pearson(share: float, draws: float) -> tuple[float, float]:
    hits, misses = share * draws, (1 - share) * draws
    low = beta_quantile(0.025, hits, misses + 1) if hits else 0.0
    high = beta_quantile(0.975, hits + 1, misses) if misses else 1.0
    return min(low, share), max(high, share)


@lru_cache(maxsize=1024)
def t_quantile(freedom: float) -> float:
    """The 97.5% quantile of Student's t with so many degrees of freedom, above 0.

    >>> print(f"{t_quantile(2):.3f} {t_quantile(30):.3f}")
    4.303 2.042
    """
    x = beta_quantile(0.05, freedom / 2, 0.5)
    return math.sqrt(freedom * (1 - x) / x)


def beta_quantile(p: float, a: float, b: float) -> float:
    """Where the Beta distribution with parameters a and b, above 0, reaches p, in 0 to 1."""
    low, high, x = 0.0, 1.0, a / (a + b)
    for _ in range(200):
        error = beta_cdf(x, a, b) - p
        low, high = (low, x) if error > 0 else (x, high)
        slope = math.exp(_log_density(x, a, b)) if 0 < x < 1 else 0.0
        new = x - error / slope if slope else math.nan
        if not low < new < high:  # Newton's step leaves what is known
            new = (low + high) / 2
        if abs(new - x) <= 1e-13 + 1e-10 * min(x, 1 - x):
            return new
        x = new
    return x


def beta_cdf(x: float, a: float, b: float) -> float:
    """The Beta distribution function: the regularised incomplete beta function.

    Source: continued fraction 8.17.22 of the NIST Digital Library of Mathematical Functions.

    >>> print(f"{beta_cdf(0.5, 2, 3):.4f}")
    0.6875
    """
    if not 0 < x < 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):  # there the fraction converges fast
        return 1 - beta_cdf(1 - x, b, a)
    front = math.exp(_log_density(x, a, b)) * x * (1 - x) / a
    # Lentz's evaluation, from the front.
    value, c, d = 1.0, 1.0, 0.0
    for n in range(1, 100_000):
        k = n // 2
        if n % 2:
            term = -(a + k) * (a + b + k) * x / ((a + 2 * k) * (a + 2 * k + 1))
        else:
            term = k * (b - k) * x / ((a + 2 * k - 1) * (a + 2 * k))
        d = 1 / (1 + term * d or 1e-300)
        c = 1 + term / c or 1e-300
        value *= c * d
        if abs(c * d - 1) < 1e-15:
            break
    return front / value


def _log_density(x: float, a: float, b: float) -> float:
    scale = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    return scale + (a - 1) * math.log(x) + (b - 1) * math.log1p(-x)
