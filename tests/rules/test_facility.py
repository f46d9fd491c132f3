"""Facility location against published code, a plain greedy algorithm, and by hand."""

import json
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dwbench.rules import facility
from dwbench.rules.facility import (
    CHUNK,
    Cover,
    Similarities,
    cosine,
    facility_location,
    gaussian,
    median_gamma,
    nearest_graph,
    objective,
    of_matrix,
    rbf,
    sparse_facility_location,
    stochastic_facility_location,
)
from dwbench.selectors.quality import min_max


def case(shared: Path, rule: str) -> tuple[dict[str, Any], Any]:
    folder = shared / "golden" / "rules" / rule
    if not folder.is_dir():
        pytest.skip(f"no golden vectors: {folder}")
    return json.loads((folder / "case_a.json").read_text()), np.load(folder / "case_a.npz", allow_pickle=False)


def greedy(similarities: Similarities, n: int, k: int) -> Cover:
    """Every gain worked out at every turn."""
    matrix = similarities(np.arange(n))
    covered, picks, gains = np.zeros(n), [], []
    for _ in range(k):
        gain = [np.maximum(matrix[row] - covered, 0).sum() if row not in picks else -1 for row in range(n)]
        picks.append(int(np.argmax(gain)))
        gains.append(gain[picks[-1]])
        covered = np.maximum(covered, matrix[picks[-1]])
    return Cover(np.array(picks), np.array(gains))


def unit(n: int, d: int, seed: int = 0) -> np.ndarray:
    points = np.random.default_rng(seed).normal(size=(n, d))
    return (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)


def test_published_facility_location(shared: Path) -> None:
    data, arrays = case(shared, "facility_location")
    kernel = arrays["in_kernel"]
    found = facility_location(of_matrix(kernel), len(kernel), data["parameters"]["k"])
    expected = data["expected"]
    assert found.picks.tolist() == expected["picks_in_order"]["value"]
    np.testing.assert_allclose(found.gains, expected["gains"]["value"], rtol=1e-6)
    assert found.gains.sum() == pytest.approx(expected["objective"]["value"], rel=1e-5)


def test_published_diversity_of_superfiltering(shared: Path) -> None:
    data, arrays = case(shared, "superfiltering_fl")
    vectors = arrays["in_embeddings"]
    similarities = rbf(vectors)
    np.testing.assert_allclose(similarities(np.arange(4)), arrays["ex_kernel_first_rows"], atol=1e-6)
    found = facility_location(similarities, len(vectors), data["parameters"]["k"])
    assert found.picks.tolist() == data["expected"]["picks_in_order"]["value"]
    np.testing.assert_allclose(found.gains, data["expected"]["gains"]["value"], rtol=1e-3)


def test_by_hand() -> None:
    matrix = np.array([[1.0, 0.8, 0.0], [0.8, 1.0, 0.3], [0.0, 0.3, 1.0]])
    found = facility_location(of_matrix(matrix), 3, 3)
    # Row 1 covers 0.8 + 1 + 0.3; then row 2 adds 0.7, row 0 only 0.2.
    assert found.picks.tolist() == [1, 2, 0]
    np.testing.assert_allclose(found.gains, [2.1, 0.7, 0.2])


def test_negative_similarities_count_nothing() -> None:
    matrix = np.array([[1.0, -0.9, -0.9], [-0.9, 1.0, 0.2], [-0.9, 0.2, 1.0]])
    found = facility_location(of_matrix(matrix), 3, 2)
    np.testing.assert_allclose(found.gains, [1.2, 1.0])
    assert found.picks.tolist() == [1, 0]


@pytest.mark.parametrize("kernel", [cosine, rbf])
@pytest.mark.parametrize("n", [5, CHUNK, CHUNK + 7])
def test_as_the_plain_greedy_algorithm(kernel: Any, n: int) -> None:
    similarities = kernel(unit(n, 6, seed=n))
    k = min(n, 40)
    found, expected = facility_location(similarities, n, k), greedy(similarities, n, k)
    assert found.picks.tolist() == expected.picks.tolist()
    np.testing.assert_allclose(found.gains, expected.gains, rtol=1e-9, atol=1e-12)
    assert (np.diff(found.gains) <= 1e-12).all()


@pytest.mark.parametrize("kernel", [cosine, rbf])
def test_all_rows_each_once_copies_by_position(kernel: Any) -> None:
    once = unit(40, 8)
    vectors = np.concatenate([once, once, once])
    found = facility_location(kernel(vectors), 120, 120)
    assert sorted(found.picks) == list(range(120))
    # Of three copies the first is taken; the others add nothing and follow by position.
    assert sorted(found.picks[:40]) == list(range(40))
    assert found.picks[40:].tolist() == list(range(40, 120))
    np.testing.assert_allclose(found.gains[40:], 0, atol=1e-9)


