"""Amounts of work, by what is computed by which model: sums of them, and what they grow to."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from dwbench.cost import Cost
from dwbench.throughput import Work

COUNTS = ("forward_tokens", "backward_tokens", "generated_tokens", "forward_calls", "backward_calls", "flop")


@dataclass
class Amount:
    """Work by what it is, and the bytes that it leaves in the store."""

    work: dict[Work, Cost] = field(default_factory=dict)
    stored: float = 0.0

    def add(self, work: Work | None, cost: Cost, stored: float = 0.0) -> None:
        if work is not None:
            self.work[work] = self.work.get(work, Cost()) + cost
        self.stored += stored

    @property
    def cost(self) -> Cost:
        return sum(self.work.values(), Cost())


def total(amounts: Iterable[Amount]) -> Amount:
    """All of them together."""
    found = Amount()
    for amount in amounts:
        for work, cost in amount.work.items():
            found.add(work, cost)
        found.stored += amount.stored
    return found


def extrapolated(small: Amount, large: Amount, rows: tuple[int, int], n: int) -> Amount:
    """The amount for n rows, from those for two numbers of rows: of each kind of work a fixed part and one a row."""
    return total((large, growth(small, large, (n - rows[1]) / (rows[1] - rows[0]))))


def growth(small: Amount, large: Amount, factor: float) -> Amount:
    """`factor` times what `large` has more than `small`; what it has less of does not go on shrinking."""
    found = Amount(stored=max(0.0, large.stored - small.stored) * factor)
    for work, cost in large.work.items():
        before = small.work.get(work, Cost())
        more = {name: max(0.0, getattr(cost, name) - getattr(before, name)) * factor for name in COUNTS}
        found.add(work, Cost(**{name: value if name == "flop" else round(value) for name, value in more.items()}))
    return found
