"""`dwbench check`: compose and validate, and say which stages are stored. Loads no model."""

from collections.abc import Sequence
from pathlib import Path

from dwbench.component import key_of
from dwbench.job import quiet_libraries
from dwbench.representations.models import LoadedModels
from dwbench.run import evaluate_identity, prepare, rows_to_choose, select, train_identity
from dwbench.selectors.base import Context, score_identity
from dwbench.store import Artefact, Bench, Store
from dwbench.sweep import Planned, plan

HELP = """\
usage: dwbench check [key=value ...] [-m]

Compose and validate as `dwbench run` would; say which stages would run and which are stored. Loads no model.
"""


def check(arguments: Sequence[str]) -> int:
    if "-h" in arguments or "--help" in arguments:
        print(HELP, end="")
        return 0
    quiet_libraries()
    multirun = bool({"-m", "--multirun"} & set(arguments))
    sweep = plan([argument for argument in arguments if argument not in ("-m", "--multirun")], multirun)
    for planned in sweep.planned:
        run = planned.run
        k, n = rows_to_choose(run, len(planned.splits.pool)), len(planned.splits.pool)
        print(f"{run.dataset.name} | {run.model.name} | {run.selector_label} | {k} of {n} rows | seed {run.seed}")
        for note in planned.splits.notes:
            print(f"  data: {note}")
        for stage, state in _stages(planned):
            print(f"  {stage}: {state}")
    return 0


def _stages(planned: Planned) -> list[tuple[str, str]]:
    """Each stage with `stored`, `would run`, or `depends on ...` where its key is not known before another ran."""
    run, splits = planned.run, planned.splits
    bench = Bench(Store(Path(planned.job.config["store_dir"])))
    models = LoadedModels()
    stages = []
    if run.selector.fixed_share is None:
        context = Context(run.selector.needs, bench, splits, run.dataset.task, run.scorer, run.seed, models)
        scored = bench.store.find("score", key_of(score_identity(run.selector, context)))
        stages.append(("score", _state(scored)))
        if scored is None:
            return [*stages, ("train", "depends on what is chosen"), ("evaluate", "depends on what is chosen")]
    trained = None
    k = rows_to_choose(run, len(splits.pool))
    if k:
        prepared = prepare(run, models, splits)
        chosen = select(
            bench, models, run.selector, splits, run.dataset, run.scorer, run.seed, k, prepared.untrainable
        ).chosen
        uids = [row.uid for row in chosen if row.uid in prepared.pairs]
        trained = bench.store.find("train", key_of(train_identity(run, uids)))
        stages.append(("train", _state(trained)))
        if trained is None:
            return [*stages, ("evaluate", "would run")]
    evaluated = bench.store.find("evaluate", key_of(evaluate_identity(run, splits, trained.ref if trained else None)))
    return [*stages, ("evaluate", _state(evaluated))]


def _state(found: Artefact | None) -> str:
    return "stored" if found else "would run"
