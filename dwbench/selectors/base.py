"""What a selector is, and what it may reach.

A selector is one component with a `score` method, or with `choose` where what is taken depends on how many rows are. It
declares in `needs` what it uses; the key of its result is made of exactly that, and `Context` refuses everything else,
also when the result lies in the store already. So `random` is drawn once for all models, and a loss is computed once
for all seeds.
"""

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

import numpy as np

from dwbench import seeds
from dwbench.component import identity, key_of
from dwbench.data.base import Example, Splits, Task, Turn, fingerprint
from dwbench.errors import UndeclaredNeedError
from dwbench.models.chat import Chat
from dwbench.models.encoder import Encoder
from dwbench.models.spec import LM
from dwbench.representations.encode import Embedder
from dwbench.representations.scorer import Scorer
from dwbench.rules.ranking import Scores
from dwbench.store import Bench
from dwbench.training.sft import LoraSFT, adapter_folder, train_identity, tune

Need = Literal["responses", "target", "task", "scorer", "tokenizer", "embedder", "training", "seed", "order"]
"""What a selector can ask for:

- `responses`: the pool's answers, not only its prompts;
- `target`: the labelled target set;
- `task`: the data set's prompts and metric;
- `scorer`: a language model;
- `tokenizer`: its tokenizer alone;
- `embedder`: a text encoder;
- `training`: tuning the language model with the run's own settings;
- `seed`: random draws;
- `order`: the data set's own order of rows (only for what a reference implementation makes of it).
"""

Part = Need | Literal["pool", "prompt", "icl"]
"""What a stored representation can depend on: a need, the rows of the pool, or of the task the chat turns alone
(`prompt`) or the prompts with several examples (`icl`)."""

SCORE_VERSION = 1
EMBED_VERSION = 1


class Models(Protocol):
    """Loads models on demand, each once."""

    def chat(self, lm: LM) -> Chat: ...

    def config(self, lm: LM) -> Any: ...

    def scorer(self, lm: LM, bench: Bench, adapter: Path | None = None) -> Scorer: ...

    def embedder(self, encoder: Encoder, bench: Bench) -> Embedder: ...


@runtime_checkable
class Selector(Protocol):
    """A published method. An implementation is a component (frozen, validated) with these members, and with `score`
    (`ScoreSelector`) or `choose` (`SetSelector`).

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


@runtime_checkable
class ScoreSelector(Selector, Protocol):
    """A method that scores rows; 1, 5 and 10 % are cuts of one ranking."""

    def score(self, context: "Context") -> Scores:
        """A score for every row of `context`'s pool, in its order. Knows nothing of the budget."""
        ...


@runtime_checkable
class SetSelector(Selector, Protocol):
    """A method whose choice depends on its size: quotas, greedy sets."""

    def choose(self, context: "Context", k: int, allowed: np.ndarray) -> Scores:
        """Scores by which exactly the k chosen rows rank first (by tier, then preference).

        `allowed` [N] is false for rows that nothing can be learnt from: they take no place while others are left.
        """
        ...


@runtime_checkable
class Checking(Protocol):
    """A selector that can tell before anything is computed that its settings don't suit the data or the model."""

    def check(self, context: "Context") -> None:
        """Raise UserError where they don't. Loads no weights."""
        ...


@dataclass(frozen=True)
class Material:
    """What there is to select with; `Context` shows a selector the part of it that it declared.

    Attributes:
        scorer: the model that selectors compute with. embedder: the text encoder. train: how the scorer is tuned
            where a method tunes it.
    """

    splits: Splits
    task: Task
    scorer: LM
    embedder: Encoder
    train: LoraSFT
    seed: int


@dataclass(frozen=True)
class Checkpoint:
    """The scoring model after an epoch of a tuning. `ref` names it in keys; `folder` holds the adapter."""

    ref: str
    folder: Path


