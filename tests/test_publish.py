"""Records reach W&B's offline files, once; nothing asks, waits for long, or writes where it should not."""

import dataclasses
import json
import os
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from made_records import made

from dwbench.cli import main
from dwbench.errors import UserError
from dwbench.records import Record
from dwbench.store import write_json
from dwbench.tracking.run_data import TABLE_COLUMNS, run_config, without_paths
from dwbench.tracking.to_wandb import Published, publish


@pytest.fixture(autouse=True)
def nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No account, no settings, no network: the host is one that refuses at once."""
    for name in list(os.environ):
        if name.startswith("WANDB_"):
            monkeypatch.delenv(name)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("NETRC", str(home / "netrc"))
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")


def publish_in(folder: Path, records: list[Record], **options: Any) -> Published:
    return publish(records, project="dwbench-test", folder=folder / "wb", marks=folder / "marks", **options)


@dataclass
class Run:
    """What one .wandb file holds."""

    id: str = ""
    name: str = ""
    group: str = ""
    job_type: str = ""
    project: str = ""
    host: str = ""
    tags: list[str] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    artifacts: dict[str, dict[str, str]] = field(default_factory=dict)
    files: Path = Path()


def blocks(path: Path) -> Iterator[bytes]:
    """The records of a LevelDB-style log: 32 KiB blocks of (checksum, length, type, data)."""
    raw = path.read_bytes()
    at, kept = 7, b""  # behind wandb's own head
    while at + 7 <= len(raw):
        left = 32768 - at % 32768
        if left < 7:
            at += left
            continue
        _, length, kind = struct.unpack("<IHB", raw[at : at + 7])
        kept += raw[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield kept
            kept = b""


def read(path: Path) -> Run:
    from importlib import import_module

    proto = import_module("wandb.proto.wandb_internal_pb2")  # its stubs lack the messages
    found = Run(files=path.parent / "files")
    for block in blocks(path):
        record = proto.Record()
        record.ParseFromString(block)
        kind = record.WhichOneof("record_type")
        if kind == "run":
            run = record.run
            found.id, found.name, found.group = run.run_id, run.display_name, run.run_group
            found.job_type, found.project, found.tags = run.job_type, run.project, list(run.tags)
            found.host = run.host
            found.config |= {item.key: json.loads(item.value_json) for item in run.config.update}
        elif kind == "summary":
            for item in record.summary.update:
                found.summary[item.key or "/".join(item.nested_key)] = json.loads(item.value_json)
        elif kind == "history":
            row = {i.key or "/".join(i.nested_key): json.loads(i.value_json) for i in record.history.item}
            found.history.append({"step": record.history.step.num, **row})
        elif kind == "artifact":
            contents = record.artifact.manifest.contents
            found.artifacts[record.artifact.name] = {entry.path: entry.local_path for entry in contents}
    return found


def runs_in(folder: Path) -> list[Run]:
    return sorted((read(path) for path in folder.glob("wb/wandb/offline-run-*/*.wandb")), key=lambda run: run.name)


def test_a_record_becomes_a_run(tmp_path: Path) -> None:
    record = made("ifd", scorer="gpt2", embedder="bge", nll_rows=64, select=(40.0, 1e15))
    done = publish_in(tmp_path, [record])
    assert done == Published(1, 0, 0, "offline", str(tmp_path / "wb" / "wandb"), None)
    (run,) = runs_in(tmp_path)
    assert (run.id, run.group, run.job_type, run.project) == (record.run, "quickstart", "ifd", "dwbench-test")
    assert run.name == "ifd 0.1 dialogsum smollm2-135m s0"
    assert set(run.tags) == {"dialogsum", "smollm2-135m", "ifd"}

    expected = run_config(record)
    assert {name: run.config[name] for name in expected} == expected
    assert run.config["selector"] == "ifd"
    assert run.config["scorer"] == "gpt2"
    assert (run.config["embedder"], run.config["selector/version"]) == ("bge", 1)
    assert (run.config["eval/version"], run.config["eval/nll_rows"], run.config["split_seed"]) == (1, 64, 0)
    assert run.config["train/version"] == 1
    assert run.config["budget_rows"] == 100
    assert run.config["train/learning_rate"] == 1e-4
    assert run.config["environment/packages/torch"] == "2.13.0"

    assert run.summary["metrics/rouge_l"] == 0.25
    assert run.summary["metrics/nll_stderr"] == 0.03125
    assert run.summary["str/selection_seconds"] == 40.0
    assert run.summary["str/flop"] == pytest.approx(
        run.summary["str/selection_flop"] / run.summary["str/full_tuning_flop"]
    )
    assert run.summary["str/estimated"] is True
    assert run.summary["str/seconds"] > 0
    assert run.summary["str/full_tuning_flop"] == 5e15
    assert run.summary["cost/training/seconds"] == 30.0
    assert run.summary[f"cost/selection/selection-{record.run[:8]}/apart/load"] == 2.0

    losses = [(row["step"], row["train/loss"]) for row in run.history if "train/loss" in row]
    assert losses == [(1, 3.5), (2, 2.25), (3, 1.75)]

    (files,) = run.artifacts.values()
    chosen = Path(files["selection.json"])
    assert chosen.is_relative_to(tmp_path / "wb")
    assert json.loads(chosen.read_text())["ids"] == [f"row-{number}" for number in range(100)]


def described(record: Record) -> Record:
    """The record of a run with planted noise that was not tuned, with diversity, perplexity and sample rows."""
    kinds = {"clean": 90, "copy": 6, "empty": 4}
    embedder, teller = {"name": "minilm", "identity": {}}, {"name": "gpt2", "identity": {}}
    selection = {
        **record.data["selection"],
        "kinds": kinds,
        "diversity": {"vendi": 12.5},
        "described_by": embedder,
        "perplexity": {"alone": {"chosen": {"median": 8.0}, "pool": {"median": 16.0}}},
        "perplexity_by": teller,
        "samples": [{"id": "row-0", "input": "a secret question", "response": "a secret answer", "chosen": True}],
    }
    dataset = {**record.data["dataset"], "kinds": {"clean": 900, "copy": 60, "empty": 40}}
    artefacts = {**record.data["artefacts"], "training": None, "evaluation": None}
    data = {"selection": selection, "dataset": dataset, "artefacts": artefacts, "training": None, "metrics": {}}
    return dataclasses.replace(record, data={**record.data, **data})


def test_what_a_run_was_for_and_what_it_chose_is_carried(tmp_path: Path) -> None:
    publish_in(tmp_path, [described(made("ifd")), made("random")])
    special, plain = runs_in(tmp_path)
    assert (special.config["select_only"], plain.config["select_only"]) == (True, False)
    assert (special.config["diversity"], special.config["diversity_embedder"]) == (True, "minilm")
    assert (plain.config["diversity"], plain.config["diversity_embedder"]) == (False, None)
    assert (special.config["perplexity_model"], plain.config["perplexity_model"]) == ("gpt2", None)
    assert special.config["dataset/kinds/copy"] == 60
    assert special.summary["selection/kinds/empty"] == 4
    assert special.summary["selection/planted_share"] == pytest.approx(0.1)
    assert special.summary["selection/diversity/vendi"] == 12.5
    assert special.summary["selection/perplexity/alone/chosen/median"] == 8.0
    assert special.summary["selection/tokens"] == plain.summary["selection/tokens"] == 5000
    assert not any(name.startswith("metrics/") for name in special.summary)
    assert "selection/planted_share" not in plain.summary


def test_no_texts_leave_the_machine(tmp_path: Path) -> None:
    publish_in(tmp_path, [described(made("ifd"))])
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(b"row-42" in path.read_bytes() for path in files)
    assert not [path for path in files if b"secret" in path.read_bytes()]
    assert [run.host for run in runs_in(tmp_path)] == [""]


def test_no_paths_leave_the_machine(tmp_path: Path) -> None:
    record = described(made("mine", label="mine(tags=/home/somebody/secret/tags.jsonl)"))
    selector = {
        **record.data["selector"],
        "identity": {"tags": "/home/somebody/secret/tags.jsonl", "other": ["~/secret/x"]},
    }
    model = {**record.data["model"], "name": "/data/secret/llama"}
    notes = {"read": "/home/somebody/secret/tags.jsonl"}
    selection = {**record.data["selection"], "notes": notes}
    data = {**record.data, "selector": selector, "model": model, "selection": selection}
    done = publish_in(tmp_path, [dataclasses.replace(record, data=data)], table=True)
    assert (done.count_new, done.table, done.notice) == (1, True, None)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not [path for path in files if b"secret" in path.read_bytes()]
    run, _ = sorted(runs_in(tmp_path), key=lambda run: run.job_type)
    assert (run.config["selector/tags"], run.config["selector/other"]) == ("tags.jsonl", ["x"])
    assert run.name == "mine(tags=tags.jsonl) 0.1 dialogsum llama s0"
    assert set(run.tags) == {"dialogsum", "llama", "mine"}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("/home/me/x.json", "x.json"),
        ("mig(file=/home/me/t.jsonl, n=3)", "mig(file=t.jsonl, n=3)"),
        ("~/x.json", "x.json"),
        ("C:\\me\\x.json", "x.json"),
        ("https://example.org/a/b", "https://example.org/a/b"),
        ("owner/name and/or ./a/b", "owner/name and/or ./a/b"),
    ],
)
def test_of_paths_the_last_part_is_left(text: str, told: str) -> None:
    assert without_paths({"a": [text, 1.5, None]}) == {"a": [told, 1.5, None]}


def test_the_command_says_what_it_did(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = ["--results", str(tmp_path / "results"), "--folder", str(tmp_path / "dw")]
    (tmp_path / "results").mkdir()
    assert main(["publish", *folders]) == 2
    assert capsys.readouterr().err == f"dwbench: {tmp_path / 'results'}: no records: run something first\n"
    write_json(tmp_path / "results" / "r.json", made("ifd").data)
    assert main(["publish", *folders]) == 0
    where = tmp_path / "dw" / "wandb" / "wandb"
    assert capsys.readouterr().out == f"1 published (offline) in {where}, 0 were already; the table of all runs anew\n"
    assert main(["publish", *folders]) == 0
    assert capsys.readouterr().out == "0 published, 1 were already\n"


def table_in(folder: Path) -> tuple[Run, list[dict[str, Any]]]:
    """The one run with the table of all runs, and the table's rows by their columns."""
    (run,) = [run for run in runs_in(folder) if run.job_type == "summary"]
    (path,) = [row["runs/path"] for row in run.history if "runs/path" in row]
    table = json.loads((run.files / path).read_text())
    assert table["columns"] == list(TABLE_COLUMNS)
    return run, [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]


