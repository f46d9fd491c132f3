"""Dynamic: rounds that each go on from the one before, and what is scored, shared and charged in them."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rows import TOO_LONG, TRAINING, material

from dwbench.contract import Scored, Trial, check_order, check_selector
from dwbench.errors import UserError
from dwbench.models.spec import LM
from dwbench.rules.ranking import rank
from dwbench.selectors import gradients
from dwbench.selectors.context import Context
from dwbench.selectors.dynamic import Dynamic, less_scores
from dwbench.selectors.less import LESS
from dwbench.selectors.material import Material
from dwbench.selectors.models import LoadedModels
from dwbench.store import Bench, Store

SMALL: dict[str, Any] = {"warmup_share": 0.5, "epochs": 1, "dim": 64}


def score(
    selector: Dynamic | LESS, given: Material, models: LoadedModels, bench: Bench, k: int, **other: Any
) -> Scored:
    return Trial(selector, given, models).score_in(bench, selector.needs, k, **other)


def stored(bench: Bench, stage: str) -> list[dict[str, Any]]:
    """The manifests of a stage's results."""
    return [json.loads(path.read_text()) for path in (bench.store.root / stage).glob("*/manifest.json")]


def scorings(bench: Bench) -> list[dict[str, Any]]:
    return [one for one in stored(bench, "represent") if one["identity"]["representation"] == "less_scores"]


def in_stage(bench: Bench, work: Callable[[], None]) -> None:
    bench.stage("test", {}, lambda _: work())


@pytest.mark.parametrize("variant", ["paper", "reference"])
def test_one_round_is_less_with_one_checkpoint(variant: Any, tiny_lm: LM, models: LoadedModels, tmp_path: Path) -> None:
    given, bench = material(tiny_lm), Bench(Store(tmp_path))
    found = score(Dynamic(rounds=1, variant=variant, **SMALL), given, models, bench, 4)
    less = score(LESS(variant=variant, **SMALL), given, models, bench, 4)
    # LESS keeps its features in half precision.
    np.testing.assert_allclose(found.scores.values, less.scores.values, atol=1e-3)
    assert np.nanstd(found.scores.values) > 0.01
    assert set(found.choose(4, 0)) == set(less.choose(4, 0))
    assert len(stored(bench, "train")) == 1
    assert "rows_kept_from_the_round_before" not in found.scores.notes


def test_each_round_goes_on_from_the_one_before(tiny_lm: LM, models: LoadedModels, tmp_path: Path) -> None:
    """The same as the rounds spelt out."""
    given, bench = material(tiny_lm), Bench(Store(tmp_path))
    selector = Dynamic(rounds=3, **SMALL)
    found = score(selector, given, models, bench, 4)
    context = Context(selector.needs, bench, given, models)
    seen: list[np.ndarray] = []

    def replay() -> None:
        projector = gradients.projector(context, 64, "sketch")
        checkpoint = gradients.warm_up(context, gradients.trainable(context), 0.5, 1)[-1]
        ties = context.draw("dynamic", "ties")
        for turn in range(3):
            directions = gradients.directions(checkpoint, "textbook")
            score_rows = less_scores(context, checkpoint, projector, directions, "paper")
            values = score_rows(range(12), lambda rows: None)
            seen.append(values)
            if turn < 2:
                preference = dataclasses.replace(found.scores, values=values, preference=values)
                rows = rank(preference, 4, ties).order[:4]
                checkpoint = context.tune(rows.tolist(), 1, moments=True, start=checkpoint)[-1]

    trained = len(stored(bench, "train"))
    in_stage(bench, replay)
    assert len(stored(bench, "train")) == trained == 3
    np.testing.assert_allclose(found.scores.values, seen[2], atol=1e-6)
    assert not np.allclose(seen[0], seen[2], atol=1e-4, equal_nan=True)
    last = [set(np.argsort(-np.nan_to_num(values, nan=-2))[:4].tolist()) for values in seen]
    assert found.scores.notes["rows_kept_from_the_round_before"] == len(last[1] & last[2])


