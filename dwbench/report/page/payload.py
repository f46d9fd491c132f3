"""All that the page knows, as plain data: the settings with their rows and sentences, and every run's details."""

from collections.abc import Sequence
from typing import Any

from dwbench.records import Record
from dwbench.report.formats import ESTIMATED, arrow
from dwbench.report.leaderboard import NOTES
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


def payload(records: Sequence[Record], numbers: Sequence[Published], *, allow_mixed: bool = False) -> dict[str, Any]:
    """The page's data. `numbers` are what papers give; a run that is in several experiments counts once."""
    once = list({record.run: record for record in records}.values())
    shared = Shared()
    told = runs(once, shared)
    found = settings(once, allow_mixed=allow_mixed)
    return {
        "settings": [_setting(one, numbers) for one in found],
        "runs": told,
        "shared": shared.values,
        "words": {
            "estimated": ESTIMATED,
            "leaderboard": list(NOTES),
            "diversity": diversity_words(),
            "floor": NEXT_TO_NOTHING,
        },
    }


def _setting(setting: Setting, numbers: Sequence[Published]) -> dict[str, Any]:
    section = setting.section
    made = rows(setting)
    known = [name for name in section.metrics if any(name in row["scores"] for row in made)]
    directed = [name for name in known if arrow(name)]
    boards = boards_of(setting)
    by_metric = {name: fronts(made, name) for name in directed}
    choices, alike = chosen(setting, made), agreement(setting)
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
        "agreement": alike,
        "chosen": choices,
        "said": {
            "metrics": said(setting, made, boards, by_metric),
            "costs": costs_sentence(made),
            "agreement": agreement_sentence(alike),
            "chosen": chosen_sentence(made, choices),
        },
    }


def _headline(made: Sequence[dict[str, Any]], metrics: Sequence[str]) -> str | None:
    """The metric that is shown first: among those in which selectors differ at all, if there are any."""
    differ = [name for name in metrics if len({row["scores"][name][0] for row in made if name in row["scores"]}) > 1]
    return headline(differ or metrics)
