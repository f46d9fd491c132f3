"""Which rows are shown together and which are asked behind them, so that every prompt fits the model."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from dwbench.data.base import Example, Task, content_key
from dwbench.errors import UserError
from dwbench.models.chat import Chat
from dwbench.selectors.icl import ICLPrompt, build_prompt, demo_text, query_text


class Shown(NamedTuple):
    """A prompt, with the positions of its demonstrations in the pool and of its queries in their source."""

    group: tuple[int, ...]
    asked: tuple[int, ...]
    prompt: ICLPrompt


def table(rows: Sequence[Sequence[int]], width: int) -> np.ndarray:
    """Positions as an array, [rows, width] int64, -1 behind the last of a row that has fewer."""
    found = np.full((len(rows), width), -1)
    for line, row in zip(found, rows, strict=True):
        line[: len(row)] = row
    return found


def n_fitting(prompt: ICLPrompt, room: int) -> int:
    """How many of the prompt's demonstrations, from the first on, leave it within `room` tokens."""
    length, n = len(prompt.ids), len(prompt.demos)
    while n and length > room:
        n -= 1
        start, end = prompt.demos[n]
        length -= end - start
    return n


@dataclass(frozen=True)
class Grouping:
    """How rows are put into prompts. Rows are positions: in the pool to be shown, in a source of queries to be asked.

    Attributes:
        n_d, n_q: demonstrations and queries of a full prompt.
        shown_keys, asked_keys: what each row of the pool, and of the source, asks: rows with one key are copies.
        shortest_first: the source's rows by length.
        too_long_to_ask: rows of the source that leave no room for any demonstration.
        room: tokens of the longest prompt.
        build: the prompt of a group and its queries.
    """

    n_d: int
    n_q: int
    shown_keys: Sequence[str]
    asked_keys: Sequence[str]
    shortest_first: Sequence[int]
    too_long_to_ask: frozenset[int]
    room: int
    build: Callable[[Sequence[int], Sequence[int]], ICLPrompt]

    def cut_up(self, order: Sequence[int], query_order: Sequence[int]) -> list[Shown]:
        """Prompts that show every row of `order` once, in that order, but for rows that fit in no prompt.

        A prompt takes the next n_d rows, or as many of them as fit; the others wait for the next. It asks the next n_q
        rows of `query_order`, round and round, that are no copies of a row that it shows.
        """
        waiting = [int(row) for row in order]
        taking_turns = [int(row) for row in query_order if int(row) not in self.too_long_to_ask]
        prompts: list[Shown] = []
        turn = 0
        while waiting:
            group = waiting[: self.n_d]
            shown, after = self._longest_head(group, taking_turns, turn)
            n_b = len(shown.group) if shown else 0
            if shown is None or (n_b < len(group) and not self._longest_head([group[n_b]], taking_turns, turn)[0]):
                del waiting[n_b]  # it fits nowhere, and must not keep others out of this prompt
                continue
            prompts.append(shown)
            waiting, turn = waiting[n_b:], after
        return prompts

    def queries(self, group: Sequence[int], order: Sequence[int], start: int) -> tuple[tuple[int, ...], int]:
        """The next n_q rows of `order` from `start` on, round and round, without copies of the group; the next start.

        Fewer where `order` has no more of them.
        """
        shown = {self.shown_keys[row] for row in group}
        asked: list[int] = []
        for position in range(start, start + len(order)):
            row = order[position % len(order)]
            if self.asked_keys[row] not in shown:
                asked.append(row)
            if len(asked) == self.n_q:
                return tuple(asked), (position + 1) % len(order)
        return tuple(asked), start

    def _longest_head(self, group: Sequence[int], turns: Sequence[int], start: int) -> tuple[Shown | None, int]:
        """As many rows of the group, from the first on, as fit with the queries whose turn it is; the next start.

        Where these leave no room for the first row it gets the shortest ones, and None stands for a row that does not
        fit with these either. Where too many rows are copies of the group's, it is shortened before a query is given
        up.
        """
        while True:
            asked, after = self.queries(group, turns, start)
            if len(asked) < self.n_q and len(group) > 1:
                group = group[:-1]
                continue
            shown, n = self._shown(group, asked)
            if n == len(group):
                return shown, after
            if n == 0:
                break
            group = group[:n]
        asked, _ = self.queries(group[:1], self.shortest_first, 0)
        shown, n = self._shown(group[:1], asked)
        return (shown if n else None), after

    def _shown(self, group: Sequence[int], asked: tuple[int, ...]) -> tuple[Shown | None, int]:
        """The prompt, and how many of its demonstrations fit: none where nothing is asked."""
        if not asked:
            return None, 0
        prompt = self.build(group, asked)
        return Shown(tuple(group), asked, prompt), n_fitting(prompt, self.room)


def grouping(
    chat: Chat, task: Task, pool: Sequence[Example], source: Sequence[Example], n_d: int, n_q: int, cap: int
) -> Grouping:
    """How rows of `pool` are shown with queries from `source`, `cap` tokens being kept for the answers.

    Raises UserError where not even the shortest row fits, with the shortest queries, or all rows are copies.
    """

    def build(group: Sequence[int], asked: Sequence[int]) -> ICLPrompt:
        return build_prompt(chat, task, [pool[row] for row in group], [source[row] for row in asked])

    # Bytes: a token has at least one, so that hardly a row needs tokenising.
    demo_bytes = [len(demo_text(task, row).encode()) for row in pool]
    query_bytes = [len(query_text(task, n_q, row).encode()) for row in source]
    shortest_first = np.argsort(query_bytes, kind="stable").tolist()
    keys = [content_key(row.input, row.history) for row in pool]
    asked_keys = [content_key(row.input, row.history) for row in source]
    room = chat.max_length - cap
    found = Grouping(n_d, n_q, keys, asked_keys, shortest_first, frozenset(), room, build)
    first = int(np.argmin(demo_bytes))
    asked, _ = found.queries([first], shortest_first, 0)
    if not asked:
        raise UserError("all rows of the pool are copies of one, so there is nothing else to ask: give other rows")
    shortest = build([first], asked)
    if len(shortest.ids) > room:
        raise UserError(
            f"selector.n_q={n_q}: a prompt with the shortest row and queries has {len(shortest.ids)} tokens and {cap} "
            f"are for the answers, but the model takes {chat.max_length}: lower n_q or max_new_tokens"
        )
    start, end = shortest.queries[-1]
    left = room - len(shortest.ids) + end - start
    too_long = frozenset(
        position
        for position, row in enumerate(source)
        if query_bytes[position] > left and len(chat.ids(query_text(task, n_q, row))) > left
    )
    return Grouping(n_d, n_q, keys, asked_keys, shortest_first, too_long, room, build)
