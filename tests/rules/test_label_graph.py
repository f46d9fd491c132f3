"""MIG's rule against published code, all gains worked out anew, and by hand."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import sparse

from dwbench.rules.label_graph import (
    TIE,
    Coverage,
    Gain,
    Phi,
    exponential_phi,
    label_edges,
    most_informative,
    power_phi,
    spread_labels,
)

UNJOINED = sparse.csr_array(np.eye(2))
JOINED = sparse.csr_array(np.ones((2, 2)))

GAINS: tuple[Gain, ...] = ("gradient", "exact")


def greedy(spread: Any, k: int, gain: Gain, phi: Phi) -> Coverage:
    """Every gain worked out at every turn."""
    brought = spread.toarray()
    totals, picks, found = np.zeros(brought.shape[1]), [], []
    while True:
        if gain == "gradient":
            gains = brought @ phi.slope(totals)
        else:
            gains = (phi.value(totals + brought) - phi.value(totals)).sum(axis=1)
        if len(picks) == k:
            return Coverage(np.array(picks), np.array(found), totals, gains)
        free = np.isin(np.arange(len(brought)), picks, invert=True)
        best = gains[free].max()
        picks.append(int(np.flatnonzero(free & (gains >= best - TIE * best))[0]))
        found.append(gains[picks[-1]])
        totals = totals + brought[picks[-1]]


def some_rows(n: int, n_labels: int, seed: int, most: float = 5) -> tuple[list[list[int]], np.ndarray, Any]:
    rng = np.random.default_rng(seed)
    labels = [rng.choice(n_labels, rng.integers(0, 5), replace=False).tolist() for _ in range(n)]
    centres = rng.normal(size=(n_labels // 2, 6))
    vectors = np.concatenate([centres, centres + 0.2 * rng.normal(size=centres.shape)])
    return labels, rng.uniform(most / 10, most, n), label_edges(vectors)


@pytest.mark.parametrize("name", ["a_cli_defaults", "b_normalised", "c_exp_half_edges"])
def test_published_rule(name: str, shared: Path) -> None:
    folder = shared / "golden" / "rules" / "mig"
    if not folder.is_dir():
        pytest.skip(f"no golden vectors: {folder}")
    data = json.loads((folder / f"case_{name}.json").read_text())
    arrays = np.load(folder / f"case_{name}.npz", allow_pickle=False)
    given, inputs, expected = data["parameters"], data["inputs"], data["expected"]
    factor = given["edge_weight_factor"]
    edges = label_edges(arrays["in_label_vectors"], given["edge_threshold"], factor)
    published = arrays["in_edge_weights"] * np.where(np.eye(given["n_labels"]), 1, factor)
    np.testing.assert_allclose(edges.toarray(), published, atol=1e-5)
    ends = np.cumsum(inputs["row_label_counts"]["value"])
    labels = [part.tolist() for part in np.split(arrays["in_row_labels_flat"], ends[:-1])]
    quality = np.array(inputs["row_scores"]["value"])
    spread = spread_labels(labels, quality, edges, given["divide_score_by_number_of_labels"])
    phi = power_phi(given["phi_exponent"]) if given["phi"] == "pow" else exponential_phi(given["exp_alpha"])
    found = most_informative(spread, given["k"], "gradient", phi)
    assert found.picks.tolist() == expected["picks_in_order"]["value"]
    np.testing.assert_allclose(found.gains, expected["gain_at_pick"]["value"], rtol=1e-5)
    np.testing.assert_allclose(found.totals, expected["final_label_totals"]["value"], rtol=1e-5)


def test_gradient_goes_to_untouched_labels_and_exact_to_quality() -> None:
    spread = spread_labels([[0], [0], [1]], np.array([4.0, 3, 1]), UNJOINED)
    gradient = most_informative(spread, 3)
    assert gradient.picks.tolist() == [0, 2, 1]
    np.testing.assert_allclose(gradient.gains, [4 * 12.679, 12.679, 3 * 0.6063], rtol=1e-4)
    exact = most_informative(spread, 3, "exact")
    assert exact.picks.tolist() == [0, 1, 2]
    np.testing.assert_allclose(exact.gains, [4**0.8, 7**0.8 - 4**0.8, 1], rtol=1e-4)
    np.testing.assert_allclose(exact.totals, [7, 1])


def test_joined_labels_leave_the_quality() -> None:
    spread = spread_labels([[0], [0], [1]], np.array([4.0, 3, 1]), JOINED)
    np.testing.assert_allclose(spread.toarray(), [[2, 2], [1.5, 1.5], [0.5, 0.5]])
    for gain in GAINS:
        assert most_informative(spread, 3, gain).picks.tolist() == [0, 1, 2]


def test_spread_divides_by_columns_and_labels() -> None:
    edges = sparse.csr_array(np.array([[1.0, 0.9, 0], [0.9, 1, 0.95], [0, 0.95, 1]]))
    spread = spread_labels([[0, 0, 2], [1], []], np.array([2.0, 1, 5]), edges).toarray()
    sums = np.array([1.9, 2.85, 1.95])
    np.testing.assert_allclose(spread, [2 * np.array([1, 0.9 + 0.95, 1]) / sums, [0.9, 1, 0.95] / sums, [0, 0, 0]])
    divided = spread_labels([[0, 0, 2], [1], []], np.array([2.0, 1, 5]), edges, divide=True).toarray()
    np.testing.assert_allclose(divided, spread / np.array([[2], [1], [1]]))


def test_edges_by_hand() -> None:
    vectors = np.array([[2.0, 0], [1, 0.1], [0, 3], [0, 0]])
    cosine = 1 / np.sqrt(1.01)
    expected = np.eye(4)
    expected[0, 1] = expected[1, 0] = 0.5 * cosine
    np.testing.assert_allclose(label_edges(vectors, 0.9, 0.5).toarray(), expected)
    assert label_edges(vectors, 0.999).nnz == 4


def test_slopes_are_derivatives() -> None:
    x = np.array([0.1, 1, 7.0])
    for phi in (power_phi(), power_phi(0.5), exponential_phi(), exponential_phi(2)):
        np.testing.assert_allclose((phi.value(x + 1e-6) - phi.value(x - 1e-6)) / 2e-6, phi.slope(x), rtol=1e-6)
    np.testing.assert_allclose(power_phi().slope(np.zeros(1)), 12.679, rtol=1e-4)


@pytest.mark.parametrize("gain", GAINS)
@pytest.mark.parametrize("divide", [False, True])
@pytest.mark.parametrize(("phi", "most"), [(power_phi(), 5), (exponential_phi(), 0.1)])
def test_as_all_gains_worked_out_anew(gain: Gain, divide: bool, phi: Phi, most: float) -> None:
    for seed in range(5):
        spread = spread_labels(*some_rows(150, 12, seed, most), divide)
        found, expected = most_informative(spread, 150, gain, phi), greedy(spread, 150, gain, phi)
        assert found.picks.tolist() == expected.picks.tolist()
        np.testing.assert_allclose(found.gains, expected.gains, rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(found.totals, expected.totals)
        np.testing.assert_allclose(found.left, expected.left, rtol=1e-6, atol=1e-9)
        assert (np.diff(found.gains) <= 1e-9 * found.gains[0]).all()


@pytest.mark.parametrize("gain", GAINS)
def test_rows_that_bring_nothing_come_last_by_position(gain: Gain) -> None:
    spread = spread_labels([[], [0], [], [1], [0]], np.array([9.0, 1, 9, 0, 1]), UNJOINED)
    found = most_informative(spread, 5, gain)
    assert found.picks.tolist() == [1, 4, 0, 2, 3]
    np.testing.assert_allclose(found.gains[2:], 0)


@pytest.mark.parametrize("gain", GAINS)
def test_numbers_of_rows_and_labels(gain: Gain) -> None:
    spread = spread_labels([[0], [0, 1], [1]], np.ones(3), UNJOINED)
    assert most_informative(spread, 0, gain).picks.tolist() == []
    assert most_informative(spread, 1, gain).picks.tolist() == [1]
    assert most_informative(spread_labels([[0]], np.ones(1), UNJOINED), 1, gain).picks.tolist() == [0]
    alike = spread_labels([[0, 1]] * 4, np.ones(4), UNJOINED)
    assert most_informative(alike, 4, gain).picks.tolist() == [0, 1, 2, 3]
    for k in (-1, 4):
        with pytest.raises(ValueError, match=f"k = {k} of 3 rows"):
            most_informative(spread, k, gain)


def test_no_labels_at_all() -> None:
    spread = spread_labels([[], []], np.ones(2), label_edges(np.empty((0, 3))))
    assert most_informative(spread, 2).picks.tolist() == [0, 1]


def test_quality_must_be_a_number_from_0_up() -> None:
    for bad in (-1.0, np.nan):
        with pytest.raises(ValueError, match="quality"):
            spread_labels([[0], [1]], np.array([1, bad]), UNJOINED)


def test_the_order_of_rows_does_not_matter() -> None:
    labels, quality, edges = some_rows(100, 10, 9)
    shuffled = np.random.default_rng(1).permutation(100)
    one = most_informative(spread_labels(labels, quality, edges), 30)
    other = most_informative(spread_labels([labels[row] for row in shuffled], quality[shuffled], edges), 30)
    assert shuffled[other.picks].tolist() == one.picks.tolist()
