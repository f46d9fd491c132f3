"""Models loaded on demand, each once, for as long as a selection needs them."""

import gc
from typing import Any

from dwbench.component import canonical_json, identity
from dwbench.models.chat import Chat
from dwbench.models.loading import load_model, load_tokenizer
from dwbench.models.spec import LM
from dwbench.representations.scorer import Scorer
from dwbench.store import Bench


class LoadedModels:
    """Tokenizers and weights by identity (and device), each loaded once.

    `release` lets go of the weights; tokenizers stay.
    """

    def __init__(self) -> None:
        self._chats: dict[str, Chat] = {}
        self._models: dict[str, Any] = {}

    def chat(self, lm: LM) -> Chat:
        key = canonical_json(identity(lm))
        if key not in self._chats:
            self._chats[key] = load_tokenizer(lm)
        return self._chats[key]

    def scorer(self, lm: LM, bench: Bench) -> Scorer:
        key = canonical_json([identity(lm), lm.resolved_device()])
        if key not in self._models:
            self._models[key] = load_model(lm)
        return Scorer(self._models[key], self.chat(lm), bench, lm.token_budget)

    def release(self) -> None:
        """Free the weights before something else needs the memory."""
        if self._models:
            self._models.clear()
            gc.collect()  # modules hold each other in cycles
            import torch

            if torch.cuda.is_available():
                torch.cuda.empty_cache()
