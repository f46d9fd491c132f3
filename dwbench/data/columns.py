"""From the columns that people's files have to inputs and responses.

Known layouts, looked for in this order in a file's first row; all rows of a file have the same:

- `prompt`, `completion`: texts, or lists of messages as TRL has them;
- `instruction`, `output` and, where there is one, `input`: joined by `instruction_text`;
- `messages`: a list of `{role, content}`, the last one from the assistant;
- `question`, `answer`;
- `dialogue`, `summary`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from dwbench.data.base import RawRow, Turn
from dwbench.data.textfiles import Row, kind
from dwbench.errors import UserError

PLACEHOLDERS = {"<noinput>", "noinput", "no input", "n/a", "none", "not applicable"} | {
    f"{what} {verb}" for what in ("none", "no input") for verb in ("required", "needed")
}
"""What BioInstruct and Alpaca write into `input` where there is none; compared in lower case, without `()` and `.`"""

LAYOUTS = (
    ("prompt", "completion"),
    ("instruction", "output"),
    ("messages",),
    ("question", "answer"),
    ("dialogue", "summary"),
)


@dataclass(frozen=True)
class Columns:
    """The columns to read, where they have other names than the known ones."""

    input: str
    response: str


def instruction_text(instruction: str, input: str) -> str:
    """An instruction and its input as one text; the input's line is left out where there is none."""
    if input.strip().strip("().").lower() in PLACEHOLDERS | {""}:
        return f"Instruction: {instruction}"
    return f"Instruction: {instruction}\nInput: {input}"


def to_raw_rows(rows: Sequence[Row], columns: Columns | None = None) -> list[RawRow]:
    """Rows with their inputs and responses; `columns` None: by the known layouts.

    A row's id is its `id` column, a text or a whole number, where all rows have one; else its number from 0.
    Raises UserError for a row without the needed columns, or with an empty or wrong one.
    """
    if not rows:
        return []
    read = _reader(rows[0], columns)
    own_ids = all(fields.get("id") is not None for _, fields in rows)
    out = []
    for number, (where, fields) in enumerate(rows):
        turns, response = read(where, fields)
        *history, (_, input) = turns
        row_id = _id(where, fields["id"]) if own_ids else str(number)
        out.append(RawRow(id=row_id, input=input, response=response, where=where, history=tuple(history)))
    return out


def text_of(where: str, fields: dict[str, Any], name: str) -> str:
    """The text in column `name`. Raises UserError where the column is missing, empty or no text."""
    _need(where, fields, (name,))
    return _text(where, f"column {name!r}", fields[name])


_Reader = Callable[[str, dict[str, Any]], tuple[list[Turn], str]]
"""From a row's place and fields to its turns, the last of which is the input, and its response."""


def _reader(first: Row, columns: Columns | None) -> _Reader:
    if columns is not None:
        return _pair_reader(columns.input, columns.response)
    where, fields = first
    layout = next((layout for layout in LAYOUTS if fields.keys() >= set(layout)), None)
    if layout is None:
        known = ", ".join("/".join(layout) for layout in LAYOUTS)
        # The layout that is nearest to complete tells which column is missing.
        half = next((layout for layout in LAYOUTS if fields.keys() & set(layout)), None)
        if half is not None:
            _need(where, fields, half)
        raise UserError(f"{where}: none of the known columns ({known}) in: {_names(fields)}: {HOW_TO_NAME}")
    match layout:
        case ("instruction", _):
            return _instruction
        case ("messages",):
            return _messages
        case (input, response):
            return _pair_reader(input, response)
        case _:
            raise AssertionError(layout)


HOW_TO_NAME = "name the columns by dataset.input_column=... and dataset.response_column=..."


def _pair_reader(input: str, response: str) -> _Reader:
    def read(where: str, fields: dict[str, Any]) -> tuple[list[Turn], str]:
        _need(where, fields, (input, response))
        if isinstance(fields[input], list):
            turns = _turns(where, input, fields[input])
            _last_is(where, input, turns, "user")
        else:
            turns = [("user", text_of(where, fields, input))]
        if isinstance(fields[response], list):
            answer = _turns(where, response, fields[response])
            if len(answer) != 1:
                raise UserError(f"{where}: column {response!r} has {len(answer)} messages: one is expected")
            _last_is(where, response, answer, "assistant")
            return turns, answer[0][1]
        return turns, text_of(where, fields, response)

    return read


def _instruction(where: str, fields: dict[str, Any]) -> tuple[list[Turn], str]:
    _need(where, fields, ("instruction", "output"))
    input = fields.get("input")
    if input is not None and not isinstance(input, str):
        raise UserError(f"{where}: column 'input' is {kind(input)}, not a text: write it as a text")
    instruction = text_of(where, fields, "instruction")
    _text(where, "column 'input'", input or "-")
    return [("user", instruction_text(instruction, input or ""))], text_of(where, fields, "output")


def _messages(where: str, fields: dict[str, Any]) -> tuple[list[Turn], str]:
    _need(where, fields, ("messages",))
    turns = _turns(where, "messages", fields["messages"])
    _last_is(where, "messages", turns, "assistant")
    *before, (_, response) = turns
    _last_is(where, "messages", before, "user", place="the message before the last")
    return before, response


def _turns(where: str, column: str, messages: object) -> list[Turn]:
    if not isinstance(messages, list):
        raise UserError(f"{where}: column {column!r} is {kind(messages)}, not a list of messages")
    turns = []
    for number, message in enumerate(messages, 1):
        if not isinstance(message, dict) or not {"role", "content"} <= message.keys():
            raise UserError(f"{where}: message {number} of {column!r} is no {{role, content}}: write it so")
        role = message["role"]
        if role not in ("system", "user", "assistant"):
            raise UserError(
                f"{where}: message {number} of {column!r} has role {role!r}: system, user or assistant is known"
            )
        turns.append((role, _text(where, f"message {number} of {column!r}", message["content"])))
    return turns


def _last_is(where: str, column: str, turns: Sequence[Turn], role: str, place: str = "the last message") -> None:
    if not turns or turns[-1][0] != role:
        found = f"from {turns[-1][0]!r}" if turns else "missing"
        raise UserError(f"{where}: {place} of {column!r} is {found}: it must be from {role!r}")


def _need(where: str, fields: dict[str, Any], names: Sequence[str]) -> None:
    missing = [name for name in names if name not in fields]
    if missing:
        raise UserError(f"{where}: no column {missing[0]!r} among: {_names(fields)}: add it, or {HOW_TO_NAME}")


def _names(fields: dict[str, Any]) -> str:
    return ", ".join(fields) or "(no columns)"


def _text(where: str, what: str, value: object) -> str:
    if not isinstance(value, str):
        raise UserError(f"{where}: {what} is {kind(value)}, not a text: write it as a text")
    if not value.strip():
        raise UserError(f"{where}: {what} is empty: fill it in, or take the row out")
    return _encodable(where, what, value)


def _encodable(where: str, what: str, value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise UserError(f"{where}: {what} has half a surrogate pair (\\ud8..): take it out") from error
    return value


def _id(where: str, value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise UserError(f"{where}: its id is {kind(value)}: give a text or a whole number, or leave 'id' out")
    return _encodable(where, "its id", str(value))
