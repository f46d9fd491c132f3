"""MIWV: what a one-shot demonstration, the row's nearest neighbour, does to its response loss."""

import functools
from collections.abc import Sequence
from dataclasses import field
from typing import Any, ClassVar, Literal

import numpy as np

from dwbench.component import NOT_IN_KEY, component, key_of
from dwbench.data.base import Example, Task, Turn
from dwbench.errors import UserError
from dwbench.models.chat import Chat, Pair
from dwbench.rules.neighbours import nearest_other
from dwbench.rules.ranking import Scores, scores
from dwbench.selectors.context import Context
from dwbench.selectors.losses import Losses, loss_arrays, response_losses
from dwbench.selectors.material import Need
from dwbench.selectors.texts import question_text

VERSION = 2

NO_ROOM = "no demonstration fits in front of the prompt and response within max_length"

TOP = 0.1
"""Share of the rows whose mean response length is reported beside that of all."""


def miwv(one_shot: np.ndarray, zero_shot: np.ndarray) -> np.ndarray:
    """L(A|Q, C) - L(A|Q), the paper's Eq. 8; losses are means a token, [N]."""
    return np.asarray(one_shot - zero_shot)


@component
class MIWV:
    """Model Instruction Weakness Value (Jiang et al., AAAI 2026): rows that a demonstration does not help.

    Score: L(A|Q, C) - L(A|Q), Eq. 8, C being the row of the pool whose prompt embedding has the highest cosine with
    the row's own. Higher is chosen first. The paper's published set-up: the model to be tuned scores; bge-large-en with
    mean pooling (`embedder=bge-large-en-v1.5 embedder.pooling=mean`); best at 1 to 15 % of the data.

    The paper leaves the layout open. Here the demonstration is an earlier user and assistant turn. Both arms score the
    same tokens: where the whole does not fit, the demonstration's text is cut from its left; a row that leaves no
    room for any of it is invalid. Copies of a row answer each other, so that their score is low.

    No official code is public. Third-party code takes FAISS's second hit for the neighbour, which is the row
    itself where prompts occur twice.

    Attributes:
        text: what is embedded: the row's `question` (earlier turns and input), or the whole `prompt` with the task's
            wording and system turn.
        score_eos: whether the end-of-turn token counts.
        chunk: rows compared with all others at a time; chunk x N cosines are held in memory.
    """

    text: Literal["question", "prompt"] = "question"
    score_eos: bool = True
    chunk: int = field(default=512, metadata=NOT_IN_KEY)

    version: ClassVar[int] = 1
    paper: ClassVar[str] = "Jiang et al., AAAI 2026, arXiv 2511.07074"
    cost_class: ClassVar[str] = "2 forward passes a row, one with a demonstration; embeddings, N x N cosines"
    fixed_share: ClassVar[float | None] = None

    def __post_init__(self) -> None:
        if self.chunk < 1:
            raise ValueError("chunk: must be at least 1")

    @property
    def needs(self) -> frozenset[Need]:
        return frozenset({"responses", "task", "scorer", "embedder"})

    def check(self, context: Context) -> None:
        """Raise UserError for a pool in which no row has a neighbour."""
        if context.n_rows < 2:
            raise UserError("selector miwv: the pool has 1 row and no neighbour to show: give at least 2 rows")

    def score(self, context: Context) -> Scores:
        near = nearest_other(context.embed(self._texts(context), "prompt embeddings"), self.chunk)
        zero_shot = response_losses(context, "prompt")
        one_shot, n_dropped = one_shot_losses(context, near.row)
        values = miwv(one_shot.mean(self.score_eos), zero_shot.mean(self.score_eos))
        reasons = tuple(
            reason or (NO_ROOM if n == 0 else "")
            for reason, n in zip(zero_shot.reasons(), one_shot.tokens, strict=True)
        )
        notes: dict[str, float | int | str] = {
            "neighbour_in_degree_max": int(np.bincount(near.row).max()),
            "neighbour_cosine_mean": float(near.cosine.mean()),
            "demonstrations_cut": int((n_dropped > 0).sum()),
            **_lengths(values, zero_shot.tokens),
        }
        return scores(values, values, reasons, notes=notes)

    def _texts(self, context: Context) -> list[str]:
        if self.text == "question":
            return [question_text(row) for row in context.pool]
        return ["\n".join(content for _, content in turns) for turns in context.turns]


