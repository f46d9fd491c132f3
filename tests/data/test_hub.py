"""The hub is not reached here: its client is replaced, its cache is made by hand, or it is our own on this machine."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from fake_hub import Hub

from dwbench.data import hub
from dwbench.data.hub import load_hub
from dwbench.data.sources import read_source
from dwbench.errors import UserError

COMMIT, OTHER = "a" * 40, "b" * 40


@pytest.fixture(autouse=True)
def forgetful() -> Iterator[None]:
    """What a revision stands for is remembered by a process, and these tests are one."""
    yield
    hub._commit.cache_clear()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of `datasets` that holds `us/mine` at COMMIT, with the splits train (3 rows) and test (1)."""
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    folder = tmp_path / "us___mine" / "default" / "0.0.0" / COMMIT
    folder.mkdir(parents=True)
    splits = {}
    for split, count in (("train", 3), ("test", 1)):
        rows = datasets.Dataset.from_dict({"question": [f"{split} {n}" for n in range(count)], "answer": ["a"] * count})
        with datasets.arrow_writer.ArrowWriter(path=str(folder / f"mine-{split}.arrow")) as writer:
            writer.write_table(rows.data.table)
            writer.finalize()
        splits[split] = {"name": split, "num_examples": count, "dataset_name": "mine"}
    info = datasets.DatasetInfo(features=rows.features, splits=splits, dataset_name="mine", config_name="default")
    info.write_to_directory(str(folder))
    return tmp_path


def test_the_cache_serves_offline(cache: Path) -> None:
    loaded = load_hub("us/mine", None, COMMIT)
    assert loaded.note == f"us/mine at commit {COMMIT}"
    assert loaded.split("test", 1) == [("us/mine:test row 0", {"question": "test 0", "answer": "a"})]
    assert [where for where, _ in read_source("us/mine", "train", "main")] == [
        f"us/mine:train row {n}" for n in range(3)
    ]
    with pytest.raises(UserError, match=r"no split 'tset': did you mean 'test'"):
        loaded.split("tset")
    with pytest.raises(UserError, match=r"split 'train' has 3 rows, not 4: set dataset\.revision"):
        loaded.split("train", 4)


def test_another_commit_in_the_cache_is_refused(cache: Path) -> None:
    with pytest.raises(UserError, match=f"us/mine: the cache holds commit {COMMIT}, not {OTHER}"):
        load_hub("us/mine", None, OTHER)


def test_offline_without_a_copy(cache: Path) -> None:
    with pytest.raises(
        UserError, match=r"^us/none: not in the cache, and HF_HUB_OFFLINE is set: unset it, or give local"
    ):
        load_hub("us/none", None, "main")


def test_no_network_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")  # nobody listens there
    monkeypatch.setattr("huggingface_hub.hf_api.constants.ENDPOINT", "http://127.0.0.1:9")
    started = time.monotonic()
    with pytest.raises(
        UserError,
        match=r"^us/mine: no network, or no answer from the hub \(\w+\): give local files by dataset\.path=",
    ) as caught:
        load_hub("us/mine", None, "main")
    assert time.monotonic() - started < hub.TIMEOUT
    assert "\n" not in str(caught.value)


def test_a_branch_is_resolved_before_it_is_loaded(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str, float]] = []

    def dataset_info(self: object, name: str, *, revision: str, timeout: float) -> SimpleNamespace:
        asked.append((name, revision, timeout))
        return SimpleNamespace(sha=OTHER)

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", dataset_info)
    # `datasets` falls back on its cache here; that this is another commit must not pass unseen.
    with pytest.raises(UserError, match=f"the cache holds commit {COMMIT}, not {OTHER}"):
        load_hub("us/mine", None, "main")
    assert asked == [("us/mine", "main", hub.TIMEOUT)]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        ("GatedRepoError", "us/mine: its owner must grant access"),
        ("RevisionNotFoundError", "us/mine: no revision 'v9' on the hub: set dataset"),
        (
            "RepositoryNotFoundError",
            r"us/mine: no such file, and no such data set on the hub \(or no access\)",
        ),
    ],
)
def test_what_the_hub_refuses(monkeypatch: pytest.MonkeyPatch, error: str, message: str) -> None:
    from huggingface_hub import errors

    kind = getattr(errors, error)

    def dataset_info(self: object, name: str, *, revision: str, timeout: float) -> None:
        raise kind.__new__(kind)

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", dataset_info)
    with pytest.raises(UserError, match=f"^{message}"):
        load_hub("us/mine", None, "v9")


def test_a_missing_file_is_no_hub_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    for source in ("data/pool", "nowhere/pool.jsonl", "./pool"):
        with pytest.raises(UserError, match="no such file"):
            read_source(source, "train", "main")


TELL = """
import json
from dwbench.data.hub import load_hub
loads = [load_hub("us/mine", None, "main") for _ in range(2)]
print(json.dumps([[each.note, [fields["answer"] for _, fields in each.split("train")]] for each in loads]))
"""


def test_a_hub_that_answers(tmp_path: Path) -> None:
    for commit, answers in ((COMMIT, "ab"), (OTHER, "c")):
        (tmp_path / commit).mkdir()
        lines = [json.dumps({"question": "?", "answer": answer}) + "\n" for answer in answers]
        (tmp_path / commit / "train.jsonl").write_text("".join(lines))
    served = Hub("datasets", {commit: tmp_path / commit for commit in (COMMIT, OTHER)}, main=COMMIT)

    def tell(offline: str = "") -> list[list[object]]:
        ours = {"HF_ENDPOINT": served.url, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": offline}
        done = subprocess.run(
            [sys.executable, "-c", TELL], env={**os.environ, **ours}, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return list(json.loads(done.stdout))

    try:
        assert tell() == [[f"us/mine at commit {COMMIT}", ["a", "b"]]] * 2
        assert served.asked.count("GET /api/datasets/us/mine/revision/main") == 1
        served.main = OTHER
        assert tell(offline="1") == [[f"us/mine at commit {COMMIT}", ["a", "b"]]] * 2
        assert tell() == [[f"us/mine at commit {OTHER}", ["c"]]] * 2
    finally:
        served.close()
