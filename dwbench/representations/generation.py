"""Greedy answers for a batch of prompts, each row stopped as soon as its answer is complete."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


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
    tokenizer: Any,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    is_complete: Callable[[str], bool] | None = None,
    observe: "Callable[[torch.Tensor], None]" = lambda logits: None,
) -> list[Answer]:
    """Greedy continuations of one batch of prompts.

    A row ends at the model's end token, when `is_complete(text so far)` says so, or at `max_new_tokens`. The model's
    own sampling defaults (temperature, repetition penalty) don't apply. `observe` is shown the logits [rows,
    vocabulary] of every step in float32, those of rows that have ended included.
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
    ends = end_tokens(model, tokenizer)
    complete = is_complete or (lambda text: False)

    class Observed(LogitsProcessor):
        def __call__(self, input_ids: "torch.Tensor", scores: "torch.Tensor") -> "torch.Tensor":
            observe(scores)
            return scores

    class Complete(StoppingCriteria):
        def __call__(self, input_ids: "torch.Tensor", scores: Any, **options: Any) -> "torch.Tensor":
            texts = tokenizer.batch_decode(input_ids[:, longest:], skip_special_tokens=True)
            return torch.tensor([complete(text) for text in texts], device=input_ids.device)

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
            stopping_criteria=StoppingCriteriaList([Complete()] if is_complete else []),
        )
    return [_answer(tokenizer, row[longest:].tolist(), ends, max_new_tokens, complete) for row in output.cpu()]


def end_tokens(model: Any, tokenizer: Any) -> list[int]:
    """Ids that end an answer: the tokenizer's end of turn first, then those of the model's own configuration."""
    configured = model.generation_config.eos_token_id
    more = configured if isinstance(configured, list) else [configured] if configured is not None else []
    return list(dict.fromkeys([int(tokenizer.eos_token_id), *(int(token) for token in more)]))


def _answer(tokenizer: Any, new: list[int], ends: list[int], cap: int, is_complete: Callable[[str], bool]) -> Answer:
    """Cut what was decoded while other rows of the batch were still at work."""
    end = next((position for position, token in enumerate(new) if token in ends), None)
    tokens = new if end is None else new[:end]
    text = tokenizer.decode(tokens, skip_special_tokens=True)
    complete = is_complete(text)
    # Behind an answer that was complete stands padding, which is the end token too: it was not decoded.
    n_tokens = len(tokens) + (end is not None and not complete)
    return Answer(text=text, n_tokens=n_tokens, finished=end is not None or complete or n_tokens < cap)
