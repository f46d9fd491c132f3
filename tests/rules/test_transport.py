"""Optimal transport with a term against crowding: published numbers, by hand, and what holds for any input."""

import json
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dwbench.rules import transport as module
from dwbench.rules.transport import Transport, densities, spread, transport


def case(shared: Path, name: str) -> tuple[dict[str, Any], Any]:
    folder = shared / "golden" / "rules" / "tsds"
    if not folder.is_dir():
        pytest.skip(f"no golden vectors: {folder}")
    return json.loads((folder / f"{name}.json").read_text()), np.load(folder / f"{name}.npz", allow_pickle=False)


@pytest.mark.parametrize("name", ["case_a", "case_b_shipped_constants"])
def test_published(name: str, shared: Path) -> None:
    data, arrays = case(shared, name)
    given, expected = data["parameters"], data["expected"]
    queries = np.array(data["inputs"]["queries"]["value"], dtype=np.float32)
    found = transport(
        arrays["in_pool"],
        queries,
        given["neighbours_per_query"],
        given["kde_neighbours"],
        given["sigma"],
        given["alpha"],
        given["C"],
    )
    np.testing.assert_allclose(found.probability, arrays["ex_probabilities"], atol=1e-6, rtol=0)
    np.testing.assert_allclose(found.density, arrays["ex_density"], rtol=1e-4)
    assert found.s == pytest.approx(expected["s_final"]["value"], rel=1e-5)
    # What each query gives a full share to, one more that gets the rest of its mass, and no further.
    distances = np.linalg.norm(queries[:, None].astype(np.float64) - arrays["in_pool"], axis=2)
    near = np.argsort(distances, axis=1)[:, : given["neighbours_per_query"]]
    density = found.density[near]
    share = spread(np.take_along_axis(distances, near, axis=1), density, given["alpha"], given["C"]).share
    for row, weight, last in zip(share, 1 / (found.s * density), expected["last_accepted_rank"]["value"], strict=True):
        np.testing.assert_allclose(row[: last + 1], weight[: last + 1])
        assert row[last + 2 :].sum() == 0


DISTANCE = np.array([[1.0, 2, 4]])


@pytest.mark.parametrize(
    ("c", "s", "share"),
    [
        (1, 1, [1, 0, 0]),  # at 1 the cost is 1, and 0.5 x 1 reaches 0.5
        (2, 2, [0.5, 0.5, 0]),  # at 2 it is 1 + 2 x (4 - 2)
        (5, 2, [0.5, 0.5, 0]),
        (10, 2, [0.5, 0.5, 0]),  # never reached: the last point
    ],
)
def test_one_query_by_hand(c: float, s: float, share: list[float]) -> None:
    found = spread(DISTANCE, np.ones((1, 3)), 0.5, c)
    assert found.s == s
    np.testing.assert_allclose(found.share, [share])


def test_crowded_rows_get_less_and_the_farthest_takes_the_rest() -> None:
    """The second query's rows count 4 each, so that it goes on to 8, while the first is full up to 2 of them."""
    distance = np.concatenate([DISTANCE, np.zeros((1, 3))])
    density = np.array([[1.0, 1, 1], [0.25, 0.25, 0.25]])
    found = spread(distance, density, 0.5, 10)
    assert found.s == 8
    np.testing.assert_allclose(found.share, [[1 / 8, 1 / 8, 6 / 8], [1 / 2, 1 / 2, 0]])


def test_a_query_that_is_not_full_gives_all_to_its_nearest() -> None:
    """Where the published code gives it more than it has, and stops."""
    distance = np.concatenate([DISTANCE * 100, DISTANCE])
    density = np.array([[1.0, 1, 1], [0.25, 0.25, 0.25]])
    found = spread(distance, density, 0.5, 1)
    assert found.s == 1
    np.testing.assert_allclose(found.share, [[1, 0, 0], [1, 0, 0]])


