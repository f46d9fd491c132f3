"""Stored gradient features: what they hold, what their key holds, and the warm-up that they are taken behind."""

import dataclasses
import tracemalloc
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
from rows import TOO_LONG, TRAINING, examples, material, splits

from dwbench.errors import UndeclaredNeedError, UserError
from dwbench.models.spec import LM
from dwbench.representations.adam import AdamForm
from dwbench.representations.projection import Projection, Projector
from dwbench.rules.matching import Features, matches
from dwbench.selectors import context as context_module
from dwbench.selectors import gradients
from dwbench.selectors.base import compute_scores
from dwbench.selectors.context import Context
from dwbench.selectors.g2is import G2IS
from dwbench.selectors.less import LESS, checkpoint_matches
from dwbench.selectors.material import Checkpoint, Material, Need
from dwbench.selectors.models import LoadedModels
from dwbench.store import Bench, Store

T = TypeVar("T")

NEEDS: frozenset[Need] = frozenset({"responses", "target", "task", "scorer", "training", "seed"})
PROJECTOR = Projector(Projection(dim=128))


@pytest.fixture(scope="module")
def given(tiny_lm: LM) -> Material:
    return dataclasses.replace(material(tiny_lm), train=dataclasses.replace(TRAINING, batch_size=4))


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """One store for all tests: tuned once for all of them."""
    return Bench(Store(tmp_path_factory.mktemp("store")))


def within(bench: Bench, given: Material, models: LoadedModels, work: Callable[[Context], T]) -> T:
    """`work` done inside a stage."""
    found: list[T] = []
    context = Context(NEEDS, bench, given, models)
    bench.stage("test", {"attempt": uuid.uuid4().hex}, lambda _: found.append(work(context)))
    return found[0]


def warm(context: Context) -> tuple[Checkpoint, ...]:
    return gradients.warm_up(context, gradients.trainable(context), 0.5, 2)


def stored(bench: Bench) -> int:
    return len(list((bench.store.root / "represent").glob("*/manifest.json")))


def rows_of(context: Context, checkpoint: Checkpoint, projector: Projector, form: AdamForm | None) -> np.ndarray:
    return np.concatenate([block.rows for _, block in gradients.pool_features(context, checkpoint, projector, form)])


@pytest.mark.parametrize("form", ["textbook", "published", None])
def test_features_are_the_directions_of_projected_gradients(
    form: AdamForm | None, given: Material, models: LoadedModels, bench: Bench
) -> None:
    def work(context: Context) -> tuple[np.ndarray, np.ndarray, list[str]]:
        checkpoint = warm(context)[-1]
        found = rows_of(context, checkpoint, PROJECTOR, form)
        steps = None if form is None else gradients.directions(checkpoint, form)
        pairs = [context.chat.pair(context.task, row) for row in context.pool]
        raw = context.gradients(checkpoint).features(pairs, Projector(PROJECTOR.projection), steps)
        return found, raw, [row.id for row in context.pool]

    found, raw, ids = within(bench, given, models, work)
    assert found.dtype == np.float16
    missing = np.isnan(found).all(axis=1)
    assert [id for id, none in zip(ids, missing, strict=True) if none] == [TOO_LONG]
    assert not np.isnan(found[~missing]).any()
    lengths = np.linalg.norm(raw, axis=1, keepdims=True)
    np.testing.assert_allclose(found[~missing], (raw / lengths)[~missing], atol=5e-4)
    np.testing.assert_allclose(np.linalg.norm(found[~missing].astype(np.float64), axis=1), 1, atol=1e-3)


def test_target_features_are_plain_and_keep_their_length(given: Material, models: LoadedModels, bench: Bench) -> None:
    def work(context: Context) -> tuple[np.ndarray, np.ndarray]:
        checkpoint = warm(context)[0]
        found = gradients.target_features(context, checkpoint, PROJECTOR)
        pairs = [context.chat.pair(context.task, row) for row in context.target]
        return found.rows, context.gradients(checkpoint).features(pairs, PROJECTOR)

    found, expected = within(bench, given, models, work)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_whatever_features_depend_on_is_in_their_key(given: Material, models: LoadedModels, bench: Bench) -> None:
    def work(context: Context) -> None:
        first, last = warm(context)
        other_seed, dense, other_dim = (
            Projector(one)
            for one in (Projection(dim=128, seed=1), Projection(dim=128, kind="rademacher"), Projection(dim=129))
        )
        known: list[tuple[Checkpoint, Projector, AdamForm | None]] = [
            (first, PROJECTOR, "textbook"),
            (first, PROJECTOR, "published"),
            (first, PROJECTOR, None),
            (last, PROJECTOR, "textbook"),
            (first, other_seed, "textbook"),
            (first, dense, "textbook"),
            (first, other_dim, "textbook"),
        ]
        for settings in known:
            rows_of(context, *settings)
        before = stored(bench)
        found = [rows_of(context, *settings) for settings in known]
        assert stored(bench) == before
        for n, one in enumerate(found):
            for other in found[:n]:
                assert one.shape != other.shape or not np.allclose(one, other, atol=1e-3, equal_nan=True)
        gradients.target_features(context, first, PROJECTOR)
        before = stored(bench)
        gradients.target_features(context, first, other_seed)
        gradients.target_features(context, last, PROJECTOR)
        assert stored(bench) == before + 2

    within(bench, given, models, work)


