"""Records: the one small JSON file that a finished run leaves, `results/<experiment>/<name>.json`.

Every table, plot and dashboard is made of records and of nothing else. Below `results/failed/` lie errors.
"""

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dwbench.component import canonical_json, key_of
from dwbench.errors import UserError

SCHEMA = 1

# What tables, reports and W&B read; a dot goes one level down.
REQUIRED = (
    "run",
    "experiment",
    "dataset.name",
    "dataset.fingerprints.pool",
    "dataset.rows",
    "dataset.task",
    "model.name",
    "model.identity",
    "scorer",
    "embedder",
    "selector.name",
    "selector.label",
    "selector.version",
    "selector.identity",
    "selector.needs",
    "budget.asked",
    "budget.rows",
    "budget.pool",
    "seed",
    "selection.ids",
    "training",
    "evaluation.version",
    "evaluation.split_seed",
    "evaluation.identity",
    "full_tuning.tokens",
    "full_tuning.flop",
    "metrics",
    "cost.selection.total",
    "cost.training.total",
    "cost.evaluation.total",
    "environment.packages",
    "environment.python",
    "environment.hardware",
    "artefacts.selection",
    "artefacts.training",
    "artefacts.evaluation",
)

# They say where and by which command a run was made (paths, tracker and launcher among it), not what came out; what
# determines the result is also in the record's identities.
NOT_CONTENT = ("environment", "environments_differ", "config", "command")

# They describe what the other fields determine, and were not always written: what is published stays published.
BESIDE = {
    "dataset": ("kinds",),
    "selection": ("kinds", "diversity", "described_by", "perplexity", "perplexity_by", "samples"),
    "selector": ("tuned_by",),
}

PARTS = ("selection", "training", "evaluation")
"""The parts of a run, each with all stages that it used."""


@dataclass(frozen=True)
class Record:
    """One record and the file it lies in. What has no accessor here is in `data`."""

    path: Path
    data: Mapping[str, Any]

    @property
    def run(self) -> str:
        """The run's key, 20 hex digits."""
        return str(self.data["run"])

    @property
    def experiment(self) -> str | None:
        """The experiment it was run for, or None."""
        name = self.data["experiment"]
        return None if name is None else str(name)

    @property
    def dataset(self) -> str:
        """The data set's name."""
        return str(self.data["dataset"]["name"])

    @property
    def model(self) -> str:
        """The tuned model's name."""
        return str(self.data["model"]["name"])

    @property
    def tuned_model(self) -> Mapping[str, Any]:
        """The tuned model's identity as in `LM.training_identity`: without the size of batches, which tuning makes its
        own of."""
        identity = self.data["model"]["identity"]
        return {name: value for name, value in identity.items() if name != "token_budget"}

    @property
    def selector(self) -> str:
        """The selector's name."""
        return str(self.data["selector"]["name"])

    @property
    def label(self) -> str:
        """The selector's name with the fields that are not at their defaults."""
        return str(self.data["selector"]["label"])

    @property
    def rows(self) -> int:
        """Rows of the budget."""
        return int(self.data["budget"]["rows"])

    @property
    def seed(self) -> int:
        """The run's seed."""
        return int(self.data["seed"])

    @property
    def training(self) -> Mapping[str, Any] | None:
        """What was tuned and how; None for `zero_shot`."""
        training: Mapping[str, Any] | None = self.data["training"]
        return training

    @property
    def metrics(self) -> Mapping[str, Mapping[str, Any]]:
        """`value`, `stderr` (or None) and `n` (test rows) of each metric."""
        metrics: Mapping[str, Mapping[str, Any]] = self.data["metrics"]
        return metrics

    @property
    def items(self) -> Mapping[str, Sequence[float]]:
        """Scores by test row of each of our metrics, in an order that all records of these rows share.

        Records of old have none.
        """
        items: Mapping[str, Sequence[float]] = self.data.get("items", {})
        return items

    @property
    def environment(self) -> Mapping[str, Any]:
        """Versions, hardware and commit of the evaluation."""
        environment: Mapping[str, Any] = self.data["environment"]
        return environment

    def environment_of(self, part: str, prefix: str = "") -> dict[str, list[Any]]:
        """Fields (`packages.torch`, `hardware.cpu`; those that start with `prefix`) and their values in all stages
        that `part` used: one where they agree."""
        here, differ = flat(self.environment), self.data.get("environments_differ", {})
        names = (name for name in {**here, **differ} if name.startswith(prefix))
        return {name: differ.get(name, {}).get(part, [here.get(name)]) for name in names}

    def spent(self, what: str, unit: str) -> float:
        """The total of `what` (selection, training or evaluation) in `unit`, a field of `Cost`."""
        return float(self.data["cost"][what]["total"][unit])

    @property
    def content_key(self) -> str:
        """A key of what the record says about the run: not of where and by which command it was made."""
        content = _content(self.data)
        for part, fields in BESIDE.items():
            content[part] = {name: value for name, value in content[part].items() if name not in fields}
        return key_of({name: value for name, value in content.items() if name != "items"})


