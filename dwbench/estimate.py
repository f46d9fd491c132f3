"""What a sweep will cost, before it runs: its own code on engines that compute nothing (`dwbench.dry`).

Stages are shared within the sweep as in the real one, and what the store holds costs nothing. A pool of more than
`WHOLE` rows is stood for by two drawn parts of it: each kind of work is taken to be a fixed part and a part for each
row. Of such a pool a selection counts as stored only where its last stage is.
"""

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter, ValidationError

from dwbench import seeds
from dwbench.component import identity, key_of
from dwbench.cost import Cost
from dwbench.data.base import Example, Splits, fingerprint
from dwbench.describe import NEEDS as DESCRIBING
from dwbench.dry import AnswerLength, DryModels, Outlines, bytes_not_written
from dwbench.environment import environment
from dwbench.evaluation.harness import documents
from dwbench.models.chat import Pair, cut_response
from dwbench.models.encoder import Encoder
from dwbench.models.spec import LM
from dwbench.run import Prepared, Run, evaluate_identity, prepare, rows_to_choose, select
from dwbench.selectors.base import compute_scores, selection_stage
from dwbench.selectors.context import Context
from dwbench.selectors.models import LoadedModels
from dwbench.selectors.texts import full_text
from dwbench.store import Bench, Manifest, Store
from dwbench.sweep import Planned, Sweep
from dwbench.throughput import Measured, Work, model_key, work_of
from dwbench.training.sft import full_tuning, train_identity

WHOLE = 1000
"""Rows of a pool that selectors are run dry on as it is."""

PARTS = (500, 1000)
"""Rows that are drawn of a larger one."""

COUNTS = ("forward_tokens", "backward_tokens", "generated_tokens", "forward_calls", "backward_calls", "flop")

_MANIFEST = TypeAdapter(Manifest)


@dataclass
class Amount:
    """Work by what it is, and the bytes that it leaves in the store."""

    work: dict[Work, Cost] = field(default_factory=dict)
    stored: float = 0.0

    def add(self, work: Work | None, cost: Cost, stored: float = 0.0) -> None:
        if work is not None:
            self.work[work] = self.work.get(work, Cost()) + cost
        self.stored += stored

    @property
    def cost(self) -> Cost:
        return sum(self.work.values(), Cost())


def total(amounts: Iterable[Amount]) -> Amount:
    """All of them together."""
    found = Amount()
    for amount in amounts:
        for work, cost in amount.work.items():
            found.add(work, cost)
        found.stored += amount.stored
    return found


@dataclass(frozen=True)
class Estimate:
    """Of one run: what it adds to the runs before it. `drawn`: its selection was run on parts of the pool."""

    run: Run
    rows: int
    pool: int
    selection: Amount
    tuning: Amount
    evaluation: Amount
    drawn: bool


def models_of(sweep: Sweep) -> list[LM | Encoder]:
    """The models that the sweep may compute with, each once."""
    runs = [planned.run for planned in sweep.planned]
    every = [model for run in runs for model in (run.scorer, run.model, run.embedder)]
    return list({key_of(identity(model)): model for model in every}.values())


def measured(stores: Iterable[Store], models: Sequence[LM | Encoder]) -> Measured:
    """The throughput of these models by the stages in the stores that this hardware computed."""
    hardware = environment()["hardware"]
    found = []
    for _, manifest in chain.from_iterable(map(_manifests, stores)):
        if manifest.environment.get("hardware") == hardware and manifest.cost.seconds > 0:
            work = work_of(manifest.stage, manifest.identity, manifest.cost, models)
            if work is not None:
                found.append((work, manifest.cost))
    return Measured(found)


def estimate(sweep: Sweep, models: LoadedModels, answer_tokens: int | None = None) -> list[Estimate]:
    """The cost of every run, in order, each stage charged to the first run that needs it.

    `answer_tokens` is the assumed length of all answers. Without it they are as long as the model's answers to the same
    task in the store, in evaluations or behind examples, or else as the pool's responses.
    """
    with tempfile.TemporaryDirectory() as scratch:
        runs = _DryRuns(Path(scratch), models, answer_tokens)
        return [runs.of(planned) for planned in sweep.planned]


def extrapolated(small: Amount, large: Amount, rows: tuple[int, int], n: int) -> Amount:
    """The amount for n rows, from those for two numbers of rows: of each kind of work a fixed part and one a row."""
    factor = (n - rows[1]) / (rows[1] - rows[0])
    found = Amount(stored=large.stored + max(0.0, large.stored - small.stored) * factor)
    for work, cost in large.work.items():
        before = small.work.get(work, Cost())
        values = {
            name: getattr(cost, name) + max(0.0, getattr(cost, name) - getattr(before, name)) * factor
            for name in COUNTS
        }
        found.add(work, Cost(**{name: value if name == "flop" else round(value) for name, value in values.items()}))
    return found


