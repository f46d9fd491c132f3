"""Derived seeds and draws."""

import random

import numpy as np

from dwbench.seeds import derive, draw

UIDS = [f"row {n}" for n in range(2000)]


def test_golden_numbers() -> None:
    assert derive(0, "train") == 1036155810
    assert draw(["a", "b"], 0, "select").tolist() == [0.3237400530513771, 0.193208710421081]


def test_axes_are_separate() -> None:
    seeds = {derive(0, "train"), derive(0, "select"), derive(1, "train"), derive(0, "train", 1), derive(0)}
    assert len(seeds) == 5
    assert all(0 <= seed < 2**32 for seed in seeds)
    assert not np.array_equal(draw(UIDS, 0, "select"), draw(UIDS, 1, "select"))
    assert not np.array_equal(draw(UIDS, 0, "select"), draw(UIDS, 0, "ties"))


def test_a_draw_depends_on_its_row_alone() -> None:
    whole = dict(zip(UIDS, draw(UIDS, 7, "select"), strict=True))
    backwards = UIDS[::-1][:50]
    assert draw(backwards, 7, "select").tolist() == [whole[uid] for uid in backwards]


def test_draws_are_uniform() -> None:
    numbers = draw(UIDS, 0, "select")
    assert numbers.dtype == np.float64
    assert numbers.min() >= 0
    assert numbers.max() < 1
    assert abs(numbers.mean() - 0.5) < 0.03
    assert len(set(numbers.tolist())) == len(UIDS)
    assert draw([], 0).shape == (0,)


def test_global_random_state_is_left_alone() -> None:
    before = random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[index,union-attr]
    draw(UIDS, 0, "select")
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before  # type: ignore[index,union-attr]
