"""k-center: each row as far as can be from those chosen before."""

from typing import ClassVar

import numpy as np

from dwbench.component import component
from dwbench.rules.k_center import k_center, nearest_other_distances
from dwbench.rules.ranking import Scores
from dwbench.selectors.context import Context
from dwbench.selectors.material import Need
from dwbench.selectors.picks import picked, pool_vectors
from dwbench.selectors.texts import Text


@component
class KCenter:
    """k-center greedy, farthest-first (Gonzalez 1985; for choosing training data Sener & Savarese, ICLR 2018).

    The first row is drawn, each other one is the row whose nearest chosen one is farthest away: Euclidean distance of
    unit vectors, so by their cosine. Value: that distance, none for the first. It leaves no row far from all chosen
    ones, and so takes outliers: the chosen rows' mean distance to the nearest row of the pool is in the notes
    (`nearest_distance_mean`), beside the largest distance that is left (`radius`).

    There is no one reference. DiverseEvol's code for the same rule takes near-copies first (`dwbench.rules.k_center`).

    Charged are the embeddings and k N d.

    Attributes:
        text: what of a row is embedded: `instruction`, or `full`, with its response.
    """

    text: Text = "instruction"

    version: ClassVar[int] = 1
    paper: ClassVar[str] = "Gonzalez 1985; Sener & Savarese, ICLR 2018, arXiv 1708.00489"
    cost_class: ClassVar[str] = "1 pass of the text encoder a row; k x N distances"
    fixed_share: ClassVar[float | None] = None

    @property
    def needs(self) -> frozenset[Need]:
        return frozenset({"responses", "embedder", "seed"})

    def choose(self, context: Context, k: int, allowed: np.ndarray) -> Scores:
        vectors = pool_vectors(context, self.text)
        drawn = context.draw("k_center", "first")
        may = np.flatnonzero(allowed)
        if not may.size:
            return picked(allowed, may, np.empty(0), {})
        points, first = vectors[may], int(np.argmin(drawn[may]))
        found = k_center(points, np.array([first]), min(k, len(may)) - 1)
        rows = np.concatenate([[first], found.picks])
        notes: dict[str, float | int | str] = {"radius": found.radius}
        if len(may) > 1:
            notes["nearest_distance_mean"] = float(nearest_other_distances(points, rows).mean())
        return picked(allowed, may[rows], np.concatenate([[np.nan], found.radii]), notes)
