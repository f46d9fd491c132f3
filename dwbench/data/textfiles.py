"""JSON Lines, JSON and CSV taken apart: the fields, the place and the very text of every row."""

import csv
import io
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dwbench.errors import UserError

Row = tuple[str, dict[str, Any]]
"""(place in its file, fields)."""

_SPACE = re.compile(r"[ \t\n\r]*")

CELL_CHARACTERS = 2**31 - 1
"""Longest cell of a CSV file; Python's own limit of 131,072 is less than a long document."""


@dataclass(frozen=True)
class TextFile:
    """A text file taken apart; `head`, some of `texts` joined by `between`, and `tail` are a file again."""

    rows: list[Row]
    texts: list[str]
    head: str = ""
    between: str = ""
    tail: str = ""


def take_apart(path: Path, text: str) -> TextFile:
    """Rows of the file's text, by the suffix of its name. Raises UserError with the line of whatever is wrong."""
    match path.suffix.lower():
        case ".jsonl":
            return _jsonl(path, text)
        case ".json":
            return _json(path, text)
        case _:
            return _csv(path, text)


def _jsonl(path: Path, text: str) -> TextFile:
    rows: list[Row] = []
    texts: list[str] = []
    # Not splitlines: a string may hold U+2028 and other characters that it takes for line ends.
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        place = f"{path}:{number}"
        try:
            fields = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{place}: malformed JSON ({_why(error)}): one object a line is expected") from error
        rows.append((place, _object(place, fields)))
        texts.append(line + "\n")
    return TextFile(rows, texts)


def _json(path: Path, text: str) -> TextFile:
    """A list of objects. Items are decoded one by one, for the line and the text of each."""
    decoder = json.JSONDecoder()
    rows: list[Row] = []
    texts: list[str] = []
    end, line, counted = 0, 1, 0

    def skip(position: int) -> int:
        found = _SPACE.match(text, position)
        return found.end() if found else position

    def fail(position: int, what: str) -> UserError:
        where = text.count("\n", 0, position) + 1
        return UserError(f"{path}:{where}: {what}: a list of objects is expected (one object a line: name it .jsonl)")

    end = skip(0)
    if end == len(text):
        return TextFile([], [])
    if text[end] != "[":
        raise fail(end, "is no list")
    end = skip(end + 1)
    while text[end : end + 1] != "]":
        start = end
        line, counted = line + text.count("\n", counted, start), start
        try:
            fields, end = decoder.raw_decode(text, start)
        except (ValueError, RecursionError) as error:
            position = error.pos if isinstance(error, json.JSONDecodeError) else start
            raise fail(position, f"malformed JSON ({_why(error)})") from error
        rows.append((f"{path}:{line}", _object(f"{path}:{line}", fields)))
        texts.append(text[start:end])
        end = skip(end)
        if text[end : end + 1] == ",":
            end = skip(end + 1)
        elif text[end : end + 1] != "]":
            raise fail(end, "malformed JSON (',' or ']' missing)")
    if skip(end + 1) != len(text):
        raise fail(skip(end + 1), "malformed JSON (something behind the list)")
    return TextFile(rows, texts, head="[\n", between=",\n", tail="\n]\n")


def _why(error: ValueError | RecursionError) -> str:
    match error:
        case json.JSONDecodeError():
            return f"{error.msg}, column {error.colno}"
        case RecursionError():
            return "nested too deeply"
        case _:
            return "a number of too many digits"


def _object(place: str, fields: object) -> dict[str, Any]:
    if not isinstance(fields, dict):
        raise UserError(f'{place}: is no object but {kind(fields)}: a row is written {{"column": value, ...}}')
    return fields


def kind(value: object) -> str:
    """What a JSON value is called in messages."""
    match value:
        case None:
            return "null"
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case str():
            return "a text"
        case list():
            return "a list"
        case dict():
            return "an object"
        case _:
            return type(value).__name__


def _csv(path: Path, text: str) -> TextFile:
    csv.field_size_limit(CELL_CHARACTERS)  # the module has it for the process only
    lines = list(io.StringIO(text, newline=""))
    # Whoever puts spaces behind the commas of the header does so in the rows, before quotes too.
    spaced = re.match(r'\s*("[^"]*"|[^,"\n]*), ', text) is not None
    reader = csv.reader(lines, strict=True, skipinitialspace=spaced)
    header: list[str] = []
    rows: list[Row] = []
    texts: list[str] = []
    head = ""
    while True:
        start = reader.line_num
        place = f"{path}:{start + 1}"
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise UserError(f"{place}: malformed CSV ({error}): mend the row, or give JSON Lines") from error
        if cells is None:
            return TextFile(rows, texts, head=head)
        literal = "".join(lines[start : reader.line_num])
        if not cells:
            continue
        if not header:
            header, head = [name.strip() for name in cells], literal
            separator = next((character for character in ";\t|" if character in literal), None)
            if len(header) == 1 and separator:
                raise UserError(f"{place}: {separator!r} separates the columns: save the file with commas")
            twice = sorted({name for name in header if header.count(name) > 1})
            if twice:
                raise UserError(f"{place}: column {twice[0]!r} is there twice: rename one of them")
        elif len(cells) != len(header):
            raise UserError(f"{place}: {len(cells)} cells but {len(header)} columns: quote cells that hold commas")
        else:
            rows.append((place, dict(zip(header, cells, strict=True))))
            texts.append(literal)
