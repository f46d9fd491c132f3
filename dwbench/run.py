"""One run: select, tune, evaluate, record. A pure function of its configuration; every stage is stored."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dwbench import seeds
from dwbench.budget import Budget
from dwbench.choice import kept_places, kinds, samples
from dwbench.component import identity, key_of
from dwbench.cost import Cost
from dwbench.data.base import SPLITS, Dataset, Example, Splits, fingerprint
from dwbench.data.planted import Plant
from dwbench.describe import description
from dwbench.errors import UserError
from dwbench.evaluation.harness import Evaluation, evaluate, item_scores
from dwbench.models.chat import Chat, Pair
from dwbench.models.encoder import Encoder
from dwbench.models.flop import Shape
from dwbench.models.loading import load_config
from dwbench.models.spec import LM
from dwbench.records import differing
from dwbench.rules.ranking import Ranking, Scores, rank
from dwbench.selectors.base import Selector, compute_scores, selection_stage, versions
from dwbench.selectors.context import Context
from dwbench.selectors.material import Material, pool_order
from dwbench.selectors.models import LoadedModels
from dwbench.store import Artefact, Bench, write_json
from dwbench.synthesis import Writer
from dwbench.training.checkpoints import adapter_folder
from dwbench.training.sft import TRAIN_VERSION, LoraSFT, full_tuning, train_identity, tune

EVALUATE_VERSION = 1
SHAPE_VERSION = 1


@dataclass(frozen=True)
class Run:
    """All that determines a run, as built objects.

    Attributes:
        dataset, model, selector, train, evaluation: the axes.
        scorer: the model that selectors compute with; usually `model`.
        embedder: the text encoder that selectors compute with.
        selector_name: as configured; `selector_label` adds the fields that differ from that configuration.
        budget: how many rows.
        seed: of ties, random draws and tuning. `split_seed`: of held-out and subsampled rows, the same for all seeds.
        plant: noise to put into the pool, or None.
        writer: the model that writes the pool's responses; None: they are the data set's.
        perplexity: the model under which the chosen rows' perplexity is reported, or None; no part of the key.
        diversity: report on the diversity of what is chosen; no part of the key.
        record_samples: chosen and rejected rows whose texts the record shows; no part of the key.
        select_only: leave out tuning and evaluation.
        experiment: folder of its record below the results; no part of its key.
    """

    dataset: Dataset
    model: LM
    scorer: LM
    embedder: Encoder
    selector: Selector
    selector_name: str
    selector_label: str
    budget: Budget
    seed: int
    split_seed: int
    train: LoraSFT
    evaluation: Evaluation
    plant: Plant | None = None
    writer: Writer | None = None
    perplexity: LM | None = None
    diversity: bool = False
    record_samples: int = 0
    select_only: bool = False
    experiment: str | None = None

    def load(self) -> Splits:
        """The data, with what is planted into the pool; what a model is to write into it is not yet written. Raises
        UserError for bad input."""
        splits = self.dataset.load(self.split_seed)
        if self.writer is not None:
            return self.writer.planned(splits)
        return splits if self.plant is None else self.plant.into(splits, self.split_seed)

    def key(self, splits: Splits) -> str:
        """The run's key: what is selected from, by what, how much, and what is done with it. The same before and after
        the pool is written."""
        splits = splits.as_read()
        needs = self.selector.needs
        ordered = ("pool", "target") if "order" in needs else ()
        k = rows_to_choose(self, len(splits.pool))
        trains = k > 0 and not self.select_only
        return key_of(
            {
                "data": {split: fingerprint(getattr(splits, split), split in ordered) for split in SPLITS},
                **({"written": splits.written.by} if splits.written else {}),
                "task": identity(self.dataset.task),
                "model": identity(self.model),
                "scorer": identity(self.scorer) if "scorer" in needs else None,
                "embedder": identity(self.embedder) if "embedder" in needs else None,
                "selector": [*versions(self.selector), identity(self.selector)],
                **({"ids": key_of(sorted((row.uid, row.id) for row in splits.pool))} if "ids" in needs else {}),
                "rows": k,
                "seed": self.seed,
                "split_seed": self.split_seed,
                "train": [TRAIN_VERSION, identity(self.train)] if trains or "training" in needs else None,
                "evaluation": None if self.select_only else [EVALUATE_VERSION, identity(self.evaluation)],
            }
        )

    def material(self, splits: Splits) -> Material:
        """What the selector may be given."""
        return Material(splits, self.dataset.task, self.model, self.scorer, self.embedder, self.train, self.seed)


def rows_to_choose(run: Run, n: int) -> int:
    """k of this run; the selector's own share goes before the budget."""
    share = run.selector.fixed_share
    return run.budget.rows(n) if share is None else round(share * n)


