"""Random projections of gradients that keep inner products: seeded by parameter, never held as a matrix.

All bits come from NumPy's generators on the CPU, so that a projection is the same on any device. Every parameter has
its own part, drawn by the seed and its name; the feature of a sample is the sum over parameters. So no vector of the
size of all parameters is ever made.
"""

from typing import TYPE_CHECKING, Literal

import numpy as np

from dwbench import seeds
from dwbench.component import canonical_json, component, identity

if TYPE_CHECKING:
    import torch

SIGNS_AT_ONCE = 2**24
"""Entries of a dense projection that there are at any time. With another number they are drawn in another order."""


@component
class Projection:
    """Which projection to `dim` dimensions. Inner products of features are unbiased estimates of those of gradients.

    Features can be compared only where their projections are the same one (`Projector.name`).

    Attributes:
        dim: dimensions of a feature; 8192 is LESS's. A cosine errs by about 1/sqrt(dim).
        kind: `sketch` sends each block of `dim` coordinates of a parameter through a random signed permutation of its
            own and adds up the blocks: inner products vary no more than with a dense projection, at 1/dim of its work.
            `rademacher` is the dense one of LESS and TRAK, signs over sqrt(dim), made anew for every few gradients.
        seed: other seeds give independent projections.
    """

    dim: int = 8192
    kind: Literal["sketch", "rademacher"] = "sketch"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.dim < 1:
            raise ValueError(f"dim: must be at least 1, not {self.dim}")


class Projector:
    """A projection at work, on the device of the gradients that it is given. Of a sketch the maps are drawn once and
    kept: 5 bytes for each coordinate."""

    def __init__(self, projection: Projection) -> None:
        self.projection = projection
        self._maps: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}

    @property
    def name(self) -> str:
        """Which projection it is, to be kept beside features."""
        return canonical_json(identity(self.projection))

    def project(self, parameter: str, gradients: "torch.Tensor") -> "torch.Tensor":
        """The named parameter's share of the features, float32 [samples, dim], of its gradients [samples, size]."""
        if self.projection.kind == "sketch":
            return self._sketched(parameter, gradients)
        return self._dense(parameter, gradients)

    def _generator(self, *axes: str | int) -> np.random.Generator:
        projection = self.projection
        return np.random.default_rng(seeds.derive(projection.seed, "projection", projection.kind, *axes))

    def _sketched(self, parameter: str, gradients: "torch.Tensor") -> "torch.Tensor":
        """Signed coordinates gathered in the order of their places: added up by place they would come in an order of
        chance on a GPU."""
        import torch

        samples, size = gradients.shape
        if parameter not in self._maps:
            self._maps[parameter] = self._drawn(parameter, size, gradients.device)
        places, signs = self._maps[parameter]
        padded = torch.nn.functional.pad(gradients, (0, len(places) - size))
        return (padded.index_select(1, places) * signs).view(samples, -1, self.projection.dim).sum(1)

    def _drawn(self, parameter: str, size: int, device: "torch.device") -> "tuple[torch.Tensor, torch.Tensor]":
        """For each block and place the coordinate that goes there, int32, and its sign, int8, [blocks x dim]."""
        import torch

        dim = self.projection.dim
        blocks = -(-size // dim)
        generator = self._generator(parameter)
        places = np.arange(blocks * dim, dtype=np.int32).reshape(blocks, dim)
        generator.permuted(places, axis=1, out=places)
        signs = generator.integers(0, 2, blocks * dim, dtype=np.int8) * np.int8(2) - np.int8(1)
        return torch.from_numpy(places.ravel()).to(device), torch.from_numpy(signs).to(device)

    def _dense(self, parameter: str, gradients: "torch.Tensor") -> "torch.Tensor":
        import torch

        dim = self.projection.dim
        found = torch.zeros((len(gradients), dim), dtype=torch.float32, device=gradients.device)
        for number, part in enumerate(torch.split(gradients, max(1, SIGNS_AT_ONCE // dim), dim=1)):
            count = part.shape[1] * dim
            drawn = self._generator(parameter, number).bytes(-(-count // 8))
            bits = np.unpackbits(np.frombuffer(drawn, dtype=np.uint8), count=count).reshape(-1, dim)
            found += part @ (torch.from_numpy(bits).to(gradients.device).float() * 2 - 1)
        return found.div(dim**0.5)
