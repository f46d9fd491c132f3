"""How splits are drawn: by content and never by the order of rows.

Every draw goes by hashes of the rows' content, so a file in another order gives the same pool, target and test set
(each in its file's order), and a smaller draw is a part of a larger one.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dwbench.data.base import RawRow, Splits, content_key, number_rows
from dwbench.errors import UserError
from dwbench.seeds import draw


@dataclass(frozen=True)
class Sizes:
    """How many rows of each split; None: all that there are."""

    pool: int | None
    target: int | None
    test: int | None


@dataclass(frozen=True)
class HeldOut:
    """The outcome of holding rows out.

    Attributes:
        held: the rows held out, with different inputs.
        rest: what stays.
        copies: further rows with the inputs of held-out rows; they are in neither.
    """

    held: list[RawRow]
    rest: list[RawRow]
    copies: list[RawRow]


def key(row: RawRow) -> str:
    return content_key(row.input, row.history)


def subsample(rows: Sequence[RawRow], count: int | None, seed: int, split: str) -> list[RawRow]:
    """`count` of `rows`, all if None, in their order. Raises UserError where there are fewer, or for duplicate ids."""
    uids = [example.uid for example in number_rows(rows)]
    if count is None:
        return list(rows)
    if count > len(rows):
        raise UserError(f"dataset.{split}_rows={count}: there are only {len(rows)}: lower it")
    chosen = np.sort(np.argsort(draw(uids, seed, "split", split))[:count])
    return [rows[i] for i in chosen]


def hold_out(rows: Sequence[RawRow], count: int, seed: int, split: str) -> HeldOut:
    """Take `count` rows with different inputs out of `rows`. Raises UserError where nothing would be left."""
    uids = [example.uid for example in number_rows(rows)]
    groups: dict[str, list[int]] = defaultdict(list)
    for position, row in enumerate(rows):
        groups[key(row)].append(position)
    if count and count >= len(groups):
        raise UserError(
            f"dataset.{split}_rows={count}: to be held out of {len(groups)} rows with different inputs, "
            f"some must be left: lower it, or give {split} rows of their own"
        )
    row_draws = draw(uids, seed, "split", split)
    keys = list(groups)
    chosen = [keys[i] for i in np.argsort(draw(keys, seed, "split", split))[:count]]
    held = {min(groups[name], key=lambda position: row_draws[position]) for name in chosen}
    taken = {position for name in chosen for position in groups[name]}
    return HeldOut(
        held=[rows[i] for i in sorted(held)],
        rest=[row for i, row in enumerate(rows) if i not in taken],
        copies=[rows[i] for i in sorted(taken - held)],
    )


def without(rows: Sequence[RawRow], others: Sequence[RawRow]) -> list[RawRow]:
    """The rows whose input is not in `others`."""
    keys = {key(row) for row in others}
    return [row for row in rows if key(row) not in keys]


def check_disjoint(one: str, rows: Sequence[RawRow], other: str, others: Sequence[RawRow]) -> None:
    """Raise UserError if an input is in both, with the places of the first."""
    places = {key(row): row for row in others}
    both = [row for row in rows if key(row) in places]
    if both:
        row, twin = both[0], places[key(both[0])]
        raise UserError(
            f"{row.where}: {one} row {row.id!r} is also in the {other} ({twin.where}, id {twin.id!r}), "
            f"as are {len(both)} of {len(rows)}: take them out of one of the two"
        )


def make_splits(
    pool: Sequence[RawRow],
    target: Sequence[RawRow] | None,
    test: Sequence[RawRow] | None,
    sizes: Sizes,
    seed: int,
    notes: Sequence[str] = (),
) -> Splits:
    """The splits of a run: test and target held out of the pool where None is given, overlaps left out and noted.

    Rows of the pool or the target set that are also in the test set, and rows of the pool that are also in the target
    set, are left out. That is decided by the whole sets and before any subsampling, whatever the sizes.
    """
    notes = list(notes)
    for rows in (pool, target or (), test or ()):
        number_rows(rows)  # an id that is there twice is an error, also where neither row will be drawn
    if test is None:
        pool, test = _hold_out(pool, sizes.test, seed, "test", notes)
    else:
        pool = _leave_out("pool", pool, "test", test, notes)
        if target is not None:
            target = _leave_out("target", target, "test", test, notes)
        test = subsample(test, sizes.test, seed, "test")
    if target is None:
        pool, target = _hold_out(pool, sizes.target, seed, "target", notes)
    else:
        pool = _leave_out("pool", pool, "target", target, notes)
        target = subsample(target, sizes.target, seed, "target")
    pool = subsample(pool, sizes.pool, seed, "pool")
    return Splits(pool=number_rows(pool), target=number_rows(target), test=number_rows(test), notes=tuple(notes))


def _hold_out(
    rows: Sequence[RawRow], count: int | None, seed: int, split: str, notes: list[str]
) -> tuple[list[RawRow], list[RawRow]]:
    if count is None:
        raise UserError(f"dataset.{split}_rows: there are no {split} rows of their own: say how many to hold out")
    if count == 0:
        return list(rows), []
    out = hold_out(rows, count, seed, split)
    copies = f"; {_rows(len(out.copies))} with the same inputs left out" if out.copies else ""
    notes.append(f"{split}: {_rows(len(out.held))} held out of {len(rows):,} by seed {seed}{copies}")
    return out.rest, out.held


def _leave_out(
    one: str, rows: Sequence[RawRow], other: str, others: Sequence[RawRow], notes: list[str]
) -> list[RawRow]:
    kept = without(rows, others)
    if len(kept) < len(rows):
        notes.append(f"{one}: {_rows(len(rows) - len(kept))} left out, also in the {other} set")
    return kept


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count:,} rows"
