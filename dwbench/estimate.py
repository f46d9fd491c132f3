"""What a sweep will cost, before it runs: its own code on engines that compute nothing (`dwbench.dry`).

Stages are shared within the sweep as in the real one, and what the store holds costs nothing. A pool of more than
`WHOLE` rows is stood for by two drawn parts of it: each kind of work is taken to be a fixed part, a part for each row
and one for each row that is chosen. Of such a pool a selection counts as stored only where its last stage is, and what
describes a choice never does: stages of the drawn parts are no stages of the pool.
"""

import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter, ValidationError

from dwbench import seeds
from dwbench.amounts import Amount, extrapolated, growth, total
from dwbench.component import identity, key_of
from dwbench.cost import Cost
from dwbench.data.base import Example, Splits, fingerprint
from dwbench.describe import ARMS, PERPLEXITY_NEEDS
from dwbench.describe import NEEDS as DESCRIBING
from dwbench.dry import AnswerLength, DryModels, Outlines, bytes_not_written
from dwbench.environment import environment
from dwbench.evaluation.harness import documents
from dwbench.models.chat import Pair, cut_response
from dwbench.models.encoder import Encoder
from dwbench.models.spec import LM
from dwbench.run import Prepared, Run, evaluate_identity, prepare, rows_to_choose, select
from dwbench.selectors.base import SetSelector, compute_scores, selection_stage
from dwbench.selectors.context import Context
from dwbench.selectors.losses import response_losses
from dwbench.selectors.models import LoadedModels
from dwbench.selectors.texts import full_text
from dwbench.store import Bench, Manifest, Store
from dwbench.sweep import Planned, Sweep
from dwbench.synthesis import Writer
from dwbench.throughput import Measured, Work, model_key, work_of
from dwbench.training.sft import full_tuning, train_identity

WHOLE = 2000
"""Rows of a pool that selectors are run dry on as it is."""

PARTS = (1000, 2000)
"""Rows that are drawn of a larger one. What methods do a fixed number of (tasks, rows to warm up on, rows to check),
they have mostly done at the smaller part, so that it is not taken to grow."""

FEW = 50
"""Rows that are chosen of a part at least: of fewer, a method of several rounds would leave some out."""

_MANIFEST = TypeAdapter(Manifest)


@dataclass(frozen=True)
class Estimate:
    """Of one run: what it adds to the runs before it. `drawn`: its selection was run on parts of the pool. `data`: of
    writing the pool's responses. `describing`: of the reports on what was chosen, diversity and perplexity."""

    run: Run
    rows: int
    pool: int
    selection: Amount
    tuning: Amount
    evaluation: Amount
    drawn: bool
    data: Amount = field(default_factory=Amount)
    describing: Amount = field(default_factory=Amount)


def models_of(sweep: Sweep) -> list[LM | Encoder]:
    """The models that the sweep may compute with, each once."""
    runs = [planned.run for planned in sweep.planned]
    every = [model for run in runs for model in _computing(run)]
    return list({key_of(identity(model)): model for model in every}.values())


def _computing(run: Run) -> list[LM | Encoder]:
    """The models that a run may compute with."""
    beside = [run.writer.lm if run.writer else None, run.perplexity]
    return [run.scorer, run.model, run.embedder, *(lm for lm in beside if lm is not None)]


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