def test_the_table_of_all_runs(tmp_path: Path) -> None:
    shown, other = made("ifd", select=(40.0, 1e15)), made("full", train_seconds=400.0)
    done = publish_in(tmp_path, [shown, described(made("random"))], reference=[other], table=True)
    assert (done.count_new, done.table, done.notice) == (2, True, None)
    run, rows = table_in(tmp_path)
    assert (run.id, run.name) == ("dwbench-runs", "all runs")
    assert [(row["selector"], row["metric"]) for row in rows] == [
        ("full", "nll"), ("full", "rouge_l"), ("ifd", "nll"), ("ifd", "rouge_l"), ("random", None),
    ]  # fmt: skip
    ifd = rows[3]
    assert (ifd["dataset"], ifd["model"], ifd["budget"], ifd["rows"]) == ("dialogsum", "smollm2-135m", "0.1", 100)
    assert (ifd["value"], ifd["stderr"], ifd["selection seconds"], ifd["tuning seconds"]) == (0.25, 0.0125, 40, 30)
    assert (ifd["STR (s)"], ifd["STR (s) is estimated"], ifd["STR (FLOP)"]) == (0.1, False, 0.2)
    assert ifd["run"] == shown.run


def test_the_table_is_written_when_it_has_changed_and_is_there_once(tmp_path: Path) -> None:
    one, two = made("ifd"), made("random")
    assert publish_in(tmp_path, [one], table=True).table
    again = publish_in(tmp_path, [one], table=True)
    assert again == Published(0, 1, 0, "offline", None, None)
    time.sleep(1.1)  # wandb names folders by the second
    assert publish_in(tmp_path, [one, two], table=True).table
    _, rows = table_in(tmp_path)
    assert {row["selector"] for row in rows} == {"ifd", "random"}
    time.sleep(1.1)
    assert publish_in(tmp_path, [one], table=True) == Published(
        0, 1, 0, "offline", str(tmp_path / "wb" / "wandb"), None, True
    )
    _, rows = table_in(tmp_path)
    assert {row["selector"] for row in rows} == {"ifd"}


