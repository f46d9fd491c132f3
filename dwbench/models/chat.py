"""Conversations as token ids: the one place where prompts are rendered and responses are cut.

Ids are made by concatenation, `context ids + response ids`. A joined text is never tokenised, so nobody has to guess
where its response begins, and training, scoring and evaluation see the same ids.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jinja2

from dwbench.data.base import Example, Task, Turn
from dwbench.errors import UserError

TEMPLATE_DATE = "26 Jul 2024"
"""Llama-3.2's template writes today's date into every prompt unless it is given one."""


@dataclass(frozen=True)
class Pair:
    """A context and the response to be scored after it, as token ids."""

    context: tuple[int, ...]
    response: tuple[int, ...]

    @property
    def length(self) -> int:
        return len(self.context) + len(self.response)


@dataclass(frozen=True)
class Chat:
    """A tokenizer with a chat template.

    Attributes:
        tokenizer: a fast transformers tokenizer.
        max_length: longest sequence in tokens.
    """

    tokenizer: Any
    max_length: int

    def __post_init__(self) -> None:
        name = self.tokenizer.name_or_path
        if self.tokenizer.chat_template is None:
            raise UserError(f"model {name}: its tokenizer has no chat template: take an instruct model")
        if self.tokenizer.eos_token_id is None:
            raise UserError(f"model {name}: its tokenizer has no token that ends a turn (eos): take an instruct model")

    @functools.cached_property
    def end_of_turn(self) -> int:
        """The id that ends an assistant turn and is learnt with the response.

        It is the special token that the template puts behind an answer; where it puts none, the tokenizer's `eos`. The
        two differ for Gemma (`<end_of_turn>`, `<eos>`) and Phi-3 (`<|end|>`, `<|endoftext|>`).
        """
        answer = "previous answer"
        rendered = self._rendered([("user", "?"), ("assistant", answer)], add_generation_prompt=False)
        behind = self.ids(rendered.rpartition(answer)[2].lstrip())
        if rendered.count(answer) == 1 and behind and behind[0] in self.tokenizer.added_tokens_decoder:
            return behind[0]
        return int(self.tokenizer.eos_token_id)

    def text(self, turns: Sequence[Turn]) -> str:
        """The rendered conversation up to and with the header of the answer.

        Raises UserError for turns that the template refuses (some want user and assistant by turns).
        """
        return self._rendered(self._foldable(turns), add_generation_prompt=True)

    def _rendered(self, turns: Sequence[Turn], add_generation_prompt: bool) -> str:
        messages = [{"role": role, "content": content} for role, content in turns]
        try:
            rendered: str = self.tokenizer.apply_chat_template(
                messages,
                tokenize=False,
                add_generation_prompt=add_generation_prompt,
                date_string=TEMPLATE_DATE,
            )
        except jinja2.TemplateError as error:
            roles = ", ".join(message["role"] for message in messages)
            raise UserError(
                f"model {self.tokenizer.name_or_path}: its chat template refuses turns of {roles} ({error}): mend the "
                f"row that begins {messages[-1]['content'][:60]!r}, or take another model"
            ) from error
        return rendered

    def ids(self, text: str) -> tuple[int, ...]:
        """Ids of a rendered text or a part of it; no special tokens are added (the template spells them out)."""
        return tuple(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def answer_header(self) -> tuple[int, ...]:
        """Ids of the bare header of an answer, a BOS in front where prompts have one: a context that asks nothing.

        Templates without such a header (Mistral's) give an empty user turn in its place.
        """
        without = self._rendered([("user", "?")], add_generation_prompt=False)
        whole = self.text([("user", "?")])
        header = whole.removeprefix(without)
        if not header or header == whole:
            return self.ids(self.text([("user", "")]))
        bos = self.tokenizer.bos_token
        if bos and whole.startswith(bos) and not header.startswith(bos):
            header = bos + header
        return self.ids(header)

    def single_token(self) -> tuple[int, ...]:
        """The BOS, or the end-of-turn token where there is none: the shortest context that a model can predict from."""
        bos = self.tokenizer.bos_token_id
        return (self.end_of_turn if bos is None else int(bos),)

    def context(self, task: Task, example: Example) -> tuple[int, ...]:
        return self.ids(self.text(task.turns(example)))

    def response(self, example: Example) -> tuple[int, ...]:
        """Ids of the response with the end-of-turn token behind it."""
        return (*self.ids(example.response), self.end_of_turn)

    def pair(self, task: Task, example: Example) -> Pair | None:
        """Context and response within `max_length`, or None where no token of the response is left."""
        context = self.context(task, example)
        response = cut_response(len(context), self.response(example), self.max_length)
        return Pair(context, response) if response else None

    def _foldable(self, turns: Sequence[Turn]) -> Sequence[Turn]:
        """The turns, the system turn folded into the first user turn for templates that know no system role."""
        if not turns or turns[0][0] != "system" or self._knows_system:
            return turns
        (_, system), (role, content), *rest = turns
        return [(role, f"{system}\n\n{content}"), *rest]

    @functools.cached_property
    def _knows_system(self) -> bool:
        probe = [{"role": "system", "content": "PROBE"}, {"role": "user", "content": "?"}]
        try:
            return "PROBE" in self.tokenizer.apply_chat_template(probe, tokenize=False)
        except jinja2.TemplateError:
            return False  # the template itself raises for a role that it does not know


def cut_response(n_context: int, response: Sequence[int], max_length: int) -> tuple[int, ...]:
    """The head of `response` that fits behind a context of `n_context` tokens; the context is never cut.

    A response that is cut loses its end-of-turn token with its tail. Empty where nothing fits.
    """
    return tuple(response[: max(0, max_length - n_context)])
