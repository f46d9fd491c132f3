"""The command line as a person meets it: bad input gets exit code 2 and one line; nothing is written."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from dwbench import __version__
from dwbench.cli import COMMANDS, main
from dwbench.models.spec import LM

Rows = Sequence[dict[str, object]]

ROWS: Rows = [
    {"id": f"r{n}", "prompt": f"Say {n} in words, please.", "completion": "It is said." + " So." * n} for n in range(8)
]


class Told(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Told]:
    """`main` in an empty folder; its exit code and what it printed."""
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()

    def call(*arguments: object) -> Told:
        code = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return Told(code, out, err)

    return call


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    return write(tmp_path / "pool.jsonl", ROWS)


def write(path: Path, rows: Rows) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(told: Told, *words: str) -> None:
    """Exit code 2, one line on stderr with these words, nothing on stdout."""
    assert told.code == 2, told
    lines = told.err.splitlines()
    assert len(lines) == 1, told.err
    assert lines[0].startswith("dwbench: ")
    assert told.out == ""
    for word in words:
        assert word in lines[0]


CONFIGURATION = {
    "selector": (["selector=randm"], ["selector=randm: no such selector", "did you mean 'random'?"]),
    "model": (["model=smollm2-135"], ["model=smollm2-135: no such model", "did you mean 'smollm2-135m'?"]),
    "data set": (["dataset=gsm8"], ["dataset=gsm8: no such dataset", "did you mean 'gsm8k'?"]),
    "training": (["train=smal"], ["train=smal: no such train", "did you mean 'small'?"]),
    "experiment": (["experiment=quickstrat"], ["no such experiment", "did you mean 'quickstart'?"]),
    "scorer": (["scorer_model=smollm2"], ["scorer_model=smollm2: no configured model", "did you mean 'smollm2-135m'?"]),
    "key": (["budgt=0.1"], ["budgt: no such key", "did you mean 'budget'?"]),
    "group as key": (["selektor=ifd"], ["selektor: no such key", "did you mean 'selector'?"]),
    "added key": (["+budgt=0.1"], ["budgt: no such key", "did you mean 'budget'?"]),
    "selector's key": (["selector=ifd", "selector.ratoi=ppl"], ["selector.ratoi: no such key", "'selector.ratio'?"]),
    "selector's key of another": (["selector=ifd", "selector.n_d=3"], ["selector.n_d: no such key"]),
    "training's key": (["train.epoch=3"], ["train.epoch: no such key", "did you mean 'train.epochs'?"]),
    "task's key": (
        ["dataset.task.sytem=x"],
        ["dataset.task.sytem: no such key", "did you mean 'dataset.task.system'?"],
    ),
    "added key of training": (["+train.epoch=3"], ["train.epoch: no such key", "did you mean 'train.epochs'?"]),
    "type": (["train.epochs=many"], ["train.epochs='many'", "valid integer"]),
    "choice": (["selector=ifd", "selector.ratio=mean"], ["selector.ratio='mean'", "'loss' or 'ppl'"]),
    "range": (["train.epochs=0"], ["train.epochs", "above 0"]),
    "seed": (["seed=-1"], ["seed=-1", "greater than or equal to 0"]),
    "seed's type": (["seed=one"], ["seed='one'", "valid integer"]),
    "budget 0": (["budget=0"], ["budget=0", "above 0"]),
    "budget -1": (["budget=-1"], ["budget=-1", "above 0"]),
    "budget 1.5": (["budget=1.5"], ["budget=1.5", "at most 1"]),
    "more than the pool": (["budget=201"], ["budget=201: the pool has only 200 rows"]),
    "less than a row": (["budget=0.1%"], ["less than one row of the pool's 200"]),
    "no path": (["dataset=jsonl"], ["dataset.path: has no value", "dataset.path=..."]),
    "no such file": (["dataset=jsonl", "dataset.path=nowhere.jsonl"], ["nowhere.jsonl: no such file"]),
    "no such folder": (["dataset=dialogsum", "dataset.path=nowhere"], ["dataset.path: nowhere is no folder"]),
    "no override": (["quickstart"], ["quickstart", "key=value"]),
    "sweep without -m": (["seed=0,1"], ["seed", "add -m"]),
    "bad in a sweep": (["seed=0,1", "budget=0.1,7", "train.epochs=2,many", "-m"], ["train.epochs='many'"]),
    "model folder": (["model.source=/nowhere", "model.name=m"], ["model.source: /nowhere is no folder"]),
    "empty folder": (["model.source=.", "model.name=m"], ["holds no config.json"]),
    "another model's name": (["model.source=."], ["give model.name=... too", "smollm2-135m"]),
    "device": (["model.device=cud"], ["model.device: 'cud' is unknown"]),
    "key of another data set": (
        ["dataset.path=x"],
        ["dataset.path: no such key: known here: dataset.name, dataset.pool"],
    ),
    "tracker": (["tracker=wandbb"], ["tracker='wandbb'", "'wandb' or 'none'"]),
    "tracker's key": (["wandb.mod=online"], ["wandb.mod: no such key", "did you mean 'wandb.mode'?"]),
    "tracker's mode": (["wandb.mode=on"], ["wandb.mode='on'", "'online'"]),
    "section": (["wandb=3"], ["wandb=3"]),
    "no selector": (["selector=null"], ["selector=null: no such selector"]),
    "number as selector": (["selector=1"], ["selector=1: no such selector"]),
    "no folder": (["results_dir=null"], ["results_dir=None"]),
    "settings": (["selector_settings=3"], ["selector_settings=3"]),
    "settings of one": (["selector_settings.ifd=3"], ["selector_settings.ifd=3"]),
    "sweep's values": (["sweep.seed=3"], ["sweep.seed"]),
    "sweep's key": (["+sweep.sed=[0,1]"], ["sed: no such key", "did you mean 'seed'?"]),
    "empty axis": (["+sweep.seed=[]"], ["sweep.seed: is empty"]),
    "Hydra's flag": (["--cfg", "job"], ["--cfg"]),
}


# `check` composes and validates by the same code as `run`.
CHECKS = [("check", case) for case in CONFIGURATION] + [("run", case) for case in ("key", "type", "added key")]


@pytest.mark.parametrize(("command", "case"), CHECKS)
def test_wrong_configuration(command: str, case: str, cli: Callable[..., Told], tmp_path: Path) -> None:
    arguments, words = CONFIGURATION[case]
    refused(cli(command, *arguments), *words)
    assert list(tmp_path.iterdir()) == []


POOLS = {
    "malformed": ('{"prompt": "a", "completion": "b"}\n{"prompt": "a" "completion": "b"}\n', ["pool.jsonl:2", "malformed JSON"]),  # noqa: E501
    "no object": ('{"prompt": "a", "completion": "b"}\n\n[1]\n', ["pool.jsonl:3", "is no object"]),
    "no column": ('{"prompt": "a", "completion": "b"}\n{"prompt": "c"}\n', ["pool.jsonl:2", "no column 'completion'"]),
    "unknown columns": ('{"text": "a"}\n', ["pool.jsonl:1", "none of the known columns"]),
    "empty file": ("", ["pool.jsonl: holds no rows"]),
    "empty response": ('{"prompt": "a", "completion": " "}\n', ["pool.jsonl:1", "'completion' is empty"]),
    "number": ('{"prompt": "a", "completion": 3}\n', ["pool.jsonl:1", "'completion' is a number, not a text"]),
    "duplicate ids": ('{"id": 1, "prompt": "a", "completion": "b"}\n{"id": "1", "prompt": "c", "completion": "d"}\n', ["pool.jsonl:2", "id '1' is also that of", "pool.jsonl:1"]),  # noqa: E501
    "not UTF-8": ("\udcff\n", ["pool.jsonl:1", "is not UTF-8"]),
}  # fmt: skip


@pytest.mark.parametrize("case", POOLS)
@pytest.mark.parametrize("command", ["select", "check"])
def test_wrong_pool(command: str, case: str, cli: Callable[..., Told], tmp_path: Path) -> None:
    text, words = POOLS[case]
    path = tmp_path / "pool.jsonl"
    path.write_bytes(text.encode(errors="surrogateescape"))
    before = contents(tmp_path)
    arguments = {
        "select": [path, "--selector", "random", "--out", "out.jsonl", "--scores", "scores.jsonl"],
        "check": ["dataset=jsonl", f"dataset.path={path}"],
    }
    refused(cli(command, *arguments[command]), *words)
    assert contents(tmp_path) == before


SELECT = {
    "selector": (["--selector", "randm"], ["no such selector: did you mean 'random'?"]),
    "no selector": ([], ["--selector", "dwbench select --help"]),
    "selector that chooses nothing": (["--selector", "zero_shot"], ["zero_shot: chooses no rows"]),
    "model": (["--selector", "ifd", "--model", "smollm2-135"], ["--model=smollm2-135", "did you mean 'smollm2-135m'?"]),
    "setting": (["--selector", "ifd", "--set", "ratoi=ppl"], ["ifd has no such setting: did you mean 'ratio'?"]),
    "setting of none": (["--selector", "random", "--set", "n=1"], ["random has no such setting", "it has no settings"]),
    "setting without value": (["--selector", "ifd", "--set", "ratio"], ["--set ratio: write --set key=value"]),
    "setting's value": (["--selector", "ifd", "--set", "ratio=mean"], ["ratio='mean'", "'loss' or 'ppl'"]),
    "setting's spelling": (["--selector", "ifd", "--set", "ratio=[a"], ["--set ratio=[a"]),
    "budget 0": (["--selector", "random", "--budget", "0"], ["budget=0: must be above 0"]),
    "budget -1": (["--selector", "random", "--budget", "-1"], ["budget"]),
    "budget=-1": (["--selector", "random", "--budget=-1"], ["budget=-1: must be above 0"]),
    "budget 1.5": (["--selector", "random", "--budget", "1.5"], ["budget=1.5", "at most 1"]),
    "budget 9": (["--selector", "random", "--budget", "9"], ["budget=9: the pool has only 8 rows"]),
    "option": (["--selector", "random", "--bugdet", "1"], ["--bugdet"]),
    "seed": (["--selector", "random", "--seed", "one"], ["--seed", "'one'"]),
    "negative seed": (["--selector", "random", "--seed=-1"], ["--seed", "-1"]),
    "one column": (
        ["--selector", "random", "--input-column", "prompt"], [": --input-column: goes with --response-column: name"],
    ),
    "no such column": (
        ["--selector", "random", "--input-column", "a", "--response-column", "b"],
        ["pool.jsonl:1", "no column 'a'", "name the columns by --input-column and --response-column"],
    ),
    "one column as both": (
        ["--selector", "random", "--input-column", "prompt", "--response-column", "prompt"],
        [": --response-column: is 'prompt', as --input-column is: name two columns"],
    ),
    "length": (["--selector", "random", "--max-length", "1"], ["--max-length 1: must be at least 2"]),
    "format": (["--selector", "random", "--budget", "2", "--out", "out.csv"], ["out.csv", "must end in .jsonl"]),
    "folder": (["--selector", "random", "--budget", "2", "--out", "no/out.jsonl"], ["there is no folder no"]),
    "pool as output": (["--selector", "random", "--budget", "2", "--out", "pool.jsonl"], ["is the pool itself"]),
    "scores' folder": (["--selector", "random", "--budget", "2", "--scores", "no/s"], ["--scores no/s", "exists"]),
    "pool as scores": (["--selector", "random", "--budget", "2", "--scores", "pool.jsonl"], ["is the pool itself"]),
    "target": (["--selector", "random", "--budget", "2", "--target", "t.jsonl"], ["t.jsonl: no such file"]),
    "model of nobody": (["--selector", "ifd", "--model", "~no-such-user/m"], ["~no-such-user/m: no such user"]),
    "target of nobody": (["--selector", "random", "--target", "~no-such-user/t.jsonl"], ["no such user"]),
    "empty store": (["--selector", "random", "--budget", "2", "--store", ""], ["--store: is empty"]),
    "empty output": (["--selector", "random", "--budget", "2", "--out", ""], ["--out: is empty"]),
    "pool as store": (["--selector", "random", "--budget", "2", "--store", "pool.jsonl"], ["--store", "is no folder"]),
    "store": (["--selector", "random", "--budget", "2", "--store", "/proc/x"], ["--store /proc/x: can't be written"]),
    "output": (["--selector", "random", "--budget", "2", "--out", "/proc/o.jsonl"], ["/proc/o.jsonl: can't be"]),
    "scores": (["--selector", "random", "--budget", "2", "--scores", "/proc/s"], ["--scores /proc/s: can't be"]),
}  # fmt: skip


@pytest.mark.parametrize("case", SELECT)
def test_wrong_selection(case: str, cli: Callable[..., Told], pool: Path, tmp_path: Path) -> None:
    arguments, words = SELECT[case]
    before = contents(tmp_path)
    refused(cli("select", pool, *arguments), *words)
    assert contents(tmp_path) == before


def test_a_missing_pool_and_a_near_name(cli: Callable[..., Told], pool: Path) -> None:
    refused(cli("select", "pol.jsonl", "--selector", "random"), "pol.jsonl: no such file: did you mean 'pool.jsonl'?")
    refused(cli("select", "~no-such-user/p.jsonl", "--selector", "random"), "~no-such-user/p.jsonl: no such user")


def test_an_id_that_can_not_be_written(cli: Callable[..., Told], tmp_path: Path) -> None:
    pool = write(tmp_path / "pool.jsonl", [{**row, "id": f"\ud83d{n}"} for n, row in enumerate(ROWS)])
    told = cli("select", pool, "--selector", "random", "--budget", "2", "--scores", "s")
    refused(told, "pool.jsonl:1: its id has half a surrogate pair")
    assert contents(tmp_path).keys() == {str(pool)}


def test_a_target_set_that_overlaps_the_pool(cli: Callable[..., Told], pool: Path, tmp_path: Path) -> None:
    target = write(tmp_path / "target.jsonl", [{"prompt": "new", "completion": "x"}, dict(ROWS[3])])
    told = cli("select", pool, "--selector", "random", "--budget", "2", "--target", target, "--out", "out.jsonl")
    refused(told, "target.jsonl:2", "also in the pool", "pool.jsonl:4", "take them out")
    assert not (tmp_path / "out.jsonl").exists()


def stored(folder: Path) -> list[Path]:
    return list(folder.glob(".dwbench/store/*/*/manifest.json"))


def test_a_prompt_that_is_longer_than_the_context(
    cli: Callable[..., Told], pool: Path, tmp_path: Path, short_lm: Path
) -> None:
    arguments = ["--selector", "data_whisperer", "--set", "n_d=2", "--set", "n_q=1", "--budget", "2"]
    told = cli("select", pool, "--model", short_lm, *arguments, "--out", "out.jsonl")
    assert told.code == 2
    assert "the model takes 64" in told.err.splitlines()[-1]
    assert "lower n_" in told.err.splitlines()[-1]
    assert not (tmp_path / "out.jsonl").exists()
    assert stored(tmp_path) == []


def test_more_demonstrations_than_rows(cli: Callable[..., Told], pool: Path, tmp_path: Path, tiny_lm: LM) -> None:
    told = cli("select", pool, "--selector", "data_whisperer", "--model", tiny_lm.source, "--budget", "2")
    assert told.code == 2
    assert told.err.splitlines()[-1] == (
        "dwbench: selector.n_d=10, n_q=5: the pool has 8 rows but a prompt takes 13: lower n_d or n_q"
    )
    assert stored(tmp_path) == []


@pytest.fixture(scope="session")
def short_lm(tiny_lm: LM, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with 64 positions."""
    folder = tmp_path_factory.mktemp("short") / "lm"
    shutil.copytree(tiny_lm.source, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 64}))
    return folder


