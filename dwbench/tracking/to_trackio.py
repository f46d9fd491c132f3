"""Records to trackio's local store, for a page of one's own (`trackio show`) without an account.

trackio runs in a process of its own: it is chatty, reads its settings once when it is imported, and would look for a
hub, a Space or a server in variables; it gets none of these, and HF_HUB_OFFLINE. Its store is a copy of the records: a
run whose record or STR has changed is written anew, and with its folder deleted everything is.
"""

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dwbench.component import key_of
from dwbench.errors import UserError
from dwbench.records import Record
from dwbench.report.str_ratio import Ratio
from dwbench.tracking import run_data

WRITER = Path(__file__).with_name("trackio_writer.py")

START_SECONDS, RUN_SECONDS = 120.0, 10.0
"""After so long, for starting and for each run, the other process is given up."""


@dataclass(frozen=True)
class Tracked:
    """What `track` did: runs written, trackio's folder, and one line on what went wrong, or None."""

    count_new: int
    folder: Path
    notice: str | None


def check_installed() -> None:
    """Raise UserError where trackio is missing. Imports nothing."""
    if importlib.util.find_spec("trackio") is None:
        raise UserError("tracker=trackio: its package is missing: pip install 'dwbench[trackio]'")


def folder_beside(store: Path) -> Path:
    """trackio's folder: $TRACKIO_DIR, else `trackio` beside the store."""
    return Path(os.environ.get("TRACKIO_DIR") or store.parent / "trackio")


def track(
    records: Sequence[Record], *, project: str, folder: Path, reference: Sequence[Record] = (), only_new: bool = False
) -> Tracked:
    """Write those of `records` that are not in `folder` as they are now; with `only_new` those that are not there at
    all. `reference`: other records whose tuning times serve their STR.

    No network is used. What goes wrong in trackio or on the disk ends up in `notice` and is tried again the next time.
    """
    known = run_data.ratio_of([*reference, *records])
    runs = {record.run: _run(record, known[record.run]) for record in records}
    marks = {run: folder / "dwbench" / f"{key_of(project)[:8]}-{run}" for run in runs}
    try:
        waiting = {run: told for run, told in runs.items() if not _says(marks[run], None if only_new else key_of(told))}
        if not waiting:
            return Tracked(0, folder, None)
        problem = _write(folder, {"project": project, "runs": list(waiting.values())})
        if problem is not None:
            return Tracked(0, folder, problem)
        for run, told in waiting.items():
            _mark(marks[run], key_of(told))
    except (OSError, subprocess.TimeoutExpired) as error:  # a full disk, a machine out of processes
        return Tracked(0, folder, " ".join(str(error).split())[:300])
    return Tracked(len(waiting), folder, None)


def _run(record: Record, ratio: Ratio) -> dict[str, Any]:
    """What the other process is told of a run: plain data. Of costs only what STR is made of: each number is a panel of
    the page, and dozens would stand before the metrics."""
    summary = {
        name: value
        for name, value in run_data.run_summary(record, ratio).items()
        if value is not None and not name.startswith("cost/")
    }
    return {
        "name": f"{run_data.run_name(record)} {record.run[:8]}",
        "group": record.experiment,
        "config": run_data.run_config(record),
        "loss": run_data.LOSS,
        "losses": run_data.losses(record),
        "summary": summary,
    }


def _says(mark: Path, content: str | None) -> bool:
    """Whether there is a mark with that content, or with any."""
    return mark.is_file() and content in (None, mark.read_text(encoding="utf-8", errors="replace"))


def _mark(mark: Path, content: str) -> None:
    mark.parent.mkdir(parents=True, exist_ok=True)
    mark.write_text(content, encoding="utf-8")


def _write(folder: Path, told: dict[str, Any]) -> str | None:
    """Let the other process write; one line on what went wrong, or None. Raises OSError and TimeoutExpired."""
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-P", str(WRITER)],
        input=json.dumps(told),
        env=_environment(folder),
        capture_output=True,
        text=True,
        errors="replace",  # what it says is for people
        timeout=START_SECONDS + RUN_SECONDS * len(told["runs"]),
        check=False,
    )
    if done.returncode == 0:
        return None
    said = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    return said[-1][:300] if said else f"its process ended with {done.returncode}"


def _environment(folder: Path) -> dict[str, str]:
    """Variables without any that name a place elsewhere. SQLite, as runs that have changed are taken out of it."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("TRACKIO_", "HF_TOKEN"))}
    settings = {"TRACKIO_DIR": str(folder.resolve()), "TRACKIO_STORAGE_MODE": "sqlite"}
    return {**own, **settings, "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
