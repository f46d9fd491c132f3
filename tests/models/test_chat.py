import copy

import pytest

from dwbench.data.base import Example
from dwbench.errors import UserError
from dwbench.models.chat import Chat, cut_response
from dwbench.models.loading import load_tokenizer
from dwbench.models.spec import LM

STRICT = (
    "{% for message in messages %}{% if (message.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}[{{ message.content }}]{% endfor %}"
)


@pytest.fixture
def strict(tiny_lm: LM) -> Chat:
    """A template that knows no system role and wants user and assistant by turns, as Mistral's does."""
    tokenizer = load_tokenizer(tiny_lm).tokenizer
    tokenizer.chat_template = STRICT
    return Chat(tokenizer, 512)


def test_a_system_turn_goes_into_the_first_user_turn_where_there_is_no_such_role(strict: Chat) -> None:
    assert strict.text([("system", "Be brief."), ("user", "Why?")]) == "[Be brief.\n\nWhy?]"


def test_turns_that_a_template_refuses_are_told_in_one_line(strict: Chat) -> None:
    with pytest.raises(UserError, match=r"refuses turns of user, user \(roles must alternate\).* begins 'two\\n3'"):
        strict.text([("user", "one"), ("user", "two\n3")])


def test_a_tokenizer_without_end_of_turn_is_refused(tiny_lm: LM) -> None:
    tokenizer = load_tokenizer(tiny_lm).tokenizer
    tokenizer.eos_token = None
    with pytest.raises(UserError, match="has no token that ends a turn"):
        Chat(tokenizer, 512)


TURNS = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
HEADER = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
INST = "{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]{% else %}"
END = "{% endif %}{% endfor %}"


@pytest.mark.parametrize(
    ("template", "eos", "end"),
    [
        (TURNS + HEADER, "<|im_end|>", "<|im_end|>"),  # SmolLM2, Qwen, Llama 3
        (TURNS + HEADER, "<|endoftext|>", "<|im_end|>"),  # Gemma
        # Phi-3
        (TURNS + "{% if not add_generation_prompt %}{{ eos_token }}{% endif %}", "<|endoftext|>", "<|im_end|>"),
        (INST + " {{ m.content }}{{ eos_token }}" + END, "<|im_end|>", "<|im_end|>"),  # Mistral
        (INST + " {{ m.content }} <|im_end|>" + END, "<|endoftext|>", "<|im_end|>"),  # a space, as Llama 2 has it
        (TURNS.replace("<|im_end|>", "") + HEADER, "<|endoftext|>", "<|endoftext|>"),
        (TURNS.replace("<|im_end|>", "###") + HEADER, "<|endoftext|>", "<|endoftext|>"),
        ("{{ messages[0].content }}", "<|endoftext|>", "<|endoftext|>"),
    ],
)
def test_an_answer_ends_with_the_token_that_the_template_puts_behind_it(
    template: str, eos: str, end: str, tiny_lm: LM
) -> None:
    tokenizer = copy.deepcopy(load_tokenizer(tiny_lm).tokenizer)
    tokenizer.chat_template, tokenizer.eos_token = template, eos
    chat = Chat(tokenizer, 512)
    assert tokenizer.decode([chat.end_of_turn]) == end
    row = Example(id="0", uid="0", index=0, input="?", response="Yes", references=("Yes",))
    assert tokenizer.decode(chat.response(row)) == f"Yes{end}"


def test_a_response_is_cut_and_a_context_never() -> None:
    assert cut_response(3, [1, 2, 3], 5) == (1, 2)
    assert cut_response(7, [1, 2, 3], 5) == ()
