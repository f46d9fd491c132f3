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
from dwbench.report.str_ratio import CHOOSES_NOTHING

YARDSTICK = "low_ppl"
"""The selector whose ranking is that of the perplexities, lowest first."""

Numbers = Mapping[str, float | int]


def chosen(setting: Setting, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """All that the section on choices shows of one setting; `rows` as in the plots."""
    by_run = {record.run: record for record in setting.records}
    groups = [[by_run[run] for run in row["runs"]] for row in rows]
    choosing = [position for position, row in enumerate(rows) if not row["bound"]]
    return {
        "lengths": [[position, *_lengths(groups[position])] for position in choosing],
        "pool": _pool(setting.records),
        "perplexity": [
            [position, front, *quartiles]
            for position in choosing
            for front, quartiles in _perplexity(groups[position][0]).items()
        ],
        "ranks": _ranks(setting.records, groups, choosing),
        "diversity": [
            {
                "title": one.title,
                "rows": [
                    [row.label, row.rows, row.seeds, [rounded(row.numbers.get(key)) for key in HEADINGS]]
                    for row in one.rows
                ],
            }
            for one in diversities(setting.records)
        ],
        "kinds": [
            {
                "title": audit.title,
                "pool": {kind: rounded(share) for kind, share in audit.pool.items()},
                "selectors": {
                    name: {
                        kind: [rounded(one.value), rounded(one.low), rounded(one.high)] for kind, one in told.items()
                    }
                    for name, told in audit.selectors.items()
                },
            }
            for audit in audits(setting.records)
        ],
    }


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


def _perplexity(record: Record) -> dict[str, list[Any]]:
    """By what stands in front of the response: quartiles of the chosen rows' perplexities, then the pool's."""
    told: Mapping[str, Mapping[str, Numbers]] = record.data["selection"].get("perplexity") or {}
    return {front: [_quartiles(spread["chosen"]), _quartiles(spread["pool"])] for front, spread in told.items()}


def _quartiles(spread: Numbers) -> list[float | None]:
    return [rounded(spread.get(name)) for name in ("quartile_1", "median", "quartile_3")]


def _ranks(
    records: Sequence[Record], groups: Sequence[Sequence[Record]], choosing: Sequence[int]
) -> dict[str, Any] | None:
    """The mean perplexity rank of each row's choices, 0 the pool's lowest and 1 its highest; None without a run of the
    selector that ranks by perplexity."""
    yardstick = next((record for record in records if record.label == YARDSTICK and _places(record) is not None), None)
    if yardstick is None:
        return None
    places = _places(yardstick)
    assert places is not None
    ranks = (places - 0.5) / yardstick.data["budget"]["pool"]
    found = [[position, _mean_rank(groups[position][0], ranks)] for position in choosing]
    return {"run": yardstick.run, "scorer": yardstick.data["scorer"]["name"], "rows": found}


def _mean_rank(record: Record, ranks: np.ndarray) -> float | None:
    places = _places(record)
    if places is None or len(places) != len(ranks):
        return None
    with np.errstate(invalid="ignore"):
        mine = ranks[places <= record.rows]
    known = mine[~np.isnan(mine)]
    return rounded(float(known.mean())) if known.size else None


def _places(record: Record) -> np.ndarray | None:
    """Places of the pool's rows (NaN: invalid), in the order that all records of a pool share."""
    places = record.data["selection"].get("places")
    return None if places is None or record.selector in CHOOSES_NOTHING else np.array(places, dtype=np.float64)


def agreement(setting: Setting) -> list[dict[str, Any]]:
    """For each budget and seed, in hundredths and below the diagonal (both are symmetric): rank correlation of the
    scores, None where unknown, and overlap of the choices."""
    return [
        {
            "title": one.title,
            "labels": list(one.labels),
            "spearman": _lower(one.spearman),
            "overlap": _lower(one.overlap),
            "expected": rounded(one.expected),
        }
        for one in agreements(setting.records)
    ]


def _lower(matrix: np.ndarray) -> list[list[int | None]]:
    return [
        [None if math.isnan(value) else round(100 * float(value)) for value in line[:place]]
        for place, line in enumerate(matrix)
    ]
