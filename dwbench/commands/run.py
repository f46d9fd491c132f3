"""`dwbench run`: check everything, let Hydra launch, show the table of what ran."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from shutil import get_terminal_size
from typing import Any

from dwbench.checks import check_sweep
from dwbench.config import conf_folder, search_path
from dwbench.files import check_folder
from dwbench.job import job_runner, quiet_libraries, say
from dwbench.publish import publish
from dwbench.records import Record, load_records
from dwbench.selectors.models import LoadedModels
from dwbench.sweep import Sweep, plan

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
  plant=noise plant.empty=0.1        noise of known kinds in the pool
  train=small eval=small launch=joblib seed=0,1,2 tracker=none results_dir=DIR store_dir=DIR

`dwbench list` says what there is. Exit code: 0 done, 1 a run failed, 2 bad input, 130 interrupted.
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
    for key in ("results_dir", "store_dir"):
        check_folder(Path(sweep.planned[0].job.config[key]), key)
    _launch(sweep, models)
    return _report(sweep)


def _launch(sweep: Sweep, models: LoadedModels) -> None:
    import hydra

    before = sys.argv
    sys.argv = ["dwbench", *sweep.hydra_arguments, *search_path()]
    try:
        task = job_runner(models)
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
            _track(config, mine, records)
    missing = wanted - {record.run for record in mine}
    if missing:
        say(f"{len(missing)} of {len(wanted)} runs failed: see {folder / 'failed'}")
    return 1 if missing else 0


def _track(config: Mapping[str, Any], records: Sequence[Record], reference: Sequence[Record]) -> None:
    """Hand finished records to W&B, all at once; what goes wrong there fails nothing."""
    folder = Path(config["store_dir"]).parent
    told = publish(
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