class _DryRuns:
    """The runs of a sweep, one after another, with stores that they share: one for each size of pool."""

    def __init__(self, scratch: Path, models: LoadedModels, answer_tokens: int | None) -> None:
        self._scratch = scratch
        self._loaded = models
        self._outlines = Outlines(models)
        self._answer_tokens = answer_tokens
        self._charged: set[str] = set()
        self._pairs: dict[str, Prepared] = {}
        self._lengths: dict[str, AnswerLength] = {}

    def of(self, planned: Planned) -> Estimate:
        run, splits, n = planned.run, planned.splits, len(planned.splits.pool)
        store = Store(Path(planned.job.config["store_dir"]))
        pairs, untrainable = self._prepared(run, splits)
        k = rows_to_choose(run, n)
        chosen, choice = None, run.selector_name
        stored = run.selector.fixed_share is not None
        if not stored:
            context = Context(run.selector.needs, Bench(store), run.material(splits), self._loaded)
            stage, key = selection_stage(run.selector, context, k, _allowed(context, untrainable))
            choice = f"{stage}/{key_of(key)}"
            stored = store.find(stage, key_of(key)) is not None
        if stored:
            material = run.material(splits)
            rows = select(Bench(store), self._loaded, run.selector, material, k, untrainable).chosen
            chosen = [row.uid for row in rows if row.uid in pairs]
        selection = self._selection(run, splits, k, untrainable, store, stored)
        tuned = bool(k) and not run.select_only
        trained, tuning = self._tuning(run, pairs, k, choice, chosen, store) if tuned else (None, Amount())
        evaluation = Amount() if run.select_only else self._evaluation(run, splits, trained, tuned, store)
        return Estimate(run, k, n, selection, tuning, evaluation, n > WHOLE and not stored)

    def _prepared(self, run: Run, splits: Splits) -> tuple[Mapping[str, Pair], Mapping[str, str]]:
        key = key_of([identity(run.model), identity(run.dataset.task), fingerprint(splits.pool)])
        if key not in self._pairs:
            self._pairs[key] = prepare(run, self._loaded, splits)
        return self._pairs[key].pairs, self._pairs[key].untrainable

    def _selection(
        self, run: Run, splits: Splits, k: int, untrainable: Mapping[str, str], store: Store, stored: bool
    ) -> Amount:
        """All that choosing, and describing what was chosen, adds."""
        n = len(splits.pool)
        if n <= WHOLE:
            return self._on(run, splits, k, untrainable, store, stored)
        small, large = (
            self._on(run, _part(splits, rows), max(1, round(k * rows / n)), untrainable, store, stored)
            for rows in PARTS
        )
        return extrapolated(small, large, PARTS, n)

    def _on(
        self, run: Run, splits: Splits, k: int, untrainable: Mapping[str, str], store: Store, stored: bool
    ) -> Amount:
        scratch = Store(self._scratch / str(len(splits.pool)))
        bench, material = Bench(scratch), run.material(splits)
        models = DryModels(
            self._outlines, run.dataset.task, run.train, lambda lm: self._length(lm, run, splits, store, tuned=False)
        )
        before = {ref for ref, _ in _manifests(scratch)}
        if not stored:
            context = Context(run.selector.needs, bench, material, models)
            allowed = _allowed(context, untrainable)
            stage, key = selection_stage(run.selector, context, k, allowed)

            def build(folder: Path) -> None:
                values = compute_scores(run.selector, context, k, allowed).values
                np.savez(folder / "scores.npz", allow_pickle=False, values=values)

            bench.stage(stage, key, build)
        if run.diversity and k:
            describing = Context(DESCRIBING, bench, material, models)
            describing.embed([full_text(row) for row in describing.pool])
        found = Amount()
        computing = (run.scorer, run.model, run.embedder)
        for ref, manifest in _manifests(scratch):
            if ref not in before and store.find(manifest.stage, manifest.key) is None:
                work = work_of(manifest.stage, manifest.identity, manifest.cost, computing)
                found.add(work, manifest.cost, sum(manifest.sizes.values()) + bytes_not_written(scratch.root / ref))
        return found

    def _tuning(
        self, run: Run, pairs: Mapping[str, Pair], k: int, choice: str, chosen: Sequence[str] | None, store: Store
    ) -> tuple[str, Amount]:
        """A name of the adapter, and what its tuning adds. Where it is not known which rows are chosen, the name is no
        key, and they are as long as the pool's."""
        uids = [] if chosen is None else chosen
        key = key_of(train_identity(run.model, run.train, run.dataset.task, uids, run.seed))
        ref = f"train/{key}"
        if chosen is None:
            ref += f"/{choice}/{k}"
        if (chosen is not None and store.find("train", key)) or not self._first(ref):
            return ref, Amount()
        rows = list(pairs.values()) if chosen is None else [pairs[uid] for uid in chosen]
        share = 1.0 if chosen is not None else min(1.0, k / len(rows))
        whole = full_tuning(self._outlines.shape(run.model), rows, run.train)
        tokens = round(whole["tokens"] * share)
        calls = round(run.train.epochs * len(rows) * share)
        found = Amount()
        found.add(
            Work(model_key(run.model), "tuning"),
            Cost(
                forward_tokens=tokens,
                backward_tokens=tokens,
                forward_calls=calls,
                backward_calls=calls,
                flop=whole["flop"] * share,
            ),
            self._outlines.adapter_bytes(run.model, run.train),
        )
        return ref, found

    def _evaluation(self, run: Run, splits: Splits, trained: str | None, tuned: bool, store: Store) -> Amount:
        """What the evaluation adds, of our own requests: other tasks of lm-eval are not known here."""
        evaluated = evaluate_identity(run, splits, trained)
        if store.find("evaluate", key_of(evaluated)) or not self._first(f"evaluate/{key_of(evaluated)}"):
            return Amount()
        length = self._length(run.model, run, splits, store, tuned)
        models = DryModels(self._outlines, run.dataset.task, run.train, lambda lm: length)
        bench = Bench(Store(self._scratch / "evaluations"))
        key = {**evaluate_identity(run, splits, None), "length": [length.free, length.shown]}
        stage = bench.stage("evaluate", key, lambda folder: _evaluate(run, splits, models, bench))
        found = Amount()
        found.add(Work(model_key(run.model), "evaluation"), stage.cost)
        return found

    def _first(self, what: str) -> bool:
        """Whether this is the first run that needs it."""
        first = what not in self._charged
        self._charged.add(what)
        return first

    def _length(self, lm: LM, run: Run, splits: Splits, store: Store, tuned: bool) -> AnswerLength:
        if self._answer_tokens is not None:
            return AnswerLength(self._answer_tokens, self._answer_tokens)
        key = key_of([identity(lm), fingerprint(splits.pool), identity(run.dataset.task), str(store.root), tuned])
        if key not in self._lengths:
            chat = self._loaded.chat(lm)
            responses = np.mean([len(chat.response(row)) for row in _drawn(splits.pool, PARTS[0])])
            free, shown = _answers_before(store, lm, run, tuned), _shown_before(store, lm, run)
            self._lengths[key] = AnswerLength(*(round(responses if n is None else n) for n in (free, shown)))
        return self._lengths[key]


