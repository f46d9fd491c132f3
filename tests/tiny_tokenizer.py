"""SmolLM2's tokenizer with a small vocabulary, for tiny models: most of the time that they take is their logits'."""

import json
from pathlib import Path
from typing import Any

N_TOKENS = 8192


def tiny_tokenizer_in(folder: Path) -> Any:
    """SmolLM2's tokenizer and chat template with its first tokens, which are in the order of its merges, saved in
    `folder`."""
    from transformers import AutoTokenizer

    from dwbench.models.embedded import smollm2_folder

    AutoTokenizer.from_pretrained(smollm2_folder()).save_pretrained(folder)
    path = folder / "tokenizer.json"
    saved = json.loads(path.read_text(encoding="utf-8"))
    ids = saved["model"]["vocab"]
    saved["model"]["vocab"] = {token: id for token, id in ids.items() if id < N_TOKENS}
    saved["model"]["merges"] = [pair for pair in saved["model"]["merges"] if ids["".join(pair)] < N_TOKENS]
    path.write_text(json.dumps(saved), encoding="utf-8")
    return AutoTokenizer.from_pretrained(folder)
