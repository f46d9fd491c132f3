"""Batches of padded tokens, for passes and for generation."""

import numpy as np
import pytest

from dwbench.representations.batches import KEY_COST, batches, generation_batches


def test_batches_by_hand() -> None:
    assert batches([3, 10, 4, 4, 50], 12) == [[4], [1], [2, 3, 0]]
    assert batches([], 12) == []


def test_generation_by_hand() -> None:
    """Budget 100, so 400 with keys and values: 10 and 40 tokens are 8 rows, 10 and 90 are 4, and 30 and 10 are 3."""
    assert [len(group) for group in generation_batches([10] * 10, 40, 100)] == [8, 2]
    assert [len(group) for group in generation_batches([10] * 10, 90, 100)] == [4, 4, 2]
    assert [len(group) for group in generation_batches([30] * 4, 10, 100)] == [3, 1]
    assert generation_batches([300, 2, 500], 10, 100) == [[2], [0], [1]]


@pytest.mark.parametrize("new", [1, 40, 5000])
def test_every_prompt_once_within_both_bounds(new: int) -> None:
    lengths = np.random.default_rng(0).integers(1, 900, 200).tolist()
    groups = generation_batches(lengths, new, 1000)
    assert sorted(position for group in groups for position in group) == list(range(200))
    assert [lengths[position] for group in groups for position in group] == sorted(lengths, reverse=True)
    for group, following in zip(groups, [*groups[1:], None], strict=True):
        longest = lengths[group[0]]

        def fits(rows: int, longest: int = longest) -> bool:
            return rows * longest <= 1000 and rows * (longest + new) <= KEY_COST * 1000

        assert len(group) == 1 or fits(len(group))
        assert following is None or not fits(len(group) + 1)


def test_a_large_cap_makes_larger_batches_than_one_budget_for_all() -> None:
    prompts, new, budget = [60] * 40, 256, 2048
    together = batches([length + new for length in prompts], budget)
    assert len(together[0]) == 6
    assert len(generation_batches(prompts, new, budget)[0]) == 25
