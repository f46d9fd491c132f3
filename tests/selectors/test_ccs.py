"""CCS: the cut and the strata on given scores, AUM, what is shared with other selectors, and budgets."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from rows import TOO_LONG, TRAINING, examples, material

from dwbench.contract import Scored, Trial, check_selector
from dwbench.data.base import Splits
from dwbench.models.chat import Chat, Pair
from dwbench.models.spec import LM
from dwbench.representations.errors import TokenErrors
from dwbench.rules.strata import left_closed_strata, water_fill
from dwbench.selectors.base import Selector
from dwbench.selectors.ccs import CCS
from dwbench.selectors.context import Context
from dwbench.selectors.el2n import EL2N
from dwbench.selectors.grand import GraNd
from dwbench.selectors.material import Material
from dwbench.selectors.models import LoadedModels
from dwbench.selectors.perplexity import Perplexity
from dwbench.store import Bench, Store


def score(selector: Selector, given: Material, models: Any, bench: Bench, k: int, **barred: Any) -> Scored:
    return Trial(selector, given, models).score_in(bench, selector.needs, k, **barred)


def stages(bench: Bench, name: str = "represent") -> int:
    return len(list(bench.store.root.glob(f"{name}/*/manifest.json")))


@dataclasses.dataclass(frozen=True)
class Given:
    """EL2N in place of a model's: `of` the row's number, which is its response."""

    known: Chat
    of: Callable[[int], float]

    def chat(self, lm: LM) -> Chat:
        return self.known

    def scorer(self, lm: LM, bench: Bench, adapter: Path | None = None) -> Any:
        return self

    def response_errors(self, pairs: Sequence[Pair]) -> list[TokenErrors]:
        numbers = [int(self.known.tokenizer.decode(pair.response[:-1])) for pair in pairs]
        return [TokenErrors(np.array([self.of(number)]), np.zeros(1)) for number in numbers]


@pytest.fixture(scope="module")
def chat(tiny_lm: LM, models: LoadedModels) -> Chat:
    return models.chat(tiny_lm)


@pytest.fixture
def choose(tiny_lm: LM, chat: Chat, tmp_path: Path) -> Callable[..., tuple[list[int], Scored]]:
    """The numbers of the k rows chosen of n rows with given scores, and all that came out."""

    def chosen(n: int, k: int, of: Callable[[int], float], **changes: Any) -> tuple[list[int], Scored]:
        barred = changes.pop("barred", frozenset())
        seed = changes.pop("seed", 0)
        selector = CCS(**{"score": "el2n", **changes})
        pool = examples(tuple((f"Row {number}", str(number)) for number in range(n)))
        given = material(tiny_lm, Splits(pool=pool, target=(), test=()), seed=seed)
        found = score(selector, given, Given(chat, of), Bench(Store(tmp_path)), k, barred=barred)
        return [int(id) for id in found.choose(k, seed)], found

    return chosen


def test_the_hardest_are_cut(choose: Any) -> None:
    """beta 0.3 of 10 rows: 3, which come only where nothing else is left, the least hard of them first."""
    rows, found = choose(10, 10, lambda row: row / 10)
    assert set(rows[:7]) == set(range(7))
    assert rows[7:] == [7, 8, 9]
    assert found.scores.notes == {
        "strata_with_rows": 7,
        "rows_cut": 3,
        "rows_in_no_stratum": 0,
        "rows_filled": 3,
    }
    assert choose(10, 10, lambda row: row / 10, beta=0.0)[1].scores.notes["rows_cut"] == 0


def test_strata_share_the_budget(choose: Any) -> None:
    """Rows in two heaps of 30 and 10: either gives half."""
    rows, _ = choose(40, 10, lambda row: 0.1 + row / 1e4 if row < 30 else 0.9, beta=0.0, strata=4)
    assert sum(row < 30 for row in rows) == 5
    other, _ = choose(40, 10, lambda row: 0.1 + row / 1e4 if row < 30 else 0.9, beta=0.0, strata=4, seed=1)
    assert set(other) != set(rows)


@pytest.mark.parametrize("variant", ["paper", "reference"])
@pytest.mark.parametrize("k", [1, 5, 20])
@pytest.mark.parametrize("value", [0.0, 0.5])
def test_equal_scores_give_k_drawn_rows(variant: str, k: int, value: float, choose: Any) -> None:
    rows, found = choose(20, k, lambda _: value, variant=variant)
    assert len(set(rows)) == k
    # The published strata hold no row where all have a 0.
    assert found.scores.notes["rows_in_no_stratum"] == (14 if variant == "reference" and value == 0 else 0)
    assert set(rows) != set(choose(20, k, lambda _: value, variant=variant, seed=3)[0]) or k == 20


def test_barred_rows_are_in_no_stratum(choose: Any) -> None:
    barred = frozenset({"0", "5"})
    rows, found = choose(20, 18, lambda row: row / 20, barred=barred)
    assert not {0, 5} & set(rows)
    assert found.scores.notes["rows_cut"] == 5  # of 18
    assert set(choose(20, 20, lambda row: row / 20, barred=barred)[0][18:]) == {0, 5}


def test_aum_is_the_sum_over_epochs(tiny_lm: LM, models: LoadedModels, tmp_path: Path) -> None:
    given = dataclasses.replace(
        material(tiny_lm), train=dataclasses.replace(TRAINING, batch_size=4, learning_rate=1e-2)
    )
    bench = Bench(Store(tmp_path))
    selector = CCS(epochs=2, beta=0.2)
    found = score(selector, given, models, bench, 4)
    (trained,) = (tmp_path / "train").glob("[0-9a-f]*")
    margins: list[np.ndarray] = []

    def recompute(_: Path) -> None:
        context = Context(selector.needs, bench, given, models)
        pairs = [context.chat.pair(context.task, row) for row in context.pool]
        known = [pair for pair in pairs if pair is not None]
        for epoch in (1, 2):
            scorer = models.scorer(tiny_lm, bench, trained / f"adapter-{epoch}")
            margins.append(np.array([errors.margin.mean() for errors in scorer.response_errors(known)]))

    bench.stage("test", {}, recompute)
    valid = ~np.isnan(found.scores.values)
    assert [id for id, one in zip(found.ids, valid, strict=True) if not one] == [TOO_LONG]
    np.testing.assert_allclose(found.scores.values[valid], margins[0] + margins[1], rtol=1e-3, atol=1e-7)
    assert not np.allclose(margins[0], margins[1], atol=1e-6)
    # Low is hard: int(0.2 x 11) rows.
    cut = found.scores.tier == 2
    lowest = np.argsort(np.where(valid, found.scores.values, np.inf))[:2]
    assert set(np.flatnonzero(cut)) == set(lowest)
    kept = np.where(cut, np.nan, found.scores.values)
    labels = left_closed_strata(kept, 50)
    counts = water_fill(np.bincount(labels[labels >= 0], minlength=50), 4)
    chosen = np.isin(found.ids, found.choose(4, 0))
    np.testing.assert_array_equal(np.bincount(labels[chosen], minlength=50), counts)


def test_scores_are_those_of_the_selectors_of_that_name(tiny_lm: LM, models: LoadedModels, tmp_path: Path) -> None:
    """And computed once."""
    given = dataclasses.replace(material(tiny_lm), train=dataclasses.replace(TRAINING, batch_size=8))
    bench = Bench(Store(tmp_path))
    others: dict[str, tuple[Selector, CCS]] = {
        "el2n": (EL2N(), CCS(score="el2n")),
        "el2n tuned": (EL2N(scorer="tuned", epochs=1), CCS(score="el2n", scorer="tuned", epochs=1)),
        "grand": (GraNd(), CCS(score="grand")),
    }
    for other, selector in others.values():
        values = score(other, given, models, bench, 3).scores.values
        before = stages(bench), stages(bench, "train")
        for k in (1, 3):
            np.testing.assert_array_equal(score(selector, given, models, bench, k).scores.values, values)
        assert (stages(bench), stages(bench, "train")) == before
    score(Perplexity(which="high"), given, models, bench, 3)
    before = stages(bench), stages(bench, "train")
    nll = score(CCS(score="nll"), given, models, bench, 3)
    assert (stages(bench), stages(bench, "train")) == before
    assert np.nanmin(nll.scores.values) > 0
    # AUM of one epoch: the passes of the tuned EL2N.
    score(CCS(epochs=1), given, models, bench, 3)
    assert (stages(bench), stages(bench, "train")) == before


def test_needs() -> None:
    plain = {"responses", "task", "scorer", "seed"}
    assert CCS(score="el2n").needs == CCS(score="nll").needs == plain
    for selector in (CCS(), CCS(score="grand"), CCS(score="nll", scorer="tuned")):
        assert selector.needs == plain | {"training"}


@pytest.mark.parametrize("settings", [{"beta": 1.0}, {"beta": -0.1}, {"strata": 0}, {"epochs": 0}, {"score": "loss"}])
def test_settings_that_mean_nothing(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        CCS(**settings)


def test_yaml_spells_out_the_defaults() -> None:
    path = Path(__file__).resolve().parents[2] / "conf" / "selector" / "ccs.yaml"
    fields = yaml.safe_load(path.read_text())
    assert fields.pop("_target_") == "dwbench.selectors.ccs.CCS"
    assert fields == dataclasses.asdict(CCS())  # type: ignore[call-overload]


@pytest.mark.parametrize("selector", [CCS(score="nll"), CCS(score="grand", strata=5, variant="reference")])
def test_keeps_the_contract(selector: CCS, tiny_lm: LM, models: LoadedModels) -> None:
    check_selector(selector, material(tiny_lm), models)
