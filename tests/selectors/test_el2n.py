"""EL2N: order and offset, rows without response, what is stored once, tuned scorers."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from rows import TOO_LONG, TRAINING, examples, material

from dwbench.contract import Scored, Trial, check_selector
from dwbench.data.base import Splits
from dwbench.errors import UserError
from dwbench.models.chat import Chat, Pair
from dwbench.models.spec import LM
from dwbench.representations.errors import TokenErrors
from dwbench.selectors.context import Context
from dwbench.selectors.dynamics import hardest_first
from dwbench.selectors.el2n import EL2N
from dwbench.selectors.losses import NO_RESPONSE
from dwbench.selectors.material import Material
from dwbench.selectors.models import LoadedModels
from dwbench.store import Bench, Store

NAN = float("nan")


def score(selector: EL2N, given: Material, models: Any, bench: Bench) -> Scored:
    return Trial(selector, given, models).score_in(bench, selector.needs)


def stages(bench: Bench, name: str) -> int:
    return len(list(bench.store.root.glob(f"{name}/*/manifest.json")))


@dataclasses.dataclass(frozen=True)
class Given:
    """Errors in place of a model's, by the row's response."""

    known: Chat
    errors: dict[str, TokenErrors]

    def chat(self, lm: LM) -> Chat:
        return self.known

    def scorer(self, lm: LM, bench: Bench, adapter: Path | None = None) -> Any:
        return self

    def response_errors(self, pairs: Sequence[Pair]) -> list[TokenErrors]:
        return [self.errors[self.known.tokenizer.decode(pair.response[:-1])] for pair in pairs]


def test_mean_over_tokens_highest_first(tiny_lm: LM, models: LoadedModels, tmp_path: Path) -> None:
    pool = examples((("a", "yes"), ("b", "no"), ("c", "maybe")))
    el2n = {"yes": [0.2, 0.4], "no": [1.2, 0.6, 0.9], "maybe": [0.7]}
    given = Given(models.chat(tiny_lm), {text: TokenErrors(np.array(e), np.zeros(len(e))) for text, e in el2n.items()})
    data = material(tiny_lm, Splits(pool=pool, target=(), test=()))
    found = score(EL2N(), data, given, Bench(Store(tmp_path)))
    values = dict(zip(found.ids, found.scores.values, strict=True))
    assert values == pytest.approx({"0": 0.3, "1": 0.9, "2": 0.7})
    assert found.choose(3, 0) == ["1", "2", "0"]
    # A third of the pool is skipped, and comes last.
    skipping = score(EL2N(offset=0.34), data, given, Bench(Store(tmp_path)))
    assert skipping.choose(3, 0) == ["2", "0", "1"]
    assert skipping.scores.notes["rows_skipped"] == 1


def test_the_offset_is_a_share_of_the_rows_with_a_score() -> None:
    values = np.array([0.5, NAN, 0.9, 0.1, 0.8, 0.7])
    tokens = np.array([5, 0, 9, 1, 8, 7])
    found = hardest_first(values, tokens, 0.4)
    assert found.tier.tolist() == [0, 0, 1, 0, 1, 0]
    assert found.preference[[2, 4]].tolist() == [-0.9, -0.8]  # the less hard of those that are skipped goes first
    assert found.reasons == ("", NO_RESPONSE, "", "", "", "")
    assert found.notes == {"rows_skipped": 2, "spearman_with_length": pytest.approx(1)}
    assert "spearman_with_length" not in hardest_first(values, np.where(tokens > 0, 3, 0), 0.0).notes
    equal = hardest_first(np.ones(5), np.ones(5), 0.4)
    assert equal.tier.tolist() == [1, 1, 0, 0, 0]
    assert hardest_first(np.array([2.0]), np.array([1]), 0.9).tier.tolist() == [0]


@pytest.mark.parametrize("settings", [{"offset": 1.0}, {"offset": -0.1}, {"epochs": 0}, {"scorer": "small"}])
def test_settings_that_mean_nothing(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        EL2N(**settings)


def test_yaml_spells_out_the_defaults() -> None:
    path = Path(__file__).resolve().parents[2] / "conf" / "selector" / "el2n.yaml"
    fields = yaml.safe_load(path.read_text())
    assert fields.pop("_target_") == "dwbench.selectors.el2n.EL2N"
    assert fields == dataclasses.asdict(EL2N())  # type: ignore[call-overload]


def test_one_pass_for_all_settings(tiny_lm: LM, models: LoadedModels, tmp_path: Path) -> None:
    bench = Bench(Store(tmp_path))
    for offset in (0.0, 0.2):
        found = score(EL2N(offset=offset), material(tiny_lm), models, bench)
    assert stages(bench, "represent") == 1
    (stage,) = tmp_path.glob("represent/*/manifest.json")
    cost = bench.store.get(f"represent/{stage.parent.name}").cost
    assert (cost.forward_calls, cost.backward_calls) == (11, 0)
    values = dict(zip(found.ids, found.scores.values, strict=True))
    assert np.isnan(values[TOO_LONG])
    assert values["0"] == pytest.approx(values["3"], abs=1e-6)
    known = [value for id, value in values.items() if id != TOO_LONG]
    assert 0 < min(known) < max(known) < np.sqrt(2)


def test_a_tuned_scorer_is_charged(tiny_lm: LM, models: LoadedModels, tmp_path: Path) -> None:
    given = dataclasses.replace(
        material(tiny_lm), train=dataclasses.replace(TRAINING, batch_size=4, learning_rate=1e-2)
    )
    bench = Bench(Store(tmp_path))
    base = score(EL2N(), given, models, bench)
    assert not stages(bench, "train")
    tuned = score(EL2N(scorer="tuned", epochs=2), given, models, bench)
    (trained,) = (tmp_path / "train").glob("[0-9a-f]*")
    uses = [bench.store.closure((f"score/{path.name}",)) for path in (tmp_path / "score").glob("[0-9a-f]*")]
    assert sorted(f"train/{trained.name}" in one for one in uses) == [False, True]
    # On the rows that it is tuned on the model errs less.
    assert np.nanmean(tuned.scores.values) < np.nanmean(base.scores.values)
    assert np.isnan(tuned.scores.values).sum() == 1


def test_a_tuning_that_does_nothing_is_refused_beforehand(tiny_lm: LM, models: LoadedModels, tmp_path: Path) -> None:
    one_step = dataclasses.replace(TRAINING, batch_size=100, warmup_ratio=0.1)
    given = dataclasses.replace(material(tiny_lm), train=one_step)
    for selector, works in ((EL2N(epochs=1), True), (EL2N(scorer="tuned", epochs=1), False)):
        context = Context(selector.needs, Bench(Store(tmp_path)), given, models)
        if works:
            selector.check(context)
        else:
            with pytest.raises(UserError, match="warm-up"):
                selector.check(context)


def test_keeps_the_contract(tiny_lm: LM, models: LoadedModels) -> None:
    check_selector(EL2N(offset=0.2), material(tiny_lm), models)
