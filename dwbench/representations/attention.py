"""How much attention some rows of a prompt pay to some of its columns, at one layer, during an ordinary forward pass.

The layer's attention function is replaced by one that, beside calling SDPA, works out softmax rows for the wanted
query rows only. Queries and keys arrive with rotary embedding and norms applied, so no architecture needs code of its
own. No full attention map is ever held, and there is no second forward pass.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

Span = tuple[int, int]
"""[first, end) in tokens."""

_NAME = "dwbench_attention_rows"


@contextmanager
def replaced_attention(model: Any, name: str, attend: Callable[..., Any]) -> Iterator[None]:
    """Let `attend` (transformers' calling convention, SDPA masks) be the attention of `model` inside the block."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(name, attend)
    AttentionMaskInterface.register(name, sdpa_mask)
    before = model.config._attn_implementation
    model.set_attn_implementation(name)
    try:
        yield
    finally:
        model.set_attn_implementation(before)


@dataclass(frozen=True)
class RowsAndColumns:
    """What is wanted of a prompt of `length` tokens: query rows and columns (one span a part), in its own positions."""

    length: int
    rows: tuple[Span, ...]
    columns: tuple[Span, ...]

    @property
    def n_rows(self) -> int:
        return sum(end - start for start, end in self.rows)


@dataclass
class AttentionProbe:
    """Collects head-summed attention mass at `layer` (0-based decoder layer) from prefill passes.

    Attributes:
        wanted: for each row of the coming batch what to collect; set before every pass.
        mass: for each prompt so far, in order, an array [columns parts], float64: post-softmax attention summed over
            all heads, wanted rows and the part's columns.
    """

    layer: int
    wanted: Sequence[RowsAndColumns] = ()
    mass: list[np.ndarray] = field(default_factory=list)

    @contextmanager
    def on(self, model: Any) -> Iterator["AttentionProbe"]:
        """Watch `model` inside the block; its attention implementation is restored afterwards."""
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        def attend(
            module: Any,
            query: "torch.Tensor",
            key: "torch.Tensor",
            value: "torch.Tensor",
            attention_mask: "torch.Tensor | None",
            **options: Any,  # the library's calling convention
        ) -> Any:
            if module.layer_idx == self.layer and query.shape[2] > 1:
                self.mass.extend(self._collect(query, key, attention_mask, options.get("scaling")))
            return sdpa_attention_forward(module, query, key, value, attention_mask, **options)

        with replaced_attention(model, _NAME, attend):
            yield self

    def _collect(
        self, query: "torch.Tensor", key: "torch.Tensor", mask: "torch.Tensor | None", scaling: float | None
    ) -> list[np.ndarray]:
        scale = scaling if scaling is not None else query.shape[-1] ** -0.5
        return [
            part_masses(query[row], key[row], None if mask is None else mask[row], scale, want)
            for row, want in enumerate(self.wanted)
        ]


def part_masses(
    query: "torch.Tensor",
    key: "torch.Tensor",
    mask: "torch.Tensor | None",
    scale: float,
    want: RowsAndColumns,
) -> np.ndarray:
    """Attention mass on each part of `want.columns`, from one sequence of a left-padded batch.

    Args:
        query: [heads, length, head size], position embeddings applied.
        key: [key heads, length, head size]; a key head serves `heads / key heads` query heads.
        mask: [1, length, length], boolean (true: visible) or additive; None: causal and no padding.
        scale: factor of the logits.
        want: rows and columns in the prompt's own positions, to be shifted by the padding on the left.
    """
    import torch

    length = query.shape[1]
    shift = length - want.length
    rows = torch.cat([torch.arange(a + shift, b + shift, device=query.device) for a, b in want.rows])
    keys = key.repeat_interleave(query.shape[0] // key.shape[0], dim=0).float()
    logits = query[:, rows].float() @ keys.transpose(1, 2) * scale
    columns = torch.arange(length, device=query.device)
    if mask is None:
        logits = logits.masked_fill(columns[None, None] > rows[None, :, None], float("-inf"))
    elif mask.dtype == torch.bool:
        logits = logits.masked_fill(~mask[:, rows], float("-inf"))
    else:
        logits = logits + mask[:, rows].float()
    on_columns = torch.softmax(logits, dim=-1).sum(dim=(0, 1)).double()
    return np.array([float(on_columns[a + shift : b + shift].sum()) for a, b in want.columns])
