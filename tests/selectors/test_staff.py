"""STAFF: which rows the model to be tuned computes on, both allocations, and what is shared and charged."""

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from rows import TOO_LONG, TRAINING, examples, material

from dwbench.contract import Scored, Trial, check_selector
from dwbench.cost import Cost
from dwbench.data.base import Splits
from dwbench.models.chat import Chat, Pair
from dwbench.models.spec import LM
from dwbench.rules.strata import right_closed_strata, staff_counts
from dwbench.selectors.context import Context
from dwbench.selectors.material import Checkpoint, Material
from dwbench.selectors.models import LoadedModels
from dwbench.selectors.staff import STAFF
from dwbench.store import Bench, Store


def score(selector: STAFF, given: Material, models: Any, bench: Bench, k: int, **barred: Any) -> Scored:
    return Trial(selector, given, models).score_in(bench, selector.needs, k, **barred)


@dataclasses.dataclass
class Given:
    """Efforts in place of two models', of the row's number, which is its response; remembers whom the target saw."""

    known: Chat
    small: Callable[[int], float]
    target: Callable[[int], float]
    seen: list[int] = dataclasses.field(default_factory=list)

    def chat(self, lm: LM) -> Chat:
        return self.known

    def gradients(self, lm: LM, bench: Bench, adapter: Path | None = None) -> Any:
        return Engine(self.known, self.small, []) if adapter else Engine(self.known, self.target, self.seen)


@dataclasses.dataclass
class Engine:
    chat: Chat
    effort: Callable[[int], float]
    seen: list[int]

    def norms(self, pairs: Sequence[Pair | None], part: str, what: str) -> np.ndarray:
        assert part == "last_v"
        numbers = [None if pair is None else int(self.chat.tokenizer.decode(pair.response[:-1])) for pair in pairs]
        self.seen += [number for number in numbers if number is not None]
        return np.array([np.nan if number is None else self.effort(number) for number in numbers])


@dataclasses.dataclass
class Choice:
    rows: list[int]
    scored: Scored
    seen: list[int]


@pytest.fixture
def choose(tiny_lm: LM, models: LoadedModels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Choice]:
    """k rows chosen of n with given efforts; nothing is tuned."""

    def no_tuning(context: Context, epochs: int) -> tuple[Checkpoint, ...]:
        return (Checkpoint("train/none:1", tmp_path),)

    monkeypatch.setattr("dwbench.selectors.staff.tuned_on_pool", no_tuning)

    def chosen(n: int, k: int, small: Callable[[int], float], target: Callable[[int], float], **changes: Any) -> Choice:
        barred, seed = changes.pop("barred", frozenset()), changes.pop("seed", 0)
        pool = examples(tuple((f"Row {number}", str(number)) for number in range(n)))
        given = material(tiny_lm, Splits(pool=pool, target=(), test=()), seed=seed)
        models_given = Given(models.chat(tiny_lm), small, target)
        found = score(
            STAFF(**changes),
            given,
            models_given,
            Bench(Store(tmp_path / f"{n}-{changes.get('variant')}")),
            k,
            barred=barred,
        )
        return Choice([int(id) for id in found.choose(k, seed)], found, models_given.seen)

    return chosen


def effort(row: int) -> float:
    """Numbers that look drawn, most of them small."""
    return float(-np.log((row * 7919 % 1009 + 1) / 1011))


@pytest.mark.parametrize("variant", ["paper", "reference"])
def test_the_model_to_be_tuned_sees_500_rows_at_most(variant: str, choose: Any) -> None:
    """10 of each of 50 strata, none of those that were cut, each once, the same whatever the budget."""
    n = 1500
    found = choose(n, 75, lambda row: (row * 7919 % n) / n, lambda row: 2.0, variant=variant)
    assert len(found.seen) == len(set(found.seen)) == 500 == found.scored.scores.notes["rows_verified"]
    assert all((row * 7919 % n) / n < 0.9 for row in found.seen)
    assert len(set(found.rows)) == 75
    assert choose(n, 1, lambda row: (row * 7919 % n) / n, lambda row: 2.0, variant=variant).seen == []


