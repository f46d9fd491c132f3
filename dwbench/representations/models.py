"""Models loaded on demand, each once, for as long as a selection needs them."""

import gc
from pathlib import Path
from typing import Any

from dwbench.component import canonical_json, identity
from dwbench.models.chat import Chat
from dwbench.models.encoder import Encoder, load_encoder
from dwbench.models.loading import load_config, load_model, load_tokenizer
from dwbench.models.spec import LM
from dwbench.representations.encode import Embedder
from dwbench.representations.scorer import Scorer
from dwbench.store import Bench


class LoadedModels:
    """Tokenizers and weights by identity (and device), each loaded once.

    `release` lets go of the weights; tokenizers stay.
    """

    def __init__(self) -> None:
        self._chats: dict[str, Chat] = {}
        self._models: dict[str, Any] = {}
        self._adapted: tuple[str, Any] | None = None

    def chat(self, lm: LM) -> Chat:
        key = canonical_json(identity(lm))
        if key not in self._chats:
            self._chats[key] = load_tokenizer(lm)
        return self._chats[key]

    def config(self, lm: LM) -> Any:
        """The model's architecture, without its weights."""
        return load_config(lm)

    def scorer(self, lm: LM, bench: Bench, adapter: Path | None = None) -> Scorer:
        """The engine over the model, or over the model with an adapter, which then is the only one that is kept."""
        key = canonical_json([identity(lm), lm.resolved_device()])
        if adapter is not None:
            return Scorer(self._with_adapter(key, lm, adapter), self.chat(lm), bench, lm.token_budget)
        if key not in self._models:
            self._models[key] = load_model(lm)
        return Scorer(self._models[key], self.chat(lm), bench, lm.token_budget)

    def _with_adapter(self, key: str, lm: LM, adapter: Path) -> Any:
        key = f"{key} {adapter.resolve()}"
        if self._adapted is None or self._adapted[0] != key:
            self.release()
            self._adapted = key, load_model(lm, adapter)
        return self._adapted[1]

    def embedder(self, encoder: Encoder, bench: Bench) -> Embedder:
        key = canonical_json([identity(encoder), encoder.resolved_device()])
        if key not in self._models:
            self._models[key] = load_encoder(encoder)
        return Embedder(self._models[key], bench, encoder.batch_size)

    def release(self) -> None:
        """Free the weights before something else needs the memory."""
        if self._models or self._adapted:
            self._models.clear()
            self._adapted = None
            gc.collect()  # modules hold each other in cycles
            import torch

            if torch.cuda.is_available():
                torch.cuda.empty_cache()