def test_densities_by_hand() -> None:
    points = np.array([[0.0], [0.3], [2.0]])
    np.testing.assert_allclose(densities(points, 3, 0.6), [1.75, 1.75, 1])
    np.testing.assert_allclose(densities(points, 100, 0.6), [1.75, 1.75, 1])
    np.testing.assert_allclose(densities(points, 1, 0.6), [1, 1, 1])
    np.testing.assert_allclose(densities(np.zeros((4, 2)), 3, 0.1), [3, 3, 3, 3])


def made(n: int = 200, m: int = 7, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    points = generator.normal(size=(n + m, 5))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    return points[:n].astype(np.float32), points[n:].astype(np.float32)


def plan(pool: np.ndarray, queries: np.ndarray, alpha: float = 0.5, c: float = 1.0, neighbours: int = 20) -> Transport:
    return transport(pool, queries, neighbours, 20, 0.75, alpha, c)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("c", [0.2, 1.0, 5.0])
def test_a_probability_of_every_row(alpha: float, c: float) -> None:
    pool, queries = made()
    found = plan(pool, queries, alpha, c)
    assert found.probability.sum() == pytest.approx(1)
    assert (found.probability >= 0).all()
    assert (found.density[found.probability > 0] >= 1 - 1e-9).all()
    np.testing.assert_allclose(
        found.distance, np.linalg.norm(pool[:, None] - queries[None], axis=2).min(axis=1), atol=1e-5
    )


def test_the_more_closeness_weighs_the_fewer_rows() -> None:
    pool, queries = made()
    counts = [(plan(pool, queries, alpha).probability > 0).sum() for alpha in (0.0, 0.6, 0.9, 1.0)]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > 3 * counts[-1]
    assert (plan(pool, queries, 1.0).probability > 0).sum() <= len(queries)


def test_copies_share() -> None:
    """Each copy of a row gets about what half a row would."""
    pool, queries = made()
    alone = plan(pool, queries, neighbours=60)
    row = int(np.argmax(alone.probability))
    twice = plan(np.concatenate([pool, pool[[row]]]), queries, neighbours=60)
    assert twice.density[row] == pytest.approx(alone.density[row] + 1, rel=0.2)
    assert twice.probability[row] < 0.85 * alone.probability[row]


def test_permuted_and_in_other_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    pool, queries = made()
    found = plan(pool, queries)
    order = np.random.default_rng(1).permutation(len(pool))
    monkeypatch.setattr(module, "CELLS", 2 * len(pool))
    other = plan(pool[order], queries[::-1])
    np.testing.assert_allclose(other.probability, found.probability[order], atol=1e-12)
    np.testing.assert_allclose(other.density, found.density[order], rtol=1e-9)


def test_no_matrix_of_all_pairs() -> None:
    n = 20_500
    generator = np.random.default_rng(0)
    pool, queries = generator.normal(size=(n, 2)), generator.normal(size=(200, 2))
    tracemalloc.start()
    transport(pool, queries, 50, 50, 0.1, 0.5, 5.0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < n * n  # a byte a pair of rows


def test_one_row_and_one_neighbour() -> None:
    pool, queries = made(1, 3)
    found = plan(pool, queries, neighbours=1)
    np.testing.assert_allclose(found.probability, [1])
    pool, queries = made(30, 1)
    found = plan(pool, queries, neighbours=1)
    assert np.flatnonzero(found.probability).tolist() == [int(np.argmin(found.distance))]


def test_equally_near_rows_go_by_position() -> None:
    pool = np.ones((6, 4), dtype=np.float32)
    found = plan(pool, pool[:1], neighbours=2)
    assert np.flatnonzero(found.probability).tolist() == [0]
    assert found.density.tolist() == [2, 2, 0, 0, 0, 0]


@pytest.mark.parametrize(("queries", "neighbours", "message"), [(0, 3, "query"), (2, 0, "0 neig"), (2, 11, "11 neig")])
def test_inputs_that_mean_nothing(queries: int, neighbours: int, message: str) -> None:
    pool, some = made(10, 2)
    with pytest.raises(ValueError, match=message):
        plan(pool, some[:queries], neighbours=neighbours)
