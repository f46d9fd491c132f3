"""One run: select, tune, evaluate, record. A pure function of its configuration; every stage is stored."""

import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dwbench import seeds
from dwbench.budget import Budget
from dwbench.component import identity, key_of
from dwbench.cost import Cost
from dwbench.data.base import SPLITS, Dataset, Example, Splits, fingerprint
from dwbench.errors import UserError
from dwbench.evaluation.harness import Evaluation, evaluate
from dwbench.models.chat import Chat, Pair
from dwbench.models.flop import Shape
from dwbench.models.spec import LM
from dwbench.representations.models import LoadedModels
from dwbench.rules.ranking import Ranking, Scores, rank
from dwbench.selectors.base import Context, Selector, score_identity
from dwbench.store import Artefact, Bench, write_json
from dwbench.training.sft import LoraSFT, full_tuning, tune

TRAIN_VERSION = 1
EVALUATE_VERSION = 1
SHAPE_VERSION = 1


@dataclass(frozen=True)
class Run:
    """All that determines a run, as built objects.

    Attributes:
        dataset, model, selector, train, evaluation: the axes.
        scorer: the model that selectors compute with; usually `model`.
        selector_name: as configured; `selector_label` adds the fields that differ from that configuration.
        budget: how many rows.
        seed: of ties, random draws and tuning. `split_seed`: of held-out and subsampled rows, the same for all seeds.
        experiment: folder of its record below the results; no part of its key.
    """

    dataset: Dataset
    model: LM
    scorer: LM
    selector: Selector
    selector_name: str
    selector_label: str
    budget: Budget
    seed: int
    split_seed: int
    train: LoraSFT
    evaluation: Evaluation
    experiment: str | None = None

    def key(self, splits: Splits) -> str:
        """The run's key: what is selected from, by what, how much, and what is done with it."""
        uses_model = {"scorer", "tokenizer"} & self.selector.needs
        k = rows_to_choose(self, len(splits.pool))
        return key_of(
            {
                "data": {split: fingerprint(getattr(splits, split)) for split in SPLITS},
                "task": identity(self.dataset.task),
                "model": identity(self.model),
                "scorer": identity(self.scorer) if uses_model else None,
                "selector": [self.selector.version, identity(self.selector)],
                "rows": k,
                "seed": self.seed,
                "split_seed": self.split_seed,
                "train": [TRAIN_VERSION, identity(self.train)] if k else None,
                "evaluation": [EVALUATE_VERSION, identity(self.evaluation)],
            }
        )


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
    splits: Splits,
    dataset: Dataset,
    scorer: LM,
    seed: int,
    k: int,
    untrainable: Mapping[str, str],
) -> Selection:
    """Score the pool (or find the scores) and choose k rows.

    Args:
        untrainable: uid and reason of rows that nothing can be learnt from; for every selector they rank last.
    """
    context = Context(selector.needs, bench, splits, dataset.task, scorer, seed, models)
    rows = tuple(sorted(splits.pool, key=lambda row: row.index if "order" in selector.needs else row.uid))
    artefact = None
    if selector.fixed_share is None:
        artefact = bench.stage(
            "score", score_identity(selector, context), lambda folder: _write_scores(selector.score(context), folder)
        )
        found = read_scores(artefact)
    else:
        found = selector.score(context)
    found = _mark_untrainable(found, rows, untrainable)
    ties = seeds.draw([row.uid for row in rows], seed, "ties")
    ranking = rank(found, k, ties)
    chosen = tuple(rows[position] for position in ranking.order[:k])
    return Selection(ranking, chosen, found, artefact, rows)


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
    return Prepared(pairs, {row.uid: too_long for row in splits.pool if row.uid not in pairs})


def execute(run: Run, bench: Bench, models: LoadedModels, splits: Splits) -> dict[str, Any]:
    """Do the run and return its record, but for its configuration and command."""
    prepared = prepare(run, models, splits)
    k = rows_to_choose(run, len(splits.pool))
    selection = select(bench, models, run.selector, splits, run.dataset, run.scorer, run.seed, k, prepared.untrainable)
    models.release()
    chosen = {row.uid: prepared.pairs[row.uid] for row in selection.chosen if row.uid in prepared.pairs}
    trained = _train(run, bench, chosen) if chosen else None
    evaluated = _evaluate(run, bench, splits, trained)
    return _record(run, bench, splits, selection, prepared.pairs, trained, evaluated)


