"""All that the page knows, as plain data: the settings with their rows and sentences, and every run's details."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from dwbench.records import Record
from dwbench.report.formats import ESTIMATED, arrow
from dwbench.report.leaderboard_view import NOTES
from dwbench.report.page.ablations import commands, grids, layers
from dwbench.report.page.chosen import agreement, chosen, diversity_words
from dwbench.report.page.published_points import points
from dwbench.report.page.rows import NEXT_TO_NOTHING, fronts, rows
from dwbench.report.page.runs import Shared, runs
from dwbench.report.page.settings import Setting, settings
from dwbench.report.page.summary import (
    agreement_sentence,
    board,
    boards_of,
    chosen_sentence,
    costs_sentence,
    said,
)
from dwbench.report.plots.quality import headline
from dwbench.report.published import Published


def payload(
    records: Sequence[Record],
    numbers: Sequence[Published],
    *,
    failed: Sequence[Mapping[str, str]] = (),
    allow_mixed: bool = False,
) -> dict[str, Any]:
    """The page's data; a run that is in several experiments counts once.

    `numbers` are what papers give, `failed` is what is known of runs that have no record.
    """
    once = [_known(record) for record in {record.run: record for record in records}.values()]
    experiments: dict[str, list[str]] = {}
    for record in records:
        named = experiments.setdefault(record.run, [])
        if record.experiment and record.experiment not in named:
            named.append(record.experiment)
    shared = Shared()
    found = settings(once, allow_mixed=allow_mixed)
    told = runs(found, experiments, shared)
    with_texts = {record.run for record in once if record.data["selection"].get("samples")}
    return {
        "settings": [_setting(one, numbers) for one in found],
        "runs": told,
        "shared": shared.values,
        "failed": [dict(one) for one in failed],
        "samples_left_out": sum(one["samples"] is None for run, one in told.items() if run in with_texts),
        "words": {
            "estimated": ESTIMATED,
            "leaderboard": list(NOTES),
            "diversity": diversity_words(),
            "floor": NEXT_TO_NOTHING,
        },
    }


def _known(record: Record) -> Record:
    """The record; a value or standard error that is not finite counts as not known, as null does."""
    numbers = [metric[name] for metric in record.metrics.values() for name in ("value", "stderr")]
    if all(number is None or math.isfinite(number) for number in numbers):
        return record
    metrics = {
        name: {field: None if isinstance(one, float) and not math.isfinite(one) else one for field, one in told.items()}
        for name, told in record.metrics.items()
    }
    return Record(record.path, {**record.data, "metrics": metrics})


def _setting(setting: Setting, numbers: Sequence[Published]) -> dict[str, Any]:
    section = setting.section
    made = rows(setting)
    known = [name for name in section.metrics if any(name in row["scores"] for row in made)]
    directed = [name for name in known if arrow(name)]
    boards = boards_of(setting)
    by_metric = {name: fronts(made, name) for name in directed}
    choices = chosen(setting, made)
    return {
        "title": setting.title,
        "dataset": section.dataset,
        "model": section.model,
        "pool": section.pool,
        "evaluated": setting.evaluated,
        "mixed": setting.mixed,
        "metrics": [[name, arrow(name)] for name in known],
        "headline": _headline(made, directed) or (known[0] if known else None),
        "rows": made,
        "fronts": by_metric,
        "boards": [board(one, made) for one in boards],
        "published": points(setting, numbers),
        "grids": grids(setting, made),
        "layers": layers(setting, made),
        "commands": commands(setting),
        "agreement": [{**one, "said": agreement_sentence(one)} for one in agreement(setting)],
        "chosen": choices,
        "said": {
            "metrics": said(setting, made, boards, by_metric),
            "costs": costs_sentence(made),
            "chosen": chosen_sentence(made, choices),
        },
    }


def _headline(made: Sequence[dict[str, Any]], metrics: Sequence[str]) -> str | None:
    """The metric that is shown first: among those in which selectors differ at all, if there are any."""
    differ = [name for name in metrics if len({row["scores"][name][0] for row in made if name in row["scores"]}) > 1]
    return headline(differ or metrics)
