"""Nuggets: how often a row, shown as an example, makes the answers to a set of tasks more likely."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np

from dwbench.component import component, key_of
from dwbench.data.base import Example, Task, content_key
from dwbench.errors import UserError
from dwbench.models.chat import Chat, Pair
from dwbench.rules.clusters import kmeans_labels, nearest_to_centres
from dwbench.rules.ranking import Scores, scores
from dwbench.selectors import nuggets_reference as reference
from dwbench.selectors.context import Context
from dwbench.selectors.losses import NO_RESPONSE
from dwbench.selectors.material import Need
from dwbench.selectors.nuggets_arms import Arms, ids_behind_an_answer, with_shared_start

TASKS_VERSION = 2
ALONE_VERSION = 1
ADVANTAGE_VERSION = 2

KMEANS_SEED = 0
"""As published. So the tasks, and with them the scores, are the same for all seeds."""

NO_ROOM = "no task has room behind it within max_length"
ONLY_COPIES = "every task that has room behind it asks the same"
BARRED = "nothing can be learnt from it"


class Tally(NamedTuple):
    """Wins so far, comparisons to come and all comparisons of each candidate, [n] int64."""

    wins: np.ndarray
    left: np.ndarray
    total: np.ndarray

    @property
    def golden_score(self) -> np.ndarray:
        """Share of wins [n], or its upper bound where comparisons are left; NaN without any comparison."""
        undefined = np.full(len(self.total), np.nan)
        return np.asarray(np.divide(self.wins + self.left, self.total, out=undefined, where=self.total > 0))


def tally(advantage: np.ndarray, comparable: np.ndarray) -> Tally:
    """A win is strict: an advantage of 0 is none. Both arguments [n, m]; an advantage not known yet is NaN."""
    return Tally(
        wins=np.asarray((advantage > 0).sum(axis=1)),
        left=np.asarray((comparable & np.isnan(advantage)).sum(axis=1)),
        total=np.asarray(comparable.sum(axis=1)),
    )


def still_possible(told: Tally, k: int) -> np.ndarray:
    """Which candidates may still be among the k with the highest share of wins, [n] bool; all of them if k >= n.

    A share ends in [wins / total, (wins + left) / total]. Out is who can't reach the k-th largest lower bound. Who can
    just equal it stays, so that ties at the cut are drawn among the same rows as without pruning.
    """
    if k >= len(told.wins):
        return np.ones(len(told.wins), dtype=np.bool_)
    lower = told.wins / told.total
    return np.asarray(told.golden_score >= np.partition(lower, -k)[-k])


def halving_blocks(m: int) -> list[np.ndarray]:
    """Positions 0 to m - 1 in blocks, each half of what is left; the last holds at most an eighth of all.

    Bounds narrow with what is left, so nobody can be out early, and every block runs its candidates again.
    """
    blocks, start = [], 0
    while m - start > max(1, m // 8):
        end = start + (m - start + 1) // 2
        blocks.append(np.arange(start, end))
        start = end
    return [*blocks, np.arange(start, m)] if start < m else blocks


def compare_pruned(
    compare: Callable[[np.ndarray, np.ndarray], np.ndarray],
    comparable: np.ndarray,
    allowed: np.ndarray,
    blocks: Sequence[np.ndarray],
    k: int,
) -> np.ndarray:
    """Advantages [N, m] of the candidates over the tasks; NaN where a pair was not compared.

    After each block everybody is left out who can't be among the k best any more.

    Args:
        compare: advantages [rows, tasks] of some candidates for some tasks; positive is a win.
        comparable: which pairs can be compared, [N, m].
        allowed: which candidates may be chosen, [N]; others are not compared.
        blocks: positions of tasks; all candidates see one block before the next.
        k: how many are wanted.
    """
    advantage = np.full(comparable.shape, np.nan)
    alive = np.flatnonzero(allowed & comparable.any(axis=1))
    for block in blocks:
        pairs = np.ix_(alive, block)
        advantage[pairs] = np.where(comparable[pairs], compare(alive, block), np.nan)
        alive = alive[still_possible(tally(advantage[alive], comparable[alive]), k)]
    return advantage


@component
class Nuggets:
    """Nuggets (Li et al., ACL 2024, "One-Shot Learning as Instruction Data Prospector", section 3). Higher is chosen
    first.

    Golden score of a row z: the share of the tasks j whose answer is more likely with z in front than without,
    GS(z) = mean_j 1[s_iit^j(z) > s_zsl^j], s being the mean log-probability of an answer token. Here z is a previous
    user and assistant turn of the task's conversation. Both arms score the same tokens: those that fit behind z within
    the model's `max_length`. Tasks without such a token, the row itself and its copies have no part in its mean.

    `prune` leaves out rows as soon as they can't be among the k best. The choice is the same; a row that is left out
    has the upper bound of its score as its value, and ranks in a tier of its own below the others. But it is for one
    k: every budget compares anew, while without it all budgets share one computation. And bounds narrow late: on
    simulated wins (1,000 rows, 100 tasks) it saves 0 to 18 % at one budget, so that 1, 5 and 10 % together cost more.
    Hence off by default.

    The reference's code differs (`variant: reference` gives its behaviour): a fixed template instead of the model's,
    with nothing between example and task; special tokens (BOS) in the one-shot arm alone, which raises the score by
    itself; tasks cut at 200 tokens, and a task with a question of that length never won; a row is also compared with
    itself. Not reproduced: embeddings that average over padding, scores rounded to 3 digits, ties in data set order.

    Attributes:
        m: how many tasks; all that there are where they are fewer.
        task_source: `kmeans` (the row nearest to each of m centres of the scorer's mean hidden states; the paper's),
            `random`, or `target` (rows of the target set; of more than m those with the lowest content hashes).
        prune: see above.
        score_eos: whether the end-of-turn token counts; the reference has none.
    """

    m: int = 100
    task_source: Literal["kmeans", "random", "target"] = "kmeans"
    prune: bool = False
    score_eos: bool = True
    variant: Literal["paper", "reference"] = "paper"

    version: ClassVar[int] = 3
    paper: ClassVar[str] = "Li et al., ACL 2024, arXiv 2312.10302"
    cost_class: ClassVar[str] = "prefill of the row once, and of m tasks behind it"
    fixed_share: ClassVar[float | None] = None

    def __post_init__(self) -> None:
        if self.m < 1:
            raise ValueError("m: must be at least 1")
        if self.variant == "reference" and self.score_eos:
            raise ValueError("score_eos: the reference's texts have no end of turn; set score_eos=false with it")

    @property
    def needs(self) -> frozenset[Need]:
        needs: set[Need] = {"responses", "task", "scorer"}
        if self.task_source == "random":
            needs.add("seed")
        if self.task_source == "target":
            needs.add("target")
        return frozenset(needs)

    def check(self, context: Context) -> None:
        if self.task_source == "target":
            self._possible_tasks(context)
        if self.variant == "paper":
            # It is the system role that templates refuse, so a row that brings such a turn is the one to try.
            own_system = (row for row in context.pool if any(role == "system" for role, _ in row.history))
            row = next(own_system, context.pool[0])
            context.chat.context(context.task, row)
            ids_behind_an_answer(context.chat, context.task, row)

    def choose(self, context: Context, k: int, allowed: np.ndarray) -> Scores:
        tasks = self._tasks(context)
        arms = self._arms(context, tasks)
        if self.prune:
            advantage = compare_pruned(
                lambda rows, block: self._advantages(context, arms, tasks, rows, block),
                arms.comparable,
                allowed,
                halving_blocks(len(tasks)),
                k,
            )
        else:
            advantage = np.where(arms.comparable, self._all_advantages(context, arms, tasks), np.nan)
        told = tally(advantage, arms.comparable)
        values = np.where(allowed, told.golden_score, np.nan)
        pruned = ~np.isnan(values) & (told.left > 0)
        return scores(values, values, _reasons(values, allowed, arms), pruned.astype(np.int64), _notes(advantage, arms))

    def _possible_tasks(self, context: Context) -> list[Example]:
        """Rows that can be a task, in the context's order. Raises UserError where there are none."""
        rows = context.target if self.task_source == "target" else context.pool
        possible = [row for row in rows if self.variant == "reference" or _answered(context.chat, context.task, row)]
        if not possible:
            where = "target set" if self.task_source == "target" else "pool"
            raise UserError(
                f"selector.task_source={self.task_source}: no row of the {where} has an answer token within "
                f"model.max_length={context.chat.max_length}, so there are no tasks: raise it or take another source"
            )
        return possible

    def _tasks(self, context: Context) -> list[Example]:
        possible = self._possible_tasks(context)
        if self.task_source == "target":
            return sorted(possible, key=lambda row: row.uid)[: self.m]
        if self.task_source == "random":
            draws = dict(zip((row.uid for row in context.pool), context.draw("nuggets", "tasks"), strict=True))
            return sorted(possible, key=lambda row: draws[row.uid])[: self.m]
        if len(possible) <= self.m:
            return possible
        nearest = context.represent(
            "nuggets_tasks",
            TASKS_VERSION,
            {"m": self.m, "variant": self.variant},
            ("pool", "responses", "prompt", "scorer"),
            lambda: {"positions": self._nearest_to_centres(context, possible)},
        )
        return [possible[position] for position in nearest["positions"]]

    def _nearest_to_centres(self, context: Context, possible: Sequence[Example]) -> np.ndarray:
        with context.importing():
            import sklearn.cluster  # noqa: F401
        chat, task = context.chat, context.task
        if self.variant == "reference":
            sequences = [reference.candidate(chat, task, row)[: reference.EMBEDDED_TOKENS] for row in possible]
        else:
            whole = [(*chat.context(task, row), *chat.response(row)) for row in possible]
            sequences = [ids[: chat.max_length] for ids in whole]
        embeddings = context.scorer.mean_hidden(sequences, "embeddings of the pool")
        return np.sort(nearest_to_centres(embeddings, kmeans_labels(embeddings, self.m, KMEANS_SEED)))

    def _arms(self, context: Context, tasks: Sequence[Example]) -> Arms:
        chat, task, pool = context.chat, context.task, context.pool
        if self.variant == "reference":
            alone = [reference.task_pair(chat, task, row) for row in tasks]
            candidates = [reference.candidate(chat, task, row) for row in pool]
            nowhere = np.zeros((len(pool), len(tasks)), dtype=np.bool_)
            return Arms(candidates, [pair.context for pair in alone], alone, nowhere, chat.max_length)
        candidates, behind = with_shared_start(
            [(*chat.context(task, row), *chat.ids(row.response)) if _answered(chat, task, row) else () for row in pool],
            [ids_behind_an_answer(chat, task, row) for row in tasks],
        )
        alone = [self._alone(chat, task, row) for row in tasks]
        asked = np.array([content_key(row.input, row.history) for row in pool])
        copies = asked[:, None] == np.array([content_key(row.input, row.history) for row in tasks])
        return Arms(candidates, behind, alone, copies, chat.max_length)

    def _alone(self, chat: Chat, task: Task, row: Example) -> Pair:
        pair = chat.pair(task, row)
        assert pair is not None, "a row without an answer is no task"
        ends = pair.response[-1] == chat.end_of_turn
        return Pair(pair.context, pair.response[:-1]) if ends and not self.score_eos else pair

    def _all_advantages(self, context: Context, arms: Arms, tasks: Sequence[Example]) -> np.ndarray:
        """s_iit - s_zsl of all rows of the pool for all tasks, [N, m]; 0 where no token is scored or compared. Stored
        block by block, and the same for all budgets and whichever rows may be chosen."""
        everything = np.arange(len(tasks))
        return context.represent_rows(
            "nuggets_advantage",
            ADVANTAGE_VERSION,
            self._key(tasks),
            ("responses", "prompt", "scorer"),
            lambda rows: {"advantage": self._compare(context, arms, tasks, rows, everything)},
        )["advantage"]

    def _advantages(
        self, context: Context, arms: Arms, tasks: Sequence[Example], rows: np.ndarray, block: np.ndarray
    ) -> np.ndarray:
        """The same of these rows for these tasks, [rows, block]: a stored stage."""
        uids = context.uids
        settings = {**self._key(tasks), "rows": key_of([uids[i] for i in rows]), "block": block.tolist()}
        return context.represent(
            "nuggets_advantage",
            ADVANTAGE_VERSION,
            settings,
            ("responses", "prompt", "scorer"),
            lambda: {"advantage": self._compare(context, arms, tasks, rows, block)},
        )["advantage"]

    def _key(self, tasks: Sequence[Example]) -> dict[str, Any]:
        """What comparisons depend on beside the rows that are compared, for keys."""
        return {"variant": self.variant, "score_eos": self.score_eos, "tasks": key_of([row.uid for row in tasks])}

    def _compare(
        self,
        context: Context,
        arms: Arms,
        tasks: Sequence[Example],
        rows: Sequence[int] | np.ndarray,
        block: np.ndarray,
    ) -> np.ndarray:
        zero_shot = self._zero_shot(context, arms, tasks)
        found = np.empty((len(rows), len(block)))
        with context.track("tasks behind each row", len(rows)) as advance:
            for place, i in enumerate(rows):
                one_shot = context.scorer.token_nll_behind(arms.candidates[i], [arms.one_shot(i, j) for j in block])
                found[place] = [
                    (zero_shot[j][: one.size].sum() - one.sum()) / max(one.size, 1)
                    for j, one in zip(block, one_shot, strict=True)
                ]
                advance(1)
        return found

    def _zero_shot(self, context: Context, arms: Arms, tasks: Sequence[Example]) -> list[np.ndarray]:
        """NLL of every answer token of each task alone: a stored stage."""

        def build() -> dict[str, np.ndarray]:
            pairs = [pair if pair.response else None for pair in arms.alone]
            return {"nll": np.concatenate(context.scorer.token_nll(pairs, "tasks alone"))}

        nll = context.represent(
            "nuggets_alone", ALONE_VERSION, self._key(tasks), ("responses", "prompt", "scorer"), build
        )["nll"]
        return np.split(nll, np.cumsum(arms.n_answer)[:-1])


