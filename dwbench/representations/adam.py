"""The step that Adam would take for one sample's gradient, from moments that a tuning left."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from dwbench.errors import UserError

if TYPE_CHECKING:
    import torch

AdamForm = Literal["textbook", "published"]

BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8


@dataclass(frozen=True)
class Adam:
    """Which moments, and which form of Adam's direction (LESS, Xia et al. 2024, section 3.1).

    Attributes:
        moments: safetensors with `PARAMETER.exp_avg` and `PARAMETER.exp_avg_sq` for every parameter.
        step: optimizer steps that the moments were made by; the sample's own is the next one.
        form: `textbook`: both moments corrected for their bias, epsilon outside the root. `published`: as LESS's code
            has it, no correction and epsilon inside the root. With LoRA's second moments of 1e-12 and less that floor
            of 1e-4 outweighs them, and the direction is all but the first moment.
    """

    moments: Path
    step: int
    form: AdamForm

    def __post_init__(self) -> None:
        if self.step < 0:
            raise ValueError(f"step: must not be negative, as {self.step} is")


def adam_direction(
    gradients: "torch.Tensor", first: "torch.Tensor", second: "torch.Tensor", step: int, form: AdamForm
) -> "torch.Tensor":
    """Adam's direction for each gradient by itself, float32 [samples, size].

    Args:
        gradients: [samples, size], float32.
        first, second: moments behind `step` steps, [size], float32.
    """
    first = BETA_1 * first + (1 - BETA_1) * gradients
    second = BETA_2 * second + (1 - BETA_2) * gradients.square()
    if form == "published":
        return first / (second + EPSILON).sqrt()
    unbiased = second / (1 - BETA_2 ** (step + 1))
    return first / (1 - BETA_1 ** (step + 1)) / (unbiased.sqrt() + EPSILON)


class Directions:
    """`adam_direction` by parameter, on the device of the gradients; moments are read when they are first asked for,
    and kept."""

    def __init__(self, adam: Adam) -> None:
        self._adam = adam
        self._moments: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}

    def of(self, parameter: str, gradients: "torch.Tensor") -> "torch.Tensor":
        """Directions for gradients [samples, size] of the named parameter. Raises UserError where it has no moments."""
        if parameter not in self._moments:
            self._moments[parameter] = self._read(parameter, gradients.device)
        return adam_direction(gradients, *self._moments[parameter], self._adam.step, self._adam.form)

    def _read(self, parameter: str, device: "torch.device") -> "tuple[torch.Tensor, torch.Tensor]":
        from safetensors import SafetensorError, safe_open

        path = self._adam.moments
        try:
            with safe_open(path, framework="pt") as file:
                first, second = (
                    file.get_tensor(f"{parameter}.{moment}").float().flatten().to(device)
                    for moment in ("exp_avg", "exp_avg_sq")
                )
        except (SafetensorError, OSError) as error:
            raise UserError(f"{path}: Adam's moments of {parameter} can't be read ({error})") from error
        return first, second
