import time
from pathlib import Path

import pytest

from dwbench.errors import UserError
from dwbench.models.loading import load_model, load_tokenizer
from dwbench.models.spec import LM


def test_a_model_comes_in_eval_mode_and_precision(tiny_lm: LM) -> None:
    import torch

    model = load_model(tiny_lm)
    assert not model.training
    assert model.dtype == torch.float32
    assert model.config._attn_implementation == "sdpa"


def test_the_tokenizer_knows_its_end_of_turn(tiny_lm: LM) -> None:
    chat = load_tokenizer(tiny_lm)
    assert chat.tokenizer.decode([chat.end_of_turn]) == "<|im_end|>"
    assert chat.max_length == tiny_lm.max_length


def test_no_network_is_told_within_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import HfApi

    def down(*args: object, **options: object) -> None:
        raise ConnectionError("name or service not known")

    monkeypatch.setattr(HfApi, "model_info", down)
    start = time.perf_counter()
    for load in (load_tokenizer, load_model):
        with pytest.raises(UserError, match=r"no network.*set model.source") as caught:
            load(LM(name="m", source="someone/no-such-model-dwbench"))
        assert "\n" not in str(caught.value)
    assert time.perf_counter() - start < 10


def test_a_wrong_name_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="mend the name"):
        load_tokenizer(LM(name="m", source="not a/hub id/at all"))


def test_a_folder_without_weights_is_told(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(UserError, match="could not be loaded") as caught:
        load_model(LM(name="m", source=str(tmp_path)))
    assert "\n" not in str(caught.value)


def test_an_unknown_architecture_is_told(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "no_such_type"}')
    with pytest.raises(UserError, match="could not be loaded"):
        load_model(LM(name="m", source=str(tmp_path)))


def test_more_positions_than_the_model_has_are_refused(tiny_lm: LM) -> None:
    with pytest.raises(UserError, match="1024 positions"):
        load_model(LM(name="m", source=tiny_lm.source, max_length=1025, device="cpu"))


def test_no_gpu_is_told(tiny_lm: LM, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match=r"model.device"):
        load_model(LM(name="m", source=tiny_lm.source, device="cuda", dtype="float32", max_length=512))


def test_a_folder_that_is_no_adapter_is_told(tiny_lm: LM, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no adapter"):
        load_model(tiny_lm, tmp_path)
