"""Every configuration file composes and builds; mistakes and sweeps; what the command line costs to start."""

import dataclasses
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytest
import yaml

from dwbench.budget import parse_budget
from dwbench.component import identity
from dwbench.config import (
    GROUPS,
    build,
    build_run,
    compose,
    conf_folder,
    embedder_named,
    model_named,
    names,
    selector_named,
    settings_of,
)
from dwbench.data.base import Example, RawRow, Splits, fingerprint, number_rows
from dwbench.errors import UserError
from dwbench.models.spec import LM
from dwbench.run import Run
from dwbench.selectors.base import Selector, score_identity
from dwbench.selectors.context import Context
from dwbench.selectors.models import LoadedModels
from dwbench.store import Bench, Store
from dwbench.sweep import plan
from dwbench.training.sft import LoraSFT

SMALL = ["dataset.pool_rows=20", "dataset.target_rows=4", "dataset.test_rows=4"]

ROWS = {
    "gsm8k": [{"question": f"What is {n} + 1?", "answer": f"It is {n + 1}\n#### {n + 1}"} for n in range(90)],
    "dialogsum": [{"dialogue": f"#Person1#: {n}?", "summary": f"They say {n}."} for n in range(90)],
    "bioinstruct": [{"instruction": f"Name cell {n}", "input": "", "output": f"Cell {n}"} for n in range(90)],
    "jsonl": [{"prompt": f"Say {n}", "completion": f"{n}"} for n in range(90)],
    "gsm8k_paper": [{"question": f"What is {n} + 1?", "answer": f"It is {n + 1}\n#### {n + 1}"} for n in range(830)],
}


