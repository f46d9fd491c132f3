"""How many texts pass the encoder together has no part in what is chosen, and is no part of any key."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rows import material

from dwbench.contract import Trial
from dwbench.errors import UserError
from dwbench.models.encoder import Encoder
from dwbench.models.spec import LM
from dwbench.representations.encode import Embedder
from dwbench.selectors.base import Selector
from dwbench.selectors.context import Context
from dwbench.selectors.facility_location import FacilityLocation
from dwbench.selectors.k_center import KCenter
from dwbench.selectors.kmeans import KMeans
from dwbench.selectors.mig import MIG
from dwbench.selectors.models import LoadedModels
from dwbench.selectors.novelselect import NovelSelect
from dwbench.selectors.qdit import QDIT
from dwbench.selectors.random_stratified import RandomStratified
from dwbench.selectors.repr_filter import ReprFilter
from dwbench.selectors.tsds import TSDS
from dwbench.store import Bench, Store

SELECTORS: dict[str, Selector] = {
    "random_stratified": RandomStratified(clusters=3),
    "k_center": KCenter(),
    "facility_location": FacilityLocation(),
    "facility_location_sparse": FacilityLocation(method="sparse", neighbours=4),
    "kmeans": KMeans(clusters=3),
    "repr_filter": ReprFilter(tau=0.6),
    "qdit": QDIT(quality="length", scale="first_gain"),
    "mig": MIG(),
    "novelselect": NovelSelect(neighbours=3),
    "tsds": TSDS(),
}


@pytest.mark.parametrize("name", SELECTORS)
def test_texts_one_by_one_or_all_in_one_batch(name: str, tiny_lm: LM, encoder: Encoder, models: LoadedModels) -> None:
    one, all_at_once = (
        Trial(SELECTORS[name], material(tiny_lm, encoder=dataclasses.replace(encoder, batch_size=size)), models).score()
        for size in (1, 100)
    )
    assert one.key == all_at_once.key
    assert one.choose(4, 0) == all_at_once.choose(4, 0)
    np.testing.assert_array_equal(one.scores.tier, all_at_once.scores.tier)
    np.testing.assert_allclose(one.scores.preference, all_at_once.scores.preference, rtol=1e-5, atol=1e-5)


def test_the_batches_are_as_large_as_is_said(
    tiny_lm: LM, encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or else the test above would compare a batch with itself."""
    sizes: list[int] = []
    forward = Embedder._forward

    def watched(self: Embedder, features: dict[str, Any]) -> np.ndarray:
        sizes.append(len(features["attention_mask"]))
        return forward(self, features)

    monkeypatch.setattr(Embedder, "_forward", watched)
    for size, expected in ((1, [1] * 3), (100, [3])):
        sizes.clear()
        embed(["one", "two", "three"], dataclasses.replace(encoder, batch_size=size), tiny_lm, tmp_path / str(size))
        assert sizes == [1, *expected]  # the first to warm up


def test_a_vector_that_is_not_finite_is_refused(
    tiny_lm: LM, encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = Embedder._forward

    def broken(self: Embedder, features: dict[str, Any]) -> np.ndarray:
        found = forward(self, features)
        found[-1, 0] = np.nan
        return found

    monkeypatch.setattr(Embedder, "_forward", broken)
    with pytest.raises(UserError, match="embedder tiny: gives no finite vector for the text 'only one'"):
        embed(["only one"], encoder, tiny_lm, tmp_path)
    assert not list(tmp_path.rglob("manifest.json"))


def embed(texts: list[str], encoder: Encoder, lm: LM, folder: Path) -> np.ndarray:
    context = Context(frozenset({"embedder"}), Bench(Store(folder)), material(lm, encoder=encoder), LoadedModels())
    return context.embed(texts)
