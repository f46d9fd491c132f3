"""Perplexity of the response given the prompt: the lowest, the middle or the highest."""

from typing import ClassVar, Literal

import numpy as np

from dwbench.component import component
from dwbench.rules.ranking import Scores, scores
from dwbench.selectors.base import Context, Need
from dwbench.selectors.losses import response_losses


def preference(perplexity: np.ndarray, which: Literal["low", "mid", "high"]) -> np.ndarray:
    """What to rank by, highest first: minus PPL, minus the distance to the median of the valid rows, or PPL; [N]."""
    if which == "low":
        return -perplexity
    if which == "high":
        return perplexity
    valid = perplexity[~np.isnan(perplexity)]
    return -np.abs(perplexity - (np.median(valid) if valid.size else np.nan))


@component
class Perplexity:
    """PPL(A|Q) = exp(mean NLL of the response tokens given the prompt) under the scorer.

    `low` is the control of Data Whisperer, which prefers such rows; `high` is MIWV's. `mid`: closest to the
    pool's median.

    Attributes:
        which: `low`, `mid` or `high`.
        score_eos: whether the end-of-turn token counts as a response token, as it does in tuning.
    """

    which: Literal["low", "mid", "high"]
    score_eos: bool = True

    version: ClassVar[int] = 1
    paper: ClassVar[str] = "common baseline; e.g. Marion et al. 2023, arXiv 2309.04564"
    cost_class: ClassVar[str] = "1 forward pass a row"
    fixed_share: ClassVar[float | None] = None

    @property
    def needs(self) -> frozenset[Need]:
        return frozenset({"responses", "task", "scorer"})

    def score(self, context: Context) -> Scores:
        losses = response_losses(context, "prompt")
        perplexity = np.exp(losses.mean(self.score_eos))
        return scores(perplexity, preference(perplexity, self.which), losses.reasons())
