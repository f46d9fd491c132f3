"""NovelSelect: rows that are far from those chosen before, where the pool is dense."""

from typing import ClassVar

import numpy as np

from dwbench.component import component
from dwbench.rules.novelselect import novelselect
from dwbench.rules.novelty import Form, copies, cosine_distances, densities
from dwbench.rules.ranking import Scores, scores
from dwbench.selectors.context import Context
from dwbench.selectors.material import Need
from dwbench.selectors.picks import BARRED, CHOSEN, LEFT, pool_vectors

DENSITY_VERSION = 1

NEIGHBOURS = 10
"""Of the published code."""


@component
class NovelSelect:
    """NovelSelect (Yang et al., ACL 2025, "Measuring Data Diversity for Instruction Tuning: A Systematic Analysis and A
    Reliable Metric"): the greedy maximiser of NovelSum.

    The first row is drawn. Each other one is the row with the largest novelty in view of the rows x_j chosen before:
    the sum of density(x_j)^b d(x, x_j) / r(j)^a over their number, r(j) being the rank of the cosine distance
    d(x, x_j), nearest first. Higher is chosen first. A density is 1 / the mean distance to the nearest rows of the
    whole pool. A copy of a chosen row waits until no other row is left. Text: the row's input and response.

    The reference's code differs, and `variant: reference` does as it: its weight is density(x)^b + density(x_j)^b; its
    ranks are those of the products with that, not of the distances; copies are not held back. Its density takes
    squared Euclidean distances of raw vectors; those of unit vectors, as here, are twice the cosine distances, so that
    choices are the same. It computes in half precision, which is not kept. Its embedding is the last token of a 7B or
    8B base model, of 256 tokens of text at most; here it is the run's `embedder`.

    Exact, by upper bounds: N k d for distances to picks, N k log k for the bounds, some 2 % of N k^2 / 2 for rows
    worked out anew; memory 32 N log2 k bytes. Charged are the embeddings, the densities (N^2 d, in blocks of 256 x N)
    and this.

    Attributes:
        neighbours: nearest rows that make a density; refused where `density_power` is 0.
        density_power: b; 0: density has no part in it.
        distance_power: a; 0: all chosen rows weigh the same.
    """

    neighbours: int = NEIGHBOURS
    density_power: float = 0.5
    distance_power: float = 1.0
    variant: Form = "paper"

    version: ClassVar[int] = 2
    paper: ClassVar[str] = "Yang et al., ACL 2025, arXiv 2502.17184"
    cost_class: ClassVar[str] = "1 pass of the text encoder a row; N x N and N x k cosines, N k log k"
    fixed_share: ClassVar[float | None] = None

    def __post_init__(self) -> None:
        if self.neighbours < 1:
            raise ValueError("neighbours: must be at least 1")
        for name, power in (("density_power", self.density_power), ("distance_power", self.distance_power)):
            if power < 0:
                raise ValueError(f"{name}: must be at least 0")
        if self.density_power == 0 and self.neighbours != NEIGHBOURS:
            raise ValueError(f"neighbours: density has no part with density_power=0; leave it at {NEIGHBOURS}")

    @property
    def needs(self) -> frozenset[Need]:
        return frozenset({"responses", "embedder", "seed"})

    def choose(self, context: Context, k: int, allowed: np.ndarray) -> Scores:
        vectors = pool_vectors(context, "full")
        groups = copies(vectors)
        density = self._density(context, vectors)
        drawn = context.draw("novelselect", "first")
        may = np.flatnonzero(allowed)
        tier = np.where(allowed, LEFT, BARRED)
        values, preference = np.full(context.n_rows, np.nan), np.zeros(context.n_rows)
        if may.size:
            found = novelselect(
                cosine_distances(vectors[may]),
                density[may],
                min(k, may.size),
                int(np.argmin(drawn[may])),
                self.distance_power,
                self.variant,
                groups[may] if self.variant == "paper" else None,
            )
            chosen = may[found.picks]
            values[may] = preference[may] = found.left
            values[chosen], preference[chosen] = found.values, np.arange(len(chosen), 0, -1)
            tier[chosen] = CHOSEN
        notes: dict[str, float | int | str] = {"copies": context.n_rows - len(np.unique(groups))}
        return scores(values, preference, ("",) * context.n_rows, tier, notes)

    def _density(self, context: Context, vectors: np.ndarray) -> np.ndarray:
        """A stored stage, which all budgets share."""
        settings = {"neighbours": self.neighbours, "power": self.density_power}
        return context.represent(
            "density",
            DENSITY_VERSION,
            settings,
            ("pool", "responses", "embedder"),
            lambda: {"density": densities(vectors, self.neighbours, self.density_power)},
        )["density"]
