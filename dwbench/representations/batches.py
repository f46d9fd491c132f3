"""Length-bucketed batches under a budget of padded tokens."""

from collections.abc import Callable, Sequence

KEY_COST = 4
"""Tokens that are only keys and values, which take the memory of one token that is passed forward: a key and a value
against all of a layer's activations. Batches are sized by it."""


def batches(lengths: Sequence[int], token_budget: int) -> list[list[int]]:
    """Positions grouped so that `rows x longest row` stays within `token_budget`, longest rows first.

    A row that is longer than the budget is a batch of its own. The longest first, so that a shortage of memory shows at
    once and a time estimate errs on the safe side.
    """
    return _grouped(lengths, lambda rows, longest: rows * longest <= token_budget)


def generation_batches(prompts: Sequence[int], new: int, token_budget: int) -> list[list[int]]:
    """`batches` of prompts of these lengths behind each of which up to `new` tokens are decoded.

    The budget holds the padded prompts, that are passed forward together; prompts and new tokens may take `KEY_COST`
    times as many, since of most there are only keys and values at any time. By one budget for both a large cap would
    make small batches, and a decoding step costs about the same for 1 row and for 30.
    """

    def fits(rows: int, longest: int) -> bool:
        return rows * longest <= token_budget and rows * (longest + new) <= KEY_COST * token_budget

    return _grouped(prompts, fits)


def _grouped(lengths: Sequence[int], fits: Callable[[int, int], bool]) -> list[list[int]]:
    """The longest first, into groups for whose number of rows and longest row `fits` holds, or of one row."""
    order = sorted(range(len(lengths)), key=lambda position: (-lengths[position], position))
    groups: list[list[int]] = []
    for position in order:
        if groups and fits(len(groups[-1]) + 1, lengths[groups[-1][0]]):
            groups[-1].append(position)
        else:
            groups.append([position])
    return groups
