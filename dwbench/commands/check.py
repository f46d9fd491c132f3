"""`dwbench check`: compose and validate, and say which stages are stored. Loads no weights."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dwbench.checks import check_sweep
from dwbench.component import key_of
from dwbench.job import quiet_libraries
from dwbench.representations.models import LoadedModels
from dwbench.run import evaluate_identity, prepare, rows_to_choose, select
from dwbench.selectors.base import selection_stage
from dwbench.selectors.context import Context
from dwbench.store import Artefact, Bench, Store
from dwbench.sweep import Planned, plan
from dwbench.training.sft import train_identity

HELP = """\
usage: dwbench check [key=value ...] [-m]

Compose and validate as `dwbench run` would; say which stages would run and which are stored. Loads no weights.
"""


def check(arguments: Sequence[str]) -> int:
    if "-h" in arguments or "--help" in arguments:
        print(HELP, end="")
        return 0
    quiet_libraries()
    multirun = bool({"-m", "--multirun"} & set(arguments))
    sweep = plan([argument for argument in arguments if argument not in ("-m", "--multirun")], multirun)
    models = LoadedModels()
    check_sweep(sweep, models)
    for planned in sweep.planned:
        run = planned.run
        k, n = rows_to_choose(run, len(planned.splits.pool)), len(planned.splits.pool)
        print(f"{run.dataset.name} | {run.model.name} | {run.selector_label} | {k} of {n} rows | seed {run.seed}")
        for note in planned.splits.notes:
            print(f"  data: {note}")
        for stage, state in _stages(planned, models):
            print(f"  {stage}: {state}")
    return 0


def _stages(planned: Planned, models: LoadedModels) -> list[tuple[str, str]]:
    """Each stage with `stored`, `would run`, or `depends on ...` where its key is not known before another ran."""
    run, splits = planned.run, planned.splits
    bench = Bench(Store(Path(planned.job.config["store_dir"])))
    stages = []
    material = run.material(splits)
    k = rows_to_choose(run, len(splits.pool))
    prepared = prepare(run, models, splits)
    if run.selector.fixed_share is None:
        context = Context(run.selector.needs, bench, material, models)
        allowed = np.array([uid not in prepared.untrainable for uid in context.uids])
        stage, key = selection_stage(run.selector, context, k, allowed)
        scored = bench.store.find(stage, key_of(key))
        stages.append((stage, _state(scored)))
        if scored is None:
            return [*stages, ("train", "depends on what is chosen"), ("evaluate", "depends on what is chosen")]
    trained = None
    if k:
        chosen = select(bench, models, run.selector, material, k, prepared.untrainable).chosen
        uids = [row.uid for row in chosen if row.uid in prepared.pairs]
        identity = train_identity(run.model, run.train, run.dataset.task, uids, run.seed)
        trained = bench.store.find("train", key_of(identity))
        stages.append(("train", _state(trained)))
        if trained is None:
            return [*stages, ("evaluate", "would run")]
    evaluated = bench.store.find("evaluate", key_of(evaluate_identity(run, splits, trained.ref if trained else None)))
    return [*stages, ("evaluate", _state(evaluated))]


def _state(found: Artefact | None) -> str:
    return "stored" if found else "would run"
