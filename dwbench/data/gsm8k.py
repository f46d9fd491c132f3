"""GSM8K (Cobbe et al., 2021): grade-school maths, answers that end with `#### NUMBER`."""

import dataclasses
import re
from dataclasses import field
from typing import Literal

from pydantic import NonNegativeInt, PositiveInt

from dwbench.component import NOT_IN_KEY, component
from dwbench.data.base import RawRow, Splits, Task
from dwbench.data.columns import Columns, to_raw_rows
from dwbench.data.hub import load_hub
from dwbench.data.sources import need_split
from dwbench.data.splitting import Sizes, hold_out, make_splits
from dwbench.data.textfiles import Row
from dwbench.errors import UserError
from dwbench.files import expanded

HUB = "openai/gsm8k"
ROWS = {"train": 7473, "test": 1319}
PAPER_TEST_ROWS = 748

_FINAL = re.compile(r"#### *\S")
_MARKS = re.compile(r"<<[^<>]*>>")


@component
class GSM8K:
    """GSM8K; the target set is held out of train.

    Attributes:
        path: folder with `train` and `test` (.jsonl, .json, .csv or .parquet). None: from the hub.
        revision: the hub's commit.
        split: `official`: train is the pool, GSM8K's test split the test set. `paper`: as many rows as the Data
            Whisperer paper tests on, 748, are held out of train, and 6,725 are left. Which 748 the paper took is not
            known here: these are drawn by seed, so figures compare with the paper's up to the draw.
        strip_calculator: take the calculator marks (`<<48/2=24>>`) out of the answers. The published answers have them.
        pool_rows, test_rows: how many rows to draw; None: all.
        target_rows: how many to hold out.
    """

    name: str = "gsm8k"
    task: Task
    path: str | None = field(default=None, metadata=NOT_IN_KEY)
    revision: str
    split: Literal["official", "paper"] = "official"
    strip_calculator: bool = False
    pool_rows: PositiveInt | None = None
    target_rows: NonNegativeInt
    test_rows: NonNegativeInt | None = None

    def load(self, seed: int) -> Splits:
        notes = []
        if self.path is not None:
            folder = expanded(self.path)
            train = self._rows(need_split(folder, "train"))
            test = self._rows(need_split(folder, "test")) if self.split == "official" else None
        else:
            hub = load_hub(HUB, "main", self.revision)
            notes.append(hub.note)
            train = self._rows(hub.split("train", ROWS["train"]))
            test = self._rows(hub.split("test", ROWS["test"])) if self.split == "official" else None
        sizes = Sizes(self.pool_rows, self.target_rows, self.test_rows)
        if test is None:
            # The paper's pool doesn't depend on how many of the test rows are used, so these are drawn at once.
            held = hold_out(train, PAPER_TEST_ROWS, seed, "test")
            notes.append(f"test: {PAPER_TEST_ROWS} rows of train drawn by seed {seed}; the paper's own are not known")
            train, test = held.rest, held.held
        return make_splits(train, None, test, sizes, seed, notes)

    def _rows(self, rows: list[Row]) -> list[RawRow]:
        out = to_raw_rows(rows, Columns("question", "answer"))
        for row in out:
            if not _FINAL.search(row.response):
                raise UserError(f"{row.where}: its answer has no line '#### NUMBER': add it, or take the row out")
        if self.strip_calculator:
            out = [dataclasses.replace(row, response=_MARKS.sub("", row.response)) for row in out]
        return out
