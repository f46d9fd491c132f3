"""Whole runs on a tiny model: a sweep, its repetition, failures, kills and interruptions."""

import contextlib
import io
import json
import os
import re
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from processes import Started

from dwbench.cli import main
from dwbench.models.spec import LM
from dwbench.records import Record, load_records
from dwbench.report.str_ratio import ratios


class Place(NamedTuple):
    """Where a test runs: its arguments and its folders."""

    arguments: tuple[str, ...]
    results: Path
    store: Path

    def run(self, *arguments: str) -> "Told":
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main(["run", *self.arguments, *arguments])
        return Told(code, out.getvalue(), err.getvalue())

    def start(self, *arguments: str) -> Started:
        return Started(["run", *self.arguments, *arguments], self.store.parent)

    def records(self) -> dict[tuple[str, int], Record]:
        return {(record.label, record.rows): record for record in load_records(self.results)}

    def stored(self, stage: str = "*") -> dict[str, int]:
        """When each stored file was written."""
        files = self.store.glob(f"{stage}/[!.]*/**/*")
        return {str(path): path.stat().st_mtime_ns for path in files if path.is_file()}


class Told(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture(scope="module")
def place(tiny_lm: LM, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Place]:
    """Makes empty places."""

    def make() -> Place:
        folder = tmp_path_factory.mktemp("place")
        results, store = folder / "results", folder / "store"
        arguments = (
            f"model.source={tiny_lm.source}", "model.name=tiny", "model.dtype=float32", "model.device=cpu",
            "model.max_length=512", "dataset=embedded", "dataset.pool_rows=12", "dataset.target_rows=2",
            "dataset.test_rows=3", "dataset.task.max_new_tokens=8", "train=small", "train.batch_size=1",
            "train.epochs=2", "tracker=none", f"results_dir={results}", f"store_dir={store}",
            f"hydra.sweep.dir={folder}/hydra",
        )  # fmt: skip
        return Place(arguments, results, store)

    return make


SWEEP = ("selector=random,low_ppl,ifd", "budget=2,4", "-m")


class Swept(NamedTuple):
    place: Place
    told: Told


@pytest.fixture(scope="module")
def swept(place: Callable[[], Place]) -> Swept:
    """A sweep that nothing disturbed."""
    here = place()
    return Swept(here, here.run(*SWEEP))


def content(record: Record) -> Any:
    """What must not depend on when and where a run was made: all but times, memory and machine."""
    data = json.loads(json.dumps({**record.data, "environment": None, "command": None, "config": None}))
    for what in ("selection", "training", "evaluation"):
        for cost in (data["cost"][what]["total"], *data["cost"][what]["stages"].values()):
            cost |= {"seconds": None, "peak_bytes": None, "apart": None}
    return data


def selected(record: Record) -> Any:
    """Of that content what selecting leaves."""
    data = content(record)
    return data["selection"], data["cost"]["selection"]


def test_a_sweep_leaves_records_and_prints_its_table(swept: Swept) -> None:
    place, told = swept
    assert told.code == 0, told.err
    records = place.records()
    assert set(records) == {(label, rows) for label in ("random", "low_ppl", "ifd") for rows in (2, 4)}
    assert all(len(set(record.data["selection"]["ids"])) == rows for (_, rows), record in records.items())
    for word in ("embedded (pool 12, target 2, test 3), tiny", "low_ppl", "ifd", "random", "nll", "STR", "estimated"):
        assert word in told.out
    assert not (place.results / "failed").exists()
    assert not list(place.store.rglob("*.part"))


def test_a_record_says_what_was_done(swept: Swept) -> None:
    record = swept.place.records()["ifd", 4].data
    assert record["metrics"]["nll"]["n"] == 3
    assert record["training"]["rows"] == 4
    assert record["training"]["steps"] == 8
    assert record["scorer"]["name"] == record["model"]["name"] == "tiny"
    assert record["cost"]["selection"]["total"]["forward_calls"] == 24
    assert {ref.split("/")[0] for ref in record["cost"]["selection"]["stages"]} == {"score", "represent"}
    assert record["config"]["train"]["epochs"] == 2
    assert record["command"].startswith("dwbench run ")
    assert swept.place.records()["random", 4].data["scorer"] is None


def test_selectors_share_representations_and_budgets_share_scores(swept: Swept) -> None:
    assert len(list(swept.place.store.glob("score/*/manifest.json"))) == 3
    assert len(list(swept.place.store.glob("represent/*/manifest.json"))) == 2
    one, two = (swept.place.records()["ifd", rows].data["cost"]["selection"] for rows in (2, 4))
    assert one == two
    low = swept.place.records()["low_ppl", 2].data["cost"]["selection"]["stages"]
    assert set(low) & set(one["stages"]) == {ref for ref in low if ref.startswith("represent")}


def test_a_repetition_computes_nothing(swept: Swept) -> None:
    place, told = swept
    stored, written = place.stored(), {path: path.stat().st_mtime_ns for path in place.results.rglob("*.json")}
    again = place.run(*SWEEP)
    assert (again.code, again.out) == (0, told.out)
    assert place.stored() == stored
    assert {path: path.stat().st_mtime_ns for path in place.results.rglob("*.json")} == written
    assert ": start" not in again.err


def test_another_place_gives_the_same(swept: Swept, place: Callable[[], Place]) -> None:
    here = place()
    assert here.run("selector=ifd", "budget=4").code == 0
    assert content(here.records()["ifd", 4]) == content(swept.place.records()["ifd", 4])


def test_str_does_not_depend_on_a_warm_store(swept: Swept) -> None:
    place = swept.place
    before = [(ratio.seconds, ratio.flop) for ratio in ratios(list(place.records().values()))]
    for path in place.results.rglob("*.json"):
        path.unlink()
    assert place.run(*SWEEP).code == 0
    assert [(ratio.seconds, ratio.flop) for ratio in ratios(list(place.records().values()))] == before


def test_full_and_zero_shot(swept: Swept) -> None:
    told = swept.place.run("selector=full,zero_shot", "-m")
    assert told.code == 0, told.err
    records = swept.place.records()
    assert records["full", 12].data["training"]["rows"] == 12
    assert records["zero_shot", 0].data["training"] is None
    assert records["zero_shot", 0].data["metrics"] != records["full", 12].data["metrics"]
    again = swept.place.run("selector=full,random", "budget=2", "-m")
    assert "estimated" not in again.out


def test_another_seed_does_not_score_again(swept: Swept) -> None:
    before = swept.place.stored("score") | swept.place.stored("represent")
    told = swept.place.run("selector=low_ppl", "budget=2", "seed=1")
    assert told.code == 0, told.err
    assert swept.place.stored("score") | swept.place.stored("represent") == before
    assert "score: stored" in told.err
    assert "train: start" in told.err


def test_random_is_drawn_once_for_all_models(swept: Swept, tmp_path: Path) -> None:
    before = swept.place.stored("score")
    told = swept.place.run("selector=random", "budget=2", "model.max_length=400", "model.name=other")
    assert told.code == 0, told.err
    assert swept.place.stored("score") == before
    assert "score: stored" in told.err
    assert "train: start" in told.err


UNLUCKY = """
from pathlib import Path
from dwbench.component import component
from dwbench.selectors.random import Random


@component
class Unlucky(Random):
    def score(self, context):
        if Path("broken").exists():
            raise RuntimeError("out of luck")
        return super().score(context)
"""


def test_one_failure_stops_no_other(swept: Swept, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = swept.place
    monkeypatch.chdir(tmp_path)
    (tmp_path / "conf" / "selector").mkdir(parents=True)
    (tmp_path / "conf" / "selector" / "unlucky.yaml").write_text("_target_: unlucky_selector.Unlucky\n")
    (tmp_path / "unlucky_selector.py").write_text(UNLUCKY)
    (tmp_path / "broken").touch()
    command = ("selector=random,unlucky", "budget=2", "-m")
    told = place.run(*command)
    assert told.code == 1
    assert "1 of 2 runs failed" in told.err
    assert "Traceback" not in told.err
    assert "random" in told.out
    assert "unlucky" not in told.out
    (path,) = (place.results / "failed").iterdir()
    failed = json.loads(path.read_text())
    assert failed["error"] == "RuntimeError: out of luck"
    assert failed["config"]["budget"] == 2
    assert failed["traceback"][-1] == "RuntimeError: out of luck"
    assert not list(place.store.rglob("*.part"))
    table = io.StringIO()
    with contextlib.redirect_stdout(table):
        assert main(["table", "--results", str(place.results), "--allow-mixed"]) == 0
    assert "unlucky" not in table.getvalue()
    (tmp_path / "broken").unlink()
    again = place.run(*command)
    assert again.code == 0, again.err
    assert "unlucky" in again.out
    assert not list((place.results / "failed").iterdir())


def test_a_stage_from_another_environment_is_told(place: Callable[[], Place]) -> None:
    here = place()
    command = ("selector=random", "budget=2")
    assert here.run(*command).code == 0
    assert here.records()["random", 2].data["environments_differ"] == {}
    (manifest,) = here.store.glob("score/*/manifest.json")
    told = json.loads(manifest.read_text())
    here_torch = told["environment"]["packages"]["torch"]
    told["environment"]["packages"]["torch"] = "2.0.0"
    manifest.write_text(json.dumps(told))
    shutil.rmtree(here.results)
    assert here.run(*command).code == 0
    record = here.records()["random", 2]
    assert record.data["environments_differ"] == {
        "packages.torch": {"selection": ["2.0.0"], "training": [here_torch], "evaluation": [here_torch]}
    }
    assert record.environment["packages"]["torch"] == here_torch
    err = io.StringIO()
    with contextlib.redirect_stderr(err):
        assert main(["table", "--results", str(here.results)]) == 2
    assert f"torch 2.0.0 and {here_torch} in one run (1 record)" in err.getvalue()


def test_check_knows_what_is_stored(swept: Swept) -> None:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        assert main(["check", *swept.place.arguments, "selector=ifd", "budget=2,3", "-m"]) == 0
    assert re.findall(r"  (\w+): (.*)", out.getvalue()) == [
        ("score", "stored"), ("train", "stored"), ("evaluate", "stored"),
        ("score", "stored"), ("train", "would run"), ("evaluate", "would run"),
    ]  # fmt: skip


def wait_for_part(process: Started, place: Place, stage: str) -> Path:
    """Wait until `stage` is being built; its folder."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        found = list(place.store.glob(f"{stage}/.*.part"))
        if found:
            return found[0]
        assert process.ended(0.005) is None, process.err
    raise AssertionError(f"{stage} did not begin")


def test_killed_in_every_stage(swept: Swept, place: Callable[[], Place]) -> None:
    here = place()
    command = ("selector=ifd", "budget=4")
    stored: dict[str, int] = {}
    for stage in ("score", "train", "evaluate"):
        process = here.start(*command)
        part = wait_for_part(process, here, stage)
        os.kill(process.pid, signal.SIGKILL)
        assert process.ended() == -signal.SIGKILL
        assert part.exists(), f"{stage} was over before the signal"
        assert not list(here.results.rglob("*.json"))
        assert stored.items() <= here.stored().items()
        stored = here.stored()
    assert {Path(path).relative_to(here.store).parts[0] for path in stored} == {"score", "represent", "train"}
    told = here.run(*command)
    assert told.code == 0, told.err
    assert stored.items() <= here.stored().items()
    assert content(here.records()["ifd", 4]) == content(swept.place.records()["ifd", 4])
    assert not list(here.store.rglob("*.part"))


def test_interrupted(place: Callable[[], Place]) -> None:
    here = place()
    process = here.start("selector=random", "budget=2", "train.epochs=1000")  # longer than it lives
    wait_for_part(process, here, "train")
    for _ in range(10):  # a library that is being imported may swallow one, as it would for a person
        os.kill(process.pid, signal.SIGINT)
        if process.ended(4) is not None:
            break
    assert process.ended(0) == 130, process.err
    assert process.out == ""
    assert process.err.splitlines()[-1] == "dwbench: interrupted; the same command goes on where this one stopped"
    assert "Traceback" not in process.err
    assert not list(here.store.rglob("*.part"))
    assert not here.results.exists()


@pytest.fixture
def two_workers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher", reason="pip install 'dwbench[joblib]'")
    yield
    from joblib.externals.loky import get_reusable_executor

    get_reusable_executor().shutdown(wait=True)


@pytest.mark.usefixtures("two_workers")
def test_the_joblib_launcher(swept: Swept, place: Callable[[], Place]) -> None:
    """Two jobs at once that want the same losses. Without tuning, whose libraries each worker imports for seconds."""
    here = place()
    told = here.run("selector=low_ppl,ifd", "budget=4", "select_only=true", "launch=joblib", "-m")
    assert told.code == 0, told.err
    assert {key: selected(record) for key, record in here.records().items()} == {
        (label, 4): selected(swept.place.records()[label, 4]) for label in ("low_ppl", "ifd")
    }
    assert len(list(here.store.glob("represent/*/manifest.json"))) == 2


def test_a_test_prompt_longer_than_the_model_takes_stops_everything_before_it_starts(
    place: Callable[[], Place],
) -> None:
    here = place()
    told = here.run("selector=random", "model.max_length=40")
    assert told.code == 2
    assert "test row" in told.err or "no room" in told.err or "its prompt has" in told.err
    assert not here.results.exists()
    assert not here.stored()


def test_noise_is_planted_and_only_selected_from(
    place: Callable[[], Place], capsys: pytest.CaptureFixture[str]
) -> None:
    here = place()
    noise = ("plant=noise", "plant.truncated=0.1", "plant.empty=0.1", "plant.copy=0.1", "plant.near_copy=0.1")
    command = (*noise, "select_only=true", "diversity=true", "dataset.pool_rows=20", "budget=4")
    told = here.run(*command, "selector=random,low_ppl", "-m")
    assert told.code == 0, told.err
    records = here.records()
    assert set(records) == {("random", 4), ("low_ppl", 4)}
    for record in records.values():
        kinds = record.data["dataset"]["kinds"]
        assert kinds == {"clean": 8, "copy": 2, "empty": 2, "near_copy": 2, "truncated": 2, "wrong_response": 4}
        assert sum(record.data["selection"]["kinds"].values()) == 4
        assert record.data["selection"]["diversity"]["pairwise_distance_mean"] > 0
        assert (record.training, record.metrics, record.data["artefacts"]["evaluation"]) == (None, {}, None)
        assert record.data["cost"]["training"]["total"]["seconds"] == 0
    assert not list(here.store.glob("train/*"))
    assert not list(here.store.glob("evaluate/*"))
    for view, word in (
        ("--kinds", "wrong_response"),
        ("--diversity", "Vendi"),
        ("--agreement", "overlap"),
        ("", "low_ppl"),
    ):
        assert main(["table", "--results", str(here.results), *filter(None, [view])]) == 0
        assert word in capsys.readouterr().out
    assert main(["check", *here.arguments, *command, "selector=low_ppl"]) == 0
    checked = capsys.readouterr().out
    assert "score: stored" in checked
    assert "train" not in checked
    assert here.run(*command[:5], *command[6:], "selector=random").code == 0  # now with tuning: another run
    assert len(load_records(here.results)) == 3
