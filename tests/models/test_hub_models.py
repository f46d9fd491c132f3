"""Hub models are what they were at one commit: from a cache made by hand, and from a hub of our own on this machine."""

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_hub import Hub

from dwbench.component import identity
from dwbench.config import model_named
from dwbench.errors import UserError
from dwbench.models import hub as hub_module
from dwbench.models.encoder import Encoder
from dwbench.models.loading import load_model, load_tokenizer
from dwbench.models.spec import LM

OLD, NEW = "a" * 40, "b" * 40


@pytest.fixture(autouse=True)
def forgetful() -> Iterator[None]:
    """What a revision stands for is remembered by a process, and these tests are one."""
    yield
    hub_module._snapshot.cache_clear()


@pytest.fixture
def cache(tmp_path: Path, tiny_lm: LM, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The hub's cache, without network: `us/mine` at OLD and NEW (with 9 as its weights' first number), `main` at
    NEW and tag `v1` at OLD."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    folder = tmp_path / "models--us--mine"
    for commit in (OLD, NEW):
        shutil.copytree(tiny_lm.source, folder / "snapshots" / commit)
    changed(folder / "snapshots" / NEW / "model.safetensors", 9.0)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(NEW)
    (folder / "refs" / "v1").write_text(OLD)
    return folder


def changed(path: Path, value: float) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(path)
    weights["model.norm.weight"][0] = value
    path.unlink()
    save_file(weights, path, metadata={"format": "pt"})


def first_weight(lm: LM) -> float:
    return float(load_model(lm).model.norm.weight[0].item())


def hub_lm(name: str, revision: str | None = None, source: str = "us/mine") -> LM:
    return LM(name=name, source=source, revision=revision, dtype="float32", device="cpu", max_length=512)


@pytest.mark.usefixtures("cache")
def test_without_network_the_cache_says_the_commit() -> None:
    main, tag, commit = hub_lm("a"), hub_lm("a", "v1"), hub_lm("a", OLD)
    assert main.weights_identity() == {"hub": "us/mine", "commit": NEW}
    assert tag.weights_identity() == commit.weights_identity() == {"hub": "us/mine", "commit": OLD}
    assert first_weight(main) == 9.0
    assert first_weight(tag) == first_weight(commit) == 1.0
    assert load_tokenizer(tag).tokenizer.chat_template


def test_a_revision_stands_for_one_commit_in_a_process(cache: Path) -> None:
    before = identity(hub_lm("b"))
    (cache / "refs" / "main").write_text(OLD)
    assert identity(hub_lm("b")) == identity(hub_lm("another name")) == before
    assert Encoder(name="e", source="us/mine").weights_identity()["commit"] == NEW  # and in another section
    assert first_weight(hub_lm("b")) == 9.0
    hub_module._snapshot.cache_clear()
    assert hub_lm("b").weights_identity()["commit"] == OLD


def test_what_the_cache_lacks(cache: Path) -> None:
    with pytest.raises(UserError, match=r"^model c: no network, and us/none is not in the cache of the hub: set model"):
        hub_lm("c", source="us/none").weights_identity()
    with pytest.raises(UserError, match=r"^embedder e: no network, and us/none .*: set embedder.source=FOLDER$"):
        Encoder(name="e", source="us/none").weights_identity()
    with pytest.raises(UserError, match="us/mine at revision v9 is not in the cache"):
        hub_lm("c", "v9").weights_identity()
    (cache / "snapshots" / NEW / "config.json").unlink()
    with pytest.raises(UserError, match="not in the cache"):
        hub_lm("c").weights_identity()


def test_an_adapter_is_no_model(cache: Path) -> None:
    (cache / "snapshots" / NEW / "adapter_config.json").write_text('{"base_model_name_or_path": "us/other"}')
    for source in ("us/mine", str(cache / "snapshots" / NEW)):
        with pytest.raises(UserError, match=r"is a LoRA adapter: merge it into its model"):
            hub_lm("d", source=source).weights_identity()


@pytest.fixture
def hub(tmp_path: Path, tiny_lm: LM) -> Iterator[Hub]:
    shutil.copytree(tiny_lm.source, tmp_path / OLD)
    changed(tmp_path / OLD / "model.safetensors", 5.0)
    served = Hub("models", {OLD: tmp_path / OLD}, main=OLD)
    yield served
    served.close()


