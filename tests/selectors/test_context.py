"""What a selector may reach: tuned scorers, stored and charged."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
from rows import TOO_LONG, TRAINING, material

from dwbench.errors import UndeclaredNeedError
from dwbench.models.spec import LM
from dwbench.selectors import context as context_module
from dwbench.selectors.context import Context
from dwbench.selectors.losses import Losses, response_losses
from dwbench.selectors.material import Need
from dwbench.selectors.models import LoadedModels
from dwbench.store import Artefact, Bench, Store

NEEDS: frozenset[Need] = frozenset({"responses", "task", "scorer", "seed", "training"})


def losses_by_epoch(lm: LM, models: LoadedModels, store: Store, seed: int = 0) -> tuple[list[Losses], Artefact]:
    bench = Bench(store)
    found: list[Losses] = []

    def work(_: Path) -> None:
        context = Context(NEEDS, bench, material(lm, seed=seed), models)
        fitting = [position for position, row in enumerate(context.pool) if row.id != TOO_LONG]
        checkpoints = context.tune(fitting, epochs=2)
        found.append(response_losses(context, "prompt"))
        found.extend(response_losses(context, "prompt", checkpoint) for checkpoint in checkpoints)

    return found, bench.stage("score", {"seed": seed, "n": len(list(store.root.rglob("manifest.json")))}, work)


def test_losses_fall_from_epoch_to_epoch_and_are_charged_once(
    tiny_lm: LM, models: LoadedModels, tmp_path: Path
) -> None:
    store = Store(tmp_path)
    (before, first, second), scored = losses_by_epoch(tiny_lm, models, store)
    assert np.nanmean(second.mean(True)) < np.nanmean(first.mean(True)) < np.nanmean(before.mean(True))
    used = store.closure((scored.ref,))
    stages = sorted(ref.split("/")[0] for ref in used)
    assert stages == ["represent", "represent", "represent", "score", "train"]
    tuned = next(ref for ref in used if ref.startswith("train/"))
    of_tuned = [ref for ref, artefact in used.items() if artefact.uses == (tuned,)]
    assert len(of_tuned) == 2  # without the tuning, its losses are gone too
    again, _ = losses_by_epoch(tiny_lm, models, store)
    for one, other in zip((before, first, second), again, strict=True):
        np.testing.assert_array_equal(one.total, other.total)
    assert len(list((tmp_path / "train").iterdir())) == 1
    losses_by_epoch(tiny_lm, models, store, seed=1)
    assert len(list((tmp_path / "train").iterdir())) == 2  # another seed tunes anew
    assert len(list((tmp_path / "represent").iterdir())) == 5  # but shares the untuned losses


def test_tuning_must_be_declared(tiny_lm: LM, models: LoadedModels, tmp_path: Path) -> None:
    bench = Bench(Store(tmp_path))
    context = Context(NEEDS - {"training"}, bench, material(tiny_lm), models)
    with pytest.raises(UndeclaredNeedError, match="training"):
        context.tune([0], epochs=1)
    with pytest.raises(UndeclaredNeedError, match="embedder"):
        context.embed(["a"])


def test_no_selector_sees_what_was_planted(tiny_lm: LM, models: LoadedModels, tmp_path: Path) -> None:
    plain = material(tiny_lm)
    marked = {
        split: tuple(dataclasses.replace(row, kind="copy") for row in getattr(plain.splits, split))
        for split in ("pool", "target")
    }
    told = dataclasses.replace(plain, splits=dataclasses.replace(plain.splits, **marked))
    needs: frozenset[Need] = frozenset({"responses", "target"})
    one, other = (Context(needs, Bench(Store(tmp_path)), given, models) for given in (plain, told))
    assert one.pool == other.pool
    assert one.target == other.target
    assert one.identity_of("pool", "target") == other.identity_of("pool", "target")
    assert {id(row) for row in one.pool} == {id(row) for row in plain.splits.pool}  # rows without a kind are not copied


def test_a_row_without_a_response_token_is_not_tuned_on_silently(
    tiny_lm: LM, models: LoadedModels, tmp_path: Path
) -> None:
    context = Context(NEEDS, Bench(Store(tmp_path)), material(tiny_lm), models)
    position = next(position for position, row in enumerate(context.pool) if row.id == TOO_LONG)
    with pytest.raises(ValueError, match="1 of the rows"):
        context.tune([position], epochs=1)
    assert TRAINING.epochs == 1  # the run's own number does not count


def test_rows_are_stored_in_blocks(
    tiny_lm: LM, models: LoadedModels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = losses_of(tiny_lm, models, Store(tmp_path / "whole"))
    monkeypatch.setattr(context_module, "ROWS_A_BLOCK", 5)
    store = Store(tmp_path / "blocks")
    blocks = losses_of(tiny_lm, models, store)
    assert len(list((store.root / "represent").iterdir())) == 3
    np.testing.assert_allclose(blocks.total, whole.total, rtol=1e-5)
    np.testing.assert_array_equal(blocks.tokens, whole.tokens)
    # What a killed process left is found; only the block that is missing is computed again.
    gone = sorted((store.root / "represent").iterdir(), key=lambda path: path.stat().st_mtime_ns)[-1]
    shutil.rmtree(gone)
    kept = {path.name: path.stat().st_ino for path in (store.root / "represent").iterdir()}
    again = losses_of(tiny_lm, models, store)
    np.testing.assert_array_equal(again.total, blocks.total)
    found = {path.name: path.stat().st_ino for path in (store.root / "represent").iterdir()}
    assert found.keys() - kept.keys() == {gone.name}
    assert kept.items() <= found.items()


def losses_of(lm: LM, models: LoadedModels, store: Store) -> Losses:
    bench = Bench(store)
    found: list[Losses] = []
    context = Context(NEEDS, bench, material(lm), models)
    attempt = {"n": len(list(store.root.rglob("manifest.json")))}
    bench.stage("score", attempt, lambda _: found.append(response_losses(context, "prompt")))
    return found[0]
