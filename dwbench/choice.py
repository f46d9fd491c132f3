"""What a record tells of a choice beside its ids: kinds, places in the ranking, and a few rows to look at."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from dwbench.data.base import Example
from dwbench.rules.ranking import Ranking, Scores, places

PLACES_KEPT = 1000
"""Rows of the pool whose place in a ranking a record tells: enough for rank correlations of selectors."""

SAMPLE_LENGTH = 300
"""Characters of a text in a sample row."""


def kinds(rows: Sequence[Example]) -> dict[str, int]:
    """How many rows there are of each kind, where kinds are known."""
    known = [row.kind for row in rows if row.kind]
    return {kind: known.count(kind) for kind in sorted(set(known))}


def kept_places(scores: Scores, rows: Sequence[Example]) -> list[float | None]:
    """Places of the pool's rows in the selector's ranking, in the order of their uids, which is the same for all
    selectors; of the first `PLACES_KEPT` rows (uids are hashes: a draw). None where a row is invalid.

    Args:
        rows: the pool in the order of the scores.
    """
    found = places(scores)
    by_uid = sorted(range(len(rows)), key=lambda position: rows[position].uid)[:PLACES_KEPT]
    return [None if np.isnan(found[position]) else float(found[position]) for position in by_uid]


def samples(ranking: Ranking, scores: Scores, rows: Sequence[Example], k: int, count: int) -> list[dict[str, Any]]:
    """The `count` first of the k chosen rows, then the `count` rejected ones nearest below the cut; fewer where there
    are fewer.

    Each with id, texts of at most `SAMPLE_LENGTH` characters, its score (null where undefined), its place in the
    ranking (null where invalid) and whether it was chosen.

    Args:
        rows: the pool in the order of the scores.
    """
    found = places(scores)
    chosen, rejected = ranking.order[:k][:count], ranking.order[k:][:count]
    return [
        {
            "id": rows[position].id,
            "input": shortened(rows[position].input),
            "response": shortened(rows[position].response),
            "score": _number(scores.values[position]),
            "place": _number(found[position]),
            "chosen": is_chosen,
        }
        for positions, is_chosen in ((chosen, True), (rejected, False))
        for position in positions
    ]


def shortened(text: str, length: int = SAMPLE_LENGTH) -> str:
    """`text` in at most `length` characters; an ellipsis stands for what was cut off."""
    return text if len(text) <= length else f"{text[: length - 1].rstrip()}…"


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