def train_identity(run: Run, uids: Iterable[str]) -> dict[str, Any]:
    """What determines an adapter: the set of rows, not who chose them."""
    return {
        "version": TRAIN_VERSION,
        "model": identity(run.model),
        "train": identity(run.train),
        "task": identity(run.dataset.task),
        "rows": sorted(uids),
        "seed": run.seed,
    }


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
        train_identity(run, chosen),
        lambda folder: tune(bench, run.model, ordered, run.train, run.seed, folder),
    )


def _evaluate(run: Run, bench: Bench, splits: Splits, trained: Artefact | None) -> Artefact:
    adapter = trained.folder / "adapter" if trained else None

    def build(folder: Path) -> None:
        evaluate(bench, run.model, adapter, run.dataset.task, splits.test, run.evaluation, run.split_seed, folder)

    return bench.stage("evaluate", evaluate_identity(run, splits, trained.ref if trained else None), build)


def _shape(run: Run, bench: Bench) -> Shape:
    """The model's shape, from its configuration alone."""

    def build(folder: Path) -> None:
        write_json(folder / "shape.json", Shape.of_configuration(run.model.location(), run.model.revision).to_json())

    found = bench.stage("shape", {"version": SHAPE_VERSION, "model": identity(run.model)}, build)
    return Shape(**found.json("shape.json"))


def _costs(bench: Bench, artefact: Artefact | None) -> dict[str, Any]:
    """Cost of a stage with all that it used, each once."""
    used = bench.store.closure((artefact.ref,)) if artefact else {}
    stages = {ref: found.cost for ref, found in used.items()}
    total = sum(stages.values(), Cost())
    return {"total": total.to_json(), "stages": {ref: cost.to_json() for ref, cost in stages.items()}}


def _record(
    run: Run,
    bench: Bench,
    splits: Splits,
    selection: Selection,
    pairs: Mapping[str, Pair],
    trained: Artefact | None,
    evaluated: Artefact,
) -> dict[str, Any]:
    chosen = [pairs[row.uid] for row in selection.chosen if row.uid in pairs]
    uses_model = {"scorer", "tokenizer"} & run.selector.needs
    reasons = [reason for reason in selection.scores.reasons if reason]
    training = None
    if trained is not None:
        training = {"identity": identity(run.train), **trained.json("training.json")}
    return {
        "schema": 1,
        "run": run.key(splits),
        "experiment": run.experiment,
        "dataset": {
            "name": run.dataset.name,
            "fingerprints": {split: fingerprint(getattr(splits, split)) for split in SPLITS},
            "rows": {split: len(getattr(splits, split)) for split in SPLITS},
            "task": identity(run.dataset.task),
            "notes": list(splits.notes),
        },
        "model": {"name": run.model.name, "identity": identity(run.model)},
        "scorer": {"name": run.scorer.name, "identity": identity(run.scorer)} if uses_model else None,
        "selector": {
            "name": run.selector_name,
            "label": run.selector_label,
            "identity": identity(run.selector),
            "needs": sorted(run.selector.needs),
        },
        "budget": {"asked": run.budget.asked, "rows": len(selection.chosen), "pool": len(splits.pool)},
        "seed": run.seed,
        "selection": {
            "ids": [row.id for row in selection.chosen],
            "ties_at_cut": selection.ranking.ties_at_cut,
            "invalid": {reason: reasons.count(reason) for reason in sorted(set(reasons))},
            "untrainable": len(selection.chosen) - len(chosen),
            "tokens": sum(pair.length for pair in chosen),
            "response_tokens": sum(len(pair.response) for pair in chosen),
            "notes": selection.scores.notes,
        },
        "training": training,
        "full_tuning": full_tuning(_shape(run, bench), list(pairs.values()), run.train),
        "metrics": evaluated.json("metrics.json"),
        "cost": {
            "selection": _costs(bench, selection.artefact),
            "training": _costs(bench, trained),
            "evaluation": _costs(bench, evaluated),
        },
        "environment": evaluated.environment,
        "artefacts": {
            "selection": selection.artefact.ref if selection.artefact else None,
            "training": trained.ref if trained else None,
            "evaluation": evaluated.ref,
        },
    }


def write_failure(folder: Path, run_key: str, error: str, trace: str, settings: Mapping[str, Any]) -> Path:
    """Leave the error of a failed run beside the results."""
    path = folder / "failed" / f"{run_key}.json"
    write_json(path, {"run": run_key, "error": error, "traceback": trace.splitlines(), **settings})
    return path


def forget_failure(folder: Path, run_key: str) -> None:
    """A run that is done has not failed."""
    path = folder / "failed" / f"{run_key}.json"
    path.unlink(missing_ok=True)
    if path.parent.is_dir() and not any(path.parent.iterdir()):
        shutil.rmtree(path.parent)
