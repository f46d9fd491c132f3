"""lm-eval's HFLM, which books what it costs. Import it late: it pulls in lm-eval and transformers."""

from typing import Any

import torch
from lm_eval.models.huggingface import HFLM

from dwbench.cost import Meter
from dwbench.models.flop import Shape


class CountingHFLM(HFLM):  # type: ignore[misc]
    """Counts tokens as they go through the model, padding of its batches included."""

    def __init__(self, meter: Meter, **options: Any) -> None:  # HFLM's own options
        super().__init__(**options)
        self._meter = meter
        self._shape = Shape.of(self.model)

    # The signatures below are lm-eval's.
    def _model_call(self, inps: torch.Tensor, attn_mask: Any = None, labels: Any = None) -> Any:
        rows, length = inps.shape
        self._meter.count(
            forward_tokens=rows * length,
            forward_calls=rows,
            flop=self._shape.forward([length] * rows, rows * length),
        )
        return super()._model_call(inps, attn_mask, labels)

    def _model_generate(self, context: torch.Tensor, max_length: int, stop: list[str], **options: Any) -> Any:
        output = super()._model_generate(context, max_length, stop, **options)
        rows, prompt = context.shape
        new = output.shape[1] - prompt
        self._meter.count(
            forward_tokens=rows * (prompt + max(0, new - 1)),  # the last token is not read
            generated_tokens=rows * new,
            forward_calls=rows,
            flop=self._shape.forward([prompt] * rows, rows) + rows * self._shape.decode(prompt, max(0, new - 1)),
        )
        return output
