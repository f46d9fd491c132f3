"""A pool whose responses a model writes: stored block by block, charged to no selector, part of what the pool is."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import PositiveInt

from dwbench.component import NOT_IN_KEY, component, identity, key_of
from dwbench.data.base import Example, RawRow, Splits, Task, Written, number_rows
from dwbench.models.spec import LM
from dwbench.selectors.material import Models
from dwbench.store import Artefact, Bench, Store, write_json

VERSION = 1
STAGE = "synthesise"

ROWS_A_BLOCK = 64
"""Rows whose responses are one stored stage: what a process that is killed can lose."""


@component
class Synthesis:
    """The responses of the pool's rows are greedy answers of a model to their prompts (`Writer`).

    Attributes:
        model: who writes: a configured model, a folder or a hub id; None: the model to be tuned. Its weights are in
            the key, not its name.
        max_new_tokens: cap of an answer; None: the task's.
    """

    model: str | None = field(default=None, metadata=NOT_IN_KEY)
    max_new_tokens: PositiveInt | None = None


@dataclass(frozen=True)
class Writer:
    """Writes the pool's responses. Inputs stay as they are, and so do target and test set.

    An answer is kept as it comes but for white space at its ends, also where the cap cut it. Where it is empty, or the
    row's prompt leaves no room for one, the row stays in the pool with an empty response: nothing can be learnt from
    it, and it ranks last for every selector. The notes of the splits count all of these.

    Attributes:
        lm: the model that writes. task: how rows are put to it, as in tuning.
        max_new_tokens: cap of an answer.
    """

    lm: LM
    task: Task
    max_new_tokens: int

    def planned(self, splits: Splits) -> Splits:
        """The splits with a note of what is to be written; the pool is still as it was read."""
        return replace(splits, written=Written(splits.pool, self._identity()))

    def write(self, splits: Splits, bench: Bench, models: Models) -> Splits:
        """The splits with the pool written: the blocks that are not stored are generated."""
        stages = [
            bench.stage(STAGE, self._key(rows), partial(self._generate, bench, models, rows))
            for rows in _blocks(splits)
        ]
        return self._filled_in(splits, stages)

    def stored(self, splits: Splits, store: Store) -> Splits | None:
        """The same where all of it is stored; None where something is still to be written."""
        found = [store.find(STAGE, key_of(self._key(rows))) for rows in _blocks(splits)]
        known = [stage for stage in found if stage is not None]
        return self._filled_in(splits, known) if len(known) == len(found) else None

    def _identity(self) -> dict[str, Any]:
        return {
            "version": VERSION,
            "writer": identity(self.lm),
            "prompt": self.task.prompt_identity(),
            "max_new_tokens": self.max_new_tokens,
        }

    def _key(self, rows: Sequence[Example]) -> dict[str, Any]:
        asked = [[list(map(list, row.history)), row.input] for row in rows]
        return {**self._identity(), "rows": key_of(asked)}

    def _generate(self, bench: Bench, models: Models, rows: Sequence[Example], folder: Path) -> None:
        """Write `answers.json`: text and `finished` for each row, null where its prompt leaves no room."""
        with bench.apart("load"):
            scorer = models.scorer(self.lm, bench)
        prompts = [scorer.chat.context(self.task, row) for row in rows]
        fits = [len(prompt) + self.max_new_tokens <= scorer.chat.max_length for prompt in prompts]
        fitting = [prompt for prompt, has_room in zip(prompts, fits, strict=True) if has_room]
        found = iter(scorer.answers(fitting, self.max_new_tokens, what="responses of the pool").answers)
        answers = [next(found) if has_room else None for has_room in fits]
        told = [None if one is None else {"text": one.text, "finished": one.finished} for one in answers]
        write_json(folder / "answers.json", told)

    def _filled_in(self, splits: Splits, stages: Sequence[Artefact]) -> Splits:
        assert splits.written is not None
        answers: dict[str, dict[str, Any] | None] = {}
        for rows, stage in zip(_blocks(splits), stages, strict=True):
            told = stage.json("answers.json")
            answers |= {row.uid: answer for row, answer in zip(rows, told, strict=True)}
        texts = {uid: answer["text"].strip() if answer else "" for uid, answer in answers.items()}
        source = splits.written.source
        pool = number_rows(
            RawRow(row.id, row.input, texts[row.uid], f"row {row.id}", history=row.history, kind=row.kind)
            for row in source
        )
        counts = {
            "responses": sum(bool(text) for text in texts.values()),
            "empty": sum(answer is not None and not texts[uid] for uid, answer in answers.items()),
            "no_room": sum(answer is None for answer in answers.values()),
            "cut": sum(answer is not None and not answer["finished"] for answer in answers.values()),
        }
        note = (
            f"pool: {self.lm.name} wrote the responses of {counts['responses']:,} of {len(pool):,} rows, "
            f"{counts['cut']:,} of them cut at {self.max_new_tokens} tokens; without one are {counts['empty']:,} for "
            f"an empty answer and {counts['no_room']:,} for a prompt that leaves no room: these rank last"
        )
        written = replace(splits.written, stages=tuple(stage.ref for stage in stages), counts=counts)
        return replace(splits, pool=pool, notes=(*splits.notes, note), written=written)


def _blocks(splits: Splits) -> list[tuple[Example, ...]]:
    """The pool as it was read, in blocks that do not depend on its order."""
    assert splits.written is not None
    rows = sorted(splits.written.source, key=lambda row: row.uid)
    return [tuple(rows[start : start + ROWS_A_BLOCK]) for start in range(0, len(rows), ROWS_A_BLOCK)]
