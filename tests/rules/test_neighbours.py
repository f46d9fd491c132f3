"""Nearest neighbours: exact, whatever the chunk; self-excluded by position; ties to the first."""

import numpy as np
import pytest

from dwbench.rules.neighbours import TIE, cosines_with_others, nearest_other


def unit_rows(n: int, d: int, seed: int) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


def test_by_hand() -> None:
    """Equal rows find each other and not themselves; the third goes to the first of the two."""
    found = nearest_other(np.array([[1, 0], [1, 0], [0.6, 0.8]], dtype=np.float32))
    assert found.row.tolist() == [1, 0, 0]
    np.testing.assert_allclose(found.cosine, [1, 1, 0.6], atol=1e-6)


@pytest.mark.parametrize("chunk", [1, 7, 40, 1000])
def test_brute_force(chunk: int) -> None:
    vectors = unit_rows(40, 6, seed=1)
    found = nearest_other(vectors, chunk)
    for row in range(40):
        cosines = [-2.0 if other == row else float(vectors[row] @ vectors[other]) for other in range(40)]
        assert found.row[row] == int(np.argmax(cosines))
        assert found.cosine[row] == pytest.approx(max(cosines), abs=1e-6)


def test_rows_in_another_order_have_the_same_neighbours() -> None:
    vectors = unit_rows(40, 6, seed=2)
    order = np.random.default_rng(3).permutation(40)
    there = nearest_other(vectors[order]).row
    np.testing.assert_array_equal(order[there], nearest_other(vectors).row[order])


def test_what_differs_by_rounding_is_a_tie() -> None:
    """The same embedding computed in two batches must not decide by its last bits."""
    best, second, third = (np.array([np.cos(angle), np.sin(angle)]) for angle in (0.3, 0.3 + TIE, 0.301))
    for vectors in ([second, best, third, (1, 0)], [best, second, third, (1, 0)]):
        assert nearest_other(np.array(vectors, dtype=np.float32)).row[3] == 0


def test_blocks_make_the_matrix() -> None:
    vectors = unit_rows(10, 4, seed=4)
    blocks = list(cosines_with_others(vectors, 4))
    assert [start for start, _ in blocks] == [0, 4, 8]
    expected = vectors @ vectors.T
    np.fill_diagonal(expected, -np.inf)
    np.testing.assert_allclose(np.concatenate([block for _, block in blocks]), expected, atol=1e-6)


@pytest.mark.parametrize("n", [0, 1])
def test_no_neighbour(n: int) -> None:
    with pytest.raises(ValueError, match="takes two"):
        nearest_other(np.ones((n, 3), dtype=np.float32))
