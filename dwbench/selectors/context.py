"""What a selector is given: data and models, of which it reaches what it declared; what it computes is stored."""

import dataclasses
import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np

from dwbench import seeds
from dwbench.component import identity, key_of
from dwbench.data.base import Example, Task, Turn, fingerprint
from dwbench.errors import UndeclaredNeedError, UserError
from dwbench.models.chat import Chat
from dwbench.representations.gradients import Gradients
from dwbench.representations.scorer import Scorer
from dwbench.selectors.material import Checkpoint, Material, Models, Need, Part, pool_order
from dwbench.store import Artefact, Bench
from dwbench.training.checkpoints import Keep, adapter_folder, moments_file
from dwbench.training.sft import train_identity, untuned_identity

EMBED_VERSION = 1

INCLUDED_IN: dict[Part, Need] = {"prompt": "task", "icl": "task", "weights": "scorer"}

ROWS_A_BLOCK = 512
"""Rows of the pool whose representation is one stored stage: what a process that is killed can lose."""


class Context:
    """What a selector is given: exactly what it declared.

    Pool and target set are in an order of their own (by content), not the file's, so that no method depends on that
    order unless it declares `order`. Of planted noise they don't tell: every row's `kind` is empty.
    """

    def __init__(self, needs: frozenset[Need], bench: Bench, material: Material, models: Models) -> None:
        self._needs = needs
        self._bench = bench
        self._material = material
        self._models = models
        splits = material.splits
        self._pool = tuple(map(_of_no_kind, pool_order(needs, splits.pool)))
        self._target = tuple(map(_of_no_kind, pool_order(needs, splits.target)))

    def _require(self, need: Need) -> None:
        if need not in self._needs:
            declared = ", ".join(sorted(self._needs)) or "nothing"
            raise UndeclaredNeedError(f"the selector reached for {need!r} but declares {declared}")

    @property
    def ids(self) -> list[str]:
        """Ids of the pool's rows, in the order of all arrays. Needs `ids`."""
        self._require("ids")
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
        self._need_tuned(checkpoint)
        with self._bench.apart("load"):
            return self._models.scorer(self._material.scorer, self._bench, checkpoint.folder)

    @cached_property
    def model_scorer(self) -> Scorer:
        """The model to be tuned, as a scoring model beside `scorer`. Needs `model`."""
        self._require("model")
        with self._bench.apart("load"):
            return self._models.scorer(self._material.model, self._bench)

    def gradients(self, checkpoint: Checkpoint | None = None, of: Literal["scorer", "model"] = "scorer") -> Gradients:
        """Per-sample gradients of the scoring model, untuned or as a tuning left it, or of the model to be tuned.

        As with `scorer_with` there is one tuned model at a time. Needs `scorer` or `model`, with a checkpoint also
        `training`."""
        self._require(of)
        if checkpoint is None:
            with self._bench.apart("load"):
                return self._models.gradients(
                    self._material.model if of == "model" else self._material.scorer, self._bench
                )
        if of == "model":
            raise ValueError("checkpoints are of the scoring model, not of the one to be tuned")
        self._need_tuned(checkpoint)
        with self._bench.apart("load"):
            return self._models.gradients(self._material.scorer, self._bench, checkpoint.folder)

    def _need_tuned(self, checkpoint: Checkpoint) -> None:
        self._require("scorer")
        self._require("training")
        self._bench.use(checkpoint.stage)
        self._forget_models()

    def _forget_models(self) -> None:
        """Let go of the models that this object holds, so that `Models` can free their weights."""
        self.__dict__.pop("scorer", None)
        self.__dict__.pop("model_scorer", None)

    def model_config(self, of: Literal["scorer", "model"] = "scorer") -> Any:
        """Architecture of the scoring model or of the one to be tuned, as transformers' configuration; loads no
        weights. Needs `scorer` or `model`."""
        self._require(of)
        with self._bench.apart("load"):
            return self._models.config(self._material.model if of == "model" else self._material.scorer)

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
            vectors = embedder.embed(texts, what)
            if not np.isfinite(vectors).all():
                row = int(np.argmin(np.isfinite(vectors).all(axis=1)))
                raise UserError(f"embedder {encoder.name}: gives no finite vector for the text {texts[row][:80]!r}")
            return {"vectors": vectors}

        return self._represented(key, build)["vectors"]

    def check_tuning(self, rows: int, epochs: int) -> None:
        """Raise UserError where tuning on so many rows would do nothing. Needs `training`."""
        self._require("training")
        dataclasses.replace(self._material.train, epochs=epochs).check_steps(rows)

    def tune(
        self,
        positions: Sequence[int],
        epochs: int,
        stop_after: int | None = None,
        *,
        per_epoch: int = 1,
        moments: bool = False,
        start: Checkpoint | None = None,
    ) -> tuple[Checkpoint, ...]:
        """Tune the scoring model by LoRA on these rows of the pool, and keep it after every epoch: stored, charged.

        The settings are those of the run's own tuning, but for the number of `epochs`, which the learning rate's
        schedule is made for; training ends after `stop_after` of them. Each epoch leaves `per_epoch` checkpoints at
        even distances, fewer where it has fewer steps, with Adam's `moments` where they are asked for. With `start`
        it goes on from there, with a fresh optimizer and schedule. Rows must have a response token within the model's
        maximum length. Needs `training`, `responses`, `task`, `scorer` and `seed`.
        """
        for need in ("training", "responses", "scorer", "seed"):
            self._require(need)
        pairs = {self._pool[position].uid: self.chat.pair(self.task, self._pool[position]) for position in positions}
        known = [pair for _, pair in sorted(pairs.items()) if pair is not None]
        if len(known) != len(positions):
            raise ValueError(f"{len(positions) - len(known)} of the rows to tune on are copies or have no response")
        material = self._material
        train = dataclasses.replace(material.train, epochs=epochs)
        keep = Keep(stop_after or epochs, per_epoch, moments, start.folder if start else None)
        key = {
            **train_identity(material.scorer, train, material.task, pairs, material.seed),
            "kept": [keep.epochs, per_epoch, moments, start.ref if start else None],
        }

        def build(folder: Path) -> None:
            if start is not None:
                self._bench.use(start.stage)
            self._forget_models()
            self._models.tune(material.scorer, self._bench, known, train, material.seed, folder, keep)

        return _checkpoints(self._bench.stage("train", key, build), moments)

    def untuned(self) -> Checkpoint:
        """The scoring model with a fresh adapter: A drawn by the seed, B = 0. Needs `training`, `scorer`, `seed`."""
        for need in ("training", "scorer", "seed"):
            self._require(need)
        material = self._material

        def build(folder: Path) -> None:
            self._forget_models()
            self._models.untuned(material.scorer, self._bench, material.train, material.seed, folder)

        key = untuned_identity(material.scorer, material.train, material.seed)
        stage = self._bench.stage("train", key, build)
        return Checkpoint(f"{stage.ref}:0", adapter_folder(stage.folder))

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
            "model": lambda: identity(self._material.model),
            "weights": lambda: [self._material.scorer.weights_identity(), self._material.scorer.resolved_dtype()],
            "tokenizer": lambda: self._material.model.weights_identity(),
            "embedder": lambda: identity(self._material.embedder),
            "training": self._training_identity,
            "seed": lambda: self._material.seed,
            "ids": lambda: key_of(sorted((row.uid, row.id) for row in self._pool)),
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
        blocks = [arrays for _, arrays in self.represent_blocks(name, version, settings, of, build)]
        return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}

    def represent_blocks(
        self,
        name: str,
        version: int,
        settings: dict[str, Any],
        of: Sequence[Part],
        build: Callable[[range], dict[str, np.ndarray]],
    ) -> Iterator[tuple[range, dict[str, np.ndarray]]]:
        """The blocks of `represent_rows`, one at a time, with the rows that they are of: for what is too large to be
        held for a whole pool."""
        shared = {"representation": name, "version": version, "settings": settings, **self.identity_of(*of)}
        for start in range(0, self.n_rows, ROWS_A_BLOCK):
            positions = range(start, min(start + ROWS_A_BLOCK, self.n_rows))
            rows = fingerprint([self._pool[position] for position in positions], ordered=True)
            yield positions, self._represented({**shared, "rows": rows}, partial(build, positions))

    def _represented(self, key: dict[str, Any], build: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
        def write(folder: Path) -> None:
            arrays = build()
            with self._bench.apart("store"):
                np.savez(folder / "arrays.npz", allow_pickle=False, **arrays)

        return self._bench.stage("represent", key, write).arrays("arrays.npz")


def _of_no_kind(row: Example) -> Example:
    return dataclasses.replace(row, kind="") if row.kind else row  # most pools have no kinds: they are not held twice


def _checkpoints(stage: Artefact, moments: bool) -> tuple[Checkpoint, ...]:
    made = stage.json("training.json")["checkpoints"]
    return tuple(
        Checkpoint(
            ref=f"{stage.ref}:{number}",
            folder=adapter_folder(stage.folder, number),
            step=one["step"],
            rate=one["rate"],
            moments=moments_file(stage.folder, number) if moments else None,
        )
        for number, one in enumerate(made, start=1)
    )
