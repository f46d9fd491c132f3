import json
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dwbench.data.base import RawRow, Task, number_rows
from dwbench.errors import UserError
from dwbench.models.chat import Chat, Pair
from dwbench.models.flop import Shape
from dwbench.models.loading import load_model, load_tokenizer
from dwbench.models.spec import LM
from dwbench.store import Artefact, Bench, Store
from dwbench.training import sft
from dwbench.training.checkpoints import Keep, adapter_folder
from dwbench.training.sft import IGNORED, LoraSFT, full_tuning, training_rows, tune

TASK = Task(
    name="toy",
    system="",
    user="Name it.\n{input}",
    input_label="Thing",
    answer_label="Name",
    icl_system="",
    metric="rouge_l",
    multiline=False,
    max_new_tokens=8,
)
CONFIG = LoraSFT(epochs=2, batch_size=2, learning_rate=1e-2)


@pytest.fixture(scope="module")
def chat(tiny_lm: LM) -> Chat:
    return load_tokenizer(tiny_lm)


@pytest.fixture(scope="module")
def pairs(chat: Chat) -> list[Pair]:
    rows = [RawRow(id=str(n), input="word " * (n + 1), response=f"answer {n} " * (n + 1), where="x") for n in range(5)]
    found = [chat.pair(TASK, example) for example in number_rows(rows)]
    return [pair for pair in found if pair is not None]


@pytest.fixture
def train(tiny_lm: LM, pairs: list[Pair], tmp_path: Path) -> Callable[..., Artefact]:
    def run(name: str = "a", config: LoraSFT = CONFIG, rows: list[Pair] = pairs, seed: int = 0) -> Artefact:
        bench = Bench(Store(tmp_path))
        return bench.stage("train", {"name": name}, lambda folder: tune(bench, tiny_lm, rows, config, seed, folder))

    return run


def test_labels_are_the_response_and_its_end_of_turn(smollm2: LM) -> None:
    chat = load_tokenizer(smollm2)
    (example,) = number_rows([RawRow(id="0", input="A cat. <|im_end|>", response="It is a cat.", where="x")])
    pair = chat.pair(TASK, example)
    assert pair is not None
    columns = training_rows([pair])
    (ids,), (labels,) = columns["input_ids"], columns["labels"]
    assert chat.tokenizer.decode(ids) == (
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
        "<|im_start|>user\nName it.\nA cat. <|im_end|><|im_end|>\n<|im_start|>assistant\nIt is a cat.<|im_end|>"
    )
    learnt = [token for token in labels if token != IGNORED]
    assert chat.tokenizer.decode(learnt) == "It is a cat.<|im_end|>"
    # The golden mask: nothing of the context is learnt, end-of-turn ids there included; five words and one end are.
    assert [label != IGNORED for label in labels] == [False] * len(pair.context) + [True] * 6
    assert ids[-1] == labels[-1] == chat.end_of_turn == chat.tokenizer.pad_token_id
    assert ids.count(chat.end_of_turn) > labels.count(chat.end_of_turn) == 1


def test_the_trainer_gets_exactly_our_ids_and_labels(tiny_lm: LM, pairs: list[Pair], tmp_path: Path) -> None:
    trainer = sft._trainer(tiny_lm, load_model(tiny_lm), pairs, CONFIG, 1e-2, 0, str(tmp_path))
    batch = trainer.data_collator([trainer.train_dataset[n] for n in range(len(pairs))])
    for pair, ids, labels, mask in zip(
        pairs, batch["input_ids"], batch["labels"], batch["attention_mask"], strict=True
    ):
        assert ids[: pair.length].tolist() == [*pair.context, *pair.response]
        assert labels[labels != IGNORED].tolist() == list(pair.response)  # the end of turn, which is also pad, included
        assert int(mask.sum()) == pair.length
    sft._check_labels(trainer, pairs)
    with pytest.raises(RuntimeError, match="kept 5 of 4 rows"):
        sft._check_labels(trainer, pairs[:4])
    with pytest.raises(RuntimeError, match="supervises"):
        sft._check_labels(trainer, [*pairs[:4], Pair(pairs[4].context, pairs[4].response[:-1])])


