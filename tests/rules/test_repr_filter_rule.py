"""Repr Filter: published picks, by hand, and the threshold that is raised."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dwbench.rules.repr_filter import CHUNK, PRECISION, accepted, filtered


def unit(points: np.ndarray) -> np.ndarray:
    return np.asarray(points / np.linalg.norm(points, axis=1, keepdims=True), dtype=np.float32)


def one_by_one(vectors: np.ndarray, order: np.ndarray, tau: float) -> list[int]:
    exact = vectors.astype(np.float64)
    chosen: list[int] = []
    for row in order:
        if all(exact[row] @ exact[other] <= tau for other in chosen):
            chosen.append(int(row))
    return chosen


@pytest.mark.parametrize("name", ["case_a_batch_1", "case_b_no_limit"])
def test_published_code(name: str, shared: Path) -> None:
    folder = shared / "golden" / "rules" / "deita_repr_filter"
    if not folder.is_dir():
        pytest.skip(f"no golden vectors: {folder}")
    data: dict[str, Any] = json.loads((folder / f"{name}.json").read_text())
    arrays = np.load(folder / f"{name}.npz", allow_pickle=False)
    turns = np.array(data["inputs"]["turn_counts"]["value"])
    row_of = np.repeat(np.arange(len(turns)), turns)
    score = np.bincount(row_of, weights=arrays["in_complexity_flat"] * arrays["in_quality_flat"])
    np.testing.assert_allclose(score, data["expected"]["row_score"]["value"], rtol=1e-9)
    limit = data["parameters"]["size_limit"]
    order = np.argsort(-score, kind="stable")
    vectors = unit(arrays["in_embeddings"])
    found = accepted(vectors, order, len(turns) if limit < 0 else limit, data["parameters"]["threshold"])
    assert found.tolist() == data["expected"]["accepted_in_order"]["value"]


def test_by_hand() -> None:
    vectors = np.array([[1, 0], [0.95, np.sqrt(1 - 0.95**2)], [0, 1]])
    order = np.arange(3)
    two = filtered(vectors, order, 2, 0.9)
    assert two.picks.tolist() == [0, 2]
    assert two.tau == 0.9
    three = filtered(vectors, order, 3, 0.9)
    assert three.picks.tolist() == [0, 1, 2]
    assert 0.95 <= three.tau <= 0.95 + PRECISION
    assert filtered(vectors, order[::-1], 2, 0.9).picks.tolist() == [2, 1]


def test_copies_need_a_threshold_of_one() -> None:
    once = unit(np.random.default_rng(0).normal(size=(20, 64)))
    vectors = np.concatenate([once, once])
    assert filtered(vectors, np.arange(40), 20, 0.99).picks.tolist() == list(range(20))
    found = filtered(vectors, np.arange(40), 21, 0.9)
    assert found.tau == pytest.approx(1, abs=PRECISION)
    assert found.picks.tolist() == list(range(21))


@pytest.mark.parametrize("tau", [-0.2, 0.0, 0.3, 0.6])
def test_blocks_do_as_one_row_at_a_time(tau: float) -> None:
    rng = np.random.default_rng(1)
    vectors = unit(rng.normal(size=(2 * CHUNK + 50, 5)))
    order = rng.permutation(len(vectors))[: 2 * CHUNK + 20]
    assert accepted(vectors, order, len(order), tau).tolist() == one_by_one(vectors, order, tau)


def test_more_rows_are_accepted_than_a_block_holds() -> None:
    vectors = unit(np.random.default_rng(2).normal(size=(3 * CHUNK, 200)))
    order = np.arange(len(vectors))
    expected = one_by_one(vectors, order, 0.24)
    assert len(expected) > 2 * CHUNK
    assert accepted(vectors, order, len(order), 0.24).tolist() == expected


@settings(deadline=None, max_examples=60)
@given(n=st.integers(1, 40), data=st.data(), tau=st.floats(-1, 1), seed=st.integers(0, 1000))
def test_exactly_k_different_rows_of_the_order(n: int, data: st.DataObject, tau: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    vectors = unit(rng.integers(1, 4, size=(n, 2)).astype(float))
    order = rng.permutation(n)[: data.draw(st.integers(1, n))]
    k = data.draw(st.integers(0, len(order)))
    found = filtered(vectors, order, k, tau)
    assert len(set(found.picks.tolist())) == k
    assert set(found.picks) <= set(order)
    places = [order.tolist().index(pick) for pick in found.picks]
    assert places == sorted(places)
    assert tau <= found.tau <= 1


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match="k = 4 of 3 rows"):
        filtered(np.eye(3), np.arange(3), 4, 0.9)
    with pytest.raises(ValueError, match="tau"):
        filtered(np.eye(3), np.arange(3), 1, 1.5)


def test_what_is_no_number() -> None:
    vectors = np.eye(3)
    vectors[2, 0] = np.inf
    with pytest.raises(ValueError, match="row 2 is not finite"):
        filtered(vectors, np.arange(3), 2, 0.5)
