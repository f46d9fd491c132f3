"""S2L: trajectories of the saved adapters, clusters that share the budget, and what budgets share."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from rows import TOO_LONG, TRAINING, examples, material

from dwbench.contract import Scored, Trial, check_selector
from dwbench.data.base import Splits
from dwbench.models.spec import LM
from dwbench.rules.strata import TINY, cluster_counts
from dwbench.selectors.context import Context
from dwbench.selectors.material import Material
from dwbench.selectors.models import LoadedModels
from dwbench.selectors.s2l import S2L
from dwbench.store import Bench, Store


def score(selector: S2L, given: Material, models: LoadedModels, bench: Bench, k: int, **barred: Any) -> Scored:
    return Trial(selector, given, models).score_in(bench, selector.needs, k, **barred)


def clustered(bench: Bench) -> dict[str, np.ndarray]:
    """The stored clusters, in the order of the scores."""
    stored = [np.load(path) for path in bench.store.root.glob("represent/*/arrays.npz")]
    (found,) = [dict(arrays) for arrays in stored if "trajectories" in arrays]
    return found


@pytest.fixture(scope="module")
def given(tiny_lm: LM) -> Material:
    """41 short rows: clear notices, and noise that is learnt slower; one does not fit."""
    rows = tuple((f"Rain {n}", "It rains") for n in range(25)) + tuple(
        (f"Notice {n} of trees", f"{n * 7919 % 1000} zebra {n * 104729 % 999} ü") for n in range(15)
    )
    pool = examples((*rows, ("word " * 700, "Words")))
    settings = dataclasses.replace(TRAINING, batch_size=8, learning_rate=1e-2)
    return dataclasses.replace(material(tiny_lm, Splits(pool=pool, target=(), test=())), train=settings)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """One store for all choices."""
    return Bench(Store(tmp_path_factory.mktemp("store")))


SELECTOR = S2L(epochs=2)


def test_trajectories_are_of_the_saved_adapters(given: Material, models: LoadedModels, bench: Bench) -> None:
    scored = score(SELECTOR, given, models, bench, 10)
    found = clustered(bench)
    assert scored.scores.notes["checkpoints"] == 4
    (trained,) = (bench.store.root / "train").glob("[0-9a-f]*")
    losses: list[np.ndarray] = []

    def recompute(_: Path) -> None:
        context = Context(SELECTOR.needs, bench, given, models)
        pairs = [context.chat.pair(context.task, row) for row in context.pool]
        for number in range(1, 5):
            scorer = models.scorer(given.scorer, bench, trained / f"adapter-{number}")
            losses.append(scorer.response_nll(pairs).mean)

    bench.stage("test", {}, recompute)
    np.testing.assert_allclose(found["trajectories"], np.stack(losses, axis=1), rtol=1e-4)
    np.testing.assert_array_equal(scored.scores.values, found["trajectories"][:, -1])
    assert np.nanmean(losses[3]) < np.nanmean(losses[0])
    invalid = np.array(scored.ids) == "40"
    np.testing.assert_array_equal(found["labels"] < 0, invalid)
    np.testing.assert_array_equal(np.isnan(scored.scores.values), invalid)
    assert len(np.unique(found["labels"])) == 1 + 4  # a tenth of the rows


@pytest.mark.parametrize("k", [1, 2, 7, 12, 30, 39, 40, 41])
def test_clusters_share_the_budget(k: int, given: Material, models: LoadedModels, bench: Bench) -> None:
    found = score(SELECTOR, given, models, bench, k)
    labels = clustered(bench)["labels"]
    sizes = np.bincount(labels[labels >= 0])
    rows = found.choose(k, 0)
    assert len(set(rows)) == k
    chosen = np.isin(found.ids, rows) & (labels >= 0)
    counts = np.bincount(labels[chosen], minlength=len(sizes))
    want = cluster_counts(sizes, k)
    np.testing.assert_array_equal(counts[sizes > TINY], want[sizes > TINY])
    assert found.scores.notes["rows_filled"] == k - want.sum()
    if k == 41:
        assert rows[-1] == "40"


def test_budgets_share_all_that_is_computed(given: Material, models: LoadedModels, bench: Bench) -> None:
    """And every choice is charged the tuning. Another number of clusters takes no new pass."""
    score(SELECTOR, given, models, bench, 3)
    stored = {path.name for path in (bench.store.root / "represent").glob("[0-9a-f]*")}
    before = {path.name for path in (bench.store.root / "score").glob("[0-9a-f]*")}
    score(SELECTOR, given, models, bench, 4)
    assert {path.name for path in (bench.store.root / "represent").glob("[0-9a-f]*")} == stored
    (trained,) = (bench.store.root / "train").glob("[0-9a-f]*")
    (new,) = {path.name for path in (bench.store.root / "score").glob("[0-9a-f]*")} - before
    assert f"train/{trained.name}" in bench.store.closure((f"score/{new}",))
    score(dataclasses.replace(SELECTOR, clusters=2), given, models, bench, 4)  # type: ignore[type-var]
    assert len(list((bench.store.root / "represent").glob("[0-9a-f]*"))) == len(stored) + 1


def test_barred_rows_take_no_place(given: Material, models: LoadedModels, tmp_path: Path) -> None:
    barred = frozenset(str(n) for n in range(25))
    found = score(S2L(epochs=1, checkpoints_per_epoch=1), given, models, Bench(Store(tmp_path)), 15, barred=barred)
    assert set(found.choose(15, 0)) == {str(n) for n in range(25, 40)}


def test_another_seed_is_another_draw(tiny_lm: LM, models: LoadedModels, tmp_path: Path) -> None:
    bench = Bench(Store(tmp_path))
    one = S2L(epochs=1, checkpoints_per_epoch=1, clusters=1)
    found = [score(one, material(tiny_lm, seed=seed), models, bench, 5).choose(5, seed) for seed in (0, 1)]
    assert set(found[0]) != set(found[1])
    assert TOO_LONG not in found[0] + found[1]


@pytest.mark.parametrize("settings", [{"epochs": 0}, {"checkpoints_per_epoch": 0}, {"clusters": 0}])
def test_settings_that_mean_nothing(settings: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        S2L(**settings)


def test_yaml_spells_out_the_defaults() -> None:
    path = Path(__file__).resolve().parents[2] / "conf" / "selector" / "s2l.yaml"
    fields = yaml.safe_load(path.read_text())
    assert fields.pop("_target_") == "dwbench.selectors.s2l.S2L"
    assert fields == dataclasses.asdict(S2L())  # type: ignore[call-overload]


def test_keeps_the_contract(tiny_lm: LM, models: LoadedModels) -> None:
    given = dataclasses.replace(material(tiny_lm), train=dataclasses.replace(TRAINING, batch_size=8))
    check_selector(S2L(epochs=1, checkpoints_per_epoch=2), given, models)
