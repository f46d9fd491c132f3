"""What becomes a W&B run: a record, and the table of all runs; where it goes, and what is there already."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from dwbench.component import key_of
from dwbench.records import Record
from dwbench.report.str_ratio import Ratio
from dwbench.tracking import run_data

if TYPE_CHECKING:
    import wandb

Mode = Literal["auto", "offline", "online"]

TABLE = "runs"
"""The name of the table of all runs, in the one W&B run `TABLE_RUN`."""
TABLE_RUN = "dwbench-runs"


@dataclass(frozen=True)
class Target:
    """Where runs go, and what is there already."""

    project: str
    entity: str | None
    folder: Path
    marks: Path

    def marker(self, mark: str, mode: str) -> Path:
        """The file that says that something was published in `mode`."""
        return self.marks / f"{mark}-{self._key}-{mode}.json"

    def told(self, mark: str, mode: str) -> dict[str, Any] | None:
        """What the marker says; None where there is none."""
        marker = self.marker(mark, mode)
        return dict(json.loads(marker.read_text(encoding="utf-8"))) if marker.exists() else None

    def has(self, mark: str, content: str, mode: Mode) -> bool:
        """Whether that content needs no publishing any more."""
        # What is online needs no offline copy. What is offline is uploaded only when asked: else every
        # run on a machine without network would wait for it again.
        enough = ("online",) if mode == "online" else ("online", "offline")
        found = [self.told(mark, one) for one in enough]
        return any(told is not None and told.get("content", content) == content for told in found)

    def similar(self, start: str) -> bool:
        """Whether anything whose mark begins so was published here."""
        return any(self.marks.glob(f"{start}-*-{self._key}-*.json"))

    @property
    def _key(self) -> str:
        return key_of([self.entity, self.project])[:8]


class About(NamedTuple):
    """What a W&B run is called and grouped by."""

    name: str
    group: str | None
    job_type: str
    tags: list[str]
    config: dict[str, Any]


class Entry(Protocol):
    """Something that becomes one W&B run.

    Attributes:
        mark: begins the names of its markers; `content`: a key of what it holds.
        what: its name for a person.
        resume: what `wandb.init` shall do where the run is there already.
    """

    mark: str
    content: str
    what: str
    resume: Literal["allow"] | None

    def run_id(self, target: Target) -> str: ...
    def about(self) -> About: ...
    def fill(self, run: "wandb.Run", target: Target) -> None: ...
    def supersede(self, target: Target, folder: Path) -> None:
        """Take away what this run, now written into `folder`, takes the place of."""


def mark(record: Record) -> str:
    """What its markers begin with."""
    return f"{record.run}-{record.content_key}"


class OfRecord:
    """A record's run."""

    resume: Literal["allow"] | None = None

    def __init__(self, record: Record, ratio: Ratio, log_loss: bool) -> None:
        self._record = record
        self._ratio = ratio
        self._log_loss = log_loss
        self.mark = mark(record)
        self.content = record.content_key
        self.what = str(record.path)

    def run_id(self, target: Target) -> str:
        """The run's key; suffixed where another record of that run is there: nothing is overwritten."""
        for mode in ("online", "offline"):
            told = target.told(self.mark, mode)
            if told is not None:
                return str(told["id"])
        changed = target.similar(self._record.run)
        return f"{self._record.run}-{self._record.content_key[:8]}" if changed else self._record.run

    def about(self) -> About:
        record = self._record
        config = run_data.run_config(record)
        tags = [str(config[name])[:64] for name in ("dataset", "model", "selector")]
        return About(run_data.run_name(record), record.experiment, config["selector"], tags, config)

    def fill(self, run: "wandb.Run", target: Target) -> None:
        import wandb

        if self._log_loss:
            for step, loss in run_data.losses(self._record):
                run.log({run_data.LOSS: loss}, step=step)
        run.summary.update({**run_data.run_summary(self._record, self._ratio), **run_data.stage_costs(self._record)})
        # A file of ours and `immutable`: wandb uploads it from here and leaves no copy elsewhere.
        path = target.folder / "selections" / f"{run.id}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(run_data.chosen_rows(self._record)), encoding="utf-8")
        artifact = wandb.Artifact(f"selection-{run.id}", type="selection")
        artifact.add_file(str(path), name="selection.json", policy="immutable", skip_cache=True)
        run.log_artifact(artifact)

    def supersede(self, target: Target, folder: Path) -> None:
        return


class OfTable:
    """The run with the table of all runs."""

    mark = "table"
    what = "the table of all runs"
    resume: Literal["allow"] | None = "allow"

    def __init__(self, rows: list[list[Any]]) -> None:
        self._rows = rows
        self.content = key_of([run_data.TABLE_COLUMNS, rows])

    def run_id(self, target: Target) -> str:
        return TABLE_RUN

    def about(self) -> About:
        return About("all runs", None, "summary", ["summary"], {})

    def fill(self, run: "wandb.Run", target: Target) -> None:
        import wandb

        run.log({TABLE: wandb.Table(columns=list(run_data.TABLE_COLUMNS), data=self._rows)})
        run.summary.update({"rows": len(self._rows)})

    def supersede(self, target: Target, folder: Path) -> None:
        """An older table that lies offline and was not uploaded yet."""
        told = target.told(self.mark, "offline")
        older = folder if told is None else Path(told["folder"])
        if older != folder and not list(older.glob("*.wandb.synced")):
            shutil.rmtree(older, ignore_errors=True)
        target.marker(self.mark, "offline").unlink(missing_ok=True)


@contextmanager
def wandb_environment(folder: Path) -> Iterator[None]:
    """Keep wandb from writing into the home folder, from reporting errors home, and from speaking; only by variables
    can it be."""
    folder.mkdir(parents=True, exist_ok=True)
    ours = {
        "WANDB_CACHE_DIR": str(folder / "cache"),
        "WANDB_DATA_DIR": str(folder / "data"),
        "WANDB_ERROR_REPORTING": "false",
        "WANDB_SILENT": "true",
    }
    before = {name: os.environ.get(name) for name in ours}
    os.environ.update(ours)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
