"""How diverse what selectors chose is, from records alone."""

from collections.abc import Sequence
from dataclasses import dataclass

from dwbench.records import Record
from dwbench.report.formats import MISSING, WIDE, Column, Grid, draw
from dwbench.report.labels import by_method, by_pool, each_choice_once

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
    "have one among them. tokens: of responses. NovelSum, coverage, entropy, Vendi and TTR depend on how many rows. "
    "choices: different sets of rows, what several seeds share is one; the numbers are means over these."
)


@dataclass(frozen=True)
class Row:
    """What one method chose: how many rows, how many different choices (the same under three seeds is one), and the
    means of the numbers over these."""

    label: str
    rows: int
    choices: int
    numbers: dict[str, float]


@dataclass(frozen=True)
class Diversity:
    """Selections of one pool; `title` names data set, tuned model, pool and encoder, and what tells it apart."""

    title: str
    rows: tuple[Row, ...]


def diversities(records: Sequence[Record]) -> list[Diversity]:
    """One for each pool, tuned model and encoder under which records tell of diversity."""
    told = [record for record in records if record.data["selection"].get("diversity")]
    pools = by_pool(told, lambda record: {"described_by": record.data["selection"]["described_by"]}, _title)
    return [_of_pool(title, group) for title, group in pools]


def _title(record: Record) -> str:
    pool, encoder = record.data["budget"]["pool"], record.data["selection"]["described_by"]["name"]
    return f"{record.dataset}, {record.model}: chosen of {pool} rows, described by {encoder}"


def _of_pool(title: str, records: Sequence[Record]) -> Diversity:
    rows = []
    for name, group in by_method(records):
        for size in sorted({record.rows for record in group}):
            rows.append(_row(name, [record for record in group if record.rows == size]))
    return Diversity(title, tuple(rows))


def _row(name: str, records: Sequence[Record]) -> Row:
    told = [record.data["selection"]["diversity"] for record in each_choice_once(records)]
    known = [key for key in HEADINGS if all(key in numbers for numbers in told)]
    means = {key: sum(numbers[key] for numbers in told) / len(told) for key in known}
    return Row(name, records[0].rows, len(told), means)


def render(found: Sequence[Diversity], form: str) -> str:
    """A grid for each pool, as text, md or latex."""
    return draw([Grid(one.title, _columns(one)) for one in found], [LEGEND], form, width=WIDE)


def _columns(one: Diversity) -> tuple[Column, ...]:
    return (
        Column("selector", tuple(row.label for row in one.rows)),
        Column("rows", tuple(f"{row.rows:,}" for row in one.rows)),
        Column("choices", tuple(str(row.choices) for row in one.rows)),
        *(Column(heading, tuple(_cell(row.numbers.get(key)) for row in one.rows)) for key, heading in HEADINGS.items()),
    )


def _cell(value: float | None) -> str:
    if value is None:
        return MISSING
    return f"{value:.3f}" if value < 10 else f"{value:.1f}"
