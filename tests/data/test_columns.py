import re
from typing import Any

import pytest

from dwbench.data.base import RawRow
from dwbench.data.columns import Columns, instruction_text, to_raw_rows
from dwbench.errors import UserError


def raw(*rows: dict[str, Any], columns: Columns | None = None) -> list[RawRow]:
    return to_raw_rows([(f"f:{n}", fields) for n, fields in enumerate(rows, 1)], columns)


def message(role: str, content: object) -> dict[str, object]:
    return {"role": role, "content": content}


CHAT = [message("system", "s"), message("user", "u1"), message("assistant", "a1"), message("user", "u2")]
HISTORY = (("system", "s"), ("user", "u1"), ("assistant", "a1"))


@pytest.mark.parametrize(
    ("fields", "input", "response", "history"),
    [
        ({"prompt": "p", "completion": "c"}, "p", "c", ()),
        ({"prompt": CHAT, "completion": [message("assistant", "c")]}, "u2", "c", HISTORY),
        ({"prompt": CHAT, "completion": "c"}, "u2", "c", HISTORY),
        ({"instruction": "i", "input": "x", "output": "o"}, "Instruction: i\nInput: x", "o", ()),
        ({"instruction": "i", "output": "o"}, "Instruction: i", "o", ()),
        ({"instruction": "i", "input": None, "output": "o"}, "Instruction: i", "o", ()),
        ({"messages": [*CHAT, message("assistant", "a2")]}, "u2", "a2", HISTORY),
        ({"question": "q", "answer": "a", "extra": 1}, "q", "a", ()),
        ({"dialogue": "d", "summary": "s", "topic": "t"}, "d", "s", ()),
    ],
)
def test_known_columns(fields: dict[str, Any], input: str, response: str, history: tuple[Any, ...]) -> None:
    assert raw(fields) == [RawRow(id="0", input=input, response=response, where="f:1", history=history)]


def test_columns_by_name() -> None:
    (row,) = raw({"ask": "q", "reply": "a", "prompt": "p", "completion": "c"}, columns=Columns("ask", "reply"))
    assert (row.input, row.response) == ("q", "a")


@pytest.mark.parametrize(
    "input", ["", "  ", "N/A", "n/a.", "<noinput>", "Not applicable", "None", "(No input required)"]
)
def test_a_placeholder_is_no_input(input: str) -> None:
    assert instruction_text("i", input) == "Instruction: i"


@pytest.mark.parametrize("input", ["Na", "none of these helps", "0"])
def test_what_only_looks_like_a_placeholder_stays(input: str) -> None:
    assert instruction_text("i", input) == f"Instruction: i\nInput: {input}"


def test_ids_are_the_rows_own_where_all_have_one() -> None:
    a, b = {"question": "q", "answer": "a", "id": 7}, {"question": "r", "answer": "a", "id": "x"}
    assert [row.id for row in raw(a, b)] == ["7", "x"]
    assert [row.id for row in raw(a, {**b, "id": None})] == ["0", "1"]
    with pytest.raises(UserError, match=r"^f:1: its id is a number: give a text or a whole number"):
        raw({**a, "id": 1.5})
    with pytest.raises(UserError, match=r"^f:2: its id has half a surrogate pair"):
        raw(a, {**b, "id": "\ud83d"})


HOW = "name the columns by dataset.input_column=... and dataset.response_column=..."


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"text": "x", "label": 1}, f"none of the known columns (prompt/completion, instruction/output, messages, "
                                    f"question/answer, dialogue/summary) in: text, label: {HOW}"),
        ({}, "none of the known columns"),
        ({"instruction": "x", "input": "y"}, f"no column 'output' among: instruction, input: add it, or {HOW}"),
        ({"prompt": "p", "completion": " \n"}, "column 'completion' is empty: fill it in, or take the row out"),
        ({"prompt": "", "completion": "c"}, "column 'prompt' is empty"),
        ({"question": "q", "answer": 42}, "column 'answer' is a number, not a text: write it as a text"),
        ({"question": "q", "answer": None}, "column 'answer' is null, not a text"),
        ({"question": "q", "answer": "\ud83d"}, "column 'answer' has half a surrogate pair"),
        ({"instruction": "i", "input": 3, "output": "o"}, "column 'input' is a number, not a text"),
        ({"messages": "hello"}, "column 'messages' is a text, not a list of messages"),
        ({"messages": []}, "the last message of 'messages' is missing: it must be from 'assistant'"),
        ({"messages": CHAT}, "the last message of 'messages' is from 'user': it must be from 'assistant'"),
        ({"messages": [message("assistant", "a")]}, "the message before the last of 'messages' is missing"),
        ({"messages": [{"role": "user"}]}, "message 1 of 'messages' is no {role, content}"),
        ({"messages": [message("tool", "x")]}, "message 1 of 'messages' has role 'tool'"),
        ({"messages": [message("user", ["x"])]}, "message 1 of 'messages' is a list, not a text"),
        ({"prompt": CHAT[:1], "completion": "c"}, "the last message of 'prompt' is from 'system'"),
        ({"prompt": CHAT, "completion": CHAT}, "column 'completion' has 4 messages: one is expected"),
    ],
)  # fmt: skip
def test_a_bad_row_gets_one_line(fields: dict[str, Any], problem: str) -> None:
    with pytest.raises(UserError, match="^" + re.escape(f"f:1: {problem}")) as caught:
        raw(fields)
    assert "\n" not in str(caught.value)


def test_a_later_row_is_named_by_its_own_line() -> None:
    with pytest.raises(UserError, match=r"^f:2: no column 'answer' among: question"):
        raw({"question": "q", "answer": "a"}, {"question": "q"})
    with pytest.raises(UserError, match=r"^f:1: no column 'reply' among: question, answer"):
        raw({"question": "q", "answer": "a"}, columns=Columns("question", "reply"))
