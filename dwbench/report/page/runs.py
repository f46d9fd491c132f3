"""What the page tells of each run. Values that many runs share are told once and referred to by number."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from dwbench.component import canonical_json
from dwbench.records import PARTS, Record
from dwbench.report.formats import one_score
from dwbench.report.labels import label
from dwbench.report.page.rows import digits, rounded
from dwbench.report.page.settings import Setting
from dwbench.report.str_ratio import CHOOSES_NOTHING
from dwbench.report.table import Score

TEXTS_AT_MOST = 1_500_000
"""Bytes of sample rows on a page; those of further runs are left out. 1,000 runs then stay below 6 MB."""

MISSING = "–"


class Shared:
    """Values and their numbers: a page of 1,000 runs says each configuration, machine and text once."""

    def __init__(self) -> None:
        self.values: list[Any] = []
        self._numbers: dict[str, int] = {}

    def number(self, value: Any) -> int:
        told = finite(value)
        key = canonical_json(told)
        if key not in self._numbers:
            self._numbers[key] = len(self.values)
            self.values.append(told)
        return self._numbers[key]


def runs(
    settings: Sequence[Setting], experiments: Mapping[str, Sequence[str]], shared: Shared
) -> dict[str, dict[str, Any]]:
    """Details of each run by its key. `experiments` by run: a run may belong to several."""
    fitting = with_samples([record for setting in settings for record in setting.records])
    found: dict[str, dict[str, Any]] = {}
    for setting in settings:
        signs = digits(setting)
        for record in setting.records:
            if record.run not in found:  # `zero_shot` may stand in several settings
                told = _run(record, setting, signs, shared)
                chosen = record.data["selection"].get("samples")
                samples = _samples(chosen, shared) if record.run in fitting else None
                more = {"experiments": list(experiments.get(record.run, ())), "samples": samples}
                found[record.run] = finite({**told, **more})
    return found


def with_samples(records: Sequence[Record], most: int = TEXTS_AT_MOST) -> set[str]:
    """Runs whose sample rows the page has room for: `most` bytes, every text counted once, the lowest seeds first."""
    found: set[str] = set()
    known: set[str] = set()
    size = 0
    for record in sorted(records, key=lambda one: one.seed):
        samples = record.data["selection"].get("samples") or ()
        new = {sample[name] for sample in samples for name in ("input", "response")} - known
        more = sum(len(json.dumps(text, ensure_ascii=False).encode("utf-8", "surrogatepass")) for text in new)
        if samples and size + more <= most:
            found.add(record.run)
            known |= new
            size += more
    return found


def _run(record: Record, setting: Setting, signs: Mapping[str, int], shared: Shared) -> dict[str, Any]:
    data, chosen = record.data, record.data["selection"]
    environment, ratio = record.environment, setting.ratios[record.run]
    # As in tables: who chooses nothing is charged nothing for it.
    charged = [part for part in PARTS if part != "selection" or record.selector not in CHOOSES_NOTHING]
    return {
        "label": label(record),
        "selector": record.selector,
        "dataset": record.dataset,
        "model": record.model,
        "scorer": data["scorer"]["name"] if data["scorer"] else None,
        "embedder": data["embedder"]["name"] if data["embedder"] else None,
        "rows": record.rows,
        "pool": data["budget"]["pool"],
        "asked": data["budget"]["asked"],
        "seed": record.seed,
        "file": f"{record.path.parent.name}/{record.path.name}",
        "command": data.get("command"),
        "commit": environment.get("commit"),
        "dirty": environment.get("dirty"),
        "metrics": {
            name: [rounded(metric["value"]), rounded(metric["stderr"]), metric["n"], _written(metric, signs[name])]
            for name, metric in record.metrics.items()
        },
        "str": [rounded(ratio.seconds), rounded(ratio.flop), ratio.estimated],
        "seconds": [rounded(record.spent(part, "seconds")) if part in charged else 0 for part in PARTS],
        "stages": [row for part in charged for row in _stages(part, data["cost"][part])],
        "peak": [data["cost"][part]["total"].get("peak_bytes") for part in PARTS],
        "tokens": chosen.get("tokens"),
        "response_tokens": chosen.get("response_tokens"),
        "ties": chosen.get("ties_at_cut"),
        "invalid": chosen.get("invalid") or {},
        "notes": chosen.get("notes") or {},
        "training": _training(record),
        "settings": {name: shared.number(value) for name, value in (data.get("config") or {}).items()},
        "identity": shared.number(data["selector"]["identity"]),
        "hardware": shared.number(environment["hardware"]),
        "packages": shared.number({"python": environment["python"], **environment["packages"]}),
        "differs": data.get("environments_differ") or {},
        "notes_on_data": shared.number(data["dataset"].get("notes") or []),
    }


def _written(metric: Mapping[str, Any], decimals: int) -> str:
    if metric["value"] is None:
        return MISSING
    return one_score(Score(metric["value"], metric["stderr"], metric["n"], seeds=1), decimals)


def finite(value: Any) -> Any:
    """Plain data with None for numbers that JSON does not have."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {name: finite(one) for name, one in value.items()}
    return [finite(one) for one in value] if isinstance(value, list | tuple) else value


def _stages(part: str, cost: Mapping[str, Any]) -> list[list[Any]]:
    """Part, kind of stage, how many, seconds, FLOP, tokens forward, backward and generated."""
    units = ("seconds", "flop", "forward_tokens", "backward_tokens", "generated_tokens")
    kinds: dict[str, list[Mapping[str, Any]]] = {}
    for ref, one in cost.get("stages", {}).items():
        kinds.setdefault(ref.split("/")[0], []).append(one)
    return [
        [part, kind, len(many), *(rounded(sum(one.get(unit, 0) for one in many)) for unit in units)]
        for kind, many in kinds.items()
    ]


def _training(record: Record) -> dict[str, Any] | None:
    told = record.training
    if told is None:
        return None
    losses = told.get("loss") or []
    ends = {"first_loss": rounded(losses[0][1]), "last_loss": rounded(losses[-1][1])} if losses else {}
    names = ("rows", "epochs", "steps", "tokens", "supervised_tokens", "learning_rate")
    return {**{name: told[name] for name in names if name in told}, **ends}


def _samples(samples: Sequence[Mapping[str, Any]] | None, shared: Shared) -> list[list[Any]] | None:
    """Id, numbers of input and response, score, place, chosen; None where the record is from before there were any."""
    if samples is None:
        return None
    return [
        [
            one["id"],
            shared.number(one["input"]),
            shared.number(one["response"]),
            rounded(one["score"]),
            one["place"],
            one["chosen"],
        ]
        for one in samples
    ]
