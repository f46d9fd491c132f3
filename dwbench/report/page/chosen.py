"""What was chosen: how long, how perplexing, how diverse, how much of planted noise, how alike."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dwbench.records import Record
from dwbench.report.agreement import agreements
from dwbench.report.diversity import HEADINGS, LEGEND, diversities
from dwbench.report.kinds import audits
from dwbench.report.page.rows import rounded
from dwbench.report.page.settings import Setting
from dwbench.report.perplexity import FRONTS, Perplexities, perplexities
from dwbench.report.str_ratio import CHOOSES_NOTHING

YARDSTICK = "low_ppl"
"""The selector whose ranking is that of the perplexities, lowest first."""

Rows = Sequence[Mapping[str, Any]]


def chosen(setting: Setting, rows: Rows) -> dict[str, Any]:
    """All that the section on choices shows of one setting; `rows` as in the plots."""
    by_run = {record.run: record for record in setting.records}
    groups = [[by_run[run] for run in row["runs"]] for row in rows]
    choosing = [position for position, row in enumerate(rows) if not row["bound"]]
    return {
        "lengths": [[position, *_lengths(groups[position])] for position in choosing],
        "pool": _pool(setting.records),
        "perplexity": [_perplexity(one, front, rows) for one in perplexities(setting.records) for front in FRONTS],
        "ranks": _ranks(setting.records, groups, choosing),
        "diversity": [
            {
                "title": one.title,
                "rows": [
                    [
                        row.label,
                        row.rows,
                        row.choices,
                        _run(rows, row.label, row.rows),
                        [rounded(row.numbers.get(key)) for key in HEADINGS],
                    ]
                    for row in one.rows
                ],
            }
            for one in diversities(setting.records)
        ],
        "kinds": [
            {
                "title": audit.title,
                "rows": size,
                "runs": {name: _run(rows, name, size) for name in audit.selectors},
                "pool": {kind: rounded(share) for kind, share in audit.pool.items()},
                "selectors": {
                    name: {
                        kind: [rounded(one.value), rounded(one.low), rounded(one.high)] for kind, one in told.items()
                    }
                    for name, told in audit.selectors.items()
                },
            }
            for size, records in _by_rows(setting.records)
            for audit in audits(records)
        ],
    }


def _by_rows(records: Sequence[Record]) -> list[tuple[int, list[Record]]]:
    """Selections by how many rows they have, the smallest first."""
    choosing = [record for record in records if record.selector not in CHOOSES_NOTHING]
    sizes = sorted({record.rows for record in choosing})
    return [(size, [record for record in choosing if record.rows == size]) for size in sizes]


def _run(rows: Rows, label: str, size: int) -> str | None:
    """A run of what is called so; None where a table of choices tells selectors apart in another way than ours."""
    names = (label, f"{label} (chosen only)")
    return next((str(row["runs"][0]) for row in rows if row["label"] in names and row["budget"] == size), None)


def diversity_words() -> dict[str, Any]:
    """Headings of the numbers on diversity, and what they mean."""
    return {"headings": list(HEADINGS.values()), "legend": LEGEND}


def _lengths(records: Sequence[Record]) -> list[float | None]:
    """Tokens and response tokens of a chosen row, means over the runs."""
    rows = sum(len(record.data["selection"]["ids"]) for record in records)
    return [
        rounded(sum(record.data["selection"][name] for record in records) / rows) if rows else None
        for name in ("tokens", "response_tokens")
    ]


def _pool(records: Sequence[Record]) -> list[float | None]:
    """Tokens and response tokens of a row of the pool: of a run of `full`, else only the former, by what tuning on the
    whole pool takes."""
    full = [record for record in records if record.selector == "full"]
    if full:
        return _lengths(full)
    tuned = next((record for record in records if record.training is not None), None)
    if tuned is None or tuned.training is None or not tuned.training.get("epochs"):
        return [None, None]
    tokens = tuned.data["full_tuning"]["tokens"] / tuned.training["epochs"] / tuned.data["budget"]["pool"]
    return [rounded(tokens), None]


def _perplexity(told: Perplexities, front: str, rows: Rows) -> dict[str, Any]:
    """Quartiles of the pool, and of each method's choice with its label, rows and a run."""
    pool, *methods = told.rows
    return {
        "title": told.title,
        "front": FRONTS[front],
        "pool": _quartiles(pool.numbers[front]),
        "rows": [
            [one.label, one.rows, _run(rows, one.label, one.rows), _quartiles(one.numbers[front])] for one in methods
        ],
    }


def _quartiles(spread: Mapping[str, float]) -> list[float | None]:
    return [rounded(spread.get(name)) for name in ("quartile_1", "median", "quartile_3")]


def _ranks(
    records: Sequence[Record], groups: Sequence[Sequence[Record]], choosing: Sequence[int]
) -> dict[str, Any] | None:
    """The mean perplexity rank of each row's choices over its runs, 0 the pool's lowest and 1 its highest; None
    without a run of the selector that ranks by perplexity."""
    yardstick = next((record for record in records if record.label == YARDSTICK and _places(record) is not None), None)
    if yardstick is None:
        return None
    places = _places(yardstick)
    assert places is not None
    ranks = (places - 0.5) / yardstick.data["budget"]["pool"]
    found = [[position, _over_runs(groups[position], ranks)] for position in choosing]
    return {"run": yardstick.run, "scorer": yardstick.data["scorer"]["name"], "rows": found}


def _over_runs(records: Sequence[Record], ranks: np.ndarray) -> float | None:
    known = [rank for record in records if (rank := _mean_rank(record, ranks)) is not None]
    return rounded(sum(known) / len(known)) if known else None


def _mean_rank(record: Record, ranks: np.ndarray) -> float | None:
    places = _places(record)
    if places is None or len(places) != len(ranks):
        return None
    with np.errstate(invalid="ignore"):
        mine = ranks[places <= record.rows]
    known = mine[~np.isnan(mine)]
    return float(known.mean()) if known.size else None


def _places(record: Record) -> np.ndarray | None:
    """Places of the pool's rows (NaN: invalid), in the order that all records of a pool share."""
    places = record.data["selection"].get("places")
    return None if places is None or record.selector in CHOOSES_NOTHING else np.array(places, dtype=np.float64)


def agreement(setting: Setting) -> list[dict[str, Any]]:
    """For each number of rows and seed, in hundredths and below the diagonal (both are symmetric): rank correlation of
    the scores, None where unknown, and overlap of the choices."""
    return [
        {
            "title": one.title,
            "rows": size,
            "labels": list(one.labels),
            "spearman": _lower(one.spearman),
            "overlap": _lower(one.overlap),
            "expected": rounded(one.expected),
        }
        for size, records in _by_rows(setting.records)
        for one in agreements(records)
    ]


def _lower(matrix: np.ndarray) -> list[list[int | None]]:
    return [
        [None if math.isnan(value) else round(100 * float(value)) for value in line[:place]]
        for place, line in enumerate(matrix)
    ]
