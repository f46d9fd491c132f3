"""Superfiltering: IFD with perplexities."""

from typing import ClassVar, Literal

import numpy as np

from dwbench.component import component
from dwbench.rules.ranking import Scores, scores
from dwbench.selectors.context import Context
from dwbench.selectors.ifd import ifd
from dwbench.selectors.losses import Template, response_losses
from dwbench.selectors.material import Need

Variant = Literal["paper", "reference"]

ONE_TOKEN = "nothing stands in front of the response, and it has only one token"


def ifd_ppl_scores(context: Context, variant: Variant, prompt: Template, score_eos: bool) -> Scores:
    """IFD_ppl of every row of the pool, tier 0 below 1; needs `responses`, `task` and `scorer`."""
    conditional = response_losses(context, "prompt", template=prompt)
    direct = response_losses(context, "bos" if variant == "paper" else "none", template=prompt)
    values = ifd(conditional.mean(score_eos), direct.mean(score_eos), "ppl")
    reasons = tuple(
        reason or (ONE_TOKEN if np.isnan(value) else "")
        for reason, value in zip(conditional.reasons(), values, strict=True)
    )
    return ranked_ifd_ppl(values, reasons)


def ranked_ifd_ppl(values: np.ndarray, reasons: tuple[str, ...]) -> Scores:
    """IFD_ppl [N] below 1, highest first (tier 0); then from 1 up, ascending (tier 1).

    Then what has no direct loss (tier 2): such rows can be learnt from, unlike those that don't fit, which are invalid.
    """
    undefined = np.array([reason == ONE_TOKEN for reason in reasons], dtype=np.bool_)
    misaligned = values >= 1
    preference = np.where(undefined, 0.0, np.where(misaligned, -values, values))
    tier = np.where(undefined, 2, misaligned.astype(np.int64))
    return scores(values, preference, reasons, tier, {"rows_not_below_1": int(misaligned.sum())})


@component
class Superfiltering:
    """Superfiltering (Li et al., ACL 2024, section 3): IFD as a ratio of perplexities, by a much smaller model.

    Score: PPL(A|Q) / PPL(A) = exp(L(A|Q) - L(A)). Higher is chosen first, among rows below 1; the others follow in
    ascending order, and their number is in the notes. The scoring model is the run's scorer: the model to be tuned, or
    with `scorer_model=...` a smaller one, as in the paper (GPT-2, whose architecture and tokenizer without chat
    template are not supported).

    The reference's code differs, and `variant=reference prompt=plain score_eos=false` is its score: the direct arm is
    the answer alone, so that its mean leaves out the first token, which the conditional mean counts. With short
    answers that is a large difference (0.43 with equal tokens, 1.38 without, for one of 11 tokens), and an answer of
    one token has no score. Not kept: a budget in shares of 52,002 rows; a cut of long answers one token later in the
    direct arm; failures that count as 0. Its prompt is a bare instruction and input; rows read from such columns carry
    the labels `Instruction:` and `Input:` here.

    Attributes:
        variant: the direct arm: `paper` predicts the same tokens as the conditional one, behind one BOS or end-of-turn
            token; `reference` has nothing in front.
        prompt: `chat`, as in tuning and with the other methods' losses; or `plain`, the row's own text without the
            task's wording and system turn, and a line break, as published.
        score_eos: whether the end-of-turn token counts.
    """

    variant: Variant = "paper"
    prompt: Template = "chat"
    score_eos: bool = True

    version: ClassVar[int] = 2
    paper: ClassVar[str] = "Li et al., ACL 2024, arXiv 2402.00530"
    cost_class: ClassVar[str] = "2 forward passes a row"
    fixed_share: ClassVar[float | None] = None

    @property
    def needs(self) -> frozenset[Need]:
        return frozenset({"responses", "task", "scorer"})

    def score(self, context: Context) -> Scores:
        return ifd_ppl_scores(context, self.variant, self.prompt, self.score_eos)
