"""Models loaded on demand, each once, for as long as a selection needs them."""

import gc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dwbench.component import canonical_json, identity
from dwbench.models.chat import Chat, Pair
from dwbench.models.encoder import Encoder, load_encoder
from dwbench.models.loading import load_config, load_model, load_tokenizer
from dwbench.models.spec import LM
from dwbench.representations.encode import Embedder
from dwbench.representations.gradients import Gradients
from dwbench.representations.scorer import Scorer
from dwbench.store import Bench
from dwbench.training.checkpoints import Keep
from dwbench.training.sft import LoraSFT, tune, untuned


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
        model = self._plain(lm) if adapter is None else self._with_adapter(lm, adapter, merge=True)
        return Scorer(model, self.chat(lm), bench, lm.token_budget)

    def gradients(self, lm: LM, bench: Bench, adapter: Path | None = None) -> Gradients:
        """The gradient engine over the model, or over the model with an adapter beside its weights."""
        model = self._plain(lm) if adapter is None else self._with_adapter(lm, adapter, merge=False)
        return Gradients(model, self.chat(lm), bench, lm.token_budget)

    def _plain(self, lm: LM) -> Any:
        key = canonical_json([identity(lm), lm.resolved_device()])
        if key not in self._models:
            if self._adapted is not None:
                self.release()  # else two language models stand in memory
            self._models[key] = load_model(lm)
        return self._models[key]

    def _with_adapter(self, lm: LM, adapter: Path, merge: bool) -> Any:
        key = canonical_json([identity(lm), lm.resolved_device(), str(adapter.resolve()), merge])
        if self._adapted is None or self._adapted[0] != key:
            self.release()
            self._adapted = key, load_model(lm, adapter, merge)
        return self._adapted[1]

    def embedder(self, encoder: Encoder, bench: Bench) -> Embedder:
        key = canonical_json([identity(encoder), encoder.resolved_device()])
        if key not in self._models:
            self._models[key] = load_encoder(encoder)
        return Embedder(self._models[key], bench, encoder.batch_size)

    def tune(
        self, lm: LM, bench: Bench, pairs: Sequence[Pair], train: LoraSFT, seed: int, folder: Path, keep: Keep
    ) -> None:
        """As `training.sft.tune`, with all else out of memory."""
        self.release()
        tune(bench, lm, pairs, train, seed, folder, keep)

    def untuned(self, lm: LM, bench: Bench, train: LoraSFT, seed: int, folder: Path) -> None:
        """As `training.sft.untuned`, with all else out of memory."""
        self.release()
        untuned(bench, lm, train, seed, folder)

    def release(self) -> None:
        """Free the weights before something else needs the memory."""
        if self._models or self._adapted:
            self._models.clear()
            self._adapted = None
            gc.collect()  # modules hold each other in cycles
            import torch

            if torch.cuda.is_available():
                torch.cuda.empty_cache()
