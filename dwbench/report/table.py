"""What a table says: runs of one setting in one row, seeds averaged, STR worked out. `formats` draws it."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from dwbench.component import canonical_json
from dwbench.data.planted import CLEAN
from dwbench.errors import UserError
from dwbench.records import PARTS, Record
from dwbench.report.labels import grouped, label, named_groups, names_of
from dwbench.report.str_ratio import CHOOSES_NOTHING, Ratio, ratios, tuning_ratios


@dataclass(frozen=True)
class Score:
    """A metric in one row.

    Of one run, with the standard error over its `n` test rows; or, where `seeds` > 1, the mean over seeds
    with the standard error of that mean. `stderr` is None where it is unknown.
    """

    value: float
    stderr: float | None
    n: int
    seeds: int


@dataclass(frozen=True)
class Row:
    """One selector at one budget.

    `label` tells it from the others of its section and budget; `name` is the selector with its settings alone, which
    several rows may share. `budget` is in rows, None for `zero_shot`; `selection_seconds`, `tuning_seconds` (on the
    chosen rows), `ratio`, `tuning_ratio` (see `tuning_ratios`), `tuned_tokens` and `response_length` (tokens of a
    chosen response) are means over the runs; `seeds` counts different evaluations: a deterministic run repeated under
    three seeds is one. `training` is what it was tuned by, with all settings; empty where it was not.
    """

    label: str
    budget: int | None
    seeds: int
    scores: Mapping[str, Score]
    selection_seconds: float
    tuning_seconds: float
    ratio: Ratio
    tuning_ratio: float | None
    tuned_tokens: int
    response_length: float | None
    runs: tuple[str, ...]
    name: str
    training: str


class _Ratios(NamedTuple):
    """Of one run: STR, and the same of tuning on the chosen rows."""

    selection: Ratio
    tuning: float | None


@dataclass(frozen=True)
class Section:
    """The rows of one data set and model, and the metrics that they have, in order. `pool` and `test` count rows."""

    dataset: str
    model: str
    title: str
    pool: int
    test: int
    metrics: tuple[str, ...]
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Table:
    """Sections, and in `mixed` what differs between the environments of the records (empty: nothing)."""

    sections: tuple[Section, ...]
    mixed: str


def table(records: Sequence[Record], *, reference: Sequence[Record] = (), allow_mixed: bool = False) -> Table:
    """The table of `records`, sorted by data set, model and budget.

    `reference` are further records that are not shown, but whose tuning times serve STR: a `full` run of
    another experiment. Those of other library versions are not used.
    Raises UserError where library versions or hardware differ, between records or between the stages of one, unless
    `allow_mixed`.
    """
    once = list({record.run: record for record in records}.values())  # one run may belong to two experiments
    mixed = differing_environments(once)
    if mixed and not allow_mixed:
        raise UserError(f"records from different environments: {mixed}; --allow-mixed shows them together")
    shown = {record.run for record in once}
    versions = {_tuned_with(record) for record in once}
    others = [record for record in reference if record.run not in shown and _tuned_with(record) in versions]
    timed = [*once, *others]
    both = map(_Ratios, ratios(timed), tuning_ratios(timed))
    ratio_of = dict(zip((record.run for record in timed), both, strict=True))
    sections = [_section(group, title, ratio_of) for title, group in named_groups(once, _section_identity, _title)]
    sections.sort(key=lambda section: (section.dataset, section.model, section.title))
    return Table(tuple(sections), mixed)


def differing_environments(records: Sequence[Record]) -> str:
    """`torch 2.12.0 (3 records), 2.13.0 (1 record); ...`: versions and hardware that differ, or ''.

    Between records, or between the stages of one: `torch 2.12.0 and 2.13.0 in one run (1 record)`.
    """
    environments = [_environment(record) for record in records]
    told = []
    for name in dict.fromkeys(name for environment in environments for name in environment):
        counts = Counter(environment.get(name, ("None",)) for environment in environments)
        if len(counts) > 1 or any(len(values) > 1 for values in counts):
            each = (f"{_values(values)} ({n} record{'s' if n > 1 else ''})" for values, n in sorted(counts.items()))
            told.append(f"{name.removeprefix('packages.')} {', '.join(each)}")
    return "; ".join(told)


def _tuned_with(record: Record) -> str:
    return canonical_json(record.environment_of("training", "packages."))


def _values(values: tuple[str, ...]) -> str:
    return f"{' and '.join(values)} in one run" if len(values) > 1 else values[0]


def _environment(record: Record) -> dict[str, tuple[str, ...]]:
    """What counts of the environments of all stages: fields and their values, several where the stages differ."""
    found: dict[str, set[str]] = {}
    for prefix in ("packages.", "hardware.", "python"):
        for part in PARTS:
            for name, values in record.environment_of(part, prefix).items():
                found.setdefault(name, set()).update(str(value) for value in values)
    return {name: tuple(sorted(values)) for name, values in found.items()}


def _section_identity(record: Record) -> dict[str, Any]:
    dataset = record.data["dataset"]
    return {
        "dataset": {name: dataset[name] for name in ("name", "fingerprints", "rows", "task")},
        "model": {"name": record.model, **record.tuned_model},
    }


def _row_identity(record: Record) -> dict[str, Any]:
    data, training = record.data, record.training
    selector, evaluation = data["selector"], data["evaluation"]
    return {
        "selector": {"version": selector["version"], **selector["identity"]},
        "scorer": data["scorer"],
        "embedder": data["embedder"],
        "budget": _budget(record),
        "training": None if training is None else {"version": training["version"], **training["identity"]},
        "evaluation": {
            "version": evaluation["version"],
            "split_seed": evaluation["split_seed"],
            **evaluation["identity"],
        }
        if _evaluated(record)
        else None,
    }


def _budget(record: Record) -> int | None:
    # Whatever budget these two were asked for, they are the same runs.
    if record.selector == "zero_shot":
        return None
    return int(record.data["budget"]["pool"]) if record.selector == "full" else record.rows


def _evaluated(record: Record) -> bool:
    return record.data["artefacts"]["evaluation"] is not None


def _called(record: Record) -> str:
    """The row's name; a run that ended with the selection must not pass for one that was tuned and evaluated."""
    return label(record) if _evaluated(record) else f"{label(record)} (chosen only)"


