"""What every selector keeps to, as a check for methods of your own: `check_selector(MySelector(), lm, splits, task)`.

Give it a small pool (a dozen rows) with what real data hold: an over-long prompt, a row that occurs twice, text beyond
ASCII, an answer of one token; and a small model in float32. It needs no test framework and writes only to temporary
folders.
"""

import shutil
import tempfile
import uuid
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

import numpy as np

from dwbench import seeds
from dwbench.component import key_of
from dwbench.errors import UndeclaredNeedError
from dwbench.representations import gradients
from dwbench.rules.ranking import Scores, rank
from dwbench.selectors.base import Checking, Selector, SetSelector, compute_scores, selection_stage
from dwbench.selectors.context import Context
from dwbench.selectors.material import Material, Models, Need, pool_order
from dwbench.selectors.models import LoadedModels
from dwbench.store import Bench, Store


class Scored(NamedTuple):
    """Scores with the ids and uids that they belong to, and the key under which they'd be stored."""

    scores: Scores
    ids: tuple[str, ...]
    uids: tuple[str, ...]
    key: str

    def choose(self, k: int, seed: int) -> list[str]:
        """Ids of the first k rows, as a run chooses them."""
        order = rank(self.scores, k, seeds.draw(self.uids, seed, "ties")).order[:k]
        return [self.ids[position] for position in order]


@dataclass(frozen=True)
class Trial:
    """A selector with all that a scoring depends on; `score` does it from nothing, in a store of its own.

    Attributes:
        tunings: a store whose tunings are found and not made again: tuning takes most of the time, and what comes out
            is determined by its key.
    """

    selector: Selector
    material: Material
    models: Models
    tunings: Store | None = None

    @property
    def k(self) -> int:
        """How many rows to choose where any number will do: a third of the pool."""
        return max(1, len(self.material.splits.pool) // 3)

    def score(self, k: int | None = None, barred: frozenset[str] = frozenset()) -> Scored:
        """Score for a choice of k rows, none of them among those `barred` (ids)."""
        with tempfile.TemporaryDirectory() as folder:
            store = Store(Path(folder))
            if self.tunings is not None and (made := self.tunings.root / "train").is_dir():
                shutil.copytree(made, store.root / "train")
            return self.score_in(Bench(store), self.selector.needs, k, barred)

    def score_in(
        self, bench: Bench, needs: frozenset[Need], k: int | None = None, barred: frozenset[str] = frozenset()
    ) -> Scored:
        """Score with access to `needs` alone; representations go to `bench` or come from there."""
        context = Context(needs, bench, self.material, self.models)
        k = self.k if k is None else k
        rows = pool_order(needs, self.material.splits.pool)
        allowed = np.array([row.id not in barred for row in rows])
        found: list[Scores] = []
        attempt = {"contract": uuid.uuid4().hex}  # the scoring itself runs each time
        bench.stage("score", attempt, lambda _: found.append(compute_scores(self.selector, context, k, allowed)))
        ids, uids = tuple(row.id for row in rows), tuple(row.uid for row in rows)
        return Scored(found[0], ids, uids, self.key(bench, k, allowed))

    def key(self, bench: Bench, k: int, allowed: np.ndarray) -> str:
        """The key under which the scores for a choice of k of the rows that are `allowed` [N] would be stored."""
        context = Context(self.selector.needs, bench, self.material, self.models)
        return key_of(selection_stage(self.selector, context, k, allowed)[1])


def check_selector(selector: Selector, material: Material, models: Models | None = None) -> None:
    """Put `selector` through the contract. Raises AssertionError, with what is wrong, where it breaks it."""
    _claim(
        material.scorer.resolved_dtype() == "float32",
        "the contract is checked in float32: give a model with dtype=float32",
    )
    trial = Trial(selector, material, models or LoadedModels())
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Store(Path(folder)))
        check_settings(trial, bench)
        scored = trial.score_in(bench, selector.needs)
        check_scores(scored, trial)
        check_choices(scored, trial, bench)
        check_seed(scored, trial, bench)
        tuned = replace(trial, tunings=bench.store)
        check_order(scored, tuned)
        check_batches(scored, tuned)
        check_needs(trial, bench)


def check_settings(trial: Trial, bench: Bench) -> None:
    """A selector that checks its settings beforehand can do so outside of any stage."""
    if isinstance(trial.selector, Checking):
        trial.selector.check(Context(trial.selector.needs, bench, trial.material, trial.models))


