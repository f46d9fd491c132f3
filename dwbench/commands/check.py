"""`dwbench check`: compose and validate, and say which stages are stored. Loads no weights."""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dwbench.checks import check_sweep
from dwbench.cli import Parser
from dwbench.component import key_of
from dwbench.errors import UserError
from dwbench.job import quiet_libraries
from dwbench.run import evaluate_identity, prepare, rows_to_choose, select
from dwbench.selectors.base import selection_stage
from dwbench.selectors.context import Context
from dwbench.selectors.models import LoadedModels
from dwbench.store import Artefact, Bench, Store
from dwbench.sweep import Planned, Sweep, plan
from dwbench.synthesis import STAGE as SYNTHESIS
from dwbench.training.sft import train_identity

HELP = """\
usage: dwbench check [key=value ...] [-m]
       dwbench check --estimate [--tflops X] [--decode-tokens-per-second Y] [--answer-tokens N] [key=value ...] [-m]

Compose and validate as `dwbench run` would; say which stages would run and which are stored. Loads no weights.

  --estimate                     what the runs will cost instead: device-hours, tokens, FLOP, size of the store
  --tflops X                     10^12 model FLOP a second; without it as fast as the stages in the store were on this
                                 hardware
  --decode-tokens-per-second Y   tokens a second that a whole batch generates, without the time of their FLOP, which
                                 --tflops already counts: of a rate R measured end to end, 1 / (1/R - F/X) with F in
                                 10^12 FLOP a token; goes with --tflops
  --answer-tokens N              how long answers are taken to be
"""


def check(arguments: Sequence[str]) -> int:
    given = _parsed(arguments)
    if given.help:
        print(HELP, end="")
        return 0
    quiet_libraries()
    sweep = plan(given.overrides, given.multirun)
    models = LoadedModels()
    check_sweep(sweep, models)
    if given.estimate:
        return _estimate(sweep, models, given)
    for planned in sweep.planned:
        run = planned.run
        k, n = rows_to_choose(run, len(planned.splits.pool)), len(planned.splits.pool)
        print(f"{run.dataset.name} | {run.model.name} | {run.selector_label} | {k} of {n} rows | seed {run.seed}")
        for note in planned.splits.notes:
            print(f"  data: {note}")
        for stage, state in _stages(planned, models):
            print(f"  {stage}: {state}")
    return 0


def _parsed(arguments: Sequence[str]) -> argparse.Namespace:
    """Options and overrides. Raises UserError for what is neither."""
    parser = Parser(prog="dwbench check", add_help=False, allow_abbrev=False)
    parser.add_argument("overrides", nargs="*")
    for names in (("-h", "--help"), ("-m", "--multirun"), ("--estimate",)):
        parser.add_argument(*names, action="store_true")
    parser.add_argument("--tflops", type=_positive)
    parser.add_argument("--decode-tokens-per-second", type=_positive)
    parser.add_argument("--answer-tokens", type=_positive)
    given = parser.parse_intermixed_args(arguments)
    unused = [name for name in ("tflops", "decode_tokens_per_second", "answer_tokens") if getattr(given, name)]
    if unused and not given.estimate:
        raise UserError(f"--{unused[0].replace('_', '-')}: goes with --estimate: add it")
    if given.decode_tokens_per_second and not given.tflops:
        raise UserError("--decode-tokens-per-second: goes with --tflops: add it")
    return given


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be above 0, not {text}")
    return value


def _estimate(sweep: Sweep, models: LoadedModels, given: argparse.Namespace) -> int:
    from dwbench.commands.estimate import check_throughput, told
    from dwbench.estimate import estimate, measured, models_of
    from dwbench.throughput import Given, Throughput

    found = estimate(sweep, models, round(given.answer_tokens) if given.answer_tokens else None)
    throughput: Throughput
    if given.tflops:
        throughput = Given(given.tflops, given.decode_tokens_per_second)
    else:
        folders = {planned.job.config["store_dir"] for planned in sweep.planned}
        throughput = measured([Store(Path(folder)) for folder in sorted(folders)], models_of(sweep))
    print(told(found, throughput), end="")
    check_throughput(found, throughput)
    return 0


def _stages(planned: Planned, models: LoadedModels) -> list[tuple[str, str]]:
    """Each stage with `stored`, `would run`, or `depends on ...` where its key is not known before another ran."""
    run, splits = planned.run, planned.splits
    bench = Bench(Store(Path(planned.job.config["store_dir"])))
    stages = []
    if run.writer is not None:
        written = run.writer.stored(splits, bench.store)
        if written is None:
            return [(SYNTHESIS, "would run"), ("all others", "depend on what is written")]
        splits = written
        stages.append((SYNTHESIS, "stored"))
    material = run.material(splits)
    k = rows_to_choose(run, len(splits.pool))
    prepared = prepare(run, models, splits)
    if run.selector.fixed_share is None:
        context = Context(run.selector.needs, bench, material, models)
        allowed = np.array([uid not in prepared.untrainable for uid in context.uids])
        stage, key = selection_stage(run.selector, context, k, allowed)
        scored = bench.store.find(stage, key_of(key))
        stages.append((stage, _state(scored)))
        if run.select_only:
            return stages
        if scored is None:
            return [*stages, ("train", "depends on what is chosen"), ("evaluate", "depends on what is chosen")]
    trained = None
    if k and not run.select_only:
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
