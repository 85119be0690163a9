import math

import mpmath  # comes with torch
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from star_r1.intervals import (
    ANY,
    COUNT,
    SHARE,
    Mean,
    average,
    beta_cdf,
    beta_quantile,
    interval,
    mean_by_scene,
    p_value,
    t_quantile,
)


def mean(values: list[float], scene: list[int] | None = None) -> Mean:
    codes = np.arange(len(values)) if scene is None else np.array(scene)
    found = mean_by_scene(np.array(values, dtype=float), codes, int(codes.max()) + 1)
    assert found is not None
    return found


@given(st.floats(0.05, 60), st.floats(0.05, 60), st.floats(0.001, 0.999))
def test_the_beta_distribution(a: float, b: float, x: float) -> None:
    wanted = float(mpmath.betainc(a, b, 0, x, regularized=True))
    assert beta_cdf(x, a, b) == pytest.approx(wanted, abs=1e-12)


@given(st.floats(0.3, 1e5), st.floats(0.3, 1e5), st.sampled_from([0.025, 0.05, 0.975]))
def test_quantiles_are_where_the_distribution_is_reached(a: float, b: float, p: float) -> None:
    assert beta_cdf(beta_quantile(p, a, b), a, b) == pytest.approx(p, abs=1e-6)


@pytest.mark.parametrize(
    ("freedom", "wanted"),
    [(1, 12.7062), (2, 4.30265), (4, 2.77645), (29, 2.04523), (299, 1.96793), (1e6, 1.95997)],
)
def test_quantiles_of_student(freedom: float, wanted: float) -> None:
    """Of any table."""
    assert t_quantile(freedom) == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize(
    ("right", "scenes", "low", "high"),
    [
        (0, 6, 0, 0.4593),
        (1, 1, 0.025, 1),
        (0, 300, 0, 0.0122),
        (10, 10, 0.6915, 1),
        (2, 5, 0.0527, 0.8534),
        (120, 300, 0.3441, 0.4579),
    ],
)
def test_shares_of_scenes_of_one_row_are_clopper_and_pearsons(
    right: int, scenes: int, low: float, high: float
) -> None:
    values = [1.0] * right + [0.0] * (scenes - right)
    assert interval(mean(values), SHARE) == pytest.approx((low, high), abs=2e-4)
    # Three views that agree are worth one row.
    thrice = mean(values * 3, list(range(scenes)) * 3)
    assert (thrice.n, thrice.scenes) == (3 * scenes, scenes)
    assert interval(thrice, SHARE) == pytest.approx((low, high), abs=2e-4)


def test_views_that_differ_are_worth_more_than_one_and_less_than_all() -> None:
    random = np.random.default_rng(0)
    values = (random.random(900) < 0.4).astype(float)
    scene = np.repeat(np.arange(300), 3)
    apart = interval(mean(values.tolist()), SHARE)
    together = interval(mean(values.tolist(), scene.tolist()), SHARE)
    alike = interval(mean(values[:300].repeat(3).tolist(), scene.tolist()), SHARE)
    assert apart is not None
    assert together is not None
    assert alike is not None
    widths = [high - low for low, high in (apart, together, alike)]
    assert widths[0] * 0.95 < widths[1] < widths[2] * 0.75


def test_where_nothing_can_be_said_of_the_spread() -> None:
    assert interval(mean([2.0]), COUNT) is None
    assert interval(mean([2.0, 2.0, 1.0], [0, 0, 0]), COUNT) is None
    assert interval(mean([2.0] * 100 + [1.0], [0] * 100 + [1]), COUNT) is None  # one outweighs
    assert p_value(mean([1.0]) - mean([0.0])) is None
    ends = interval(mean([2.0, 1.0]), COUNT)
    assert ends is not None
    assert ends[0] == 0 < ends[1] < math.inf


def test_counts_that_are_all_the_same_have_a_width() -> None:
    ends = interval(mean([0.0] * 300), COUNT)
    assert ends == (0, pytest.approx(0.0093, abs=1e-4))
    few = interval(mean([1.0] * 6), COUNT)
    assert few == pytest.approx((1 - 0.606, 1 + 0.606), abs=1e-3)


SCENES = st.lists(
    st.tuples(st.integers(0, 9), st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=40
)


@given(SCENES)
def test_intervals_hold_the_value_and_stay_in_bounds(rows: list[tuple[int, float, float]]) -> None:
    scene, a, b = map(list, zip(*rows, strict=True))
    low, high = interval(mean(a, scene), SHARE) or (0, 0)
    assert 0 <= low <= mean(a, scene).value + 1e-12
    assert mean(a, scene).value - 1e-12 <= high <= 1
    difference = mean(a, scene) - mean(b, scene)
    if (ends := interval(difference, (-1, 1))) is not None:
        assert -1 <= ends[0] <= difference.value <= ends[1] <= 1
        p = p_value(difference)
        assert p is not None
        low, high = interval(difference, ANY) or (0, 0)
        if abs(p - 0.05) > 1e-6:
            assert (p < 0.05) == (not low <= 0 <= high)


@given(SCENES, st.randoms())
def test_the_order_of_rows_does_not_matter(rows: list[tuple[int, float, float]], shuffler) -> None:  # type: ignore[no-untyped-def]
    again = shuffler.sample(rows, len(rows))
    one, other = (mean([r[1] for r in some], [r[0] for r in some]) for some in (rows, again))
    assert interval(one, SHARE) == pytest.approx(interval(other, SHARE), abs=1e-9)


def test_an_average_over_one_set_of_scenes_pairs_its_seeds() -> None:
    """Two seeds that err on the same scenes are no surer than one; on others they are."""
    random = np.random.default_rng(1)
    first = (random.random(200) < 0.5).astype(float)
    same, other = mean(first.tolist()), mean(first[::-1].tolist())
    one, twice, both = (
        interval(average(means, 200), SHARE) for means in ([same], [same, same], [same, other])
    )
    assert one == twice
    assert one is not None
    assert both is not None
    assert both[1] - both[0] < 0.85 * (one[1] - one[0])
