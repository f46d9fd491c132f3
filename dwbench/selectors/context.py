"""What a selector is given: data and models, of which it reaches what it declared; what it computes is stored."""

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal, Protocol, cast

import numpy as np

from dwbench import seeds
from dwbench.component import identity
from dwbench.data.base import Example, Splits, Task, Turn, fingerprint
from dwbench.errors import UndeclaredNeedError
from dwbench.models.chat import Chat, Pair
from dwbench.models.encoder import Encoder
from dwbench.models.spec import LM
from dwbench.representations.encode import Embedder
from dwbench.representations.scorer import Scorer
from dwbench.store import Bench
from dwbench.training.sft import LoraSFT, adapter_folder, train_identity, tune

Need = Literal["responses", "target", "task", "scorer", "tokenizer", "embedder", "training", "seed", "order"]
"""What a selector can ask for:

- `responses`: the pool's answers, not only its prompts;
- `target`: the labelled target set;
- `task`: the data set's prompts and metric;
- `scorer`: a language model;
- `tokenizer`: the tokenizer of the model to be tuned, alone;
- `embedder`: a text encoder;
- `training`: tuning the language model with the run's own settings;
- `seed`: random draws;
- `order`: the data set's own order of rows (only for what a reference implementation makes of it).
"""

Part = Need | Literal["pool", "prompt", "icl", "weights"]
"""What a stored representation can depend on: a need, the rows of the pool, of the task the chat turns alone
(`prompt`) or the prompts with several examples (`icl`), of the scorer the weights and their precision (`weights`)."""

EMBED_VERSION = 1

INCLUDED_IN: dict[Part, Need] = {"prompt": "task", "icl": "task", "weights": "scorer"}

ROWS_A_BLOCK = 512
"""Rows of the pool whose representation is one stored stage: what a process that is killed can lose."""


class Models(Protocol):
    """Loads models on demand, each once."""

    def chat(self, lm: LM) -> Chat: ...

    def config(self, lm: LM) -> Any: ...

    def scorer(self, lm: LM, bench: Bench, adapter: Path | None = None) -> Scorer: ...

    def embedder(self, encoder: Encoder, bench: Bench) -> Embedder: ...

    def release(self) -> None: ...


@dataclass(frozen=True)
class Material:
    """What there is to select with; `Context` shows a selector the part of it that it declared.

    Attributes:
        model: the model to be tuned. scorer: the one that selectors compute with. embedder: the text encoder.
        train: how the scorer is tuned where a method tunes it.
    """

    splits: Splits
    task: Task
    model: LM
    scorer: LM
    embedder: Encoder
    train: LoraSFT
    seed: int


@dataclass(frozen=True)
class Checkpoint:
    """The scoring model after an epoch of a tuning. `ref` names it in keys; `folder` holds the adapter."""

    ref: str
    folder: Path

    @property
    def stage(self) -> str:
        """The stage that made it."""
        return self.ref.rpartition(":")[0]


