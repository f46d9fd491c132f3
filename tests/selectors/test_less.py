"""LESS: against its formula computed apart, its two rules and variants, and what it costs."""

import dataclasses
import uuid
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from rows import TOO_LONG, TRAINING, examples, material, splits

from dwbench.contract import Scored, Trial, check_selector
from dwbench.cost import Cost
from dwbench.data.base import Splits
from dwbench.errors import UserError
from dwbench.models.spec import LM
from dwbench.representations.adam import Adam, AdamForm, Directions
from dwbench.selectors import gradients
from dwbench.selectors.context import Context
from dwbench.selectors.g2is import G2IS
from dwbench.selectors.less import LESS, checkpoint_matches
from dwbench.selectors.losses import NO_RESPONSE
from dwbench.selectors.material import Material
from dwbench.selectors.models import LoadedModels
from dwbench.store import Bench, Store


def less(**settings: Any) -> LESS:
    return LESS(**{"warmup_share": 0.5, "epochs": 2, "dim": 512, **settings})


@pytest.fixture(scope="module")
def given(tiny_lm: LM) -> Material:
    return dataclasses.replace(material(tiny_lm), train=dataclasses.replace(TRAINING, batch_size=4))


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """One store for all tests: tuned once for all of them."""
    return Bench(Store(tmp_path_factory.mktemp("store")))


def score(selector: LESS, given: Material, models: LoadedModels, bench: Bench) -> Scored:
    return Trial(selector, given, models).score_in(bench, selector.needs)


def stored(bench: Bench, stage: str) -> set[str]:
    return {path.parent.name for path in (bench.store.root / stage).glob("*/manifest.json")}


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


def by_the_formula(context: Context, selector: LESS) -> tuple[np.ndarray, np.ndarray]:
    """The score of every row, and its match with every target row; row by row, not from what is stored."""
    checkpoints = gradients.warm_up(context, gradients.trainable(context), selector.warmup_share, selector.epochs)
    projector = gradients.projector(context, selector.dim, selector.projection)
    pool, target = ([context.chat.pair(context.task, row) for row in rows] for rows in (context.pool, context.target))
    total, each = np.zeros(len(pool)), np.zeros((len(pool), len(target)))
    rates = sum(checkpoint.rate for checkpoint in checkpoints)
    for checkpoint in checkpoints:
        assert checkpoint.moments is not None
        form: AdamForm = "textbook" if selector.variant == "paper" else "published"
        steps = Directions(Adam(checkpoint.moments, checkpoint.step, form)) if selector.gradient == "adam" else None
        engine = context.gradients(checkpoint)
        phi = engine.features(pool, projector, steps).astype(np.float64)
        psi = engine.features(target, projector).astype(np.float64)
        cosines = np.array([[cosine(one, other) for other in psi] for one in phi])
        each += checkpoint.rate / rates * cosines
        with_mean = np.array([cosine(one, psi.mean(axis=0)) for one in phi])
        total += checkpoint.rate / rates * (with_mean if selector.variant == "paper" else cosines.mean(axis=1))
    return total, each


@pytest.mark.parametrize("gradient", ["adam", "sgd"])
@pytest.mark.parametrize("variant", ["paper", "reference"])
def test_as_the_formula_says(gradient: str, variant: str, given: Material, models: LoadedModels, bench: Bench) -> None:
    selector = less(gradient=gradient, variant=variant)
    found = score(selector, given, models, bench)
    expected: list[np.ndarray] = []

    def work(_: Path) -> None:
        expected.extend(by_the_formula(Context(selector.needs, bench, given, models), selector))

    bench.stage("test", {"attempt": uuid.uuid4().hex}, work)
    np.testing.assert_allclose(found.scores.values, expected[0], atol=2e-4)
    assert np.nanstd(expected[0]) > 1e-3
    turns = score(less(gradient=gradient, variant=variant, rule="round_robin"), given, models, bench)
    np.testing.assert_allclose(turns.scores.values, expected[1].max(axis=1), atol=2e-4)


def test_the_variants_differ(given: Material, models: LoadedModels, bench: Bench) -> None:
    one, other = (score(less(variant=variant), given, models, bench) for variant in ("paper", "reference"))
    assert one.key != other.key
    assert not np.allclose(one.scores.values, other.scores.values, atol=1e-3, equal_nan=True)


def test_a_copy_of_the_only_target_row_comes_first(tiny_lm: LM, models: LoadedModels, tmp_path: Path) -> None:
    copied = splits()
    target = tuple(row for row in copied.pool if row.id == "7")
    object.__setattr__(copied, "target", target)  # which no data set may have
    given = dataclasses.replace(material(tiny_lm, copied), train=dataclasses.replace(TRAINING, batch_size=4))
    bench = Bench(Store(tmp_path))
    for settings in ({}, {"variant": "reference"}, {"rule": "round_robin"}, {"projection": "rademacher"}):
        found = score(less(gradient="sgd", **settings), given, models, bench)
        assert found.choose(1, 0) == ["7"]
        assert np.nanmax(found.scores.values) == pytest.approx(1, abs=1e-3)
        assert np.nanmin(found.scores.values) < 0.9


