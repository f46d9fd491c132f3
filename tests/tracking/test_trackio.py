"""Records reach trackio's local store, are told of nowhere else, and are mirrored: once each, and anew when changed."""

import dataclasses
import importlib.util
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from made_records import made

from dwbench.cli import main
from dwbench.models.spec import LM
from dwbench.records import Record, load_records
from dwbench.tracking import to_trackio
from dwbench.tracking.run_data import run_config
from dwbench.tracking.to_trackio import Tracked, folder_beside, track

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("trackio") is None, reason="pip install 'dwbench[trackio]'"
)  # a process of its own imports it

READ = """
import json, sys
import trackio
from trackio.sqlite_storage import SQLiteStorage
project = sys.argv[1]
told = [
    {"name": run.name, "config": run.config, "logs": SQLiteStorage.get_logs(project, run.name, run_id=run.id)}
    for run in trackio.Api().runs(project)
]
print(json.dumps(told))
"""


def stored(folder: Path, project: str = "p") -> dict[str, dict[str, Any]]:
    """What trackio itself reads of each run, by our keys."""
    environment = {**os.environ, "TRACKIO_DIR": str(folder), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", READ, project], env=environment, capture_output=True, text=True, check=True
    )
    found = json.loads(done.stdout.splitlines()[-1])
    runs = {run["config"]["run"]: run for run in found}
    assert len(runs) == len(found)
    return runs


def logged(run: dict[str, Any], metric: str) -> list[tuple[int, float]]:
    return [(row["step"], row[metric]) for row in run["logs"] if metric in row]


def test_a_record_becomes_a_run(tmp_path: Path) -> None:
    ifd, full = made("ifd", select=(40.0, 1e15)), made("full", train_seconds=400.0)
    untuned = made("zero_shot")
    assert track([ifd, untuned], project="p", folder=tmp_path, reference=[full]) == Tracked(2, tmp_path, None)
    runs = stored(tmp_path)
    assert set(runs) == {ifd.run, untuned.run}
    run = runs[ifd.run]
    assert run["name"] == f"ifd 0.1 dialogsum smollm2-135m s0 {ifd.run[:8]}"
    told = {name: value for name, value in run["config"].items() if not name.startswith("_")}
    assert told == json.loads(json.dumps(run_config(ifd)))
    assert run["config"]["_Group"] == "quickstart"
    assert run["config"]["_Username"] is None
    assert logged(run, "train/loss") == [(1, 3.5), (2, 2.25), (3, 1.75)]
    assert logged(run, "metrics/rouge_l") == [(3, 0.25)]
    assert logged(run, "str/seconds") == [(3, 0.1)]
    assert logged(run, "str/training_seconds") == [(3, 30.0)]
    # A panel for each number: what is looked at first comes first.
    assert min({name for row in run["logs"] for name in row if "/" in name}).startswith("metrics/")
    assert logged(runs[untuned.run], "metrics/nll") == [(0, 1.5)]
    assert logged(runs[untuned.run], "train/loss") == []


def test_the_store_mirrors_the_records(tmp_path: Path) -> None:
    one, two = made("ifd", select=(40.0, 1e15)), made("random")
    assert track([one, two], project="p", folder=tmp_path).count_new == 2
    assert track([one, two], project="p", folder=tmp_path) == Tracked(0, tmp_path, None)
    full = made("full", train_seconds=400.0)  # now STR is measured
    assert track([one], project="p", folder=tmp_path, reference=[full]).count_new == 1
    assert track([one], project="p", folder=tmp_path, only_new=True).count_new == 0
    metrics = {"nll": {"value": 9.0, "stderr": None, "n": 64}}
    changed = dataclasses.replace(two, data={**two.data, "metrics": metrics})
    assert track([changed], project="p", folder=tmp_path).count_new == 1
    runs = stored(tmp_path)
    assert logged(runs[one.run], "str/seconds") == [(3, 0.1)]
    assert logged(runs[two.run], "metrics/nll") == [(3, 9.0)]
    assert logged(runs[two.run], "metrics/rouge_l") == []
    assert track([one], project="q", folder=tmp_path).count_new == 1
    assert set(stored(tmp_path, "q")) == {one.run}