class Selection(NamedTuple):
    """The outcome of selecting.

    Attributes:
        ranking: order of the pool (in `context`'s order) and ties at the cut.
        chosen: the k rows, first choice first.
        scores: with rows that can't be trained on marked invalid.
        artefact: the stored scores; None where the selector has nothing to compute.
        rows: the pool in the order of the scores.
    """

    ranking: Ranking
    chosen: tuple[Example, ...]
    scores: Scores
    artefact: Artefact | None
    rows: tuple[Example, ...]


def select(
    bench: Bench,
    models: LoadedModels,
    selector: Selector,
    material: Material,
    k: int,
    untrainable: Mapping[str, str],
) -> Selection:
    """Score the pool (or find the scores) and choose k rows.

    Args:
        untrainable: uid and reason of rows that nothing can be learnt from; for every selector they rank last.
    """
    context = Context(selector.needs, bench, material, models)
    rows = pool_order(selector.needs, material.splits.pool)
    allowed = np.array([row.uid not in untrainable for row in rows])
    found, artefact = _scores(bench, selector, context, k, allowed)
    found = _mark_untrainable(found, rows, untrainable)
    ranking = rank(found, k, seeds.draw(context.uids, material.seed, "ties"))
    chosen = tuple(rows[position] for position in ranking.order[:k])
    return Selection(ranking, chosen, found, artefact, rows)


def _scores(
    bench: Bench, selector: Selector, context: Context, k: int, allowed: np.ndarray
) -> tuple[Scores, Artefact | None]:
    """What the selector says of the rows, and where that is stored; nowhere where there is nothing to compute."""
    if selector.fixed_share is not None:
        return compute_scores(selector, context, k, allowed), None
    stage, key = selection_stage(selector, context, k, allowed)
    artefact = bench.stage(
        stage, key, lambda folder: _write_scores(compute_scores(selector, context, k, allowed), folder)
    )
    return read_scores(artefact), artefact


def _mark_untrainable(found: Scores, rows: Sequence[Example], untrainable: Mapping[str, str]) -> Scores:
    bad = np.array([row.uid in untrainable for row in rows])
    reasons = tuple(reason or untrainable.get(row.uid, "") for reason, row in zip(found.reasons, rows, strict=True))
    preference = np.where(bad, np.nan, found.preference)
    return Scores(found.values, preference, found.tier, reasons, found.notes)


def _write_scores(found: Scores, folder: Path) -> None:
    arrays = {"values": found.values, "preference": found.preference, "tier": found.tier}
    np.savez_compressed(folder / "scores.npz", allow_pickle=False, **arrays)
    write_json(folder / "scores.json", {"reasons": list(found.reasons), "notes": found.notes})


def read_scores(artefact: Artefact) -> Scores:
    told = artefact.json("scores.json")
    return Scores(**artefact.arrays("scores.npz"), reasons=tuple(told["reasons"]), notes=told["notes"])


def training_pairs(chat: Chat, dataset: Dataset, rows: Sequence[Example]) -> dict[str, Pair]:
    """uid and token ids of every row that something can be learnt from."""
    pairs = {}
    for row in rows:
        pair = chat.pair(dataset.task, row)
        if pair is not None and pair.response != (chat.end_of_turn,):
            pairs[row.uid] = pair
    return pairs