class Context:
    """What a selector is given: exactly what it declared.

    Pool and target set are in an order of their own (by content), not the file's, so that no method depends on that
    order unless it declares `order`.
    """

    def __init__(self, needs: frozenset[Need], bench: Bench, material: Material, models: Models) -> None:
        self._needs = needs
        self._bench = bench
        self._material = material
        self._models = models
        splits = material.splits
        self.rows = tuple(sorted(splits.pool, key=lambda row: row.index if "order" in needs else row.uid))
        self._target = tuple(sorted(splits.target, key=lambda row: row.index if "order" in needs else row.uid))

    def _require(self, need: Need) -> None:
        if need not in self._needs:
            declared = ", ".join(sorted(self._needs)) or "nothing"
            raise UndeclaredNeedError(f"the selector reached for {need!r} but declares {declared}")

    @property
    def ids(self) -> list[str]:
        """Ids of the pool's rows, in the order of all arrays."""
        return [row.id for row in self.rows]

    @property
    def n_rows(self) -> int:
        return len(self.rows)

    @property
    def pool(self) -> Sequence[Example]:
        """The pool with its responses. Needs `responses`."""
        self._require("responses")
        return self.rows

    @property
    def turns(self) -> list[list[Turn]]:
        """The prompts of the pool without responses. Needs `task`."""
        return [self.task.turns(row) for row in self.rows]

    @property
    def target(self) -> Sequence[Example]:
        """The target set. Needs `target`."""
        self._require("target")
        return self._target

    @property
    def task(self) -> Task:
        self._require("task")
        return self._material.task

    @cached_property
    def scorer(self) -> Scorer:
        """The scoring model, loaded on first use. Needs `scorer`."""
        self._require("scorer")
        with self._bench.apart("load"):
            return self._models.scorer(self._material.scorer, self._bench)

    def scorer_with(self, checkpoint: Checkpoint) -> Scorer:
        """The scoring model as a tuning left it. The one of another checkpoint must not be in use any more.

        Needs `scorer` and `training`."""
        self._require("scorer")
        self._require("training")
        with self._bench.apart("load"):
            return self._models.scorer(self._material.scorer, self._bench, checkpoint.folder)

    @property
    def model_config(self) -> Any:
        """The scoring model's architecture, as transformers' configuration; loads no weights. Needs `scorer`."""
        self._require("scorer")
        with self._bench.apart("load"):
            return self._models.config(self._material.scorer)

    @cached_property
    def chat(self) -> Chat:
        """The scoring model's tokenizer. Needs `tokenizer` or `scorer`."""
        if "scorer" not in self._needs:
            self._require("tokenizer")
        with self._bench.apart("load"):
            return self._models.chat(self._material.scorer)

    def embed(self, texts: Sequence[str], what: str = "embeddings") -> np.ndarray:
        """Unit vectors of texts, float32 [texts, d]: stored, shared, charged. Needs `embedder`."""
        self._require("embedder")
        encoder = self._material.embedder
        digest = hashlib.sha256()
        for text in texts:
            digest.update(hashlib.sha256(text.encode()).digest())
        key = {
            "representation": "embeddings",
            "version": EMBED_VERSION,
            "embedder": identity(encoder),
            "texts": digest.hexdigest(),
        }

        def build() -> dict[str, np.ndarray]:
            with self._bench.apart("load"):
                embedder = self._models.embedder(encoder, self._bench)
            return {"vectors": embedder.embed(texts, what)}

        return self._represented(key, build)["vectors"]

    def tune(self, positions: Sequence[int], epochs: int, stop_after: int | None = None) -> tuple[Checkpoint, ...]:
        """Tune the scoring model by LoRA on these rows of the pool, and keep it after every epoch: stored, charged.

        The settings are those of the run's own tuning, but for the number of `epochs`, which the learning rate's
        schedule is made for; training ends after `stop_after` of them. Rows must have a response token within
        the model's maximum length. Needs `training`, `responses`, `task`, `scorer` and `seed`.
        """
        for need in ("training", "responses", "scorer", "seed"):
            self._require(need)
        pairs = {self.rows[position].uid: self.chat.pair(self.task, self.rows[position]) for position in positions}
        known = [pair for _, pair in sorted(pairs.items()) if pair is not None]
        if len(known) != len(positions):
            raise ValueError(f"{len(positions) - len(known)} of the rows to tune on are copies or have no response")
        material = self._material
        train = dataclasses.replace(material.train, epochs=epochs)
        done = stop_after or epochs
        key = {
            **train_identity(material.scorer, train, material.task, pairs, material.seed),
            "kept_epochs": done,
        }
        stage = self._bench.stage(
            "train", key, lambda folder: tune(self._bench, material.scorer, known, train, material.seed, folder, done)
        )
        return tuple(
            Checkpoint(f"{stage.ref}:{epoch}", adapter_folder(stage.folder, epoch)) for epoch in range(1, done + 1)
        )

    def draw(self, *axes: str | int) -> np.ndarray:
        """A number in [0, 1) for every row of the pool, by its content and the seed. Needs `seed`."""
        self._require("seed")
        return seeds.draw([row.uid for row in self.rows], self._material.seed, "select", *axes)

    def draw_target(self, *axes: str | int) -> np.ndarray:
        """The same for the target set. Needs `seed` and `target`."""
        self._require("seed")
        return seeds.draw([row.uid for row in self.target], self._material.seed, "select", "target", *axes)

    def derive(self, *axes: str | int) -> int:
        """A 32-bit seed for what can't be drawn row by row (k-means' first centres). Needs `seed`."""
        self._require("seed")
        return seeds.derive(self._material.seed, "select", *axes)

    def importing(self) -> AbstractContextManager[None]:
        """Imports inside the block are not charged to the selector."""
        return self._bench.apart("import")

    def track(self, what: str, total: int) -> Any:
        """Progress of a long loop, as `Progress.track`."""
        return self._bench.progress.track(what, total)

    def identity_of(self, *parts: Part) -> dict[str, Any]:
        """Plain data that determines the named parts of what this selector sees."""
        ordered = "order" in self._needs
        known: dict[str, Callable[[], Any]] = {
            "pool": lambda: fingerprint(self.rows, ordered),
            "target": lambda: fingerprint(self._target, ordered),
            "task": lambda: identity(self._material.task),
            "prompt": self._material.task.prompt_identity,
            "icl": self._material.task.icl_identity,
            "scorer": lambda: identity(self._material.scorer),
            "tokenizer": lambda: self._material.scorer.weights_identity(),
            "embedder": lambda: identity(self._material.embedder),
            "training": lambda: identity(self._material.train),
            "seed": lambda: self._material.seed,
        }
        for part in parts:
            if part == "prompt" or part == "icl":
                self._require("task")
            elif part != "pool":
                self._require(part)
        return {part: known[part]() for part in parts if part in known}

    def represent(
        self,
        name: str,
        version: int,
        settings: dict[str, Any],
        of: Sequence[Part],
        build: Callable[[], dict[str, np.ndarray]],
    ) -> dict[str, np.ndarray]:
        """A representation as named arrays: stored, shared by all selectors that ask for the same, charged to each.

        Args:
            name: what it is; also the progress display's word.
            version: raised by hand when `build` changes what comes out.
            settings: plain data that `build` depends on.
            of: which of the things that the selector declared `build` depends on, and `pool`; `prompt` or
                `icl` instead of `task` where it is only that part of it.
            build: computes the arrays; called only where they are not stored.
        """
        key = {"representation": name, "version": version, "settings": settings, **self.identity_of(*of)}
        return self._represented(key, build)

    def _represented(self, key: dict[str, Any], build: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
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


def selection_stage(selector: Selector, context: Context, k: int, allowed: np.ndarray) -> tuple[str, dict[str, Any]]:
    """Name and identity of the stage that holds a selector's scores: one for all budgets, or one for this choice."""
    scores = score_identity(selector, context)
    if not isinstance(selector, SetSelector):
        return "score", scores
    barred = [row.uid for row, may in zip(context.rows, allowed, strict=True) if not may]
    return "select", {**scores, "rows": k, "barred": key_of(sorted(barred))}


def compute_scores(selector: Selector, context: Context, k: int, allowed: np.ndarray) -> Scores:
    """Let the selector score, or choose k of the rows that are allowed."""
    if isinstance(selector, SetSelector):
        return selector.choose(context, k, allowed)
    assert isinstance(selector, ScoreSelector), f"{type(selector).__name__} has neither score nor choose"
    return selector.score(context)
