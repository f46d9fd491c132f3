"""The commands in each paper experiment's README make every number that its paper has."""

import re
import shlex
from itertools import product
from pathlib import Path

import pytest

from dwbench.config import build_run, compose, conf_folder, names
from dwbench.report.published import published
from dwbench.sweep import plan

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
    axes = {key: [overriding(value) for value in values] for key, values in (config["sweep"] or {}).items()}
    axes |= {key: values.split(",") for key, values in (argument.split("=", 1) for argument in arguments)}
    swept = [key for key in axes if key.split(".")[0] in ("selector", "scorer_model")]
    models = axes.get("model", [config["model"]["name"]])
    datasets = axes.get("dataset", [config["dataset"]["name"]])
    places = set()
    for choice in product(*(axes[key] for key in swept)):
        overrides = [f"{key}={value}" for key, value in zip(swept, choice, strict=True)]
        run = build_run(compose([*first, *overrides]))
        by = "" if run.scorer is run.model or "scorer" not in run.selector.needs else f" by {run.scorer.name}"
        budgets = [BOUNDS.get(run.selector_name, budget) for budget in axes.get("budget", [str(config["budget"])])]
        places |= set(product(models, datasets, [run.selector_label + by], budgets))
    return places


def overriding(value: object) -> str:
    return "null" if value is None else str(value)


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
    assert compose([f"experiment={name}"]).config["experiment_name"] == name
    assert commands(name)
    assert all(arguments[0] == f"experiment={name}" for arguments in commands(name))


@pytest.mark.parametrize("name", [*NAMES, "figure4"])
def test_every_axis_names_what_there_is(name: str) -> None:
    sweep = compose([f"experiment={name}"]).config["sweep"]
    for group in ("model", "dataset", "selector"):
        assert set(sweep.get(group, [])) <= set(names(group))


def test_the_sweep_runs_both_splits_of_gsm8k() -> None:
    for name in ("table2", "table4", "table5"):
        assert {"gsm8k", "gsm8k_paper"} <= set(compose([f"experiment={name}"]).config["sweep"]["dataset"])
    paper = compose(["dataset=gsm8k_paper"]).config["dataset"]
    official = compose(["dataset=gsm8k"]).config["dataset"]
    assert {key for key in official if paper[key] != official[key]} == {"name", "split", "target_rows", "task"}
    assert {key for key in official["task"] if paper["task"][key] != official["task"][key]} == {"name"}


PROOF = ("proof_table2", "proof_table4", "proof_table5", "proof_rounds")


@pytest.mark.parametrize("name", ["proof", "synthetic", "planted_noise"])
def test_the_commands_of_small_experiments_compose(name: str) -> None:
    assert commands(name)
    assert all(made_by(arguments) for arguments in commands(name))


def test_the_proof_runs_on_one_pool() -> None:
    configs = [compose([f"experiment={name}"]).config for name in PROOF]
    for section in ("dataset", "model", "train", "eval", "seed", "split_seed"):
        assert all(config[section] == configs[0][section] for config in configs)
    # What one of them scored, the next finds in the store.
    whisperer = "data_whisperer(n_d=4,n_q=2)"
    labels = [{place[2].replace(" ", "") for place in made_by([f"experiment={name}"])} for name in PROOF]
    assert all(whisperer in found for found in labels[:3])
    assert labels[3] == {"data_whisperer(n_d=8,n_q=1)", "data_whisperer(n_d=8,n_q=1,rounds=4)"}
    assert "data_whisperer(n_d=8,n_q=1)" in labels[1]


def test_the_proof_has_all_methods_of_the_paper() -> None:
    one, other = (compose([f"experiment={name}"]).config["sweep"]["selector"] for name in ("proof_table2", "table2"))
    assert set(one) == {*other, "staff"}


def test_noise_is_shown_to_every_selector_that_chooses() -> None:
    shown = compose(["experiment=planted_noise"]).config["sweep"]["selector"]
    assert sorted(shown) == sorted(set(names("selector")) - set(BOUNDS))


def test_synthetic_rows_are_the_tuned_models_own() -> None:
    for name in ("table3", "small_synthetic"):
        run = build_run(compose([f"experiment={name}", "model=smollm2-135m"]))
        assert run.writer is not None
        assert (run.writer.lm, run.writer.max_new_tokens) == (run.model, 128)
        assert run.dataset.name == "dialogsum_synthetic"


def ablation(*arguments: str) -> list[str]:
    """The labels of the runs that these values of Data Whisperer's settings make."""
    small = ["dataset=embedded", "dataset.pool_rows=40", "budget=4", "selector=data_whisperer"]
    sweep = plan([*small, *arguments], multirun=True)
    assert len({planned.key for planned in sweep.planned}) == len(sweep.planned)
    assert sweep.hydra_arguments[0] == "-m"
    return [planned.run.selector_label.removeprefix("data_whisperer").replace(" ", "") for planned in sweep.planned]


def test_ablation_of_demonstrations_and_queries() -> None:
    assert ablation("selector.n_d=5,10,15", "selector.n_q=3,5,10") == [
        "(n_d=5,n_q=3)", "(n_d=5)", "(n_d=5,n_q=10)",
        "(n_q=3)", "", "(n_q=10)",
        "(n_d=15,n_q=3)", "(n_d=15)", "(n_d=15,n_q=10)",
    ]  # fmt: skip


def test_ablation_of_the_layer() -> None:
    assert ablation("selector.layer=range(0,30,3)") == [f"(layer={layer})" for layer in range(0, 30, 3)]


def test_ablation_of_the_rounds() -> None:
    assert ablation("selector.rounds=1,4,16") == ["", "(rounds=4)", "(rounds=16)"]


def test_ablation_of_the_weight() -> None:
    assert ablation("selector.weight=attn,uniform,attn_position_corrected") == [
        "",
        "(weight=uniform)",
        "(weight=attn_position_corrected)",
    ]
    assert ablation("selector.attn_rows=query_block,query_text_only,last_token", "selector.layer=null,5") == [
        "", "(layer=5)", "(attn_rows=query_text_only)", "(layer=5,attn_rows=query_text_only)",
        "(attn_rows=last_token)", "(layer=5,attn_rows=last_token)",
    ]  # fmt: skip
