"""Single attention heads: which ones copy from the context, and what a model does when some attend to all alike.

Both replace the model's attention function during ordinary forward passes, as `attention.py` does. Queries and keys
arrive with rotary embedding and norms applied, so no architecture needs code of its own, and no attention map is held.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from dwbench.representations.attention import replaced_attention
from dwbench.representations.probes import Probe

if TYPE_CHECKING:
    import torch

Head = tuple[int, int]
"""(layer, head), both from 0; head is that of the queries."""

Uniform = Literal["visible", "literal"]
"""Weights of a masked head: 1/t on the t positions that a row sees, or 1/L (L: the text's length) on the same ones."""


@contextmanager
def uniform_heads(model: Any, heads: Sequence[Head], uniform: Uniform = "visible") -> Iterator[None]:
    """Give `heads` of `model` equal attention weights inside the block; their values stay (AttentionInfluence, App. C).

    For passes over whole sequences, padded on either side; not for decoding with a cache. Raises ValueError for a head
    that the model does not have.
    """
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    config = model.config.get_text_config()
    by_layer: dict[int, list[int]] = {}
    for layer, head in heads:
        if not (0 <= layer < config.num_hidden_layers and 0 <= head < config.num_attention_heads):
            raise ValueError(f"head {head} of layer {layer}: the model has none")
        by_layer.setdefault(layer, []).append(head)

    def attend(
        module: Any,
        query: "torch.Tensor",
        key: "torch.Tensor",
        value: "torch.Tensor",
        attention_mask: "torch.Tensor | None",
        **options: Any,  # the library's calling convention
    ) -> Any:
        output, weights = sdpa_attention_forward(module, query, key, value, attention_mask, **options)
        masked = by_layer.get(module.layer_idx)
        if masked:
            group = query.shape[1] // value.shape[1]
            means = uniform_attention(value[:, [head // group for head in masked]], attention_mask, uniform)
            output[:, :, masked] = means.transpose(1, 2).to(output.dtype)
        return output, weights

    with replaced_attention(model, "dwbench_uniform_heads", attend):
        yield


def uniform_attention(value: "torch.Tensor", mask: "torch.Tensor | None", uniform: Uniform) -> "torch.Tensor":
    """Output of heads with equal weights, by running sums of the values.

    Args:
        value: [batch, heads, length, head size].
        mask: [batch, 1, length, length], true where a row sees a column; what a row sees is one stretch of columns
            (causal, sliding window, padding). None: causal and no padding.
        uniform: equal weights on what is visible (rows sum to 1), or 1/L each (row t sums to t/L).

    Returns:
        [batch, heads, length, head size], float32. Rows of padding hold no meaning.
    """
    import torch

    length = value.shape[2]
    sums = value.float().cumsum(2)
    if mask is None:
        seen = torch.arange(1, length + 1, device=value.device)
        return sums / (seen[:, None] if uniform == "visible" else length)
    sums = torch.nn.functional.pad(sums, (0, 0, 1, 0))
    seen = mask.sum(-1)
    first = mask.to(torch.uint8).argmax(-1)
    # A sum over the columns [first, first + seen) is the difference of two running sums.
    begin, end = (at[..., None].expand(value.shape) for at in (first, first + seen))
    visible = sums.gather(2, end) - sums.gather(2, begin)
    own = seen if uniform == "visible" else mask.any(-2).sum(-1, keepdim=True)
    return visible / own.clamp(min=1)[..., None]


def retrieval_scores(model: Any, probe: Probe) -> np.ndarray:
    """Share of the probe's answer tokens that each head retrieves, [layers, heads] float64 (`retrieved`).

    One teacher-forced pass of the decoder; in each layer only the rows that predict an answer token are worked out.
    """
    import torch
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    found: dict[int, torch.Tensor] = {}

    def attend(
        module: Any,
        query: "torch.Tensor",
        key: "torch.Tensor",
        value: "torch.Tensor",
        attention_mask: "torch.Tensor | None",
        **options: Any,  # the library's calling convention
    ) -> Any:
        mask = None if attention_mask is None else attention_mask[0, 0]
        found[module.layer_idx] = retrieved(query[0], key[0], mask, probe)
        return sdpa_attention_forward(module, query, key, value, attention_mask, **options)

    ids = torch.tensor([probe.ids], device=model.device)
    with replaced_attention(model, "dwbench_retrieval", attend), torch.inference_mode():
        model.get_decoder()(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False)
    return np.stack([found[layer].cpu().numpy() for layer in sorted(found)])


def retrieved(query: "torch.Tensor", key: "torch.Tensor", mask: "torch.Tensor | None", probe: Probe) -> "torch.Tensor":
    """Share of answer tokens that each head of one layer retrieves, [heads] float64.

    A head retrieves the answer token at position t where the row that predicts it, t - 1, attends most to a column
    that lies in the queried value and holds that very token. Each answer position counts once.

    Args:
        query: [heads, length, head size], position embeddings applied.
        key: [key heads, length, head size]; a key head serves `heads / key heads` query heads.
        mask: [length, length], true where a row sees a column; None: causal.
        probe: what was fed: context and answer without its last token.
    """
    import torch

    device = query.device
    ids = torch.tensor(probe.ids, device=device)
    rows = torch.arange(len(probe.context) - 1, len(probe.ids), device=device)
    visible = torch.arange(len(probe.ids), device=device) <= rows[:, None] if mask is None else mask[rows]
    # Neither softmax nor a positive scale moves the largest logit.
    of_key_heads = query[:, rows].float().reshape(key.shape[0], -1, len(rows), key.shape[-1])
    logits = of_key_heads @ key.float().mT[:, None]
    most = logits.masked_fill(~visible, float("-inf")).argmax(-1).flatten(0, 1)
    start, end = probe.value
    hits: torch.Tensor = (most >= start) & (most < end) & (ids[most] == torch.tensor(probe.answer, device=device))
    return hits.double().mean(1)


def top_heads(scores: np.ndarray, share: float) -> tuple[Head, ...]:
    """The `max(1, round(share L H))` heads with the highest scores [L, H], by layer and head.

    Of equal ones those of lower layers come first, in a layer the lower heads.
    """
    n = max(1, round(share * scores.size))
    chosen = np.sort(np.argsort(-scores.ravel(), kind="stable")[:n])
    return tuple((int(head) // scores.shape[1], int(head) % scores.shape[1]) for head in chosen)
