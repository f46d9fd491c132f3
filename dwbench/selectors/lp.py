"""Learning percentage: how early in a tuning a row is learnt."""

from typing import ClassVar, Literal

import numpy as np

from dwbench.component import component, key_of
from dwbench.rules.clusters import lowest_of_each
from dwbench.rules.ranking import Scores, scores
from dwbench.selectors.clusters import cluster_quotas, pool_clusters
from dwbench.selectors.context import Context
from dwbench.selectors.losses import NO_RESPONSE, Losses, response_losses
from dwbench.selectors.material import Need

VERSION = 1

MIN_FALL = 0.01
"""Default of the least share of its perplexity that a row must lose for LP(1) to be defined."""

Variant = Literal["paper", "reference"]

NOT_LEARNT = "its perplexity hardly fell in all epochs together (less than min_fall), so LP(1) is undefined"


def perplexity(losses: Losses) -> np.ndarray:
    """P of every row, [N]: exp of the mean loss of the response and its end of turn; NaN where there is none."""
    return np.asarray(np.exp(losses.mean(score_eos=True)))


def lp1(before: np.ndarray, first: np.ndarray, last: np.ndarray, min_fall: float = MIN_FALL) -> np.ndarray:
    """LP(1) = (P_0 - P_1) / (P_0 - P_n), perplexities [N]: the share of all learning that the first epoch did.

    NaN where the fall (P_0 - P_n) / P_0 is below `min_fall` or not above 0: next to nothing was learnt, and a
    denominator around 0 would put the row at one of the two ends.
    """
    fall = before - last
    learnt = (fall > 0) & (fall >= min_fall * before)
    return np.asarray(np.divide(before - first, fall, out=np.full_like(fall, np.nan), where=learnt))


def published_lp1(before: np.ndarray, first: np.ndarray, last: np.ndarray) -> np.ndarray:
    """LP(1) as the published code has it, [N]: 0 where the denominator is 0, else whatever comes out."""
    fall = before - last
    return np.asarray(np.divide(before - first, fall, out=np.zeros_like(fall), where=fall != 0))


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
    released sets most of the hardest rows are such. With LP(1) a row whose perplexity fell by less than `min_fall` has
    no score and comes behind all that have one, and the number of such rows is in the notes. The paper has no such
    limit: in its released perplexities LP(1) reaches from -12 to 80, and the low end counts as the hardest.

    The reference's code differs: every cluster gives a share of 1 / round(100 / percentage), rounded up, which is more
    than k rows in all (2 % for 1 %). `variant: reference` puts these first, the hardest first, so that the cut at k
    falls among them; and takes LP(1) as it comes. A budget is a number of rows here, so it divides by round(N / k),
    which can differ: for 10 % of 95 rows k is 9 and each cluster gives an 11th, as published a 10th. Its full tuning is
    LoRA with the run's settings here, so perplexities fall less. It also drops token losses that are exactly 0 from the
    mean; that is not kept.

    Attributes:
        estimate: `lp1` (tunes for all epochs) or `lp_app` (stops after the first).
        epochs: n, and the length of the learning rate's schedule, whichever the estimate.
        min_fall: the least (P_0 - P_n) / P_0 with which LP(1) is defined; nothing else uses it.
        clusters: how many by k-means, at most a tenth of the rows; None: no clusters, the hardest rows of the pool.
    """

    estimate: Literal["lp1", "lp_app"] = "lp1"
    epochs: int = 3
    min_fall: float = MIN_FALL
    clusters: int | None = 1000
    variant: Variant = "paper"

    version: ClassVar[int] = 2
    paper: ClassVar[str] = "Mekala et al., Findings of ACL 2024, arXiv 2402.10430"
    cost_class: ClassVar[str] = "tuning the scorer on the row, 3 epochs (lp_app: 1), and 3 (2) forward passes"
    fixed_share: ClassVar[float | None] = None

    def __post_init__(self) -> None:
        least = 2 if self.estimate == "lp1" else 1
        if self.epochs < least:
            raise ValueError(f"epochs: must be at least {least} for estimate={self.estimate}, not {self.epochs}")
        if not 0 <= self.min_fall < 1:
            raise ValueError(f"min_fall: must be at least 0 and below 1, not {self.min_fall}")
        if self.clusters is not None and self.clusters < 1:
            raise ValueError("clusters: must be at least 1, or null for none")

    @property
    def needs(self) -> frozenset[Need]:
        needs: set[Need] = {"responses", "task", "scorer", "training", "seed"}
        if self.clusters is not None:
            needs.add("embedder")
        return frozenset(needs)

    def check(self, context: Context) -> None:
        """Raises UserError where tuning on the pool would do nothing."""
        context.check_tuning(context.n_rows, self.epochs)

    def choose(self, context: Context, k: int, allowed: np.ndarray) -> Scores:
        tuned = self._tuned(context, allowed)
        values = self._values(tuned)
        undefined = ~np.isnan(tuned["before"]) & np.isnan(values)
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
        why = np.select([tuned["tokens"] == 0, undefined], [NO_RESPONSE, NOT_LEARNT], "")
        return scores(
            values,
            np.where(undefined, 0.0, -values),
            tuple(str(reason) for reason in why),
            np.select([first, ~allowed, undefined], [0, 3, 2], 1),
            {"clusters": len(np.unique(labels)), "rows_not_learnt": int(undefined.sum())},
        )

    def _tuned(self, context: Context, allowed: np.ndarray) -> dict[str, np.ndarray]:
        """Response tokens of every row, its perplexity before the tuning and after the first and last epoch, each [N].

        A stored stage that all budgets share, with the tuning in what it uses. It depends on the rows that may be
        chosen, since the tuning is on these.
        """

        def build() -> dict[str, np.ndarray]:
            losses = response_losses(context, "prompt")
            trainable = np.flatnonzero(allowed & (losses.tokens > 0))
            checkpoints = context.tune(trainable.tolist(), self.epochs, 1 if self.estimate == "lp_app" else None)
            first, last = (response_losses(context, "prompt", checkpoints[epoch]) for epoch in (0, -1))
            return {
                "tokens": losses.tokens,
                "before": perplexity(losses),
                "first": perplexity(first),
                "last": perplexity(last),
            }

        barred = [uid for uid, may in zip(context.uids, allowed, strict=True) if not may]
        settings = {"estimate": self.estimate, "epochs": self.epochs, "barred": key_of(barred)}
        return context.represent(
            "lp", VERSION, settings, ("pool", "responses", "prompt", "scorer", "training", "seed"), build
        )

    def _values(self, tuned: dict[str, np.ndarray]) -> np.ndarray:
        before, first, last = tuned["before"], tuned["first"], tuned["last"]
        if self.estimate == "lp_app":
            return lp_app(before, first)
        if self.variant == "reference":
            return published_lp1(before, first, last)
        return lp1(before, first, last, self.min_fall)
