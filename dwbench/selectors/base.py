"""What a selector is, and what it may reach.

A selector is one component with a `score` method. It declares in `needs` what it uses; the key of its result is made of
exactly that, and `Context` refuses everything else, also when the result lies in the store already. So `random` is
drawn once for all models, and a loss is computed once for all seeds.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

import numpy as np

from dwbench import seeds
from dwbench.component import identity
from dwbench.data.base import Example, Splits, Task, Turn, fingerprint
from dwbench.errors import UndeclaredNeedError
from dwbench.models.chat import Chat
from dwbench.models.spec import LM
from dwbench.representations.scorer import Scorer
from dwbench.rules.ranking import Scores
from dwbench.store import Bench

Need = Literal["responses", "target", "task", "scorer", "tokenizer", "seed", "order"]
"""What a selector can ask for:

- `responses`: the pool's answers, not only its prompts;
- `target`: the labelled target set;
- `task`: the data set's prompts and metric;
- `scorer`: a language model;
- `tokenizer`: its tokenizer alone;
- `seed`: random draws;
- `order`: the data set's own order of rows (only for what a reference implementation makes of it).
"""

SCORE_VERSION = 1


class Models(Protocol):
    """Loads models on demand, each once."""

    def chat(self, lm: LM) -> Chat: ...

    def scorer(self, lm: LM, bench: Bench) -> Scorer: ...


@runtime_checkable
class Selector(Protocol):
    """A published method. An implementation is a component (frozen, validated) with these members.

    Attributes:
        version: raised by hand when the code changes what comes out.
        paper: where the method is from.
        cost_class: what it costs for each row of the pool, in words.
        fixed_share: share of the pool that the method takes whatever the budget; None: the budget decides.
    """

    version: ClassVar[int]
    paper: ClassVar[str]
    cost_class: ClassVar[str]
    fixed_share: ClassVar[float | None]

    @property
    def needs(self) -> frozenset[Need]: ...

    def score(self, context: "Context") -> Scores:
        """A score for every row of `context`'s pool, in its order. Knows nothing of the budget."""
        ...


class Context:
    """What a selector is given: exactly what it declared.

    The pool is in an order of its own (by content), not the file's, so that no method depends on that order unless
    it declares `order`.
    """

    def __init__(
        self,
        needs: frozenset[Need],
        bench: Bench,
        splits: Splits,
        task: Task,
        lm: LM,
        seed: int,
        models: Models,
    ) -> None:
        self._needs = needs
        self._bench = bench
        self._pool = sorted(splits.pool, key=lambda row: row.index if "order" in needs else row.uid)
        self._target = splits.target
        self._task = task
        self._lm = lm
        self._seed = seed
        self._models = models

    def _require(self, need: Need) -> None:
        if need not in self._needs:
            declared = ", ".join(sorted(self._needs)) or "nothing"
            raise UndeclaredNeedError(f"the selector reached for {need!r} but declares {declared}")

    @property
    def ids(self) -> list[str]:
        """Ids of the pool's rows, in the order of all arrays."""
        return [row.id for row in self._pool]

    @property
    def n_rows(self) -> int:
        return len(self._pool)

    @property
    def pool(self) -> Sequence[Example]:
        """The pool with its responses. Needs `responses`."""
        self._require("responses")
        return self._pool

    @property
    def turns(self) -> list[list[Turn]]:
        """The prompts of the pool without responses. Needs `task`."""
        return [self.task.turns(row) for row in self._pool]

    @property
    def target(self) -> Sequence[Example]:
        """The target set. Needs `target`."""
        self._require("target")
        return self._target

    @property
    def task(self) -> Task:
        self._require("task")
        return self._task

    @cached_property
    def scorer(self) -> Scorer:
        """The scoring model, loaded on first use. Needs `scorer`."""
        self._require("scorer")
        with self._bench.meter.apart("load"):
            return self._models.scorer(self._lm, self._bench)

    @cached_property
    def chat(self) -> Chat:
        """The scoring model's tokenizer. Needs `tokenizer` or `scorer`."""
        if "scorer" not in self._needs:
            self._require("tokenizer")
        with self._bench.meter.apart("load"):
            return self._models.chat(self._lm)

    def draw(self, *axes: str | int) -> np.ndarray:
        """A number in [0, 1) for every row of the pool, by its content and the seed. Needs `seed`."""
        self._require("seed")
        return seeds.draw([row.uid for row in self._pool], self._seed, "select", *axes)

    def draw_target(self, *axes: str | int) -> np.ndarray:
        """The same for the target set. Needs `seed` and `target`."""
        self._require("seed")
        return seeds.draw([row.uid for row in self.target], self._seed, "select", "target", *axes)

    def importing(self) -> AbstractContextManager[None]:
        """Imports inside the block are not charged to the selector."""
        return self._bench.meter.apart("import")

    def track(self, what: str, total: int) -> Any:
        """Progress of a long loop, as `Progress.track`."""
        return self._bench.progress.track(what, total)

    def identity_of(self, *parts: Need | Literal["pool"]) -> dict[str, Any]:
        """Plain data that determines the named parts of what this selector sees."""
        known: dict[str, Callable[[], Any]] = {
            "pool": lambda: fingerprint(self._pool),
            "target": lambda: fingerprint(self._target),
            "task": lambda: identity(self._task),
            "scorer": lambda: identity(self._lm),
            "tokenizer": lambda: self._lm.weights_identity(),
            "seed": lambda: self._seed,
        }
        for part in parts:
            if part != "pool":
                self._require(part)
        return {part: known[part]() for part in parts if part in known}

    def represent(
        self,
        name: str,
        version: int,
        settings: dict[str, Any],
        of: Sequence[Need | Literal["pool"]],
        build: Callable[[], dict[str, np.ndarray]],
    ) -> dict[str, np.ndarray]:
        """A representation as named arrays: stored, shared by all selectors that ask for the same, charged to each.

        Args:
            name: what it is; also the progress display's word.
            version: raised by hand when `build` changes what comes out.
            settings: plain data that `build` depends on.
            of: which of the things that the selector declared `build` depends on.
            build: computes the arrays; called only where they are not stored.
        """
        key = {"representation": name, "version": version, "settings": settings, **self.identity_of(*of)}

        def write(folder: Path) -> None:
            np.savez_compressed(folder / "arrays.npz", allow_pickle=False, **build())

        return self._bench.stage("represent", key, write).arrays("arrays.npz")


def score_identity(selector: Selector, context: Context) -> dict[str, Any]:
    """Plain data that determines a selector's scores: itself and what it declares that it needs."""
    needs = sorted(need for need in selector.needs if need != "responses")
    return {
        "version": [SCORE_VERSION, selector.version],
        "selector": identity(selector),
        **context.identity_of("pool", *needs),
    }