def test_which_strata_are_checked(choose: Any) -> None:
    """30 rows and 5; the published code leaves strata of up to `verified` rows alone."""
    for variant, per_stratum in (("paper", [3, 3]), ("reference", [3, 3])):
        found = choose(35, 8, lambda row: float(row >= 30), effort, cut=0.0, strata=2, verified=3, variant=variant)
        assert [sum(row < 30 for row in found.seen), sum(row >= 30 for row in found.seen)] == per_stratum
    for variant, per_stratum in (("paper", [5, 5]), ("reference", [5, 0])):
        found = choose(36, 8, lambda row: float(row >= 31), effort, cut=0.0, strata=2, verified=5, variant=variant)
        assert [sum(row < 31 for row in found.seen), sum(row >= 31 for row in found.seen)] == per_stratum


def test_the_stratum_that_the_model_finds_harder_gives_more(choose: Any) -> None:
    """Two strata of 20 rows, V 1 and 3, so 0.5 and 1.5 of their mean; k = 12."""

    def small(row: int) -> float:
        return 1.0 + row / 1e3 if row < 20 else 2.0 + row / 1e3

    def target(row: int) -> float:
        return small(row) * (1 if row < 20 else 3)

    paper = choose(40, 12, small, target, cut=0.0, strata=2)
    # floor(12 x 0.5 / 2) of the first; then floor(9 x 1.5 / 1), and there are 9 left.
    assert sum(row < 20 for row in paper.rows) == 3
    assert paper.scored.scores.notes["rows_filled"] == 0
    reference = choose(40, 12, small, target, cut=0.0, strata=2, variant="reference")
    # floor(12 x 1 / 4), and the highest efforts of each.
    assert set(reference.rows) == {*range(17, 20), *range(31, 40)}
    assert set(paper.rows) != set(reference.rows)
    assert set(choose(40, 12, small, target, cut=0.0, strata=2, seed=1).rows) != set(paper.rows)


