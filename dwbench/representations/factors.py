"""Per-sample gradients of a linear layer as they come out of one pass backward: inputs times gradients of outputs."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Factors:
    """What the gradients of one linear layer's weight are made of, sample by sample.

    Attributes:
        inputs: what went into the layer, [samples, tokens, in].
        outputs: gradients of a loss, summed over samples, with respect to what came out, [samples, tokens, out].
        scale: by what each sample's gradient is multiplied, [samples] float32.
    """

    inputs: "torch.Tensor"
    outputs: "torch.Tensor"
    scale: "torch.Tensor"

    def gradients(self) -> "torch.Tensor":
        """Gradients of the weight, flattened as it is, float32 [samples, out x in]."""
        scaled = self.outputs.float() * self.scale[:, None, None]
        return (scaled.mT @ self.inputs.float()).flatten(1)

    def square_norms(self) -> "torch.Tensor":
        """Squared norms of `gradients()`, float32 [samples].

        Where it takes less work they come from inner products between tokens, without any gradient (ghost norms,
        Goodfellow 2015, Li et al. 2022): the sum over t and s of (a_t . a_s)(b_t . b_s).
        """
        tokens, fan_in, fan_out = self.inputs.shape[1], self.inputs.shape[2], self.outputs.shape[2]
        if tokens * (fan_in + fan_out) >= fan_in * fan_out:
            return self.gradients().square().sum(1)
        a, b = self.inputs.float(), self.outputs.float()
        squares = ((a @ a.mT) * (b @ b.mT)).sum((1, 2))
        return squares.clamp(min=0) * self.scale.square()  # rounding can take it below 0