def test_another_prompt_has_other_features(given: Material, models: LoadedModels, bench: Bench) -> None:
    def work(context: Context) -> tuple[list[str], np.ndarray]:
        return [checkpoint.ref for checkpoint in warm(context)], rows_of(context, warm(context)[0], PROJECTOR, None)

    refs, found = within(bench, given, models, work)
    other = dataclasses.replace(given, task=dataclasses.replace(given.task, system="Be brief."))
    other_refs, other_found = within(bench, other, models, work)
    assert not set(refs) & set(other_refs)
    assert not np.allclose(found, other_found, atol=1e-3, equal_nan=True)


def test_the_pool_is_gone_through_in_blocks(
    given: Material, models: LoadedModels, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = within(bench, given, models, lambda context: rows_of(context, warm(context)[0], PROJECTOR, "textbook"))
    monkeypatch.setattr(context_module, "ROWS_A_BLOCK", 1)  # the row without response is a block of its own

    def work(context: Context) -> list[tuple[range, np.ndarray]]:
        blocks = gradients.pool_features(context, warm(context)[0], PROJECTOR, "textbook")
        return [(positions, block.rows) for positions, block in blocks]

    blocks = within(bench, given, models, work)
    assert [tuple(positions) for positions, _ in blocks] == [(n,) for n in range(12)]
    assert {rows.shape for _, rows in blocks} == {(1, 128)}
    np.testing.assert_allclose(np.concatenate([rows for _, rows in blocks]), whole, atol=1e-3)


def test_a_pool_of_any_size_takes_the_memory_of_a_block(
    given: Material, models: LoadedModels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Features of 4 rows take half a megabyte on disk; of 48, held together, they would take 6."""
    monkeypatch.setattr(context_module, "ROWS_A_BLOCK", 4)

    def peak(n: int) -> int:
        pool = examples(tuple((f"Notice {number} of the town.", f"Notice {number}") for number in range(n)))

        def work(context: Context) -> int:
            checkpoint, projector = context.untuned(), Projector(Projection(dim=2**16))
            gradients.sought(context, checkpoint, projector, "paper")  # draws the projection, off the record
            tracemalloc.start()
            try:
                assert checkpoint_matches(context, checkpoint, projector, None, "paper").shape == (n, 1)
                return tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()

        of = dataclasses.replace(given, splits=dataclasses.replace(splits(), pool=pool))
        return within(Bench(Store(tmp_path / str(n))), of, models, work)

    assert peak(48) < peak(8) + 2**21


def test_features_know_their_projection(given: Material, models: LoadedModels, bench: Bench) -> None:
    def work(context: Context) -> None:
        checkpoint, other = warm(context)[0], Projector(Projection(dim=128, seed=1))
        for _ in range(2):  # computed, and found
            queries = gradients.sought(context, checkpoint, PROJECTOR, "paper")
            _, block = next(gradients.pool_features(context, checkpoint, PROJECTOR, None))
            assert matches(block, queries).shape == (12, 1)
            gradients.refuse_mixing(block, queries)
            _, block = next(gradients.pool_features(context, checkpoint, other, None))
            with pytest.raises(ValueError, match=r'"seed":1} can\'t be matched with those of .*"seed":0}'):
                matches(block, queries)

    within(bench, given, models, work)


@pytest.mark.parametrize(
    "selector", [LESS(warmup_share=0.5, epochs=1, dim=64), G2IS(warmup_share=0.5, epochs=1, dim=64)]
)
def test_a_target_set_of_another_projection_is_refused(
    selector: LESS | G2IS, given: Material, models: LoadedModels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = gradients.target_features

    def mixed(context: Context, checkpoint: Checkpoint, by: Projector) -> Features:
        return real(context, checkpoint, Projector(dataclasses.replace(by.projection, seed=99)))

    monkeypatch.setattr(gradients, "target_features", mixed)
    with pytest.raises(ValueError, match="gradients of projection"):
        within(
            Bench(Store(tmp_path)),
            given,
            models,
            lambda context: compute_scores(selector, context, 3, np.ones(12, dtype=np.bool_)),
        )


def test_the_warm_up_is_on_a_share_of_what_can_be_tuned_on(
    given: Material, models: LoadedModels, tmp_path: Path
) -> None:
    drawn: list[list[str]] = []

    class Watched(Context):
        def tune(self, positions: Any, *args: Any, **kwargs: Any) -> Any:
            drawn.append([self.pool[position].id for position in positions])
            return ()

    for share, seed, expected in ((0.5, 0, 6), (0.5, 0, 6), (0.5, 1, 6), (0.01, 0, 1), (1.0, 0, 11)):
        context = Watched(NEEDS, Bench(Store(tmp_path)), dataclasses.replace(given, seed=seed), models)
        gradients.warm_up(context, gradients.trainable(context), share, 1)
        assert len(set(drawn[-1])) == len(drawn[-1]) == expected
        assert TOO_LONG not in drawn[-1]
    assert drawn[0] == drawn[1]
    assert set(drawn[0]) != set(drawn[2])
    assert set(drawn[3]) < set(drawn[0])


def test_checkpoints_keep_their_moments_and_rates(given: Material, models: LoadedModels, bench: Bench) -> None:
    checkpoints = within(bench, given, models, warm)
    assert [checkpoint.step for checkpoint in checkpoints] == [2, 4]  # 6 rows, 4 a step
    assert all(checkpoint.moments is not None and checkpoint.moments.is_file() for checkpoint in checkpoints)
    assert checkpoints[0].rate > checkpoints[1].rate > 0


def test_a_row_without_response_token_has_no_gradient(given: Material, models: LoadedModels, bench: Bench) -> None:
    target = examples((("term " * 700, "Words"), ("It rains.", "Rain"), ("It pours.", "")))
    some = dataclasses.replace(given, splits=dataclasses.replace(splits(), target=target))
    pairs = within(bench, some, models, gradients.target_pairs)
    assert len(pairs) == 1
    none = dataclasses.replace(given, splits=dataclasses.replace(splits(), target=(target[0], target[2])))
    for wrong, rows in ((none, 2), (dataclasses.replace(given, splits=dataclasses.replace(splits(), target=())), 0)):
        with pytest.raises(UserError, match=f"target set: none of its {rows} rows has a response token"):
            within(bench, wrong, models, lambda context: gradients.check(context, 0.5, 2))


def test_a_warm_up_that_does_nothing_is_refused_beforehand(given: Material, models: LoadedModels, bench: Bench) -> None:
    still = dataclasses.replace(given, train=dataclasses.replace(given.train, warmup_ratio=0.5))
    within(bench, still, models, lambda context: gradients.check(context, 0.5, 2))
    with pytest.raises(UserError, match="warm-up"):
        within(bench, still, models, lambda context: gradients.check(context, 0.01, 1))


def test_without_moments_there_is_no_step_of_adam(given: Material, models: LoadedModels, bench: Bench) -> None:
    def work(context: Context) -> None:
        rows_of(context, context.untuned(), PROJECTOR, "textbook")

    with pytest.raises(ValueError, match="without Adam's moments"):
        within(bench, given, models, work)


def test_what_is_not_declared_can_not_be_had(given: Material, models: LoadedModels, bench: Bench) -> None:
    def reach(need: Need) -> None:
        context = Context(NEEDS - {need}, bench, given, models)
        with pytest.raises(UndeclaredNeedError, match=need):
            gradients.target_features(context, warm(Context(NEEDS, bench, given, models))[0], PROJECTOR)

    for need in ("target", "task"):
        within(bench, given, models, lambda _, need=need: reach(need))


@pytest.mark.parametrize(
    ("settings", "field"),
    [((0.0, 1, 1), "warmup_share"), ((1.1, 1, 1), "warmup_share"), ((0.5, 0, 1), "epochs"), ((0.5, 1, 0), "dim")],
)
def test_settings_that_mean_nothing(settings: tuple[float, int, int], field: str) -> None:
    with pytest.raises(ValueError, match=f"{field}: must be"):
        gradients.validate(*settings)
