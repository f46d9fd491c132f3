"""How diverse what selectors chose is, from records alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dwbench.component import canonical_json
from dwbench.records import Record
from dwbench.report.formats import MISSING, WIDE, Column, Grid, draw
from dwbench.report.labels import label, selection_identity, told_apart

HEADINGS = {
    "novelsum": "NovelSum",
    "nearest_distance_mean": "nearest",
    "pairwise_distance_mean": "pairwise",
    "facility_location": "coverage",
    "partition_entropy": "entropy",
    "vendi": "Vendi",
    "ttr": "TTR",
    "vocd_d": "vocd-D",
    "duplicates_exact": "copies",
    "duplicates_near": "near copies",
    "tokens_mean": "tokens",
    "tokens_sd": "sd of tokens",
}
"""Of the numbers in records (`dwbench.rules.diversity`) those that a table shows."""

LEGEND = (
    "Cosine distances of embeddings: NovelSum; nearest: to the nearest other chosen row; pairwise: of two chosen rows. "
    "coverage: mean cosine of the pool's rows with the nearest chosen one. entropy: of the chosen rows over clusters "
    "of the pool, nats. Vendi: effective number of different rows. copies, near copies: share of the chosen rows that "
    "have one among them. tokens: of responses. NovelSum, coverage, entropy, Vendi and TTR depend on how many rows."
)


@dataclass(frozen=True)
class Row:
    """What one method chose: how many rows, over how many seeds, and the means of the numbers over these."""

    label: str
    rows: int
    seeds: int
    numbers: dict[str, float]


@dataclass(frozen=True)
class Diversity:
    """Selections of one pool; `title` names data set, tuned model, pool and encoder, and what tells it apart."""

    title: str
    rows: tuple[Row, ...]


def diversities(records: Sequence[Record]) -> list[Diversity]:
    """One for each pool, tuned model and encoder under which records tell of diversity."""
    groups: dict[str, list[Record]] = {}
    for record in records:
        if record.data["selection"].get("diversity"):
            groups.setdefault(canonical_json(_place(record)), []).append(record)
    ordered = [group for _, group in sorted(groups.items())]
    firsts = [group[0] for group in ordered]
    titles = told_apart(
        [_title(record) for record in firsts],
        [_place(record) for record in firsts],
        [record.run for record in firsts],
    )
    return [_of_pool(title, group) for title, group in zip(titles, ordered, strict=True)]


def _place(record: Record) -> dict[str, Any]:
    return {
        "dataset": {"name": record.dataset, "pool": record.data["dataset"]["fingerprints"]["pool"]},
        "model": {"name": record.model, **record.tuned_model},
        "described_by": record.data["selection"]["described_by"],
    }


def _title(record: Record) -> str:
    pool, encoder = record.data["budget"]["pool"], record.data["selection"]["described_by"]["name"]
    return f"{record.dataset}, {record.model}: chosen of {pool} rows, described by {encoder}"


def _of_pool(title: str, records: Sequence[Record]) -> Diversity:
    methods: dict[str, list[Record]] = {}
    for record in records:
        methods.setdefault(canonical_json(selection_identity(record)), []).append(record)
    firsts = [group[0] for group in methods.values()]
    labels = told_apart(
        [label(one) for one in firsts], [selection_identity(one) for one in firsts], [one.run for one in firsts]
    )
    rows = []
    for name, group in zip(labels, methods.values(), strict=True):
        for size in sorted({record.rows for record in group}):
            rows.append(_row(name, [record for record in group if record.rows == size]))
    return Diversity(title, tuple(rows))


def _row(name: str, records: Sequence[Record]) -> Row:
    told = [record.data["selection"]["diversity"] for record in records]
    known = [key for key in HEADINGS if all(key in numbers for numbers in told)]
    means = {key: sum(numbers[key] for numbers in told) / len(told) for key in known}
    return Row(name, records[0].rows, len({record.seed for record in records}), means)


def render(found: Sequence[Diversity], form: str) -> str:
    """A grid for each pool, as text, md or latex."""
    return draw([Grid(one.title, _columns(one)) for one in found], [LEGEND], form, width=WIDE)


def _columns(one: Diversity) -> tuple[Column, ...]:
    return (
        Column("selector", tuple(row.label for row in one.rows)),
        Column("rows", tuple(f"{row.rows:,}" for row in one.rows)),
        Column("seeds", tuple(str(row.seeds) for row in one.rows)),
        *(Column(heading, tuple(_cell(row.numbers.get(key)) for row in one.rows)) for key, heading in HEADINGS.items()),
    )


def _cell(value: float | None) -> str:
    if value is None:
        return MISSING
    return f"{value:.3f}" if value < 10 else f"{value:.1f}"
