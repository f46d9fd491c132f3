"""BioInstruct (Tran et al., 2024): biomedical instructions, with or without an input."""

from dataclasses import field

from pydantic import NonNegativeInt, PositiveInt

from dwbench.component import NOT_IN_KEY, component
from dwbench.data.base import Splits, Task
from dwbench.data.columns import to_raw_rows
from dwbench.data.hub import load_hub
from dwbench.data.sources import need_split
from dwbench.data.splitting import Sizes, hold_out, make_splits
from dwbench.files import expanded

HUB = "bio-nlp-umass/bioinstruct"
ROWS = 25005


@component
class BioInstruct:
    """BioInstruct; the target set is held out of the pool.

    The hub has one split of 25,005 rows, which is divided 9:1 by seed as in the Data Whisperer paper; which rows the
    paper tested on is not known here.

    Attributes:
        path: folder with `train` and `test`. None: from the hub.
        revision: the hub's commit, tag or branch. The number of rows is checked whatever it is.
        pool_rows, test_rows: how many rows to draw; None: all.
        target_rows: how many to hold out.
    """

    name: str = "bioinstruct"
    task: Task
    path: str | None = field(default=None, metadata=NOT_IN_KEY)
    revision: str
    pool_rows: PositiveInt | None = None
    target_rows: NonNegativeInt
    test_rows: NonNegativeInt | None = None

    def load(self, seed: int) -> Splits:
        notes = []
        if self.path is not None:
            folder = expanded(self.path)
            pool = to_raw_rows(need_split(folder, "train"))
            test = to_raw_rows(need_split(folder, "test"))
        else:
            hub = load_hub(HUB, None, self.revision)
            rows = to_raw_rows(hub.split("train", ROWS))
            held = hold_out(rows, len(rows) - len(rows) * 9 // 10, seed, "test")
            pool, test = held.rest, held.held
            notes += [hub.note, f"test: {len(test):,} of {len(rows):,} rows held out by seed {seed}"]
            if held.copies:
                notes.append(f"pool: {len(held.copies)} rows left out, also in the test set")
        return make_splits(pool, None, test, Sizes(self.pool_rows, self.target_rows, self.test_rows), seed, notes)
