"""Perplexity of the response given the prompt, or of the whole row: the lowest, the middle or the highest."""

from typing import ClassVar, Literal

import numpy as np

from dwbench.component import component
from dwbench.models.chat import Pair
from dwbench.rules.ranking import Scores, scores
from dwbench.selectors.context import Context
from dwbench.selectors.losses import Losses, loss_arrays, response_losses
from dwbench.selectors.material import Need

TEXT_VERSION = 2


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
        text: `response`, or `full`: PPL(Q, A), over the tokens of prompt (with the template's own) and response but for
            the first one, which has nothing in front of it.
        score_eos: whether the end-of-turn token counts as a response token, as it does in tuning.
    """

    which: Literal["low", "mid", "high"]
    text: Literal["response", "full"] = "response"
    score_eos: bool = True

    version: ClassVar[int] = 2
    paper: ClassVar[str] = "common baseline; e.g. Marion et al. 2023, arXiv 2309.04564"
    cost_class: ClassVar[str] = "1 forward pass a row"
    fixed_share: ClassVar[float | None] = None

    @property
    def needs(self) -> frozenset[Need]:
        return frozenset({"responses", "task", "scorer"})

    def score(self, context: Context) -> Scores:
        losses = response_losses(context, "prompt") if self.text == "response" else text_losses(context)
        perplexity = np.exp(losses.mean(self.score_eos))
        return scores(perplexity, preference(perplexity, self.which), losses.reasons())


def text_losses(context: Context) -> Losses:
    """Losses of prompt and response together, of all their tokens but the first; the rows of `response_losses`.

    A stored stage. Needs `responses`, `task` and `scorer`.
    """

    def compute(positions: range) -> dict[str, np.ndarray]:
        texts = [text_pair(context, position) for position in positions]
        return loss_arrays(texts, context.scorer.token_nll(texts, "text loss"), context.chat.end_of_turn)

    arrays = context.represent_rows("text_nll", TEXT_VERSION, {}, ("responses", "prompt", "scorer"), compute)
    return Losses(**arrays)


def text_pair(context: Context, position: int) -> Pair | None:
    """All tokens of a row's prompt and response, to be scored behind the first; None for a row without a response."""
    pair = context.chat.pair(context.task, context.pool[position])
    if pair is None or pair.response == (context.chat.end_of_turn,):
        return None
    first, *others = pair.context
    return Pair((first,), (*others, *pair.response))
