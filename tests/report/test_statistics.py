"""Intervals, tests and rankings: by hand, against SciPy, and by how often they are right on simulated scores."""

import math
import tracemalloc

import numpy as np
import pytest
from scipy.stats import permutation_test, ttest_1samp

from dwbench.report import statistics
from dwbench.report.statistics import (
    Interval,
    Resampling,
    crossed,
    holm,
    probability_of_improvement,
    rank_stability,
    ranks,
)


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


def test_crossed_effects_by_hand() -> None:
    # Means of seeds 1 and 4, of rows 2, 1 and 4.5; the rest is 0.5, 0.5, -1 and the opposite: 13.5, 13, 3.
    found = crossed(np.array([[1.0, 0.0, 2.0], [3.0, 2.0, 7.0]]))
    squares = np.array([13.5 / 1, 13 / 2, 3 / 2])
    total = 13.5 + 6.5 - 1.5
    assert found.mean == 2.5
    assert found.stderr == pytest.approx(math.sqrt(total / 6))
    assert found.df == pytest.approx(total**2 / (squares**2 / [1, 2, 2]).sum())


def test_components_below_zero_count_as_zero() -> None:
    # Means of seeds and of rows are all 0: what is left is chance, one degree of freedom with a square of 4.
    assert crossed(np.array([[1.0, -1.0], [-1.0, 1.0]])).stderr == pytest.approx(math.sqrt(4 / 4))
    # Rows are all alike: only seeds count.
    apart = crossed(np.array([[0.0] * 5, [1.0] * 5]))
    assert (apart.mean, apart.stderr, apart.df) == pytest.approx((0.5, 0.5, 1))


@pytest.mark.parametrize("values", [normal(3, 1), np.repeat(normal(4, 1), 6, axis=1)])
def test_where_only_seeds_differ_it_is_students_test_of_the_seeds(values: np.ndarray) -> None:
    found, expected = crossed(values + 1), ttest_1samp(values[:, 0] + 1, 0)
    ends = expected.confidence_interval(0.95)
    assert (found.interval().low, found.interval().high) == pytest.approx((ends.low, ends.high))
    assert found.p_value() == pytest.approx(expected.pvalue)


def test_crossed_effects_want_two_seeds() -> None:
    with pytest.raises(ValueError, match="seeds: one tells nothing of others"):
        crossed(normal(1, 5))


def test_p_of_several_seeds_without_any_spread() -> None:
    assert crossed(np.zeros((2, 3))).p_value() == 1
    assert crossed(np.ones((2, 3))).p_value() == 0


@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize(("of_seeds", "of_rows"), [(0.3, 1.0), (0.5, 0.0), (1.0, 0.5)])
def test_intervals_of_a_few_seeds_cover_the_truth_as_often_as_they_say(
    seeds: int, of_seeds: float, of_rows: float
) -> None:
    rows, repeats = 40, 600
    rng = np.random.default_rng(seeds)
    effects = of_seeds * rng.normal(size=(repeats, seeds, 1)) + of_rows * rng.normal(size=(repeats, 1, rows))
    found = [crossed(one) for one in effects + rng.normal(size=(repeats, seeds, rows))]
    intervals = [one.interval() for one in found]
    assert 0.92 <= np.mean([one.low <= 0 <= one.high for one in intervals]) <= 0.98
    assert 0.02 <= np.mean([one.p_value() < 0.05 for one in found]) <= 0.08


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


def test_what_is_compared_together_is_as_alone() -> None:
    resampling = Resampling.of(20, draws=500)
    every = [normal(1, 20, seed=1), normal(3, 20, seed=2), normal(1, 20, seed=3)]
    for together, alone in zip(resampling.intervals(every), map(resampling.interval, every), strict=True):
        assert (together.low, together.high) == pytest.approx((alone.low, alone.high), rel=1e-12)
    assert resampling.p_values(every) == [resampling.p_value(one) for one in every]
    assert resampling.p_value(every[0]) == resampling.p_value(every[0][0])
    assert resampling.p_value(every[1]) == crossed(every[1]).p_value()


def test_how_much_is_drawn_at_a_time_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    values, resampling = normal(1, 23), Resampling.of(23, draws=301)
    interval, p = resampling.interval(values), resampling.p_value(values)
    for block in (1, 23 * 50, 23 * 301):
        monkeypatch.setattr(statistics, "BLOCK", block)
        found = resampling.interval(values)
        assert (found.low, found.high) == pytest.approx((interval.low, interval.high), rel=1e-12)
        assert resampling.p_value(values) == p


def test_draws_of_many_rows_are_never_held_all_at_once() -> None:
    values = normal(1, 20_000)
    resampling = Resampling.of(20_000, draws=200)  # held at once they take 32 MB, and as much to work each step out
    tracemalloc.start()
    resampling.interval(values)
    resampling.p_value(values)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50e6


def test_the_same_seed_draws_the_same() -> None:
    values = normal(1, 20)
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


def test_ranks_by_hand() -> None:
    assert ranks(np.array([[0.3, 0.9, 0.5], [0.5, 0.5, 0.1]])).tolist() == [[3, 1, 2], [1.5, 1.5, 3]]
