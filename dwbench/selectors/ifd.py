"""Instruction-Following Difficulty."""

from typing import ClassVar, Literal

import numpy as np

from dwbench.component import component
from dwbench.rules.ranking import Scores, scores
from dwbench.selectors.base import Context, Need
from dwbench.selectors.losses import response_losses


def ifd(conditional: np.ndarray, direct: np.ndarray, ratio: Literal["loss", "ppl"]) -> np.ndarray:
    """L(A|Q) / L(A), or the ratio of the perplexities exp(L(A|Q) - L(A)); losses are means a token, [N].

    NaN where the direct loss is 0.
    """
    if ratio == "ppl":
        return np.asarray(np.exp(conditional - direct))
    undefined = np.full_like(conditional, np.nan)
    return np.asarray(np.divide(conditional, direct, out=undefined, where=direct != 0))


@component
class IFD:
    """IFD (Li et al., NAACL 2024, "From Quantity to Quality", section 2.2): how little the instruction helps the
    answer.

    Score: IFD(Q, A) = L(A|Q) / L(A). Higher is harder and chosen first, among rows with IFD <= `ifd_max`; rows above
    are misaligned. Where fewer than k rows are left, they follow in ascending order, and their number is in the
    notes.

    The reference's code differs: it looks for the answer's tokens in a re-tokenised text, so that both arms may score
    different ones; it drops rows that reach the maximum length; its share is one of the rows kept, not of the pool.

    Attributes:
        ratio: `loss` (the paper's) or `ppl` (Superfiltering's).
        direct_context: what stands in front of A in L(A): the bare `header` of an answer (as published), or one `bos`.
        ifd_max: rows above come last.
        score_eos: whether the end-of-turn token counts.
    """

    ratio: Literal["loss", "ppl"] = "loss"
    direct_context: Literal["header", "bos"] = "header"
    ifd_max: float = 1.0
    score_eos: bool = True

    version: ClassVar[int] = 1
    paper: ClassVar[str] = "Li et al., NAACL 2024, arXiv 2308.12032"
    cost_class: ClassVar[str] = "2 forward passes a row"
    fixed_share: ClassVar[float | None] = None

    @property
    def needs(self) -> frozenset[Need]:
        return frozenset({"responses", "task", "scorer"})

    def score(self, context: Context) -> Scores:
        conditional = response_losses(context, "prompt")
        direct = response_losses(context, self.direct_context)
        values = ifd(conditional.mean(self.score_eos), direct.mean(self.score_eos), self.ratio)
        above = values > self.ifd_max
        return scores(
            values,
            np.where(above, -values, values),
            conditional.reasons(),
            tier=above.astype(np.int64),
            notes={"rows_above_ifd_max": int(above.sum())},
        )
