"""SelectIT: the scorer's own rating of a row, by how sure it is of it and how little it depends on the question."""

from typing import ClassVar, Literal

import numpy as np

from dwbench.component import component
from dwbench.data.base import Example
from dwbench.representations.ratings import rating_logits, rating_question, softmax
from dwbench.rules.ranking import Scores, scores
from dwbench.selectors.context import Context
from dwbench.selectors.material import Need
from dwbench.selectors.rated import check_ratings

VERSION = 1

RATINGS = 5

QUESTIONS = (
    "Here is an instruction and a response to it.\n\nInstruction:\n{instruction}\n\nResponse:\n{response}\n\n"
    "How good is the response? Rate it from 1 (poor) to 5 (excellent). Answer with the number alone.",
    "Grade this example of training data for an assistant.\n\nInstruction:\n{instruction}\n\nResponse:\n{response}\n\n"
    "Give a grade from 1 (useless) to 5 (very useful), as a single number.",
    "Read what a user asked and what an assistant replied.\n\nUser:\n{instruction}\n\nAssistant:\n{response}\n\n"
    "On a scale from 1 to 5, 5 being best, how accurate and helpful is the reply? Reply with one number only.",
    "Instruction:\n{instruction}\n\nResponse:\n{response}\n\n"
    "Does the response do what the instruction asks for? Score it: 1 means not at all, 5 means perfectly. Write the "
    "score and nothing else.",
    "You check the quality of a data set. One of its entries:\n\nInstruction:\n{instruction}\n\n"
    "Response:\n{response}\n\nRate the quality of this entry with a whole number from 1 (lowest) to 5 (highest):",
)
"""The rating prompts, user turns in the scorer's chat template."""

NO_ROOM = "a question with its prompt and response does not fit within max_length"


def token_scores(probabilities: np.ndarray) -> np.ndarray:
    """The likeliest rating times how far it stands above the others, sum_j (p_max - p_j) / (K - 1).

    Args:
        probabilities: of the ratings 1 to K, [..., K]. Of equally likely ones the lowest counts.

    Returns:
        [...]: 0 where all are alike, K for a sure K; NaN where a probability is.
    """
    highest = probabilities.max(axis=-1)
    ahead = (highest[..., None] - probabilities).sum(axis=-1) / (probabilities.shape[-1] - 1)
    return np.asarray((probabilities.argmax(axis=-1) + 1) * ahead)


def sentence_scores(tokens: np.ndarray, alpha: float) -> np.ndarray:
    """mean / (1 + alpha std) over the questions, the last axis: [..., questions] to [...]; std of the population."""
    return np.asarray(tokens.mean(axis=-1) / (1 + alpha * tokens.std(axis=-1)))


@component
class SelectIT:
    """SelectIT (Liu et al., NeurIPS 2024, "Selective Instruction Tuning by Utilizing the Uncertainty Awareness of Large
    Language Models"): the scorer rates prompt and response by each of 5 questions (`QUESTIONS`, our own wording), read
    off the probabilities of the tokens 1 to 5 where its answer begins.

    Token level: the likeliest rating times how far its probability stands above the others (`token_scores`). Sentence
    level, the score: mean over the questions / (1 + alpha std). Higher is chosen first. The paper takes 20 %. Its model
    level, a mean over models of several sizes, is left out: one scorer rates. A row that does not fit into
    every question is invalid.

    The reference's code differs: its softmax is over the ratings' probabilities, not their logits, which leaves a sure
    rating hardly above the others (`variant: reference`); a row that fails is skipped and all later ones get the
    score of another; the ids of Llama-2's tokens are fixed, here they are looked up.

    Attributes:
        alpha: weight of the spread between questions.
    """

    alpha: float = 0.2
    variant: Literal["paper", "reference"] = "paper"

    version: ClassVar[int] = 1
    paper: ClassVar[str] = "Liu et al., NeurIPS 2024, arXiv 2402.16705"
    cost_class: ClassVar[str] = "5 forward passes"
    fixed_share: ClassVar[float | None] = None

    def __post_init__(self) -> None:
        if self.alpha < 0:
            raise ValueError(f"alpha: must be at least 0, not {self.alpha}")

    @property
    def needs(self) -> frozenset[Need]:
        return frozenset({"responses", "task", "scorer"})

    def check(self, context: Context) -> None:
        """Raises UserError where the ratings are not single tokens, and where no row fits into the questions."""
        check_ratings(context, "selectit", (_asked(context, row) for row in context.pool), RATINGS)

    def score(self, context: Context) -> Scores:
        logits = context.represent_rows(
            "selectit_ratings",
            VERSION,
            {"questions": list(QUESTIONS)},
            ("responses", "prompt", "scorer"),
            lambda positions: {"logits": _logits(context, positions)},
        )["logits"]
        probabilities = softmax(logits)
        if self.variant == "reference":
            probabilities = softmax(probabilities)
        values = sentence_scores(token_scores(probabilities), self.alpha)
        return scores(values, values, tuple(NO_ROOM if invalid else "" for invalid in np.isnan(values)))


def _logits(context: Context, positions: range) -> np.ndarray:
    """[positions, questions, ratings]; NaN where a question does not fit."""
    asked = [question for position in positions for question in _asked(context, context.pool[position])]
    found = rating_logits(context.scorer, asked, RATINGS, "ratings by 5 questions")
    return found.reshape(len(positions), len(QUESTIONS), RATINGS)


def _asked(context: Context, row: Example) -> list[str]:
    """The questions about one row."""
    instruction = "\n\n".join(content for _, content in context.task.turns(row))
    return [rating_question(question, instruction, row.response) for question in QUESTIONS]
