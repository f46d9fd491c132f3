"""What the page tells of each run. Values that many runs share are told once and referred to by number."""

from collections.abc import Mapping, Sequence
from typing import Any

from dwbench.component import canonical_json
from dwbench.records import PARTS, Record
from dwbench.report.labels import label
from dwbench.report.page.rows import rounded
from dwbench.report.str_ratio import Ratio, ratios


class Shared:
    """Values and their numbers: a page of 1,000 runs says each configuration, machine and text once."""

    def __init__(self) -> None:
        self.values: list[Any] = []
        self._numbers: dict[str, int] = {}

    def number(self, value: Any) -> int:
        key = canonical_json(value)
        if key not in self._numbers:
            self._numbers[key] = len(self.values)
            self.values.append(value)
        return self._numbers[key]


def runs(records: Sequence[Record], shared: Shared) -> dict[str, dict[str, Any]]:
    """Details of each run by its key."""
    found = zip(records, ratios(records), strict=True)
    return {record.run: _run(record, ratio, shared) for record, ratio in found}


def _run(record: Record, ratio: Ratio, shared: Shared) -> dict[str, Any]:
    data, chosen = record.data, record.data["selection"]
    environment = record.environment
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
        "experiment": record.experiment,
        "file": f"{record.path.parent.name}/{record.path.name}",
        "command": data.get("command"),
        "commit": environment.get("commit"),
        "dirty": environment.get("dirty"),
        "metrics": {
            name: [rounded(metric["value"]), rounded(metric["stderr"]), metric["n"]]
            for name, metric in record.metrics.items()
        },
        "str": [rounded(ratio.seconds), rounded(ratio.flop), ratio.estimated],
        "seconds": [rounded(record.spent(part, "seconds")) for part in PARTS],
        "stages": [row for part in PARTS for row in _stages(part, data["cost"][part])],
        "peak": [data["cost"][part]["total"].get("peak_bytes") for part in PARTS],
        "tokens": chosen.get("tokens"),
        "response_tokens": chosen.get("response_tokens"),
        "ties": chosen.get("ties_at_cut"),
        "invalid": chosen.get("invalid") or {},
        "notes": chosen.get("notes") or {},
        "samples": _samples(chosen.get("samples"), shared),
        "training": _training(record),
        "settings": {name: shared.number(value) for name, value in (data.get("config") or {}).items()},
        "identity": shared.number(data["selector"]["identity"]),
        "hardware": shared.number(environment["hardware"]),
        "packages": shared.number({"python": environment["python"], **environment["packages"]}),
        "differs": data.get("environments_differ") or {},
        "notes_on_data": shared.number(data["dataset"].get("notes") or []),
    }


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