def check_scores(scored: Scored, trial: Trial) -> None:
    """A score for every row of the pool (`Scores` wants a reason where there is none), and notes that can be kept."""
    n = len(trial.material.splits.pool)
    _claim(len(scored.scores.values) == n, f"scored {len(scored.scores.values)} rows of {n}")
    key_of(dict(scored.scores.notes))  # raises for notes that can't be stored as JSON


def check_choices(scored: Scored, trial: Trial, bench: Bench) -> None:
    """A method whose choice depends on k can choose any number of rows, and keeps to those that it may choose."""
    if not isinstance(trial.selector, SetSelector):
        return
    n, seed, needs = len(trial.material.splits.pool), trial.material.seed, trial.selector.needs
    for k in sorted({1, 2, n - 1, n} & set(range(1, n + 1))):
        check_scores(trial.score_in(bench, needs, k), trial)
    barred = frozenset(scored.choose(1, seed))
    chosen = trial.score_in(bench, needs, barred=barred).choose(min(trial.k, n - 1), seed)
    _claim(not barred & set(chosen), "chose a row that nothing can be learnt from while others were left")


def check_seed(scored: Scored, trial: Trial, bench: Bench) -> None:
    """The same seed gives the same scores; another seed has a part in the key exactly where `seed` is declared."""
    _equal(scored, trial.score(), "the same seed gives other scores")
    other = trial_with(trial, seed=trial.material.seed + 1)
    key = other.key(bench, trial.k, np.ones(len(scored.ids), dtype=bool))
    if "seed" in trial.selector.needs:
        _claim(key != scored.key, "declares `seed`, but another seed has the same key")
    else:
        _claim(key == scored.key, "declares no `seed`, but its key depends on it")
        _equal(scored, other.score(), "declares no `seed`, but another seed gives other scores")


def check_order(scored: Scored, trial: Trial) -> None:
    """The order of the pool does not matter, unless the selector declares that it does."""
    if "order" in trial.selector.needs:
        return
    splits = trial.material.splits
    backwards = [replace(row, index=index) for index, row in enumerate(reversed(splits.pool))]
    other = trial_with(trial, splits=replace(splits, pool=tuple(backwards))).score()
    _claim(other.key == scored.key, "the key depends on the pool's order")
    _equal(scored, other, "the pool in another order gets other scores")
    seed = trial.material.seed
    _claim(scored.choose(trial.k, seed) == other.choose(trial.k, seed), "the pool in another order: another choice")


def check_batches(scored: Scored, trial: Trial) -> None:
    """Rows one by one, or all in one batch: the same scores to 1e-5. Gradients are batched as on a GPU: on a CPU each
    row is a batch of its own whatever the budget."""
    of_device = gradients.budgets
    with patch.object(gradients, "budgets", lambda device, token_budget: of_device("cuda", token_budget)):
        for token_budget in (1, 1_000_000):
            other = trial_with(trial, scorer=replace(trial.material.scorer, token_budget=token_budget)).score()
            _equal(scored, other, f"batches of {token_budget} tokens give other scores", 1e-5)


def check_needs(trial: Trial, bench: Bench) -> None:
    """Each declared need is enforced, also where everything is stored already, in `bench`; so none is declared for
    nothing."""
    needs = trial.selector.needs
    # An order can't be refused, and who has the model has its tokenizer.
    for need in sorted(needs - {"order"} - ({"tokenizer"} if "scorer" in needs else set())):
        try:
            trial.score_in(bench, needs - {need})
        except UndeclaredNeedError:
            continue
        raise AssertionError(f"declares {need!r} and can do without: its key would hold more than it depends on")


def trial_with(trial: Trial, **changes: object) -> Trial:
    """The trial with other material."""
    return replace(trial, material=replace(trial.material, **changes))  # type: ignore[arg-type]


def _equal(one: Scored, other: Scored, complaint: str, tolerance: float = 0.0) -> None:
    theirs = dict(zip(other.ids, zip(other.scores.tier, other.scores.preference, strict=True), strict=True))
    for id, tier, preference in zip(one.ids, one.scores.tier, one.scores.preference, strict=True):
        their_tier, their_preference = theirs[id]
        same = np.isclose(preference, their_preference, rtol=tolerance, atol=tolerance, equal_nan=True)
        _claim(bool(same) and tier == their_tier, f"{complaint}: row {id!r} {preference} and {their_preference}")


def _claim(holds: bool, otherwise: str) -> None:
    if not holds:
        raise AssertionError(otherwise)