def sizes_in_parts(n: int, k: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """How many rows to choose of each of `PARTS`, where it is k of n: the same share of both.

    Where that is less than `FEW`: as many of both (nearly k where k is that small, and otherwise a number that another
    k does not lead to, as stages would be taken for shared), and of the larger part also more, if k is more.
    """
    shares = [max(1, round(k * rows / n)) for rows in PARTS]
    if shares[0] >= FEW:
        return (shares[0],), (shares[1],)
    low = min(k, FEW + shares[0])
    high = min(k, low + FEW)
    return (low,), (low, high) if high > low else (low,)


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
        data = Amount()
        if run.writer is not None:
            written = run.writer.stored(splits, store)
            if written is None:
                data = self._writing(run, run.writer, splits, store)
                # Responses are taken to be as long as those that were read; of what is made of them nothing is stored.
                store = Store(self._scratch / "nothing")
            splits = written or splits
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
        selection = Amount() if stored else self._selection(run, splits, k, untrainable, store)
        describing = self._describing(run, splits, store) if k else Amount()
        tuned = bool(k) and not run.select_only
        trained, tuning = self._tuning(run, pairs, k, choice, chosen, store) if tuned else (None, Amount())
        evaluation = Amount() if run.select_only else self._evaluation(run, splits, trained, tuned, store)
        return Estimate(run, k, n, selection, tuning, evaluation, n > WHOLE and not stored, data, describing)

    def _writing(self, run: Run, writer: Writer, splits: Splits, store: Store) -> Amount:
        """What writing the pool's responses adds: of the blocks that no run before has."""
        scratch = Store(self._scratch / "written")
        models = self._models(run, splits, store)
        before = _refs(scratch)
        writer.write(splits, Bench(scratch), models)
        return _added(scratch, _refs(scratch) - before, store, [writer.lm])

    def _prepared(self, run: Run, splits: Splits) -> tuple[Mapping[str, Pair], Mapping[str, str]]:
        key = key_of([identity(run.model), identity(run.dataset.task), fingerprint(splits.pool)])
        if key not in self._pairs:
            self._pairs[key] = prepare(run, self._loaded, splits)
        return self._pairs[key].pairs, self._pairs[key].untrainable

    def _selection(self, run: Run, splits: Splits, k: int, untrainable: Mapping[str, str], store: Store) -> Amount:
        """All that choosing adds."""
        n = len(splits.pool)
        if n <= WHOLE:
            return self._choosing(run, splits, (k,), untrainable, store)[0]
        few, many = sizes_in_parts(n, k)
        if not isinstance(run.selector, SetSelector):
            many = many[:1]  # scores know nothing of k
        small, *_ = self._choosing(run, _part(splits, PARTS[0]), few, untrainable, store)
        large, *larger = self._choosing(run, _part(splits, PARTS[1]), many, untrainable, store)
        found = extrapolated(small, large, PARTS, n)
        if not larger:
            return found
        return total((found, growth(large, larger[0], (k - many[0]) / (many[1] - many[0]))))

    def _choosing(
        self, run: Run, splits: Splits, sizes: Sequence[int], untrainable: Mapping[str, str], store: Store
    ) -> list[Amount]:
        """What choosing adds, for each of `sizes`, to the runs before: what sizes share is in all of them."""
        bench = self._bench(splits)
        models, before, found = self._models(run, splits, store), _refs(bench.store), []
        for k in sizes:
            context = Context(run.selector.needs, bench, run.material(splits), models)
            allowed = _allowed(context, untrainable)
            stage, key = selection_stage(run.selector, context, k, allowed)
            build = partial(_choose, run, context, k, allowed)
            used = bench.store.closure((bench.stage(stage, key, build).ref,))
            found.append(_added(bench.store, used.keys() - before, store, _computing(run)))
        return found

    def _describing(self, run: Run, splits: Splits, store: Store) -> Amount:
        """What the reports on what was chosen add, all runs on the pool together."""
        n = len(splits.pool)
        if n <= WHOLE:
            return self._described(run, splits, store)
        small, large = (self._described(run, _part(splits, rows), store) for rows in PARTS)
        return extrapolated(small, large, PARTS, n)

    def _described(self, run: Run, splits: Splits, store: Store) -> Amount:
        bench, models, material = self._bench(splits), self._models(run, splits, store), run.material(splits)
        before = _refs(bench.store)
        if run.diversity:
            context = Context(DESCRIBING, bench, material, models)
            context.embed([full_text(row) for row in context.pool])
        if run.perplexity is not None:
            context = Context(PERPLEXITY_NEEDS, bench, replace(material, scorer=run.perplexity), models)
            for arm in ARMS.values():
                response_losses(context, arm)
        return _added(bench.store, _refs(bench.store) - before, store, _computing(run))

    def _bench(self, splits: Splits) -> Bench:
        """On the store of pools of this size."""
        return Bench(Store(self._scratch / str(len(splits.pool))))

    def _models(self, run: Run, splits: Splits, store: Store) -> DryModels:
        return DryModels(
            self._outlines, run.dataset.task, run.train, lambda lm: self._length(lm, run, splits, store, tuned=False)
        )

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


def _choose(run: Run, context: Context, k: int, allowed: np.ndarray, folder: Path) -> None:
    values = compute_scores(run.selector, context, k, allowed).values
    np.savez(folder / "scores.npz", allow_pickle=False, values=values)


def _added(scratch: Store, refs: Collection[str], store: Store, computing: Sequence[LM | Encoder]) -> Amount:
    """What these dry stages in `scratch` amount to, those apart that are in the real `store`."""
    found = Amount()
    for ref, manifest in _manifests(scratch):
        if ref in refs and store.find(manifest.stage, manifest.key) is None:
            work = work_of(manifest.stage, manifest.identity, manifest.cost, computing)
            found.add(work, manifest.cost, sum(manifest.sizes.values()) + bytes_not_written(scratch.root / ref))
    return found


def _refs(store: Store) -> set[str]:
    return {ref for ref, _ in _manifests(store)}


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