def flat(data: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested data by names with dots."""
    found: dict[str, Any] = {}
    for name, value in data.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value
    return found


def differing(environments: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, dict[str, list[Any]]]:
    """Where the stages of one run were made in different environments: the values of each such field, by part.

    A run that finds some stages in the store may have them from another machine, or from before an upgrade.
    `environments` are those of the stages that each part used.
    """
    by_part = {part: [flat(one) for one in found] for part, found in environments.items() if found}
    every = [one for found in by_part.values() for one in found]
    differ = {}
    for name in sorted({name for one in every for name in one}):
        values = {part: {canonical_json(one.get(name)) for one in found} for part, found in by_part.items()}
        if len(set().union(*values.values())) > 1:
            differ[name] = {part: [json.loads(value) for value in sorted(texts)] for part, texts in values.items()}
    return differ


def _content(data: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in data.items() if name not in NOT_CONTENT}


def _check(path: Path, data: object) -> Mapping[str, Any]:
    if not isinstance(data, dict) or "schema" not in data:
        raise UserError(f"{path}: not a record of dwbench (no 'schema'); move it out of the results folder")
    if data["schema"] != SCHEMA:
        raise UserError(f"{path}: record schema {data['schema']}, this dwbench reads {SCHEMA}; run it again")
    for dotted in REQUIRED:
        inner: Any = data
        for name in dotted.split("."):
            if not isinstance(inner, dict) or name not in inner:
                raise UserError(f"{path}: the record lacks {dotted!r}; delete the file and run again")
            inner = inner[name]
    for what, value in _numbers(data):
        if not _finite([value]):
            raise UserError(f"{path}: {what} is {value!r}, no number; delete the file and run again")
    return data


def _finite(values: Sequence[Any]) -> bool:
    """Whether all are finite numbers; quick, as records hold thousands of scores."""
    return {type(value) for value in values} <= {int, float} and all(map(math.isfinite, values))


def _numbers(data: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    """Name and value of what must be a number."""
    for part in PARTS:
        total = data["cost"][part]["total"]
        for unit in ("seconds", "flop"):
            yield f"cost.{part}.total.{unit}", total.get(unit) if isinstance(total, Mapping) else None
    for name, metric in data["metrics"].items():
        known = metric if isinstance(metric, Mapping) else {}
        yield f"metrics.{name}.n", known.get("n")
        for field in ("value", "stderr"):
            if known.get(field, "missing") is not None:  # null: not known
                yield f"metrics.{name}.{field}", known.get(field)
    items = data.get("items", {})
    if not isinstance(items, Mapping):
        yield "items", items
        return
    for name, scores in items.items():
        if not isinstance(scores, list):
            yield f"items.{name}", scores
        elif not _finite(scores):
            yield from ((f"items.{name}[{row}]", score) for row, score in enumerate(scores))


def load_record(path: Path) -> Record:
    """Read one record. Raises UserError naming the file: no JSON, another schema, incomplete."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        told = f"{path}:{error.lineno}: not JSON ({error.msg}); delete the file and run again"
        raise UserError(told) from error
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: can't be read: {error}") from error
    return Record(path=path, data=_check(path, data))


def load_records(folder: Path, tell: Callable[[str], None] | None = None) -> list[Record]:
    """All records below `folder`, in the order of their paths; `failed/` is left out.

    Raises UserError where there is no such folder, or a file in it is not a record; with `tell`, such a file is only
    told of.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder of results; `dwbench run` makes one")
    paths = sorted(path for path in folder.rglob("*.json") if path.relative_to(folder).parts[0] != "failed")
    records = []
    for path in paths:
        try:
            records.append(load_record(path))
        except UserError as error:
            if tell is None:
                raise
            tell(f"left out: {error}")
    return records


def record_path(results: Path, experiment: str | None, data: Mapping[str, Any]) -> Path:
    """Where the record of a run lies: named for people, and by its key, so that no two runs share a file.

    Runs outside of any experiment lie in `runs/`.
    """
    parts = (
        data["dataset"]["name"],
        data["model"]["name"],
        data["selector"]["label"],
        data["budget"]["asked"],
        f"s{data['seed']}",
    )
    readable = re.sub(r"[^A-Za-z0-9_.%=,-]+", "_", "-".join(map(str, parts)))[:120]
    return results / (experiment or "runs") / f"{readable}-{data['run'][:8]}.json"


def write_record(path: Path, data: Mapping[str, Any]) -> bool:
    """Write a record; True if the file changed.

    A file that says the same about the run is left untouched, so that repeating a finished run on another
    machine or commit does not change committed results.
    """
    from dwbench.store import write_json

    plain = json.loads(json.dumps(data, allow_nan=False))
    if path.exists():
        try:
            old = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            old = None  # broken by hand or by a merge: what was just computed is better
        if isinstance(old, dict) and _content(old) == _content(plain):
            return False
    write_json(path, plain)
    return True
