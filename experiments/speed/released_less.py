"""LESS's gradient features as released (princeton-nlp/LESS with TRAK's `BasicProjector`, its fall-back where the CUDA
kernel is not to be had), in float32: the baseline of less_gradients.py."""

import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

from dwbench.models.chat import Pair
from dwbench.models.loading import load_model
from dwbench.models.spec import LM
from dwbench.representations.adam import Adam, adam_direction

DIM = 8192


def synchronised() -> float:
    """The time when all that was asked of the GPU is done."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.perf_counter()


class Released:
    """Autograd for each row, Adam's step, and for each `lot` of rows a projection to `DIM` dimensions by dense signs
    that are drawn anew, `block` columns at a time. `seconds` adds up what each part takes."""

    def __init__(self, lm: LM, adapter: Path, adam: Adam, lot: int, block: int) -> None:
        self.model = load_model(lm, adapter, merge=False).requires_grad_(False)
        self.weights = {name: weight for name, weight in self.model.named_parameters() if ".lora_" in name}
        for weight in self.weights.values():
            weight.requires_grad_(True)
        moments = load_file(str(adam.moments), device=str(self.model.device))
        self.first, self.second = (
            torch.cat([moments[f"{name}.{moment}"].flatten() for name in self.weights])
            for moment in ("exp_avg", "exp_avg_sq")
        )
        self.adam, self.lot, self.block = adam, lot, block
        self.seconds = dict.fromkeys(("gradient", "Adam", "projection"), 0.0)

    def gradient(self, pair: Pair) -> torch.Tensor:
        """Of the row's mean response NLL, all adapters as one vector, float32."""
        self.model.zero_grad(set_to_none=True)
        ids = torch.tensor([[*pair.context, *pair.response]], device=self.model.device)
        labels = ids.clone()
        labels[0, : len(pair.context)] = -100
        self.model(input_ids=ids, labels=labels).loss.backward()
        return torch.cat([weight.grad.flatten().float() for weight in self.weights.values()])

    def step(self, gradients: torch.Tensor) -> torch.Tensor:
        return adam_direction(gradients, self.first, self.second, self.adam.step, self.adam.form)

    def projected(self, lot: torch.Tensor) -> torch.Tensor:
        """[rows, DIM] of [rows, size]. The signs of a block take the place of those before."""
        signs = torch.empty((lot.shape[1], self.block), device=lot.device)
        found = []
        for start in range(0, DIM, self.block):
            generator = torch.Generator(lot.device).manual_seed(start)
            signs.bernoulli_(0.5, generator=generator).mul_(2).sub_(1)
            found.append(lot @ signs)
        return torch.cat(found, dim=1)[:, :DIM] / DIM**0.5

    def features(self, pairs: list[Pair]) -> np.ndarray:
        """Float32 [rows, DIM], not normalised; adds to `seconds`."""
        found = []
        for start in range(0, len(pairs), self.lot):
            times, lot = [synchronised()], []
            for pair in pairs[start : start + self.lot]:
                lot.append(self.gradient(pair))
            times.append(synchronised())
            steps = torch.stack([self.step(gradient) for gradient in lot])
            times.append(synchronised())
            found.append(self.projected(steps).cpu().numpy())
            times.append(synchronised())
            for part, spent in zip(self.seconds, np.diff(times), strict=True):
                self.seconds[part] += float(spent)
        return np.concatenate(found)
