"""What a data set is: examples in three disjoint splits, and a task that says how they are put to a model."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

from dwbench.component import component, key_of
from dwbench.errors import UserError

Turn = tuple[str, str]
"""(role, content), role being `system`, `user` or `assistant`."""


@dataclass(frozen=True)
class Example:
    """One row.

    Attributes:
        id: the row's own id, or its number in its file from 0; unique within a split.
        uid: hash of the content and, for copies of a row, which copy it is; unique within a split and independent
            of the order of rows. Random draws and ties go by it.
        index: position in the split, from 0.
        input: what the row asks: question, dialogue, instruction; without the task's own wording.
        response: the answer to learn.
        references: all accepted answers, `response` among them.
        history: turns before `input`, for rows with several turns.
        kind: what sort of row it is, where that is known (`dwbench.data.planted`); no part of its content.
    """

    id: str
    uid: str
    index: int
    input: str
    response: str
    references: tuple[str, ...]
    history: tuple[Turn, ...] = ()
    kind: str = ""


def content_key(input: str, history: Sequence[Turn] = ()) -> str:
    """What makes two rows the same question: input and history with white space and case normalised."""
    text = "\n".join([*(f"{role}: {content}" for role, content in history), input])
    return hashlib.sha256(" ".join(text.lower().split()).encode()).hexdigest()


@dataclass(frozen=True)
class RawRow:
    """A row before it has its place in a split. `where` is `file:line`, for messages."""

    id: str
    input: str
    response: str
    where: str
    references: tuple[str, ...] = ()
    history: tuple[Turn, ...] = ()
    kind: str = ""


def number_rows(rows: Iterable[RawRow]) -> tuple[Example, ...]:
    """Examples in the given order, with their uids. Raises UserError for a duplicate id."""
    seen: Counter[str] = Counter()
    places: dict[str, str] = {}
    examples = []
    for index, row in enumerate(rows):
        if row.id in places:
            raise UserError(f"{row.where}: id {row.id!r} is also that of {places[row.id]}: make ids unique")
        places[row.id] = row.where
        content = key_of([row.history, row.input, row.response, row.references])
        uid = content if seen[content] == 0 else f"{content}-{seen[content]}"
        seen[content] += 1
        examples.append(
            Example(
                id=row.id,
                uid=uid,
                index=index,
                input=row.input,
                response=row.response,
                references=row.references or (row.response,),
                history=row.history,
                kind=row.kind,
            )
        )
    return tuple(examples)


@component
class Task:
    """How the rows of a data set are put to a model: one definition for selection, tuning and evaluation.

    Attributes:
        name: short name; also that of the lm-eval task.
        system: system turn. Empty: none.
        user: user turn, with `{input}` where the row's input goes.
        input_label, answer_label: how inputs and answers are called in a prompt with several examples
            (`Dialogue`/`Summary`).
        icl_system: system turn of such a prompt.
        metric: `exact_match` (the number behind `####`) or `rouge_l` (F1 with stemming).
        multiline: whether an answer may have more than one line.
        max_new_tokens: cap of a generated answer in the evaluation.
    """

    name: str
    system: str
    user: str
    input_label: str
    answer_label: str
    icl_system: str
    metric: Literal["exact_match", "rouge_l"]
    multiline: bool
    max_new_tokens: int

    def __post_init__(self) -> None:
        if "{input}" not in self.user:
            raise ValueError("user: has no {input}, so that rows would not reach the model")
        if self.max_new_tokens < 1:
            raise ValueError("max_new_tokens: must be at least 1")

    def prompt_identity(self) -> dict[str, str]:
        """What determines `turns`, and nothing else: of this tuning and losses depend."""
        return {"system": self.system, "user": self.user}

    def icl_identity(self) -> dict[str, Any]:
        """What determines prompts with several examples, how their answers are read and what these are worth."""
        names = ("icl_system", "input_label", "answer_label", "metric", "multiline")
        return {name: getattr(self, name) for name in names}

    def turns(self, example: Example) -> list[Turn]:
        """The turns before the answer: system, history, user."""
        system = [("system", self.system)] if self.system else []
        # Not str.format: inputs hold braces.
        return [*system, *example.history, ("user", self.user.replace("{input}", example.input))]


@dataclass(frozen=True)
class Written:
    """That a model writes the pool's responses (`dwbench.synthesis`).

    Attributes:
        source: the pool as it was read.
        by: plain data that determines, with `source`, what is written.
        stages: names of the stored stages that hold it; none as long as it is not written.
        counts: of what was written: responses, and those that are empty, had no room or were cut.
    """

    source: tuple[Example, ...]
    by: Mapping[str, Any]
    stages: tuple[str, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Splits:
    """The data of a run.

    Attributes:
        pool: what selectors choose from.
        target: labelled rows that targeted selectors may look at.
        test: what the tuned model is scored on.
        notes: what was left out or regrouped, with counts, one line each.
        written: where a model writes the pool's responses, how. Until it has, `pool` is as it was read.
    """

    pool: tuple[Example, ...]
    target: tuple[Example, ...]
    test: tuple[Example, ...]
    notes: tuple[str, ...] = ()
    written: Written | None = None

    def __post_init__(self) -> None:
        if not self.pool:
            raise UserError("the pool is empty: give a file with at least one row")
        keys = {name: {content_key(row.input, row.history): row for row in getattr(self, name)} for name in SPLITS}
        for one, other in (("target", "pool"), ("test", "pool"), ("test", "target")):
            both = keys[one].keys() & keys[other].keys()
            if both:
                row = keys[one][min(both)]
                raise UserError(
                    f"{len(both)} rows of the {one} set are also in the {other}, first with id {row.id!r}: "
                    f"take them out of one of the two"
                )

    def as_read(self) -> "Splits":
        """The data before a model wrote anything: all that is known of a run before it computes."""
        return self if self.written is None else replace(self, pool=self.written.source)


SPLITS = ("pool", "target", "test")


def fingerprint(examples: Sequence[Example], ordered: bool = False) -> str:
    """Hash of the rows' contents; their order counts only where `ordered`, ids and paths never do."""
    uids = [example.uid for example in examples]
    return key_of(uids if ordered else sorted(uids))


class Dataset(Protocol):
    """A source of splits. An implementation is a component; `task` may be one of its fields."""

    @property
    def name(self) -> str: ...

    @property
    def task(self) -> Task: ...

    def load(self, seed: int) -> Splits:
        """The splits; `seed` drives whatever is held out or subsampled. Raises UserError for bad input."""
        ...
