"""What Hydra launches: one job of a sweep, in this process or another. A failure is written down and stops no other."""

import hashlib
import os
import shlex
import sys
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dwbench.config import Job, build_run, plain_dict
from dwbench.errors import UserError
from dwbench.progress import Bars, Lines, Progress
from dwbench.records import record_path, write_record
from dwbench.run import execute, forget_failure, write_failure
from dwbench.selectors.models import LoadedModels
from dwbench.store import Bench, Store


def say(text: str) -> None:
    """A line for the person who watches; results go to stdout, this does not."""
    print(text, file=sys.stderr, flush=True)


def progress() -> Progress:
    """Bars on a terminal, lines elsewhere."""
    return Bars() if sys.stderr.isatty() else Lines(say)


def quiet_libraries() -> None:
    """No bars and no notices of the libraries' own, no waiting for a hub that can't be reached."""
    # The libraries warn each other of names that change in their next versions; our versions are pinned.
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"transformers|trl|peft|torch")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")


def job_runner(models: LoadedModels) -> Callable[[Any], bool]:
    """Hydra's task function: do the run that a configuration describes and leave its record; True if it succeeded.

    The jobs of one process share `models`: tokenizers stay, weights are let go of after each job.
    """

    def run_job(config: Any) -> bool:
        from hydra.core.hydra_config import HydraConfig
        from omegaconf import OmegaConf

        quiet_libraries()
        plain = plain_dict(OmegaConf.to_container(config, resolve=True))
        hydra = HydraConfig.get()
        try:
            return _run_job(Job(plain, dict(hydra.runtime.choices), tuple(hydra.overrides.task)), models)
        finally:
            models.release()

    return run_job


def _run_job(job: Job, models: LoadedModels) -> bool:
    results = Path(job.config["results_dir"])
    command = shlex.join(["dwbench", "run", *job.overrides])
    settings = {"config": {key: value for key, value in job.config.items() if key != "sweep"}, "command": command}
    key = hashlib.sha256(command.encode()).hexdigest()[:20]  # of an error from before the run's own key is known
    try:
        run = build_run(job)
        splits = run.load()
        key = run.key(splits)
        name = f"{run.dataset.name} | {run.model.name} | {run.selector_label} | {run.budget.asked} | seed {run.seed}"
        say(name)
        bench = Bench(Store(Path(job.config["store_dir"])), progress())
        record = {**execute(run, bench, models, splits), **settings}
        write_record(record_path(results, run.experiment, record), record)
        forget_failure(results, key, command)
    except Exception as error:
        where = write_failure(results, key, _line(error), traceback.format_exc(), settings)
        say(f"failed: {_line(error)} (details in {where})")
        return False
    return True


def _line(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if isinstance(error, UserError) else f"{type(error).__name__}: {text}"
