"""Instruction-Following Difficulty."""

from typing import ClassVar, Literal

import numpy as np

from dwbench.component import component
from dwbench.errors import UserError
from dwbench.models.chat import Pair
from dwbench.rules.clusters import kmeans_labels
from dwbench.rules.ranking import Scores, scores
from dwbench.selectors.context import Context
from dwbench.selectors.losses import response_losses
from dwbench.selectors.material import Checkpoint, Need

WARMUP_CLUSTERS = 100
WARMUP_ROWS = 10
"""The pre-experience: so many clusters, and so many rows of each."""

WARMUP_PERCENTILES = (25, 75)
"""Of a cluster's instruction perplexities: the rows between them are taken from."""


def ifd(conditional: np.ndarray, direct: np.ndarray, ratio: Literal["loss", "ppl"]) -> np.ndarray:
    """L(A|Q) / L(A), or the ratio of the perplexities exp(L(A|Q) - L(A)); losses are means a token, [N].

    NaN where the direct loss is 0.
    """
    if ratio == "ppl":
        return np.asarray(np.exp(conditional - direct))
    undefined = np.full_like(conditional, np.nan)
    return np.asarray(np.divide(conditional, direct, out=undefined, where=direct != 0))


def experience_rows(perplexity: np.ndarray, labels: np.ndarray, draw: np.ndarray) -> np.ndarray:
    """The rows of the pre-experience: of every cluster 10 whose instruction perplexity is between its quartiles.

    Clusters of fewer than 10 rows are taken whole, and so is a middle of fewer.

    Args:
        perplexity: of the instruction, [N]. labels: cluster of each row, [N]; -1: in none.
        draw: [N] numbers; the rows with the smallest are taken.

    Returns:
        Positions, ascending, int64.
    """
    taken = []
    for cluster in np.unique(labels[labels >= 0]):
        members = np.flatnonzero(labels == cluster)
        if len(members) >= WARMUP_ROWS:
            low, high = np.percentile(perplexity[members], WARMUP_PERCENTILES)
            members = members[(perplexity[members] >= low) & (perplexity[members] <= high)]
        taken.append(members[np.argsort(draw[members], kind="stable")[:WARMUP_ROWS]])
    return np.sort(np.concatenate(taken))


@component
class IFD:
    """IFD (Li et al., NAACL 2024, "From Quantity to Quality", section 2.2): how little the instruction helps the
    answer.

    Score: IFD(Q, A) = L(A|Q) / L(A). Higher is harder and chosen first, among rows with IFD <= `ifd_max`; rows above
    are misaligned. Where fewer than k rows are left, they follow in ascending order, and their number is in the
    notes.

    The reference's code differs: it looks for the answer's tokens in a re-tokenised text, so that both arms may score
    different ones; it drops rows that reach the maximum length; its share is one of the rows kept, not of the pool.

    The paper's first stage, the pre-experience, is optional: its later code leaves it out. The scorer is tuned for one
    epoch on about 1,000 rows that stand for the pool: of each of 100 clusters (a tenth of the rows at most) of the
    instructions' mean last hidden states, 10 whose instruction has a perplexity between the cluster's quartiles. Both
    losses are then those of the tuned scorer. The reference takes the 10 evenly by data set index; here they are drawn.
    Its full tuning is LoRA with the run's settings here. Perplexity and hidden states of the instructions take two
    passes here, and are charged so; one would do.

    Attributes:
        ratio: `loss` (the paper's) or `ppl` (Superfiltering's).
        direct_context: what stands in front of A in L(A): the bare `header` of an answer (as published), or one `bos`.
        ifd_max: rows above come last.
        score_eos: whether the end-of-turn token counts.
        warmup: `none`, or `pre_experience`.
    """

    ratio: Literal["loss", "ppl"] = "loss"
    direct_context: Literal["header", "bos"] = "header"
    ifd_max: float = 1.0
    score_eos: bool = True
    warmup: Literal["none", "pre_experience"] = "none"

    version: ClassVar[int] = 1
    paper: ClassVar[str] = "Li et al., NAACL 2024, arXiv 2308.12032"
    cost_class: ClassVar[str] = "2 forward passes a row; with pre_experience 4, and tuning on 1,000 rows"
    fixed_share: ClassVar[float | None] = None

    @property
    def needs(self) -> frozenset[Need]:
        if self.warmup == "pre_experience":
            return frozenset({"responses", "task", "scorer", "training", "seed"})
        return frozenset({"responses", "task", "scorer"})

    def check(self, context: Context) -> None:
        """Raises UserError where tuning on the rows of the pre-experience, even on as many as there can be, would do
        nothing."""
        if self.warmup == "pre_experience":
            context.check_tuning(min(context.n_rows, WARMUP_ROWS * warmup_clusters(context.n_rows)), epochs=1)

    def score(self, context: Context) -> Scores:
        checkpoint = pre_experience(context) if self.warmup == "pre_experience" else None
        conditional = response_losses(context, "prompt", checkpoint)
        direct = response_losses(context, self.direct_context, checkpoint)
        values = ifd(conditional.mean(self.score_eos), direct.mean(self.score_eos), self.ratio)
        above = values > self.ifd_max
        return scores(
            values,
            np.where(above, -values, values),
            conditional.reasons(),
            tier=above.astype(np.int64),
            notes={"rows_above_ifd_max": int(above.sum())},
        )


def warmup_clusters(rows: int) -> int:
    """How many clusters of so many rows the pre-experience takes from."""
    return max(1, min(WARMUP_CLUSTERS, rows // 10))


def pre_experience(context: Context) -> Checkpoint:
    """The scorer after one epoch on the rows of the pre-experience."""
    of_prompts = context.represent(
        "prompt_perplexity", 1, {}, ("pool", "responses", "prompt", "scorer"), lambda: _read_prompts(context)
    )
    usable = np.flatnonzero(of_prompts["usable"])
    if not usable.size:
        raise UserError("selector.warmup=pre_experience: no row of the pool fits the scorer's max_length: raise it")
    with context.importing():
        import sklearn.cluster  # noqa: F401
    labels = np.full(context.n_rows, -1)
    clusters = warmup_clusters(len(usable))
    labels[usable] = kmeans_labels(of_prompts["hidden"], clusters, context.derive("ifd", "clusters"))
    rows = experience_rows(of_prompts["perplexity"], labels, context.draw("ifd", "warmup"))
    return context.tune(rows.tolist(), epochs=1)[0]


def _read_prompts(context: Context) -> dict[str, np.ndarray]:
    """`usable`: rows that can be tuned on, bool [N]; `hidden`: mean last hidden state of their prompts, [usable, d];
    `perplexity`: of all prompt tokens but the first, [N], NaN where not usable."""
    chat = context.chat
    pairs = [chat.pair(context.task, row) for row in context.pool]
    usable = np.array([pair is not None and pair.response != (chat.end_of_turn,) for pair in pairs])
    prompts = [pair.context for pair, use in zip(pairs, usable, strict=True) if pair is not None and use]
    losses = context.scorer.response_nll([Pair(ids[:1], ids[1:]) for ids in prompts], "prompt perplexity")
    perplexity = np.full(context.n_rows, np.nan)
    perplexity[usable] = np.exp(losses.mean)
    return {"usable": usable, "hidden": context.scorer.mean_hidden(prompts), "perplexity": perplexity}
