"""Learning percentage: its two estimates, quotas of clusters, the published rule, and rows without a score."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rows import TOO_LONG, TRAINING, examples, material
from scoring import golden

from dwbench.contract import Scored, Trial, check_selector
from dwbench.data.base import Example, Splits, Task
from dwbench.errors import UserError
from dwbench.models.chat import Chat
from dwbench.models.encoder import Encoder
from dwbench.models.spec import LM
from dwbench.representations.scorer import Scorer
from dwbench.rules.clusters import lowest_of_each
from dwbench.selectors.context import Context
from dwbench.selectors.losses import Losses, response_losses
from dwbench.selectors.lp import LP, NOT_LEARNT, ceil_counts, lp1, lp_app, perplexity, published_lp1
from dwbench.selectors.material import Material
from dwbench.selectors.models import LoadedModels
from dwbench.store import Bench, Store

NAN = float("nan")

P0, P1, P3 = np.array([10.0, 8, 6]), np.array([5.0, 6, 1.2]), np.array([4.0, 5, 1])


def test_hand_computed() -> None:
    np.testing.assert_allclose(lp1(P0, P1, P3), [5 / 6, 2 / 3, 0.96])
    np.testing.assert_allclose(lp_app(P0, P1), [0.5, 0.25, 0.8])
    for values in (lp1(P0, P1, P3), lp_app(P0, P1)):
        assert np.argsort(values).tolist() == [1, 0, 2]


def test_rows_that_were_not_learnt() -> None:
    before, first, last = np.array([3.0, 3, 1, NAN]), np.array([2.0, 2, 1, NAN]), np.array([3.0, 4, 1, NAN])
    assert np.isnan(lp1(before, first, last)).all()
    np.testing.assert_array_equal(published_lp1(before, first, last), [0, -1, 0, NAN])


def test_a_fall_that_is_hardly_one_is_none() -> None:
    before, first, last = np.array([3.0, 100, 100]), np.array([3.05, 99.5, 99.5]), np.array([2.999, 99, 99.01])
    np.testing.assert_array_equal(lp1(before, first, last), [NAN, 0.5, NAN])
    assert lp1(before, first, last, 0)[0] == pytest.approx(-50)
    assert published_lp1(before, first, last)[0] == pytest.approx(-50)


def test_lp_app_ranks_as_the_loss_drop() -> None:
    rng = np.random.default_rng(0)
    before, first = rng.uniform(0.5, 4, 200), rng.uniform(0.1, 4.5, 200)
    assert np.argsort(lp_app(np.exp(before), np.exp(first))).tolist() == np.argsort(before - first).tolist()


@pytest.mark.parametrize("percent", [10, 30])
def test_published_rule(percent: int, shared: Path) -> None:
    path = shared / "golden" / "rules" / "lp_cluster" / f"case_percent_{percent}.json"
    if not path.is_file():
        pytest.skip(f"no golden vectors: {path}")
    data = json.loads(path.read_text())
    given = {name: np.array(entry["value"]) for name, entry in data["inputs"].items()}
    expected = {name: np.array(entry["value"]) for name, entry in data["expected"].items()}
    before, first, last = (given[f"perplexity_epoch_{epoch}"] for epoch in (0, 1, 3))
    labels = given["cluster_of_row"]
    counts = ceil_counts(np.bincount(labels), data["parameters"]["parts"])
    for name, values in (("lp1", published_lp1(before, first, last)), ("lp1_approx", lp_app(before, first))):
        np.testing.assert_allclose(values, expected[name], rtol=1e-9)
        taken = np.flatnonzero(lowest_of_each(values, labels, counts, np.zeros(len(values))))
        in_order = taken[np.lexsort((values[taken], labels[taken]))]
        assert in_order.tolist() == expected[f"picks_{name}"].tolist()


@dataclasses.dataclass(frozen=True)
class StoredChat(Chat):
    """Contexts and responses with the ids that the golden case stores, by the row's text."""

    stored: list[dict[str, Any]]

    def context(self, task: Task, example: Example) -> tuple[int, ...]:
        return next(tuple(row["context_ids"]) for row in self.stored if row["context"] == example.input)

    def response(self, example: Example) -> tuple[int, ...]:
        texts = {row["response_with_eos"]: tuple(row["response_ids_with_eos"]) for row in self.stored}
        return texts[example.response]