def test_tuning_writes_adapter_and_report(train: Callable[..., Artefact], pairs: list[Pair], tiny_lm: LM) -> None:
    artefact = train()
    files = sorted(str(path.relative_to(artefact.folder)) for path in artefact.folder.rglob("*") if path.is_file())
    assert files == [
        "adapter/adapter_config.json",
        "adapter/adapter_model.safetensors",
        "manifest.json",
        "training.json",
    ]
    config = json.loads((artefact.folder / "adapter" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "tiny"
    assert tiny_lm.source not in (artefact.folder / "adapter" / "adapter_config.json").read_text()
    assert config["target_modules"] == sorted(config["target_modules"])
    linear = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    assert {name.rsplit(".", 1)[-1] for name in config["target_modules"]} == linear
    report = artefact.json("training.json")
    assert report["rows"] == 5
    assert report["steps"] == CONFIG.steps(5) == 6
    assert [step for step, _ in report["loss"]] == [1, 2, 3, 4, 5, 6]
    assert report["tokens"] == 2 * sum(pair.length for pair in pairs)
    assert report["supervised_tokens"] == sum(len(pair.response) for pair in pairs)
    assert report["loss"][-1][1] < report["loss"][0][1]
    assert artefact.cost.forward_tokens == artefact.cost.backward_tokens == report["tokens"]
    assert artefact.cost.flop == full_tuning(Shape.of(load_model(tiny_lm)), pairs, CONFIG)["flop"]
    assert {"import", "load", "setup"} <= artefact.cost.apart.keys()


def test_a_seed_determines_the_adapter(train: Callable[..., Artefact]) -> None:
    def adapter(name: str, seed: int = 0) -> tuple[bytes, ...]:
        folder = train(name, seed=seed).folder / "adapter"
        return tuple(path.read_bytes() for path in sorted(folder.iterdir()))

    first = adapter("a")
    random.seed(5)
    assert adapter("b") == first
    assert adapter("c", seed=1) != first


def test_the_adapter_changes_the_model(train: Callable[..., Artefact], tiny_lm: LM, pairs: list[Pair]) -> None:
    from dwbench.representations.token_nll import batch_token_nll

    artefact = train(config=LoraSFT(epochs=8, batch_size=1, learning_rate=2e-2))
    before = np.concatenate(batch_token_nll(load_model(tiny_lm), pairs)).mean()
    after = np.concatenate(batch_token_nll(load_model(tiny_lm, artefact.folder / "adapter"), pairs)).mean()
    assert after < before - 0.5


def test_accumulation_gives_the_same_loss(train: Callable[..., Artefact]) -> None:
    whole = train("a").json("training.json")["loss"]
    parts = train("b", LoraSFT(epochs=2, batch_size=2, micro_batch_size=1, learning_rate=1e-2))
    assert np.allclose(whole, parts.json("training.json")["loss"], atol=1e-4)


def test_checkpointing_changes_flop_and_not_the_loss(train: Callable[..., Artefact]) -> None:
    plain = train("a", LoraSFT(epochs=2, batch_size=2, learning_rate=1e-2, activation_checkpointing=False))
    less_memory = train("b", LoraSFT(epochs=2, batch_size=2, learning_rate=1e-2, activation_checkpointing=True))
    assert np.allclose(plain.json("training.json")["loss"], less_memory.json("training.json")["loss"], atol=1e-4)
    assert less_memory.cost.flop == 1.5 * plain.cost.flop


def test_global_random_state_is_left_alone(train: Callable[..., Artefact]) -> None:
    import torch

    def states() -> list[str]:
        return [str(random.getstate()), str(np.random.get_state()), str(torch.get_rng_state().tolist())]

    before = states()
    train()
    assert states() == before


def test_a_row_that_is_too_long_is_refused_and_not_dropped(train: Callable[..., Artefact], pairs: list[Pair]) -> None:
    long = Pair(tuple([5] * 510), (5, 5, 2))
    with pytest.raises(UserError, match=r"row 1 .* has 513 tokens, more than model.max_length 512"):
        train(rows=[pairs[0], long])


def test_nothing_to_tune_on_is_refused(train: Callable[..., Artefact]) -> None:
    with pytest.raises(UserError, match="no rows"):
        train(rows=[])
    with pytest.raises(UserError, match=r"row 0 .* no token"):
        train(rows=[Pair((5,), ())])


def test_a_loss_that_is_not_finite_stops_the_run(
    train: Callable[..., Artefact], monkeypatch: pytest.MonkeyPatch
) -> None:
    from trl import SFTTrainer

    def compute(self: Any, model: Any, inputs: Any, *args: Any, **options: Any) -> Any:
        return sum(weight.sum() for weight in model.parameters() if weight.requires_grad) * math.nan

    monkeypatch.setattr(SFTTrainer, "compute_loss", compute)
    with pytest.raises(RuntimeError, match=r"the loss is nan at step 1 of 6.*learning_rate"):
        train()


def test_settings_are_checked() -> None:
    for field, value in [("r", 0), ("epochs", 0), ("learning_rate", 0.0), ("warmup_ratio", 1.0), ("dropout", -0.1)]:
        with pytest.raises(ValueError, match=f"{field}: must"):
            LoraSFT(**{field: value})
    with pytest.raises(ValueError, match="micro_batch_size: 3 does not divide batch_size 8"):
        LoraSFT(micro_batch_size=3)


def test_the_rate_is_the_papers_for_the_family() -> None:
    assert [LoraSFT().rate_for(kind) for kind in ("llama", "qwen2", "mistral", "other")] == [1e-4, 1e-5, 1e-5, 1e-4]
    assert LoraSFT(learning_rate=0.5).rate_for("qwen2") == 0.5


def test_training_that_is_all_warm_up_is_refused() -> None:
    with pytest.raises(UserError, match="2 rows make 1 optimizer step"):
        LoraSFT(epochs=1, batch_size=4).check_steps(2)
    LoraSFT(epochs=1, batch_size=4, warmup_ratio=0.0).check_steps(2)
    LoraSFT(epochs=2, batch_size=4).check_steps(2)


def weights(folder: Path) -> dict[str, np.ndarray]:
    from safetensors.numpy import load_file

    return load_file(folder / "adapter_model.safetensors")


def test_kept_epochs_are_those_of_the_whole_training(tiny_lm: LM, pairs: list[Pair], tmp_path: Path) -> None:
    bench = Bench(Store(tmp_path))

    def kept(epochs: int | None) -> Artefact:
        keep = None if epochs is None else Keep(epochs)
        return bench.stage(
            "train", {"epochs": epochs}, lambda folder: tune(bench, tiny_lm, pairs, CONFIG, 0, folder, keep)
        )

    whole, both, first = kept(None), kept(2), kept(1)
    assert [path.name for path in sorted(both.folder.glob("adapter*"))] == ["adapter-1", "adapter-2"]
    assert [path.name for path in first.folder.glob("adapter*")] == ["adapter-1"]
    # The schedule is the whole training's also where it is left early.
    early, later = weights(adapter_folder(first.folder, 1)), weights(adapter_folder(both.folder, 1))
    last, end = weights(adapter_folder(both.folder, 2)), weights(adapter_folder(whole.folder))
    assert all((early[name] == later[name]).all() and (last[name] == end[name]).all() for name in end)
    assert any((early[name] != end[name]).any() for name in end)
    assert first.json("training.json")["loss"] == whole.json("training.json")["loss"][:3]
    assert first.cost.flop == whole.cost.flop / 2
    assert first.cost.backward_tokens == whole.cost.backward_tokens // 2
