"""The embedding engine: a loaded text encoder that gives unit vectors, and books what they cost."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dwbench.errors import UserError
from dwbench.store import Bench

_TOKENISED_AT_ONCE = 4096


@dataclass(frozen=True)
class EncoderShape:
    """What FLOP depend on: weights in the layers, number of layers, width of all heads together."""

    layer_weights: int
    layers: int
    attention_width: int

    @classmethod
    def of(cls, transformer: Any) -> "EncoderShape":
        """Read off a loaded transformers encoder; its layers are whatever it holds in lists of modules."""
        from torch.nn import ModuleList

        config = transformer.config
        weights = {
            id(weight): weight.numel()
            for stack in transformer.modules()
            if isinstance(stack, ModuleList)
            for weight in stack.parameters()
        }
        heads = config.num_attention_heads
        head_width = getattr(config, "head_dim", None) or config.hidden_size // heads
        return cls(sum(weights.values()), config.num_hidden_layers, heads * head_width)

    def forward(self, lengths: Sequence[int]) -> float:
        """FLOP of passes over texts of these lengths in tokens; every token reads all keys of its text."""
        keys_read = sum(length * length for length in lengths)
        return 2.0 * self.layer_weights * sum(lengths) + 4.0 * self.attention_width * self.layers * keys_read


class Embedder:
    """A SentenceTransformer in eval mode that embeds `batch_size` texts at a time."""

    def __init__(self, model: Any, bench: Bench, batch_size: int) -> None:
        self._model = model
        self._bench = bench
        self._batch_size = batch_size
        self._prefix = model.prompts.get(model.default_prompt_name, "")
        self._shape = EncoderShape.of(model.transformers_model)

    @property
    def max_length(self) -> int:
        """Tokens of a text that are read; what lies behind them is cut."""
        return int(self._model.max_seq_length)

    def lengths(self, texts: Sequence[str]) -> np.ndarray:
        """Tokens of every text before it is cut, special ones and prefix included; int64 [texts]."""
        found: list[int] = []
        for start in range(0, len(texts), _TOKENISED_AT_ONCE):
            chunk = [self._prefix + text for text in texts[start : start + _TOKENISED_AT_ONCE]]
            # Not verbose: the tokenizer would warn of long texts, which are cut on purpose.
            found += [len(ids) for ids in self._model.tokenizer(chunk, truncation=False, verbose=False)["input_ids"]]
        return np.array(found, dtype=np.int64)

    def embed(self, texts: Sequence[str], what: str = "embeddings") -> np.ndarray:
        """Unit vectors, float32 [texts, d]: the same to 1e-5 for any batch size, and equal ones for equal texts.

        Texts are cut at `max_length` tokens; each different text passes the model once. `what` names the work on the
        progress display. Raises UserError for a text that the tokenizer makes no token of.
        """
        different = list(dict.fromkeys(texts))
        lengths = self.lengths(different)
        if not lengths.all():
            text = different[int(np.argmin(lengths))]
            raise UserError(f"embedder: its tokenizer makes no token of the text {text!r}: take another encoder")
        place = {text: position for position, text in enumerate(different)}
        vectors = np.zeros((len(different), self._model.get_embedding_dimension()), dtype=np.float32)
        if different:
            self._warm_up(different[0])
        with self._bench.progress.track(what, len(different)) as advance:
            for group in self._batches(lengths):
                features = self._features([different[position] for position in group])
                vectors[group] = self._forward(features)
                read = features["attention_mask"].sum(dim=1).tolist()
                self._bench.meter.count(
                    forward_tokens=sum(read), forward_calls=len(group), flop=self._shape.forward(read)
                )
                advance(len(group))
        return vectors[[place[text] for text in texts]]

    def _batches(self, lengths: np.ndarray) -> Iterator[np.ndarray]:
        """Positions of texts of like length, the longest first, so that a shortage of memory shows at once."""
        order = np.argsort(-np.minimum(lengths, self.max_length), kind="stable")
        for start in range(0, len(order), self._batch_size):
            yield order[start : start + self._batch_size]

    def _features(self, texts: list[str]) -> dict[str, Any]:
        found: dict[str, Any] = self._model.preprocess([self._prefix + text for text in texts])
        return found

    def _forward(self, features: dict[str, Any]) -> np.ndarray:
        import torch
        from sentence_transformers.util import batch_to_device

        with torch.inference_mode():
            found = self._model(batch_to_device(features, self._model.device))["sentence_embedding"]
            return np.asarray(torch.nn.functional.normalize(found, dim=1).cpu().numpy())

    def _warm_up(self, text: str) -> None:
        """One text off the clock: the first pass of a process pays for kernels and thread pools."""
        with self._bench.meter.apart("warmup"):
            self._forward(self._features([text]))
