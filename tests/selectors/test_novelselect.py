"""NovelSelect: its first row, copies, what may not be chosen, and the stages that it shares."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rows import TOO_LONG, examples, material

from dwbench import seeds
from dwbench.config import selector_named
from dwbench.contract import Scored, Trial, check_selector
from dwbench.data.base import Splits
from dwbench.models.encoder import Encoder
from dwbench.models.spec import LM
from dwbench.rules.novelselect import novelselect
from dwbench.rules.novelty import Form, copies, cosine_distances, densities
from dwbench.selectors.context import Context
from dwbench.selectors.material import Material
from dwbench.selectors.models import LoadedModels
from dwbench.selectors.novelselect import NovelSelect
from dwbench.store import Bench, Store

FORMS: tuple[Form, ...] = ("paper", "reference")


@pytest.fixture(scope="module")
def given(tiny_lm: LM, encoder: Encoder) -> Material:
    """The pool of 12 rows, in which rows 0 and 3 are the same."""
    return material(tiny_lm, encoder=encoder)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(Store(tmp_path_factory.mktemp("store")))


def choose(
    selector: NovelSelect, given: Material, models: LoadedModels, bench: Bench, k: int, barred: frozenset[str]
) -> Scored:
    return Trial(selector, given, models).score_in(bench, selector.needs, k, barred)


def embedded(given: Material, models: LoadedModels, folder: Path) -> np.ndarray:
    bench = Bench(Store(folder))
    context = Context(NovelSelect().needs, bench, given, models)
    found: list[np.ndarray] = []
    texts = [f"{row.input}\n{row.response}" for row in context.pool]
    bench.stage("test", {}, lambda _: found.append(context.embed(texts)))
    return found[0]


@pytest.mark.parametrize("form", FORMS)
def test_chooses_by_the_rule(form: Form, given: Material, models: LoadedModels, bench: Bench, tmp_path: Path) -> None:
    found = choose(NovelSelect(variant=form, neighbours=3), given, models, bench, 5, frozenset())
    vectors = embedded(given, models, tmp_path)
    first = int(np.argmin(seeds.draw(found.uids, 0, "select", "novelselect", "first")))
    groups = copies(vectors) if form == "paper" else None
    expected = novelselect(cosine_distances(vectors), densities(vectors, 3), 5, first, form=form, groups=groups)
    ids = [found.ids[row] for row in expected.picks]
    assert found.choose(5, 0) == ids
    values = dict(zip(found.ids, found.scores.values, strict=True))
    np.testing.assert_allclose([values[id] for id in ids], expected.values)
    # The others follow by their novelty to those.
    others = [id for id in found.choose(12, 0) if id not in ids]
    assert [values[id] for id in others] == sorted((values[id] for id in others), reverse=True)
    assert found.scores.notes == {"copies": 1}


def test_a_copy_waits(given: Material, models: LoadedModels, bench: Bench) -> None:
    chosen = choose(NovelSelect(), given, models, bench, 11, frozenset()).choose(11, 0)
    assert len({"0", "3"} & set(chosen)) == 1
    assert len(set(chosen)) == 11


@pytest.mark.parametrize("form", FORMS)
def test_barred_rows_take_no_place(form: Form, given: Material, models: LoadedModels, bench: Bench) -> None:
    selector = NovelSelect(variant=form)
    barred = frozenset({"1", TOO_LONG, "6"})
    assert not barred & set(choose(selector, given, models, bench, 9, barred).choose(9, 0))
    assert set(choose(selector, given, models, bench, 11, barred).choose(12, 0)[9:]) == barred
    everyone = frozenset(row.id for row in given.splits.pool)
    assert len(set(choose(selector, given, models, bench, 4, everyone).choose(4, 0))) == 4


def test_budgets_share_embeddings_and_densities(given: Material, models: LoadedModels, tmp_path: Path) -> None:
    bench = Bench(Store(tmp_path))
    for k in (2, 6):
        choose(NovelSelect(), given, models, bench, k, frozenset())
        assert len(list((tmp_path / "represent").iterdir())) == 2
    choose(NovelSelect(variant="reference"), given, models, bench, 6, frozenset())
    assert len(list((tmp_path / "represent").iterdir())) == 2


def test_one_row(tiny_lm: LM, encoder: Encoder, models: LoadedModels, tmp_path: Path) -> None:
    alone = material(tiny_lm, Splits(pool=examples((("one", "two"),)), target=(), test=()), encoder=encoder)
    assert choose(NovelSelect(), alone, models, Bench(Store(tmp_path)), 1, frozenset()).choose(1, 0) == ["0"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"neighbours": 0}, "neighbours: must be"),
        ({"density_power": -0.1}, "density_power"),
        ({"distance_power": -1}, "distance_power"),
        ({"density_power": 0, "neighbours": 5}, "neighbours: density has no part"),
    ],
)
def test_settings_that_mean_nothing(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NovelSelect(**settings)


def test_configured() -> None:
    assert selector_named("novelselect", {}) == (NovelSelect(), "novelselect")


@pytest.mark.parametrize("form", FORMS)
def test_keeps_the_contract(form: Form, given: Material, models: LoadedModels) -> None:
    check_selector(NovelSelect(variant=form), given, models)
