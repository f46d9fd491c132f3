"""Per-sample gradients of linear layers by hooks, from one pass forward and one backward of a whole batch.

No weight requires a gradient: each layer's input is kept on the way forward, and on the way back it meets the gradient
of the layer's output. With padding on the right and a loss that is a sum over rows, rows do not mix.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from dwbench.errors import UserError
from dwbench.models.chat import Pair
from dwbench.representations.factors import Factors
from dwbench.representations.head_gradients import hidden_gradients
from dwbench.representations.token_nll import right_padded

if TYPE_CHECKING:
    import torch

LayerPart = Literal["lora_all", "last_v_lora_b", "last_v"]

Take = Callable[[str, Factors], None]


@dataclass(frozen=True)
class Wanted:
    """Linear layers by the names of their weights, as in `named_parameters()`, and the first decoder layer that holds
    one of them: gradients do not go further back."""

    layers: Mapping[str, Any]
    first: int

    @property
    def size(self) -> int:
        """Entries of all weights together."""
        return sum(layer.weight.numel() for layer in self.layers.values())


def wanted(model: Any, part: LayerPart) -> Wanted:
    """The layers of a part of the model: all adapters, or the last layer's v_proj, its own weight or its lora_B.

    Raises UserError where the model has none.
    """
    import torch

    decoder = model.get_decoder()
    last = set(decoder.layers[-1].modules())

    def is_wanted(name: str, module: Any) -> bool:
        if part == "lora_all":
            return ".lora_A." in name or ".lora_B." in name
        if module not in last:
            return False
        if part == "last_v_lora_b":
            return ".v_proj.lora_B." in name
        return name.removesuffix(".base_layer").endswith(".v_proj")

    layers = {
        f"{name}.weight": module
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and is_wanted(name, module)
    }
    if not layers:
        raise UserError(f"a {model.config.model_type} model without layers for {part!r} gradients: take another model")
    found = set(layers.values())
    holds = [not found.isdisjoint(layer.modules()) for layer in decoder.layers]
    return Wanted(layers, holds.index(True))


def check_last_v(config: Any) -> None:
    """Raise UserError where a model of this transformers configuration has no value projection of its own in its last
    layer (some have one weight for queries, keys and values). Makes no weights."""
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        wanted(AutoModelForCausalLM.from_config(config), "last_v")  # type: ignore[no-untyped-call]


def backward(model: Any, pairs: Sequence[Pair], of: Wanted, take: Take) -> None:
    """Call `take(name, factors)` once for each wanted layer with the gradients of each row's mean response NLL.

    The calls come during the pass backward, the last layers first; nothing is kept behind them. The loss that is passed
    back is a sum and no mean over tokens: divided only in float32, small gradients survive half precision.

    Args:
        model: a causal LM in eval mode no weight of which requires a gradient.
        pairs: one right-padded batch; every context and response has a token.
    """
    import torch

    padded = right_padded(pairs, model.device)
    scale = 1 / torch.tensor([len(pair.response) for pair in pairs], dtype=torch.float32, device=model.device)
    missing = set(of.layers)

    def given(name: str, inputs: torch.Tensor, outputs: torch.Tensor) -> None:
        missing.remove(name)
        take(name, Factors(inputs, outputs, scale))

    with torch.enable_grad(), _watched(model, of, padded.ids.shape, given):
        outputs = model.get_decoder()(input_ids=padded.ids, attention_mask=padded.mask, use_cache=False)
        hidden = outputs.last_hidden_state[padded.predicting]
        hidden.backward(hidden_gradients(model, outputs, hidden, padded.responses))
    if missing:
        raise RuntimeError(f"no gradient reached {sorted(missing)[0]} and {len(missing) - 1} more layers")


@contextmanager
def _watched(
    model: Any, of: Wanted, shape: Sequence[int], given: "Callable[[str, torch.Tensor, torch.Tensor], None]"
) -> Iterator[None]:
    """Inside the block `given(name, inputs, gradients of outputs)` is called for each wanted layer on a pass backward.

    Where activations are recomputed, the layers run twice forward and the later inputs take the place of the earlier.
    """
    import torch

    kept: dict[str, torch.Tensor] = {}

    def meet(name: str, gradient: torch.Tensor) -> None:
        if name not in kept:
            raise RuntimeError(f"{name} is applied more than once, so that its gradients do not come in one piece")
        given(name, kept.pop(name), gradient)

    def keep(name: str, layer: Any, args: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        if args[0].shape[:-1] != shape:
            raise UserError(f"model: {name} does not see every token of a row by itself: take a model without experts")
        kept[name] = args[0].detach()
        output.register_hook(partial(meet, name))  # type: ignore[no-untyped-call]

    def start(layer: Any, args: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return args[0].detach().requires_grad_(True), *args[1:]

    handles = [layer.register_forward_hook(partial(keep, name)) for name, layer in of.layers.items()]
    handles.append(model.get_decoder().layers[of.first].register_forward_pre_hook(start))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
