"""Facility location against published code, a plain greedy algorithm, and by hand."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dwbench.rules.facility import CHUNK, Cover, Similarities, cosine, facility_location, of_matrix, rbf


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
@pytest.mark.parametrize("n", [5, CHUNK, 3 * CHUNK + 7])
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
