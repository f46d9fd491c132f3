"""Prompts with several examples: their text, their parts, and how answers are read back."""

import copy
import dataclasses
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rows import TASK, examples

from dwbench.data.base import Task
from dwbench.metrics import strict_number
from dwbench.models.chat import Chat
from dwbench.models.spec import LM
from dwbench.representations.models import LoadedModels
from dwbench.selectors.icl import ICLPrompt, answers_by_index, build_prompt, demo_text, is_complete

MULTILINE = dataclasses.replace(TASK, multiline=True)
MATHS = dataclasses.replace(TASK, multiline=True, metric="exact_match")

DEMOS = examples((("The pool opens late.\n", "Pool late\n"), ("Das Café – 🎉!", "\nCafé 🎉")))
QUERIES = examples((("Is the bus late?", "Yes"), ("  The ferry waits.", "Ferry waits")))

PROMPT = """\
<|im_start|>system
You write one line for each notice.<|im_end|>
<|im_start|>user
Here are some examples.

Notice: The pool opens late.

Headline: Pool late


Notice: Das Café – 🎉!
Headline:{space}
Café 🎉

Now, do the same for these, one line each.

Notice 1: Is the bus late?
Notice 2:   The ferry waits.

Answer in this form:
Headline 1: <...>
Headline 2: <...><|im_end|>
<|im_start|>assistant
"""

WITH_BOS = (
    "{{ bos_token }}{% for m in messages %}[{{ m.role }}] {{ m.content | trim }}{{ eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}[assistant] {% endif %}"
)
NO_SYSTEM_ROLE = (
    "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    "<{{ m.role }}>{{ m.content }}\n{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)


@pytest.fixture
def chat(tiny_lm: LM, models: LoadedModels) -> Chat:
    return models.chat(tiny_lm)


def with_template(chat: Chat, template: str, bos: str | None = None) -> Chat:
    tokenizer = copy.deepcopy(chat.tokenizer)
    tokenizer.chat_template = template
    if bos is not None:
        tokenizer.bos_token = bos
    return Chat(tokenizer, chat.max_length)


def test_the_text_of_a_prompt(chat: Chat) -> None:
    """What the model sees. A change moves all published scores: raise the versions of what uses it."""
    prompt = build_prompt(chat, TASK, DEMOS, QUERIES)
    assert chat.tokenizer.decode(prompt.ids) == PROMPT.replace("{space}", " ")


def parts_of(chat: Chat, prompt: ICLPrompt) -> list[str]:
    spans = [prompt.instruction, *prompt.demos, prompt.query_block]
    assert spans[0][0] == 0
    assert spans[-1][1] == len(prompt.ids)
    assert [end for _, end in spans[:-1]] == [start for start, _ in spans[1:]]
    return [chat.tokenizer.decode(prompt.ids[start:end]) for start, end in spans]


@pytest.mark.parametrize(
    ("template", "bos"), [(None, None), (WITH_BOS, None), (WITH_BOS, "<|endoftext|>"), (NO_SYSTEM_ROLE, None)]
)
def test_parts_partition_the_prompt(template: str | None, bos: str | None, chat: Chat) -> None:
    if template is not None:
        chat = with_template(chat, template, bos)
    prompt = build_prompt(chat, TASK, DEMOS, QUERIES)
    parts = parts_of(chat, prompt)
    # A token of white space may hold the last character of one part and the first of the next.
    assert [part.strip() for part in parts[1:-1]] == [demo_text(TASK, demo).strip() for demo in DEMOS]
    assert parts[0].endswith("Here are some examples.\n\n")
    assert TASK.icl_system in parts[0]
    assert parts[-1].startswith("Now, do the same")
    asked = [chat.tokenizer.decode(prompt.ids[start:end]).strip() for start, end in prompt.queries]
    assert asked == ["Notice 1: Is the bus late?", "Notice 2:   The ferry waits."]
    if bos:
        assert prompt.ids.count(chat.tokenizer.bos_token_id) == 1
        assert prompt.ids[0] == chat.tokenizer.bos_token_id


def test_a_prompt_that_holds_braces_and_labels_is_left_alone(chat: Chat) -> None:
    rows = examples((("{input} {% if x %} Notice 1: no", "Headline 2: {x}"), ("b", "c")))
    prompt = build_prompt(chat, TASK, rows[:1], rows[1:])
    assert "Notice: {input} {% if x %} Notice 1: no\nHeadline: Headline 2: {x}\n" in chat.tokenizer.decode(prompt.ids)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Headline 1: a\nHeadline 2: b", ["a", "b"]),
        ("Headline 2: b", [None, "b"]),
        ("Here are headlines for Notice 1 and 2:\n\n**Headline 1:** a\n- **Headline 2**: b **", ["a", "b"]),
        ("Headline 2: b\nHeadline 1: a\nHeadline 1: c", ["a", "b"]),
        ("Headline 1:\nHeadline 2: b\nHeadline 1: a", ["a", "b"]),
        ("Notice 1: a\nHeadline 3: c\nnotice 2: b", ["a", "b"]),
        ("Headline 1: a\nmore of a\nHeadline 2: b: c\nmore", ["a", "b: c"]),
        ("## Headline 1 : a\n> Headline 2: b", ["a", "b"]),
        ("Headline 11: x\nHeadline one: y", [None, None]),
        ("the assistant said Headline 1: x", [None, None]),
        ("", [None, None]),
    ],
)
def test_answers_are_read_by_number(text: str, expected: list[str | None]) -> None:
    assert answers_by_index(text, TASK, 2) == expected


