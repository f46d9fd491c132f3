"""Stages: whole or absent, built once, charged always."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dwbench.component import key_of
from dwbench.cost import Cost
from dwbench.errors import UserError
from dwbench.store import Artefact, Bench, Build, Store, write_json

BUILDER = Path(__file__).with_name("builder.py")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def writes(name: str = "value.json", value: object = 1, seconds: float = 0.0) -> Build:
    def build(folder: Path) -> None:
        time.sleep(seconds)
        write_json(folder / name, value)

    return build


def never(folder: Path) -> None:
    raise AssertionError("built although it is stored")


def stages(store: Store) -> list[str]:
    """What is stored or lies half-built."""
    return sorted(f"{path.parent.name}/{path.name}" for path in store.root.glob("[!.]*/*"))


def test_a_stage_is_built_once(store: Store) -> None:
    built = Bench(store).stage("score", {"a": 1}, writes(value={"x": 1}))
    found = Bench(store).stage("score", {"a": 1}, never)
    assert found == built
    assert found.json("value.json") == {"x": 1}
    assert found.ref == f"score/{key_of({'a': 1})}"
    assert stages(store) == [found.ref]


def test_another_identity_is_another_stage(store: Store) -> None:
    one = Bench(store).stage("score", {"a": 1}, writes(value=1))
    two = Bench(store).stage("score", {"a": 2}, writes(value=2))
    other = Bench(store).stage("train", {"a": 1}, writes(value=3))
    assert [artefact.json("value.json") for artefact in (one, two, other)] == [1, 2, 3]


def test_the_manifest_says_what_it_is(store: Store) -> None:
    found = Bench(store).stage("score", {"a": 1}, writes())
    manifest = json.loads((found.folder / "manifest.json").read_text())
    assert manifest["identity"] == {"a": 1}
    assert manifest["stage"] == "score"
    assert manifest["key"] == key_of({"a": 1})
    assert list(manifest["files"]) == ["value.json"]
    assert manifest["environment"]["packages"]["numpy"] == np.__version__


def test_arrays(store: Store) -> None:
    def build(folder: Path) -> None:
        np.savez_compressed(folder / "a.npz", allow_pickle=False, x=np.arange(3))

    assert Bench(store).stage("represent", {}, build).arrays("a.npz")["x"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_exception_stores_nothing(store: Store, error: type[BaseException]) -> None:
    def build(folder: Path) -> None:
        writes()(folder)
        raise error("in the middle")

    bench = Bench(store)
    with pytest.raises(error, match="in the middle"):
        bench.stage("score", {}, build)
    assert stages(store) == []
    with pytest.raises(RuntimeError, match="inside a stage"):
        _ = bench.meter
    assert bench.stage("score", {}, writes(value=7)).json("value.json") == 7


def test_a_nested_stage_survives_its_parents_failure(store: Store) -> None:
    bench = Bench(store)

    def build(folder: Path) -> None:
        bench.stage("represent", {}, writes(value=5))
        raise ValueError("later")

    with pytest.raises(ValueError, match="later"):
        bench.stage("score", {}, build)
    assert stages(store) == [f"represent/{key_of({})}"]


def test_nested_stages_are_exclusive_and_counted_once(store: Store) -> None:
    bench = Bench(store)

    def base(folder: Path) -> None:
        bench.meter.count(forward_tokens=1)
        writes(seconds=0.05)(folder)

    def middle(number: int) -> Build:
        def build(folder: Path) -> None:
            bench.stage("represent", {"of": "base"}, base)
            bench.meter.count(forward_tokens=10)
            writes(value=number, seconds=0.02)(folder)

        return build

    def top(folder: Path) -> None:
        for number in (1, 2, 1):
            bench.stage("represent", {"of": number}, middle(number))
        bench.meter.count(forward_tokens=100)
        writes()(folder)

    built = bench.stage("score", {}, top)
    used = store.closure((built.ref,))
    assert len(used) == 4
    assert len(built.uses) == 2
    assert built.cost.seconds < 0.02
    assert built.cost.forward_tokens == 100
    total = sum((artefact.cost for artefact in used.values()), Cost())
    assert total.forward_tokens == 121
    assert 0.09 <= total.seconds < 0.14


def test_reuse_is_charged_what_it_once_cost(store: Store) -> None:
    def score(bench: Bench, name: str) -> Cost:
        def represent(folder: Path) -> None:
            bench.meter.count(forward_tokens=1000)
            writes(seconds=0.05)(folder)

        def build(folder: Path) -> None:
            bench.stage("represent", {}, represent)
            writes()(folder)

        ref = bench.stage("score", {"name": name}, build).ref
        return sum((artefact.cost for artefact in store.closure((ref,)).values()), Cost())

    first, second = score(Bench(store), "one"), score(Bench(store), "two")
    warm = score(Bench(store), "one")
    assert first.forward_tokens == second.forward_tokens == 1000
    assert second.seconds >= 0.05
    assert warm == first


def test_what_is_gone_is_named(store: Store) -> None:
    with pytest.raises(UserError, match=r"score/abc is not in the store .*: give the same command again"):
        store.closure(("score/abc",))


BREAK: dict[str, Callable[[Path], object]] = {
    "manifest gone": lambda folder: (folder / "manifest.json").unlink(),
    "manifest is no JSON": lambda folder: (folder / "manifest.json").write_text("{"),
    "manifest is empty": lambda folder: (folder / "manifest.json").write_text(""),
    "manifest says nothing": lambda folder: (folder / "manifest.json").write_text("{}"),
    "manifest is a list": lambda folder: (folder / "manifest.json").write_text("[1]"),
    "manifest is a folder": lambda folder: become_folder(folder / "manifest.json"),
    "cost of an odd type": lambda folder: edit(folder, cost={"seconds": "long"}),
    "another key's manifest": lambda folder: edit(folder, key="0" * 20),
    "file gone": lambda folder: (folder / "value.json").unlink(),
    "file cut short": lambda folder: (folder / "value.json").write_text(""),
    "file is a folder": lambda folder: become_folder(folder / "value.json"),
    "other content of the same size": lambda folder: (folder / "value.json").write_text("2\n"),
}


def become_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def edit(folder: Path, **fields: object) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, **fields}))


@pytest.mark.parametrize("case", BREAK)
def test_what_is_damaged_is_built_again(store: Store, case: str) -> None:
    first = Bench(store).stage("score", {"a": 1}, writes())
    BREAK[case](first.folder)
    assert store.find(*first.ref.split("/")) is None
    said: list[tuple[str, str]] = []
    bench = Bench(store)
    bench.progress.stage = lambda name, event: said.append((name, event))  # type: ignore[method-assign]
    again = bench.stage("score", {"a": 1}, writes())
    assert again.json("value.json") == 1
    assert again.ref == first.ref
    assert [event for _, event in said] == ["damaged", "start", "done"]
    assert sorted(path.name for path in again.folder.iterdir()) == ["manifest.json", "value.json"]
    assert Bench(store).stage("score", {"a": 1}, never) == again
    assert stages(store) == [again.ref]


def test_of_large_files_the_size_must_do(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dwbench.store.HASHED_BYTES", 1)
    stored = Bench(store).stage("score", {}, writes())
    (stored.folder / "value.json").write_text("2\n")
    assert store.find(*stored.ref.split("/")) == stored
    (stored.folder / "value.json").write_text("21\n")
    assert store.find(*stored.ref.split("/")) is None


def test_a_manifest_without_sizes_is_checked_by_hashes(store: Store) -> None:
    stored = Bench(store).stage("score", {}, writes())
    edit(stored.folder, sizes={})
    assert store.find(*stored.ref.split("/")) == stored
    (stored.folder / "value.json").write_text("21\n")
    assert store.find(*stored.ref.split("/")) is None


@pytest.mark.parametrize("harm", [shutil.rmtree, BREAK["file cut short"]])
def test_what_used_a_stage_that_is_gone_is_built_again(store: Store, harm: Callable[[Path], object]) -> None:
    built: list[str] = []

    def noting(bench: Bench, name: str, inner: Build | None = None) -> Build:
        def build(folder: Path) -> None:
            built.append(name)
            bench.meter.count(forward_tokens=1)
            if inner is not None:
                bench.stage("represent", {"of": "inner"}, inner)
            writes()(folder)

        return build

    def score() -> Artefact:
        bench = Bench(store)
        return bench.stage("score", {}, noting(bench, "score", noting(bench, "represent")))

    first = score()
    (inner,) = first.uses
    harm(store.root / inner)
    with pytest.raises(UserError, match=inner):
        store.get(first.ref)
    again = score()
    assert built == ["score", "represent"] * 2
    assert again.uses == first.uses
    assert sum(used.cost.forward_tokens for used in store.closure((again.ref,)).values()) == 2
    score()
    assert len(built) == 4


def test_four_processes_mend_once(store: Store, tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert start(store, log, 0).communicate(timeout=60)[0] == "42\n"
    (store.folder("score", key_of({"version": 1})) / "value.json").write_text("")
    processes = [start(store, log, 0.2) for _ in range(4)]
    outputs = [process.communicate(timeout=60) for process in processes]
    assert [out for out, _ in outputs] == ["42\n"] * 4, outputs
    assert log.read_text() == "built\n" * 2


def test_half_a_folder_without_a_manifest_is_not_read(store: Store) -> None:
    part = store.folder("score", key_of({})).with_name(f".{key_of({})}.part")
    part.mkdir(parents=True)
    (part / "value.json").write_text("1")
    assert store.find("score", key_of({})) is None
    found = Bench(store).stage("score", {}, writes("other.json"))
    assert sorted(path.name for path in found.folder.iterdir()) == ["manifest.json", "other.json"]
    assert not part.exists()


def test_waiting_for_another_process_is_booked_apart(store: Store) -> None:
    said: list[tuple[str, str]] = []
    bench = Bench(store)
    bench.progress.stage = lambda name, event: said.append((name, event))  # type: ignore[method-assign]
    key = key_of({"of": "inner"})

    def build(folder: Path) -> None:
        bench.stage("represent", {"of": "inner"}, writes())
        writes()(folder)

    taken = threading.Event()

    def hold() -> None:
        with store.lock("represent", key):
            taken.set()
            time.sleep(0.4)

    other = threading.Thread(target=hold)
    other.start()
    taken.wait()
    found = bench.stage("score", {}, build)
    other.join()
    used = store.closure((found.ref,))
    assert sum(artefact.cost.seconds for artefact in used.values()) < 0.2
    assert found.cost.apart["wait"] >= 0.3
    assert said == [
        ("score", "start"), ("represent", "wait"), ("represent", "start"), ("represent", "done"), ("score", "done")
    ]  # fmt: skip


def test_write_json_is_whole_or_absent(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"a": "old"})
    write_json(path, {"a": "new"})
    for bad, error in ((float("nan"), "JSON compliant"), ("\ud83d", "surrogates")):
        with pytest.raises(ValueError, match=error):
            write_json(path, {"a": bad})
    assert json.loads(path.read_text()) == {"a": "new"}
    assert [item.name for item in tmp_path.iterdir()] == ["a.json"]


def start(store: Store, log: Path, seconds: float) -> "subprocess.Popen[str]":
    command = [sys.executable, str(BUILDER), str(store.root), str(log), str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_four_processes_build_once(store: Store, tmp_path: Path) -> None:
    log = tmp_path / "log"
    processes = [start(store, log, 0.5) for _ in range(4)]
    outputs = [process.communicate(timeout=60) for process in processes]
    assert [(process.returncode, out) for process, (out, _) in zip(processes, outputs, strict=True)] == [
        (0, "42\n")
    ] * 4, outputs
    assert log.read_text() == "built\n"


def test_kill_in_the_middle(store: Store, tmp_path: Path) -> None:
    log = tmp_path / "log"
    first = start(store, log, 60)
    part = store.folder("score", key_of({"version": 1})).with_name(f".{key_of({'version': 1})}.part")
    until = time.monotonic() + 30
    while not (part / "half").exists():
        assert time.monotonic() < until, first.communicate()
        time.sleep(0.02)
    waiting = start(store, log, 0)
    os.kill(first.pid, signal.SIGKILL)
    first.communicate()
    out, err = waiting.communicate(timeout=30)
    assert (waiting.returncode, out) == (0, "42\n"), err
    assert log.read_text() == "built\n" * 2
    again = start(store, log, 0)
    assert again.communicate(timeout=30)[0] == "42\n"
    assert log.read_text() == "built\n" * 2
    assert not part.exists()
