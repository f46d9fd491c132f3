"""Fixtures for all tests: a tiny random model for mechanics, the embedded real one, and the shared material."""

import gc
import os
from pathlib import Path

import pytest

# Before torch is imported: its threads spin, and on busy cores that made a 15 s test file take 5 minutes.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from tiny_encoder import tiny_encoder_in
from tiny_tokenizer import tiny_tokenizer_in

from dwbench.models.encoder import Encoder
from dwbench.models.spec import LM
from dwbench.selectors.models import LoadedModels


@pytest.fixture(scope="session")
def smollm2() -> LM:
    """The embedded SmolLM2-135M-Instruct: real weights, slow on a CPU."""
    return LM(name="smollm2-135m", source="embedded", dtype="float32", device="cpu")


@pytest.fixture(scope="session")
def tiny_lm(tmp_path_factory: pytest.TempPathFactory) -> LM:
    """A random two-layer Llama (hidden 32) with SmolLM2's chat template and the first tokens of its tokenizer, saved in
    a folder.

    Its weights are drawn wider than usual, so that its predictions differ from uniform ones.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("tiny_lm")
    tokenizer = tiny_tokenizer_in(folder)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        initializer_range=0.2,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=True,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = LlamaForCausalLM(config)
    model.save_pretrained(folder)
    return LM(name="tiny", source=str(folder), dtype="float32", device="cpu", max_length=512)


@pytest.fixture(scope="session")
def minilm() -> Encoder:
    """The embedded all-MiniLM-L6-v2: real weights."""
    return Encoder(name="all-minilm-l6-v2", source="embedded", device="cpu")


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    """A tiny random text encoder."""
    return tiny_encoder_in(tmp_path_factory.mktemp("encoder"))


@pytest.fixture(scope="session")
def models() -> LoadedModels:
    """Models by identity, each loaded once for all tests."""
    # None of the half million objects of these libraries is garbage: to look at them whenever a model is let go (0.4 s)
    # takes longer than all that a tiny model does.
    import sklearn.cluster  # noqa: F401
    from trl import SFTTrainer  # noqa: F401

    gc.collect()
    gc.freeze()
    return LoadedModels()


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of shared material: golden vectors and real rows. Skips where there is none."""
    default = Path(__file__).resolve().parents[2] / "shared"
    folder = Path(os.environ.get("DWBENCH_SHARED") or default)
    if not folder.is_dir():
        pytest.skip(f"no shared material in {folder}: set DWBENCH_SHARED")
    return folder
