"""Prompts with several examples and several questions: how they are laid out, and how their answers are read back."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from dwbench.data.base import Example, Task
from dwbench.metrics import strict_number
from dwbench.models.chat import Chat
from dwbench.representations.attention import Span


@dataclass(frozen=True)
class ICLPrompt:
    """A rendered prompt with its parts.

    Attributes:
        ids: token ids.
        instruction: token span in front of the first demonstration.
        demos: token span of each demonstration.
        query_block: token span of all that follows the last demonstration.
        queries: token span of each query's own text.
    """

    ids: tuple[int, ...]
    instruction: Span
    demos: tuple[Span, ...]
    query_block: Span
    queries: tuple[Span, ...]


def demo_text(task: Task, example: Example) -> str:
    return f"{task.input_label}: {example.input}\n{task.answer_label}: {example.response}\n\n"


def build_prompt(chat: Chat, task: Task, demos: Sequence[Example], queries: Sequence[Example]) -> ICLPrompt:
    """Demonstrations with answers, then numbered queries without, in one user turn.

    A token belongs to the part that holds its first character, by the tokenizer's offsets on the whole prompt.
    """
    intro = "Here are some examples.\n\n"
    demo_texts = [demo_text(task, demo) for demo in demos]
    now = "Now, do the same for these" + (".\n\n" if task.multiline else ", one line each.\n\n")
    query_texts = [f"{task.input_label} {i}: {row.input}" for i, row in enumerate(queries, 1)]
    # The form stands last: in front of the queries, small models go on writing queries.
    form = "".join(f"\n{task.answer_label} {i}: <...>" for i in range(1, len(queries) + 1))
    ending = f"\n\nAnswer in this form:{form}"
    content = intro + "".join(demo_texts) + now + "\n".join(query_texts) + ending
    text = chat.text([("system", task.icl_system), ("user", content)])
    start = text.index(content) + len(intro)
    demo_chars = _consecutive(start, [len(part) for part in demo_texts])
    block = demo_chars[-1][1] if demo_chars else start
    query_chars, at = [], block + len(now)
    for part in query_texts:
        query_chars.append((at, at + len(part)))
        at += len(part) + 1
    encoded = chat.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    starts = [begin for begin, _ in encoded["offset_mapping"]]
    spans = token_spans(starts, [*demo_chars, *query_chars])
    ids = tuple(encoded["input_ids"])
    (first, last) = token_spans(starts, [(0, demo_chars[0][0] if demo_chars else block), (block, len(text))])
    return ICLPrompt(ids, first, tuple(spans[: len(demos)]), last, tuple(spans[len(demos) :]))


def _consecutive(start: int, lengths: Sequence[int]) -> list[Span]:
    spans = []
    for length in lengths:
        spans.append((start, start + length))
        start += length
    return spans


def token_spans(starts: Sequence[int], chars: Sequence[Span]) -> list[Span]:
    """Token spans [first, end) of the character spans: the tokens whose first character lies inside.

    `starts` holds each token's first character, not decreasing.
    """

    def first_at(char: int) -> int:
        return next((token for token, start in enumerate(starts) if start >= char), len(starts))

    return [(first_at(begin), first_at(end)) for begin, end in chars]


def answers_by_index(text: str, task: Task, n_queries: int) -> list[str | None]:
    """The answer behind each numbered label, None where there is none.

    A label starts a line (markdown marks allowed), is the task's answer or input label, carries a number and a colon.
    The first block with a number wins; numbers above `n_queries` close the block before them and are ignored. An
    answer ends with its line, or with the next label where the task's answers have several lines.
    """
    labels = list(_label_pattern(task).finditer(text))
    found: list[str | None] = [None] * n_queries
    for position, label in enumerate(labels):
        number = int(label["number"])
        end = labels[position + 1].start() if position + 1 < len(labels) else len(text)
        block = text[label.end() : end]
        answer = (block if task.multiline else block.split("\n", 1)[0]).strip().strip("*").strip()
        if 1 <= number <= n_queries and found[number - 1] is None and answer:
            found[number - 1] = answer
    return found


def _label_pattern(task: Task) -> re.Pattern[str]:
    names = "|".join(re.escape(name) for name in dict.fromkeys((task.answer_label, task.input_label)))
    marks = r"[ \t]*(?:[#>*\-][ \t#>*\-]*)?"
    return re.compile(rf"^{marks}(?:{names})[ \t]+(?P<number>\d+)[ \t]*\**[ \t]*:[ \t]*\**", re.M | re.I)


def is_complete(text: str, task: Task, n_queries: int) -> bool:
    """Whether generation may stop: all `n_queries` answers are there, and more text can't change them."""
    labels = list(_label_pattern(task).finditer(text))
    if not labels or None in answers_by_index(text, task, n_queries):
        return False
    if None not in answers_by_index(text[: labels[-1].start()], task, n_queries):
        return True
    tail = text[labels[-1].end() :]
    if task.metric == "exact_match":
        return "\n" in tail.strip(" ") and strict_number(tail.rsplit("\n", 1)[0]) is not None
    return not task.multiline and "\n" in tail.lstrip()
