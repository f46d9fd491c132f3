"""A tiny random text encoder for tests of mechanics."""

from pathlib import Path

from tiny_tokenizer import tiny_tokenizer_in

from dwbench.models.encoder import Encoder


def tiny_encoder_in(folder: Path) -> Encoder:
    """A random two-layer BERT (hidden 16, mean pooling) with the tokenizer of the tiny model, saved in `folder`."""
    import torch
    from transformers import BertConfig, BertModel

    tokenizer = tiny_tokenizer_in(folder)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=256,
        initializer_range=0.2,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = BertModel(config)
    model.save_pretrained(folder)
    return Encoder(name="tiny", source=str(folder), device="cpu")