@dataclass(frozen=True)
class Prepared:
    """A run's data in tokens of the model to be tuned.

    Attributes:
        pairs: uid and token ids of every row that something can be learnt from.
        untrainable: uid and reason of the others; they rank last for every selector.
    """

    pairs: Mapping[str, Pair]
    untrainable: Mapping[str, str]


def prepare(run: Run, models: LoadedModels, splits: Splits) -> Prepared:
    """Tokenise the pool. Raises UserError where no row can be trained on."""
    pairs = training_pairs(models.chat(run.model), run.dataset, splits.pool)
    if not pairs:
        raise UserError(f"model.max_length={run.model.max_length}: no row of the pool fits: raise it")
    too_long = "no response token fits behind the prompt within max_length of the model to be tuned"
    bad = [row for row in splits.pool if row.uid not in pairs]
    return Prepared(pairs, {row.uid: too_long if row.response else "its response is empty" for row in bad})


def execute(run: Run, bench: Bench, models: LoadedModels, splits: Splits) -> dict[str, Any]:
    """Do the run and return its record, but for its configuration and command."""
    if run.writer is not None:
        splits = run.writer.write(splits, bench, models)
        models.release()
    prepared = prepare(run, models, splits)
    k = rows_to_choose(run, len(splits.pool))
    selection = select(bench, models, run.selector, run.material(splits), k, prepared.untrainable)
    models.release()
    chosen = {row.uid: prepared.pairs[row.uid] for row in selection.chosen if row.uid in prepared.pairs}
    lengths = {uid: len(pair.response) for uid, pair in chosen.items()}
    described = description(bench, run.material(splits), models, lengths, run.diversity, run.perplexity)
    models.release()
    trained = _train(run, bench, chosen) if chosen and not run.select_only else None
    evaluated = None if run.select_only else _evaluate(run, bench, splits, trained)
    return _record(run, bench, splits, selection, prepared.pairs, described, trained, evaluated)


def evaluate_identity(run: Run, splits: Splits, trained: str | None) -> dict[str, Any]:
    """What determines the metrics; `trained` names the adapter, None for the model as it is."""
    return {
        "version": EVALUATE_VERSION,
        "model": identity(run.model),
        "trained": trained,
        "task": identity(run.dataset.task),
        "test": fingerprint(splits.test),
        "evaluation": identity(run.evaluation),
        "seed": run.split_seed,
    }


def _train(run: Run, bench: Bench, chosen: Mapping[str, Pair]) -> Artefact:
    ordered = [chosen[uid] for uid in sorted(chosen)]
    return bench.stage(
        "train",
        train_identity(run.model, run.train, run.dataset.task, chosen, run.seed),
        lambda folder: tune(bench, run.model, ordered, run.train, run.seed, folder),
    )


def _evaluate(run: Run, bench: Bench, splits: Splits, trained: Artefact | None) -> Artefact:
    adapter = adapter_folder(trained.folder) if trained else None

    def build(folder: Path) -> None:
        evaluate(bench, run.model, adapter, run.dataset.task, splits.test, run.evaluation, run.split_seed, folder)

    return bench.stage("evaluate", evaluate_identity(run, splits, trained.ref if trained else None), build)


def _shape(run: Run, bench: Bench) -> Artefact:
    """The model's `Shape` as shape.json, from its configuration alone."""

    def build(folder: Path) -> None:
        write_json(folder / "shape.json", Shape.of_configuration(load_config(run.model)).to_json())

    return bench.stage("shape", {"version": SHAPE_VERSION, "model": run.model.training_identity()}, build)


def _costs(used: Mapping[str, Artefact]) -> dict[str, Any]:
    """Cost of all stages that a part of the run used, each once."""
    stages = {ref: found.cost for ref, found in used.items()}
    total = sum(stages.values(), Cost())
    return {"total": total.to_json(), "stages": {ref: cost.to_json() for ref, cost in stages.items()}}