def test_what_is_computed_and_charged(tiny_lm: LM, models: LoadedModels, tmp_path: Path) -> None:
    given, bench = material(tiny_lm), Bench(Store(tmp_path))
    found = score(Dynamic(rounds=3, **SMALL), given, models, bench, 4)
    rounds = scorings(bench)
    # 11 of the 12 rows have a response, and each of 3 target rows is seen again in each round.
    assert [one["cost"]["backward_calls"] for one in rounds] == [11, 11, 11]
    assert found.scores.notes["n_grads_computed"] == 33
    targets = [one for one in stored(bench, "represent") if one["identity"]["representation"] == "target_gradients"]
    assert [one["cost"]["backward_calls"] for one in targets] == [3, 3, 3]
    tunings = stored(bench, "train")
    assert sorted(one["cost"]["backward_calls"] for one in tunings) == [4, 4, 6]
    (whole,) = (bench.store.root / "score").iterdir()
    charged = set(bench.store.closure((f"score/{whole.name}",)))
    made = {f"{one['stage']}/{one['key']}" for one in [*rounds, *targets, *tunings]}
    assert made <= charged


def test_budgets_share_the_first_round_only(tiny_lm: LM, models: LoadedModels, tmp_path: Path) -> None:
    given, bench = material(tiny_lm), Bench(Store(tmp_path))
    selector = Dynamic(rounds=2, **SMALL)
    keys = {score(selector, given, models, bench, k).key for k in (4, 5)}
    assert len(keys) == 2
    assert len(scorings(bench)) == 3
    assert len(stored(bench, "train")) == 3


def test_rows_without_response_are_last_and_never_tuned_on(tiny_lm: LM, models: LoadedModels, tmp_path: Path) -> None:
    given, bench = material(tiny_lm), Bench(Store(tmp_path))
    found = score(Dynamic(rounds=2, **SMALL), given, models, bench, 12, barred=frozenset({"1"}))
    assert set(found.choose(10, 0)) == {str(n) for n in range(12)} - {"1", TOO_LONG}
    assert found.choose(12, 0)[-2:] == ["1", TOO_LONG]
    reasons = dict(zip(found.ids, found.scores.reasons, strict=True))
    assert [id for id, reason in reasons.items() if reason] == [TOO_LONG]
    assert sorted(one["cost"]["backward_calls"] for one in stored(bench, "train")) == [6, 10]


def test_a_round_that_does_nothing_is_refused_beforehand(tiny_lm: LM, models: LoadedModels, tmp_path: Path) -> None:
    one_step = dataclasses.replace(TRAINING, batch_size=6, warmup_ratio=0.1)
    given, bench = dataclasses.replace(material(tiny_lm), train=one_step), Bench(Store(tmp_path))
    selector = Dynamic(rounds=2, **{**SMALL, "epochs": 2})
    selector.check(Context(selector.needs, bench, given, models))
    with pytest.raises(UserError, match="4 rows make 1 optimizer step"):
        score(selector, given, models, bench, 4)
    assert not (tmp_path / "train").exists()
    with pytest.raises(UserError, match="6 rows make 1 optimizer step"):
        Dynamic(rounds=2, **SMALL).check(Context(selector.needs, bench, given, models))


def test_settings() -> None:
    with pytest.raises(ValueError, match="rounds: must be at least 1"):
        Dynamic(rounds=0)
    with pytest.raises(ValueError, match="warmup_share: must be"):
        Dynamic(warmup_share=0)


def test_keeps_the_contract(tiny_lm: LM, models: LoadedModels, tmp_path: Path) -> None:
    """One round, to save time; the order of rows also with a second one."""
    given = material(tiny_lm)
    check_selector(Dynamic(rounds=1, **SMALL), given, models)
    bench = Bench(Store(tmp_path))
    twice = Trial(Dynamic(rounds=2, **SMALL), given, models, tunings=bench.store)
    check_order(twice.score_in(bench, twice.selector.needs), twice)
