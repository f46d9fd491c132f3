"""DSIR: importance resampling towards the target set by hashed n-grams."""

from typing import ClassVar, Literal

import numpy as np

from dwbench.component import component
from dwbench.data.base import Example
from dwbench.errors import UserError
from dwbench.rules.gumbel import gumbel_keys
from dwbench.rules.importance import hashed_ngrams, log_importance
from dwbench.rules.ranking import Scores, scores
from dwbench.selectors.context import Context
from dwbench.selectors.material import Need
from dwbench.selectors.texts import Text, text_of


@component
class DSIR:
    """DSIR (Xie et al., NeurIPS 2023, "Data Selection for Language Models via Importance Resampling"): targeted,
    by words alone, without any model.

    Score: log importance weight of the row's text, the sum over its words and pairs of neighbouring words of the
    log-ratio of their frequencies in the target set and in the pool, hashed into `buckets`. Higher is preferred. It is
    a sum and not a mean: long rows lie at the two ends. Rows are resampled without replacement by their weights
    (Gumbel top-k), so that a larger choice holds a smaller one.

    The reference's code differs: rows of fewer than 100 words are dropped, which would be most of an instruction pool;
    its counts of the target are not smoothed unless it is asked to, so that one word that a small target set happens
    not to contain outweighs all others.

    Attributes:
        text: `full`, input and response, or the `instruction` alone; earlier turns are a part of either.
        rule: `gumbel` resamples; `top_k` takes the highest weights.
        target_laplace_smoothing: added to the target's count of every bucket.
        buckets: how many n-grams are told apart.
    """

    text: Text = "full"
    rule: Literal["gumbel", "top_k"] = "gumbel"
    target_laplace_smoothing: float = 1.0
    buckets: int = 10_000

    version: ClassVar[int] = 1
    paper: ClassVar[str] = "Xie et al., NeurIPS 2023, arXiv 2302.03169"
    cost_class: ClassVar[str] = "hashing its words"
    fixed_share: ClassVar[float | None] = None

    def __post_init__(self) -> None:
        if self.target_laplace_smoothing < 0:
            raise ValueError(f"target_laplace_smoothing: must be at least 0, not {self.target_laplace_smoothing}")
        if self.buckets < 1:
            raise ValueError(f"buckets: must be at least 1, not {self.buckets}")

    @property
    def needs(self) -> frozenset[Need]:
        needs: set[Need] = {"responses", "target"}
        if self.rule == "gumbel":
            needs.add("seed")
        return frozenset(needs)

    def check(self, context: Context) -> None:
        """Raises UserError without target set."""
        if not context.target:
            raise UserError(
                "selector dsir: the target set is empty: set dataset.target_rows, or give a file of such rows"
            )

    def score(self, context: Context) -> Scores:
        self.check(context)
        weights = log_importance(
            [self._ngrams(row) for row in context.pool],
            [self._ngrams(row) for row in context.target],
            self.buckets,
            self.target_laplace_smoothing,
        )
        preference = weights if self.rule == "top_k" else gumbel_keys(weights, context.draw("dsir", "gumbel"))
        return scores(weights, preference, ("",) * context.n_rows, notes={"target_rows": len(context.target)})

    def _ngrams(self, row: Example) -> np.ndarray:
        return hashed_ngrams(text_of(row, self.text), self.buckets)
