"""The commands in each paper experiment's README make every number that its paper has."""

import re
import shlex
from itertools import product
from pathlib import Path

import pytest

from dwbench.config import build_run, compose, conf_folder, names
from dwbench.report.published import published

REPOSITORY = Path(__file__).resolve().parents[2]
NAMES = sorted(path.stem for path in (conf_folder() / "published").glob("*.csv"))
BOUNDS = {"zero_shot": "", "full": "100%"}

Place = tuple[str, str, str, str]
"""Model, data set, selector's label, budget."""


def commands(name: str) -> list[list[str]]:
    """The arguments of each `dwbench run` in the experiment's README."""
    text = (REPOSITORY / "experiments" / name / "README.md").read_text()
    blocks = re.findall(r"```bash\n(.*?)```", text, re.DOTALL)
    lines = [shlex.split(line) for block in blocks for line in block.splitlines()]
    return [words[2:] for words in lines if words[:2] == ["dwbench", "run"]]


def made_by(arguments: list[str]) -> set[Place]:
    """What a command runs. Selectors are built; models, data sets and budgets are taken as named."""
    first = [argument.split(",")[0] for argument in arguments]
    config = compose(first).config
    axes = {key: [str(value) for value in values] for key, values in (config["sweep"] or {}).items()}
    axes |= {key: values.split(",") for key, values in (argument.split("=", 1) for argument in arguments)}
    swept = [key for key in axes if key.split(".")[0] in ("selector", "scorer_model")]
    models = axes.get("model", [config["model"]["name"]])
    datasets = axes.get("dataset", [config["dataset"]["name"]])
    places = set()
    for choice in product(*(axes[key] for key in swept)):
        overrides = [f"{key}={value}" for key, value in zip(swept, choice, strict=True)]
        run = build_run(compose([*first, *overrides]))
        by = "" if run.scorer is run.model or "scorer" not in run.selector.needs else f" by {run.scorer.name}"
        budgets = [BOUNDS.get(run.selector_name, budget) for budget in axes["budget"]]
        places |= set(product(models, datasets, [run.selector_label + by], budgets))
    return places


@pytest.mark.parametrize("name", NAMES)
def test_the_commands_make_every_published_number(name: str) -> None:
    made = set[Place]().union(*(made_by(arguments) for arguments in commands(name)))
    wanted = {
        (one.model, one.dataset, one.selector, budget)
        for one in published(name)
        for budget in (one.budget.split("+") if one.budget else [""])
    }
    assert wanted <= made, sorted(wanted - made)[:5]


@pytest.mark.parametrize("name", [*NAMES, "figure4"])
def test_every_command_is_of_its_experiment(name: str) -> None:
    assert compose([f"experiment={name}", *needed(name)]).config["experiment_name"] == name
    assert commands(name)
    assert all(arguments[0] == f"experiment={name}" for arguments in commands(name))


def needed(name: str) -> list[str]:
    return ["dataset.path=DIR"] if name == "table3" else []


@pytest.mark.parametrize("name", [*NAMES, "figure4"])
def test_every_axis_names_what_there_is(name: str) -> None:
    sweep = compose([f"experiment={name}", *needed(name)]).config["sweep"]
    for group in ("model", "dataset", "selector"):
        assert set(sweep.get(group, [])) <= set(names(group))


def test_the_sweep_runs_both_splits_of_gsm8k() -> None:
    for name in ("table2", "table4", "table5"):
        assert {"gsm8k", "gsm8k_paper"} <= set(compose([f"experiment={name}"]).config["sweep"]["dataset"])
    paper = compose(["dataset=gsm8k_paper"]).config["dataset"]
    official = compose(["dataset=gsm8k"]).config["dataset"]
    assert {key for key in official if paper[key] != official[key]} == {"name", "split", "target_rows", "task"}
    assert {key for key in official["task"] if paper["task"][key] != official["task"][key]} == {"name"}