def one_shot_losses(context: Context, neighbour: np.ndarray) -> tuple[Losses, np.ndarray]:
    """Losses of the responses behind the prompt with row `neighbour[i]` ([N]) as a demonstration in front of row i, and
    how many tokens of each demonstration were dropped to make it fit, [N]. Rows without room have no tokens.

    Needs `responses`, `task` and `scorer`.
    """

    def compute(positions: range) -> dict[str, np.ndarray]:
        shown = [_shown(context, position, int(neighbour[position])) for position in positions]
        pairs = [None if one is None else one[0] for one in shown]
        losses = context.scorer.token_nll(pairs, "response loss (one demonstration)")
        dropped = np.array([0 if one is None else one[1] for one in shown])
        return {**loss_arrays(pairs, losses, context.chat.end_of_turn), "dropped": dropped}

    uids = context.uids
    settings = {"neighbours": key_of([uids[row] for row in neighbour])}
    arrays = context.represent_rows("one_shot_nll", VERSION, settings, ("responses", "prompt", "scorer"), compute)
    dropped = arrays.pop("dropped")
    return Losses(**arrays), dropped


def _shown(context: Context, position: int, neighbour: int) -> tuple[Pair, int] | None:
    """The row with its demonstration, and the tokens dropped of that; None without response, or without room."""
    chat, task = context.chat, context.task
    row = context.pool[position]
    alone = chat.pair(task, row)
    if alone is None or alone.response == (chat.end_of_turn,):
        return None
    room = chat.max_length - len(alone.response)
    found = one_shot_context(chat, task, row, context.pool[neighbour], room)
    return None if found is None else (Pair(found[0], alone.response), found[1])


def one_shot_context(
    chat: Chat, task: Task, row: Example, neighbour: Example, room: int
) -> tuple[tuple[int, ...], int] | None:
    """Ids of the row's prompt behind `neighbour` with its response, and how many of that one's tokens were dropped from
    the left so that all takes at most `room` tokens; None where none of them is left."""
    demonstration = [turn for turn in task.turns(neighbour) if turn[0] != "system"]
    demonstration.append(("assistant", neighbour.response))
    target = task.turns(row)
    starts = _token_starts(chat, demonstration)
    dropped = 0
    while dropped < len(starts):
        if dropped and starts[dropped] == starts[dropped - 1]:  # inside of a character
            dropped += 1
            continue
        kept = without_left(demonstration, *starts[dropped]) if dropped else demonstration
        ids = chat.ids(chat.text(with_demonstration(target, kept)))
        if len(ids) <= room:
            return ids, dropped
        dropped += len(ids) - room
    return None


def _token_starts(chat: Chat, turns: Sequence[Turn]) -> list[tuple[int, int]]:
    """(turn, first character) of every token of the turns' texts."""
    encode: Any = functools.partial(chat.tokenizer, add_special_tokens=False, return_offsets_mapping=True)
    return [(turn, start) for turn, (_, text) in enumerate(turns) for start, _ in encode(text)["offset_mapping"]]


def with_demonstration(target: Sequence[Turn], demonstration: Sequence[Turn]) -> list[Turn]:
    """The turns of `target` with a demonstration behind its leading system turns."""
    leading = next((n for n, (role, _) in enumerate(target) if role != "system"), len(target))
    return [*target[:leading], *demonstration, *target[leading:]]


def without_left(turns: Sequence[Turn], turn: int, start: int) -> list[Turn]:
    """The turns with all text in front of character `start` of turn number `turn` gone.

    Emptied turns go in pairs, question and answer, so that roles still alternate; the last question and answer stay.
    """
    kept = [(role, "" if n < turn else text[start:] if n == turn else text) for n, (role, text) in enumerate(turns)]
    while len(kept) > 3 and not kept[0][1] and not kept[1][1]:
        kept = kept[2:]
    return kept


def _lengths(values: np.ndarray, tokens: np.ndarray) -> dict[str, float | int | str]:
    """Mean response tokens of all valid rows and of the first of them: short responses have the noisier losses."""
    valid = np.flatnonzero(~np.isnan(values))
    if not valid.size:
        return {}
    top = valid[np.argsort(-values[valid], kind="stable")][: max(1, round(TOP * valid.size))]
    return {
        "response_tokens_mean": float(tokens[valid].mean()),
        "response_tokens_mean_of_top_tenth": float(tokens[top].mean()),
    }
