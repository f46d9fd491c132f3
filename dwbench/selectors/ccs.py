"""CCS: coverage-centric coreset selection, stratified over a score without its hardest rows."""

from typing import ClassVar, Literal, NamedTuple

import numpy as np

from dwbench.component import component
from dwbench.representations.gradients import GradientPart
from dwbench.rules.clusters import lowest_of_each
from dwbench.rules.ranking import Scores
from dwbench.rules.strata import hardest, left_closed_strata, published_ccs_strata, water_fill
from dwbench.selectors.context import Context
from dwbench.selectors.dynamics import (
    Scored,
    check_epochs,
    check_share,
    check_tuned_on_pool,
    drawn,
    grand,
    needs_for,
    response_errors,
    scored_by,
    tuned_on_pool,
)
from dwbench.selectors.losses import response_losses
from dwbench.selectors.material import Need

GRAND_PART: GradientPart = "lora_all"
"""The selector grand's default."""


class Difficulty(NamedTuple):
    """`values`: the score, `hardness`: plus or minus it, higher is harder; NaN without response. `tokens`: of the
    response. All [N]."""

    values: np.ndarray
    hardness: np.ndarray
    tokens: np.ndarray


@component
class CCS:
    """Coverage-centric coreset selection (Zheng et al., ICLR 2023, "Coverage-centric Coreset Selection for High Pruning
    Rates").

    The floor(beta x N) hardest rows are cut. The scores of the rest, from the least to the largest, are cut into strata
    of equal width, which share the budget evenly from the smallest to the largest (`water_fill`), and inside a stratum
    rows are drawn. With a heavy tail most rows are in one stratum and the others are taken whole: that is the method.

    Scores: `aum`, the paper's: the mean over the response's tokens of the margin p_y - max_{j != y} p_j, summed over
    the checkpoints after each epoch of one tuning on the pool, which is charged; low is hard. `el2n`, `grand` (all
    adapters) and `nll` (mean response loss) are those of the selectors of these names and of the perplexity selectors,
    stored once for all; high is hard.

    The published code differs: its margins are of passes in training mode; it cuts by AUM whatever the strata are of;
    the last stratum ends, open, at 1.0001 x the largest score, so that with a negative maximum the top row is in no
    stratum, and with equal scores that are not positive no row is. `variant: reference` has these strata; rows in none
    follow behind all others but those cut. A tuning of the paper is from scratch and long; here it is a LoRA run.

    beta decides at high pruning rates, and the paper looks for it by test accuracy, data set by data set (0.3 at 90 %
    of CIFAR10 and ImageNet). Here it stays at 0.3; 0 is no cut.

    Attributes:
        score: what is hard.
        scorer: of `el2n`, `grand` and `nll`: `base`, the scorer as it is, or `tuned`, after `epochs` on the pool;
            `aum` always tunes.
        epochs: of a tuning.
        beta: share of the rows that is cut as too hard.
        strata: how many.
    """

    score: Literal["aum", "el2n", "grand", "nll"] = "aum"
    scorer: Scored = "base"
    epochs: int = 3
    beta: float = 0.3
    strata: int = 50
    variant: Literal["paper", "reference"] = "paper"

    version: ClassVar[int] = 1
    paper: ClassVar[str] = "Zheng et al., ICLR 2023, arXiv 2210.15809"
    cost_class: ClassVar[str] = "aum: tuning the scorer on the row, 3 epochs, and 3 forward passes; else that score's"
    fixed_share: ClassVar[float | None] = None

    def __post_init__(self) -> None:
        check_epochs(self.epochs)
        check_share("beta", self.beta)
        if self.strata < 1:
            raise ValueError(f"strata: must be at least 1, not {self.strata}")

    @property
    def _tunes(self) -> bool:
        return self.score == "aum" or self.scorer == "tuned"

    @property
    def needs(self) -> frozenset[Need]:
        return needs_for(training=self._tunes or self.score == "grand") | {"seed"}

    def check(self, context: Context) -> None:
        """Raises UserError where tuning on the pool would do nothing."""
        if self._tunes:
            check_tuned_on_pool(context, self.epochs)

    def choose(self, context: Context, k: int, allowed: np.ndarray) -> Scores:
        values, hardness, tokens = self._difficulty(context)
        candidates = allowed & ~np.isnan(values)
        draw = context.draw("ccs")
        cut = hardest(np.where(candidates, hardness, np.nan), self.beta, draw)
        kept = np.where(candidates & ~cut, values, np.nan)
        labels = (published_ccs_strata if self.variant == "reference" else left_closed_strata)(kept, self.strata)
        sizes = np.bincount(labels[labels >= 0], minlength=self.strata)
        chosen = lowest_of_each(np.where(labels >= 0, -draw, np.nan), labels, water_fill(sizes, k), draw)
        notes: dict[str, float | int | str] = {
            "strata_with_rows": int(np.count_nonzero(sizes)),
            "rows_cut": int(cut.sum()),
            "rows_in_no_stratum": int(np.count_nonzero(~np.isnan(kept) & (labels < 0))),
            "rows_filled": k - int(chosen.sum()),
        }
        return drawn(values, chosen, hardness, cut, allowed, draw, tokens, notes)

    def _difficulty(self, context: Context) -> Difficulty:
        if self.score == "aum":
            errors = [response_errors(context, checkpoint) for checkpoint in tuned_on_pool(context, self.epochs)]
            values = np.sum([one.margin for one in errors], axis=0)
            return Difficulty(values, -values, errors[0].tokens)
        if self.score == "grand":
            norms = grand(context, GRAND_PART, self.scorer, self.epochs)
            return Difficulty(norms.norm, norms.norm, norms.tokens)
        checkpoint = scored_by(context, self.scorer, self.epochs)
        if self.score == "el2n":
            el2n = response_errors(context, checkpoint)
            return Difficulty(el2n.el2n, el2n.el2n, el2n.tokens)
        losses = response_losses(context, "prompt", checkpoint)
        nll = losses.mean(score_eos=True)
        return Difficulty(nll, nll, losses.tokens)