def test_no_row_and_too_many() -> None:
    similarities = of_matrix(np.eye(3))
    assert facility_location(similarities, 3, 0).picks.tolist() == []
    with pytest.raises(ValueError, match="k = 4 of 3 rows"):
        facility_location(similarities, 3, 4)


def test_copies_are_at_distance_zero() -> None:
    vectors = unit(30, 384)
    noisy = vectors + np.float32(3e-8)
    assert (rbf(np.concatenate([vectors, noisy]))(np.arange(30))[:, 30:].diagonal() == 1).all()


@pytest.fixture
def nothing_held(monkeypatch: pytest.MonkeyPatch) -> None:
    """As for more rows than there is memory for."""
    monkeypatch.setattr(facility, "HELD", 0)


@pytest.mark.usefixtures("nothing_held")
@pytest.mark.parametrize("kernel", [cosine, rbf])
def test_the_same_without_similarities_in_memory(kernel: Any) -> None:
    similarities = kernel(unit(600, 6))
    found, expected = facility_location(similarities, 600, 40), greedy(similarities, 600, 40)
    assert found.picks.tolist() == expected.picks.tolist()
    np.testing.assert_allclose(found.gains, expected.gains, rtol=1e-9, atol=1e-12)


def test_single_precision_picks_the_same() -> None:
    vectors = unit(700, 24)
    found = facility_location(cosine(vectors, np.float32), 700, 70)
    expected = greedy(cosine(vectors), 700, 70)
    assert found.picks.tolist() == expected.picks.tolist()
    np.testing.assert_allclose(found.gains, expected.gains, rtol=1e-4)


def test_copies_are_equal_in_single_precision_too() -> None:
    vectors = np.tile(unit(300, 24), (4, 1))
    picks = facility_location(cosine(vectors, np.float32), 1200, 300).picks
    assert sorted(picks.tolist()) == list(range(300))  # of each four copies the first


