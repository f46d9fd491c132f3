"""AttentionInfluence: what a text's loss gains when the heads that copy from the context can't."""

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
from pydantic import PositiveInt

from dwbench.component import component
from dwbench.errors import UserError
from dwbench.models.chat import Pair
from dwbench.representations.heads import Head, Uniform, top_heads
from dwbench.representations.probes import VERSION as PROBES_VERSION
from dwbench.representations.probes import Probe, retrieval_probes
from dwbench.rules.ranking import Scores, scores
from dwbench.selectors.context import Context
from dwbench.selectors.losses import Losses, loss_arrays, response_losses
from dwbench.selectors.material import Need
from dwbench.selectors.perplexity import text_losses, text_pair

RETRIEVAL_VERSION = 1
MASKED_VERSION = 2

LOSS_FLOOR = 0.05
"""Nats a token: smallest base loss that an increase is related to. Memorised texts would have any score."""


def relative_increase(base: np.ndarray, masked: np.ndarray) -> np.ndarray:
    """(L_ref - L_base) / L_base (Eq. 5), [N]; losses are means a token, L_base at least `LOSS_FLOOR`."""
    return np.asarray((masked - base) / np.maximum(base, LOSS_FLOOR))


@component
class AttentionInfluence:
    """AttentionInfluence (Hua et al. 2025, Eq. 5): how much the loss depends on retrieval heads. Higher is chosen
    first.

    Retrieval heads are those whose strongest attention most often falls on the token to be copied, in probes that ask
    for a value of a JSON object (section 3, App. A); found once for a model, shared by all data sets and seeds, and
    charged to each selection. Masked, they attend to all they see alike, their values stay (App. C). Score:
    (L_ref - L_base) / L_base, with L_base floored at 0.05.

    There is no official code. The paper scores pretraining texts, all tokens of them, takes 20 % of each domain, and
    detects with 800 probes of up to 4,096 tokens; a few probes find the same heads. Here a pool is one task, so there
    are no domains to merge. A public reproduction reads attention one row late, and zeroes heads instead.

    Attributes:
        loss_on: `response` (given its prompt) or `all` (the paper's: prompt and response, all tokens but the first).
        head_share: share of all heads that is masked, at least one.
        uniform: weights of a masked head: 1/t on its t `visible` positions (those of its layer, for sliding windows),
            or `literal`, 1/L (L: tokens of the whole text) on the same ones.
        probes: how many probes find the heads.
        probe_tokens: tokens of a probe.
        probe_seed: the probes' own seed, so that all seeds of a run share them.
        score_eos: whether the end-of-turn token counts.
    """

    loss_on: Literal["response", "all"] = "response"
    head_share: float = 0.05
    uniform: Uniform = "visible"
    probes: PositiveInt = 50
    probe_tokens: PositiveInt = 1024
    probe_seed: int = 0
    score_eos: bool = True

    version: ClassVar[int] = 2
    paper: ClassVar[str] = "Hua et al. 2025, arXiv 2505.07293"
    cost_class: ClassVar[str] = "2 forward passes a row, and probes x probe_tokens once a model"
    fixed_share: ClassVar[float | None] = None

    def __post_init__(self) -> None:
        if not 0 < self.head_share <= 1:
            raise ValueError("head_share: must be above 0 and at most 1")

    @property
    def needs(self) -> frozenset[Need]:
        return frozenset({"responses", "task", "scorer"})

    def check(self, context: Context) -> None:
        longest = context.chat.max_length
        if self.probe_tokens > longest:
            raise UserError(
                f"selector.probe_tokens={self.probe_tokens}: the model takes {longest} tokens: "
                f"set selector.probe_tokens={longest} or less"
            )
        self._probes(context, 1)

    def score(self, context: Context) -> Scores:
        retrieval = self._retrieval_scores(context)
        heads = top_heads(retrieval, self.head_share)
        base = response_losses(context, "prompt") if self.loss_on == "response" else text_losses(context)
        masked = self._masked_losses(context, heads)
        base_mean = base.mean(self.score_eos)
        values = relative_increase(base_mean, masked.mean(self.score_eos))
        of_masked = [float(retrieval[head]) for head in heads]
        return scores(
            values,
            values,
            base.reasons(),
            notes={
                "masked_heads": " ".join(f"{layer}.{head}" for layer, head in heads),
                "retrieval_score_highest": max(of_masked),
                "retrieval_score_lowest_masked": min(of_masked),
                "rows_at_the_loss_floor": int((base_mean < LOSS_FLOOR).sum()),
            },
        )

    def _probes(self, context: Context, number: int) -> list[Probe]:
        return retrieval_probes(context.chat, number, self.probe_tokens, self.probe_seed)

    def _retrieval_scores(self, context: Context) -> np.ndarray:
        """[layers, heads]: a stored stage that knows of the model's weights and precision alone."""
        settings = {
            "probes": [PROBES_VERSION, self.probes],
            "probe_tokens": self.probe_tokens,
            "probe_seed": self.probe_seed,
        }

        def build() -> dict[str, np.ndarray]:
            return {"scores": context.scorer.retrieval_scores(self._probes(context, self.probes))}

        return context.represent("retrieval_heads", RETRIEVAL_VERSION, settings, ("weights",), build)["scores"]

    def _masked_losses(self, context: Context, heads: Sequence[Head]) -> Losses:
        settings = {"loss_on": self.loss_on, "heads": [list(head) for head in heads], "uniform": self.uniform}

        def build(positions: range) -> dict[str, np.ndarray]:
            pairs = [self._pair(context, position) for position in positions]
            what = f"{self.loss_on} loss ({len(heads)} heads masked)"
            losses = context.scorer.masked_token_nll(pairs, heads, self.uniform, what)
            return loss_arrays(pairs, losses, context.chat.end_of_turn)

        return Losses(
            **context.represent_rows("masked_nll", MASKED_VERSION, settings, ("responses", "prompt", "scorer"), build)
        )

    def _pair(self, context: Context, position: int) -> Pair | None:
        """What the loss is taken of: None for the same rows with either `loss_on`."""
        if self.loss_on == "all":
            return text_pair(context, position)
        pair = context.chat.pair(context.task, context.pool[position])
        return None if pair is None or pair.response == (context.chat.end_of_turn,) else pair
