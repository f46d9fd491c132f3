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
from dwbench.selectors.icl import (
    ICLPrompt,
    answers_by_index,
    build_prompt,
    demo_text,
    is_complete,
    opening,
    with_opening,
)
from dwbench.selectors.models import LoadedModels

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

Give each answer behind its label: Headline 1, Headline 2.<|im_end|>
<|im_start|>assistant
Headline 1:"""

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
    assert re.search(r"\sHeadline 1:$", parts[-1])
    asked = [chat.tokenizer.decode(prompt.ids[start:end]).strip() for start, end in prompt.queries]
    assert asked == ["Notice 1: Is the bus late?", "Notice 2:   The ferry waits."]
    if bos:
        assert prompt.ids.count(chat.tokenizer.bos_token_id) == 1
        assert prompt.ids[0] == chat.tokenizer.bos_token_id


def test_earlier_turns_are_shown(chat: Chat) -> None:
    turns = (("system", "Be short."), ("user", "What is shut?"), ("assistant", "The pool."))
    demo, query = (dataclasses.replace(row, history=turns) for row in (DEMOS[1], QUERIES[0]))
    prompt = build_prompt(chat, TASK, [demo], [query])
    earlier = "System: Be short.\nUser: What is shut?\nAssistant: The pool.\nUser: "
    text = chat.tokenizer.decode(prompt.ids)
    assert f"Notice: {earlier}Das Café – 🎉!\nHeadline: " in text
    assert (
        chat.tokenizer.decode(prompt.ids[slice(*prompt.queries[0])]).strip() == f"Notice 1: {earlier}Is the bus late?"
    )


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
        # An echoed question is no answer where there is one.
        ("Notice 1: echo\nNotice 2: echo\nHeadline 1: a\nHeadline 2: b", ["a", "b"]),
        ("Notice 1: echo\nHeadline 1:\nNotice 2: echo\nHeadline 2: b", ["echo", "b"]),
        ("Notice 1: echo\nHeadline: a\nNotice 2: echo\nHeadline: b", ["a", "b"]),
        ("Notice: echo\nHeadline: x", [None, None]),
        ("Headline 1: a\nNotice: echo\nHeadline: x\nHeadline 2: b", ["a", "b"]),
        # The answer may stand below its label.
        ("Headline 1:\na\nmore\n**Headline 2**:\n\n **b**", ["a", "b"]),
        ("Headline 1:\n\nHeadline 2:\n", [None, None]),
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
    text = "Notice 1: echo\necho\nHeadline: a\nHeadline: more\nHeadline 2: b\n\nNotice: echo\nHeadline: x"
    assert answers_by_index(text, MULTILINE, 2) == ["a\nHeadline: more", "b"]


def test_answers_are_read_behind_their_opening(chat: Chat) -> None:
    assert chat.tokenizer.decode(build_prompt(chat, TASK, DEMOS, QUERIES).ids).endswith(opening(TASK))
    for generated in (" a\nHeadline 2: b", "\n**Headline 1:** a\nHeadline 2: b", "Headline 1: a\nHeadline 2: b"):
        assert answers_by_index(with_opening(TASK, generated), TASK, 2) == ["a", "b"]
    assert answers_by_index(with_opening(TASK, "Headline 2: b"), TASK, 2) == [None, "b"]


@pytest.mark.parametrize(
    ("task", "text", "complete"),
    [
        (TASK, "Headline 1: a\nHeadline 2: b", False),
        (TASK, "Headline 1: a\nHeadline 2: b\n", True),
        (TASK, "Headline 2: b\n", False),
        (TASK, "Notice 1: a\nNotice 2:\nNotice 2: b\n\n", False),
        (TASK, "Headline 1: a\nNotice 2: b\nNotice 1: a\n", False),
        (TASK, "Notice 1: a\nNotice 2: b\nHeadline 2: b\nHeadline 1: a\n", True),
        (TASK, "Headline 1:\na\nHeadline 2:\n", False),
        (TASK, "Headline 1:\na\nHeadline 2:\nb", False),
        (TASK, "Headline 1:\na\nHeadline 2:\nb\n", True),
        (TASK, "Headline 1: a\nHeadline 2: b\nHeadline 3: c", True),
        (TASK, "Headline 1: a\nHeadline 2: b\nHeadline 1:", True),
        (MULTILINE, "Headline 1: a\nHeadline 2: b\n", False),
        (MULTILINE, "Headline 1: a\nHeadline 2: b\nHeadline 3:", True),
        (MULTILINE, "Headline 1: a\nHeadline 2: b\nNotice:", True),
        (MULTILINE, "Headline 1: a\nHeadline 2: b\nHeadline:", False),
        (MULTILINE, "Headline 1:\nHeadline 2: b\nHeadline 3:", False),
        (MATHS, "Headline 1: 1\n#### 2\nHeadline 2: 3\n#### 4", False),
        (MATHS, "Headline 1: 1\n#### 2\nHeadline 2: 3\n#### 4\n", True),
        (MATHS, "Headline 1: 1\n#### 2\nHeadline 2: 3\n####\n", False),
    ],
)
def test_when_generation_may_stop(task: Task, text: str, complete: bool) -> None:
    assert is_complete(text, task, 2) == complete


LABELS = ("Headline 1:", "Headline 2:", "Headline 3:", "Notice 1:", "Notice 2:", "Headline:", "Notice:", "Headline 2")
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
        assert is_complete(begin + rest, task, 2)
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
