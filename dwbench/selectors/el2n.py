"""EL2N: how far the predicted distributions are from the response."""

from typing import ClassVar

from dwbench.component import component
from dwbench.rules.ranking import Scores
from dwbench.selectors.context import Context
from dwbench.selectors.dynamics import (
    Scored,
    check_epochs,
    check_share,
    check_tuned_on_pool,
    hardest_first,
    needs_for,
    response_errors,
    scored_by,
)
from dwbench.selectors.material import Need


@component
class EL2N:
    """Error L2-norm (Paul et al., NeurIPS 2021, "Deep Learning on a Data Diet"): hard rows.

    Score: the mean over the response's tokens, end of turn included, of ||p_t - onehot(y_t)||_2, in [0, sqrt 2].
    Higher is chosen first. The notes hold its rank correlation with the response's length.

    The paper scores images, one distribution each, early in a training from scratch (some 10 of 200 epochs), as the
    mean of 10 runs. The mean over tokens is what makes it a score of responses; here is one run. `scorer=tuned` is how
    later work on language models uses it: the scorer is tuned on the whole pool first, which is charged.

    The highest scores are often wrong labels. `offset` leaves the top of the pool out, as the paper's own code can.
    STAFF's code has another EL2N as a baseline: root mean square of raw logits minus one-hot, without softmax and with
    labels that are not shifted. It measures the size of logits and is not kept.

    Attributes:
        scorer: `base`: the scorer as it is; `tuned`: after `epochs` on the pool.
        epochs: of that tuning; nothing else uses it.
        offset: share of the pool with the highest scores that comes last.
    """

    scorer: Scored = "base"
    epochs: int = 3
    offset: float = 0.0

    version: ClassVar[int] = 1
    paper: ClassVar[str] = "Paul et al., NeurIPS 2021, arXiv 2107.07075"
    cost_class: ClassVar[str] = "1 forward pass a row; with scorer=tuned also tuning on it, 3 epochs"
    fixed_share: ClassVar[float | None] = None

    def __post_init__(self) -> None:
        check_epochs(self.epochs)
        check_share("offset", self.offset)

    @property
    def needs(self) -> frozenset[Need]:
        return needs_for(training=self.scorer == "tuned")

    def check(self, context: Context) -> None:
        """Raises UserError where tuning on the pool would do nothing."""
        if self.scorer == "tuned":
            check_tuned_on_pool(context, self.epochs)

    def score(self, context: Context) -> Scores:
        errors = response_errors(context, scored_by(context, self.scorer, self.epochs))
        return hardest_first(errors.el2n, errors.tokens, self.offset)
