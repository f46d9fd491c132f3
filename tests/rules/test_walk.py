"""G2IS's walk: published picks, a plain walk over a graph, and by hand; directions and shares."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dwbench.rules.matching import unit_rows
from dwbench.rules.walk import principal_directions, shares, walk

PLANE = np.array([[1, 0], [0.8, 0.6], [0.8, -0.6], [-1, 0], [0, 1]])
"""The spec's rows; the direction is the first axis."""

AXIS = np.array([[1.0, 0.0]])


def case(shared: Path, name: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The parameters, and inputs and expected values by name."""
    folder = shared / "golden" / "rules" / "g2is_walk"
    if not folder.is_dir():
        pytest.skip(f"no golden vectors: {folder}")
    data = json.loads((folder / f"{name}.json").read_text())
    arrays = np.load(folder / f"{name}.npz", allow_pickle=False)
    entries = {**data["inputs"], **data["expected"]}
    values = {
        key: np.array(entry["value"]) if "value" in entry else arrays[entry["npz_key"]]
        for key, entry in entries.items()
    }
    return data["parameters"], values


def everyone(rows: np.ndarray) -> np.ndarray:
    return np.ones(len(rows), dtype=np.bool_)


@pytest.mark.parametrize("name", ["case_a", "case_b_short"])
def test_published_walk(name: str, shared: Path) -> None:
    parameters, values = case(shared, name)
    rows = unit_rows(values["train_features"])
    own = principal_directions(values["validation_gradients"], parameters["variance_kept"], centred=True)
    np.testing.assert_allclose(own.components, values["components"], atol=1e-4)
    np.testing.assert_allclose(own.weights, values["weights"], atol=1e-5)
    for components, weights in (own, (unit_rows(values["components"]), values["weights"])):
        counts = shares(weights, parameters["budget"])
        assert counts.tolist() == values["budgets"].tolist()
        for kept in (rows, rows.astype(np.float32)):
            found = walk(
                kept, components, counts, parameters["consistency"], everyone(rows), parameters["graph_degree"]
            )
            assert found.picks.tolist() == values["picks_in_order"].tolist()
            assert found.fallbacks == int(values["n_global_fallbacks"])


def test_by_hand() -> None:
    found = walk(PLANE, AXIS, np.array([3]), 0.8, everyone(PLANE))
    assert found.picks.tolist() == [0, 1, 2]  # row 4 would leave 0.7474 of 0.9487
    assert walk(PLANE, AXIS, np.array([3]), 0.7, everyone(PLANE)).picks.tolist() == [0, 1, 4]


def test_rows_that_conflict_end_the_walk() -> None:
    found = walk(PLANE, AXIS, np.array([5]), 0.0, everyone(PLANE))
    assert sorted(found.picks.tolist()) == [0, 1, 4]  # row 2 has -0.6 with row 4
    alone = walk(np.array([[1.0, 0], [-1, 0]]), AXIS, np.array([2]), 0.8, np.ones(2, dtype=np.bool_))
    assert alone.picks.tolist() == [0]


def test_shares_by_hand() -> None:
    assert shares(np.array([0.5, 0.3, 0.2]), 7).tolist() == [4, 2, 1]
    assert shares(np.array([1 / 3, 1 / 3, 1 / 3]), 3).tolist() == [1, 1, 1]
    assert shares(np.array([1 / 3, 1 / 3, 1 / 3]), 4).tolist() == [2, 1, 1]
    assert shares(np.array([0.9, 0.1]), 1).tolist() == [1, 0]
    rng = np.random.default_rng(0)
    for _ in range(200):
        weights = rng.dirichlet(np.full(rng.integers(1, 9), 0.5))
        k = int(rng.integers(0, 50))
        counts = shares(weights, k)
        assert counts.sum() == k
        assert (np.abs(counts - k * weights) < 1).all()


def plain_walk(
    rows: np.ndarray, components: np.ndarray, counts: np.ndarray, consistency: float, degree: int
) -> tuple[list[int], int]:
    """As the published code goes: a sorted graph, every row tested by itself with every row taken."""
    cosines = rows @ rows.T
    graph = [[other for other in np.argsort(-cosines[row]) if other != row][:degree] for row in range(len(rows))]
    used: list[int] = []
    fallbacks = 0
    for component, count in zip(components, counts, strict=True):
        along = rows @ component
        own: list[int] = []

        def fits(row: int, own: list[int] = own, component: np.ndarray = component) -> bool:
            before, after = rows[own].sum(axis=0), rows[[*own, row]].sum(axis=0)
            kept = abs(after @ component) / np.linalg.norm(after)
            return bool(
                row not in used
                and all(cosines[row, other] >= 0 for other in own)
                and kept >= consistency * abs(before @ component) / np.linalg.norm(before)
            )

        left = [row for row in np.argsort(-along) if row not in used]
        while left and len(own) < count:
            if not own:
                step = left[0]
            else:
                step = next((row for row in graph[own[-1]] if fits(row)), None)
                if step is None:
                    step = next((row for row in np.argsort(-along) if fits(row)), None)
                    fallbacks += step is not None
            if step is None:
                break
            own.append(int(step))
            used.append(int(step))
    return used, fallbacks


@pytest.mark.parametrize("degree", [3, 10, 59, None])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_as_a_plain_walk(degree: int | None, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = unit_rows(rng.normal(size=(60, 6)) + 0.5)
    directions = principal_directions(rng.normal(size=(9, 6)) + 0.5, 0.8, centred=False)
    counts = shares(directions.weights, 40)
    found = walk(rows, directions.components, counts, 0.9, everyone(rows), degree)
    used, fallbacks = plain_walk(rows, directions.components, counts, 0.9, degree or 60)
    assert found.picks.tolist() == used
    assert found.fallbacks == fallbacks
    assert len(set(used)) == len(used) <= 40


def test_only_candidates_are_walked_on() -> None:
    rows = unit_rows(np.random.default_rng(0).normal(size=(30, 4)) + 1)
    candidates = np.arange(30) % 3 > 0
    for neighbours in (2, None):
        found = walk(rows, AXIS @ np.eye(2, 4), np.array([30]), 0.0, candidates, neighbours)
        assert candidates[found.picks].all()
    subset = walk(rows[candidates], AXIS @ np.eye(2, 4), np.array([30]), 0.0, np.ones(20, dtype=np.bool_))
    assert found.picks.tolist() == np.flatnonzero(candidates)[subset.picks].tolist()
    nobody = walk(rows, AXIS @ np.eye(2, 4), np.array([3]), 0.8, np.zeros(30, dtype=np.bool_))
    assert nobody.picks.tolist() == []


def test_copies_follow_each_other_by_position() -> None:
    rows = np.repeat(unit_rows(np.array([[1.0, 0.1], [1, 0.5]])), 3, axis=0).astype(np.float32)
    noisy = rows * (1 + 1e-7 * np.arange(6, dtype=np.float32)[:, None])
    found = walk(noisy, AXIS, np.array([6]), 0.8, np.ones(6, dtype=np.bool_))
    assert found.picks.tolist() == [0, 1, 2, 3, 4, 5]


def test_one_row() -> None:
    assert walk(np.array([[1.0, 0]]), AXIS, np.array([1]), 0.8, np.ones(1, dtype=np.bool_)).picks.tolist() == [0]


def test_directions_with_their_mean_and_without() -> None:
    """Centred, the common part of the gradients is gone; its sign is the mean's where it is not."""
    rng = np.random.default_rng(0)
    gradients = rng.normal(size=(12, 8)) * 0.1 - np.eye(8)[0] * 3
    fixed, centred = (principal_directions(gradients, 0.5, centred) for centred in (False, True))
    np.testing.assert_allclose(fixed.components[0], -np.eye(8)[0], atol=0.1)
    assert abs(centred.components[0] @ np.eye(8)[0]) < 0.5
    assert (fixed.components @ gradients.mean(axis=0) >= 0).all()
    turned = principal_directions(-gradients, 0.5, centred=False)
    np.testing.assert_allclose(turned.components, -fixed.components, atol=1e-12)
    again = principal_directions(-gradients, 0.5, centred=True)
    np.testing.assert_allclose(again.components, centred.components, atol=1e-9)  # their sign knows no target


def test_directions_hold_more_than_their_share() -> None:
    gradients = np.diag([2.0, 1, 1, 1])  # shares 4/7, 1/7, 1/7, 1/7
    assert len(principal_directions(gradients, 0.5, centred=False).weights) == 1
    found = principal_directions(gradients, 0.6, centred=False)
    np.testing.assert_allclose(found.weights, [0.8, 0.2])
    assert len(principal_directions(gradients, 0.999999, centred=False).weights) == 4


def test_gradients_without_a_direction() -> None:
    same = np.tile(np.random.default_rng(0).normal(size=50), (7, 1))
    assert len(principal_directions(same, 0.5, centred=True).weights) == 0
    assert len(principal_directions(same, 0.5, centred=False).weights) == 1
    assert len(principal_directions(np.zeros((2, 3)), 0.5, centred=False).weights) == 0
    assert len(principal_directions(same[:1], 0.5, centred=True).weights) == 0
