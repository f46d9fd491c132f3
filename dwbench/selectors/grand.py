"""GraNd: the norm of a row's gradient."""

from typing import ClassVar

from dwbench.component import component
from dwbench.representations.gradients import GradientPart
from dwbench.representations.per_sample import check_last_v
from dwbench.rules.ranking import Scores
from dwbench.selectors.context import Context
from dwbench.selectors.dynamics import (
    ADAPTERS,
    Scored,
    check_epochs,
    check_share,
    check_tuned_on_pool,
    grand,
    hardest_first,
    needs_for,
)
from dwbench.selectors.material import Need


@component
class GraNd:
    """Gradient norm (Paul et al., NeurIPS 2021, "Deep Learning on a Data Diet"): hard rows.

    Score: the L2 norm of the gradient of the row's mean response loss, end of turn included, with respect to `part` of
    the parameters. Higher is chosen first. The notes hold its rank correlation with the response's length: a mean over
    more tokens has a smaller gradient.

    The paper takes all parameters of an image classifier early in a training from scratch, and the mean of 10 runs.
    Its scores at initialisation do not reproduce (Kirsch, arXiv 2303.14753: a checkpoint was loaded by mistake).
    Here is one run, of a pretrained model. Untuned, the adapters' B is 0, so that A has no gradient, and B's is seen
    through an A that is drawn. `scorer=tuned` tunes on the whole pool first, as STAFF's paper does for this baseline;
    that is charged.

    Attributes:
        part: `lora_all`: all adapters; `last_v_lora_b`: B of the last layer's value projection; `last_v`: the weight of
            that projection, exactly; `lm_head`: the weight of the LM head, which needs no backward pass; where it is
            tied to the embeddings, the output's path alone.
        scorer: `base`: the scorer as it is; `tuned`: after `epochs` on the pool.
        epochs: of that tuning; nothing else uses it.
        offset: share of the pool with the highest scores that comes last, as the paper's code can leave it out.
    """

    part: GradientPart = "lora_all"
    scorer: Scored = "base"
    epochs: int = 3
    offset: float = 0.0

    version: ClassVar[int] = 1
    paper: ClassVar[str] = "Paul et al., NeurIPS 2021, arXiv 2107.07075"
    cost_class: ClassVar[str] = "1 forward and backward pass a row; with scorer=tuned also tuning on it, 3 epochs"
    fixed_share: ClassVar[float | None] = None

    def __post_init__(self) -> None:
        check_epochs(self.epochs)
        check_share("offset", self.offset)

    @property
    def needs(self) -> frozenset[Need]:
        return needs_for(training=self.scorer == "tuned" or self.part in ADAPTERS)

    def check(self, context: Context) -> None:
        """Raises UserError where tuning on the pool would do nothing, or the scorer has no such part."""
        if self.scorer == "tuned":
            check_tuned_on_pool(context, self.epochs)
        if self.part in ("last_v", "last_v_lora_b"):
            check_last_v(context.model_config())

    def score(self, context: Context) -> Scores:
        norms = grand(context, self.part, self.scorer, self.epochs)
        return hardest_first(norms.norm, norms.tokens, self.offset)