def _evaluate(run: Run, splits: Splits, models: DryModels, bench: Bench) -> None:
    scorer, task = models.scorer(run.model, bench), run.dataset.task
    chat = scorer.chat
    rows = documents(chat, task, splits.test, run.evaluation, run.split_seed)
    pairs = []
    for row in rows["nll"]:
        context = chat.ids(row["prompt"])
        whole = (*chat.ids(row["response"]), chat.end_of_turn)
        pairs.append(Pair(context, cut_response(len(context), whole, chat.max_length)))
    scorer.response_nll(pairs)
    scorer.answers([chat.ids(row["prompt"]) for row in rows["generation"]], task.max_new_tokens)


def _answers_before(store: Store, lm: LM, run: Run, tuned: bool) -> float | None:
    """Mean tokens of the model's answers in the store's evaluations on the same task; those that are tuned, or not, as
    is wanted, or else the others. None where there are none."""
    wanted = {"model": identity(lm), "task": identity(run.dataset.task)}
    found: dict[bool, list[float]] = {True: [], False: []}
    for _, manifest in _manifests(store):
        told = manifest.identity
        if manifest.stage == "evaluate" and {name: told.get(name) for name in wanted} == wanted:
            artefact = store.find("evaluate", manifest.key)
            metric = artefact.json("metrics.json").get("response_tokens_mean") if artefact else None
            if metric is not None:
                found[told.get("trained") is not None].append(metric["value"])
    lengths = found[tuned] or found[not tuned]
    return float(np.mean(lengths)) if lengths else None


def _shown_before(store: Store, lm: LM, run: Run) -> float | None:
    """Mean tokens of the model's answers, each by itself, in the store's prompts with several examples and questions of
    the same task. None where there are none."""
    wanted = {"scorer": identity(lm), "icl": run.dataset.task.icl_identity()}
    tokens = answers = 0
    for _, manifest in _manifests(store):
        told = manifest.identity
        if manifest.cost.generated_tokens and {name: told.get(name) for name in wanted} == wanted:
            tokens += manifest.cost.generated_tokens
            answers += manifest.cost.forward_calls * int(told["settings"].get("n_q", 1))
    return tokens / answers if answers else None


def _allowed(context: Context, untrainable: Mapping[str, str]) -> np.ndarray:
    return np.array([uid not in untrainable for uid in context.uids])


def _part(splits: Splits, rows: int) -> Splits:
    return replace(splits, pool=tuple(_drawn(splits.pool, rows)))


def _drawn(pool: Sequence[Example], rows: int) -> list[Example]:
    """Rows of the pool, drawn by content, in its order; of fewer rows a part of those of more."""
    order = np.argsort(seeds.draw([row.uid for row in pool], 0, "estimate"), kind="stable")
    return [pool[position] for position in sorted(order[:rows].tolist())]


def _manifests(store: Store) -> Iterator[tuple[str, Manifest]]:
    """Stages in a store by `<stage>/<key>`, without a look at their files."""
    for path in sorted(store.root.glob("*/*/manifest.json")):
        try:
            manifest = _MANIFEST.validate_json(path.read_bytes())
        except (FileNotFoundError, ValidationError):
            continue  # being replaced, or damaged: as good as absent
        yield f"{manifest.stage}/{manifest.key}", manifest
