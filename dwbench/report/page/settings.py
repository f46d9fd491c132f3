"""Which runs may stand in one plot: one pool, model, training, evaluation and environment."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dwbench.component import canonical_json
from dwbench.records import Record, flat
from dwbench.report.labels import told_apart
from dwbench.report.str_ratio import Ratio, ratios
from dwbench.report.table import Section, differing_environments, table


@dataclass(frozen=True)
class Setting:
    """Runs that may be compared.

    Attributes:
        title: data set, sizes and model; where that is not enough, what tells it from the others.
        section: their rows of a table: one for each selector and budget.
        records: the runs.
        evaluated: whether they were tuned and evaluated; else they ended with the selection.
        mixed: what differs between the environments of their stages (empty: nothing).
        ratios: STR of each run, by the timings that also serve `section`.
    """

    title: str
    section: Section
    records: tuple[Record, ...]
    evaluated: bool
    mixed: str
    ratios: Mapping[str, Ratio]


def settings(records: Sequence[Record], *, allow_mixed: bool = False) -> list[Setting]:
    """The sections of the records' table, each parted by training, evaluation and, unless `allow_mixed`, by library
    versions and hardware of the evaluation.

    Runs without tuning (`zero_shot`) belong to every part of their section with their evaluation and environment.
    """
    by_run = {record.run: record for record in records}
    once = list(by_run.values())
    if not once:
        return []
    found: list[Setting] = []
    for section in table(once, allow_mixed=True).sections:
        members = [by_run[run] for row in section.rows for run in row.runs]
        parts = _parts(members, allow_mixed)
        firsts = [max(part, key=lambda record: record.training is not None) for part in parts]
        titles = told_apart(
            [section.title if _evaluated(first) else f"{section.title}, chosen only" for first in firsts],
            [_footing(first, allow_mixed) for first in firsts],
            [first.run for first in firsts],
        )
        found += [_setting(part, title, once) for part, title in zip(parts, titles, strict=True)]
    return found


def _setting(records: Sequence[Record], title: str, reference: Sequence[Record]) -> Setting:
    (section,) = table(records, reference=reference, allow_mixed=True).sections
    return Setting(
        title=title,
        section=section,
        records=tuple(records),
        evaluated=_evaluated(records[0]),
        mixed=differing_environments(records),
        ratios=_ratios(records, reference),
    )


def _ratios(records: Sequence[Record], reference: Sequence[Record]) -> dict[str, Ratio]:
    # As in `table`: those of `reference` that were tuned with the same library versions serve too.
    shown = {record.run for record in records}
    versions = {_tuned_with(record) for record in records}
    others = [record for record in reference if record.run not in shown and _tuned_with(record) in versions]
    found = ratios([*records, *others])
    return {record.run: ratio for record, ratio in zip(records, found, strict=False)}


def _tuned_with(record: Record) -> str:
    return canonical_json(record.environment_of("training", "packages."))


def _parts(records: Sequence[Record], allow_mixed: bool) -> list[list[Record]]:
    parts: dict[str, list[Record]] = {}
    untuned: dict[str, list[Record]] = {}
    for record in records:
        footing = _footing(record, allow_mixed)
        if record.training is not None:
            parts.setdefault(canonical_json(footing), []).append(record)
        else:
            untuned.setdefault(canonical_json({**footing, "training": None}), []).append(record)
    for key, group in untuned.items():
        hosts = [part for part in parts.values() if _beside(part[0], allow_mixed) == key]
        for host in hosts:
            host += group
        if not hosts:
            parts[key] = group
    return list(parts.values())


def _beside(record: Record, allow_mixed: bool) -> str:
    """What an untuned run must have in common with a tuned one to be compared with it."""
    return canonical_json({**_footing(record, allow_mixed), "training": None})


def _footing(record: Record, allow_mixed: bool) -> dict[str, Any]:
    """What two runs on one pool and model must share, so that only selection, budget and seed differ."""
    training, evaluation = record.training, record.data["evaluation"]
    return {
        "evaluation": evaluation if _evaluated(record) else None,
        "training": None if training is None else {"version": training["version"], **training["identity"]},
        "environment": {} if allow_mixed else _environment(record),
    }


def _environment(record: Record) -> dict[str, Any]:
    counts = ("packages.", "hardware.", "python")
    return {name: value for name, value in flat(record.environment).items() if name.startswith(counts)}


def _evaluated(record: Record) -> bool:
    return record.data["artefacts"]["evaluation"] is not None
