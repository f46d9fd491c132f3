"""A sweep before it runs: every job composed and checked, so that a mistake costs no compute."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from dwbench.config import OPEN_SECTION, Job, build_run, compose, names
from dwbench.data.base import Splits
from dwbench.errors import UserError
from dwbench.run import Run, rows_to_choose
from dwbench.tracking import to_trackio


@dataclass(frozen=True)
class Planned:
    """A job with its objects and data."""

    job: Job
    run: Run
    splits: Splits
    key: str


@dataclass(frozen=True)
class Sweep:
    """Jobs, and the arguments that make Hydra launch exactly these."""

    planned: tuple[Planned, ...]
    hydra_arguments: tuple[str, ...]


def plan(arguments: Sequence[str], multirun: bool) -> Sweep:
    """Compose, build and check all jobs. Raises UserError for the first mistake."""
    arguments = [_opened(argument) for argument in arguments]
    axes = _axes(arguments)
    swept = [axis for axis in axes if len(axis) > 1]
    base = compose([choices[0] for choices in axes])
    if base.config["tracker"] == "trackio":
        to_trackio.check_installed()
    params = _experiment_axes(base, arguments)
    if swept and not multirun and not params:
        raise UserError(f"{swept[0][0].partition('=')[0]}: several values make a sweep: add -m")
    all_axes = [*params, *axes]
    splits: dict[str, Splits] = {}
    planned = tuple(_planned(choice, splits) for choice in product(*all_axes))
    is_sweep = multirun or bool(params)
    joined = [_join(axis) for axis in all_axes]
    return Sweep(planned, (("-m", "hydra.sweeper.params=null", *joined) if is_sweep else tuple(joined)))


def _opened(argument: str) -> str:
    """`selector_settings.NAME.field=value` may be given without Hydra's `+`."""
    return f"++{argument}" if argument.startswith(f"{OPEN_SECTION}.") else argument


def _axes(arguments: Sequence[str]) -> list[list[str]]:
    """For each override its values as single overrides; one for what is no sweep."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.core.override_parser.types import Glob
    from hydra.errors import HydraException

    for argument in arguments:
        _check_key(argument)
    try:
        parsed = OverridesParser.create().parse_overrides(list(arguments))
    except HydraException as error:
        raise UserError(f"{' '.join(str(error).split())[:300]}: write key=value") from None
    axes = []
    for override in parsed:
        key, value = override.get_key_element(), override.value()
        if isinstance(value, Glob):
            chosen = value.filter(names(key))
            if not chosen:
                raise UserError(f"{override.input_line}: matches none of: {', '.join(names(key)) or 'nothing'}")
            axes.append([f"{key}={name}" for name in chosen])
        elif override.is_sweep_override():
            try:
                values = list(override.sweep_string_iterator())
            except (HydraException, ValueError):  # an interval; a range with steps of 0
                values = []
            if not values:
                raise UserError(f"{override.input_line}: names no values to go through: write {key}=A,B")
            axes.append([f"{key}={value}" for value in values])
        else:
            axes.append([str(override.input_line)])
    return axes


def _check_key(argument: str) -> None:
    """Raise UserError for an override that can't be one: without a key, of a class, or one that takes a key away."""
    key = argument.partition("=")[0]
    if argument.startswith("~"):
        raise UserError(f"{argument}: a key can't be taken away: give it a value")
    if not key.strip("+"):
        raise UserError(f"{argument}: has no key: write key=value")
    if key.endswith("_target_"):
        group = key.strip("+").partition(".")[0]
        raise UserError(
            f"{argument}: the class is the name's: write {group}=NAME, or add a file conf/{group}/NAME.yaml"
        )


def _experiment_axes(base: Job, arguments: Sequence[str]) -> list[list[str]]:
    """The axes that an experiment's file names in `sweep`, without those given on the command line."""
    given = {argument.split("=")[0].lstrip("+~") for argument in arguments}
    sweep: Mapping[str, list[Any]] = base.config["sweep"] or {}
    for key, values in sweep.items():
        if not values:
            raise UserError(f"sweep.{key}: is empty: give a list of values")
    wanted = {key: values for key, values in sweep.items() if key not in given}
    return [[f"{key}={'null' if value is None else value}" for value in values] for key, values in wanted.items()]


def _join(axis: Sequence[str]) -> str:
    key = axis[0].split("=", 1)[0]
    return axis[0] if len(axis) == 1 else f"{key}={','.join(value.split('=', 1)[1] for value in axis)}"


def _planned(overrides: Sequence[str], splits: dict[str, Splits]) -> Planned:
    job = compose(overrides)
    run = build_run(job)
    where = f"{job.config['dataset']} {job.config.get('plant')} {run.writer} {run.split_seed}"
    if where not in splits:
        splits[where] = run.load()
    if not run.select_only:
        run.train.check_steps(rows_to_choose(run, len(splits[where].pool)))
    if run.evaluation.tasks and not run.select_only:
        from dwbench.evaluation.others import check_tasks  # lm-eval's index of tasks takes seconds to read

        check_tasks(run.evaluation.tasks)
    return Planned(job, run, splits[where], run.key(splits[where]))
