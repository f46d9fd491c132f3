"""DEITA: rows rated as complex and well answered, none too close to one that is chosen already."""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from dwbench.component import component
from dwbench.data.base import Turn
from dwbench.representations.ratings import expected_ratings, rating_logits, rating_question
from dwbench.rules.ranking import Scores, scores
from dwbench.rules.repr_filter import filtered
from dwbench.selectors.context import Context
from dwbench.selectors.material import Need
from dwbench.selectors.picks import pool_vectors
from dwbench.selectors.rated import check_ratings

VERSION = 1

RATINGS = 6

COMPLEXITY = (
    "How complex is the following request? Count the conditions that it sets, the steps that it takes and the "
    "knowledge that it asks for.\n\nRequest:\n{instruction}\n\n"
    "Rate its complexity from 1 (very simple) to 6 (very complex). Answer with the number alone."
)
QUALITY = (
    "How good is the following response to a request? Look at whether it helps, fits, is correct, and goes as deep "
    "as it should.\n\nRequest:\n{instruction}\n\nResponse:\n{response}\n\n"
    "Rate the quality of the response from 1 (very poor) to 6 (very good). Answer with the number alone."
)
"""The rating prompts, user turns in the scorer's chat template."""

NO_ROOM = "a rating prompt with one of its exchanges does not fit within max_length"


def exchanges(turns: Sequence[Turn], response: str) -> list[tuple[str, str]]:
    """What was asked and what was answered, in order; `response` answers what is asked last.

    System and user turns in a row are one question, a blank line between them; an answer to nothing is left out.
    """
    found = []
    asked: list[str] = []
    for role, content in [*turns, ("assistant", response)]:
        if role != "assistant":
            asked.append(content)
        elif asked:
            found.append(("\n\n".join(asked), content))
            asked = []
    return found


@component
class Deita:
    """DEITA (Liu et al., ICLR 2024, "What Makes Good Data for Alignment?"): complexity times quality, then diversity.

    Score: sum over the row's exchanges of complexity x quality, each the expected rating sum_j j p(j) over the tokens 1
    to 6 where the scorer's answer begins. Higher is chosen first, unless the row's embedding has a cosine above `tau`
    with one chosen before (Repr Filter). Where that leaves fewer than k rows, `tau` is raised until k are found. A
    sum favours rows of several exchanges. A row with an exchange that does not fit is invalid.

    The paper has two LLaMA-13B scorers, trained on ratings by ChatGPT. Here one scorer, any instruct model, rates both,
    by the prompts `COMPLEXITY` and `QUALITY` in its chat template; a model trained to rate is used by naming it as
    `scorer_model`, if its tokenizer has a chat template. So what is compared is the recipe, not the paper's scorers.
    Embeddings are those of the shared encoder, of all turns and the response; the paper's are a LLaMA's last token.

    The reference's code differs: a rating that can't be read becomes 3.0; ids of the ratings' tokens are fixed to
    LLaMA's, here they are looked up; with batches a row is also held against rejected rows of its batch.

    Attributes:
        tau: highest cosine with a chosen row.
    """

    tau: float = 0.9

    version: ClassVar[int] = 1
    paper: ClassVar[str] = "Liu et al., ICLR 2024, arXiv 2312.15685"
    cost_class: ClassVar[str] = "2 forward passes an exchange; 1 embedding, cosines with the chosen"
    fixed_share: ClassVar[float | None] = None

    def __post_init__(self) -> None:
        if not -1 <= self.tau <= 1:
            raise ValueError(f"tau: must be from -1 to 1, not {self.tau}")

    @property
    def needs(self) -> frozenset[Need]:
        return frozenset({"responses", "task", "scorer", "embedder"})

    def check(self, context: Context) -> None:
        """Raises UserError where the ratings are not single tokens, and where no row fits into the rating prompts."""
        task = context.task
        of_rows = (exchanges(task.turns(row), row.response) for row in context.pool)
        questions = (
            [rating_question(prompt, *exchange) for exchange in found for prompt in (COMPLEXITY, QUALITY)]
            for found in of_rows
        )
        check_ratings(context, "deita", questions, RATINGS)

    def choose(self, context: Context, k: int, allowed: np.ndarray) -> Scores:
        values = context.represent_rows(
            "deita_ratings",
            VERSION,
            {"prompts": [COMPLEXITY, QUALITY]},
            ("responses", "prompt", "scorer"),
            lambda positions: {"score": _rated(context, positions)},
        )["score"]
        candidates = np.flatnonzero(allowed & ~np.isnan(values))
        best_first = candidates[np.argsort(-values[candidates], kind="stable")]
        vectors = pool_vectors(context, "full")
        found = filtered(vectors, best_first, min(k, len(best_first)), self.tau)
        preference, tier = values.copy(), np.where(allowed, 1, 2)
        preference[found.picks] = np.arange(len(found.picks), 0, -1)
        tier[found.picks] = 0
        reasons = tuple(NO_ROOM if invalid else "" for invalid in np.isnan(values))
        return scores(values, preference, reasons, tier, {"tau": found.tau})


def _rated(context: Context, positions: range) -> np.ndarray:
    """Sum over the exchanges of complexity x quality, [positions]; NaN where a rating prompt does not fit."""
    task, rows = context.task, [context.pool[position] for position in positions]
    of_rows = [exchanges(task.turns(row), row.response) for row in rows]
    row_of = np.repeat(np.arange(len(rows)), [len(found) for found in of_rows])
    complexity, quality = (
        expected_ratings(
            rating_logits(
                context.scorer,
                [rating_question(prompt, *exchange) for found in of_rows for exchange in found],
                RATINGS,
                f"ratings ({name})",
            )
        )
        for name, prompt in (("complexity", COMPLEXITY), ("quality", QUALITY))
    )
    return np.bincount(row_of, weights=complexity * quality, minlength=len(rows))
