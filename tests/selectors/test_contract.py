"""Every selector keeps the contract; selectors that break it are caught."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
import pytest
from rows import TOO_LONG, material

from dwbench.component import component
from dwbench.contract import Trial, check_batches, check_selector
from dwbench.models.chat import Pair
from dwbench.models.spec import LM
from dwbench.representations import gradients
from dwbench.representations.factors import Factors
from dwbench.representations.per_sample import Take, Wanted
from dwbench.rules.ranking import Scores, scores
from dwbench.selectors.base import Selector
from dwbench.selectors.bounds import Full, ZeroShot
from dwbench.selectors.context import Context
from dwbench.selectors.data_whisperer import DataWhisperer
from dwbench.selectors.grand import GraNd
from dwbench.selectors.ifd import IFD
from dwbench.selectors.longest_response import LongestResponse
from dwbench.selectors.material import Need
from dwbench.selectors.models import LoadedModels
from dwbench.selectors.perplexity import Perplexity
from dwbench.selectors.random import Random


def whisperer(**changes: object) -> DataWhisperer:
    return DataWhisperer(**{"n_d": 3, "n_q": 2, "max_new_tokens": 16, **changes})


SELECTORS: dict[str, Selector] = {
    "random": Random(),
    "full": Full(),
    "zero_shot": ZeroShot(),
    "longest_response": LongestResponse(),
    "low_ppl": Perplexity(which="low"),
    "mid_ppl": Perplexity(which="mid"),
    "high_ppl": Perplexity(which="high", score_eos=False),
    "ifd": IFD(),
    "ifd_ppl": IFD(ratio="ppl", direct_context="bos", score_eos=False),
    "data_whisperer": whisperer(),
    "data_whisperer_rounds": whisperer(rounds=2, attn_rows="last_token", on_missing="drop"),
    "data_whisperer_corrected": whisperer(attn_rows="query_text_only", weight="attn_position_corrected"),
    "data_whisperer_retry": whisperer(n_d=2, on_missing="retry_single"),
    "data_whisperer_uniform": whisperer(weight="uniform"),
    "data_whisperer_target": whisperer(query_source="target"),
    "data_whisperer_reference": whisperer(variant="reference"),
    "data_whisperer_reference_target": whisperer(variant="reference", query_source="target"),
}


@pytest.mark.parametrize("name", SELECTORS)
def test_keeps_the_contract(name: str, tiny_lm: LM, models: LoadedModels) -> None:
    check_selector(SELECTORS[name], material(tiny_lm), models)


@pytest.mark.parametrize("name", ["low_ppl", "mid_ppl", "high_ppl", "ifd", "data_whisperer_retry"])
def test_a_row_that_does_not_fit_is_invalid(name: str, tiny_lm: LM, models: LoadedModels) -> None:
    found = Trial(SELECTORS[name], material(tiny_lm), models).score()
    invalid = [id for id, bad in zip(found.ids, np.isnan(found.scores.preference), strict=True) if bad]
    assert invalid == [TOO_LONG]
    assert found.choose(12, 0)[-1] == TOO_LONG


@component
class Broken:
    """Breaks one rule at a time."""

    how: str

    version: ClassVar[int] = 1
    paper: ClassVar[str] = "-"
    cost_class: ClassVar[str] = "nothing"
    fixed_share: ClassVar[float | None] = None
    calls: ClassVar[Iterator[int]]

    @property
    def needs(self) -> frozenset[Need]:
        return frozenset({"responses", "target"} if self.how == "declares too much" else {"responses"})

    def score(self, context: Context) -> Scores:
        values = np.array([float(len(row.response)) for row in context.pool])
        if self.how == "row order":
            values = np.array([float(row.index) for row in context.pool])
        if self.how == "not repeatable":
            values = values + next(self.calls)
        if self.how == "too few":
            return scores(values[1:], values[1:], ("",) * (len(values) - 1))
        if self.how == "undeclared":
            assert context.target
        return scores(values, values, ("",) * len(values))


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("row order", "another order"),
        ("not repeatable", "same seed"),
        ("too few", "scored 11 rows of 12"),
        ("undeclared", "reached for 'target'"),
        ("declares too much", "declares 'target'"),
    ],
)
def test_breaches_are_caught(how: str, message: str, tiny_lm: LM, models: LoadedModels) -> None:
    Broken.calls = iter(range(100))
    with pytest.raises(Exception, match=message):
        check_selector(Broken(how=how), material(tiny_lm), models)
    check_selector(Broken(how=""), material(tiny_lm), models)


def test_gradients_that_depend_on_their_batch_are_caught(
    tiny_lm: LM, models: LoadedModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loss that is a mean over the batch, where it must be a sum."""
    trial = Trial(GraNd(part="last_v"), material(tiny_lm), models)
    check_batches(trial.score(), trial)
    real = gradients.backward

    def mean_over_batch(model: Any, pairs: Sequence[Pair], of: Wanted, take: Take) -> None:
        def divided(name: str, factors: Factors) -> None:
            take(name, dataclasses.replace(factors, scale=factors.scale / len(pairs)))

        real(model, pairs, of, divided)

    monkeypatch.setattr(gradients, "backward", mean_over_batch)
    with pytest.raises(AssertionError, match="batches of 1000000 tokens give other scores"):
        check_batches(trial.score(), trial)


def test_half_precision_is_refused(tiny_lm: LM) -> None:
    with pytest.raises(AssertionError, match="float32"):
        check_selector(Random(), material(dataclasses.replace(tiny_lm, dtype="bfloat16")))
