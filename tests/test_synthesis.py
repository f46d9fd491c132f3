"""A pool whose responses a model writes: what becomes of the rows, what is stored, and what runs make of it."""

import dataclasses
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from dwbench import synthesis
from dwbench.cli import main
from dwbench.config import build_run, compose
from dwbench.data.base import Example, RawRow, Splits, Task, fingerprint, number_rows
from dwbench.errors import UserError
from dwbench.models.chat import Chat
from dwbench.models.spec import LM
from dwbench.records import load_records
from dwbench.representations.generation import Answer
from dwbench.representations.scorer import Answers
from dwbench.selectors.models import LoadedModels
from dwbench.store import Bench, Store
from dwbench.synthesis import Writer

TASK = Task(
    name="towns",
    system="",
    user="Notice: {input}\nHeadline:",
    input_label="Notice",
    answer_label="Headline",
    icl_system="Headlines.",
    metric="rouge_l",
    multiline=False,
    max_new_tokens=6,
)


def rows(*inputs: str) -> tuple[Example, ...]:
    return number_rows(RawRow(f"r{n}", text, f"Headline {n}", f"row {n}") for n, text in enumerate(inputs))


def splits(*inputs: str) -> Splits:
    return Splits(pool=rows(*inputs), target=rows("The rink is open."), test=rows("It snows."))


def writer(lm: LM, cap: int = 6) -> Writer:
    return Writer(lm=lm, task=TASK, max_new_tokens=cap)


FOUR = ("The pool opens late.", "The bus is late.", "The school is shut.", "word " * 700)


@dataclasses.dataclass(frozen=True)
class Says:
    """Models whose answer to a prompt is known."""

    chat: Chat
    said: dict[str, Answer]

    def scorer(self, lm: LM, bench: Bench, adapter: Path | None = None) -> Any:
        return self

    def answers(self, prompts: Sequence[Sequence[int]], max_new_tokens: int, what: str = "") -> Answers:
        texts = [self.chat.tokenizer.decode(ids) for ids in prompts]
        return Answers([next(answer for part, answer in self.said.items() if part in text) for text in texts], [])


def test_what_becomes_of_the_rows(tiny_lm: LM, models: LoadedModels, tmp_path: Path) -> None:
    said = {
        "pool": Answer(" Pool is late.\n", 5, finished=True),
        "bus": Answer(" \n", 1, finished=True),
        "school": Answer("School school school", 6, finished=False),
    }
    says: Any = Says(models.chat(tiny_lm), said)
    by = writer(tiny_lm)
    read = by.planned(splits(*FOUR))
    assert read.pool == splits(*FOUR).pool
    found = by.write(read, Bench(Store(tmp_path)), says)
    assert [row.response for row in found.pool] == ["Pool is late.", "", "School school school", ""]
    assert [row.id for row in found.pool] == ["r0", "r1", "r2", "r3"]
    assert [row.input for row in found.pool] == list(FOUR)
    assert found.pool[0].references == ("Pool is late.",)
    assert (found.target, found.test) == (read.target, read.test)
    assert found.written is not None
    assert found.written.counts == {"responses": 2, "empty": 1, "no_room": 1, "cut": 1}
    assert "wrote the responses of 2 of 4 rows, 1 of them cut at 6 tokens" in found.notes[-1]
    assert found.as_read().pool == read.pool


