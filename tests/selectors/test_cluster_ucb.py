"""ClusterUCB: what is drawn, what for, and that all draws together are LESS."""

import dataclasses
import json
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rows import TOO_LONG, TRAINING, examples, material

from dwbench.contract import Scored, Trial, check_order, check_selector
from dwbench.data.base import Splits
from dwbench.errors import UserError
from dwbench.models.encoder import Encoder
from dwbench.models.spec import LM
from dwbench.rules.bandit import NO_DRAWS, Policy, cold_start, draw_on, queues
from dwbench.selectors import cluster_ucb, gradients
from dwbench.selectors.cluster_ucb import ClusterUCB
from dwbench.selectors.clusters import pool_clusters
from dwbench.selectors.context import Context
from dwbench.selectors.less import LESS
from dwbench.selectors.material import Material
from dwbench.selectors.models import LoadedModels
from dwbench.store import Bench, Store

SMALL: dict[str, Any] = {"warmup_share": 0.5, "epochs": 1, "dim": 64}


@pytest.fixture(scope="module")
def shared_bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """One store for several tests: tuned and clustered once."""
    return Bench(Store(tmp_path_factory.mktemp("store")))


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(Store(tmp_path))


@pytest.fixture(scope="module")
def towns(tiny_lm: LM, encoder: Encoder) -> Material:
    """40 short rows on 4 subjects, 16, 12, 8 and 4 of each, and 2 target rows."""
    subjects = (("The ferry is late again", 16), ("Rain", 12), ("A long film about trees and doors", 8), ("Cats!", 4))
    rows = tuple((f"{subject}, number {n}.", f"{subject} {n}") for subject, count in subjects for n in range(count))
    target = examples((("The ferry is early.", "Early ferry"), ("It rains.", "Rain")))
    given = material(tiny_lm, Splits(pool=examples(rows), target=target, test=()), encoder=encoder)
    return dataclasses.replace(given, train=dataclasses.replace(TRAINING, batch_size=8))


def score(selector: Any, given: Material, models: LoadedModels, bench: Bench, k: int, **other: Any) -> Scored:
    return Trial(selector, given, models).score_in(bench, selector.needs, k, **other)


def draws(bench: Bench, **settings: Any) -> list[tuple[dict[str, Any], dict[str, np.ndarray]]]:
    """Manifest and arrays of every stored block of draws with these settings, the shortest history first."""
    found = []
    for folder in (bench.store.root / "represent").iterdir():
        manifest = json.loads((folder / "manifest.json").read_text())
        of = manifest["identity"]
        if of["representation"] == "cluster_ucb" and settings.items() <= of["settings"].items():
            found.append((manifest, dict(np.load(folder / "arrays.npz"))))
    return sorted(found, key=lambda block: len(block[1]["rows"]))


def in_context(given: Material, models: LoadedModels, bench: Bench, work: Callable[[Context], Any]) -> Any:
    found: list[Any] = []
    context = Context(ClusterUCB().needs, bench, given, models)
    bench.stage("test", {"once": uuid.uuid4().hex}, lambda _: found.append(work(context)))
    return found[0]


@pytest.mark.parametrize("variant", ["paper", "reference"])
def test_all_draws_together_are_less(
    variant: Any, tiny_lm: LM, encoder: Encoder, models: LoadedModels, bench: Bench
) -> None:
    given = material(tiny_lm, encoder=encoder)
    selector = ClusterUCB(gradient_budget=1, variant=variant, **SMALL)
    for k in (1, 4, 12):
        found = score(selector, given, models, bench, k)
        less = score(LESS(variant=variant, **SMALL), given, models, bench, k)
        # LESS keeps its features in half precision.
        np.testing.assert_allclose(found.scores.values, less.scores.values, atol=1e-3)
        assert set(found.choose(k, 0)) == set(less.choose(k, 0))
    assert found.scores.notes["n_grads_computed"] == 11
    assert len(draws(bench)) == 1