TELL = """
import json, sys
from dwbench.models.loading import load_model, load_tokenizer
from dwbench.models.spec import LM
lm = LM(name="m", source="us/mine", dtype="float32", device="cpu", max_length=512)
told = [lm.weights_identity(), bool(load_tokenizer(lm).tokenizer.chat_template), lm.weights_identity()]
print(json.dumps([*told, load_model(lm).model.norm.weight[0].item()]))
"""


@pytest.fixture
def tell(tmp_path: Path, hub: Hub) -> Callable[..., list[Any]]:
    """What a process says of `us/mine`: identity, template, identity again, first weight."""

    def run(**variables: str) -> list[Any]:
        ours = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "", **variables}
        done = subprocess.run(
            [sys.executable, "-c", TELL], env={**os.environ, **ours}, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return list(json.loads(done.stdout))

    return run


def test_a_branch_is_loaded_at_the_commit_in_the_key(
    hub: Hub, tell: Callable[..., list[Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_old = {"hub": "us/mine", "commit": OLD}
    assert tell() == [at_old, True, at_old, 5.0]
    assert sum(request.startswith("GET /api/models/us/mine") and "tree" not in request for request in hub.asked) == 1
    asked_of_main = [request for request in hub.asked if "/resolve/main/" in request]
    assert {request.split("/")[-1] for request in asked_of_main} == {"config.json"}  # it tells the cache
    # Another process, this one, with the same cache and without the hub.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hf" / "hub"))
    lm = hub_lm("m")
    assert lm.weights_identity() == at_old
    assert load_tokenizer(lm).tokenizer.chat_template
    assert first_weight(lm) == 5.0


@pytest.fixture
def online(tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """The hub for this process, with an empty cache."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.url)
    template = f"{hub.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    return hub


def moved(hub: Hub, tmp_path: Path) -> None:
    """Branch `main` gets another commit, behind a client that knows the old one."""
    assert hub_lm("m").weights_identity()["commit"] == OLD
    hub_module._snapshot.cache_clear()
    hub.commits[NEW] = Path(shutil.copytree(tmp_path / OLD, tmp_path / NEW))
    hub.main = NEW


def test_an_older_commit_does_not_stand_in_where_the_hub_fails(online: Hub, tmp_path: Path) -> None:
    moved(online, tmp_path)
    for part, told in (
        ("/api/", "the hub answers 503 for us/mine"),
        ("/resolve/", "the hub told of us/mine but did not"),
    ):
        online.failing = {part: 503}
        with pytest.raises(UserError, match=rf"^model m: {told}.*: try again later, or set HF_HUB_OFFLINE=1") as caught:
            hub_lm("m").weights_identity()
        assert "\n" not in str(caught.value)
    online.failing = {}
    assert hub_lm("m").weights_identity()["commit"] == NEW
    online.close()
    assert hub_lm("m").weights_identity()["commit"] == NEW


def test_without_an_answer_the_cache_stands_in(online: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moved(online, tmp_path)
    online.close()
    assert hub_lm("m").weights_identity()["commit"] == OLD
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "empty"))
    hub_module._snapshot.cache_clear()
    with pytest.raises(UserError, match="no network, and us/mine is not in the cache"):
        hub_lm("m").weights_identity()


def test_a_full_disk_is_no_missing_network(online: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object, **options: object) -> str:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("huggingface_hub.hf_hub_download", full)
    with pytest.raises(UserError, match=r"^model m: us/mine can't be had from the hub \(.*No space left on device\)"):
        hub_lm("m").weights_identity()


def test_a_revision_that_is_not_there(online: Hub) -> None:
    online.failing = {"/revision/v9": 404}
    with pytest.raises(UserError, match=r"^embedder e: .*us/mine"):
        Encoder(name="e", source="us/mine", revision="v9").weights_identity()


def test_a_model_by_its_id_has_the_positions_of_its_configuration(online: Hub, tmp_path: Path) -> None:
    lm = model_named("us/mine", "--model")
    assert (lm.name, lm.max_length, lm.token_budget) == ("mine", 1024, 4096)
    path = tmp_path / OLD / "config.json"
    path.write_text(path.read_text().replace('"max_position_embeddings": 1024', '"max_position_embeddings": 131072'))
    shutil.rmtree(tmp_path / "cache")
    lm = model_named("us/mine", "--model")
    assert (lm.max_length, lm.token_budget) == (8192, 16384)
