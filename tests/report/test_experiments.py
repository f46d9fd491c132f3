"""The commands in each paper experiment's README make every number that its paper has."""

import importlib.util
import json
import re
import shlex
from collections import Counter
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from dwbench.budget import parse_budget
from dwbench.config import build_run, compose, conf_folder, names
from dwbench.data.base import Example, Splits
from dwbench.report.kinds import share
from dwbench.report.published import published
from dwbench.sweep import plan

REPOSITORY = Path(__file__).resolve().parents[2]
NAMES = sorted(path.stem for path in (conf_folder() / "published").glob("*.csv"))
BOUNDS = {"zero_shot": "", "full": "100%"}

Place = tuple[str, str, str, str]
"""Model, data set, selector's label, budget."""


def commands(name: str) -> list[list[str]]:
    """The arguments of each `dwbench run` in the experiment's README, without the `-m` that some of them must have."""
    text = (REPOSITORY / "experiments" / name / "README.md").read_text()
    blocks = re.findall(r"```bash\n(.*?)```", text, re.DOTALL)
    lines = [shlex.split(line) for block in blocks for line in block.splitlines()]
    given = [words[2:] for words in lines if words[:2] == ["dwbench", "run"]]
    found = [[word for word in words if word != "-m"] for words in given]
    for words, arguments in zip(given, found, strict=True):
        axes = compose([argument.split(",")[0] for argument in arguments]).config["sweep"] or {}
        left = axes.keys() - {argument.split("=")[0] for argument in arguments}
        assert left or "-m" in words or not any("," in argument for argument in arguments), words
    return found


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
    for name in ("table1", "table2", "table4", "table5", "table6", "figure4"):
        assert {"gsm8k", "gsm8k_paper"} <= set(compose([f"experiment={name}"]).config["sweep"]["dataset"])
    paper = compose(["dataset=gsm8k_paper"]).config["dataset"]
    official = compose(["dataset=gsm8k"]).config["dataset"]
    assert {key for key in official if paper[key] != official[key]} == {"name", "split", "target_rows", "task"}
    assert {key for key in official["task"] if paper["task"][key] != official["task"][key]} == {"name"}


ABLATIONS = ("proof_table4", "proof_table5", "proof_rounds", "proof_table6")


@pytest.mark.parametrize("name", ["proof", "synthetic", "planted_noise"])
def test_the_commands_of_small_experiments_compose(name: str) -> None:
    assert commands(name)
    assert all(made_by(arguments) for arguments in commands(name))


def test_the_ablations_run_on_one_pool() -> None:
    configs = [compose([f"experiment={name}"]).config for name in ABLATIONS]
    for section in ("dataset", "model", "train", "eval", "budget", "seed", "split_seed"):
        assert all(config[section] == configs[0][section] for config in configs)
    # What one of them scored, the next finds in the store.
    whisperer = "data_whisperer(n_d=4,n_q=2)"
    labels = [{place[2].replace(" ", "") for place in made_by([f"experiment={name}"])} for name in ABLATIONS]
    assert all(whisperer in labels[place] for place in (0, 1, 3))
    assert labels[2] == {"data_whisperer(n_d=8,n_q=1)", "data_whisperer(n_d=8,n_q=1,rounds=4)"}
    assert "data_whisperer(n_d=8,n_q=1)" in labels[0]


@pytest.mark.parametrize("other", ["in_context_family", "gradient_family", "proof_figure4"])
def test_the_proof_shares_its_pool_and_stages(other: str) -> None:
    proof, config = (compose([f"experiment={name}"]).config for name in ("proof_table2", other))
    for section in ("model", "train", "seed", "split_seed"):
        assert config[section] == proof[section]
    # What selecting sees of the data: neither how many test rows there are nor how long answers to them may be.
    assert {key for key in proof["dataset"] if proof["dataset"][key] != config["dataset"][key]} <= {"test_rows", "task"}
    tasks = [{**each["dataset"]["task"], "max_new_tokens": None} for each in (proof, config)]
    assert tasks[0] == tasks[1]
    labels = [{place[2] for place in made_by([f"experiment={name}"])} for name in ("proof_table2", other)]
    shared = {
        "in_context_family": {"data_whisperer(n_d=4, n_q=2)", "random", "full"},
        "gradient_family": {"ccs", "staff", "random", "full"},
        "proof_figure4": {"data_whisperer(n_d=4, n_q=2)", "random"},
    }
    assert shared[other] <= labels[0] & labels[1]