@dataclasses.dataclass(frozen=True)
class StoredModels:
    """The real model with that chat."""

    loaded: LoadedModels
    stored: Chat

    def chat(self, lm: LM) -> Chat:
        return self.stored

    def scorer(self, lm: LM, bench: Bench) -> Scorer:
        return self.loaded.scorer(lm, bench)


def test_perplexities_before_training(shared: Path, smollm2: LM, models: LoadedModels, tmp_path: Path) -> None:
    data = golden(shared, "lp_p0/case_main")
    rows = data["inputs"]["rows"][:5]
    pool = examples(tuple((row["context"], row["response_with_eos"]) for row in rows))
    stored = StoredChat(models.chat(smollm2).tokenizer, 512, rows)
    losses: list[Losses] = []
    bench = Bench(Store(tmp_path))
    given = material(smollm2, Splits(pool=pool, target=(), test=()))
    context = Context(LP(clusters=None).needs, bench, given, StoredModels(models, stored))
    bench.stage("test", {}, lambda _: losses.append(response_losses(context, "prompt")))
    close = data["tolerance"]["suggested_rel_ppl"]
    for id, found in zip([row.id for row in context.pool], perplexity(losses[0]), strict=True):
        expected = data["expected"]["rows"][int(id)]
        assert found == pytest.approx(expected["ppl_from_concatenated_ids"], rel=close)
        if expected["concatenated_ids_equal_official_ids"]:
            assert found == pytest.approx(expected["official_ppl"], rel=close)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": 1}, "epochs: must be at least 2 for estimate=lp1"),
        ({"estimate": "lp_app", "epochs": 0}, "epochs: must be at least 1"),
        ({"clusters": 0}, "clusters"),
        ({"min_fall": 1.0}, "min_fall: must be at least 0 and below 1"),
    ],
)
def test_settings_that_mean_nothing(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LP(**settings)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """One store for all choices: tuned once for all of them."""
    return Bench(Store(tmp_path_factory.mktemp("store")))


def towns(lm: LM, encoder: Encoder) -> Material:
    """40 short rows on 4 subjects, 16, 12, 8 and 4 of each."""
    subjects = (("The ferry is late again", 16), ("Rain", 12), ("A long film about trees and doors", 8), ("Cats!", 4))
    rows = tuple((f"{subject}, number {n}.", f"{subject} {n}") for subject, count in subjects for n in range(count))
    pool = examples(rows)
    given = material(lm, Splits(pool=pool, target=(), test=()), encoder=encoder)
    return dataclasses.replace(given, train=dataclasses.replace(TRAINING, batch_size=8))


def score(selector: LP, given: Material, models: LoadedModels, bench: Bench, k: int, **barred: Any) -> Scored:
    return Trial(selector, given, models).score_in(bench, selector.needs, k, **barred)


def clusters_of(found: Scored, bench: Bench) -> np.ndarray:
    """The stored labels, in the order of the scores."""
    stored = [np.load(path) for path in (bench.store.root / "represent").glob("*/arrays.npz")]
    (labels,) = [arrays["labels"] for arrays in stored if "labels" in arrays]
    assert len(labels) == len(found.ids)
    return np.asarray(labels)


def test_every_cluster_gives_its_lowest(tiny_lm: LM, encoder: Encoder, models: LoadedModels, bench: Bench) -> None:
    given = towns(tiny_lm, encoder)
    selector = LP(estimate="lp_app")
    for k in (1, 10, 40):
        found = score(selector, given, models, bench, k)
        labels, values = clusters_of(found, bench), found.scores.values
        sizes = np.bincount(labels)
        assert len(sizes) == 4  # a tenth of the rows
        chosen = np.isin(found.ids, found.choose(k, 0))
        assert chosen.sum() == k
        assert (np.abs(np.bincount(labels[chosen], minlength=4) - k * sizes / 40) < 1).all()
        for cluster in range(4):
            taken, left = values[chosen & (labels == cluster)], values[~chosen & (labels == cluster)]
            assert not (taken.size and left.size) or taken.max() <= left.min()
    assert len(list((bench.store.root / "train").iterdir())) == 1
    assert found.scores.notes == {"clusters": 4, "rows_not_learnt": 0}


def test_without_clusters_the_lowest_of_all(tiny_lm: LM, encoder: Encoder, models: LoadedModels, bench: Bench) -> None:
    found = score(LP(estimate="lp_app", clusters=None), towns(tiny_lm, encoder), models, bench, 7)
    lowest = sorted(zip(found.scores.values, found.ids, strict=True))
    assert found.choose(40, 0)[:7] == [id for _, id in lowest[:7]]


def test_reference_cuts_its_own_too_many_rows_by_hardness(
    tiny_lm: LM, encoder: Encoder, models: LoadedModels, bench: Bench
) -> None:
    given = towns(tiny_lm, encoder)
    selector = LP(estimate="lp_app", variant="reference")
    found = score(selector, given, models, bench, 6)
    labels, values = clusters_of(found, bench), found.scores.values
    first = found.scores.tier == 0
    # round(40 / 6) = 7 parts of every cluster, rounded up.
    np.testing.assert_array_equal(np.bincount(labels[first], minlength=4), -(-np.bincount(labels) // 7))
    assert first.sum() > 6
    lowest = sorted(zip(values[first], np.array(found.ids)[first], strict=True))
    assert found.choose(6, 0) == [id for _, id in lowest[:6]]


def test_rows_that_can_not_be_trained_on_are_neither_tuned_on_nor_counted(
    tiny_lm: LM, encoder: Encoder, models: LoadedModels, bench: Bench
) -> None:
    given = towns(tiny_lm, encoder)
    barred = frozenset(str(n) for n in range(16))  # a whole subject
    found = score(LP(estimate="lp_app"), given, models, bench, 24, barred=barred)
    assert set(found.choose(24, 0)) == {str(n) for n in range(16, 40)}
    everyone = score(LP(estimate="lp_app"), given, models, bench, 24)
    assert not np.allclose(found.scores.values, everyone.scores.values)
    counted = score(LP(estimate="lp_app"), given, models, bench, 12, barred=barred)
    labels, chosen = clusters_of(counted, bench), np.isin(counted.ids, counted.choose(12, 0))
    may = ~np.isin(counted.ids, sorted(barred))
    sizes = np.bincount(labels[may], minlength=4)
    assert (np.abs(np.bincount(labels[chosen], minlength=4) - 12 * sizes / 24) < 1).all()


def test_nothing_learnt_is_no_score_but_may_be_chosen(
    tiny_lm: LM, encoder: Encoder, models: LoadedModels, tmp_path: Path
) -> None:
    still = dataclasses.replace(
        material(tiny_lm, encoder=encoder), train=dataclasses.replace(TRAINING, learning_rate=1e-30)
    )
    selector = LP(epochs=2)
    found = score(selector, still, models, Bench(Store(tmp_path)), 10, barred=frozenset({"1"}))
    reasons = dict(zip(found.ids, found.scores.reasons, strict=True))
    assert np.isnan(found.scores.values).all()
    assert {id for id, reason in reasons.items() if reason == NOT_LEARNT} == set(found.ids) - {TOO_LONG}
    assert not {"1", TOO_LONG} & set(found.choose(10, 0))
    assert found.scores.notes["rows_not_learnt"] == 11


def test_the_epochs_are_those_of_the_saved_adapters(tiny_lm: LM, models: LoadedModels, tmp_path: Path) -> None:
    given = material(tiny_lm)
    bench = Bench(Store(tmp_path))
    selector = LP(epochs=3, min_fall=0, clusters=None)
    scored = score(selector, given, models, bench, 3)
    (trained,) = (tmp_path / "train").iterdir()
    found: list[np.ndarray] = []

    def recompute(_: Path) -> None:
        context = Context(selector.needs, bench, given, models)
        pairs = [context.chat.pair(context.task, row) for row in context.pool]
        for adapter in (None, trained / "adapter-1", trained / "adapter-3"):
            found.append(np.exp(models.scorer(tiny_lm, bench, adapter).response_nll(pairs).mean))

    bench.stage("test", {}, recompute)
    expected = lp1(*found, min_fall=0)
    assert (~np.isnan(expected)).sum() > 3
    assert not np.allclose(expected, 1, equal_nan=True)
    np.testing.assert_allclose(scored.scores.values, expected, rtol=1e-4)


def test_budgets_share_what_does_not_depend_on_them(tiny_lm: LM, models: LoadedModels, tmp_path: Path) -> None:
    """And each is charged the tuning."""
    given = material(tiny_lm)
    bench = Bench(Store(tmp_path))
    chosen = [score(LP(epochs=2, clusters=None), given, models, bench, k) for k in (1, 5)]
    assert chosen[0].key != chosen[1].key
    np.testing.assert_array_equal(chosen[0].scores.values, chosen[1].scores.values)
    (trained,) = (tmp_path / "train").iterdir()
    for scored in (tmp_path / "score").iterdir():
        assert f"train/{trained.name}" in bench.store.closure((f"score/{scored.name}",))
    stored = len(list((tmp_path / "represent").iterdir()))
    score(LP(epochs=2, clusters=None, min_fall=0.5), given, models, bench, 5)
    assert len(list((tmp_path / "represent").iterdir())) == stored


def test_a_tuning_that_does_nothing_is_refused_beforehand(
    tiny_lm: LM, encoder: Encoder, models: LoadedModels, tmp_path: Path
) -> None:
    one_step = dataclasses.replace(TRAINING, batch_size=100, warmup_ratio=0.1)
    given = dataclasses.replace(material(tiny_lm, encoder=encoder), train=one_step)
    for selector, works in ((LP(estimate="lp_app", epochs=1), False), (LP(epochs=2), True)):
        context = Context(selector.needs, Bench(Store(tmp_path)), given, models)
        if works:
            selector.check(context)
        else:
            with pytest.raises(UserError, match="warm-up"):
                selector.check(context)


def test_the_schedule_is_that_of_all_epochs(
    tiny_lm: LM, encoder: Encoder, models: LoadedModels, tmp_path: Path
) -> None:
    """LP_app stops after one epoch of three; that is another first epoch than that of one."""
    given = material(tiny_lm, encoder=encoder)
    bench = Bench(Store(tmp_path))
    values = [
        score(LP(estimate="lp_app", epochs=epochs, clusters=None), given, models, bench, 3).scores.values
        for epochs in (1, 3)
    ]
    assert not np.allclose(values[0], values[1], equal_nan=True)
    trained = [json.loads(path.read_text()) for path in (tmp_path / "train").glob("*/training.json")]
    assert [entry["epochs"] for entry in trained] == [1, 1]
    assert [entry["rows"] for entry in trained] == [11, 11]


def test_keeps_the_contract(tiny_lm: LM, encoder: Encoder, models: LoadedModels) -> None:
    # One setting, the quickest: the contract has the model tuned several times.
    given = dataclasses.replace(material(tiny_lm, encoder=encoder), train=dataclasses.replace(TRAINING, batch_size=8))
    check_selector(LP(estimate="lp_app", epochs=1), given, models)
