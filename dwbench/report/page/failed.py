"""Runs that failed: a reader who misses a selector shall see why."""

import json
from pathlib import Path


def failures(results: Path) -> list[dict[str, str]]:
    """Run, error and command of each run whose error lies in `failed/` beside the records."""
    return [_failure(path) for path in sorted((results / "failed").glob("*.json"))]


def _failure(path: Path) -> dict[str, str]:
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        told = {"error": f"{path.name} can't be read: {error}"}
    known = told if isinstance(told, dict) else {}
    return {"run": path.stem, "error": str(known.get("error", "?")), "command": str(known.get("command", ""))}