def _ranked(run: Run, selection: Selection) -> dict[str, Any]:
    """What a record tells of the ranking; nothing where none was made (`full`, `zero_shot`)."""
    if run.selector.fixed_share is not None:
        return {"places": None, "samples": []}
    ranking, scores, rows, k = selection.ranking, selection.scores, selection.rows, len(selection.chosen)
    return {
        "places": kept_places(scores, rows),
        "samples": samples(ranking, scores, rows, k, run.record_samples),
    }


def _named(model: LM | Encoder) -> dict[str, Any]:
    return {"name": model.name, "identity": identity(model)}


def _record(
    run: Run,
    bench: Bench,
    splits: Splits,
    selection: Selection,
    pairs: Mapping[str, Pair],
    described: Mapping[str, Any],
    trained: Artefact | None,
    evaluated: Artefact | None,
) -> dict[str, Any]:
    chosen = [pairs[row.uid] for row in selection.chosen if row.uid in pairs]
    reasons = [reason for reason in selection.scores.reasons if reason]
    training = None
    if trained is not None:
        training = {"version": TRAIN_VERSION, "identity": identity(run.train), **trained.json("training.json")}
    shape = _shape(run, bench)
    parts = {"selection": selection.artefact, "training": trained, "evaluation": evaluated}
    used = {part: bench.store.closure((stage.ref,)) if stage else {} for part, stage in parts.items()}
    written = {}
    if splits.written is not None:
        used["data"] = bench.store.closure(splits.written.stages)
        written = {"written": {"by": splits.written.by, **splits.written.counts}}
    return {
        "schema": 1,
        "run": run.key(splits),
        "experiment": run.experiment,
        "dataset": {
            "name": run.dataset.name,
            "fingerprints": {split: fingerprint(getattr(splits, split)) for split in SPLITS},
            "rows": {split: len(getattr(splits, split)) for split in SPLITS},
            "kinds": kinds(splits.pool),
            "task": identity(run.dataset.task),
            "notes": list(splits.notes),
            **written,
        },
        "model": _named(run.model),
        "scorer": _named(run.scorer) if "scorer" in run.selector.needs else None,
        "embedder": _named(run.embedder) if "embedder" in run.selector.needs else None,
        "selector": {
            "name": run.selector_name,
            "label": run.selector_label,
            "version": run.selector.version,
            "identity": identity(run.selector),
            "needs": sorted(run.selector.needs),
            "tuned_by": identity(run.train) if "training" in run.selector.needs else None,
        },
        "budget": {"asked": run.budget.asked, "rows": len(selection.chosen), "pool": len(splits.pool)},
        "seed": run.seed,
        "selection": {
            "ids": [row.id for row in selection.chosen],
            "ties_at_cut": selection.ranking.ties_at_cut,
            "invalid": {reason: reasons.count(reason) for reason in sorted(set(reasons))},
            "untrainable": len(selection.chosen) - len(chosen),
            "kinds": kinds(selection.chosen),
            "tokens": sum(pair.length for pair in chosen),
            "response_tokens": sum(len(pair.response) for pair in chosen),
            **described,
            "notes": selection.scores.notes,
            **_ranked(run, selection),
        },
        "training": training,
        "evaluation": {
            "version": EVALUATE_VERSION,
            "split_seed": run.split_seed,
            "identity": identity(run.evaluation),
        },
        "full_tuning": full_tuning(Shape(**shape.json("shape.json")), list(pairs.values()), run.train),
        "metrics": evaluated.json("metrics.json") if evaluated else {},
        "items": item_scores(evaluated.folder) if evaluated else {},
        "cost": {part: _costs(stages) for part, stages in used.items()},
        "environment": (evaluated or selection.artefact or shape).environment,
        "environments_differ": differing(
            {part: [stage.environment for stage in stages.values()] for part, stages in used.items()}
        ),
        "artefacts": {
            "selection": selection.artefact.ref if selection.artefact else None,
            "training": trained.ref if trained else None,
            "evaluation": evaluated.ref if evaluated else None,
        },
    }