@pytest.mark.parametrize("variant", ["paper", "reference"])
def test_every_target_row_has_its_turn(
    variant: Literal["paper", "reference"], given: Material, models: LoadedModels, bench: Bench
) -> None:
    selector = less(rule="round_robin", variant=variant)
    found = score(selector, given, models, bench)
    liked: list[np.ndarray] = []

    def work(_: Path) -> None:
        context = Context(selector.needs, bench, given, models)
        checkpoints = gradients.warm_up(context, gradients.trainable(context), 0.5, 2)
        projector = gradients.projector(context, 512, "sketch")
        form: AdamForm = "textbook" if variant == "paper" else "published"
        weights = [checkpoint.rate / sum(one.rate for one in checkpoints) for checkpoint in checkpoints]
        parts = [checkpoint_matches(context, checkpoint, projector, form, "rows") for checkpoint in checkpoints]
        liked.append(sum(weight * part for weight, part in zip(weights, parts, strict=True)))

    bench.stage("test", {"attempt": uuid.uuid4().hex}, work)
    queues = [[row for row in np.argsort(-column, kind="stable") if not np.isnan(column[row])] for column in liked[0].T]
    order: list[str] = []
    while any(queues):
        for queue in queues:
            while variant == "paper" and queue and found.ids[queue[0]] in order:
                queue.pop(0)
            if queue and found.ids[row := queue.pop(0)] not in order:
                order.append(found.ids[row])
    for k in (1, 5, 12):
        assert found.choose(k, 0) == [*order, TOO_LONG][:k]
    assert order != [found.ids[row] for row in np.argsort(-found.scores.values)][:11]


def test_a_row_without_a_response_comes_last(given: Material, models: LoadedModels, bench: Bench) -> None:
    for rule in ("top_k", "round_robin"):
        found = score(less(rule=rule), given, models, bench)
        assert found.choose(12, 0)[-1] == TOO_LONG
        reasons = dict(zip(found.ids, found.scores.reasons, strict=True))
        assert reasons == {id: NO_RESPONSE if id == TOO_LONG else "" for id in found.ids}


def test_target_rows_without_a_response_have_no_part(tiny_lm: LM, models: LoadedModels, tmp_path: Path) -> None:
    target = splits().target
    more = number_again((*target, examples((("term " * 700, "Words"),))[0]))
    found = [
        score(
            less(gradient="sgd"),
            dataclasses.replace(
                material(tiny_lm, dataclasses.replace(splits(), target=rows)),
                train=dataclasses.replace(TRAINING, batch_size=4),
            ),
            models,
            Bench(Store(tmp_path)),
        )
        for rows in (target, more)
    ]
    np.testing.assert_allclose(found[0].scores.values, found[1].scores.values, atol=1e-9)
    assert [one.scores.notes["target_rows_without_response"] for one in found] == [0, 1]
    assert found[0].scores.notes["warmup_rows"] == 6


def number_again(rows: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(dataclasses.replace(row, id=str(n), index=n) for n, row in enumerate(rows))


def test_rules_and_methods_share_all_that_is_computed(given: Material, models: LoadedModels, bench: Bench) -> None:
    score(less(), given, models, bench)
    trained, represented = stored(bench, "train"), stored(bench, "represent")
    score(less(rule="round_robin"), given, models, bench)
    selector = G2IS(warmup_share=0.5, epochs=2, dim=512)
    Trial(selector, given, models).score_in(bench, selector.needs, 3)
    assert stored(bench, "train") == trained
    assert stored(bench, "represent") == represented


def costs(bench: Bench, ref: str, stage: str) -> Cost:
    """Of all results of a stage that `ref` used."""
    return sum(
        (artefact.cost for used, artefact in bench.store.closure((ref,)).items() if used.startswith(f"{stage}/")),
        Cost(),
    )


def test_a_pass_for_each_row_and_checkpoint_and_the_warm_up_are_charged(
    tiny_lm: LM, models: LoadedModels, tmp_path: Path
) -> None:
    ten = examples(tuple((f"Notice {n} of the town.", f"Notice {n}") for n in range(10)))
    given = material(tiny_lm, Splits(pool=ten, target=splits().target, test=()))
    bench = Bench(Store(tmp_path))
    selector = less()

    def charged(attempt: int) -> tuple[Cost, Cost]:
        context = Context(selector.needs, bench, given, models)
        stage = bench.stage("score", {"attempt": attempt}, lambda _: selector.score(context))
        return costs(bench, stage.ref, "represent"), costs(bench, stage.ref, "train")

    features, warm_up = charged(0)
    assert (features.forward_calls, features.backward_calls) == (26, 26)  # 2 checkpoints x (10 rows + 3 of the target)
    assert (warm_up.forward_calls, warm_up.backward_calls) == (10, 10)  # 2 epochs x 5 rows
    assert charged(1) == (features, warm_up)  # found, and charged all the same


@pytest.mark.parametrize(
    ("settings", "field"),
    [({"warmup_share": 0}, "warmup_share"), ({"epochs": 0}, "epochs"), ({"dim": 0}, "dim"), ({"rule": "best"}, "rule")],
)
def test_settings_that_mean_nothing(settings: dict[str, Any], field: str) -> None:
    with pytest.raises(ValueError, match=field):
        LESS(**settings)


def test_a_target_set_without_a_response_is_refused_beforehand(
    given: Material, models: LoadedModels, tmp_path: Path
) -> None:
    empty = dataclasses.replace(given, splits=dataclasses.replace(given.splits, target=()))
    with pytest.raises(UserError, match="target set"):
        LESS().check(Context(LESS().needs, Bench(Store(tmp_path)), empty, models))
    assert not (tmp_path / "train").exists()


def test_keeps_the_contract(given: Material, models: LoadedModels) -> None:
    # By turns: an order of rows has to be the same, not only close. One setting: each is tuned twice.
    check_selector(less(epochs=1, rule="round_robin"), given, models)
