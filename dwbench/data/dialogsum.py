"""DialogSum (Chen et al., 2021): dialogues and their summaries, three of them for a test dialogue."""

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import field, replace

from pydantic import NonNegativeInt, PositiveInt

from dwbench.component import NOT_IN_KEY, component
from dwbench.data.base import RawRow, Splits, Task, content_key
from dwbench.data.columns import Columns, to_raw_rows
from dwbench.data.hub import load_hub
from dwbench.data.sources import need_split, read_split
from dwbench.data.splitting import Sizes, make_splits
from dwbench.errors import UserError
from dwbench.files import expanded

HUB = "knkarthick/dialogsum"
ROWS = {"train": 12460, "validation": 500, "test": 1500}

_COLUMNS = Columns("dialogue", "summary")
_NUMBERED = re.compile(r"(test_\d+)_(\d+)")


@component
class DialogSum:
    """DialogSum; the three references of a test dialogue are one row.

    The pool is train and the target set validation. A folder without a train file has validation as its pool,
    and the target set is held out of it; the notes say so.

    Attributes:
        path: folder with `train` and `validation`, or one of them, and `test`. None: from the hub.
        revision: the hub's commit, tag or branch. The numbers of rows are checked whatever it is.
        pool_rows, test_rows: how many rows to draw; None: all.
        target_rows: how many to draw, or to hold out.
    """

    name: str = "dialogsum"
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
            train, validation = read_split(folder, "train"), read_split(folder, "validation")
            test = need_split(folder, "test")
            if train is None:
                notes.append("pool: the validation split, as there is no train file")
                train, validation = need_split(folder, "validation"), None
        else:
            hub = load_hub(HUB, None, self.revision)
            notes.append(hub.note)
            train, validation, test = (hub.split(name, rows) for name, rows in ROWS.items())
        grouped = group_references(to_raw_rows(test, _COLUMNS))
        if len(grouped) < len(test):
            notes.append(f"test: {len(test):,} reference summaries grouped by their {len(grouped):,} dialogues")
        return make_splits(
            pool=to_raw_rows(train, _COLUMNS),
            target=None if validation is None else to_raw_rows(validation, _COLUMNS),
            test=grouped,
            sizes=Sizes(self.pool_rows, self.target_rows, self.test_rows),
            seed=seed,
            notes=notes,
        )


def group_references(rows: Sequence[RawRow]) -> list[RawRow]:
    """One row for `test_N_1`, `test_N_2`, ...: id `test_N`, the first summary as response, all as references.

    Rows with other ids stay as they are. Raises UserError where rows of one number have different dialogues.
    """
    groups: dict[str, list[tuple[int, RawRow]]] = defaultdict(list)
    for row in rows:
        numbered = _NUMBERED.fullmatch(row.id)
        name, number = (numbered[1], int(numbered[2])) if numbered else (row.id, 0)
        groups[name].append((number, row))
    out = []
    for name, members in groups.items():
        ordered = [row for _, row in sorted(members, key=lambda member: member[0])]
        first = ordered[0]
        for row in ordered[1:]:
            if content_key(row.input) != content_key(first.input):
                raise UserError(
                    f"{row.where}: row {row.id!r} has another dialogue than {first.id!r} ({first.where}): "
                    f"give them ids that differ in their first number"
                )
        out.append(replace(first, id=name, references=tuple(row.response for row in ordered)))
    return out
