"""Intervals, tests and rankings: by hand, against SciPy, and by how often they are right on simulated scores."""

import numpy as np
import pytest
from scipy.stats import permutation_test

from dwbench.report.statistics import Interval, Resampling, holm, probability_of_improvement, rank_stability


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def test_an_interval_of_one_seed_is_that_of_the_rows() -> None:
    values = normal(1, 400)
    found = Resampling.of(400).interval(values)
    error = values.std() / 20
    assert found.mean == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - 1.96 * error, abs=0.15 * error)
    assert found.high == pytest.approx(values.mean() + 1.96 * error, abs=0.15 * error)


def test_seeds_widen_an_interval() -> None:
    rows = np.linspace(0.4, 0.6, 100)
    alike = Resampling.of(100).interval(np.stack([rows, rows, rows]))
    apart = Resampling.of(100).interval(np.stack([rows - 0.2, rows, rows + 0.2]))
    assert alike.mean == pytest.approx(apart.mean)
    assert apart.high - apart.low > 3 * (alike.high - alike.low)
    # Rows that are all alike: only seeds differ, and a draw may be of one of them alone.
    assert Resampling.of(5).interval(np.array([[0.0] * 5, [1.0] * 5])) == Interval(0.5, 0.0, 1.0)


def test_equal_scores_have_no_width() -> None:
    assert Resampling.of(8).interval(np.full((3, 8), 0.25)) == Interval(0.25, 0.25, 0.25)


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    resampling = Resampling.of(40, draws=1000)
    found = [resampling.interval(normal(1, 40, seed=seed)) for seed in range(300)]
    covered = sum(one.low <= 0 <= one.high for one in found) / len(found)
    assert 0.90 <= covered <= 0.98


def test_p_agrees_with_scipy() -> None:
    for seed, shift in ((0, 0.0), (1, 0.4), (2, 0.8)):
        differences = normal(12, seed=seed) + shift
        exact = permutation_test(
            (differences,), lambda x, axis: x.mean(axis=axis), permutation_type="samples", vectorized=True
        )
        assert Resampling.of(12, draws=20_000).p_value(differences) == pytest.approx(exact.pvalue, abs=0.012)


def test_p_by_hand() -> None:
    # Of the 8 ways to set three signs two are as extreme as all of one sign.
    assert Resampling.of(3).p_value(np.array([1.0, 1.0, 1.0])) == pytest.approx(2 / 8, abs=0.02)
    # Two differ, one each way: nothing is less extreme. 1/3 and 2/3 are sums with rounding errors.
    assert Resampling.of(4).p_value(np.array([1 / 3, -1 / 3, 0.0, 0.0])) == 1
    assert Resampling.of(3).p_value(np.array([1 / 3, 1 / 3, 2 / 3])) == pytest.approx(2 / 8, abs=0.02)
    assert Resampling.of(50).p_value(np.full(50, 0.1)) == 1 / 5001
    assert Resampling.of(4).p_value(np.zeros(4)) == 1


def test_p_has_no_sides() -> None:
    differences = normal(30) + 0.3
    resampling = Resampling.of(30)
    assert resampling.p_value(differences) == resampling.p_value(-differences)


def test_p_is_rarely_small_by_chance() -> None:
    resampling = Resampling.of(60, draws=1000)
    small = np.mean([resampling.p_value(normal(60, seed=seed)) < 0.05 for seed in range(400)])
    assert 0.02 <= small <= 0.09


def test_the_same_seed_draws_the_same() -> None:
    values = normal(2, 20)
    assert Resampling.of(20).interval(values) == Resampling.of(20).interval(values)
    assert Resampling.of(20).interval(values) != Resampling.of(20, seed=1).interval(values)


def test_no_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="rows: there are none"):
        Resampling.of(0)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1, 1]
    assert holm([0.02]) == [0.02]
    assert holm([]) == []


def test_probability_of_improvement_by_hand() -> None:
    one, two = np.array([[1.0, 2.0]]), np.array([[1.0, 1.0]])
    assert probability_of_improvement(one, two) == 0.75  # one tie, one win
    assert probability_of_improvement(two, one) == 0.25
    # Two seeds against one: 1 > 0, 0 = 0 on the first row, twice a loss on the second.
    assert probability_of_improvement(np.array([[1.0, 0.0], [0.0, 0.0]]), np.array([[0.0, 1.0]])) == 0.375


def test_rank_stability_by_hand() -> None:
    up, down, swapped = [1.0, 2.0, 3.0], [3.0, 2.0, 1.0], [1.0, 3.0, 2.0]
    assert rank_stability(np.array([up, up])) == pytest.approx(1)
    assert rank_stability(np.array([up, down])) == pytest.approx(-1)
    assert rank_stability(np.array([up, up, swapped])) == pytest.approx((1 + 1 / 3 + 1 / 3) / 3)
    assert rank_stability(np.array([up])) is None
    assert rank_stability(np.array([[1.0], [2.0]])) is None
    assert rank_stability(np.array([up, [1.0, 1.0, 1.0]])) is None
