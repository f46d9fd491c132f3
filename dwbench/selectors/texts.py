"""Rows as plain texts for text encoders."""

from dwbench.data.base import Example


def question_text(row: Example) -> str:
    """What a row asks: its earlier turns and its input, a line each, without the task's own wording."""
    return "\n".join([*(content for _, content in row.history), row.input])