def test_a_table_that_was_uploaded_stays(tmp_path: Path) -> None:
    publish_in(tmp_path, [made("ifd")], table=True)
    run, _ = table_in(tmp_path)
    (run.files.parent / f"run-{run.id}.wandb.synced").touch()
    time.sleep(1.1)
    publish_in(tmp_path, [made("ifd"), made("random")], table=True)
    assert len([run for run in runs_in(tmp_path) if run.job_type == "summary"]) == 2


def test_publishing_again_makes_no_second_run(tmp_path: Path) -> None:
    records = [made("ifd"), made("zero_shot")]
    assert publish_in(tmp_path, records[:1]).count_new == 1
    again = publish_in(tmp_path, records)
    assert (again.count_new, again.count_skipped) == (1, 1)
    start = time.perf_counter()
    assert publish_in(tmp_path, records) == Published(0, 2, 0, "offline", None, None)
    assert time.perf_counter() - start < 0.1
    assert len(runs_in(tmp_path)) == 2


def test_another_environment_is_no_change_but_another_result_is(tmp_path: Path) -> None:
    record = made("ifd")
    publish_in(tmp_path, [record])
    moved = Record(record.path, {**record.data, "command": "dwbench run -m"})
    assert publish_in(tmp_path, [moved]).count_new == 0
    changed = Record(record.path, {**record.data, "metrics": {"nll": {"value": 9.0, "stderr": None, "n": 64}}})
    assert publish_in(tmp_path, [changed]).count_new == 1
    assert publish_in(tmp_path, [record, changed]).count_new == 0
    assert {run.id for run in runs_in(tmp_path)} == {record.run, f"{record.run}-{changed.content_key[:8]}"}