@pytest.mark.parametrize(("share", "n"), [(0.075, 3), (0.2, 8), (0.29, 11), (0.5, 20)])
def test_so_many_gradients_and_no_more(
    share: float, n: int, towns: Material, models: LoadedModels, shared_bench: Bench
) -> None:
    found = score(ClusterUCB(gradient_budget=share, **SMALL), towns, models, shared_bench, 2)
    ((manifest, arrays),) = draws(shared_bench, draws=n, cold_start=0.05)
    assert len(set(arrays["rows"].tolist())) == len(arrays["rows"]) == n
    assert manifest["cost"]["backward_calls"] == n
    assert found.scores.notes["n_grads_computed"] == n
    assert found.scores.notes["clusters"] == 4
    values = found.scores.values
    assert set(np.flatnonzero(~np.isnan(values)).tolist()) == set(arrays["rows"].tolist())
    np.testing.assert_array_equal(values[arrays["rows"]], arrays["rewards"])
    best = arrays["rows"][np.argsort(-arrays["rewards"])[:2]]
    assert found.choose(2, 0) == [found.ids[row] for row in best]


@pytest.mark.parametrize("rule", ["ucb", "ucb1", "thresh_hard", "thresh_normal"])
def test_the_bandit_is_that_of_the_rules(rule: Any, towns: Material, models: LoadedModels, shared_bench: Bench) -> None:
    """Drawn one by one, the same rows come in the same order as where all rewards are known beforehand."""
    every = score(ClusterUCB(gradient_budget=1, **SMALL), towns, models, shared_bench, 2).scores.values
    selector = ClusterUCB(gradient_budget=0.5, rule=rule, cold_start=0.1, **SMALL)
    score(selector, towns, models, shared_bench, 2)

    def replay(context: Context) -> Any:
        labels = pool_clusters(context, 100)
        queue = queues(labels, np.ones(40, dtype=bool), context.draw("cluster_ucb"))
        return draw_on(queue, cold_start(queue, 0.1), Policy(rule, 1.0, 0.25), lambda rows: every[rows], NO_DRAWS, 20)

    expected = in_context(towns, models, shared_bench, replay)
    ((_, arrays),) = draws(shared_bench, draws=20, policy=[rule, 1.0, 0.25], cold_start=0.1)
    assert arrays["rows"].tolist() == expected.rows.tolist()
    np.testing.assert_allclose(arrays["rewards"], expected.rewards, atol=1e-5)


def test_blocks_go_on_from_each_other(
    towns: Material, models: LoadedModels, bench: Bench, tmp_path_factory: pytest.TempPathFactory, monkeypatch: Any
) -> None:
    at_once = Bench(Store(tmp_path_factory.mktemp("at_once")))
    whole = score(ClusterUCB(gradient_budget=0.5, **SMALL), towns, models, at_once, 2)
    monkeypatch.setattr(cluster_ucb, "ROWS_A_BLOCK", 8)
    score(ClusterUCB(gradient_budget=0.2, **SMALL), towns, models, bench, 2)
    assert len(draws(bench)) == 1
    in_blocks = score(ClusterUCB(gradient_budget=0.5, **SMALL), towns, models, bench, 2)
    np.testing.assert_allclose(in_blocks.scores.values, whole.scores.values, atol=1e-6)
    # 8, 16 and 20 draws, of which each computed its own part only; the first was there.
    assert [len(arrays["rows"]) for _, arrays in draws(bench)] == [8, 16, 20]
    assert [manifest["cost"]["backward_calls"] for manifest, _ in draws(bench)] == [8, 8, 4]
    assert draws(bench)[-1][1]["rows"].tolist() == draws(at_once)[0][1]["rows"].tolist()
    blocks = {f"represent/{manifest['key']}" for manifest, _ in draws(bench)}
    closures = [set(bench.store.closure((f"score/{path.name}",))) for path in (bench.store.root / "score").iterdir()]
    assert sorted(len(blocks & closure) for closure in closures) == [1, 3]


def test_a_run_that_died_goes_on_from_its_last_block(
    towns: Material, models: LoadedModels, bench: Bench, monkeypatch: Any
) -> None:
    monkeypatch.setattr(cluster_ucb, "ROWS_A_BLOCK", 8)
    selector = ClusterUCB(gradient_budget=0.5, **SMALL)
    real, calls = cluster_ucb.draw_on, []

    def dies(*given: Any) -> Any:
        calls.append(given[-1])
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*given)

    monkeypatch.setattr(cluster_ucb, "draw_on", dies)
    with pytest.raises(KeyboardInterrupt):
        score(selector, towns, models, bench, 2)
    assert len(draws(bench)) == 1
    score(selector, towns, models, bench, 2)
    assert calls == [8, 16, 16, 20]


