"""k-center as a selector: what it embeds, where it starts, and whom it leaves out."""

from pathlib import Path

import numpy as np
import pytest
from rows import material

from dwbench.contract import Trial, check_selector
from dwbench.models.encoder import Encoder
from dwbench.models.spec import LM
from dwbench.selectors.context import Context
from dwbench.selectors.k_center import KCenter
from dwbench.selectors.models import LoadedModels
from dwbench.selectors.picks import BARRED, CHOSEN, LEFT, picked, pool_vectors
from dwbench.store import Bench, Store


def test_picks_as_scores() -> None:
    found = picked(np.array([True, True, False, True]), np.array([3, 0]), np.array([np.nan, 0.5]), {"a": 1})
    assert found.tier.tolist() == [CHOSEN, LEFT, BARRED, CHOSEN]
    assert found.preference.tolist() == [1, 0, 0, 2]
    np.testing.assert_array_equal(found.values, [0.5, np.nan, np.nan, np.nan])
    invalid = picked(np.array([True, False]), np.array([0]), np.array([1.0]), {}, ("", "too long"))
    np.testing.assert_array_equal(invalid.preference, [1, np.nan])


def vectors_of(lm: LM, encoder: Encoder, models: LoadedModels, folder: Path) -> dict[str, np.ndarray]:
    """Embeddings of the prompts by id."""
    found: list[np.ndarray] = []
    bench = Bench(Store(folder))
    context = Context(KCenter().needs, bench, material(lm, encoder=encoder), models)
    bench.stage("test", {}, lambda _: found.append(pool_vectors(context, "instruction")))
    return dict(zip([row.id for row in context.pool], found[0], strict=True))


def test_each_row_is_the_farthest(tiny_lm: LM, encoder: Encoder, models: LoadedModels, tmp_path: Path) -> None:
    vectors = vectors_of(tiny_lm, encoder, models, tmp_path)
    found = Trial(KCenter(), material(tiny_lm, encoder=encoder), models).score(5)
    chosen = found.choose(5, 0)
    values = dict(zip(found.ids, found.scores.values, strict=True))
    assert np.isnan(values[chosen[0]])
    for turn in range(1, 5):
        nearest = {id: min(np.linalg.norm(vectors[id] - vectors[other]) for other in chosen[:turn]) for id in vectors}
        assert nearest[chosen[turn]] == pytest.approx(max(nearest.values()), rel=1e-4)
        assert values[chosen[turn]] == pytest.approx(nearest[chosen[turn]], rel=1e-4)
    left = max(min(np.linalg.norm(vectors[id] - vectors[other]) for other in chosen) for id in vectors)
    assert found.scores.notes["radius"] == pytest.approx(left, rel=1e-4)
    alone = [min(np.linalg.norm(vectors[id] - vectors[other]) for other in vectors if other != id) for id in chosen]
    assert found.scores.notes["nearest_distance_mean"] == pytest.approx(np.mean(alone), rel=1e-4)


def test_the_seed_draws_the_first_row(tiny_lm: LM, encoder: Encoder, models: LoadedModels) -> None:
    first = {
        Trial(KCenter(), material(tiny_lm, seed=seed, encoder=encoder), models).score(1).choose(1, 0)[0]
        for seed in range(6)
    }
    assert len(first) > 1


def test_copies_come_last(tiny_lm: LM, encoder: Encoder, models: LoadedModels) -> None:
    chosen = Trial(KCenter(), material(tiny_lm, encoder=encoder), models).score(11).choose(11, 0)
    assert len({"0", "3"} & set(chosen)) == 1  # the same row twice


def test_barred_rows_come_last(tiny_lm: LM, encoder: Encoder, models: LoadedModels) -> None:
    trial = Trial(KCenter(), material(tiny_lm, encoder=encoder), models)
    everyone = frozenset(str(n) for n in range(12))
    assert set(trial.score(5, barred=everyone - {"1", "4"}).choose(2, 0)) == {"1", "4"}
    assert len(set(trial.score(3, barred=everyone).choose(3, 0))) == 3


@pytest.mark.parametrize("text", ["instruction", "full"])
def test_keeps_the_contract(text: str, tiny_lm: LM, encoder: Encoder, models: LoadedModels) -> None:
    check_selector(KCenter(text=text), material(tiny_lm, encoder=encoder), models)  # type: ignore[arg-type]