class Listener(NamedTuple):
    address: str
    calls: list[str]


@pytest.fixture
def listener() -> Iterator[Listener]:
    """Notes whoever connects."""
    server = socket.create_server(("127.0.0.1", 0))
    calls: list[str] = []

    def listen() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            calls.append(connection.recv(200).decode(errors="replace"))
            connection.close()

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    yield Listener(f"http://127.0.0.1:{server.getsockname()[1]}", calls)
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    thread.join()


def test_nobody_is_called(tmp_path: Path, listener: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy", "HF_ENDPOINT"):
        monkeypatch.setenv(name, listener.address)
    for name in ("NO_PROXY", "no_proxy", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_TOKEN", "hf_" + "x" * 34)
    for name, value in {
        "SPACE_ID": "somebody/space",
        "SERVER_URL": f"{listener.address}?write_token=x",
        "DATASET_ID": "somebody/data",
        "BUCKET_ID": "somebody/bucket",
        "WEBHOOK_URL": listener.address,
    }.items():
        monkeypatch.setenv(f"TRACKIO_{name}", value)
    assert track([made("ifd")], project="p", folder=tmp_path) == Tracked(1, tmp_path, None)
    assert listener.calls == []
    for name in list(os.environ):
        if name.startswith("TRACKIO_"):
            monkeypatch.delenv(name)
    assert set(stored(tmp_path)) == {made("ifd").run}


def test_what_goes_wrong_is_one_line_and_is_tried_again(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    told = track([made()], project="p", folder=tmp_path / "file")
    assert (told.count_new, "File exists" in str(told.notice)) == (0, True)
    told = track([made()], project="registry-x", folder=tmp_path / "store")
    assert told.count_new == 0
    assert "registry-x" in str(told.notice)
    assert "\n" not in str(told.notice)
    broken = tmp_path / "store" / "p.db"
    broken.write_bytes(b"this is no database" * 100)
    told = track([made()], project="p", folder=tmp_path / "store")
    assert told.count_new == 0
    assert "database" in str(told.notice)
    broken.unlink()
    assert track([made()], project="p", folder=tmp_path / "store") == Tracked(1, tmp_path / "store", None)


def test_where_it_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRACKIO_DIR", raising=False)
    assert folder_beside(tmp_path / "store") == tmp_path / "trackio"
    monkeypatch.setenv("TRACKIO_DIR", "elsewhere")
    assert folder_beside(tmp_path / "store") == Path("elsewhere")


def test_a_sweep_is_tracked_as_it_goes(
    tiny_lm: LM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TRACKIO_DIR", raising=False)
    arguments = (
        f"model.source={tiny_lm.source}", "model.name=tiny", "model.dtype=float32", "model.device=cpu",
        "model.max_length=512", "dataset.pool_rows=12", "dataset.target_rows=2", "dataset.test_rows=3",
        "dataset.task.max_new_tokens=8", "train=small", "train.batch_size=1", "train.epochs=2", "budget=2",
        "tracker=trackio", "selector=random,full", "-m",
    )  # fmt: skip
    seen: list[int] = []
    write = to_trackio._write

    def spy(folder: Path, told: dict[str, Any]) -> str | None:
        seen.append(len(told["runs"]))
        return write(folder, told)

    monkeypatch.setattr(to_trackio, "_write", spy)
    assert main(["run", *arguments]) == 0
    # Each job hands its own run over; STR of `random` is measured only when `full` is done.
    assert seen == [1, 1, 1]
    assert "trackio: TRACKIO_DIR=.dwbench/trackio trackio show --project dwbench" in capsys.readouterr().err
    records: list[Record] = load_records(tmp_path / "results")
    runs = stored(tmp_path / ".dwbench" / "trackio", "dwbench")
    assert set(runs) == {record.run for record in records}
    for record in records:
        assert record.training is not None
        losses = [(step, pytest.approx(loss)) for step, loss in record.training["loss"]]
        assert losses
        assert logged(runs[record.run], "train/loss") == losses
        (value,) = [value for _, value in logged(runs[record.run], "metrics/nll")]
        assert value == pytest.approx(record.metrics["nll"]["value"])
    assert main(["run", *arguments]) == 0
    assert seen == [1, 1, 1]