def test_rows_that_can_not_be_drawn(towns: Material, models: LoadedModels, shared_bench: Bench) -> None:
    barred = frozenset(str(n) for n in range(16))  # a whole subject
    found = score(ClusterUCB(gradient_budget=0.45, **SMALL), towns, models, shared_bench, 18, barred=barred)
    assert not barred & set(found.choose(18, 0))
    assert found.scores.notes["n_grads_computed"] == 18
    wider = ClusterUCB(gradient_budget=0.8, **SMALL)
    found = score(wider, towns, models, shared_bench, 30, barred=barred)
    assert found.scores.notes["n_grads_computed"] == 24
    chosen = found.choose(30, 0)
    assert not barred & set(chosen[:24])
    assert len(set(chosen)) == 30


def test_undrawn_rows_come_behind_drawn_ones(tiny_lm: LM, encoder: Encoder, models: LoadedModels, bench: Bench) -> None:
    given = material(tiny_lm, encoder=encoder)
    found = score(ClusterUCB(gradient_budget=0.5, **SMALL), given, models, bench, 6, barred=frozenset({"1"}))
    order = found.choose(12, 0)
    tiers = dict(zip(found.ids, found.scores.tier.tolist(), strict=True))
    assert [tiers[id] for id in order[:-1]] == [0] * 6 + [1] * 4 + [2]
    assert order[-2:] == ["1", TOO_LONG]
    reasons = dict(zip(found.ids, found.scores.reasons, strict=True))
    assert [id for id, reason in reasons.items() if reason] == [TOO_LONG]


def test_more_rows_than_are_drawn_are_refused_beforehand(towns: Material, models: LoadedModels, bench: Bench) -> None:
    with pytest.raises(UserError, match="draws 8 of 40 rows, and 9 can't be chosen"):
        score(ClusterUCB(**SMALL), towns, models, bench, 9)
    assert not (bench.store.root / "train").exists()
    selector = ClusterUCB(gradient_budget=0.01, cold_start=0.01, **SMALL)
    with pytest.raises(UserError, match="draws 0 of 40 rows"):
        selector.check(Context(selector.needs, bench, towns, models))


def test_a_warm_up_that_does_nothing_is_refused_beforehand(towns: Material, models: LoadedModels, bench: Bench) -> None:
    given = dataclasses.replace(towns, train=dataclasses.replace(TRAINING, batch_size=50, warmup_ratio=0.1))
    selector = ClusterUCB(**SMALL)
    with pytest.raises(UserError, match="warm-up"):
        selector.check(Context(selector.needs, bench, given, models))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"clusters": 0}, "clusters: must be"),
        ({"gradient_budget": 0}, "gradient_budget: must be"),
        ({"gradient_budget": 1.1}, "gradient_budget: must be"),
        ({"cold_start": 0.3}, "cold_start: must be"),
        ({"beta": -1}, "beta: must not be"),
        ({"top_share": 1}, "top_share: must be"),
        ({"epochs": 0}, "epochs: must be"),
    ],
)
def test_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ClusterUCB(**settings)


def test_keeps_the_contract(tiny_lm: LM, encoder: Encoder, models: LoadedModels, bench: Bench) -> None:
    """Any number of rows can be chosen only where all are drawn; the order of rows also with half of them."""
    given = material(tiny_lm, encoder=encoder)
    given = dataclasses.replace(given, train=dataclasses.replace(TRAINING, batch_size=8))
    check_selector(ClusterUCB(gradient_budget=1, **SMALL), given, models)
    half = Trial(ClusterUCB(gradient_budget=0.5, **SMALL), given, models, tunings=bench.store)
    check_order(half.score_in(bench, half.selector.needs), half)


def test_the_warm_up_is_that_of_less(towns: Material, models: LoadedModels, shared_bench: Bench) -> None:
    score(ClusterUCB(**SMALL), towns, models, shared_bench, 2)
    in_context(
        towns, models, shared_bench, lambda context: gradients.warm_up(context, gradients.trainable(context), 0.5, 1)
    )
    assert len(list((shared_bench.store.root / "train").iterdir())) == 1