def test_what_rounding_leaves_is_drawn_from_rows_that_were_not_cut(choose: Any) -> None:
    """V falls from the first stratum to the last, so that the last gives less than is left."""
    found = choose(40, 10, lambda row: 1.0 + row // 18, lambda row: 9.0 if row < 18 else 0.2, cut=0.1, strata=2)
    # Strata of 18 rows each; V 9 and 0.1, so 1.978 and 0.022: floor(10 x 1.978 / 2) = 9, floor(1 x 0.022) = 0.
    assert found.scored.scores.notes["rows_filled"] == 1
    assert len(set(found.rows)) == 10
    assert all(row < 36 for row in found.rows)
    whole = choose(40, 40, lambda row: 1.0 + row // 18, lambda row: 1.0, cut=0.1, strata=2)
    assert set(whole.rows[36:]) == {36, 37, 38, 39}


@pytest.mark.parametrize("variant", ["paper", "reference"])
@pytest.mark.parametrize("k", [1, 5, 25])
@pytest.mark.parametrize("value", [0.0, 0.5])
def test_equal_efforts(variant: str, k: int, value: float, choose: Any) -> None:
    assert len(set(choose(25, k, lambda _: value, lambda _: value, variant=variant).rows)) == k


def test_one_row(choose: Any) -> None:
    assert choose(1, 1, effort, effort).rows == [0]


def test_barred_rows_are_neither_chosen_nor_checked(choose: Any) -> None:
    barred = frozenset(str(row) for row in range(10))
    found = choose(40, 30, effort, effort, barred=barred)
    assert set(found.rows) == set(range(10, 40))
    assert found.scored.scores.notes["rows_cut"] == 3
    assert not set(found.seen) & set(range(10))


def stored(bench: Bench, name: str) -> list[Cost]:
    """Costs of the stored representations of that name."""
    manifests = [json.loads(path.read_text()) for path in bench.store.root.glob("represent/*/manifest.json")]
    keys = [one["key"] for one in manifests if one["identity"]["representation"] == name]
    return [bench.store.get(f"represent/{key}").cost for key in keys]


def test_passes_are_counted_and_shared_by_budgets(tiny_lm: LM, models: LoadedModels, tmp_path: Path) -> None:
    given = dataclasses.replace(material(tiny_lm), train=dataclasses.replace(TRAINING, batch_size=8))
    bench = Bench(Store(tmp_path))
    selector = STAFF(epochs=1, strata=2, verified=2)
    for k in (1, 3, 6):
        found = score(selector, given, models, bench, k)
    n_verified = found.scores.notes["rows_verified"]
    assert 0 < n_verified <= 4
    (small,) = stored(bench, "gradient_norms")
    (target,) = stored(bench, "model_gradient_norms")
    assert (small.forward_calls, small.backward_calls) == (11, 11)
    assert (target.forward_calls, target.backward_calls) == (n_verified, n_verified)
    (trained,) = (tmp_path / "train").glob("[0-9a-f]*")
    for path in (tmp_path / "score").glob("[0-9a-f]*"):
        assert f"train/{trained.name}" in bench.store.closure((f"score/{path.name}",))


def test_ratios_are_those_of_two_models(tiny_lm: LM, models: LoadedModels, tmp_path: Path) -> None:
    """With every row checked: the allocation worked out from both models' gradients."""
    settings = dataclasses.replace(TRAINING, batch_size=4, learning_rate=1e-2)
    given = dataclasses.replace(material(tiny_lm), train=settings)
    bench = Bench(Store(tmp_path))
    selector = STAFF(epochs=1, strata=3)
    found = score(selector, given, models, bench, 5)
    (trained,) = (tmp_path / "train").glob("[0-9a-f]*")
    norms: list[np.ndarray] = []

    def recompute(_: Path) -> None:
        context = Context(selector.needs, bench, given, models)
        pairs = [context.chat.pair(context.task, row) for row in context.pool]
        for adapter in (trained / "adapter-1", None):
            norms.append(models.gradients(tiny_lm, bench, adapter).norms(pairs, "last_v"))

    bench.stage("test", {}, recompute)
    small, target = norms
    np.testing.assert_allclose(found.scores.values, small, rtol=1e-5)
    assert [id for id, value in zip(found.ids, small, strict=True) if np.isnan(value)] == [TOO_LONG]
    kept = np.where(small == np.nanmax(small), np.nan, small)  # int(0.1 x 11) is cut
    labels = right_closed_strata(kept, 3)
    ratios = np.array(
        [target[labels == s].sum() / small[labels == s].sum() if (labels == s).any() else np.nan for s in range(3)]
    )
    counts = staff_counts(np.bincount(labels[labels >= 0], minlength=3), ratios, 5)
    first = found.scores.tier == 0
    np.testing.assert_array_equal(np.bincount(labels[first], minlength=3), counts)
    assert found.scores.notes["rows_filled"] == 5 - counts.sum()


@pytest.mark.parametrize("settings", [{"cut": 1.0}, {"strata": 0}, {"verified": 0}, {"epochs": 0}, {"variant": "old"}])
def test_settings_that_mean_nothing(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        STAFF(**settings)


def test_yaml_spells_out_the_defaults() -> None:
    path = Path(__file__).resolve().parents[2] / "conf" / "selector" / "staff.yaml"
    fields = yaml.safe_load(path.read_text())
    assert fields.pop("_target_") == "dwbench.selectors.staff.STAFF"
    assert fields == dataclasses.asdict(STAFF())  # type: ignore[call-overload]


def test_keeps_the_contract(tiny_lm: LM, models: LoadedModels) -> None:
    given = dataclasses.replace(material(tiny_lm), train=dataclasses.replace(TRAINING, batch_size=8))
    check_selector(STAFF(epochs=1, strata=3, verified=2), given, models)
