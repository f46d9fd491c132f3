"""What trackers are told of a record: a name, settings to group and filter by, and numbers. No texts, commands, paths
or host names."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from dwbench.data.planted import CLEAN
from dwbench.records import Record
from dwbench.report.labels import label
from dwbench.report.str_ratio import Ratio, ratios

LOSS = "train/loss"

_PART = r"[^\s,;()\[\]'\"/\\]*[/\\]"
FOLDERS = re.compile(rf"(?<![^\s=(\[,;'\"])(?:~[/\\]|(?:[A-Za-z]:)?[/\\]{_PART})(?:{_PART})*")
"""Of an absolute path at the beginning of a word or of a setting's value all but the last part."""

TABLE_COLUMNS = (
    "dataset", "model", "selector", "budget", "rows", "seed", "metric", "value", "stderr",
    "STR (s)", "STR (s) is estimated", "STR (FLOP)", "selection seconds", "tuning seconds", "run",
)  # fmt: skip


def run_name(record: Record) -> str:
    """`ifd 0.1 dialogsum smollm2-135m s0`: for people; two runs may share it."""
    budget = record.data["budget"]["asked"]
    name: str = without_paths(f"{record.label} {budget} {record.dataset} {record.model} s{record.seed}")
    return name


def without_paths(value: Any) -> Any:
    """Plain data; of each absolute path in its texts the last part. A selector of one's own may have a file's."""
    if isinstance(value, str):
        return FOLDERS.sub("", value)
    if isinstance(value, Mapping):
        return {name: without_paths(part) for name, part in value.items()}
    return [without_paths(part) for part in value] if isinstance(value, list | tuple) else value


def losses(record: Record) -> list[tuple[int, float]]:
    """Step and training loss; nothing where nothing was tuned."""
    return [] if record.training is None else [(int(step), float(loss)) for step, loss in record.training["loss"]]


def ratio_of(records: Sequence[Record]) -> dict[str, Ratio]:
    """STR of each run, by its key. Give it all records there are: a `full` run serves the others."""
    once = list({record.run: record for record in records}.values())
    return dict(zip((record.run for record in once), ratios(once), strict=True))


def run_config(record: Record) -> dict[str, Any]:
    """The record's settings as a flat configuration: what one groups and filters by."""
    data = record.data
    training, scorer, embedder = record.training, data["scorer"], data["embedder"]
    selector, evaluation = data["selector"], data["evaluation"]
    described, told = data["selection"].get("described_by"), data["selection"].get("perplexity_by")
    config = {
        "run": record.run,
        "experiment": record.experiment,
        "dataset": record.dataset,
        "model": record.model,
        "scorer": None if scorer is None else scorer["name"],
        "embedder": None if embedder is None else embedder["name"],
        "selector": record.selector,
        "selector_label": record.label,
        "budget": data["budget"]["asked"],
        "budget_rows": record.rows,
        "pool_rows": data["budget"]["pool"],
        "seed": record.seed,
        "select_only": data["artefacts"]["evaluation"] is None,
        "diversity": described is not None,
        "diversity_embedder": None if described is None else described["name"],
        "perplexity": told is not None,
        "perplexity_model": None if told is None else told["name"],
        **_flat("dataset", {name: data["dataset"][name] for name in ("fingerprints", "rows")}),
        **_flat("dataset/kinds", data["dataset"].get("kinds", {})),
        **_flat("dataset/written", data["dataset"].get("written", {})),
        **_flat("selector", {"version": selector["version"], **selector["identity"]}),
        **({} if training is None else _flat("train", {"version": training["version"], **training["identity"]})),
        "split_seed": evaluation["split_seed"],
        **_flat("eval", {"version": evaluation["version"], **evaluation["identity"]}),
        **_flat("environment", record.environment),
        **_flat("environments_differ", data.get("environments_differ", {})),
    }
    return {name: without_paths(value) for name, value in config.items()}


