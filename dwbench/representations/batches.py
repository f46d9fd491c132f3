"""Length-bucketed batches under a budget of padded tokens."""

from collections.abc import Sequence


def batches(lengths: Sequence[int], token_budget: int) -> list[list[int]]:
    """Positions grouped so that `rows x longest row` stays within `token_budget`, longest rows first.

    A row that is longer than the budget is a batch of its own. The longest first, so that a shortage of memory shows at
    once and a time estimate errs on the safe side.
    """
    order = sorted(range(len(lengths)), key=lambda position: (-lengths[position], position))
    groups: list[list[int]] = []
    for position in order:
        if groups and (len(groups[-1]) + 1) * lengths[groups[-1][0]] <= token_budget:
            groups[-1].append(position)
        else:
            groups.append([position])
    return groups
