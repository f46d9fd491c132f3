import pytest

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


def test_a_response_is_cut_and_a_context_never() -> None:
    assert cut_response(3, [1, 2, 3], 5) == (1, 2)
    assert cut_response(7, [1, 2, 3], 5) == ()