@pytest.fixture(scope="session")
def mute_lm(tiny_lm: LM, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model without a chat template."""
    from transformers import AutoTokenizer

    folder = tmp_path_factory.mktemp("mute") / "lm"
    shutil.copytree(tiny_lm.source, folder)
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = None
    tokenizer.save_pretrained(folder)
    return folder


def test_a_length_is_set_by_its_option(cli: Callable[..., Told], pool: Path, tiny_lm: LM) -> None:
    arguments = ["select", pool, "--selector", "low_ppl", "--model", tiny_lm.source, "--budget", "2"]
    refused(cli(*arguments, "--max-length", "1025"), "--max-length: 1025, but", "set --max-length=1024 or less")
    told = cli(*arguments, "--max-length", "5")
    refused(told, "no row of the pool fits into 5 tokens", "raise --max-length")
    assert cli(*arguments, "--max-length", "300").code == 0


def test_a_model_without_chat_template(cli: Callable[..., Told], pool: Path, tmp_path: Path, mute_lm: Path) -> None:
    before = contents(tmp_path)
    told = cli("select", pool, "--selector", "ifd", "--model", mute_lm, "--budget", "2", "--out", "out.jsonl")
    refused(told, "has no chat template", "instruct model")
    mute = [f"model.source={mute_lm}", "model.name=mute", "model.max_length=512"]
    refused(cli("run", *mute, "tracker=none"), "has no chat template")
    refused(cli("check", *mute), "has no chat template")
    assert contents(tmp_path) == before


OFFLINE = {
    "select, model": (
        ["select", "pool.jsonl", "--selector", "ifd", "--model", "no/such", "--budget", "2"],
        ["model such: no network", "set --model=FOLDER"],
    ),
    "select, pool": (["select", "no/such", "--selector", "random"], ["no/such: no network"]),
    "run, model": (["run", "model=qwen2.5-0.5b-instruct"], ["model qwen2.5-0.5b-instruct: no network"]),
    "run, scorer": (["run", "selector=ifd", "scorer_model=mistral-nemo"], ["model mistral-nemo: no network"]),
    "run, data set": (["run", "dataset=gsm8k"], ["openai/gsm8k: no network", "dataset.path"]),
}  # fmt: skip


@pytest.mark.parametrize("case", OFFLINE)
def test_no_network(case: str, pool: Path, tmp_path: Path) -> None:
    arguments, words = OFFLINE[case]
    nobody = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": ""}
    before = contents(tmp_path)
    begin = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "dwbench.cli", *arguments],
        cwd=tmp_path, env={**os.environ, **nobody}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert time.monotonic() - begin < 20
    refused(Told(done.returncode, done.stdout, done.stderr), *words)
    assert contents(tmp_path) == before


def test_unknown_command(cli: Callable[..., Told]) -> None:
    refused(cli("selekt"), "selekt: no such command: did you mean 'select'?")
    refused(cli("xyz"), "known: check, list, plot, publish, report, run, select, status, table")


def test_version_and_help(cli: Callable[..., Told]) -> None:
    assert cli("--version") == (0, f"{__version__}\n", "")
    assert cli() == cli("--help") == cli("-h")
    assert all(f"  {name}" in cli().out for name in COMMANDS)


@pytest.mark.parametrize("command", ["table", "publish"])
def test_no_results(command: str, cli: Callable[..., Told], tmp_path: Path) -> None:
    refused(cli(command), "results: no such folder")
    assert list(tmp_path.iterdir()) == []


def test_list(cli: Callable[..., Told]) -> None:
    told = cli("list")
    assert told.code == 0
    for word in ("selectors:", "models:", "datasets:", "experiments:", "  data_whisperer ", "  quickstart "):
        assert word in told.out
    assert "arXiv 2308.12032 | needs responses, scorer, task | 2 forward passes a row" in cli("list", "selectors").out
    assert "selectors:" not in cli("list", "models").out
    refused(cli("list", "model"), "model")


def test_check_says_what_would_run(cli: Callable[..., Told], tmp_path: Path) -> None:
    told = cli("check", "experiment=quickstart", "selector=random,full", "-m")
    assert told == (
        0,
        "embedded | smollm2-135m | random | 12 of 120 rows | seed 0\n"
        "  score: would run\n"
        "  train: depends on what is chosen\n"
        "  evaluate: depends on what is chosen\n"
        "embedded | smollm2-135m | full | 120 of 120 rows | seed 0\n"
        "  train: would run\n"
        "  evaluate: would run\n",
        "",
    )
    assert list(tmp_path.iterdir()) == []


LINES = [
    '{"id":"z", "prompt":"Name a town.",   "completion":"Ulm", "price": 1.50}',
    '{"id":"a","prompt":"Name a river.","completion":"Danube\\u00e9","more":{"x":[1,2]}}',
    '{"id":"m","prompt":"Name a sea.","completion":"Baltic — grün"}',
    '{"id":"b","prompt":"Name a lake.","completion":"Garda"}',
]


@pytest.fixture
def spelt(tmp_path: Path) -> Path:
    """A pool whose spelling shows any rewriting; its last line has no end."""
    path = tmp_path / "spelt.jsonl"
    path.write_bytes("\n".join(LINES).encode())
    return path


def test_chosen_rows_are_copied_byte_by_byte(cli: Callable[..., Told], spelt: Path, tmp_path: Path) -> None:
    told = cli("select", spelt, "--selector", "random", "--budget", "3", "--out", "out.jsonl", "--scores", "scores")
    assert told.code == 0
    assert told.out == ""
    assert "3 rows in out.jsonl" in told.err
    lines = [json.loads(line) for line in (tmp_path / "scores").read_text().splitlines()]
    assert [line["id"] for line in lines] == ["z", "a", "m", "b"]
    assert all(list(line) == ["id", "score", "rank", "selected"] for line in lines)
    assert sorted(line["rank"] for line in lines) == [1, 2, 3, 4]
    by_rank = sorted(lines, key=lambda line: int(line["rank"]))
    assert [line["score"] for line in by_rank] == sorted((line["score"] for line in lines), reverse=True)
    assert [line["selected"] for line in lines] == [line["rank"] <= 3 for line in lines]
    expected = "".join(text + "\n" for text, line in zip(LINES, lines, strict=True) if line["selected"])
    assert (tmp_path / "out.jsonl").read_bytes() == expected.encode()


def test_all_rows_are_the_file_itself(cli: Callable[..., Told], pool: Path, tmp_path: Path) -> None:
    assert cli("select", pool, "--selector", "full", "--out", "out.jsonl").code == 0
    assert (tmp_path / "out.jsonl").read_bytes() == pool.read_bytes()
    assert cli("select", pool, "--selector", "random", "--budget", "100%", "--out", "out.jsonl").code == 0
    assert (tmp_path / "out.jsonl").read_bytes() == pool.read_bytes()


def test_ids_on_stdout_where_no_file_is_named(cli: Callable[..., Told], pool: Path) -> None:
    told = cli("select", pool, "--selector", "random", "--budget", "25%")
    assert told.code == 0
    ids = told.out.split()
    assert len(ids) == 2
    assert ids == sorted(ids)
    assert cli("select", pool, "--selector", "random", "--budget", "2").out == told.out
    assert len(set(cli("select", pool, "--selector", "random", "--budget", "4").out.split()) - set(ids)) == 2


def test_another_order_of_the_file_gives_the_same_rows(cli: Callable[..., Told], pool: Path, tmp_path: Path) -> None:
    backwards = write(tmp_path / "backwards.jsonl", ROWS[::-1])
    one = cli("select", pool, "--selector", "random", "--budget", "3").out.split()
    assert cli("select", backwards, "--selector", "random", "--budget", "3").out.split() == one[::-1]


def test_csv_with_columns_of_ones_own(cli: Callable[..., Told], tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_bytes(b'ask,reply\r\n"a,b","x\r\ny"\r\nc,d\r\n')
    columns = ["--input-column", "ask", "--response-column", "reply"]
    assert cli("select", path, "--selector", "full", *columns, "--out", "out.csv").code == 0
    assert (tmp_path / "out.csv").read_bytes() == path.read_bytes()


def test_rows_that_cannot_be_scored_are_told(cli: Callable[..., Told], tmp_path: Path, tiny_lm: LM) -> None:
    rows = [*ROWS[:3], {"id": "long", "prompt": "word " * 3000, "completion": "x"}]
    pool = write(tmp_path / "pool.jsonl", rows)
    told = cli("select", pool, "--selector", "low_ppl", "--model", tiny_lm.source, "--budget", "3", "--scores", "s")
    assert told.code == 0
    assert "1 row can't be scored: no response token fits" in told.err
    lines = {line["id"]: line for line in map(json.loads, (tmp_path / "s").read_text().splitlines())}
    assert lines["long"]["score"] is None
    assert lines["long"]["rank"] == 4
    assert lines["long"]["selected"] is False
    assert "no response token fits" in lines["long"]["reason"]
    assert all("reason" not in lines[name] for name in ("r0", "r1", "r2"))


LONG: Rows = [{"id": f"long{n}", "prompt": f"{n} " + "word " * 3000, "completion": "x"} for n in range(3)]


def test_a_pool_that_does_not_fit_at_all(cli: Callable[..., Told], tmp_path: Path, tiny_lm: LM) -> None:
    pool = write(tmp_path / "pool.jsonl", LONG)
    for selector in ("ifd", "random"):
        told = cli("select", pool, "--selector", selector, "--model", tiny_lm.source, "--budget", "2")
        refused(told, f"--model {Path(tiny_lm.source).name}: no row of the pool fits into")
    assert contents(tmp_path).keys() == {str(pool)}


def test_chosen_rows_that_cannot_be_scored_are_told(cli: Callable[..., Told], tmp_path: Path, tiny_lm: LM) -> None:
    pool = write(tmp_path / "pool.jsonl", [*ROWS[:2], *LONG])
    for selector in ("low_ppl", "random"):
        arguments = ["select", pool, "--selector", selector, "--model", tiny_lm.source]
        told = cli(*arguments, "--budget", "4")
        assert told.code == 0
        assert "3 rows can't be scored: no response token fits" in told.err
        assert "chosen all the same, as there are no others: 2 of these: take them out, or lower --budget" in told.err
        told = cli(*arguments, "--budget", "2")
        assert set(told.out.split()) == {"r0", "r1"}
        assert "all the same" not in told.err


def test_chosen_rows_go_into_a_stream(pool: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "dwbench.cli", "select", str(pool), "--selector", "full", "--out", "/dev/stdout"]
    with (tmp_path / "out").open("ab") as out:
        done = subprocess.run(command, cwd=tmp_path, stdout=out, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out").read_bytes() == pool.read_bytes()


def test_a_full_disk_is_told(cli: Callable[..., Told], pool: Path) -> None:
    told = cli("select", pool, "--selector", "random", "--budget", "2", "--scores", "/dev/full")
    assert told.code == 2
    assert told.err.splitlines()[-1].startswith("dwbench: /dev/full: can't be written (No space left on device)")
    assert Path("/dev/full").is_char_device()


SCORES = "score/*/scores.npz"

DAMAGE: dict[str, tuple[str, Callable[[Path], object]]] = {
    "scores cut short": (SCORES, lambda path: path.write_bytes(path.read_bytes()[:50])),
    "scores gone": (SCORES, Path.unlink),
    "reasons are no JSON": ("score/*/scores.json", lambda path: path.write_text("{")),
    "empty manifest": ("score/*/manifest.json", lambda path: path.write_text("{}")),
    "manifest gone": ("score/*/manifest.json", Path.unlink),
    "representations gone": ("represent", shutil.rmtree),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_a_damaged_store_is_mended(
    case: str, cli: Callable[..., Told], pool: Path, tmp_path: Path, tiny_lm: LM
) -> None:
    arguments = ["select", pool, "--selector", "low_ppl", "--model", tiny_lm.source, "--budget", "3"]
    first = cli(*arguments)
    assert first.code == 0
    pattern, harm = DAMAGE[case]
    (harmed,) = (tmp_path / ".dwbench" / "store").glob(pattern)
    harm(harmed)
    again = cli(*arguments)
    assert (again.code, again.out) == (0, first.out)
    assert again.err.splitlines()[:2] == ["  score: damaged", "  score: start"]
    last = cli(*arguments)
    assert (last.code, last.out) == (0, first.out)
    assert last.err.splitlines()[:-1] == ["  score: stored"]


BROKEN = """\
from typing import ClassVar

import numpy as np

from dwbench.component import component


@component
class Broken:
    version: ClassVar[int] = 1
    paper: ClassVar[str] = "-"
    cost_class: ClassVar[str] = "nothing"
    fixed_share: ClassVar[None] = None
    needs: ClassVar[frozenset[str]] = frozenset()

    def score(self, context):
        return np.zeros(2) + np.zeros(3)
"""


def test_a_selector_of_ones_own_that_fails(cli: Callable[..., Told], pool: Path, tmp_path: Path) -> None:
    (tmp_path / "conf" / "selector").mkdir(parents=True)
    (tmp_path / "conf" / "selector" / "broken.yaml").write_text("_target_: broken_for_test.Broken\n")
    (tmp_path / "broken_for_test.py").write_text(BROKEN)
    told = cli("select", pool, "--selector", "broken", "--budget", "2", "--out", "out.jsonl")
    assert told.code == 1
    assert told.err.splitlines()[-1] == (
        "dwbench: broken failed: ValueError: operands could not be broadcast together with shapes (2,) (3,) "
        f"({tmp_path}/broken_for_test.py:17)"
    )
    assert not (tmp_path / "out.jsonl").exists()