@pytest.mark.parametrize(
    ("kernel", "rounding"),
    [
        (cosine, 1e-9),
        (rbf, 1e-9),
        (lambda points: gaussian(points, 0.5), 1e-5),
        (lambda points: of_matrix(points @ points.T), 1e-9),
    ],
)
def test_half_of_the_similarities_make_the_other(kernel: Any, rounding: float, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = unit(150, 6)
    monkeypatch.setattr(facility, "CHUNK", 64)  # two whole ones and a part
    found = facility_location(kernel(vectors), 150, 20)  # first: its empty matrix might hold what `greedy` left there
    expected = greedy(kernel(vectors), 150, 20)
    assert found.picks.tolist() == expected.picks.tolist()
    np.testing.assert_allclose(found.gains, expected.gains, rtol=rounding, atol=1e-12)


@pytest.mark.parametrize(("n", "held"), [(2000, True), (2001, False)])
def test_no_more_similarities_are_held_than_allowed(n: int, held: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """At a tenth of the rows: 20,000 is the last N whose matrix is made."""
    assert facility.HELD == 20_000**2 * 4
    monkeypatch.setattr(facility, "HELD", facility.HELD // 100)
    vectors = unit(n, 4)
    tracemalloc.start()
    facility_location(cosine(vectors, np.float32), n, 3)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (peak > n * n * 4) == held


@pytest.mark.parametrize("kernel", [cosine, rbf, lambda vectors: gaussian(vectors, 1.0)])
def test_no_similarities_of_what_is_no_number(kernel: Any) -> None:
    vectors = unit(5, 3)
    vectors[3, 1] = np.nan
    with pytest.raises(ValueError, match="row 3 is not finite"):
        kernel(vectors)


def test_worth_by_hand() -> None:
    matrix = np.array([[1.0, 0.9, 0], [0.9, 1, 0], [0, 0, 1]])
    assert facility_location(of_matrix(matrix), 3, 2).picks.tolist() == [0, 2]
    found = facility_location(of_matrix(matrix), 3, 3, weight=0.5, worth=0.5 * np.array([0.0, 1, 0]))
    # 0.5 x 1.9 + 0.5 = 1.45 against 0.95; then 0.5 x 1 against 0.5 x 0.1.
    assert found.picks.tolist() == [1, 2, 0]
    np.testing.assert_allclose(found.gains, [1.45, 0.5, 0.05])
    by_worth = facility_location(of_matrix(matrix), 3, 3, weight=0.0, worth=np.array([2.0, 1, 3]))
    assert by_worth.picks.tolist() == [2, 0, 1]


@pytest.mark.parametrize(
    ("name", "alpha", "scaled"),
    [("raw_clipped", 0.7, False), ("scaled_clipped", 0.5, True), ("alpha_0", 0.0, False), ("alpha_1", 1.0, False)],
)
def test_quality_and_coverage_of_two_own_implementations(name: str, alpha: float, scaled: bool, shared: Path) -> None:
    data, arrays = case(shared, "qdit")
    vectors, quality = arrays["in_embeddings"], np.array(data["inputs"]["quality"]["value"])
    n, k = len(vectors), data["parameters"]["k"]
    weight, worth = (1 - alpha) / (n if scaled else 1), alpha * (min_max(quality) if scaled else quality)
    for precision in (np.float32, np.float64):
        found = facility_location(cosine(vectors, precision), n, k, weight, worth)
        assert found.picks.tolist() == data["expected"][f"picks_{name}"]["value"]
        np.testing.assert_allclose(found.gains, data["expected"][f"gains_{name}"]["value"], rtol=1e-5)


def test_objective_by_hand_and_as_the_sum_of_the_gains() -> None:
    matrix = np.array([[1.0, 0.4, -0.5], [0.4, 1, -0.1], [-0.5, -0.1, 1]])
    assert objective(of_matrix(matrix), 3, np.array([0])) == pytest.approx(1.4)
    assert objective(of_matrix(matrix), 3, np.array([], dtype=np.int64)) == 0
    similarities = cosine(unit(400, 6))
    found = facility_location(similarities, 400, 300)
    assert objective(similarities, 400, found.picks) == pytest.approx(found.gains.sum())


def test_sparse_with_all_neighbours_is_exact() -> None:
    similarities = cosine(unit(150, 6))
    graph = nearest_graph(similarities, 150, 1000)
    found, expected = sparse_facility_location(graph, 30), facility_location(similarities, 150, 30)
    assert found.picks.tolist() == expected.picks.tolist()
    np.testing.assert_allclose(found.gains, expected.gains)


@pytest.mark.parametrize("factor", [1.0, 7.0])
def test_relative_to_the_largest_row_by_hand(factor: float) -> None:
    """Half of FL / 1.9 and half of the worth: 0.5 + 0.5, then 0.5 x 1 / 1.9, whatever the similarities are counted
    in."""
    matrix = of_matrix(factor * np.array([[1, 0.9, 0], [0.9, 1, 0], [0, 0, 1]]))
    found = facility_location(matrix, 3, 2, 0.5, np.array([0, 0.5, 0]), relative=True)
    assert found.picks.tolist() == [1, 2]
    np.testing.assert_allclose(found.gains, [1, 0.5 / 1.9])
    nothing = facility_location(of_matrix(np.zeros((2, 2))), 2, 2, 0.5, np.array([0.1, 0.2]), relative=True)
    np.testing.assert_allclose(nothing.gains, [0.2, 0.1])


def test_sparse_by_hand() -> None:
    # Two neighbours each: 0 and 1 have each other, 2 has 1; nobody has 2 but itself.
    matrix = np.array([[1.0, 0.9, 0.1], [0.9, 1, 0.5], [0.1, 0.5, 1]])
    graph = nearest_graph(of_matrix(matrix), 3, 2)
    assert [set(row) for row in graph.rows.tolist()] == [{0, 1}, {0, 1}, {1, 2}]
    found = sparse_facility_location(graph, 3)
    assert found.picks.tolist() == [1, 2, 0]
    np.testing.assert_allclose(found.gains, [2.4, 0.5, 0.1])


def test_nearest_rows_as_by_sorting() -> None:
    vectors = unit(300, 8)
    vectors[100:140] = vectors[100]  # copies must not push a row out of its own list
    similarity = vectors @ vectors.T
    graph = nearest_graph(cosine(vectors, np.float32), 300, 12)
    assert all(row in graph.rows[row] for row in range(300))
    expected = np.sort(similarity, axis=1)[:, -12:]
    np.testing.assert_allclose(np.sort(graph.similarity, axis=1), expected, atol=1e-6)
    np.testing.assert_allclose(graph.similarity, np.take_along_axis(similarity, graph.rows, axis=1), atol=1e-6)


@pytest.mark.parametrize("held", [True, False])
def test_parts_change_nothing(held: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    similarities = cosine(unit(120, 6), np.float32)
    graph = nearest_graph(similarities, 120, 9)
    whole = stochastic_facility_location(similarities, 120, 20, 0.1, 0)
    monkeypatch.setattr(facility, "CHUNK", 7)
    if not held:
        monkeypatch.setattr(facility, "HELD", 0)
    in_parts = nearest_graph(similarities, 120, 9)
    np.testing.assert_array_equal(np.sort(in_parts.rows, axis=1), np.sort(graph.rows, axis=1))
    assert stochastic_facility_location(similarities, 120, 20, 0.1, 0).picks.tolist() == whole.picks.tolist()


def groups(n: int) -> np.ndarray:
    """Rows in 50 groups, as texts on subjects are."""
    rng = np.random.default_rng(0)
    points = rng.normal(size=(50, 24))[rng.integers(0, 50, n)] + 0.5 * rng.normal(size=(n, 24))
    return np.asarray(points / np.linalg.norm(points, axis=1, keepdims=True), dtype=np.float32)


def test_what_the_approximations_reach() -> None:
    vectors = groups(1000)
    similarities = cosine(vectors, np.float32)
    best = objective(similarities, 1000, facility_location(similarities, 1000, 100).picks)
    drawn = stochastic_facility_location(similarities, 1000, 100, 0.01, 0)
    on_graph = sparse_facility_location(nearest_graph(similarities, 1000, 100), 100)
    for picks in (drawn.picks, on_graph.picks):
        assert len(set(picks.tolist())) == 100
    assert objective(similarities, 1000, drawn.picks) == pytest.approx(drawn.gains.sum())
    assert objective(similarities, 1000, drawn.picks) > 0.98 * best
    assert on_graph.gains.sum() <= objective(similarities, 1000, on_graph.picks) + 1e-6
    assert objective(similarities, 1000, on_graph.picks) > 0.999 * best


def test_stochastic_goes_by_its_seed_and_is_exact_when_it_looks_at_all() -> None:
    similarities = cosine(unit(120, 6))
    one, same, other = (stochastic_facility_location(similarities, 120, 20, 0.1, seed).picks for seed in (0, 0, 1))
    assert one.tolist() == same.tolist() != other.tolist()
    everyone = stochastic_facility_location(similarities, 120, 20, 1e-9, 0)  # 6 x ln(1e9) is more than 120
    assert everyone.picks.tolist() == facility_location(similarities, 120, 20).picks.tolist()
    with pytest.raises(ValueError, match="epsilon"):
        stochastic_facility_location(similarities, 120, 20, 1.0, 0)


@settings(deadline=None, max_examples=40)
@given(n=st.integers(1, 30), data=st.data(), seed=st.integers(0, 100))
def test_every_rule_takes_exactly_k_rows(n: int, data: st.DataObject, seed: int) -> None:
    rng = np.random.default_rng(seed)
    points = rng.integers(-2, 3, size=(n, 3)) + 0.1  # with copies
    similarities = cosine(points / np.linalg.norm(points, axis=1, keepdims=True), np.float32)
    k = data.draw(st.integers(0, n))
    found = [
        facility_location(similarities, n, k),
        facility_location(similarities, n, k, 0.5, rng.random(n)),
        stochastic_facility_location(similarities, n, k, 0.1, seed),
        sparse_facility_location(nearest_graph(similarities, n, 5), k),
    ]
    for cover in found:
        assert len(set(cover.picks.tolist())) == k
        assert (cover.gains >= -1e-5).all()


def test_order_of_the_rows_does_not_matter() -> None:
    vectors, shuffle = unit(200, 8), np.random.default_rng(5).permutation(200)
    for rule in (
        lambda points: facility_location(cosine(points), 200, 30),
        lambda points: sparse_facility_location(nearest_graph(cosine(points), 200, 20), 30),
    ):
        assert shuffle[rule(vectors[shuffle]).picks].tolist() == rule(vectors).picks.tolist()


def test_gaussian_kernel_and_its_width() -> None:
    points = np.array([[0.0], [1], [3]])
    assert median_gamma(points) == pytest.approx(1 / 4)  # squared distances 1, 4, 9
    np.testing.assert_allclose(gaussian(points, 0.25)(np.array([1]))[0], np.exp([-0.25, 0, -1]), rtol=1e-6)
    assert median_gamma(np.ones((4, 2))) == median_gamma(np.ones((1, 2))) == 1


def test_gaussian_in_single_precision_picks_as_in_double() -> None:
    vectors = unit(300, 24)
    gamma = median_gamma(vectors)
    squared = ((vectors[:, None].astype(np.float64) - vectors) ** 2).sum(axis=2)
    expected = greedy(of_matrix(np.exp(-gamma * squared)), 300, 40)
    assert facility_location(gaussian(vectors, gamma), 300, 40).picks.tolist() == expected.picks.tolist()
