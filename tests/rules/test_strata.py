"""Strata and shares of a budget: by hand, by properties, and against what published code answers."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dwbench.rules.clusters import lowest_of_each
from dwbench.rules.strata import (
    cluster_counts,
    effort_ratios,
    hardest,
    left_closed_strata,
    published_ccs_strata,
    published_staff_counts,
    right_closed_strata,
    smallest_first,
    staff_counts,
    water_fill,
    whole,
)

NAN = float("nan")


class Case:
    """One golden case: small values stand in its JSON, large ones in the .npz beside it."""

    def __init__(self, shared: Path, name: str) -> None:
        path = shared / "golden" / "rules" / f"{name}.json"
        if not path.is_file():
            pytest.skip(f"no golden vectors: {path}")
        self._data = json.loads(path.read_text())
        arrays = path.with_suffix(".npz")
        self._arrays = np.load(arrays, allow_pickle=False) if arrays.is_file() else {}
        self.parameters: dict[str, Any] = self._data["parameters"]

    def given(self, name: str) -> Any:
        return self._value(self._data["inputs"][name])

    def expected(self, name: str) -> Any:
        return self._value(self._data["expected"][name])

    def _value(self, entry: dict[str, Any]) -> Any:
        return entry["value"] if "value" in entry else self._arrays[entry["npz_key"]]


def test_whole_counts() -> None:
    assert [whole(0.29, 100), whole(0.2, 12), whole(0.05, 10), whole(1.0, 7)] == [29, 2, 0, 7]
    assert hardest(np.arange(100.0), 0.29, np.zeros(100)).sum() == 29  # 0.29 x 100 is a little less than that


def sizes_of(labels: np.ndarray, strata: int) -> np.ndarray:
    return np.bincount(labels[labels >= 0], minlength=strata)


@pytest.mark.parametrize(
    ("sizes", "k", "expected"),
    [
        ([1, 2, 10], 5, [1, 2, 2]),
        ([1, 2, 10], 7, [1, 2, 4]),
        ([10, 1, 2], 7, [4, 1, 2]),
        ([0, 3, 0, 3], 3, [0, 1, 0, 2]),
        ([5, 5, 5], 2, [0, 1, 1]),
        ([4, 4], 0, [0, 0]),
        ([4, 0, 2], 9, [4, 0, 2]),
        ([0, 0], 3, [0, 0]),
        ([], 3, []),
    ],
)
def test_water_fill_by_hand(sizes: list[int], k: int, expected: list[int]) -> None:
    assert water_fill(np.array(sizes, dtype=np.int64), k).tolist() == expected


many_sizes = st.lists(st.integers(0, 60), min_size=1, max_size=60)


@settings(deadline=None, max_examples=200)
@given(sizes=many_sizes, k=st.integers(0, 900))
def test_water_fill_is_even_and_exact(sizes: list[int], k: int) -> None:
    found = water_fill(np.array(sizes), k)
    assert found.sum() == min(k, sum(sizes))
    assert ((found >= 0) & (found <= sizes)).all()
    # Whoever gives less than another by more than a rounding gives all it has.
    short = found < found.max() - 1
    np.testing.assert_array_equal(found[short], np.array(sizes)[short])


@settings(deadline=None, max_examples=200)
@given(sizes=many_sizes, k=st.integers(0, 900), seed=st.integers(0, 9), known=st.floats(0, 1))
def test_shares_of_staff_stay_within_budget_and_strata(sizes: list[int], k: int, seed: int, known: float) -> None:
    rng = np.random.default_rng(seed)
    ratios = np.where(rng.random(len(sizes)) < known, rng.exponential(size=len(sizes)), NAN)
    for rule in (staff_counts, published_staff_counts):
        found = rule(np.array(sizes), ratios, k)
        assert ((found >= 0) & (found <= sizes)).all()
        assert found.sum() <= k


def test_shares_of_staff_by_hand() -> None:
    sizes, ratios = np.array([20, 20, 20]), np.array([1.0, 2, 1])
    assert published_staff_counts(sizes, ratios, 12).tolist() == [3, 6, 3]
    # V of mean 1: 0.75, 1.5, 0.75; floor(12 x 0.75 / 3), floor(9 x 1.5 / 2), floor(3 x 0.75 / 1): one row is left over.
    assert staff_counts(sizes, ratios, 12).tolist() == [3, 6, 2]
    assert staff_counts(sizes, 7 * ratios, 12).tolist() == [3, 6, 2]
    # A stratum without V counts as 1 of the mean.
    assert staff_counts(sizes, np.array([NAN, 4, 2]), 12).tolist() == [4, 5, 2]
    assert published_staff_counts(sizes, np.array([NAN, 2, 1]), 12).tolist() == [4, 5, 3]
    # No more than is left, however large V is.
    assert staff_counts(np.array([5, 6, 7]), np.array([0.1, 0.1, 10]), 9).tolist() == [0, 0, 7]
    assert staff_counts(np.array([50, 60]), np.array([9.0, 1]), 10).tolist() == [9, 0]


@pytest.mark.parametrize("rule", [staff_counts, published_staff_counts])
@pytest.mark.parametrize("k", [0, 1, 49, 50, 333, 2000])
def test_equal_ratios_are_water_filling(rule: Any, k: int) -> None:
    sizes = np.random.default_rng(k).integers(0, 40, 50)
    for ratios in (np.full(50, 0.3), np.full(50, 7.7), np.full(50, NAN), np.zeros(50)):
        np.testing.assert_array_equal(rule(sizes, ratios, k), water_fill(sizes, k))


def test_a_last_stratum_takes_all_that_is_left() -> None:
    """m V / V can come out below m."""
    rng = np.random.default_rng(0)
    for ratio in rng.exponential(size=500):
        assert published_staff_counts(np.array([100]), np.array([ratio]), 57).tolist() == [57]


def test_ratios_of_efforts() -> None:
    small = np.array([1.0, 3, 2, 5, 0, NAN, 4])
    target = np.array([2.0, 6, NAN, 5, 1, 1, 9])
    labels = np.array([0, 0, 0, 2, 3, 2, -1])
    np.testing.assert_array_equal(effort_ratios(small, target, labels, 5), [2, NAN, 1, NAN, NAN])
    assert np.isnan(effort_ratios(small, np.full(7, NAN), labels, 5)).all()


def test_the_same_model_has_ratios_of_1() -> None:
    effort = np.random.default_rng(0).exponential(size=80)
    labels = right_closed_strata(effort, 50)
    found = effort_ratios(effort, effort, labels, 50)
    np.testing.assert_allclose(found[sizes_of(labels, 50) > 0], 1)


def test_the_hardest_share() -> None:
    hardness = np.array([0.3, 0.9, 0.1, NAN, 0.7, 0.5, 0.2, 0.8, 0.4, 0.6, 0.0])
    ties = np.zeros(11)
    assert np.flatnonzero(hardest(hardness, 0.3, ties)).tolist() == [1, 4, 7]
    assert np.flatnonzero(hardest(hardness, 0.39, ties)).tolist() == [1, 4, 7]
    assert not hardest(hardness, 0.0, ties).any()
    assert not hardest(hardness, 0.05, ties).any()
    np.testing.assert_array_equal(hardest(hardness, 1.0, ties), ~np.isnan(hardness))
    assert not hardest(np.full(4, NAN), 0.9, np.zeros(4)).any()


def test_equally_hard_rows_go_by_the_tie_break() -> None:
    assert np.flatnonzero(hardest(np.ones(5), 0.4, np.array([0.5, 0.1, 0.4, 0.2, 0.3]))).tolist() == [1, 3]


EDGES = np.array([0.0, 1.0, 2.0, 0.99, 1.01, NAN, 3.999, 4.0])


def test_strata_are_of_equal_width() -> None:
    assert left_closed_strata(EDGES, 4).tolist() == [0, 1, 2, 0, 1, -1, 3, 3]
    assert right_closed_strata(EDGES, 4).tolist() == [0, 0, 1, 0, 1, -1, 3, 3]
    assert published_ccs_strata(EDGES, 4).tolist() == [0, 0, 1, 0, 1, -1, 3, 3]  # edges at 1.0001, 2.0002, ...


@pytest.mark.parametrize("rule", [left_closed_strata, right_closed_strata])
@pytest.mark.parametrize("value", [-2.5, 0.0, 3.0])
def test_equal_scores_are_one_stratum(rule: Any, value: float) -> None:
    labels = rule(np.full(9, value), 50)
    assert sizes_of(labels, 50).max() == 9
    assert (rule(np.array([value]), 50) >= 0).all()
    assert rule(np.array([NAN, NAN]), 50).tolist() == [-1, -1]
    assert rule(np.array([]), 50).tolist() == []


def test_published_strata_of_equal_scores() -> None:
    for value, number in ((-2.5, -1), (0.0, -1), (3.0, 0)):
        assert set(published_ccs_strata(np.full(9, value), 50).tolist()) == {number}


def test_an_outlier_takes_the_width() -> None:
    """Equal widths and a heavy tail: most rows are in one stratum, the others are taken whole."""
    values = np.append(np.random.default_rng(0).uniform(0, 1, 200), [60.0, 1000.0])
    sizes = sizes_of(left_closed_strata(values, 50), 50)
    assert sizes[0] == 200
    counts = water_fill(sizes, 20)
    assert sorted(counts[counts > 0]) == [1, 1, 18]


@settings(deadline=None, max_examples=200)
@given(values=st.lists(st.floats(-1e6, 1e6) | st.just(NAN), min_size=1, max_size=80), strata=st.integers(1, 60))
def test_strata_hold_every_row_in_order(values: list[float], strata: int) -> None:
    scores = np.array(values)
    known = ~np.isnan(scores)
    for rule in (left_closed_strata, right_closed_strata):
        labels = rule(scores, strata)
        np.testing.assert_array_equal(labels >= 0, known)
        assert labels.max(initial=-1) < strata
        assert (np.diff(labels[known][np.argsort(scores[known], kind="stable")]) >= 0).all()
        order = np.random.default_rng(0).permutation(len(scores))
        np.testing.assert_array_equal(rule(scores[order], strata), labels[order])


@settings(deadline=None, max_examples=100)
@given(seed=st.integers(0, 99), n=st.integers(1, 90), data=st.data())
def test_exactly_k_rows_come_out_of_strata(seed: int, n: int, data: st.DataObject) -> None:
    """Duplicates, k = 1, k = N and N = 1 included; in another order the same rows."""
    rng = np.random.default_rng(seed)
    k = data.draw(st.integers(1, n))
    values, draw = rng.choice(rng.exponential(size=n), n), rng.random(n)

    def chosen(values: np.ndarray, draw: np.ndarray) -> np.ndarray:
        labels = left_closed_strata(values, 10)
        return lowest_of_each(draw, labels, water_fill(sizes_of(labels, 10), k), draw)

    found = chosen(values, draw)
    assert found.sum() == k
    order = rng.permutation(n)
    np.testing.assert_array_equal(chosen(values[order], draw[order]), found[order])


@pytest.mark.parametrize(("case", "score"), [("a_same_score", "margin"), ("b_two_scores", "second_score")])
def test_published_ccs(case: str, score: str, shared: Path) -> None:
    golden = Case(shared, f"ccs/case_{case}")
    margin, values = np.asarray(golden.given("margin")), np.asarray(golden.given(score), dtype=np.float64)
    cut = hardest(-margin, golden.parameters["cut_fraction"], np.zeros(len(margin)))
    kept = np.flatnonzero(~cut)
    assert kept[np.argsort(margin[kept])].tolist() == list(golden.expected("kept_rows"))
    labels = published_ccs_strata(np.where(cut, NAN, values), golden.parameters["n_bins"])
    sizes = sizes_of(labels, golden.parameters["n_bins"])
    assert sizes.tolist() == golden.expected("bin_counts")
    counts = water_fill(sizes, golden.parameters["budget"])
    assert counts.tolist() == golden.expected("bin_budgets")
    assert counts.sum() == golden.expected("n_selected")


def test_ccs_with_a_negative_maximum(shared: Path) -> None:
    golden = Case(shared, "ccs/case_bug_negative_maximum")
    margin = np.array(golden.given("margin"))
    bins = golden.parameters["n_bins"]
    assert sizes_of(left_closed_strata(margin, bins), bins).tolist() == golden.expected("bin_counts_corrected")
    published = published_ccs_strata(margin, bins)
    assert sizes_of(published, bins).tolist() == golden.expected("bin_counts_official")
    assert np.flatnonzero(published < 0).tolist() == [int(np.argmax(margin))]


@pytest.mark.parametrize("case", ["a", "b", "c_random_fill"])
def test_published_staff(case: str, shared: Path) -> None:
    golden = Case(shared, f"staff/case_{case}")
    small, target = (np.asarray(golden.given(f"{name}_effort"), dtype=np.float64) for name in ("small", "target"))
    bins = golden.parameters["n_bins"]
    n = len(small)
    cut = hardest(small, golden.parameters["cut_fraction"], np.zeros(n))
    kept = np.flatnonzero(~cut)
    assert kept[np.argsort(-small[kept])].tolist() == list(golden.expected("rows_after_cut"))

    labels = right_closed_strata(np.where(cut, NAN, small), bins)
    for number, rows in enumerate(golden.expected("bin_rows")):
        members = np.flatnonzero(labels == number)
        assert members[np.argsort(-small[members])].tolist() == rows
    sizes = sizes_of(labels, bins)
    order = smallest_first(sizes)
    assert order.tolist() == golden.expected("processing_order")

    verified = np.zeros(n, dtype=np.bool_)
    verified[[row for rows in golden.given("verification_rows") for row in rows]] = True
    ratios = effort_ratios(small, np.where(verified, target, NAN), labels, bins)
    expected = [NAN if v is None else v for v in golden.expected("v")]
    np.testing.assert_allclose(ratios[order], expected, rtol=1e-6)

    counts = published_staff_counts(sizes, ratios, golden.parameters["budget"])
    assert counts[order].tolist() == list(golden.expected("budgets"))
    taken = lowest_of_each(np.where(cut, NAN, -small), labels, counts, np.zeros(n))
    place = {number: turn for turn, number in enumerate(order)}
    picks = sorted(np.flatnonzero(taken), key=lambda row: (place[labels[row]], -small[row]))
    assert picks == list(golden.expected("picks"))
    assert golden.parameters["budget"] - len(picks) == golden.expected("n_left_for_random_fill")


def test_staff_loses_no_row(shared: Path) -> None:
    golden = Case(shared, "staff/case_bug_lost_top_row")
    small = np.array(golden.given("small_effort"))
    cut = hardest(small, 0.1, np.zeros(len(small)))
    labels = right_closed_strata(np.where(cut, NAN, small), golden.parameters["n_bins"])
    for number, rows in enumerate(golden.expected("bin_rows_corrected")):
        members = np.flatnonzero(labels == number)
        assert members[np.argsort(-small[members])].tolist() == rows
    assert (labels[golden.expected("lost_rows_official")] == golden.parameters["n_bins"] - 1).all()


def expected_counts(golden: Case) -> dict[int, int]:
    return {int(cluster): count for cluster, count in golden.expected("cluster_budgets").items()}


@pytest.mark.parametrize("case", ["a_one_source", "b_leftover"])
def test_published_s2l(case: str, shared: Path) -> None:
    golden = Case(shared, f"s2l_waterfill/case_{case}")
    sizes = np.bincount(golden.given("cluster_of_row"))
    assert {number: size for number, size in enumerate(sizes.tolist()) if size} == {
        int(cluster): size for cluster, size in golden.expected("cluster_sizes").items()
    }
    k = golden.parameters["budget"]
    counts = cluster_counts(sizes, k)
    assert {number: count for number, count in enumerate(counts.tolist()) if sizes[number] > 2} == expected_counts(
        golden
    )
    assert (counts[sizes <= 2] == 0).all()
    assert k - counts.sum() == golden.expected("from_tiny_clusters")


def test_published_s2l_over_sources(shared: Path) -> None:
    golden = Case(shared, "s2l_waterfill/case_c_sources")
    source, cluster = np.asarray(golden.given("source_of_row")), np.asarray(golden.given("cluster_of_row"))
    per_source = water_fill(np.bincount(source), golden.parameters["budget"])
    assert dict(enumerate(per_source.tolist())) == {
        int(number): count for number, count in golden.expected("source_budgets").items()
    }
    found: dict[int, int] = {}
    for number, k in enumerate(per_source):
        sizes = np.bincount(cluster[source == number])
        whole = k == sizes.sum()
        counts = sizes if whole else cluster_counts(sizes, int(k))
        found.update({at: int(count) for at, count in enumerate(counts) if count})
    assert found == expected_counts(golden)