def pool_order(needs: frozenset[Need], pool: Sequence[Example]) -> tuple[Example, ...]:
    """The order of all arrays: by content, so that the file's does not matter, unless `order` is needed."""
    return tuple(sorted(pool, key=lambda row: row.index if "order" in needs else row.uid))


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
        self._pool = pool_order(needs, splits.pool)
        self._target = pool_order(needs, splits.target)

    def _require(self, need: Need) -> None:
        if need not in self._needs:
            declared = ", ".join(sorted(self._needs)) or "nothing"
            raise UndeclaredNeedError(f"the selector reached for {need!r} but declares {declared}")

    @property
    def ids(self) -> list[str]:
        """Ids of the pool's rows, in the order of all arrays."""
        return [row.id for row in self._pool]

    @property
    def uids(self) -> list[str]:
        """What the pool's rows are told apart by, in the order of all arrays: hashes of their content."""
        return [row.uid for row in self._pool]

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
        return self._material.task

    @cached_property
    def scorer(self) -> Scorer:
        """The scoring model, loaded on first use. Needs `scorer`."""
        self._require("scorer")
        with self._bench.apart("load"):
            return self._models.scorer(self._material.scorer, self._bench)

    def scorer_with(self, checkpoint: Checkpoint) -> Scorer:
        """The scoring model as a tuning left it; it takes the place of the untuned one and of other checkpoints.

        Needs `scorer` and `training`."""
        self._require("scorer")
        self._require("training")
        self._bench.use(checkpoint.stage)
        self.__dict__.pop("scorer", None)
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
        """The tokenizer of the scoring model (needs `scorer`), or else of the model to be tuned (needs `tokenizer`)."""
        if "scorer" not in self._needs:
            self._require("tokenizer")
        with self._bench.apart("load"):
            return self._models.chat(self._material.scorer if "scorer" in self._needs else self._material.model)

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

    def check_tuning(self, rows: int, epochs: int) -> None:
        """Raise UserError where tuning on so many rows would do nothing. Needs `training`."""
        self._require("training")
        dataclasses.replace(self._material.train, epochs=epochs).check_steps(rows)

    def tune(self, positions: Sequence[int], epochs: int, stop_after: int | None = None) -> tuple[Checkpoint, ...]:
        """Tune the scoring model by LoRA on these rows of the pool, and keep it after every epoch: stored, charged.

        The settings are those of the run's own tuning, but for the number of `epochs`, which the learning rate's
        schedule is made for; training ends after `stop_after` of them. Rows must have a response token within
        the model's maximum length. Needs `training`, `responses`, `task`, `scorer` and `seed`.
        """
        for need in ("training", "responses", "scorer", "seed"):
            self._require(need)
        pairs = {self._pool[position].uid: self.chat.pair(self.task, self._pool[position]) for position in positions}
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
        stage = self._bench.stage("train", key, lambda folder: self._tune(known, train, folder, done))
        return tuple(
            Checkpoint(f"{stage.ref}:{epoch}", adapter_folder(stage.folder, epoch)) for epoch in range(1, done + 1)
        )

    def _tune(self, pairs: Sequence[Pair], train: LoraSFT, folder: Path, epochs: int) -> None:
        self.__dict__.pop("scorer", None)
        self._models.release()  # else two copies of the weights stand in memory
        tune(self._bench, self._material.scorer, pairs, train, self._material.seed, folder, epochs)

    def draw(self, *axes: str | int) -> np.ndarray:
        """A number in [0, 1) for every row of the pool, by its content and the seed. Needs `seed`."""
        self._require("seed")
        return seeds.draw(self.uids, self._material.seed, "select", *axes)

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
            "pool": lambda: fingerprint(self._pool, ordered),
            "target": lambda: fingerprint(self._target, ordered),
            "task": lambda: identity(self._material.task),
            "prompt": self._material.task.prompt_identity,
            "icl": self._material.task.icl_identity,
            "scorer": lambda: identity(self._material.scorer),
            "weights": lambda: [self._material.scorer.weights_identity(), self._material.scorer.resolved_dtype()],
            "tokenizer": lambda: self._material.model.weights_identity(),
            "embedder": lambda: identity(self._material.embedder),
            "training": self._training_identity,
            "seed": lambda: self._material.seed,
        }
        for part in parts:
            need = INCLUDED_IN.get(part, part)
            if need != "pool":
                self._require(cast(Need, need))
        return {part: known[part]() for part in parts if part in known}

    def _training_identity(self) -> dict[str, Any]:
        """How a method tunes the scorer; for how many epochs it says itself."""
        return {name: value for name, value in identity(self._material.train).items() if name != "epochs"}

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

    def represent_rows(
        self,
        name: str,
        version: int,
        settings: dict[str, Any],
        of: Sequence[Part],
        build: Callable[[range], dict[str, np.ndarray]],
    ) -> dict[str, np.ndarray]:
        """As `represent`, for what is computed of each row by itself: stored block by block, so that little is lost
        where the process dies.

        `build(positions)` gives arrays whose first axis is these rows of the pool; `of` is without `pool`.
        """
        shared = {"representation": name, "version": version, "settings": settings, **self.identity_of(*of)}
        blocks = []
        for start in range(0, self.n_rows, ROWS_A_BLOCK):
            positions = range(start, min(start + ROWS_A_BLOCK, self.n_rows))
            rows = fingerprint([self._pool[position] for position in positions], ordered=True)
            blocks.append(self._represented({**shared, "rows": rows}, partial(build, positions)))
        return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}

    def _represented(self, key: dict[str, Any], build: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
        def write(folder: Path) -> None:
            arrays = build()
            with self._bench.apart("store"):
                np.savez(folder / "arrays.npz", allow_pickle=False, **arrays)

        return self._bench.stage("represent", key, write).arrays("arrays.npz")
