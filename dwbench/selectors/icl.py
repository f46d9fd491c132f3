"""Prompts with several examples and several questions: how they are laid out, and how their answers are read back."""

import bisect
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
        ids: token ids; they end with the `opening` of the answer.
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


def shown_input(example: Example) -> str:
    """The row's input; behind its earlier turns, one `Role: content` each, where it has any."""
    if not example.history:
        return example.input
    turns = (*example.history, ("user", example.input))
    return "\n".join(f"{role.capitalize()}: {content}" for role, content in turns)


def demo_text(task: Task, example: Example) -> str:
    return f"{task.input_label}: {shown_input(example)}\n{task.answer_label}: {example.response}\n\n"


def query_text(task: Task, number: int, example: Example) -> str:
    return f"{task.input_label} {number}: {shown_input(example)}"


def opening(task: Task) -> str:
    """What the assistant's turn is begun with.

    Left to themselves, small models go on writing questions, or number their answers in a form of their own.
    """
    return f"{task.answer_label} 1:"


def with_opening(task: Task, generated: str) -> str:
    """The whole answer, to be read by its labels. A line break, as models may repeat the label."""
    return f"{opening(task)}\n{generated}"


def build_prompt(chat: Chat, task: Task, demos: Sequence[Example], queries: Sequence[Example]) -> ICLPrompt:
    """Demonstrations with answers, then numbered queries without, in one user turn; and the answer's `opening`.

    A token belongs to the part that holds its first character, by the tokenizer's offsets on the whole prompt.
    """
    intro = "Here are some examples.\n\n"
    demo_texts = [demo_text(task, demo) for demo in demos]
    now = "Now, do the same for these" + (".\n\n" if task.multiline else ", one line each.\n\n")
    query_texts = [query_text(task, number, row) for number, row in enumerate(queries, 1)]
    # No `Answer 1: <...>` to be filled in: small models copy the dots.
    labels = ", ".join(f"{task.answer_label} {number}" for number in range(1, len(queries) + 1))
    ending = f"\n\nGive each answer behind its label: {labels}."
    content = intro + "".join(demo_texts) + now + "\n".join(query_texts) + ending
    text = chat.text([("system", task.icl_system), ("user", content)])
    start = text.index(content) + len(intro)
    demo_chars = _consecutive(start, [len(part) for part in demo_texts])
    block = demo_chars[-1][1] if demo_chars else start
    query_chars, at = [], block + len(now)
    for part in query_texts:
        query_chars.append((at, at + len(part)))
        at += len(part) + 1
    text += opening(task) if text[-1].isspace() else f" {opening(task)}"
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
    return [(bisect.bisect_left(starts, begin), bisect.bisect_left(starts, end)) for begin, end in chars]


@dataclass(frozen=True)
class _Block:
    """Text behind a label. `ended`: another label follows, so that more text can't change it."""

    number: int
    is_answer: bool
    text: str
    ended: bool


def answers_by_index(text: str, task: Task, n_queries: int) -> list[str | None]:
    """The answer behind each numbered label, None where there is none.

    A label starts a line (markdown marks allowed), is the task's answer or input label, carries a number and a colon.
    The first block that isn't empty behind the answer label of a number counts, and only where there is none that
    behind its input label: models answer there too, but mostly they repeat the question. Numbers above `n_queries`
    are ignored. A label without a number, as demonstrations have it, answers the numbered question that it follows
    (`Question 1: ...`, `Answer: ...`); one of an input ends the block before it.

    The answer is the block's first line that isn't empty, or the whole block where the task's answers have several.
    """
    blocks = _blocks(text, task)
    repeated = _first_answers(task, [block for block in blocks if not block.is_answer])
    found = repeated | _first_answers(task, [block for block in blocks if block.is_answer])
    return [found.get(number) for number in range(1, n_queries + 1)]


def _first_answers(task: Task, blocks: Sequence[_Block]) -> dict[int, str]:
    found: dict[int, str] = {}
    for block in blocks:
        answer = _answer(task, block.text)
        if answer:
            found.setdefault(block.number, answer)
    return found


def _answer(task: Task, block: str) -> str:
    """The answer in a block's text, "" where there is none."""
    candidates = [block] if task.multiline else block.split("\n")
    return next((answer for answer in (text.strip().strip("*").strip() for text in candidates) if answer), "")


def _blocks(text: str, task: Task) -> list[_Block]:
    labels = []
    number: int | None = None
    is_answer = False
    for label in _label_pattern(task).finditer(text):
        answers = label["name"].lower() == task.answer_label.lower()
        if label["number"] is not None:
            number = int(label["number"])
        elif not answers:
            number = None
        elif number is None or is_answer:
            continue  # of no question, or a line of the answer
        is_answer = answers
        labels.append((label, number, is_answer))
    blocks = []
    for position, (label, number, is_answer) in enumerate(labels, 1):
        ended = position < len(labels)
        end = labels[position][0].start() if ended else len(text)
        if number is not None:
            blocks.append(_Block(number, is_answer, text[label.end() : end], ended))
    return blocks


def _label_pattern(task: Task) -> re.Pattern[str]:
    names = "|".join(re.escape(name) for name in dict.fromkeys((task.answer_label, task.input_label)))
    marks = r"[ \t]*(?:[#>*\-][ \t#>*\-]*)?"
    return re.compile(rf"^{marks}(?P<name>{names})(?:[ \t]+(?P<number>\d+))?[ \t]*\**[ \t]*:[ \t]*\**", re.M | re.I)


def is_complete(text: str, task: Task, n_queries: int) -> bool:
    """Whether generation may stop: all `n_queries` answer labels have answers that more text can't change."""
    settled: dict[int, bool] = {}
    for block in _blocks(text, task):
        if block.is_answer and _answer(task, block.text):
            settled.setdefault(block.number, block.ended or _line_settles(task, block.text))
    return all(settled.get(number, False) for number in range(1, n_queries + 1))


def _line_settles(task: Task, block: str) -> bool:
    """Whether the lines that have ended hold the answer, so that the rest of the last block doesn't matter."""
    lines = block.rpartition("\n")[0]
    if not task.multiline:
        return _answer(task, lines) != ""
    return task.metric == "exact_match" and strict_number(lines) is not None
