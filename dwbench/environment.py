"""What the result was computed with: package versions, hardware, commit. Recorded, never part of a key."""

import functools
import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = (
    "dwbench",
    "torch",
    "transformers",
    "peft",
    "trl",
    "accelerate",
    "datasets",
    "lm_eval",
    "rouge-score",
    "hydra-core",
    "wandb",
    "numba",
    "numpy",
    "scikit-learn",
    "sentence-transformers",
)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git(*args: str) -> str | None:
    here = Path(__file__).parent
    try:
        answer = subprocess.run(["git", *args], cwd=here, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None  # an installed wheel, or no git: the version says which code it was
    return answer.stdout.strip()


def _commit() -> dict[str, Any]:
    # Asked inside the package's own folder, so that a wheel below a user's repository does not report that one.
    if _git("ls-files", "--error-unmatch", "environment.py") is None:
        return {"commit": None, "dirty": None}
    changed = _git("status", "--porcelain", "--", "..", ":!../results")
    return {"commit": _git("rev-parse", "HEAD"), "dirty": bool(changed)}


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _gpus() -> list[str]:
    import torch

    return [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]


@functools.cache
def environment() -> dict[str, Any]:
    """Versions, hardware and commit as plain data. Imports torch to ask for GPUs."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "packages": {name: _version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "hardware": {"cpu": _cpu(), "cores": cores, "gpus": _gpus(), "system": platform.system()},
        **_commit(),
    }
