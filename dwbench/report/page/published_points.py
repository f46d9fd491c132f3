"""A paper's numbers as points beside ours."""

from collections.abc import Sequence
from typing import Any

from dwbench.budget import parse_budget
from dwbench.config import conf_folders
from dwbench.errors import UserError
from dwbench.report.page.settings import Setting
from dwbench.report.published import EACH_BUDGET, PER_CENT, Published, published

WITH_TUNING = "str_with_tuning"
NO_SCORES = (WITH_TUNING, "speedup", "total_seconds")


def every_published() -> list[Published]:
    """All numbers in `conf/published/`, those measured off figures last: what is printed goes before."""
    names = {path.stem for folder in conf_folders() for path in (folder / "published").glob("*.csv")}
    return [
        one for name in sorted(names, key=lambda name: (name.startswith("figure"), name)) for one in published(name)
    ]


def points(setting: Setting, numbers: Sequence[Published]) -> list[dict[str, Any]]:
    """The scores that are published of the setting's data set and model, at a single budget each.

    `value` is on our scale (a share and not per cent); `rows` is the budget in rows of our pool, None for a model that
    was not tuned; `total` is the published ratio of selecting and tuning on the chosen rows to tuning on all, where
    there is one.
    """
    mine = [one for one in numbers if (one.model, one.dataset) == (setting.section.model, setting.section.dataset)]
    totals = {(one.selector, one.budget): one.value for one in mine if one.metric == WITH_TUNING}
    found: dict[tuple[str, str, str], dict[str, Any]] = {}
    for one in mine:
        if one.metric in NO_SCORES or "+" in one.budget:
            continue
        point = {
            "selector": one.selector,
            "method": one.method,
            "metric": one.metric,
            "rows": _rows(one.budget, setting.section.pool),
            "asked": one.budget,
            "value": one.value / 100 if one.metric in PER_CENT else one.value,
            "total": _total(one, totals),
            "caveat": one.caveat,
            "source": one.source,
        }
        found.setdefault((one.selector, one.budget, one.metric), point)
    return list(found.values())


def _total(one: Published, totals: dict[tuple[str, str], float]) -> float | None:
    bounds = {"zero_shot": 0.0, "full": 1.0}
    return bounds.get(one.selector, totals.get((one.selector, one.budget)))


def _rows(budget: str, pool: int) -> float | None:
    """The budget in rows of our pool; not a whole number where ours is too small for it."""
    if budget in EACH_BUDGET[:1]:
        return None
    asked = parse_budget(budget)
    try:
        return float(asked.rows(pool))
    except UserError:
        return float(asked.share * pool) if asked.share is not None else None
