"""Records: the one small JSON file that a finished run leaves, `results/<experiment>/<name>.json`.

Every table, plot and dashboard is made of records and of nothing else. Below `results/failed/` lie errors.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dwbench.component import key_of
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
    "selector.name",
    "selector.label",
    "selector.identity",
    "budget.asked",
    "budget.rows",
    "budget.pool",
    "seed",
    "selection.ids",
    "training",
    "full_tuning.tokens",
    "full_tuning.flop",
    "metrics",
    "cost.selection.total",
    "cost.training.total",
    "cost.evaluation.total",
    "environment.packages",
    "environment.python",
    "environment.hardware",
    "artefacts.evaluation",
)

# They say where and by which command a run was made, not what came out.
NOT_CONTENT = ("environment", "command")


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
    def environment(self) -> Mapping[str, Any]:
        """Versions, hardware and commit."""
        environment: Mapping[str, Any] = self.data["environment"]
        return environment

    def spent(self, what: str, unit: str) -> float:
        """The total of `what` (selection, training or evaluation) in `unit`, a field of `Cost`."""
        return float(self.data["cost"][what]["total"][unit])

    @property
    def content_key(self) -> str:
        """A key of what the record says about the run: not of where and by which command it was made."""
        return key_of(_content(self.data))


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
    return data


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


def load_records(folder: Path) -> list[Record]:
    """All records below `folder`, in the order of their paths; `failed/` is left out.

    Raises UserError where there is no such folder, or a file in it is not a record.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder of results; `dwbench run` makes one")
    paths = sorted(path for path in folder.rglob("*.json") if path.relative_to(folder).parts[0] != "failed")
    return [load_record(path) for path in paths]


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
