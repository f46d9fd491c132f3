"""Ratings by an instruct model: it is asked for a number, and how likely each is read off the next token."""

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from dwbench.errors import UserError
from dwbench.models.chat import Chat
from dwbench.representations.scorer import Scorer


class RatingTokens(NamedTuple):
    """How a tokenizer writes ratings at the start of an answer.

    Attributes:
        lead: what stands in front of each of them: the mark of a space with SentencePiece, else nothing.
        tokens: the ids of 1, 2, ...
    """

    lead: tuple[int, ...]
    tokens: tuple[int, ...]


def rating_tokens(chat: Chat, most: int) -> RatingTokens:
    """The ratings 1 to `most`. Raises UserError unless each is one token, behind the same lead."""
    written = [chat.ids(str(number)) for number in range(1, most + 1)]
    lead = written[0][:-1]
    tokens = tuple(ids[-1] for ids in written)
    if any(ids[:-1] != lead for ids in written) or len(set(tokens)) < most:
        raise UserError(
            f"model {chat.tokenizer.name_or_path}: its tokenizer does not write each of the ratings 1 to {most} as one "
            "token of its own: take another scorer_model"
        )
    return RatingTokens(lead, tokens)


def rating_logits(scorer: Scorer, questions: Sequence[str], most: int, what: str = "ratings") -> np.ndarray:
    """Logits of the ratings 1 to `most` where the answer to each question begins, [questions, most] float64.

    A row of NaN for a question that does not fit within the model's maximum length with its rating.
    """
    chat = scorer.chat
    lead, tokens = rating_tokens(chat, most)
    prompts = [(*chat.ids(chat.text([("user", question)])), *lead) for question in questions]
    # Copies share one pass: in two batches, rounding would tell them apart.
    fitting = [prompt for prompt in dict.fromkeys(prompts) if len(prompt) < chat.max_length]
    logits = scorer.next_token_logits(fitting, tokens, what)
    known = dict(zip(fitting, logits, strict=True))
    return np.array([known.get(prompt, np.full(most, np.nan)) for prompt in prompts]).reshape(len(prompts), most)


def expected_ratings(logits: np.ndarray) -> np.ndarray:
    """sum_j j softmax(logits)_j over the last axis, j from 1: [..., ratings] to [...], NaN where a logit is."""
    return np.asarray(softmax(logits) @ np.arange(1, logits.shape[-1] + 1))


def softmax(logits: np.ndarray) -> np.ndarray:
    """Over the last axis, float64."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


def rating_question(template: str, instruction: str, response: str = "") -> str:
    """`template` with its `{instruction}` and `{response}` filled in; braces in the texts themselves are left alone."""
    texts = {"{instruction}": instruction, "{response}": response}
    return re.sub("|".join(map(re.escape, texts)), lambda found: texts[found[0]], template)