def _dataset(record: Record) -> str:
    """The data set's name; noise in its pool makes it another one."""
    planted = set(record.data["dataset"].get("kinds") or ()) - {CLEAN}
    return f"{record.dataset} with planted noise" if planted else record.dataset


def _title(record: Record) -> str:
    rows = record.data["dataset"]["rows"]
    told = ", ".join(f"{name} {rows[name]:,}" for name in ("pool", "target", "test") if name in rows)
    return f"{_dataset(record)} ({told}), {record.model}"


def _section(records: Sequence[Record], title: str, ratio_of: Mapping[str, _Ratios]) -> Section:
    apart = [part for group in grouped(records, _row_identity) for part in _repeats_apart(group)]
    apart.sort(key=lambda group: _place(group[0]))
    # Told apart within one budget: the budget has a column of its own.
    firsts = [group[0] for group in apart]
    named = names_of(firsts, _row_identity, lambda record: f"{_budget(record)} {_called(record)}")
    labels = [name.split(" ", 1)[1] for name in named]
    first = records[0]
    return Section(
        dataset=_dataset(first),
        model=first.model,
        title=title,
        pool=int(first.data["budget"]["pool"]),
        test=int(first.data["dataset"]["rows"].get("test", 0)),
        metrics=tuple(dict.fromkeys(name for record in records for name in record.metrics)),
        rows=tuple(_row(group, called, ratio_of) for group, called in zip(apart, labels, strict=True)),
    )


def _place(record: Record) -> tuple[int, int, bool, str]:
    ends = {"zero_shot": 0, "full": 2}
    return ends.get(record.selector, 1), record.rows, record.selector != "random", record.label


def _result(record: Record) -> str:
    return str(record.data["artefacts"]["evaluation"] or record.run)


def _evaluations(group: Iterable[Record]) -> list[Record]:
    return list({_result(record): record for record in group}.values())


def _repeats_apart(group: list[Record]) -> list[list[Record]]:
    """The group; where one seed has two results, the runs of each result apart, none left out."""
    # Two results for one seed differ in something that a record does not tell: no average is right.
    of_seeds = {(record.seed, _result(record)) for record in group}
    return [group] if len({seed for seed, _ in of_seeds}) == len(of_seeds) else grouped(group, _result)


def _row(group: Sequence[Record], called: str, ratio_of: Mapping[str, _Ratios]) -> Row:
    different = _evaluations(group)
    names = dict.fromkeys(name for record in different for name in record.metrics)
    every = [ratio_of[record.run] for record in group]
    seconds = [0.0 if r.selector in CHOOSES_NOTHING else r.spent("selection", "seconds") for r in group]
    tokens = [0 if record.training is None else int(record.training["tokens"]) for record in group]
    return Row(
        label=called,
        budget=_budget(group[0]),
        seeds=len(different),
        scores={name: _score(found) for name in names if (found := _known(different, name))},
        selection_seconds=sum(seconds) / len(seconds),
        tuning_seconds=sum(record.spent("training", "seconds") for record in group) / len(group),
        ratio=Ratio(
            seconds=_mean([each.selection.seconds for each in every]),
            flop=_mean([each.selection.flop for each in every]),
            estimated=any(each.selection.estimated for each in every),
        ),
        tuning_ratio=_mean([each.tuning for each in every]),
        tuned_tokens=round(sum(tokens) / len(tokens)),
        response_length=_mean([_response_length(record) for record in group]),
        runs=tuple(record.run for record in group),
        name=_called(group[0]),
        training=_training(group[0]),
    )


def _training(record: Record) -> str:
    """`LoraSFT(r=8, ..., learning_rate=0.0001)`, the rate being the one that was taken."""
    if record.training is None:
        return ""
    settings = {**record.training["identity"], "learning_rate": record.training["learning_rate"]}
    called = str(settings.pop("class")).rpartition(".")[2]
    return f"{called}({', '.join(f'{name}={value}' for name, value in settings.items())})"


def _response_length(record: Record) -> float | None:
    chosen = len(record.data["selection"]["ids"])
    return record.data["selection"]["response_tokens"] / chosen if chosen else None


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _known(records: Iterable[Record], name: str) -> list[Mapping[str, Any]]:
    """The metric in the records that have it; a further task's may be without a value."""
    found = [record.metrics[name] for record in records if name in record.metrics]
    return [metric for metric in found if metric["value"] is not None]


def _score(metrics: Sequence[Mapping[str, Any]]) -> Score:
    count = len(metrics)
    n = int(metrics[0]["n"])
    if count == 1:
        error = metrics[0]["stderr"]
        return Score(float(metrics[0]["value"]), None if error is None else float(error), n, seeds=1)
    values = [float(metric["value"]) for metric in metrics]
    mean = sum(values) / count
    variance = sum((value - mean) ** 2 for value in values) / (count - 1)
    return Score(mean, math.sqrt(variance / count), n, seeds=count)