def test_written_once_in_blocks(
    tiny_lm: LM, models: LoadedModels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(synthesis, "ROWS_A_BLOCK", 2)
    by, store = writer(tiny_lm), Store(tmp_path)
    read = by.planned(splits(*FOUR[:3]))
    assert by.stored(read, store) is None
    found = by.write(read, Bench(store), models)
    assert found.written is not None
    assert len(found.written.stages) == 2
    assert all(stage.cost.generated_tokens > 0 for stage in store.closure(found.written.stages).values())
    assert fingerprint(found.pool) != fingerprint(read.pool)
    assert by.stored(read, store) == found
    # A process that was killed after the first block goes on with the second.
    first, second = (store.root / ref for ref in found.written.stages)
    kept = (first / "manifest.json").stat().st_mtime_ns
    shutil.rmtree(second)
    assert by.stored(read, store) is None
    assert by.write(read, Bench(store), models) == found
    assert (first / "manifest.json").stat().st_mtime_ns == kept


def test_the_order_of_the_pool_does_not_matter(tiny_lm: LM, models: LoadedModels, tmp_path: Path) -> None:
    by, bench = writer(tiny_lm), Bench(Store(tmp_path))
    turned = dataclasses.replace(splits(*FOUR), pool=splits(*FOUR).pool[::-1])
    one, other = (by.write(by.planned(each), bench, models) for each in (splits(*FOUR), turned))
    assert len(list(tmp_path.glob("synthesise/*/manifest.json"))) == 1
    assert fingerprint(one.pool) == fingerprint(other.pool)
    assert [row.id for row in other.pool] == ["r3", "r2", "r1", "r0"]


SMALL = ["dataset=embedded", "dataset.pool_rows=12", "dataset.target_rows=2", "dataset.test_rows=3", "train=small"]


@pytest.fixture
def tiny(tiny_lm: LM) -> list[str]:
    model = [f"model.source={tiny_lm.source}", "model.name=tiny", "model.dtype=float32", "model.max_length=512"]
    return [*SMALL, *model, "dataset.task.max_new_tokens=6", "tracker=none", "synthesise=responses"]


def test_a_runs_key_is_known_before_anything_is_written(tiny: list[str], models: LoadedModels, tmp_path: Path) -> None:
    run = build_run(compose([*tiny, "selector=low_ppl"]))
    read = run.load()
    assert run.writer is not None
    assert run.writer.lm is run.model
    assert run.key(run.writer.write(read, Bench(Store(tmp_path)), models)) == run.key(read)
    others = [[*tiny, "synthesise.max_new_tokens=5"], [*tiny, "synthesise.model=smollm2-135m"], tiny[:-1]]
    runs = [run, *(build_run(compose([*arguments, "selector=low_ppl"])) for arguments in others)]
    assert len({one.key(one.load()) for one in runs}) == 4


def test_noise_is_planted_into_what_was_read_only(tiny: list[str]) -> None:
    with pytest.raises(UserError, match=r"^plant: goes with a pool as it was read, not with synthesise"):
        build_run(compose([*tiny, "plant=noise"]))


def test_a_run_on_a_written_pool(
    tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = [*tiny, "selector=low_ppl", "budget=4", "select_only=true", "perplexity=true"]

    def told(*command: str) -> str:
        capsys.readouterr()
        assert main(list(command)) == 0
        return capsys.readouterr().out

    assert "  synthesise: would run\n" in told("check", *arguments)
    speed = ("--tflops", "1e-6", "--decode-tokens-per-second", "10")
    before = told("check", "--estimate", *speed, *arguments)
    assert "data" in before.splitlines()[0]
    told("run", *arguments)
    checked = told("check", *arguments)
    assert "  synthesise: stored\n" in checked
    assert "  score: stored\n" in checked
    assert "data" not in told("check", "--estimate", *speed, *arguments).splitlines()[0]
    (record,) = load_records(tmp_path / "results")
    (stage,) = (tmp_path / ".dwbench" / "store" / "synthesise").glob("*/manifest.json")
    spent = record.data["cost"]
    assert set(spent["data"]["stages"]) == {f"synthesise/{stage.parent.name}"}
    assert spent["data"]["total"]["generated_tokens"] > 0
    assert spent["selection"]["total"]["generated_tokens"] == 0
    assert not set(spent["data"]["stages"]) & set(spent["selection"]["stages"])
    written = record.data["dataset"]["written"]
    assert written["responses"] + written["empty"] + written["no_room"] == 12
    source = build_run(compose(arguments)).load()
    assert record.data["dataset"]["fingerprints"]["pool"] != fingerprint(source.pool)
    # The perplexity of what is chosen rests on the losses that the selector was charged for, and on others that it
    # was not.
    represented = tmp_path / ".dwbench" / "store" / "represent"
    manifests = [json.loads(path.read_text()) for path in represented.glob("*/manifest.json")]
    arms = {found["identity"]["settings"]["arm"]: f"represent/{found['key']}" for found in manifests}
    assert arms["prompt"] in spent["selection"]["stages"]
    assert arms["header"] not in spent["selection"]["stages"]
    chosen = record.data["selection"]["perplexity"]["given_prompt"]
    assert chosen["chosen"]["rows"] == 4
    assert chosen["pool"]["rows"] == 12
    assert chosen["chosen"]["quartile_3"] <= chosen["pool"]["median"]
    for command in (["table"], ["table", "--perplexity"]):
        assert "(the pool)" in told(*command)
    assert "(the pool)" not in told("table", "--plain")
