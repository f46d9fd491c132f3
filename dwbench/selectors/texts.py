"""Rows as plain texts for text encoders."""

from typing import Literal

from dwbench.data.base import Example

Text = Literal["instruction", "full"]
"""What of a row is read: what it asks (`question_text`); or that and its response (`full_text`)."""


def text_of(row: Example, text: Text) -> str:
    """What `text` says of a row."""
    return question_text(row) if text == "instruction" else full_text(row)


def question_text(row: Example) -> str:
    """What a row asks: its earlier turns and its input, a line each, without the task's own wording."""
    return "\n".join([*(content for _, content in row.history), row.input])


def full_text(row: Example) -> str:
    """What a row asks, and its response behind that."""
    return f"{question_text(row)}\n{row.response}"
