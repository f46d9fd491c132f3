"""Data Whisperer's own settings: demonstrations and queries a prompt, and the attention layer."""

from collections.abc import Mapping, Sequence
from typing import Any

from dwbench.component import canonical_json
from dwbench.report.page.settings import Setting

METHOD = "data_whisperer"
GRID = ("n_d", "n_q")
LAYER = "layer"


def grids(setting: Setting, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """For each budget and remaining settings under which n_d or n_q varies: `[n_d, n_q, row]` of each run."""
    return _varied(setting, rows, GRID)


def layers(setting: Setting, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """For each budget and remaining settings under which the layer varies: `[layer, row]`; layer None: the method's own
    choice for the model."""
    return _varied(setting, rows, (LAYER,))


def commands(setting: Setting) -> dict[str, str]:
    """The commands whose records these plots are made of."""
    base = f"dwbench run -m dataset={setting.records[0].dataset} model={setting.section.model} selector={METHOD}"
    return {
        "grid": f"{base} selector.n_d=5,10,15 selector.n_q=3,5,10",
        "layer": f"{base} selector.layer=5,9,13",  # all models under conf/model have more
    }


def _varied(setting: Setting, rows: Sequence[Mapping[str, Any]], fields: Sequence[str]) -> list[dict[str, Any]]:
    by_run = {record.run: record for record in setting.records}
    groups: dict[str, list[list[Any]]] = {}
    budgets: dict[str, int | None] = {}
    for position, row in enumerate(rows):
        if row["selector"] != METHOD:
            continue
        record = by_run[row["runs"][0]]
        identity = record.data["selector"]["identity"]
        if not all(name in identity for name in fields):
            continue
        rest = {name: value for name, value in identity.items() if name not in fields}
        key = canonical_json([row["budget"], rest, record.data["scorer"]])
        budgets[key] = row["budget"]
        groups.setdefault(key, []).append([*(identity[name] for name in fields), position])
    return [
        {"budget": budgets[key], "cells": cells}
        for key, cells in groups.items()
        if len({canonical_json(cell[:-1]) for cell in cells}) > 1
    ]
