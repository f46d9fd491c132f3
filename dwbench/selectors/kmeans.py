"""k-means: rows spread evenly over the clusters of the pool."""

from typing import ClassVar, Literal

import numpy as np

from dwbench.component import component
from dwbench.rules.clusters import kmeans_labels, lowest_of_each, nearest_to_centres
from dwbench.rules.ranking import Scores, scores
from dwbench.rules.strata import water_fill
from dwbench.selectors.context import Context
from dwbench.selectors.material import Need
from dwbench.selectors.picks import BARRED, CHOSEN, LEFT, pool_vectors
from dwbench.selectors.texts import Text

CLUSTERS = 1000
"""Of NovelSum's comparison."""


@component
class KMeans:
    """k-means of the embeddings, a baseline of NovelSum (Yang et al., ACL 2025) and many others.

    `uniform`: min(`clusters`, k) clusters, each of which gives equally many rows, drawn; a cluster that has fewer gives
    all, and the others the rest ("water-filling"). `centre`: k clusters, each of which gives the row nearest to its
    mean; where there are fewer different rows than k, the rest is drawn. Value: a number drawn, lower first; of
    `centre` it orders the rows alone. Unlike `random_stratified`, where clusters give what their size asks for, it
    thins out the dense parts of a pool.

    Lloyd's algorithm on unit vectors from one k-means++ start; an empty cluster gets the row that is farthest from its
    centre. Charged are the embeddings and the clustering, about 20 to 100 x clusters N d.

    Attributes:
        text: what of a row is embedded: `instruction`, or `full`, with its response.
        take: `uniform` or `centre`.
        clusters: of `uniform`, at most k; refused with `centre`, which has k.
    """

    text: Text = "instruction"
    take: Literal["uniform", "centre"] = "uniform"
    clusters: int = CLUSTERS

    version: ClassVar[int] = 1
    paper: ClassVar[str] = "baseline of Yang et al., ACL 2025, arXiv 2502.17184"
    cost_class: ClassVar[str] = "1 pass of the text encoder a row; k-means"
    fixed_share: ClassVar[float | None] = None

    def __post_init__(self) -> None:
        if self.clusters < 1:
            raise ValueError("clusters: must be at least 1")
        if self.take == "centre" and self.clusters != CLUSTERS:
            raise ValueError(f"clusters: take=centre has as many clusters as rows to choose; leave it at {CLUSTERS}")

    @property
    def needs(self) -> frozenset[Need]:
        return frozenset({"responses", "embedder", "seed"})

    def choose(self, context: Context, k: int, allowed: np.ndarray) -> Scores:
        vectors = pool_vectors(context, self.text)
        drawn = context.draw("kmeans")
        may = np.flatnonzero(allowed)
        chosen, clusters = may, 0
        if k < len(may):
            with context.importing():
                import sklearn.cluster  # noqa: F401
            clusters = k if self.take == "centre" else min(self.clusters, k)
            labels = kmeans_labels(vectors[may], clusters, context.derive("kmeans", "clusters"))
            chosen = may[self._taken(vectors[may], labels, k, drawn[may])]
        tier = np.where(allowed, LEFT, BARRED)
        tier[chosen] = CHOSEN
        return scores(drawn, -drawn, ("",) * context.n_rows, tier, {"clusters": clusters})

    def _taken(self, vectors: np.ndarray, labels: np.ndarray, k: int, drawn: np.ndarray) -> np.ndarray:
        """Positions of k of the rows."""
        if self.take == "uniform":
            counts = water_fill(np.bincount(labels), k)
            return np.flatnonzero(lowest_of_each(drawn, labels, counts, drawn))
        centres = nearest_to_centres(vectors, labels)
        rest = np.setdiff1d(np.arange(len(vectors)), centres)
        return np.concatenate([centres, rest[np.argsort(drawn[rest])][: k - len(centres)]])
