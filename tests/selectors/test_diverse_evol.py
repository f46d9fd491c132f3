"""DiverseEvol: parts of equal size, tunings on what is chosen so far, and k-center by the newest model."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from rows import TOO_LONG, TRAINING, material

from dwbench.contract import Scored, Trial, check_selector
from dwbench.errors import UserError
from dwbench.models.spec import LM
from dwbench.selectors.context import Context
from dwbench.selectors.diverse_evol import DiverseEvol, tuned_vectors
from dwbench.selectors.losses import NO_RESPONSE
from dwbench.selectors.material import Material
from dwbench.selectors.models import LoadedModels
from dwbench.store import Bench, Store

SMALL = DiverseEvol(rounds=2, epochs=1)


def given_rows(lm: LM) -> Material:
    return dataclasses.replace(material(lm), train=dataclasses.replace(TRAINING, batch_size=4))


def score(
    selector: DiverseEvol, k: int, lm: LM, models: LoadedModels, bench: Bench, **barred: frozenset[str]
) -> Scored:
    return Trial(selector, given_rows(lm), models).score_in(bench, selector.needs, k, **barred)


def rows_tuned_on(folder: Path) -> list[int]:
    return sorted(json.loads(path.read_text())["rows"] for path in (folder / "train").glob("*/training.json"))


def test_rounds_by_hand(tiny_lm: LM, models: LoadedModels, tmp_path: Path) -> None:
    bench = Bench(Store(tmp_path))
    selector = SMALL
    found = score(selector, 7, tiny_lm, models, bench)
    chosen = found.choose(7, 0)
    # ceil(7 / 3) = 3 drawn, 3 by the model tuned on these, 1 by the model tuned on those 6.
    assert rows_tuned_on(tmp_path) == [3, 6]
    assert found.scores.notes == {"tunings": 2}
    values = dict(zip(found.ids, found.scores.values, strict=True))
    assert [bool(np.isnan(values[id])) for id in chosen] == [True] * 3 + [False] * 4
    context = Context(selector.needs, bench, given_rows(tiny_lm), models)
    place = {id: position for position, id in enumerate([row.id for row in context.pool])}
    drawn = dict(zip([row.id for row in context.pool], context.draw("diverse_evol", "first"), strict=True))
    fitting = [id for id in [row.id for row in context.pool] if id != TOO_LONG]
    assert chosen[:3] == sorted(fitting, key=lambda id: drawn[id])[:3]
    vectors: list[np.ndarray] = []

    def recompute(_: Path) -> None:
        for size in (3, 6):
            checkpoint = context.tune([place[id] for id in chosen[:size]], 1)[-1]
            vectors.append(tuned_vectors(context, checkpoint))

    bench.stage("test", {}, recompute)
    assert not np.allclose(vectors[0], vectors[1], equal_nan=True)
    for turn in range(3, 7):
        of_round = vectors[0 if turn < 6 else 1]
        nearest = {
            id: min(float(np.linalg.norm(of_round[place[id]] - of_round[place[other]])) for other in chosen[:turn])
            for id in fitting
        }
        assert nearest[chosen[turn]] == pytest.approx(max(nearest.values()), rel=1e-4)
        assert values[chosen[turn]] == pytest.approx(nearest[chosen[turn]], rel=1e-4)


def test_what_is_charged(tiny_lm: LM, models: LoadedModels, tmp_path: Path) -> None:
    bench = Bench(Store(tmp_path))
    score(SMALL, 7, tiny_lm, models, bench)
    (scored,) = (tmp_path / "score").iterdir()
    used = [ref.split("/")[0] for ref in bench.store.closure((f"score/{scored.name}",))]
    assert sorted(used) == ["represent", "represent", "score", "train", "train"]


@pytest.mark.parametrize(("k", "tunings"), [(1, 0), (2, 1), (3, 2), (11, 2)])
def test_small_budgets_take_fewer_rounds(
    k: int, tunings: int, tiny_lm: LM, models: LoadedModels, tmp_path: Path
) -> None:
    found = score(SMALL, k, tiny_lm, models, Bench(Store(tmp_path)))
    assert found.scores.notes == {"tunings": tunings}
    chosen = found.choose(k, 0)
    assert len(set(chosen)) == k
    assert TOO_LONG not in chosen


def test_rows_that_can_not_be_tuned_on_come_last(tiny_lm: LM, models: LoadedModels, tmp_path: Path) -> None:
    bench = Bench(Store(tmp_path))
    one = DiverseEvol(rounds=1, epochs=1)
    found = score(one, 12, tiny_lm, models, bench)
    assert found.choose(12, 0)[-1] == TOO_LONG
    reasons = dict(zip(found.ids, found.scores.reasons, strict=True))
    assert {id for id, reason in reasons.items() if reason} == {TOO_LONG}
    assert reasons[TOO_LONG] == NO_RESPONSE
    barred = frozenset(found.ids) - {"1", "4", "6", TOO_LONG}
    assert set(score(one, 3, tiny_lm, models, bench, barred=barred).choose(3, 0)) == {"1", "4", "6"}


def test_settings_that_mean_nothing() -> None:
    for name in ("rounds", "epochs"):
        with pytest.raises(ValueError, match=f"{name}: must be at least 1"):
            DiverseEvol(**{name: 0})


def test_a_tuning_that_does_nothing_is_refused_beforehand(tiny_lm: LM, models: LoadedModels, tmp_path: Path) -> None:
    one_step = dataclasses.replace(TRAINING, batch_size=100, warmup_ratio=0.1)
    given = dataclasses.replace(material(tiny_lm), train=one_step)
    context = Context(SMALL.needs, Bench(Store(tmp_path)), given, models)
    with pytest.raises(UserError, match="warm-up"):
        SMALL.check(context)


def test_keeps_the_contract(tiny_lm: LM, models: LoadedModels) -> None:
    # One setting, the quickest: the contract has the model tuned several times.
    check_selector(DiverseEvol(rounds=1, epochs=1), given_rows(tiny_lm), models)