def _answered(chat: Chat, task: Task, row: Example) -> bool:
    """Whether a token of the answer, the end of the turn aside, fits behind the row's own prompt."""
    pair = chat.pair(task, row)
    return pair is not None and pair.response != (chat.end_of_turn,)


def _reasons(values: np.ndarray, allowed: np.ndarray, arms: Arms) -> tuple[str, ...]:
    why = np.select(
        [~np.isnan(values), ~allowed, [not ids for ids in arms.candidates], arms.room.any(axis=1)],
        ["", BARRED, NO_RESPONSE, ONLY_COPIES],
        NO_ROOM,
    )
    return tuple(str(reason) for reason in why)


def _notes(advantage: np.ndarray, arms: Arms) -> dict[str, float | int | str]:
    """Counts over all pairs of row and task, and how the tasks' own win rates are spread."""
    compared = ~np.isnan(advantage)
    known = compared.any(axis=0)
    rates = (advantage > 0).sum(axis=0)[known] / compared.sum(axis=0)[known]
    notes: dict[str, float | int | str] = {
        "tasks": len(arms.alone),
        "compared": int(compared.sum()),
        "compared_with_cut_answer": int((compared & (arms.n_scored < arms.n_answer)).sum()),
        "ties": int((advantage == 0).sum()),
        "left_out_no_room": int((~arms.room).sum()),
        "left_out_copies": int((arms.room & arms.copies).sum()),
    }
    if rates.size:
        spread = zip(("min", "median", "max"), np.quantile(rates, [0, 0.5, 1]), strict=True)
        notes.update({f"task_win_rate_{name}": round(float(rate), 4) for name, rate in spread})
    return notes