def jsonl(path: Path, rows: list[dict[str, str]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def data(tmp_path: Path) -> dict[str, Path]:
    """A path for each data set that takes one."""
    paths = {}
    for name, rows in ROWS.items():
        if name == "jsonl":
            paths[name] = jsonl(tmp_path / "rows.jsonl", rows)
            continue
        paths[name] = tmp_path / name
        paths[name].mkdir()
        jsonl(paths[name] / "train.jsonl", rows[:-14])
        jsonl(paths[name] / "validation.jsonl", rows[-14:-7])
        jsonl(paths[name] / "test.jsonl", rows[-7:])
    return paths


@pytest.mark.parametrize("name", names("dataset"))
def test_every_data_set_builds_and_loads(name: str, data: dict[str, Path]) -> None:
    path = [f"dataset.path={data[name]}"] if name in data else []
    sizes = ["dataset.pool_rows=40", "dataset.target_rows=2", "dataset.test_rows=3"]
    run = build_run(compose([f"dataset={name}", *path, *sizes]))
    splits = run.dataset.load(0)
    assert (len(splits.pool), len(splits.target), len(splits.test)) == (40, 2, 3)
    assert run.dataset.name == run.dataset.task.name == name
    assert len(run.key(splits)) == 20


@pytest.mark.parametrize("name", names("selector"))
def test_every_selector_builds(name: str) -> None:
    run = build_run(compose([f"selector={name}"]))
    assert isinstance(run.selector, Selector)
    assert run.selector_name == run.selector_label == name
    assert run.selector.paper
    assert run.selector.cost_class
    # Written out in full: what a file does not name can't be set on the command line.
    composed = compose([f"selector={name}"]).config["selector"]
    assert composed.keys() - {"_target_"} == {field.name for field in dataclasses.fields(cast(Any, run.selector))}


@pytest.mark.parametrize("name", names("model"))
def test_every_model_builds(name: str) -> None:
    run = build_run(compose([f"model={name}"]))
    assert run.model.name == name
    assert run.scorer is run.model


@pytest.mark.parametrize(("group", "name"), [(g, n) for g in ("train", "eval", "launch") for n in names(g)])
def test_every_preset_builds(group: str, name: str) -> None:
    if name == "joblib":
        pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    job = compose([f"{group}={name}"])
    assert job.choices[group] == name
    build_run(job)


@pytest.mark.parametrize("name", names("experiment"))
def test_every_experiment_plans(name: str, data: dict[str, Path]) -> None:
    # Of a sweep over data sets the one that the file names, as paths are for one; and a model that needs no hub.
    file = yaml.safe_load((conf_folder() / "experiment" / f"{name}.yaml").read_text())
    dataset = next(one["override /dataset"] for one in file["defaults"] if "override /dataset" in one)
    sizes = ["dataset.pool_rows=60", "dataset.target_rows=2", "dataset.test_rows=3"]
    local = [f"dataset={dataset}", f"dataset.path={data[dataset]}", *sizes] if dataset in data else []
    sweep = plan([f"experiment={name}", "model=smollm2-135m", "budget=2", "seed=0", *local], multirun=False)
    assert len({planned.key for planned in sweep.planned}) == len(sweep.planned) > 0
    assert len({planned.run.experiment for planned in sweep.planned} - {None}) == 1


def test_all_groups_are_known() -> None:
    assert all(names(group) for group in GROUPS)


def golden_run() -> tuple[Run, Splits]:
    run = build_run(compose(["dataset=embedded", *SMALL, "model.dtype=float32", "selector=ifd", "train=small"]))
    rows = [RawRow(id=str(n), input=f"in {n}", response=f"out {n}", where=f"row {n}") for n in range(30)]

    def split(start: int, end: int) -> tuple[Example, ...]:
        return number_rows(rows[start:end])

    return run, Splits(pool=split(0, 20), target=split(20, 24), test=split(24, 30))


def test_golden_run_key() -> None:
    # If this fails, every stored record gets another key. If that is meant (a version was raised, a default
    # changed), write the new key here; else find what changed silently.
    run, splits = golden_run()
    assert run.key(splits) == "24dff9492f52d0828449"


def backwards(splits: Splits) -> Splits:
    def turned(rows: Sequence[Example]) -> tuple[Example, ...]:
        return tuple(dataclasses.replace(row, index=n) for n, row in enumerate(reversed(rows)))

    return Splits(turned(splits.pool), turned(splits.target), turned(splits.test))


def test_the_order_of_a_file_is_in_no_key() -> None:
    run, splits = golden_run()
    assert run.key(backwards(splits)) == run.key(splits)
    assert fingerprint(splits.pool[::-1]) == fingerprint(splits.pool) != fingerprint(splits.pool[1:])


def test_a_selector_that_goes_by_the_order_has_it_in_its_key(tmp_path: Path) -> None:
    _, splits = golden_run()
    run = build_run(
        compose(
            ["dataset=embedded", *SMALL, "model.dtype=float32", "selector=data_whisperer", "selector.variant=reference"]
        )
    )
    assert "order" in run.selector.needs
    assert run.key(backwards(splits)) != run.key(splits)
    bench = Bench(Store(tmp_path))
    one, other = (
        score_identity(run.selector, Context(run.selector.needs, bench, run.material(each), LoadedModels()))
        for each in (splits, backwards(splits))
    )
    assert one != other


def test_where_things_lie_is_in_no_key(tmp_path: Path) -> None:
    base = ["dataset=embedded", *SMALL, "selector=ifd"]
    moved = [f"store_dir={tmp_path}", f"results_dir={tmp_path}", "tracker=none", "experiment_name=x", "model.name=y"]
    one, other = build_run(compose(base)), build_run(compose([*base, *moved, "model.device=cpu"]))
    splits = one.dataset.load(0)
    assert one.key(splits) == other.key(splits)


@pytest.mark.parametrize(
    "changed",
    [
        "selector.ifd_max=2", "budget=0.2", "seed=1", "train.epochs=6", "eval.nll_rows=3", "dataset.task.system=Hm",
        "model.max_length=100", "model.dtype=bfloat16", "scorer_model=TINY",
    ],
)  # fmt: skip
def test_what_changes_results_is_in_the_key(changed: str, tiny_lm: LM) -> None:
    changed = changed.replace("TINY", tiny_lm.source)
    base = ["dataset=embedded", *SMALL, "model.dtype=float32", "selector=ifd"]
    one, other = build_run(compose(base)), build_run(compose([*base, changed]))
    splits = one.dataset.load(0)
    assert one.key(splits) != other.key(splits)


def test_a_scorer_changes_nothing_where_none_is_used(tiny_lm: LM) -> None:
    one, other = build_run(compose([])), build_run(compose([f"scorer_model={tiny_lm.source}"]))
    splits = one.dataset.load(0)
    assert one.key(splits) == other.key(splits)


def test_a_scorer_runs_where_the_model_does(tiny_lm: LM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = ["model.device=cuda:1", "model.dtype=float16", f"scorer_model={tiny_lm.source}"]
    scorer = build_run(compose(here)).scorer
    assert (scorer.device, scorer.dtype, scorer.max_length) == ("cuda:1", "float16", 1024)
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "conf" / "model"
    folder.mkdir(parents=True)
    target = "_target_: dwbench.models.spec.LM"
    (folder / "mine.yaml").write_text(f"{target}\nname: mine\nsource: {tiny_lm.source}\ndevice: cpu\ndtype: float32\n")
    scorer = build_run(compose([*here[:2], "scorer_model=mine"])).scorer
    assert (scorer.device, scorer.dtype) == ("cpu", "float32")


def test_the_size_of_batches_is_no_reason_to_tune_again() -> None:
    half = LM(name="m", source="embedded", dtype="bfloat16", device="cpu")
    smaller = dataclasses.replace(half, token_budget=100)
    assert half.training_identity() == smaller.training_identity()
    assert identity(half) != identity(smaller)
    for other in (dataclasses.replace(half, max_length=100), dataclasses.replace(half, dtype="float32")):
        assert other.training_identity() != half.training_identity()
    full = dataclasses.replace(half, dtype="float32")
    assert full.training_identity() == identity(full)


def test_a_configured_models_source_brings_its_settings() -> None:
    for name in ("qwen2.5-0.5b-instruct", "Qwen/Qwen2.5-0.5B-Instruct", "qwen/qwen2.5-0.5b-instruct"):
        lm = model_named(name, "--model")
        assert (lm.name, lm.max_length, lm.token_budget) == ("qwen2.5-0.5b-instruct", 8192, 16384)
    assert embedder_named("intfloat/e5-large-v2", "--embedder").prefix == "query: "
    unknown = embedder_named("us/mine", "--embedder")
    assert (unknown.name, unknown.source, unknown.max_length) == ("mine", "us/mine", None)


def test_a_users_own_configured_folder(tmp_path: Path, tiny_lm: LM, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert model_named(tiny_lm.source, "--model").max_length == 1024
    folder = tmp_path / "conf" / "model"
    folder.mkdir(parents=True)
    target = "_target_: dwbench.models.spec.LM"
    (folder / "mine.yaml").write_text(f"{target}\nname: mine\nsource: {tiny_lm.source}/\nmax_length: 77\n")
    assert model_named(tiny_lm.source, "--model").max_length == 77
    (folder / "other.yaml").write_text(f"{target}\nname: other\nsource: {tiny_lm.source}\nmax_length: 78\n")
    with pytest.raises(UserError, match=r"^--model=.*: is the source of mine and other: give one of these names$"):
        model_named(tiny_lm.source, "--model")
    assert model_named("other", "--model").max_length == 78


def test_the_papers_training_is_the_default() -> None:
    assert build("train", settings_of("train", "paper")) == LoraSFT()


def test_a_label_names_what_differs_in_a_component_inside() -> None:
    run = build_run(compose(["selector=facility_location_hybrid", "selector.prefilter.measure=mean_entropy"]))
    assert run.selector_label == "facility_location_hybrid(prefilter.measure=mean_entropy)"


def test_a_label_names_what_differs_from_the_file() -> None:
    assert selector_named("ifd", {"ratio": "ppl", "ifd_max": 1.0})[1] == "ifd(ratio=ppl)"
    assert selector_named("ifd", {"ifd_max": 1})[1] == "ifd"


def test_settings_of_one_selector_in_a_sweep() -> None:
    settings = ["selector_settings.ifd.ratio=ppl", "selector_settings.data_whisperer.n_d=3"]
    sweep = plan(["selector=random,ifd,data_whisperer", *settings], multirun=True)
    labels = [planned.run.selector_label for planned in sweep.planned]
    assert labels == ["random", "ifd(ratio=ppl)", "data_whisperer(n_d=3)"]


def test_the_command_line_goes_before_the_section() -> None:
    sweep = plan(["selector=ifd", "selector_settings.ifd.ratio=ppl", "selector.ratio=loss"], multirun=False)
    assert sweep.planned[0].run.selector_label == "ifd"


@pytest.mark.parametrize(
    ("argument", "told"),
    [
        ("selector_settings.iffd.ratio=ppl", r"^selector_settings\.iffd: no such selector: did you mean 'ifd'\?$"),
        ("selector_settings.ifd.ratoi=ppl", r"ratoi: ifd has no such setting: did you mean 'ratio'\?$"),
    ],
)
def test_wrong_settings_of_one_selector(argument: str, told: str) -> None:
    with pytest.raises(UserError, match=told):
        plan(["selector=ifd", argument], multirun=False)


def selectors_of(*arguments: str, multirun: bool = False) -> list[tuple[str, str, int]]:
    planned = plan(["experiment=quickstart", "dataset.pool_rows=20", *arguments], multirun=multirun).planned
    return [(each.run.selector_name, each.run.budget.asked, each.run.seed) for each in planned]


def test_an_experiment_brings_its_axes() -> None:
    names = [name for name, _, _ in selectors_of()]
    assert len(names) > 3
    assert {"random", "ifd", "data_whisperer"} <= set(names)


def test_the_command_line_replaces_an_experiments_axis() -> None:
    assert selectors_of("selector=random") == [("random", "0.1", 0)]
    assert selectors_of("selector=random,ifd", multirun=True) == [("random", "0.1", 0), ("ifd", "0.1", 0)]


def test_the_command_line_adds_an_axis_to_an_experiment() -> None:
    one, two = selectors_of(), selectors_of("budget=1,5", multirun=True)
    assert len(two) == 2 * len(one)
    assert {budget for _, budget, _ in two} == {"1", "5"}


def test_hydra_launches_what_was_planned() -> None:
    arguments = plan(["experiment=quickstart", "selector=random,ifd", "budget=5%,1"], multirun=True).hydra_arguments
    assert arguments[0] == "-m"
    assert arguments[-3:] == ("experiment=quickstart", "selector=random,ifd", "budget=5%,1")


def test_several_values_need_m() -> None:
    with pytest.raises(UserError, match=r"^selector: several values make a sweep: add -m$"):
        plan(["selector=random,ifd"], multirun=False)


def test_other_sweep_forms() -> None:
    sweep = plan(["seed=range(0,3)", "budget=choice(1,0.5)"], multirun=True)
    assert [(planned.run.seed, planned.run.budget) for planned in sweep.planned] == [
        (seed, parse_budget(budget)) for seed in range(3) for budget in (1, 0.5)
    ]


def test_a_glob_picks_names() -> None:
    found = plan(["selector=glob(*_ppl)", "budget=3", "dataset=embedded"], multirun=True)
    assert [planned.run.selector_name for planned in found.planned] == ["high_ppl", "low_ppl", "mid_ppl"]
    with pytest.raises(UserError, match=r"matches none of: .*ifd"):
        plan(["selector=glob(nosuch*)"], multirun=True)


@pytest.mark.parametrize(
    ("argument", "told"),
    [
        ("=3", "has no key"),
        ("seed=interval(0,1)", "names no values to go through"),
        ("seed=range(3,0)", "names no values to go through"),
        ("seed=range(0,3,0)", "names no values to go through"),
        ("~budget", "can't be taken away"),
        ("~train.epochs", "can't be taken away"),
        ("selector._target_=os.system", "write selector=NAME"),
        ("experiment_name=../x", "experiment_name='../x'"),
        ("results_dir=", "results_dir"),
        ("model.name=", "name: must not be empty"),
        ("dataset.task.max_new_tokens=0", "max_new_tokens"),
        ("selector_settings.ifd.bar=1", "ifd has no such setting"),
        ("selector=random selector.foo=1", "random has no such setting|has no settings"),
    ],
)
def test_overrides_that_can_not_be(argument: str, told: str) -> None:
    with pytest.raises(UserError, match=told):
        plan(argument.split(" "), multirun=False)


def test_help_is_instant_and_imports_nothing_heavy() -> None:
    code = (
        "import sys; from dwbench.cli import main; code = main(['--help']); "
        "print(sorted({'torch', 'transformers', 'numpy', 'hydra', 'pydantic'} & sys.modules.keys())); sys.exit(code)"
    )
    seconds = []
    for _ in range(3):
        begin = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        seconds.append(time.perf_counter() - begin)
    assert done.stdout.splitlines()[-1] == "[]"
    assert "dwbench run experiment=quickstart" in done.stdout
    assert min(seconds) < 0.7


@pytest.mark.parametrize("command", ["run", "select", "check", "list", "table", "publish"])
def test_help_of_a_command_imports_no_torch(command: str) -> None:
    code = (
        f"import sys; from dwbench.cli import main\n"
        f"try:\n    main([{command!r}, '--help'])\nexcept SystemExit:\n    pass\n"
        f"print(sorted({{'torch', 'transformers'}} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert f"usage: dwbench {command}" in done.stdout
