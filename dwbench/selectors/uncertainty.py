"""Uncertainty of the scoring model about each row: entropy, confidence and margins of its token distributions."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import ClassVar, Literal

import numpy as np

from dwbench.component import component, key_of
from dwbench.data.base import Turn
from dwbench.errors import UserError
from dwbench.representations.uncertainty import Steps
from dwbench.rules.ranking import Scores, scores
from dwbench.selectors.context import ROWS_A_BLOCK, Context
from dwbench.selectors.losses import NO_RESPONSE
from dwbench.selectors.material import Need

VERSION = 2

Measure = Literal["mean_entropy", "least_confidence", "mean_margin", "min_margin"]

EMPTY = "the model's answer is empty and include_eos is false"


@dataclass(frozen=True)
class Totals:
    """Uncertainty of a pool's answers, summed over their tokens; arrays [N].

    Sums and minima are over the answer's own tokens, the end-of-turn step stands apart. NaN in a row without an answer,
    in `end_*` also where the answer was cut; `min_margin` is infinite where the answer has no token of its own.

    Attributes:
        entropy, margin, logp: sums of what `Steps` holds, nats and probabilities.
        min_margin: smallest margin.
        tokens: the answer's own tokens.
        end_entropy, end_margin, end_logp: of the end-of-turn step.
    """

    entropy: np.ndarray
    margin: np.ndarray
    logp: np.ndarray
    min_margin: np.ndarray
    tokens: np.ndarray
    end_entropy: np.ndarray
    end_margin: np.ndarray
    end_logp: np.ndarray

    @classmethod
    def of(cls, rows: Sequence[Steps | None]) -> "Totals":
        """From the steps of every row; None: no answer."""
        columns = np.full((8, len(rows)), np.nan)
        for number, steps in enumerate(rows):
            if steps is None:
                continue
            values = np.array([steps.entropy, steps.margin, steps.logp], dtype=np.float64)
            own = values[:, :-1] if steps.ended else values
            columns[:3, number] = own.sum(axis=1)
            columns[3, number] = own[1].min(initial=np.inf)
            columns[4, number] = own.shape[1]
            if steps.ended:
                columns[5:, number] = values[:, -1]
        columns[4] = np.nan_to_num(columns[4])
        return cls(*columns)

    @property
    def answered(self) -> np.ndarray:
        return np.asarray(~np.isnan(self.logp))

    @property
    def ended(self) -> np.ndarray:
        """Whether the answer ended by itself."""
        return np.asarray(~np.isnan(self.end_logp))

    def steps(self, include_eos: bool) -> np.ndarray:
        """Steps that count."""
        return np.asarray(self.tokens + (self.ended if include_eos else 0))


def uncertainty(measure: Measure, totals: Totals, include_eos: bool) -> np.ndarray:
    """U of every row, higher is less certain, [N]; NaN where no step counts."""

    def whole(own: np.ndarray, end: np.ndarray) -> np.ndarray:
        return own + np.nan_to_num(end) if include_eos else own

    n = totals.steps(include_eos)
    if measure == "mean_entropy":
        values = whole(totals.entropy, totals.end_entropy) / np.maximum(n, 1)
    elif measure == "least_confidence":
        values = -whole(totals.logp, totals.end_logp)
    elif measure == "mean_margin":
        values = -whole(totals.margin, totals.end_margin) / np.maximum(n, 1)
    else:
        values = -(np.fmin(totals.min_margin, totals.end_margin) if include_eos else totals.min_margin)
    return np.where(n > 0, values, np.nan)


def correlation(x: np.ndarray, y: np.ndarray, ranked: bool) -> float:
    """Pearson's r, or Spearman's rho (ties share their mean rank) where `ranked`; NaN where either is constant."""
    if ranked:
        x, y = _ranks(x), _ranks(y)
    if len(x) == 0 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return float("nan")
    return float(np.corrcoef(x, y)[0, 1])


def _ranks(values: np.ndarray) -> np.ndarray:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(counts) - (counts - 1) / 2)[inverse])


@component
class Uncertainty:
    """Uncertainty scores of Experimental Design (Bhatt et al., Findings of ACL 2024, section 3). Higher U is chosen
    first.

    With p_t the model's next-token distribution at step t of an answer of T tokens y_t, and p_t(1) >= p_t(2) the two
    largest probabilities:

    - `mean_entropy`: mean over t of H(p_t);
    - `least_confidence`: -sum_t ln p_t(y_t), the order of minus the product of p_t(y_t) without its underflow;
    - `mean_margin`: minus the mean over t of p_t(1) - p_t(2);
    - `min_margin`: minus the smallest p_t(1) - p_t(2).

    The answer is the model's own, greedy one, so that no response is looked at: annotation-free. `least_confidence`
    and `min_margin` grow with T: the correlations of U with T are in the notes (where neither is constant), beside
    the share of answers that the cap cut.

    There is no official code. The cap is the same for all rows: a prompt that leaves no room for it is invalid.

    Attributes:
        measure: which score.
        source: `greedy` (the paper's), or `gold`: the response of the row itself, in one forward pass. That is a
            different method: it looks at the responses, and `least_confidence` is then the response's summed loss.
        max_new_tokens: cap of a greedy answer.
        include_eos: whether the end-of-turn step counts.
    """

    measure: Measure
    source: Literal["greedy", "gold"] = "greedy"
    max_new_tokens: int = 256
    include_eos: bool = True

    version: ClassVar[int] = 2
    paper: ClassVar[str] = "Bhatt et al., Findings of ACL 2024, arXiv 2401.06692"
    cost_class: ClassVar[str] = "prefill and 1 greedy answer a row (source=gold: 1 forward pass)"
    fixed_share: ClassVar[float | None] = None

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise ValueError("max_new_tokens: must be at least 1")
        if self.source == "gold" and self.max_new_tokens != 256:
            raise ValueError("max_new_tokens: nothing is generated with source=gold; leave it out")

    @property
    def needs(self) -> frozenset[Need]:
        return frozenset({"task", "scorer"} if self.source == "greedy" else {"responses", "task", "scorer"})

    def check(self, context: Context) -> None:
        if self.source == "gold":
            return
        chat, cap = context.chat, self.max_new_tokens
        if not any(len(chat.ids(chat.text(turns))) + cap <= chat.max_length for turns in context.turns):
            raise UserError(
                f"selector.max_new_tokens={cap}: no prompt of the pool leaves room for that many tokens within the "
                f"scorer's max_length {chat.max_length}: lower max_new_tokens or raise max_length"
            )

    def score(self, context: Context) -> Scores:
        totals = self._totals(context)
        values = uncertainty(self.measure, totals, self.include_eos)
        no_answer = NO_RESPONSE
        if self.source == "greedy":
            no_answer = f"the prompt leaves no room for max_new_tokens={self.max_new_tokens} within max_length"
        reasons = tuple(
            "" if valid else (EMPTY if answered else no_answer)
            for valid, answered in zip(~np.isnan(values), totals.answered, strict=True)
        )
        return scores(values, values, reasons, notes=_notes(values, totals, self.include_eos))

    def _totals(self, context: Context) -> Totals:
        """Stored stages that know nothing of `measure` and `include_eos`."""
        if self.source == "greedy":
            return self._of_greedy_answers(context)
        arrays = context.represent_rows(
            "uncertainty",
            VERSION,
            {"source": "gold"},
            ("responses", "prompt", "scorer"),
            lambda positions: _of_responses(context, positions),
        )
        return Totals(**arrays)

    def _of_greedy_answers(self, context: Context) -> Totals:
        """Keyed by the prompts, each of which is answered once: rows that got other responses are not decoded again."""
        turns = context.turns
        different, first, place = np.unique([key_of(one) for one in turns], return_index=True, return_inverse=True)
        blocks = []
        for start in range(0, len(different), ROWS_A_BLOCK):
            block = slice(start, start + ROWS_A_BLOCK)
            settings = {
                "source": "greedy",
                "max_new_tokens": self.max_new_tokens,
                "prompts": key_of(different[block].tolist()),
            }
            build = partial(self._decode, context, [turns[position] for position in first[block]])
            blocks.append(context.represent("uncertainty", VERSION, settings, ("scorer",), build))
        return Totals(**{name: np.concatenate([block[name] for block in blocks])[place] for name in blocks[0]})

    def _decode(self, context: Context, turns: Sequence[list[Turn]]) -> dict[str, np.ndarray]:
        chat = context.chat
        prompts = [chat.ids(chat.text(one)) for one in turns]
        fits = [len(prompt) + self.max_new_tokens <= chat.max_length for prompt in prompts]
        found = iter(
            context.scorer.greedy_uncertainty(
                [prompt for prompt, fit in zip(prompts, fits, strict=True) if fit], self.max_new_tokens
            )
        )
        return asdict(Totals.of([next(found) if fit else None for fit in fits]))


def _of_responses(context: Context, positions: range) -> dict[str, np.ndarray]:
    chat = context.chat
    pairs = [chat.pair(context.task, context.pool[position]) for position in positions]
    given = [None if pair is None or pair.response == (chat.end_of_turn,) else pair for pair in pairs]
    found = iter(context.scorer.response_uncertainty([pair for pair in given if pair is not None]))
    return asdict(Totals.of([None if pair is None else next(found) for pair in given]))


def _notes(values: np.ndarray, totals: Totals, include_eos: bool) -> dict[str, float | int | str]:
    notes: dict[str, float | int | str] = {}
    valid = ~np.isnan(values)
    if valid.any():
        notes["answers_cut_share"] = float((~totals.ended)[valid].mean())
        notes["answer_tokens_mean"] = float(totals.steps(include_eos)[valid].mean())
    for name, ranked in (("pearson_with_length", False), ("spearman_with_length", True)):
        found = correlation(values[valid], totals.steps(include_eos)[valid], ranked)
        if not np.isnan(found):
            notes[name] = found
    return notes