def test_another_project_is_another_place(tmp_path: Path) -> None:
    publish_in(tmp_path, [made()])
    assert publish([made()], project="p2", folder=tmp_path / "wb", marks=tmp_path / "marks").count_new == 1


def test_losses_can_be_left_out(tmp_path: Path) -> None:
    publish_in(tmp_path, [made(), made()], log_loss=False)
    (run,) = runs_in(tmp_path)
    assert not any("train/loss" in row for row in run.history)
    assert run.summary["metrics/nll"] == 1.5


def test_a_key_without_network_falls_back_in_bounded_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "f" * 40)
    start = time.perf_counter()
    done = publish_in(tmp_path, [made("ifd"), made("random")], timeout_s=1.5)
    assert time.perf_counter() - start < 8.0  # 1.5 s of waiting, once, and starting wandb's process twice
    assert (done.count_new, done.mode) == (2, "offline")
    assert done.notice is not None
    assert done.notice.startswith("W&B can't be reached")
    assert "\n" not in done.notice
    assert "f" * 40 not in done.notice
    assert [run.id for run in runs_in(tmp_path)] == [made("ifd").run, made("random").run]
    assert not list(tmp_path.rglob("*.syncstate"))
    # With nothing new there is nothing to wait for.
    start = time.perf_counter()
    assert publish_in(tmp_path, [made("ifd"), made("random")]).count_skipped == 2
    assert time.perf_counter() - start < 0.1
    # No secret in any file, no word on the console.
    assert not [p for p in tmp_path.rglob("*") if p.is_file() and b"f" * 40 in p.read_bytes()]
    assert capfd.readouterr() == ("", "")


def test_a_malformed_key_falls_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "short")
    done = publish_in(tmp_path, [made()])
    assert (done.count_new, done.mode) == (1, "offline")
    assert done.notice is not None


def test_online_without_an_account_says_so(tmp_path: Path) -> None:
    done = publish_in(tmp_path, [made()], mode="online")
    assert (done.count_new, done.mode) == (1, "offline")
    assert done.notice is not None
    assert "API key" in done.notice
    # Asked again, it tries again: what is wanted is not there yet. It stays the same run.
    assert publish_in(tmp_path, [made()], mode="online").count_new == 1
    assert {run.id for run in runs_in(tmp_path)} == {made().run}


def test_nothing_is_asked_on_a_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    term = pytest.importorskip("wandb.errors.term")
    monkeypatch.setattr(term, "_isatty", lambda _stream: True)
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked"))
    assert publish_in(tmp_path, [made()]).mode == "offline"


def test_disabled_is_respected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert publish_in(tmp_path, [made()], mode="online") == Published(0, 0, 0, "disabled", None, None)
    assert not (tmp_path / "wb").exists()


def test_offline_by_variable_does_not_try_the_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "f" * 40)
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert publish_in(tmp_path, [made()]) == Published(1, 0, 0, "offline", str(tmp_path / "wb" / "wandb"), None)


def test_only_its_own_folders_are_written(tmp_path: Path) -> None:
    before = dict(os.environ)
    publish_in(tmp_path, [made()])
    assert {path.name for path in tmp_path.iterdir()} == {"home", "cwd", "wb", "marks"}
    assert not list((tmp_path / "cwd").iterdir())
    assert not list((tmp_path / "home").rglob("*"))
    assert {name: value for name, value in os.environ.items() if name in before} == before


def test_trouble_inside_wandb_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import wandb

    def broken(**_: object) -> None:
        raise RuntimeError("the disk is full\nand so on")

    monkeypatch.setattr(wandb, "init", broken)
    done = publish_in(tmp_path, [made("ifd"), made("random")], mode="offline")
    assert done.count_new == 0
    assert done.notice == f"2 of 2 runs not published, first {made('ifd').path}: the disk is full"
    assert not (tmp_path / "marks").exists()


@pytest.mark.parametrize("project", ["", "a/b", "x" * 129])
def test_a_bad_project_name_is_refused(tmp_path: Path, project: str) -> None:
    with pytest.raises(UserError, match="W&B project"):
        publish([made()], project=project, folder=tmp_path / "wb", marks=tmp_path / "marks")


def test_a_record_that_is_refused_stops_no_other(tmp_path: Path) -> None:
    bad = made("random")
    bad = dataclasses.replace(bad, data={**bad.data, "model": {**bad.data["model"], "name": ""}})
    done = publish_in(tmp_path, [made("ifd"), bad, made("full")])
    assert (done.count_new, done.count_failed) == (2, 1)
    assert done.notice is not None
    assert "1 of 3 runs not published" in done.notice
