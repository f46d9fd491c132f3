"""Greedy answers for a batch of prompts, each row stopped as soon as its answer is complete."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dwbench.models.chat import Chat

if TYPE_CHECKING:
    import torch

SETTLING = "\n:"
"""What a token must hold to complete an answer: answers end with a line, or where the next label begins."""


@dataclass(frozen=True)
class Answer:
    """A generated answer.

    Attributes:
        text: decoded new tokens, special tokens left out.
        n_tokens: tokens decoded, the end-of-turn token included.
        finished: ended by itself or complete; false where the cap cut it.
    """

    text: str
    n_tokens: int
    finished: bool


def greedy(
    model: Any,
    chat: Chat,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    is_complete: Callable[[str], bool] | None = None,
    observe: "Callable[[torch.Tensor], None]" = lambda logits: None,
) -> list[Answer]:
    """Greedy continuations of one batch of prompts.

    A row ends at the model's end token, when `is_complete(text so far)` says so, or at `max_new_tokens`. `is_complete`
    is asked only behind a token with a character of `SETTLING`: to decode all text at every step is quadratic in its
    length. Its answer must not change anywhere else. The model's own sampling defaults (temperature, repetition
    penalty) don't apply. `observe` is shown the logits [rows, vocabulary] of every step in float32, those of rows that
    have ended included.
    """
    import torch
    from transformers import (
        GenerationConfig,
        LogitsProcessor,
        LogitsProcessorList,
        StoppingCriteria,
        StoppingCriteriaList,
    )

    longest = max(len(prompt) for prompt in prompts)
    ids = torch.zeros((len(prompts), longest), dtype=torch.long)
    mask = torch.zeros((len(prompts), longest), dtype=torch.long)
    for row, prompt in enumerate(prompts):
        ids[row, longest - len(prompt) :] = torch.tensor(list(prompt))
        mask[row, longest - len(prompt) :] = 1
    tokenizer, ends = chat.tokenizer, end_tokens(model, chat)
    complete = is_complete or (lambda text: False)

    @functools.cache
    def settles(token: int) -> bool:
        return any(mark in tokenizer.decode([token]) for mark in SETTLING)

    class Observed(LogitsProcessor):
        def __call__(self, input_ids: "torch.Tensor", scores: "torch.Tensor") -> "torch.Tensor":
            observe(scores)
            return scores

    class Complete(StoppingCriteria):
        def __call__(self, input_ids: "torch.Tensor", scores: Any, **options: Any) -> "torch.Tensor":
            done = [
                settles(newest) and complete(tokenizer.decode(input_ids[row, longest:], skip_special_tokens=True))
                for row, newest in enumerate(input_ids[:, -1].tolist())
            ]
            return torch.tensor(done, device=input_ids.device)

    config = GenerationConfig(  # type: ignore[no-untyped-call]
        do_sample=False,
        num_beams=1,
        temperature=1.0,
        top_p=1.0,
        top_k=50,
        repetition_penalty=1.0,
        max_new_tokens=max_new_tokens,
        eos_token_id=ends,
        pad_token_id=ends[0],
    )
    with torch.inference_mode():
        output = model.generate(
            input_ids=ids.to(model.device),
            attention_mask=mask.to(model.device),
            generation_config=config,
            logits_processor=LogitsProcessorList([Observed()]),
            stopping_criteria=StoppingCriteriaList([] if is_complete is None else [Complete()]),
        )
    return [_answer(tokenizer, row[longest:].tolist(), ends, max_new_tokens, complete) for row in output.cpu()]


def end_tokens(model: Any, chat: Chat) -> list[int]:
    """Ids that end an answer: the one that is learnt with responses first, then those of tokenizer and model."""
    configured = model.generation_config.eos_token_id
    more = configured if isinstance(configured, list) else [configured] if configured is not None else []
    return list(dict.fromkeys([chat.end_of_turn, int(chat.tokenizer.eos_token_id), *(int(token) for token in more)]))


def _answer(tokenizer: Any, new: list[int], ends: list[int], cap: int, is_complete: Callable[[str], bool]) -> Answer:
    """Cut what was decoded while other rows of the batch were still at work."""
    end = next((position for position, token in enumerate(new) if token in ends), None)
    tokens = new if end is None else new[:end]
    text = tokenizer.decode(tokens, skip_special_tokens=True)
    complete = is_complete(text)
    # Behind an answer that was complete stands padding, which is the end token too: it was not decoded.
    n_tokens = len(tokens) + (end is not None and not complete)
    return Answer(text=text, n_tokens=n_tokens, finished=end is not None or complete or n_tokens < cap)
