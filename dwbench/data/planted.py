"""Noise planted into a pool, of known kinds, to see what selectors make of it."""

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from dwbench.component import component
from dwbench.data.base import Example, RawRow, Splits, number_rows
from dwbench.errors import UserError
from dwbench.seeds import derive, draw

CLEAN = "clean"


@component
class Plant:
    """Shares of the pool that are replaced by noise; the pool keeps its size, and all else is `clean`.

    Which rows, and what becomes of them, is drawn by their content and the split seed, so that all selectors and seeds
    see the same pool.

    Attributes:
        wrong_response: rows with the response of another one of them, which reads differently.
        copy: exact copies of clean rows.
        near_copy: clean rows again, with one word of the input twice in a row.
        truncated: rows whose response ends after its first eighth, or its first word; of one word the first half.
        empty: rows whose response is a full stop.

    Responses read the same where case, spaces around them and punctuation at their end are all that differs. Rows whose
    response would read as before are not drawn to be truncated or emptied.
    """

    wrong_response: float = 0.2
    copy: float = 0.05
    near_copy: float = 0.05
    truncated: float = 0.025
    empty: float = 0.025

    def __post_init__(self) -> None:
        shares = self._shares()
        for name, share in shares.items():
            if not 0 <= share < 1:
                raise ValueError(f"{name}: must be at least 0 and below 1, not {share}")
        if sum(shares.values()) + self.copy + self.near_copy > 1:
            raise ValueError("wrong_response: with the other shares, and a clean row for every copy, it is above 1")

    def _shares(self) -> dict[str, float]:
        return {
            "wrong_response": self.wrong_response,
            "copy": self.copy,
            "near_copy": self.near_copy,
            "truncated": self.truncated,
            "empty": self.empty,
        }

    def into(self, splits: Splits, seed: int) -> Splits:
        """The splits with noise in the pool; every row's `kind` says what it is, and a note counts them.

        Raises UserError where the pool is too small for a share that is asked for.
        """
        pool = splits.pool
        order = [int(position) for position in np.argsort(draw([row.uid for row in pool], seed, "plant"))]
        taken: dict[str, list[int]] = {}
        for kind, share in self._shares().items():
            count = math.floor(round(share * len(pool), 9))
            if share and count < (2 if kind == "wrong_response" else 1):
                raise UserError(f"plant.{kind}={share}: makes {count} of {len(pool)} rows: take a larger pool")
            taken[kind] = [position for position in order if _can_be(kind, pool[position].response)][:count]
            if len(taken[kind]) < count:
                raise UserError(f"plant.{kind}={share}: only {len(taken[kind])} rows are left that can be so: lower it")
            gone = set(taken[kind])
            order = [position for position in order if position not in gone]
        rows = [_raw(row, CLEAN) for row in pool]
        for position, response in zip(
            taken["wrong_response"], _exchanged([pool[one].response for one in taken["wrong_response"]]), strict=True
        ):
            rows[position] = _answered(pool[position], response, "wrong_response")
        for kind, spoilt in SPOILT.items():
            for position in taken[kind]:
                rows[position] = _answered(pool[position], spoilt(pool[position].response), kind)
        copies = [*((one, "copy") for one in taken["copy"]), *((one, "near_copy") for one in taken["near_copy"])]
        for (position, kind), source in zip(copies, order, strict=False):
            copy = replace(_raw(pool[source], kind), id=pool[position].id)
            doubled = _doubled(copy.input, derive(seed, "plant", pool[source].uid))
            rows[position] = copy if kind == "copy" else replace(copy, input=doubled)
        counts = ", ".join(f"{len(found)} {kind}" for kind, found in taken.items())
        return replace(
            splits, pool=number_rows(rows), notes=(*splits.notes, f"pool: planted {counts} of {len(rows)} rows")
        )


def _raw(row: Example, kind: str) -> RawRow:
    references = () if row.references == (row.response,) else row.references  # as it was: a row's uid is made of it
    return RawRow(row.id, row.input, row.response, f"row {row.id}", references, row.history, kind)


def _answered(row: Example, response: str, kind: str) -> RawRow:
    return replace(_raw(row, kind), response=response, references=())


def _exchanged(responses: Sequence[str]) -> list[str]:
    """The responses, each at the place of one that reads differently."""
    if not responses:
        return []
    read = [_read(response) for response in responses]
    most = max(Counter(read).values())
    if 2 * most > len(responses):
        raise UserError("plant.wrong_response: too many rows have the same response to exchange them: lower it")
    # Equal ones side by side, and each then as far on as the longest of these runs.
    first = {text: place for place, text in reversed(list(enumerate(read)))}
    order = sorted(range(len(responses)), key=lambda place: (first[read[place]], place))
    moved = list(responses)
    for position, place in enumerate(order):
        moved[place] = responses[order[(position + most) % len(order)]]
    return moved


def _read(response: str) -> str:
    """What is the same of responses that read the same: a row with `yes.` for its `Yes` would not be wrong."""
    return response.strip().casefold().rstrip(" .,;:!?")


def _first_eighth(response: str) -> str:
    words = response.split()
    return " ".join(words[: max(1, len(words) // 8)]) if len(words) > 1 else response[: max(1, len(response) // 2)]


SPOILT: Mapping[str, Callable[[str], str]] = {"truncated": _first_eighth, "empty": lambda _: "."}
"""What becomes of the response, of kinds for which it takes no other row."""


def _can_be(kind: str, response: str) -> bool:
    """Whether a row with this response can be of the kind: not if the response would read as before."""
    return kind not in SPOILT or _read(SPOILT[kind](response)) != _read(response)


def _doubled(text: str, seed: int) -> str:
    """The text with one of its words twice in a row."""
    words = list(re.finditer(r"\S+", text))
    if not words:
        return f"{text}."
    word = words[seed % len(words)]
    return f"{text[: word.end()]} {text[word.start() :]}"
