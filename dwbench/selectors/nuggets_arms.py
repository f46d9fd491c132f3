"""What Nuggets compares: tasks alone, and behind a row that is shown as an example."""

import itertools
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from dwbench.data.base import Example, Task
from dwbench.errors import UserError
from dwbench.models.chat import Chat, Pair


def ids_behind_an_answer(chat: Chat, task: Task, row: Example) -> tuple[int, ...]:
    """Ids from the end of a previous answer to the header of `row`'s own: end of turn, user turn, header.

    Behind `context + response` of any other row they continue its conversation with `row`'s question. System turns, the
    task's and the row's own, are left out: the other row's lead the conversation. Templates end an answer with a
    special token, so that the ids don't depend on the answer.
    """
    own = [turn for turn in task.turns(row) if turn[0] != "system"]
    answer = "previous answer"
    _, found, rest = chat.text([("user", "?"), ("assistant", answer), *own]).partition(answer)
    if not found:
        raise UserError("selector nuggets: the model's chat template leaves out previous answers: take another scorer")
    return chat.ids(rest)


@dataclass(frozen=True)
class Arms:
    """Candidates and tasks as token ids, for both arms.

    Attributes:
        candidates: what stands in front of a task in the one-shot arm; empty where a row can't be shown, [N].
        behind: each task's context there, [m].
        alone: each task's context and answer in the zero-shot arm, [m].
        copies: which candidates must not be compared with which tasks, since they are the same, [N, m] bool.
        max_length: longest sequence in tokens.
    """

    candidates: list[tuple[int, ...]]
    behind: list[tuple[int, ...]]
    alone: list[Pair]
    copies: np.ndarray
    max_length: int

    @cached_property
    def n_answer(self) -> np.ndarray:
        """Answer tokens of each task, [m]."""
        return np.array([len(pair.response) for pair in self.alone])

    @cached_property
    def n_scored(self) -> np.ndarray:
        """Answer tokens that both arms score: those that fit in the longer one, [N, m]; negative: not even the
        context fits."""
        candidates = np.array([len(ids) or self.max_length for ids in self.candidates])
        behind = np.array([len(ids) for ids in self.behind])
        return np.asarray(np.minimum(self.n_answer, self.max_length - candidates[:, None] - behind))

    @cached_property
    def room(self) -> np.ndarray:
        """Whether an answer token fits, or the context where the task has none to score, [N, m] bool."""
        return np.asarray(self.n_scored >= np.minimum(self.n_answer, 1))

    @cached_property
    def comparable(self) -> np.ndarray:
        return np.asarray(self.room & ~self.copies)

    def one_shot(self, i: int, j: int) -> Pair | None:
        """Task j behind candidate i, with the answer tokens that both arms score; None where there are none."""
        n = int(self.n_scored[i, j])
        return Pair(self.behind[j], self.alone[j].response[:n]) if n > 0 and self.comparable[i, j] else None


def with_shared_start(
    candidates: list[tuple[int, ...]], behind: list[tuple[int, ...]]
) -> tuple[list[tuple[int, ...]], list[tuple[int, ...]]]:
    """The same sequences, with what all tasks begin with (end of turn, header, the task's wording) moved to the
    candidates: run once for all tasks. Every task keeps a token of its context."""
    same = itertools.takewhile(lambda column: len(set(column)) == 1, zip(*behind, strict=False))
    n = min(len(list(same)), min(map(len, behind)) - 1)
    return [(*ids, *behind[0][:n]) if ids else ids for ids in candidates], [ids[n:] for ids in behind]
