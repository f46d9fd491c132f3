"""What can't work is told before anything is computed: exit code 2, one line, nothing written."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import pytest

from dwbench.checks import check_sweep
from dwbench.cli import main
from dwbench.component import component
from dwbench.errors import UserError
from dwbench.models.spec import LM
from dwbench.rules.ranking import Scores
from dwbench.selectors.context import Context
from dwbench.selectors.material import Need
from dwbench.selectors.models import LoadedModels
from dwbench.sweep import plan

SMALL = ["dataset=embedded", "dataset.pool_rows=12", "dataset.target_rows=2", "dataset.test_rows=3", "train=small"]
Refused = Callable[..., str]


@pytest.fixture
def refused(
    tmp_path: Path, tiny_lm: LM, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Refused:
    """The line by which both `check` and `run` refuse the arguments; neither writes anything."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str, source: Path | str = tiny_lm.source) -> str:
        before = sorted(tmp_path.rglob("*"))
        model = [f"model.source={source}", "model.name=tiny", "model.dtype=float32", "model.max_length=512"]
        told = []
        for command in ("check", "run"):
            capsys.readouterr()
            assert main([command, *SMALL, *model, "tracker=none", *arguments]) == 2
            out, err = capsys.readouterr()
            assert out == ""
            assert len(err.splitlines()) == 1, err
            told.append(err)
        assert told[0] == told[1]
        assert sorted(tmp_path.rglob("*")) == before
        return told[0]

    return call


def test_more_positions_than_the_model_has(refused: Refused) -> None:
    assert "model.max_length: 1025, but tiny has 1024 positions" in refused("model.max_length=1025")


def test_a_scorer_is_checked_where_one_is_used(refused: Refused, tiny_lm: LM, tmp_path: Path) -> None:
    short = made(tiny_lm, tmp_path, max_position_embeddings=700)
    configured = made_configuration(tmp_path, short, max_length=701)
    assert "701, but short has 700 positions" in refused(f"scorer_model={configured}", "selector=low_ppl")
    check_sweep(plan([*SMALL, *tiny(tiny_lm), f"scorer_model={configured}"], multirun=False), LoadedModels())


def test_a_device_that_is_not_here(refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "model.device: cuda, but torch sees no GPU here" in refused("model.device=cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert "model.device: cuda:2, but torch sees 2 GPUs" in refused("model.device=cuda:2")


@pytest.mark.parametrize("model_type", ["t5", "bert"])
def test_what_is_no_causal_language_model(refused: Refused, tiny_lm: LM, tmp_path: Path, model_type: str) -> None:
    folder = made(tiny_lm, tmp_path)
    (folder / "config.json").write_text(json.dumps({"model_type": model_type}))
    assert f"is no causal language model that is known here ({model_type})" in refused(source=folder)


def test_an_adapter(refused: Refused, tiny_lm: LM, tmp_path: Path) -> None:
    folder = made(tiny_lm, tmp_path)
    (folder / "adapter_config.json").write_text("{}")
    assert "is a LoRA adapter" in refused(source=folder)


def test_a_pool_of_which_no_row_fits(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    pool, test = tmp_path / "made" / "pool.jsonl", tmp_path / "made" / "test.jsonl"
    pool.write_text("".join(json.dumps({"prompt": f"{n} " * 400, "completion": "a"}) + "\n" for n in range(3)))
    test.write_text(json.dumps({"prompt": "hm", "completion": "a"}) + "\n")
    files = [f"dataset.path={pool}", f"dataset.test_path={test}", "dataset.target_rows=0"]
    jsonl = ["dataset=jsonl", "dataset.pool_rows=3", "dataset.test_rows=1", "budget=1"]
    assert "no row of the pool fits" in refused(*jsonl, *files)


def made(tiny_lm: LM, tmp_path: Path, **config: int) -> Path:
    """A copy of the tiny model's folder, its configuration changed."""
    folder = tmp_path / "made" / "lm"
    shutil.copytree(tiny_lm.source, folder)
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **config}))
    return folder


def made_configuration(tmp_path: Path, source: Path, max_length: int) -> str:
    folder = tmp_path / "conf" / "model"
    folder.mkdir(parents=True)
    text = f"_target_: dwbench.models.spec.LM\nname: short\nsource: {source}\nmax_length: {max_length}\n"
    (folder / "short.yaml").write_text(text)
    return "short"


def tiny(tiny_lm: LM) -> list[str]:
    return [f"model.source={tiny_lm.source}", "model.name=tiny", "model.dtype=float32", "model.max_length=512"]


LOOKED: list[int] = []


@component
class Picky:
    """Wants `rows` rows, and says so."""

    rows: int

    version: ClassVar[int] = 1
    paper: ClassVar[str] = "-"
    cost_class: ClassVar[str] = "nothing"
    fixed_share: ClassVar[float | None] = None

    @property
    def needs(self) -> frozenset[Need]:
        return frozenset({"responses", "scorer", "seed"})

    def check(self, context: Context) -> None:
        LOOKED.append(context.model_config().num_hidden_layers)
        assert context.chat.max_length == 512
        if context.n_rows < self.rows:
            raise UserError(f"selector.rows: the pool has {context.n_rows}")

    def score(self, context: Context) -> Scores:
        raise AssertionError("a check computes nothing")


def test_a_selector_checks_its_settings_once(tiny_lm: LM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    sweep = plan([*SMALL, *tiny(tiny_lm), "seed=0,1", "budget=2,4"], multirun=True)

    def with_selector(rows: int) -> None:
        planned = tuple(
            dataclasses.replace(each, run=dataclasses.replace(each.run, selector=Picky(rows=rows)))
            for each in sweep.planned
        )
        check_sweep(dataclasses.replace(sweep, planned=planned), LoadedModels())

    LOOKED.clear()
    with_selector(12)
    assert LOOKED == [2]  # neither seeds nor budgets ask again
    with pytest.raises(UserError, match="the pool has 12"):
        with_selector(13)
    assert list(tmp_path.iterdir()) == []
