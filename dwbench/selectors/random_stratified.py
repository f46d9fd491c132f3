"""Random choice with a share for every cluster of the pool: the control of methods that choose inside clusters."""

from typing import ClassVar

import numpy as np

from dwbench.component import component
from dwbench.rules.clusters import lowest_of_each
from dwbench.rules.ranking import Scores, scores
from dwbench.selectors.clusters import cluster_quotas, pool_clusters
from dwbench.selectors.context import Context
from dwbench.selectors.material import Need


@component
class RandomStratified:
    """A random choice inside of clusters, each of which gives in proportion to its size: "clust_rand", the baseline of
    LP (Mekala et al., Findings of ACL 2024), with LP's clusters and shares.

    Shares are exact, by largest remainders; the reference rounds every one up and so takes more than k rows. Score: a
    number drawn in [0, 1); the highest of every cluster are chosen. Unlike those of `random`, choices of different
    size need not be nested: a cluster's share may lose a row to others when the budget grows.

    Attributes:
        clusters: how many by k-means of the rows' embeddings, at most a tenth of the rows.
    """

    clusters: int = 1000

    version: ClassVar[int] = 1
    paper: ClassVar[str] = "Mekala et al., Findings of ACL 2024, arXiv 2402.10430"
    cost_class: ClassVar[str] = "1 pass of the text encoder a row"
    fixed_share: ClassVar[float | None] = None

    def __post_init__(self) -> None:
        if self.clusters < 1:
            raise ValueError("clusters: must be at least 1")

    @property
    def needs(self) -> frozenset[Need]:
        return frozenset({"responses", "embedder", "seed"})

    def choose(self, context: Context, k: int, allowed: np.ndarray) -> Scores:
        labels = pool_clusters(context, self.clusters)
        counts = cluster_quotas(context, labels, allowed, k)
        drawn = context.draw("random_stratified")
        chosen = lowest_of_each(np.where(allowed, -drawn, np.nan), labels, counts, drawn)
        return scores(
            drawn,
            drawn,
            ("",) * context.n_rows,
            np.select([chosen, allowed], [0, 1], 2),
            {"clusters": len(np.unique(labels))},
        )
