"""A user's own files."""

from dataclasses import field

from pydantic import NonNegativeInt, PositiveInt

from dwbench.component import NOT_IN_KEY, component
from dwbench.data.base import RawRow, Splits, Task
from dwbench.data.columns import Columns, to_raw_rows
from dwbench.data.sources import read_source
from dwbench.data.splitting import Sizes, check_disjoint, make_splits
from dwbench.errors import UserError

HELD_OUT_SHARE, HELD_OUT_MOST = 0.1, 200


@component
class UserFile:
    """Rows of the user's own, in JSON Lines, JSON, CSV or Parquet, or of a hub data set.

    Columns are those of `dwbench.data.columns`, or named. Files that share an input are refused: nobody but the user
    can say which of the two should lose it.

    Attributes:
        path: the pool: a file, or `owner/name` on the hub.
        target_path, test_path: the target and test sets, likewise. None: held out of the pool.
        input_column, response_column: both, or neither.
        hub_split, revision: for hub data sets: the split and the commit, tag or branch.
        pool_rows: how many rows to draw; None: all.
        target_rows, test_rows: how many to draw or to hold out. None: all of the set's own file; where it has none, a
            tenth of the pool and 200 at most.
    """

    name: str = "jsonl"
    task: Task
    path: str = field(metadata=NOT_IN_KEY)
    target_path: str | None = field(default=None, metadata=NOT_IN_KEY)
    test_path: str | None = field(default=None, metadata=NOT_IN_KEY)
    input_column: str | None = None
    response_column: str | None = None
    hub_split: str = "train"
    revision: str = "main"
    pool_rows: PositiveInt | None = None
    target_rows: NonNegativeInt | None = 0
    test_rows: NonNegativeInt | None = 0

    def __post_init__(self) -> None:
        if (self.input_column is None) != (self.response_column is None):
            raise ValueError("input_column: goes with dataset.response_column: name both, or neither")
        if self.input_column is not None and self.input_column == self.response_column:
            raise ValueError(f"response_column: is {self.input_column!r}, as dataset.input_column is: name two columns")

    def load(self, seed: int) -> Splits:
        pool = self._rows(self.path)
        target = None if self.target_path is None else self._rows(self.target_path)
        test = None if self.test_path is None else self._rows(self.test_path)
        if target is not None:
            check_disjoint("target", target, "pool", pool)
        if test is not None:
            check_disjoint("test", test, "pool", pool)
        if test is not None and target is not None:
            check_disjoint("test", test, "target set", target)
        share = min(HELD_OUT_MOST, int(HELD_OUT_SHARE * len(pool)))
        return make_splits(
            pool=pool,
            target=target,
            test=test,
            sizes=Sizes(
                pool=self.pool_rows,
                target=share if target is None and self.target_rows is None else self.target_rows,
                test=share if test is None and self.test_rows is None else self.test_rows,
            ),
            seed=seed,
        )

    def raw_pool(self) -> list[RawRow]:
        """All rows of the pool's file, in its order, those held out from it included."""
        return self._rows(self.path)

    def _rows(self, source: str) -> list[RawRow]:
        columns = None
        if self.input_column is not None and self.response_column is not None:
            columns = Columns(self.input_column, self.response_column)
        rows = to_raw_rows(read_source(source, self.hub_split, self.revision), columns)
        for row in rows:
            if self.task.system and row.history and row.history[0][0] == "system":
                raise UserError(f"{row.where}: has a system message, and so has the task: set dataset.task.system=''")
        return rows
