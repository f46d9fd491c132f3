"""S2L: clusters of loss trajectories, each of which gives as much."""

from typing import ClassVar

import numpy as np

from dwbench.component import component
from dwbench.rules.clusters import kmeans_labels, lowest_of_each
from dwbench.rules.ranking import Scores
from dwbench.rules.strata import cluster_counts
from dwbench.selectors.context import Context
from dwbench.selectors.dynamics import check_epochs, check_tuned_on_pool, drawn, needs_for, tuned_on_pool
from dwbench.selectors.losses import response_losses
from dwbench.selectors.material import Need

VERSION = 1


@component
class S2L:
    """SmallToLarge (Yang et al., NeurIPS 2024, "SmallToLarge (S2L): Scalable Data Selection for Fine-tuning Large
    Language Models by Summarizing Training Trajectories of Small Models").

    The scorer, meant to be a small model, is tuned on the whole pool, which is charged. A row's trajectory is its mean
    response loss, end of turn included, at every checkpoint. Clusters of trajectories by k-means (plain Euclidean)
    share the budget evenly from the smallest to the largest (`water_fill`), and inside a cluster rows are drawn.
    Clusters of 1 or 2 rows give only what the others can't; how many rows that is stands in the notes. The method has
    no score: the values are the losses at the last checkpoint.

    The published code takes a checkpoint every 500 steps of 3 epochs of Pythia-70M on a quarter of a million rows, 100
    clusters inside each data source, the sources sharing the budget in the same way. A pool is one source here, and
    checkpoints are evenly in the epochs. A row without a loss has a 0 there; here it is invalid.

    Attributes:
        epochs: of the tuning.
        checkpoints_per_epoch: at even distances; fewer where an epoch has fewer steps.
        clusters: how many, at most a tenth of the rows.
    """

    epochs: int = 3
    checkpoints_per_epoch: int = 2
    clusters: int = 100

    version: ClassVar[int] = 1
    paper: ClassVar[str] = "Yang et al., NeurIPS 2024, arXiv 2403.07384"
    cost_class: ClassVar[str] = "tuning the scorer on the row, 3 epochs, and 6 forward passes"
    fixed_share: ClassVar[float | None] = None

    def __post_init__(self) -> None:
        check_epochs(self.epochs)
        for name in ("checkpoints_per_epoch", "clusters"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: must be at least 1, not {getattr(self, name)}")

    @property
    def needs(self) -> frozenset[Need]:
        return needs_for(training=True)

    def check(self, context: Context) -> None:
        """Raises UserError where tuning on the pool would do nothing."""
        check_tuned_on_pool(context, self.epochs)

    def choose(self, context: Context, k: int, allowed: np.ndarray) -> Scores:
        found = self._clustered(context)
        labels, last = found["labels"], found["trajectories"][:, -1]
        draw = context.draw("s2l")
        candidates = allowed & (labels >= 0)
        sizes = np.bincount(labels[candidates], minlength=int(labels.max()) + 1)
        chosen = lowest_of_each(np.where(candidates, -draw, np.nan), labels, cluster_counts(sizes, k), draw)
        notes: dict[str, float | int | str] = {
            "clusters": int(np.count_nonzero(sizes)),
            "checkpoints": found["trajectories"].shape[1],
            "rows_filled": k - int(chosen.sum()),
        }
        none = np.zeros(context.n_rows, dtype=np.bool_)
        return drawn(last, chosen, last, none, allowed, draw, found["tokens"], notes)

    def _clustered(self, context: Context) -> dict[str, np.ndarray]:
        """`trajectories` [N, checkpoints], NaN for a row without response; `tokens` [N] of the responses; `labels` [N]:
        cluster, -1 for such a row. A stored stage that all budgets share."""
        with context.importing():
            import sklearn.cluster  # noqa: F401

        def build() -> dict[str, np.ndarray]:
            checkpoints = tuned_on_pool(context, self.epochs, self.checkpoints_per_epoch)
            losses = [response_losses(context, "prompt", checkpoint) for checkpoint in checkpoints]
            trajectories = np.stack([one.mean(score_eos=True) for one in losses], axis=1)
            valid = ~np.isnan(trajectories).any(axis=1)
            labels = np.full(context.n_rows, -1)
            clusters = max(1, min(self.clusters, int(valid.sum()) // 10))
            labels[valid] = kmeans_labels(trajectories[valid], clusters, context.derive("s2l", "clusters"))
            return {"trajectories": trajectories, "tokens": losses[0].tokens, "labels": labels}

        settings = {"epochs": self.epochs, "per_epoch": self.checkpoints_per_epoch, "clusters": self.clusters}
        return context.represent(
            "s2l_clusters", VERSION, settings, ("pool", "responses", "prompt", "scorer", "training", "seed"), build
        )
