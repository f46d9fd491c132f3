"""What Hydra launches: one job of a sweep, in this process or another. A failure is written down and stops no other."""

import hashlib
import os
import shlex
import sys
import traceback
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dwbench.config import Job, build_run, plain_dict
from dwbench.errors import UserError
from dwbench.failures import forget_failure, write_failure
from dwbench.progress import Bars, Lines, Progress, Quiet
from dwbench.records import load_record, record_path, write_record
from dwbench.run import Run, execute
from dwbench.selectors.models import LoadedModels
from dwbench.status import Job as Watched
from dwbench.status import Watch
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


@dataclass(frozen=True)
class Screen:
    """Where jobs tell of themselves.

    Attributes:
        folder: of the sweep's status; None where there is none.
        live: a view of that folder is on the terminal, and jobs say nothing themselves.
    """

    folder: Path | None = None
    live: bool = False

    def say(self, text: str) -> None:
        """A line, where nothing else stands on the terminal."""
        if not self.live:
            say(text)

    def progress(self) -> Progress:
        """Where a job's stages report to, beside its status."""
        return Quiet() if self.live else progress()

    def watch(self, job: Watched) -> Watch | None:
        """The job's status, which begins now; None where there is no status."""
        return None if self.folder is None else Watch(self.folder, job, self.progress(), say)


def job_runner(models: LoadedModels, screen: Screen) -> Callable[[Any], bool]:
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
            return _run_job(Job(plain, dict(hydra.runtime.choices), tuple(hydra.overrides.task)), models, screen)
        finally:
            models.release()

    return run_job


def named(run: Run, key: str) -> Watched:
    """What a sweep's status calls a run with that key."""
    name = f"{run.dataset.name} | {run.model.name} | {run.selector_label} | {run.budget.asked} | seed {run.seed}"
    return Watched(key, name, run.selector_label, run.dataset.name, run.model.name)


def _run_job(job: Job, models: LoadedModels, screen: Screen) -> bool:
    results = Path(job.config["results_dir"])
    command = shlex.join(["dwbench", "run", *job.overrides])
    settings = {"config": {key: value for key, value in job.config.items() if key != "sweep"}, "command": command}
    key = hashlib.sha256(command.encode()).hexdigest()[:20]  # of an error from before the run's own key is known
    watch = None
    try:
        run = build_run(job)
        splits = run.load()
        key = run.key(splits)
        told = named(run, key)
        screen.say(told.name)
        watch = screen.watch(told)
        bench = Bench(Store(Path(job.config["store_dir"])), watch or screen.progress())
        record = {**execute(run, bench, models, splits), **settings}
        path = record_path(results, run.experiment, record)
        write_record(path, record)
        forget_failure(results, key, command)
        if job.config["tracker"] == "trackio":
            track_locally(job.config, path)
        if watch is not None:
            watch.done({name: metric["value"] for name, metric in record["metrics"].items()})
    except Exception as error:
        where = write_failure(results, key, _line(error), traceback.format_exc(), settings)
        watch = watch or screen.watch(Watched(key, command, "", "", ""))
        if watch is not None:
            watch.failed(_line(error), where)
        screen.say(f"failed: {_line(error)} (details in {where})")
        return False
    return True


def track_locally(config: Mapping[str, Any], path: Path) -> None:
    """Hand the record in the file `path` to trackio if it has none of that run; its STR is what this run alone tells,
    until the sweep is over. What goes wrong there is said and fails nothing."""
    from dwbench.tracking.to_trackio import folder_beside, track

    place = folder_beside(Path(config["store_dir"]))
    told = track([load_record(path)], project=config["wandb"]["project"], folder=place, only_new=True)
    if told.notice:
        say(f"trackio: {told.notice}")


def _line(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if isinstance(error, UserError) else f"{type(error).__name__}: {text}"