def test_answers_of_several_lines_end_at_the_next_label() -> None:
    text = "Headline 1: a\n\n- b\n#### 5\nHeadline 2: c\nd\nNotice 3: e"
    assert answers_by_index(text, MULTILINE, 2) == ["a\n\n- b\n#### 5", "c\nd"]


@pytest.mark.parametrize(
    ("task", "text", "complete"),
    [
        (TASK, "Headline 1: a\nHeadline 2: b", False),
        (TASK, "Headline 1: a\nHeadline 2: b\n", True),
        (TASK, "Headline 2: b\n", False),
        (TASK, "Notice 1: a\nNotice 2:\nNotice 2: b", False),
        (TASK, "Headline 1: a\nHeadline 2: b\nHeadline 1:", True),
        (MULTILINE, "Headline 1: a\nHeadline 2: b\n", False),
        (MULTILINE, "Headline 1: a\nHeadline 2: b\nHeadline 3:", True),
        (MATHS, "Headline 1: 1\n#### 2\nHeadline 2: 3\n#### 4", False),
        (MATHS, "Headline 1: 1\n#### 2\nHeadline 2: 3\n#### 4\n", True),
        (MATHS, "Headline 1: 1\n#### 2\nHeadline 2: 3\n####\n", False),
    ],
)
def test_when_generation_may_stop(task: Task, text: str, complete: bool) -> None:
    assert is_complete(text, task, 2) == complete


LABELS = ("Headline 1:", "Headline 2:", "Headline 3:", "Notice 1:", "Notice 2:")
WORDS = (
    "\n",
    "\n\n",
    " ",
    "**",
    "- ",
    ":",
    "word",
    "####",
    "#### 4",
    "####\n5",
    "-",
    "$7",
    "8",
    ",000",
    "= 3",
    "<...>",
)
texts = st.lists(st.sampled_from(LABELS + WORDS), max_size=6).map("".join)
blocks = st.lists(st.tuples(st.sampled_from(LABELS), texts, st.just("\n")).map("".join), max_size=5).map("".join)


@settings(max_examples=500, deadline=None)
@given(blocks, texts, st.sampled_from([TASK, MULTILINE, MATHS]))
def test_stopping_never_changes_an_answer(begin: str, rest: str, task: Task) -> None:
    """Whatever the model would have gone on to write."""
    whole = answers_by_index(begin + rest, task, 2)
    if is_complete(begin, task, 2):
        stopped = answers_by_index(begin, task, 2)
        assert None not in stopped
        if task.metric == "exact_match":
            assert [strict_number(answer or "") for answer in stopped] == [
                strict_number(answer or "") for answer in whole
            ]
        else:
            assert stopped == whole


def test_numbers_of_maths_answers() -> None:
    """The ten forms that the published parser misses or misreads."""
    forms = {
        "#### $18": 18, "#### -5": -5, "#### **18**": 18, "#### .5": 0.5, "#### x = 5": 5,
        "#### 2,000": 2000, "#### 1,575,000": 1575000, "####47": 47, "#### -47.": -47, "#### 3.50 dollars": 3.5,
    }  # fmt: skip
    for text, number in forms.items():
        (answer,) = answers_by_index(f"Headline 1: so it is\n{text}\n", MATHS, 1)
        assert answer is not None
        assert strict_number(answer) == number, text
    assert not re.search("####", PROMPT)
