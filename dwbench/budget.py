"""How many rows to choose: a share of the pool, or a number."""

import math
from dataclasses import dataclass

from dwbench.errors import UserError

HINT = "give a share (5%, 0.05), a number of rows (50) or 100%"


@dataclass(frozen=True)
class Budget:
    """What was asked for, as written, and as a share of the pool or a number of rows (the other is None)."""

    asked: str
    share: float | None
    count: int | None

    def rows(self, n: int) -> int:
        """k = floor(share x n), or the number itself. Raises UserError for more rows than `n`, or none."""
        if self.count is not None:
            if self.count > n:
                raise UserError(f"budget={self.asked}: the pool has only {n} rows: {HINT}")
            return self.count
        assert self.share is not None
        # 0.29 x 100 is 28.999999999999996 in floating point.
        k = math.floor(round(self.share * n, 9))
        if k == 0:
            raise UserError(f"budget={self.asked}: that is less than one row of the pool's {n}: take a larger one")
        return k


def parse_budget(value: str | float | int) -> Budget:
    """The budget that `value` says: `5%`, 0.05, 50, `50`, `100%`. Raises UserError for anything else."""
    asked = str(value).strip()
    number, percent = asked.removesuffix("%"), asked.endswith("%")
    try:
        if not percent and float(number) == int(float(number)) and "." not in number and "e" not in number.lower():
            count = int(number)
            if count < 1:
                raise UserError(f"budget={asked}: must be above 0: {HINT}")
            return Budget(asked, None, count)
        share = float(number) / (100 if percent else 1)
    except (ValueError, OverflowError):
        raise UserError(f"budget={asked}: no number: {HINT}") from None
    if not 0 < share <= 1:
        raise UserError(f"budget={asked}: a share must be above 0 and at most 1 (100%): {HINT}")
    return Budget(asked, share, None)
