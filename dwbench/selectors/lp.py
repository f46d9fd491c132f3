"""Learning percentage: how early in a tuning a row is learnt."""

from typing import ClassVar, Literal

import numpy as np

from dwbench.component import component
from dwbench.rules.clusters import lowest_of_each
from dwbench.rules.ranking import Scores, scores
from dwbench.selectors.base import Context, Need
from dwbench.selectors.clusters import cluster_quotas, pool_clusters
from dwbench.selectors.losses import Losses, response_losses

Variant = Literal["paper", "reference"]

NOT_LEARNT = "its perplexity did not fall in all epochs together, so LP(1) is undefined"


def perplexity(losses: Losses) -> np.ndarray:
    """P of every row, [N]: exp of the mean loss of the response and its end of turn; NaN where there is none."""
    return np.asarray(np.exp(losses.mean(score_eos=True)))


def lp1(before: np.ndarray, first: np.ndarray, last: np.ndarray, variant: Variant = "paper") -> np.ndarray:
    """LP(1) = (P_0 - P_1) / (P_0 - P_n), perplexities [N]: the share of all learning that the first epoch did.

    NaN where P_0 <= P_n: nothing was learnt, and a denominator around 0 would put the row at one of the two ends.
    `reference`: 0 where the denominator is 0, else whatever comes out.
    """
    fall = before - last
    if variant == "reference":
        return np.asarray(np.divide(before - first, fall, out=np.zeros_like(fall), where=fall != 0))
    return np.asarray(np.divide(before - first, fall, out=np.full_like(fall, np.nan), where=fall > 0))


def lp_app(before: np.ndarray, first: np.ndarray) -> np.ndarray:
    """LP_app(1) = (P_0 - P_1) / P_0, [N]: needs one epoch only."""
    return np.asarray(1 - first / before)


def ceil_counts(sizes: np.ndarray, parts: int) -> np.ndarray:
    """The published code's share of every cluster: the first of `parts` nearly equal parts, rounded up; [clusters]."""
    return np.asarray(-(-np.asarray(sizes, dtype=np.int64) // parts))


@component
class LP:
    """Learning percentage (Mekala et al., Findings of ACL 2024, "Smaller Language Models are capable of selecting
    Instruction-Tuning Training Data for Larger Language Models").

    The scorer is tuned on the whole pool; P_e is a row's exp(mean NLL of the response, end of turn included) after
    epoch e. Score: LP(1) or LP_app(1). Lower is harder and chosen first, inside clusters of the rows' embeddings
    (text "Instruction: ... Response: ..."), each of which gives in proportion to its size.

    A row that does not fit is invalid; the published code gives it a perplexity of 1, so an LP of 0, and in one of its
    released sets most of the hardest rows are such. With LP(1) a row whose perplexity did not fall has no score and
    comes behind all that have one.

    The reference's code differs: every cluster gives a share of 1 / round(N / k), rounded up, which is more than k
    rows in all (2 % for 1 %). `variant: reference` puts these first, the hardest first, so that the cut at k falls
    among them; and takes LP(1) as it comes. Its full tuning is LoRA with the run's settings here, so perplexities
    fall less. It also drops token losses that are exactly 0 from the mean; that is not kept.

    Attributes:
        estimate: `lp1` (tunes for all epochs) or `lp_app` (stops after the first).
        epochs: n, and the length of the learning rate's schedule, whichever the estimate.
        clusters: how many by k-means, at most a tenth of the rows; None: no clusters, the hardest rows of the pool.
    """

    estimate: Literal["lp1", "lp_app"] = "lp1"
    epochs: int = 3
    clusters: int | None = 1000
    variant: Variant = "paper"

    version: ClassVar[int] = 1
    paper: ClassVar[str] = "Mekala et al., Findings of ACL 2024, arXiv 2402.10430"
    cost_class: ClassVar[str] = "tuning the scorer on the row, 3 epochs (lp_app: 1), and 3 (2) forward passes"
    fixed_share: ClassVar[float | None] = None

    def __post_init__(self) -> None:
        least = 2 if self.estimate == "lp1" else 1
        if self.epochs < least:
            raise ValueError(f"epochs: must be at least {least} for estimate={self.estimate}, not {self.epochs}")
        if self.clusters is not None and self.clusters < 1:
            raise ValueError("clusters: must be at least 1, or null for none")

    @property
    def needs(self) -> frozenset[Need]:
        needs: set[Need] = {"responses", "task", "scorer", "training", "seed"}
        if self.clusters is not None:
            needs.add("embedder")
        return frozenset(needs)

    def choose(self, context: Context, k: int, allowed: np.ndarray) -> Scores:
        losses = response_losses(context, "prompt")
        before = perplexity(losses)
        values = self._values(context, before, np.flatnonzero(allowed & ~np.isnan(before)))
        candidates = allowed & ~np.isnan(values)
        one = np.zeros(context.n_rows, dtype=np.int64)
        labels = one if self.clusters is None else pool_clusters(context, self.clusters)
        if self.variant == "reference":
            sizes = np.bincount(labels[candidates], minlength=int(labels.max()) + 1)
            counts = ceil_counts(sizes, round(context.n_rows / k))
        else:
            counts = cluster_quotas(context, labels, candidates, k)
        ties = context.draw("lp", "ties")
        first = lowest_of_each(np.where(candidates, values, np.nan), labels, counts, ties)
        undefined = ~np.isnan(before) & np.isnan(values)
        reasons = tuple(
            NOT_LEARNT if nothing_learnt else reason
            for nothing_learnt, reason in zip(undefined, losses.reasons(), strict=True)
        )
        return scores(
            values,
            np.where(undefined, 0.0, -values),
            reasons,
            np.select([first, ~allowed, undefined], [0, 3, 2], 1),
            {"clusters": len(np.unique(labels)), "rows_not_learnt": int(undefined.sum())},
        )

    def _values(self, context: Context, before: np.ndarray, trainable: np.ndarray) -> np.ndarray:
        stop_after = 1 if self.estimate == "lp_app" else None
        checkpoints = context.tune(trainable.tolist(), self.epochs, stop_after)
        first = perplexity(response_losses(context, "prompt", checkpoints[0]))
        if self.estimate == "lp_app":
            return lp_app(before, first)
        last = perplexity(response_losses(context, "prompt", checkpoints[-1]))
        return lp1(before, first, last, self.variant)
