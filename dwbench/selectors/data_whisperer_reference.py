"""What Data Whisperer's published code does differently (repository gszfwsb/Data-Whisperer), for `variant: reference`.

Kept: pairing in data set order, attention windows that assume a BOS for each part, dropped prompts, float16 sums, no
rule for short groups, 0 for rows that were never scored. Not kept: its prompts with hand-written chat headers, its
second forward pass, and its cap of 8,192 tokens (answers are complete long before).
"""

import re
from collections.abc import Sequence

import numpy as np

from dwbench.data.base import Example, Task
from dwbench.errors import UserError
from dwbench.models.chat import Chat
from dwbench.representations.attention import RowsAndColumns
from dwbench.rules.ranking import Scores, scores
from dwbench.selectors.icl import ICLPrompt, demo_text

FOLD_SEED = 42

LAYER = 11
"""Attention layer (0-based) of a model that the code's table does not know."""

Pair = tuple[tuple[int, ...], tuple[int, ...]]
"""Positions of the demonstrations of a prompt, and of its queries."""


def pairing(n_rows: int, n_source: int, n_d: int, n_q: int, from_pool: bool) -> list[Pair]:
    """Demonstrations in data set order, contiguous; group t is asked query batch t modulo their number.

    From the pool: two shuffled folds (seed 42), the demonstrations of one with the queries of the other. From a
    target set: one pass. Query batches shorter than n_q are left out.
    """
    if not from_pool:
        return _pair_up(np.arange(n_rows), np.arange(n_source), n_d, n_q)
    from sklearn.model_selection import KFold

    pairs: list[Pair] = []
    for demos, held_out in KFold(2, shuffle=True, random_state=FOLD_SEED).split(np.arange(n_rows)):
        pairs += _pair_up(demos, held_out, n_d, n_q)
    return pairs


def _pair_up(demos: np.ndarray, queries: np.ndarray, n_d: int, n_q: int) -> list[Pair]:
    groups = [tuple(demos[start : start + n_d].tolist()) for start in range(0, len(demos), n_d)]
    asked = [tuple(queries[start : start + n_q].tolist()) for start in range(0, len(queries) - n_q + 1, n_q)]
    if not asked:
        raise UserError(
            f"selector.n_q={n_q}, variant=reference: there are only {len(queries)} queries, half of the pool: lower n_q"
        )
    return [(group, asked[turn % len(asked)]) for turn, group in enumerate(groups)]


def windows(instruction: int, demos: Sequence[int], all_demos: int, block: int, length: int) -> RowsAndColumns:
    """Attention windows of a prompt of `length` tokens, from the tokens of its parts, each tokenised on its own.

    The code takes one token off each part, for a BOS. Where the tokenizer adds none, a demonstration's window is one
    token earlier for each part before it; the rows begin behind `all_demos`, the demonstrations tokenised as one text,
    and are two tokens early.
    """
    columns, at = [], instruction - 1
    for n in demos:
        columns.append((at, at + n - 1))
        at += n - 1
    first_row = instruction - 1 + all_demos - 1
    return RowsAndColumns(length, ((first_row, min(length, first_row + block - 1)),), tuple(columns))


def shifted_windows(chat: Chat, task: Task, prompt: ICLPrompt, demos: Sequence[Example]) -> RowsAndColumns:
    """The code's windows for a prompt of ours: its parts are tokenised one by one (as texts, special tokens added).

    Where the tokenizer adds a BOS the code's prompts have two, one written out, so that the BOS that it takes off the
    instruction is a real token, and all windows are one early. Our prompts have one; the windows are moved as much.
    """
    tokenizer = chat.tokenizer
    adds_bos = len(tokenizer("a")["input_ids"]) > len(chat.ids("a"))

    def n_tokens(text: str) -> int:
        return len(tokenizer(text)["input_ids"])

    texts = [demo_text(task, demo) for demo in demos]
    return windows(
        n_tokens(tokenizer.decode(prompt.ids[slice(*prompt.instruction)])) - adds_bos,
        [n_tokens(text) for text in texts],
        n_tokens("".join(texts)),
        n_tokens(tokenizer.decode(prompt.ids[slice(*prompt.query_block)])),
        len(prompt.ids),
    )


def parse(text: str, task: Task, n_queries: int) -> list[str | None]:
    """Predictions in the order of their appearance, whatever their number says; the first n_queries count.

    All None where there are fewer than queries: the prompt is then dropped.
    """
    text = text.rsplit("assistant", 1)[-1]
    if task.metric == "exact_match":
        found = [f"#### {n}" for n in re.findall(r"####\s*([\d,]+(?:\.\d+)?)", text)]
    elif not task.multiline:
        label = f"(?:{re.escape(task.answer_label)}|{re.escape(task.input_label)})"
        found = re.findall(rf"{label}\s*\d+\s*:?\s*(.+)", text)
    else:
        label = re.escape(task.answer_label)
        found = re.split(rf"(?:{re.escape(task.input_label)}\s*\d+\s*)?{label}\s*\d*\s*:", text)[1:]
    answers: list[str | None] = [answer.strip() for answer in found[:n_queries]]
    return answers if len(answers) == n_queries else [None] * n_queries


def scores_of(shown: dict[str, np.ndarray], n_rows: int) -> Scores:
    """Sum over queries of f w, divided by the number of queries, in float16; 0 for rows never scored."""
    n_q = shown["quality"].shape[1]
    total, count = np.zeros(n_rows, dtype=np.float16), np.zeros(n_rows, dtype=np.int64)
    dropped = 0
    for position in range(len(shown["group"])):
        if shown["parsed"][position] < n_q:
            dropped += 1
            continue
        present = shown["group"][position] >= 0
        members = shown["group"][position, present]
        quality = shown["quality"][position].astype(np.float16)
        weights = float16_weights(
            shown["mass"][position, present], shown["demo_tokens"][position, present], int(shown["rows"][position])
        )
        for f in quality:
            total[members] += f * weights
            count[members] += 1
    values = np.where(count > 0, total / np.maximum(count, 1), 0).astype(np.float64)
    notes: dict[str, float | int | str] = {
        "prompts": len(shown["group"]),
        "prompts_dropped": dropped,
        "rows_never_scored": int((count == 0).sum()),
    }
    return scores(values, values, ("",) * n_rows, notes=notes)


def float16_weights(mass: np.ndarray, demo_tokens: np.ndarray, n_rows: int) -> np.ndarray:
    """The code's weights: block means in float16, normalised in float16; [n_b]."""
    a = (mass / (demo_tokens * n_rows)).astype(np.float16)
    return np.asarray(a / a.sum(), dtype=np.float16)
