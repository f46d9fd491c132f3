"""Texts of Nuggets' official code (pldlgb/nuggets), for `variant: reference`."""

from dwbench.data.base import Example, Task
from dwbench.models.chat import Chat, Pair

TASK_TOKENS = 200
"""Where the reference cuts a task, question and answer together."""

EMBEDDED_TOKENS = 512
"""Where it cuts a row that it embeds."""


def question(task: Task, row: Example) -> str:
    """The fixed template up to the answer; without a system text."""
    said = [content for role, content in task.turns(row) if role != "system"]
    return "Instruction:\n" + "\n".join(said) + "\nResponse:\n"


def candidate(chat: Chat, task: Task, row: Example) -> tuple[int, ...]:
    """Ids of an example, with the special tokens that the tokenizer adds by itself."""
    return tuple(chat.tokenizer(question(task, row) + row.response)["input_ids"])


def task_pair(chat: Chat, task: Task, row: Example) -> Pair:
    """Question and answer of a task, without special tokens; the answer is empty where the question is too long."""
    context = chat.ids(question(task, row))
    answer = chat.ids(row.response)
    return Pair(context, answer[: max(0, TASK_TOKENS - len(context))])
