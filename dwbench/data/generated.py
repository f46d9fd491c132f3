"""The embedded data set: notices and headlines, generated, so that a first run needs no network."""

from pydantic import NonNegativeInt, PositiveInt

from dwbench.component import component
from dwbench.data.base import RawRow, Splits, Task
from dwbench.data.embedded import generate
from dwbench.data.splitting import Sizes, make_splits
from dwbench.seeds import derive

VERSION = 1
"""To be raised when the generator's rows change."""


@component
class Embedded:
    """Generated notices and their headlines (`dwbench.data.embedded` says what they are like).

    Pool rows are of mixed quality. Target and test rows are clean, and their inputs never occur in a pool.

    Attributes:
        pool_rows, target_rows, test_rows: how many rows to generate.
        version: the generator's; a run with another one is refused.
    """

    name: str = "embedded"
    task: Task
    pool_rows: PositiveInt
    target_rows: NonNegativeInt
    test_rows: NonNegativeInt
    version: int = VERSION

    def __post_init__(self) -> None:
        if self.version != VERSION:
            raise ValueError(f"version: this dwbench generates version {VERSION}, not {self.version}")

    def load(self, seed: int) -> Splits:
        pool = generate(self.pool_rows, derive(seed, "split", "pool"))
        # Drawn at once: clean sets of different seeds may share rows.
        clean = generate(self.target_rows + self.test_rows, derive(seed, "split", "test"), clean=True)
        return make_splits(
            pool=_rows("pool", pool),
            target=_rows("target", clean[: self.target_rows]),
            test=_rows("test", clean[self.target_rows :]),
            sizes=Sizes(None, None, None),
            seed=seed,
        )


def _rows(split: str, rows: list[dict[str, str]]) -> list[RawRow]:
    return [
        RawRow(id=str(n), input=row["input"], response=row["response"], where=f"embedded:{split} row {n}")
        for n, row in enumerate(rows)
    ]
