"""`dwbench run`: check everything, let Hydra launch, show the table of what ran."""

import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from shutil import get_terminal_size
from typing import Any

from dwbench.checks import check_sweep
from dwbench.config import conf_folder, search_path
from dwbench.files import check_folder
from dwbench.job import Screen, job_runner, named, quiet_libraries, say
from dwbench.records import Record, load_records
from dwbench.selectors.models import LoadedModels
from dwbench.status import Job, folder_beside, watched
from dwbench.status_view import last, live
from dwbench.sweep import Sweep, plan
from dwbench.tracking import to_trackio, to_wandb

HELP = """\
usage: dwbench run [key=value ...] [-m]

One run, or with -m a sweep over keys with several values (selector=random,ifd). To repeat a command is to resume it.

  experiment=quickstart              a first run: embedded data and model, no network
  dataset=dialogsum dataset.path=DIR a data set, from the hub or from a folder with train/validation/test.jsonl
  model=qwen2.5-7b-instruct          a configured model; model.source=DIR takes any other
  selector=ifd selector.ratio=ppl    a selector and its settings
  selector_settings.NAME.KEY=value   settings of one selector in a sweep over several
  budget=0.05  budget=5%  budget=50  share of the pool, or rows
  scorer_model=NAME                  select with another model than the one that is tuned
  select_only=true diversity=true    no tuning and no evaluation; how diverse the chosen rows are
  perplexity=true                    how likely the scorer finds the chosen responses; perplexity_model=NAME another
  plant=noise plant.empty=0.1        noise of known kinds in the pool
  synthesise=responses               the model writes the pool's responses; synthesise.model=NAME another
  train=small eval=small launch=joblib seed=0,1,2 tracker=none results_dir=DIR store_dir=DIR
  tracker=trackio                    finished runs in a local store too, which `trackio show` shows; no account

`dwbench status` in another terminal says how far it is; `dwbench list` says what there is.
Exit code: 0 done, 1 a run failed, 2 bad input, 130 interrupted.
"""


def run(arguments: Sequence[str]) -> int:
    if "-h" in arguments or "--help" in arguments:
        print(HELP, end="")
        return 0
    quiet_libraries()
    multirun = bool({"-m", "--multirun"} & set(arguments))
    sweep = plan([argument for argument in arguments if argument not in ("-m", "--multirun")], multirun)
    models = LoadedModels()
    check_sweep(sweep, models)
    config = sweep.planned[0].job.config
    for key in ("results_dir", "store_dir"):
        check_folder(Path(config[key]), key)
    results, store = Path(config["results_dir"]), Path(config["store_dir"])
    command = shlex.join(["dwbench", "run", *arguments])
    with watched(folder_beside(store), command, results, _jobs(sweep, results), say) as folder:
        screen = Screen(folder, live=folder is not None and _on_terminal())
        with live(folder) if folder is not None and screen.live else nullcontext():
            _launch(sweep, models, screen)
    if folder is not None and screen.live:
        last(folder)
    return _report(sweep)


def _on_terminal() -> bool:
    """Whether a view that changes in place can be shown: not in files and pipes, nor on a terminal that only types."""
    return sys.stderr.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "unknown")


def _jobs(sweep: Sweep, results: Path) -> list[Job]:
    """What the sweep means to run, each run once, and whether there is a record of it: its file's name ends with the
    beginning of the run's key."""
    recorded = {path.stem[-8:] for path in results.rglob("*.json")}
    jobs = {planned.key: named(planned.run, planned.key) for planned in sweep.planned}
    return [replace(job, known=key[:8] in recorded) for key, job in jobs.items()]


def _launch(sweep: Sweep, models: LoadedModels, screen: Screen) -> None:
    import hydra

    before = sys.argv
    sys.argv = ["dwbench", *sweep.hydra_arguments, *search_path()]
    try:
        task = job_runner(models, screen)
        hydra.main(config_path=str(conf_folder().resolve()), config_name="config", version_base="1.3")(task)()
    finally:
        sys.argv = before


def _report(sweep: Sweep) -> int:
    """Print the table of the runs that are done and hand them to the tracker; 1 if any is missing."""
    from dwbench.report.formats import render
    from dwbench.report.table import table

    config = sweep.planned[0].job.config
    folder = Path(config["results_dir"])
    wanted = {planned.key for planned in sweep.planned}
    records = load_records(folder, say) if folder.is_dir() else []
    failed = {key for key in wanted if (folder / "failed" / f"{key}.json").exists()}
    mine = _once([record for record in records if record.run in wanted - failed], sweep)
    if mine:
        # What this command ran is shown together whatever it was stored from; the table says if versions differ.
        print(render(table(mine, reference=records, allow_mixed=True), width=max(80, get_terminal_size().columns)))
        if config["tracker"] == "wandb":
            _to_wandb(config, mine, records)
        if config["tracker"] == "trackio":
            _to_trackio(config, mine, records)
    missing = wanted - {record.run for record in mine}
    if missing:
        say(f"{len(missing)} of {len(wanted)} runs failed: see {folder / 'failed'}")
    return 1 if missing else 0


def _to_trackio(config: Mapping[str, Any], records: Sequence[Record], reference: Sequence[Record]) -> None:
    """Hand finished records to trackio; their jobs did, but STR may be known now. What goes wrong fails nothing."""
    folder = to_trackio.folder_beside(Path(config["store_dir"]))
    told = to_trackio.track(records, project=config["wandb"]["project"], folder=folder, reference=reference)
    if told.notice:
        say(f"trackio: {told.notice}")
    else:
        say(f"trackio: TRACKIO_DIR={shlex.quote(str(folder))} trackio show --project {config['wandb']['project']}")


def _to_wandb(config: Mapping[str, Any], records: Sequence[Record], reference: Sequence[Record]) -> None:
    """Hand finished records to W&B, all at once; what goes wrong there fails nothing."""
    folder = Path(config["store_dir"]).parent
    told = to_wandb.publish(
        records,
        project=config["wandb"]["project"],
        entity=config["wandb"]["entity"],
        mode=config["wandb"]["mode"],
        folder=folder / "wandb",
        marks=folder / "published",
        reference=reference,
    )
    if told.count_new:
        runs = "run" if told.count_new == 1 else "runs"
        say(f"W&B: {told.count_new} {runs} {told.mode}, in {told.where}")
    if told.notice:
        say(f"W&B: {told.notice}")


def _once(records: list[Record], sweep: Sweep) -> list[Record]:
    """One record a run; of those in several experiments this sweep's own."""
    mine = sweep.planned[0].run.experiment
    ordered = sorted(records, key=lambda record: record.experiment == mine)
    return list({record.run: record for record in ordered}.values())
