"""Errors of runs that failed, `results/failed/<run>.json`: beside the results until the run is done."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dwbench.store import write_json


def write_failure(folder: Path, run_key: str, error: str, trace: str, settings: Mapping[str, Any]) -> Path:
    """Leave the error of a failed run beside the results, in place of what its command left before.

    `settings` are the run's `config` and `command`.
    """
    forget_failure(folder, run_key, settings["command"])
    path = folder / "failed" / f"{run_key}.json"
    write_json(path, {"run": run_key, "error": error, "traceback": trace.splitlines(), **settings})
    return path


def forget_failure(folder: Path, run_key: str, command: str) -> None:
    """Take away the errors of a run that is done, and those of its command from when it had another key or none yet."""
    for path in (folder / "failed").glob("*.json"):
        try:
            told = json.loads(path.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            continue  # another job was faster, or it was edited by hand
        if isinstance(told, dict) and (told.get("run") == run_key or told.get("command") == command):
            path.unlink(missing_ok=True)
