"""ClusterUCB: LESS's score for a part of the pool only, the part being found by a bandit over clusters."""

from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar

import numpy as np

from dwbench.component import component, key_of
from dwbench.errors import UserError
from dwbench.rules.bandit import NO_DRAWS, Draws, Policy, Rule, cold_start, draw_on, queues
from dwbench.rules.ranking import Scores, scores
from dwbench.rules.strata import whole
from dwbench.selectors import gradients
from dwbench.selectors.clusters import pool_clusters
from dwbench.selectors.context import ROWS_A_BLOCK, Context
from dwbench.selectors.dynamic import VERSION as REWARD_VERSION
from dwbench.selectors.dynamic import less_scores
from dwbench.selectors.material import Need, Part

VERSION = 1


@component
class ClusterUCB:
    """ClusterUCB (Wang et al., Findings of EMNLP 2025, "ClusterUCB: Efficient Gradient-Based Data Selection for
    Targeted Fine-Tuning of LLMs").

    Clusters of the pool are the arms of a bandit. Each gives a first share of its rows; then, one at a time, the arm
    with the highest mean + beta x standard deviation of its rewards gives a random row that it has not given yet. A
    row's reward is LESS's score at the last checkpoint of the warm-up; only rows that are drawn have their gradient
    computed. Of all drawn rows those with the highest rewards are chosen. With `gradient_budget: 1` it is LESS with one
    checkpoint.

    The paper clusters the gradients of all rows, which costs what it then saves; it pays off where rows are selected
    again and again while a model is tuned. A selection is made once here, so the clusters are those of the rows'
    embeddings. They are the same as LP's where it asks for as many.

    The published code differs: it counts floor(N x (budget - share of the cold start)) draws behind the cold start,
    which may come to more or less than the budget; here the draws are floor(budget x N) in all, exactly, and where that
    is less than the cold start it is cut. An arm without rows left keeps the value 0 there, wins where all others are
    negative, and the run fails; here it is out. `variant: reference` takes LESS's score as the code has it: Adam
    without correction of the bias and with epsilon inside of the root, and the mean of the cosines with all target
    rows. The number of clusters and the share of the cold start have no published value.

    Rows are drawn one after the other, so on a GPU they can't share a batch. What was drawn is stored for each 512
    draws: a process that is killed loses at most so many. Draws do not depend on the budget of gradients, so a smaller
    one is found in the store behind a larger one, up to its last block.

    Charged: embeddings and clusters, the warm-up, and a pass forward and backward for every drawn row and the target
    set; the number of the former is in the notes (`n_grads_computed`).

    Attributes:
        clusters: how many arms by k-means, at most a tenth of the rows.
        cold_start: share of each cluster that is drawn first, at least one row.
        gradient_budget: share of the pool that is drawn in all. No more rows than that can be chosen.
        rule: what an arm is worth, see `dwbench.rules.bandit`. `ucb1`, `thresh_hard` and `thresh_normal` are the
            paper's alternatives (section 4.6).
        beta: of `ucb` and `ucb1`. top_share: of the two thresholds.
        warmup_share: share of the pool that the warm-up is on. epochs: of the warm-up.
        dim: dimensions of a feature.
        projection: `sketch` or `rademacher`, see `dwbench.representations.projection`.
    """

    clusters: int = 100
    cold_start: float = 0.05
    gradient_budget: float = 0.2
    rule: Rule = "ucb"
    beta: float = 1.0
    top_share: float = 0.25
    warmup_share: float = 0.05
    epochs: int = 4
    dim: int = 8192
    projection: gradients.Kind = "sketch"
    variant: gradients.Variant = "paper"

    version: ClassVar[int] = 1
    paper: ClassVar[str] = "Wang et al., Findings of EMNLP 2025, arXiv 2506.10288"
    cost_class: ClassVar[str] = (
        "1 embedding, tuning on warmup_share of the rows, a forward and backward pass for gradient_budget of them"
    )
    fixed_share: ClassVar[float | None] = None

    def __post_init__(self) -> None:
        gradients.validate(self.warmup_share, self.epochs, self.dim)
        if self.clusters < 1:
            raise ValueError("clusters: must be at least 1")
        if not 0 < self.gradient_budget <= 1:
            raise ValueError(f"gradient_budget: must be above 0 and at most 1, not {self.gradient_budget}")
        if not 0 <= self.cold_start <= self.gradient_budget:
            raise ValueError(f"cold_start: must be at least 0 and at most gradient_budget, not {self.cold_start}")
        if self.beta < 0:
            raise ValueError(f"beta: must not be negative, as {self.beta} is")
        if not 0 < self.top_share < 1:
            raise ValueError(f"top_share: must be above 0 and below 1, not {self.top_share}")

    @property
    def needs(self) -> frozenset[Need]:
        return frozenset({"responses", "target", "task", "scorer", "embedder", "training", "seed"})

    def check(self, context: Context) -> None:
        """Raise UserError where no row would be drawn, the warm-up would do nothing, or no target row has a response
        token."""
        self._draws(context, 1)
        gradients.check(context, self.warmup_share, self.epochs)

    def choose(self, context: Context, k: int, allowed: np.ndarray) -> Scores:
        """Raises UserError, before anything is computed, where fewer than k rows would be drawn."""
        total = self._draws(context, k)
        labels = pool_clusters(context, self.clusters)
        known = gradients.trainable(context)
        queue = queues(labels, known & allowed, context.draw("cluster_ucb"))
        drawn = self._drawn(context, known, queue, total)
        values = np.full(context.n_rows, np.nan)
        values[drawn.rows] = drawn.rewards
        was_drawn = np.isin(np.arange(context.n_rows), drawn.rows)
        notes: dict[str, float | int | str] = {
            "n_grads_computed": len(drawn.rows),
            "clusters": len(np.unique(labels)),
            "warmup_rows": gradients.warmup_rows(known, self.warmup_share),
            "target_rows_without_response": len(context.target) - len(gradients.target_pairs(context)),
        }
        return scores(
            values,
            np.select([was_drawn, known], [values, 0.0], np.nan),
            gradients.reasons(known),
            np.select([was_drawn, allowed], [0, 1], 2),
            notes,
        )

    def _draws(self, context: Context, k: int) -> int:
        """How many rows are drawn. Raises UserError where these are fewer than k."""
        n = whole(self.gradient_budget, context.n_rows)
        if n < k:
            raise UserError(
                f"selector.gradient_budget={self.gradient_budget}: cluster_ucb draws {n} of {context.n_rows} rows, and "
                f"{k} can't be chosen from them: raise it, or choose fewer"
            )
        return n

    def _drawn(self, context: Context, known: np.ndarray, queue: Sequence[np.ndarray], total: int) -> Draws:
        """The draws, each block of them a stored stage that goes on from those before."""
        checkpoint = gradients.warm_up(context, known, self.warmup_share, self.epochs)[-1]
        projector = gradients.projector(context, self.dim, self.projection)
        directions = gradients.directions(checkpoint, gradients.ADAM_FORMS[self.variant])
        policy = Policy(self.rule, self.beta, self.top_share)
        first = cold_start(queue, self.cold_start)
        uids = context.uids
        key: dict[str, Any] = {
            **gradients.features_key(checkpoint, projector, gradients.ADAM_FORMS[self.variant]),
            "rewards": REWARD_VERSION,
            "variant": self.variant,
            "queues": key_of([[uids[row] for row in rows] for rows in queue]),
            "cold_start": self.cold_start,
            "policy": [*policy],
        }
        of: tuple[Part, ...] = ("pool", "responses", "target", "prompt", "scorer")

        def build(so_far: Draws, stop: int) -> dict[str, np.ndarray]:
            score = less_scores(context, checkpoint, projector, directions, self.variant)
            with context.track("gradients of drawn rows", stop - len(so_far.rows)) as advance:
                found = draw_on(queue, first, policy, lambda rows: score(rows.tolist(), advance), so_far, stop)
            return found._asdict()

        drawn = NO_DRAWS
        for start in range(0, total, ROWS_A_BLOCK):
            stop = min(start + ROWS_A_BLOCK, total)
            found = context.represent("cluster_ucb", VERSION, {**key, "draws": stop}, of, partial(build, drawn, stop))
            drawn = Draws(found["rows"], found["rewards"])
        return drawn
