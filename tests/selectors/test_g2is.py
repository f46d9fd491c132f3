"""G2IS: its walk on stored features, what fills up the budget, its variants, and what it costs."""

import dataclasses
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rows import TOO_LONG, TRAINING, examples, material, splits

from dwbench.contract import Scored, Trial, check_selector
from dwbench.cost import Cost
from dwbench.errors import UserError
from dwbench.models.spec import LM
from dwbench.representations.adam import AdamForm
from dwbench.rules.matching import unit_rows
from dwbench.rules.walk import Directions, principal_directions, shares, walk
from dwbench.selectors import gradients
from dwbench.selectors.context import Context
from dwbench.selectors.g2is import G2IS
from dwbench.selectors.losses import NO_RESPONSE
from dwbench.selectors.material import Material
from dwbench.selectors.models import LoadedModels
from dwbench.store import Bench, Store


def g2is(**settings: Any) -> G2IS:
    return G2IS(**{"warmup_share": 0.5, "epochs": 2, "dim": 512, **settings})


@pytest.fixture(scope="module")
def given(tiny_lm: LM) -> Material:
    return dataclasses.replace(material(tiny_lm), train=dataclasses.replace(TRAINING, batch_size=4))


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """One store for all tests: tuned once for all of them."""
    return Bench(Store(tmp_path_factory.mktemp("store")))


def score(selector: G2IS, given: Material, models: LoadedModels, bench: Bench, k: int, **barred: Any) -> Scored:
    return Trial(selector, given, models).score_in(bench, selector.needs, k, **barred)


def features(selector: G2IS, given: Material, models: LoadedModels, bench: Bench) -> tuple[np.ndarray, Directions]:
    """Unit features of the pool, in double precision, and the directions of the target set."""
    found: list[Any] = []

    def work(_: Path) -> None:
        context = Context(selector.needs, bench, given, models)
        checkpoint = gradients.warm_up(context, gradients.trainable(context), 0.5, 2)[-1]
        projector = gradients.projector(context, 512, "sketch")
        form: AdamForm = "textbook" if selector.variant == "fixed" else "published"
        pool = [block.rows for _, block in gradients.pool_features(context, checkpoint, projector, form)]
        target = gradients.target_features(context, checkpoint, projector).rows
        found.append(unit_rows(np.concatenate(pool)))
        found.append(principal_directions(target, selector.variance, selector.variant == "reference"))

    bench.stage("test", {"attempt": uuid.uuid4().hex}, work)
    return found[0], found[1]


@pytest.mark.parametrize("variant", ["fixed", "reference"])
@pytest.mark.parametrize("settings", [{}, {"variance": 0.9, "consistency": 0.95}, {"neighbours": 1, "variance": 0.9}])
def test_rows_of_the_walk_first_then_the_furthest_along(
    variant: str, settings: dict[str, Any], given: Material, models: LoadedModels, bench: Bench
) -> None:
    selector = g2is(variant=variant, **settings)
    rows, directions = features(selector, given, models, bench)
    known = ~np.isnan(rows).any(axis=1)
    rows = np.nan_to_num(rows)
    k = 8
    found = score(selector, given, models, bench, k)
    walked = walk(
        rows,
        directions.components,
        shares(directions.weights, k),
        selector.consistency,
        known,
        selector.neighbours,
    )
    along = rows @ (directions.weights @ directions.components)
    np.testing.assert_allclose(found.scores.values[known], along[known], atol=1e-5)
    ids = np.array(found.ids)
    left = [row for row in np.argsort(-along) if known[row] and row not in walked.picks]
    first = [*walked.picks, *left]
    assert found.choose(11, 0) == ids[first].tolist()
    notes = found.scores.notes
    assert notes["rows_filled"] == k - len(walked.picks)
    assert notes["directions"] == len(directions.weights)
    assert notes["steps_without_neighbour"] == walked.fallbacks
    assert notes["warmup_rows"] == 6


def test_the_variants_differ(given: Material, models: LoadedModels, bench: Bench) -> None:
    one, other = (score(g2is(variant=variant), given, models, bench, 4) for variant in ("fixed", "reference"))
    assert one.key != other.key
    assert not np.allclose(one.scores.values, other.scores.values, atol=1e-3, equal_nan=True)


@pytest.mark.parametrize("k", [1, 11, 12])
def test_exactly_as_many_as_are_wanted(k: int, given: Material, models: LoadedModels, bench: Bench) -> None:
    found = score(g2is(), given, models, bench, k)
    chosen = found.choose(k, 0)
    assert len(set(chosen)) == k
    assert (TOO_LONG in chosen) == (k == 12)
    reasons = dict(zip(found.ids, found.scores.reasons, strict=True))
    assert reasons == {id: NO_RESPONSE if id == TOO_LONG else "" for id in found.ids}


def test_barred_rows_are_not_walked_on(given: Material, models: LoadedModels, bench: Bench) -> None:
    best = score(g2is(), given, models, bench, 1).choose(1, 0)[0]
    found = score(g2is(), given, models, bench, 10, barred=frozenset({best}))
    assert found.choose(12, 0)[-2:] == [best, TOO_LONG]


def test_a_centred_target_set_needs_two_rows_that_differ(given: Material, models: LoadedModels, tmp_path: Path) -> None:
    target = splits().target
    bench = Bench(Store(tmp_path))

    def of(*rows: Any) -> Material:
        return dataclasses.replace(given, splits=dataclasses.replace(given.splits, target=rows))

    one, selector = of(target[0]), g2is(variant="reference")
    with pytest.raises(UserError, match="at least 2 target rows"):
        selector.check(Context(selector.needs, bench, one, models))
    g2is().check(Context(selector.needs, bench, one, models))
    assert len(set(score(g2is(), one, models, bench, 3).choose(3, 0))) == 3
    same = of(target[0], dataclasses.replace(target[0], id="copy", uid="copy", index=1))
    selector.check(Context(selector.needs, bench, same, models))
    with pytest.raises(UserError, match="no direction"):
        score(selector, same, models, bench, 3)


def test_every_row_is_passed_once_and_the_warm_up_is_charged(tiny_lm: LM, models: LoadedModels, tmp_path: Path) -> None:
    ten = examples(tuple((f"Notice {n} of the town.", f"Notice {n}") for n in range(10)))
    given = material(tiny_lm, dataclasses.replace(splits(), pool=ten))
    bench = Bench(Store(tmp_path))
    context = Context(G2IS().needs, bench, given, models)
    stage = bench.stage("score", {}, lambda _: g2is().choose(context, 3, np.ones(10, dtype=np.bool_)))
    used = bench.store.closure((stage.ref,))
    for name, calls in (("represent/", 13), ("train/", 10)):  # 10 rows + 3 of the target; 2 epochs x 5 rows
        cost = sum((artefact.cost for ref, artefact in used.items() if ref.startswith(name)), Cost())
        assert (cost.forward_calls, cost.backward_calls) == (calls, calls)


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"variance": 0}, "variance: must be"),
        ({"variance": 1}, "variance: must be"),
        ({"consistency": 1.1}, "consistency: must be"),
        ({"neighbours": 0}, "neighbours: must be"),
        ({"dim": 0}, "dim: must be"),
        ({"variant": "paper"}, "variant"),
    ],
)
def test_settings_that_mean_nothing(settings: dict[str, Any], field: str) -> None:
    with pytest.raises(ValueError, match=field):
        G2IS(**settings)


def test_keeps_the_contract(given: Material, models: LoadedModels) -> None:
    check_selector(g2is(epochs=1), given, models)
