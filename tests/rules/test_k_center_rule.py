"""k-center: published picks, by hand, near-copies, ties, and what is left uncovered."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dwbench.rules.k_center import k_center, nearest_other_distances


def case(shared: Path, name: str) -> tuple[dict[str, Any], Any]:
    folder = shared / "golden" / "rules" / "diverseevol_kcenter"
    if not folder.is_dir():
        pytest.skip(f"no golden vectors: {folder}")
    return json.loads((folder / f"{name}.json").read_text()), np.load(folder / f"{name}.npz", allow_pickle=False)


def farthest_first(points: np.ndarray, start: list[int], k: int) -> list[int]:
    """In double precision, all distances by differences."""
    exact = points.astype(np.float64)
    chosen = list(start)
    for _ in range(k):
        nearest = np.linalg.norm(exact[:, None] - exact[chosen], axis=2).min(axis=1)
        nearest[chosen] = -1
        chosen.append(int(np.argmax(nearest)))
    return chosen[len(start) :]


def test_published_code(shared: Path) -> None:
    data, arrays = case(shared, "case_a")
    start = np.array(data["inputs"]["initial"]["value"])
    found = k_center(arrays["in_embeddings"], start, data["parameters"]["n_pick"])
    assert found.picks.tolist() == data["expected"]["picks_in_order"]["value"]
    np.testing.assert_allclose(found.radii, data["expected"]["radius_at_pick"]["value"], rtol=1e-4)


def test_near_copies_are_not_taken_first(shared: Path) -> None:
    data, arrays = case(shared, "case_bug_near_duplicates")
    start = np.array(data["inputs"]["initial"]["value"])
    found = k_center(arrays["in_embeddings"], start, data["parameters"]["n_pick"])
    assert found.picks.tolist() == data["expected"]["picks_corrected"]["value"]


def test_by_hand() -> None:
    line = np.array([[0.0], [1], [2], [10]])
    found = k_center(line, np.array([0]), 2)
    assert found.picks.tolist() == [3, 2]
    np.testing.assert_allclose(found.radii, [10, 2])
    assert found.radius == pytest.approx(1)
    whole = k_center(line, np.array([0]), 3)
    assert whole.picks.tolist() == [3, 2, 1]
    assert whole.radius == 0


def test_distances_of_near_copies_are_right() -> None:
    rng = np.random.default_rng(0)
    base = rng.normal(size=384)
    base /= np.linalg.norm(base)
    steps = np.array([0, 3e-6, 1e-5, 3e-5, 1e-4])
    direction = rng.normal(size=384)
    direction /= np.linalg.norm(direction)
    far = rng.normal(size=(20, 384))
    far /= np.linalg.norm(far, axis=1, keepdims=True)
    points = np.concatenate([far, base + steps[:, None] * direction]).astype(np.float32)
    found = k_center(points, np.array([20]), 24)
    # The far rows first; then the near-copies of row 20, the farthest first.
    assert sorted(found.picks[:20]) == list(range(20))
    assert found.picks[20:].tolist() == [24, 23, 22, 21]
    exact = points.astype(np.float64)
    np.testing.assert_allclose(found.radii[20], np.linalg.norm(exact[24] - exact[20]), rtol=1e-4)
    np.testing.assert_allclose(found.radii[23], np.linalg.norm(exact[21] - exact[20]), rtol=1e-4)


@pytest.mark.parametrize("offset", [0.0, 300.0])
def test_as_in_double_precision(offset: float) -> None:
    points = (np.random.default_rng(1).normal(size=(300, 32)) + offset).astype(np.float32)
    found = k_center(points, np.array([7, 3]), 60)
    assert found.picks.tolist() == farthest_first(points, [7, 3], 60)


def test_copies_come_last_and_by_position() -> None:
    once = np.random.default_rng(2).normal(size=(30, 8))
    found = k_center(np.concatenate([once, once, once]), np.array([0]), 89)
    assert sorted(found.picks) == list(range(1, 90))
    assert sorted(found.picks[:29]) == list(range(1, 30))
    assert found.picks[29:].tolist() == list(range(30, 90))
    assert (found.radii[29:] == 0).all()
    same = k_center(np.ones((5, 3)), np.array([2]), 4)
    assert same.picks.tolist() == [0, 1, 3, 4]


@settings(deadline=None, max_examples=50)
@given(n=st.integers(1, 40), data=st.data(), seed=st.integers(0, 1000))
def test_each_row_once_and_ever_nearer(n: int, data: st.DataObject, seed: int) -> None:
    points = np.random.default_rng(seed).integers(-3, 4, size=(n, 2))
    start = np.array(data.draw(st.lists(st.integers(0, n - 1), min_size=1, unique=True)))
    k = data.draw(st.integers(0, n - len(start)))
    found = k_center(points, start, k)
    chosen = [*start, *found.picks]
    assert len(set(chosen)) == len(chosen) == len(start) + k
    assert (np.diff(found.radii) <= 1e-4).all()
    exact = np.linalg.norm(points[:, None] - points[chosen], axis=2).min(axis=1).max()
    assert found.radius == pytest.approx(exact, abs=1e-5)


def test_order_of_the_rows_does_not_matter() -> None:
    points = np.random.default_rng(3).normal(size=(80, 6))
    shuffle = np.random.default_rng(4).permutation(80)
    found = k_center(points, np.array([5]), 20)
    other = k_center(points[shuffle], np.array([int(np.argmax(shuffle == 5))]), 20)
    assert shuffle[other.picks].tolist() == found.picks.tolist()


def test_wrong_numbers_of_rows_and_what_is_no_number() -> None:
    points = np.zeros((3, 2))
    for start, k in (([], 1), ([0], 3), ([0], -1)):
        with pytest.raises(ValueError, match="of 3 rows"):
            k_center(points, np.array(start, dtype=np.int64), k)
    points[1, 0] = np.nan
    with pytest.raises(ValueError, match="row 1 is not finite"):
        k_center(points, np.array([0]), 1)


def test_distance_to_the_nearest_other_row() -> None:
    line = np.array([[0.0], [1], [3], [3], [10]])
    np.testing.assert_allclose(nearest_other_distances(line, np.array([4, 0, 2, 1])), [7, 1, 0, 1], atol=1e-6)
    assert np.isnan(nearest_other_distances(line[:1], np.array([0]))).all()
