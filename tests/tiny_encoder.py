"""A tiny random text encoder for tests of mechanics."""

from pathlib import Path

from dwbench.models.encoder import Encoder


def tiny_encoder_in(folder: Path) -> Encoder:
    """A random two-layer BERT (hidden 16, mean pooling) with SmolLM2's tokenizer, saved in `folder`."""
    import torch
    from transformers import AutoTokenizer, BertConfig, BertModel

    from dwbench.models.embedded import smollm2_folder

    tokenizer = AutoTokenizer.from_pretrained(smollm2_folder())
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
    tokenizer.save_pretrained(folder)
    return Encoder(name="tiny", source=str(folder), device="cpu")