def run_summary(record: Record, ratio: Ratio) -> dict[str, Any]:
    """Metrics, STR as it is known when the run is published and what it is made of, what was chosen, and cost by part
    of the run."""
    data = record.data
    summary: dict[str, Any] = {}
    for name, metric in record.metrics.items():
        summary[f"metrics/{name}"] = metric["value"]
        summary[f"metrics/{name}_n"] = metric["n"]
        if metric["stderr"] is not None:
            summary[f"metrics/{name}_stderr"] = metric["stderr"]
    known = {"seconds": ratio.seconds, "flop": ratio.flop, "estimated": ratio.estimated}
    summary |= {f"str/{name}": value for name, value in known.items() if value is not None}
    summary |= {
        "str/selection_seconds": record.spent("selection", "seconds"),
        "str/selection_flop": record.spent("selection", "flop"),
        "str/training_seconds": record.spent("training", "seconds"),
        "str/training_tokens": 0 if record.training is None else record.training["tokens"],
        "str/full_tuning_tokens": data["full_tuning"]["tokens"],
        "str/full_tuning_flop": data["full_tuning"]["flop"],
    }
    for part, cost in data["cost"].items():
        summary |= _flat(f"cost/{part}", cost["total"])
    return summary | _chosen(data["selection"])


def chosen_rows(record: Record) -> dict[str, Any]:
    """What was chosen, by ids: without the texts of the sample rows."""
    kept = {name: value for name, value in record.data["selection"].items() if name not in ("ids", "samples")}
    return {"run": record.run, "ids": record.data["selection"]["ids"], **without_paths(kept)}


def stage_costs(record: Record) -> dict[str, Any]:
    """Cost of each stage that each part of the run used, `cost/<part>/<stage>-<key>/<what>`."""
    costs: dict[str, Any] = {}
    for part, cost in record.data["cost"].items():
        for ref, one in cost["stages"].items():
            stage, key = ref.split("/")
            costs |= _flat(f"cost/{part}/{stage}-{key[:8]}", one)
    return costs


def table_rows(records: Sequence[Record], known: Mapping[str, Ratio]) -> list[list[Any]]:
    """`TABLE_COLUMNS` of each run and metric, in an order of their own; a run without metrics (`select_only`) has one
    row too. `known` are the runs' STR."""
    rows = []
    for record in {record.run: record for record in records}.values():
        ratio = known[record.run]
        asked = str(record.data["budget"]["asked"])
        what = without_paths([record.dataset, record.model, label(record), asked, record.rows, record.seed])
        spent: list[Any] = [ratio.seconds, ratio.estimated, ratio.flop]
        spent += [record.spent("selection", "seconds"), record.spent("training", "seconds"), record.run]
        for metric in record.metrics or (None,):
            score = {} if metric is None else record.metrics[metric]
            rows.append([*what, metric, score.get("value"), score.get("stderr"), *spent])
    return sorted(rows, key=lambda row: (*row[:3], row[4], row[5], row[6] or "", row[-1]))


def _chosen(selection: Mapping[str, Any]) -> dict[str, Any]:
    """Numbers on the chosen rows; of planted noise, diversity and perplexity where the record has them."""
    kinds = selection.get("kinds", {})
    chosen = sum(kinds.values())
    numbers = ("tokens", "response_tokens", "ties_at_cut", "untrainable")
    return {
        **{f"selection/{name}": selection[name] for name in numbers if name in selection},
        "selection/invalid_in_pool": sum(selection.get("invalid", {}).values()),
        **_flat("selection/kinds", kinds),
        **({"selection/planted_share": 1 - kinds.get(CLEAN, 0) / chosen} if chosen else {}),
        **_flat("selection/diversity", selection.get("diversity", {})),
        **_flat("selection/perplexity", selection.get("perplexity", {})),
    }


def _flat(prefix: str, data: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in data.items():
        if isinstance(value, Mapping):
            flat.update(_flat(f"{prefix}/{name}", value))
        else:
            flat[f"{prefix}/{name}"] = value
    return flat
