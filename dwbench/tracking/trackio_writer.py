"""The process that talks to trackio: `python trackio_writer.py` with `{"project": ..., "runs": [...]}` on standard
input, as `to_trackio` sends it. Imports nothing of dwbench. Exit code 1, with the reason as the last line on stderr,
where anything was not stored: trackio itself only warns.
"""

import contextlib
import io
import json
import sys
import warnings
from pathlib import Path
from typing import Any


def main() -> int:
    told = json.load(sys.stdin)
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for run in told["runs"]:
            _write(told["project"], run)
        missing = {run["config"]["run"] for run in told["runs"]} - set(_stored(told["project"]))
    problems = [str(warning.message) for warning in caught if _is_of_trackio(warning)]
    if missing and not problems:
        problems = [f"{len(missing)} runs are not in trackio's store"]
    for problem in problems[:1]:
        print(" ".join(problem.split()), file=sys.stderr)
    return 1 if problems else 0


def _is_of_trackio(warning: warnings.WarningMessage) -> bool:
    return issubclass(warning.category, UserWarning) and Path(warning.filename).parent.name == "trackio"


def _write(project: str, told: dict[str, Any]) -> None:
    """Store a run in place of what was stored of it: the losses by step, then all that is known at the end."""
    import trackio

    for old in _stored(project).get(told["config"]["run"], []):
        old.delete()
    run = trackio.init(
        project=project,
        name=told["name"],
        group=told["group"],
        config=told["config"],
        embed=False,
        auto_log_gpu=False,
        auto_log_cpu=False,
    )
    for step, loss in told["losses"]:
        run.log({told["loss"]: loss}, step=step)
    run.log(told["summary"], step=told["losses"][-1][0] if told["losses"] else 0)
    run.finish()


def _stored(project: str) -> dict[str, list[Any]]:
    """What is stored of each of dwbench's runs, by their keys."""
    import trackio

    try:
        runs = list(trackio.Api().runs(project))
    except ValueError:  # there is no such project yet
        return {}
    found: dict[str, list[Any]] = {}
    for run in runs:
        found.setdefault(str((run.config or {}).get("run")), []).append(run)
    return found


if __name__ == "__main__":
    sys.exit(main())