def test_the_proof_is_as_large_as_it_says() -> None:
    config = compose(["experiment=proof_table2"]).config
    assert [parse_budget(budget).rows(config["dataset"]["pool_rows"]) for budget in config["sweep"]["budget"]] == [
        1,
        5,
        10,
    ]
    assert (config["dataset"]["test_rows"], config["eval"]["nll_rows"], config["eval"]["generation_rows"]) == (
        200,
        200,
        50,
    )


def test_a_weaker_model_is_the_same_without_a_few_layers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = importlib.util.spec_from_file_location("weaker", REPOSITORY / "experiments" / "proof" / "weaker.py")
    assert spec is not None
    assert spec.loader is not None
    weaker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(weaker)
    monkeypatch.setattr(weaker, "LEFT_OUT", range(1, 3))
    source = tmp_path / "source"
    source.mkdir()
    (source / "config.json").write_text(json.dumps({"num_hidden_layers": 4, "max_position_embeddings": 8192}))
    (source / "tokenizer.json").write_text("{}")
    named = {"model.norm.weight": 9.0, **{f"model.layers.{layer}.mlp.weight": float(layer) for layer in range(4)}}
    save_file({name: np.full(2, value) for name, value in named.items()}, source / "model.safetensors")
    weaker.make(source, tmp_path / "made")
    assert {name: value[0] for name, value in load_file(tmp_path / "made" / "model.safetensors").items()} == {
        "model.norm.weight": 9.0,
        "model.layers.0.mlp.weight": 0.0,
        "model.layers.1.mlp.weight": 3.0,
    }
    config = json.loads((tmp_path / "made" / "config.json").read_text())
    assert config == {"num_hidden_layers": 2, "max_position_embeddings": 4096}
    assert (tmp_path / "made" / "tokenizer.json").is_file()


def test_the_proof_has_all_methods_of_the_paper() -> None:
    one, other = (compose([f"experiment={name}"]).config["sweep"]["selector"] for name in ("proof_table2", "table2"))
    assert set(one) == {*other, "staff"}


def test_noise_is_shown_to_every_selector_that_chooses() -> None:
    shown = compose(["experiment=planted_noise"]).config["sweep"]["selector"]
    assert sorted(shown) == sorted(set(names("selector")) - set(BOUNDS))


def test_noise_has_the_shares_that_were_asked_for() -> None:
    config = compose(["experiment=planted_noise"]).config
    rows = config["dataset"]["pool_rows"]
    run = build_run(compose(["experiment=planted_noise"]))
    assert run.plant is not None
    pool = tuple(Example(str(n), str(n), n, f"question {n}", f"answer {n}", (f"answer {n}",)) for n in range(rows))
    planted = run.plant.into(Splits(pool=pool, target=(), test=()), seed=0).pool
    counts = Counter(row.kind for row in planted)
    assert counts["wrong_response"] / rows == pytest.approx(0.2)
    assert counts["copy"] / rows == counts["near_copy"] / rows == pytest.approx(0.05)
    assert (counts["truncated"] + counts["empty"]) / rows == pytest.approx(0.05)
    # Large enough a choice to tell that none of a fifth is there, were it so.
    assert share(0, run.budget.rows(rows)).against(0.2) == "-"


def test_many_rows_hold_enough_of_every_kind_to_be_told() -> None:
    run = build_run(compose(["experiment=planted_noise_400"]))
    assert run.plant is not None
    pool = tuple(Example(str(n), str(n), n, f"question {n}", f"answer {n}", (f"answer {n}",)) for n in range(400))
    planted = run.plant.into(Splits(pool=pool, target=(), test=()), seed=0).pool
    counts = Counter(row.kind for row in planted)
    assert counts == {"clean": 240, "wrong_response": 80, "copy": 20, "near_copy": 20, "truncated": 20, "empty": 20}
    chosen = run.budget.rows(400)
    assert (share(1, chosen).against(0.05), share(12, chosen).against(0.05)) == ("-", "+")


def test_what_tunes_before_it_selects_from_noise_shares_one_tuning() -> None:
    settings = compose(["experiment=planted_noise"]).config["selector_settings"]
    assert len({settings[name]["epochs"] for name in ("ccs", "lp", "s2l", "staff")}) == 1
    assert settings["s2l"]["checkpoints_per_epoch"] == 1
    warmed = [settings[name] for name in ("less", "gist", "g2is", "cluster_ucb", "dynamic")]
    assert len({(one["warmup_share"], one["epochs"]) for one in warmed}) == 1


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
