"""Taking turns, against published picks, a plain loop, and by hand."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dwbench.rules.round_robin import round_robin

NAN = float("nan")


def case(shared: Path, name: str) -> tuple[dict[str, Any], Any]:
    folder = shared / "golden" / "rules" / "rds_round_robin"
    if not folder.is_dir():
        pytest.skip(f"no golden vectors: {folder}")
    return json.loads((folder / f"{name}.json").read_text()), np.load(folder / f"{name}.npz", allow_pickle=False)


def loop(scores: np.ndarray, k: int, retry: bool) -> list[int]:
    """As it reads: queues that are popped."""
    queues = [sorted(range(len(scores)), key=lambda row, c=column: (-c[row], row)) for column in scores.T]
    picks: list[int] = []
    while len(picks) < min(k, len(scores)):
        for queue in queues:
            row = queue.pop(0) if queue else None
            while retry and row in picks and queue:
                row = queue.pop(0)
            if row is not None and row not in picks and len(picks) < k:
                picks.append(row)
    return picks


def test_published_picks(shared: Path) -> None:
    data, arrays = case(shared, "case_a_single_task")
    k, expected = data["parameters"]["k"], data["expected"]
    scores = arrays["in_similarity"].T
    assert round_robin(scores, k).tolist() == expected["picks_in_order"]["value"]
    assert round_robin(scores, k, retry=True).tolist() == expected["picks_if_a_lost_turn_were_retried"]["value"]


def test_published_picks_of_several_tasks(shared: Path) -> None:
    data, arrays = case(shared, "case_b_several_tasks")
    tasks = range(data["parameters"]["n_tasks"])
    scores = np.stack([arrays[f"in_similarity_task_{task}"].max(axis=0) for task in tasks], axis=1)
    assert round_robin(scores, data["parameters"]["k"]).tolist() == data["expected"]["picks_in_order"]["value"]


def test_by_hand() -> None:
    scores = np.array([[0.9, 0.8], [0.8, 0.1], [0.1, 0.7], [0.0, 0.0]])
    assert round_robin(scores, 3).tolist() == [0, 1, 2]  # the second column's first turn is lost
    assert round_robin(scores, 2, retry=True).tolist() == [0, 2]


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 12), st.integers(1, 5), st.integers(1, 12), st.booleans(), st.integers(0, 2**32 - 1))
def test_as_a_plain_loop(n: int, columns: int, k: int, retry: bool, seed: int) -> None:
    scores = np.random.default_rng(seed).integers(0, 6, (n, columns)).astype(np.float64)  # with ties
    found = round_robin(scores, k, retry)
    assert found.dtype == np.int64
    assert found.tolist() == loop(scores, k, retry)
    assert len(set(found.tolist())) == len(found) == min(k, n)


@pytest.mark.parametrize("retry", [False, True])
def test_rows_that_can_not_be_offered(retry: bool) -> None:
    scores = np.array([[NAN, NAN], [0.2, 0.9], [0.9, NAN], [0.3, 0.1]])
    assert round_robin(scores, 4, retry).tolist() == [3, 1]
    assert round_robin(scores, 1, retry).tolist() == [3]
    assert round_robin(np.full((3, 2), NAN), 2, retry).tolist() == []
    assert round_robin(scores, 0, retry).tolist() == []


@pytest.mark.parametrize("retry", [False, True])
def test_equal_scores_go_by_position(retry: bool) -> None:
    assert round_robin(np.zeros((5, 3)), 5, retry).tolist() == [0, 1, 2, 3, 4]
    assert round_robin(np.zeros((1, 3)), 1, retry).tolist() == [0]
