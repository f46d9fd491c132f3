"""`dwbench check --estimate`: what a sweep will cost on one device, as a table."""

import textwrap
from collections.abc import Callable, Sequence

from dwbench.amounts import Amount, total
from dwbench.errors import UserError
from dwbench.estimate import PARTS, WHOLE, Estimate
from dwbench.report.formats import Column, short, text_grid
from dwbench.throughput import Given, Measured, Throughput

WIDTH = 100

PHASES = ("data", "selection", "describing", "tuning", "evaluation")
"""Of `Estimate`."""

SELDOM = ("data", "describing")
"""Left out where no run does it."""


def told(estimates: Sequence[Estimate], throughput: Throughput) -> str:
    """The table of runs, the totals, and what the numbers rest on."""
    notes = [textwrap.fill(note, WIDTH, subsequent_indent="  ") for note in _notes(estimates, throughput)]
    return "\n".join([text_grid(_columns(estimates, throughput)), "", *notes]) + "\n"


def check_throughput(estimates: Sequence[Estimate], throughput: Throughput) -> None:
    """Raise UserError where hours could not be worked out."""
    if all(seconds(amount, throughput) is not None for amount in _amounts(estimates)):
        return
    if isinstance(throughput, Given):
        raise UserError(
            "--tflops: answers are generated here, and how fast is not known: add --decode-tokens-per-second Y, "
            "tokens a second of a whole batch, without the time of their FLOP"
        )
    raise UserError(
        "hours: no stage in the store tells how fast this hardware computes: give --tflops X (10^12 model FLOP a "
        "second, 0.2 to 0.5 of a GPU's data sheet) and --decode-tokens-per-second Y, or run something small before"
    )


def seconds(amount: Amount, throughput: Throughput) -> float | None:
    """On one device; None where a speed is not known."""
    parts = [throughput.seconds(work, cost) for work, cost in amount.work.items()]
    return None if None in parts else sum(part for part in parts if part is not None)


def _amounts(estimates: Sequence[Estimate]) -> list[Amount]:
    return [getattr(one, name) for one in estimates for name in PHASES]


def _columns(estimates: Sequence[Estimate], throughput: Throughput) -> list[Column]:
    """A row a run, and one for all of them."""
    names = [name for name in PHASES if name not in SELDOM or any(getattr(one, name).work for one in estimates)]
    rows = [tuple(getattr(one, name) for name in names) for one in estimates]
    parts = [*rows, tuple(total(amounts) for amounts in zip(*rows, strict=True))]
    wholes = [total(amounts) for amounts in parts]

    def counted(heading: str, value: Callable[[Amount], float]) -> Column:
        return Column(heading, tuple(short(value(whole)) for whole in wholes))

    return [
        Column("run", (*(_label(one, estimates) for one in estimates), "all")),
        Column("rows", (*(f"{one.rows:,}" for one in estimates), "")),
        *(
            Column(f"{name}\nhours", tuple(_hours(amounts[part], throughput) for amounts in parts))
            for part, name in enumerate(names)
        ),
        Column("device\nhours", tuple(_hours(whole, throughput) for whole in wholes)),
        counted("tokens\nforward", lambda amount: amount.cost.forward_tokens),
        counted("tokens\nbackward", lambda amount: amount.cost.backward_tokens),
        counted("tokens\ngenerated", lambda amount: amount.cost.generated_tokens),
        counted("FLOP\n(10^15)", lambda amount: amount.cost.flop / 1e15),
        counted("store\n(GB)", lambda amount: amount.stored / 1e9),
    ]


def _hours(amount: Amount, throughput: Throughput) -> str:
    spent = seconds(amount, throughput)
    return "?" if spent is None else short(spent / 3600)


def _label(one: Estimate, estimates: Sequence[Estimate]) -> str:
    """What tells the run from the others: its selector, and of data set, model and seed what differs between them."""
    parts = [one.run.selector_label]
    for value in (lambda run: run.dataset.name, lambda run: run.model.name, lambda run: f"seed {run.seed}"):
        if len({value(other.run) for other in estimates}) > 1:
            parts.append(value(one.run))
    return " ".join(parts)


def _notes(estimates: Sequence[Estimate], throughput: Throughput) -> list[str]:
    notes = [
        "Of one device; a stage that several runs share is charged to the first, what is stored costs nothing. Loading "
        "models, waiting and what methods do without a model are not in it.",
        "Answers are taken to be as long as those to the same task in the store, or else as the pool's responses, "
        "which small models exceed (--answer-tokens N for another length).",
    ]
    if any(one.describing.work for one in estimates):
        notes.append("Describing: reports on what was chosen (diversity, perplexity), charged to no selector.")
    if any(one.drawn or (one.pool > WHOLE and one.describing.work) for one in estimates):
        notes.append(
            f"Pools of more than {WHOLE:,} rows: the selectors' and the reports' work on {PARTS[0]:,} and "
            f"{PARTS[1]:,} drawn rows, drawn out in a straight line; what stops growing beyond that is overestimated. "
            "Of what is stored a selection costs nothing only where it is finished; its representations and the "
            "reports are charged as if nothing of them were stored."
        )
    if any(one.run.evaluation.tasks and not one.run.select_only for one in estimates):
        notes.append("eval.tasks: other tasks of lm-eval are not in it.")
    if isinstance(throughput, Measured) and throughput.stages:
        every = [item for amount in _amounts(estimates) for item in amount.work.items()]
        kinds = sorted({work.kind for work, cost in every if throughput.guessed(work, cost)})
        if kinds:
            notes.append(
                f"No stage in the store says how fast {' and '.join(kinds)} is: taken from the nearest that does."
            )
        if any(throughput.scaled(work, cost) for work, cost in every):
            notes.append(
                "A model that generated nothing in the store is taken to be as much slower at it than one that did as "
                "it takes more FLOP a token."
            )
    return notes
