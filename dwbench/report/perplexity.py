"""How likely a model finds the responses that selectors chose, beside those of their pool, from records alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dwbench.records import Record
from dwbench.report.formats import MISSING, WIDE, Column, Grid, draw
from dwbench.report.labels import by_method, by_pool, each_choice_once

FRONTS = {"given_prompt": "given the prompt", "alone": "alone"}
NUMBERS = {"mean": "mean", "quartile_1": "1st quartile", "median": "median", "quartile_3": "3rd quartile"}

LEGEND = (
    "Perplexity of responses, end of turn included: given the prompt of the row, and alone (behind the bare header of "
    "an answer). choices: different sets of rows, what several seeds share is one; the numbers are means over these. "
    "Rows without a response have none and are left out."
)


@dataclass(frozen=True)
class Row:
    """What one method chose, or the pool (`choices` 0): how many rows, how many different choices (the same under three
    seeds is one), and the means over these of the numbers (`NUMBERS`) by what stands in front of the response
    (`FRONTS`)."""

    label: str
    rows: int
    choices: int
    numbers: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class Perplexities:
    """Selections of one pool, the pool itself first; `title` names data set, tuned model, pool and the model that
    tells."""

    title: str
    rows: tuple[Row, ...]


def perplexities(records: Sequence[Record]) -> list[Perplexities]:
    """One for each pool, tuned model and telling model under which records tell of perplexity."""
    told = [record for record in records if record.data["selection"].get("perplexity")]
    pools = by_pool(told, lambda record: {"perplexity_by": record.data["selection"]["perplexity_by"]}, _title)
    return [_of_pool(title, group) for title, group in pools]


def _title(record: Record) -> str:
    pool, teller = record.data["budget"]["pool"], record.data["selection"]["perplexity_by"]["name"]
    return f"{record.dataset}, {record.model}: chosen of {pool} rows, perplexity under {teller}"


def _of_pool(title: str, records: Sequence[Record]) -> Perplexities:
    told = records[0].data["selection"]["perplexity"]
    pool = {front: _known([told[front]["pool"]]) for front in FRONTS}
    rows = [Row("(the pool)", records[0].data["budget"]["pool"], 0, pool)]
    for name, group in by_method(records):
        for size in sorted({record.rows for record in group}):
            rows.append(_row(name, [record for record in group if record.rows == size]))
    return Perplexities(title, tuple(rows))


def _row(name: str, records: Sequence[Record]) -> Row:
    told = [record.data["selection"]["perplexity"] for record in each_choice_once(records)]
    numbers = {front: _known([one[front]["chosen"] for one in told]) for front in FRONTS}
    return Row(name, records[0].rows, len(told), numbers)


def _known(told: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of each number that all of them have."""
    known = [name for name in NUMBERS if all(name in one for one in told)]
    return {name: sum(one[name] for one in told) / len(told) for name in known}


def render(found: Sequence[Perplexities], form: str) -> str:
    """A grid for each pool, as text, md or latex."""
    return draw([Grid(one.title, _columns(one)) for one in found], [LEGEND], form, width=WIDE)


def _columns(one: Perplexities) -> tuple[Column, ...]:
    return (
        Column("selector", tuple(row.label for row in one.rows)),
        Column("rows", tuple(f"{row.rows:,}" for row in one.rows)),
        Column("choices", tuple(str(row.choices) if row.choices else MISSING for row in one.rows)),
        *(
            Column(f"{words}\n{heading}", tuple(_cell(row.numbers[front].get(name)) for row in one.rows))
            for front, words in FRONTS.items()
            for name, heading in NUMBERS.items()
        ),
    )


def _cell(value: float | None) -> str:
    return MISSING if value is None else f"{value:,.2f}"
