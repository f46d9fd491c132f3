"""IFD: the ratio, its direction and cut, and the published numbers."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rows import TASK, examples
from scoring import golden

from dwbench.contract import Scored, Trial
from dwbench.data.base import Example, Splits, Task
from dwbench.models.chat import Chat
from dwbench.models.spec import LM
from dwbench.representations.models import LoadedModels
from dwbench.representations.scorer import Scorer
from dwbench.selectors.ifd import IFD, ifd
from dwbench.store import Bench, Store


def test_hand_computed_ratios() -> None:
    conditional, direct = np.array([1, 2, 0.5]), np.array([2, 2.5, 0.4])
    np.testing.assert_allclose(ifd(conditional, direct, "loss"), [0.5, 0.8, 1.25])
    np.testing.assert_allclose(ifd(conditional, direct, "ppl"), np.exp([-1, -0.5, 0.1]))


def test_the_two_ratios_order_rows_differently_but_agree_on_one() -> None:
    conditional, direct = np.array([1.0, 0.2, 3.0, 3.0]), np.array([2.0, 0.5, 2.0, 3.0])
    loss, ppl = ifd(conditional, direct, "loss"), ifd(conditional, direct, "ppl")
    np.testing.assert_allclose(loss[:2], [0.5, 0.4])
    np.testing.assert_allclose(ppl[:2], [0.368, 0.741], atol=5e-4)
    assert ((loss > 1) == (ppl > 1)).all()
    assert ((loss == 1) == (ppl == 1)).all()


def test_undefined_without_a_direct_loss() -> None:
    assert np.isnan(ifd(np.array([1.0]), np.array([0.0]), "loss")).all()


@dataclasses.dataclass(frozen=True)
class StoredChat(Chat):
    """Contexts and responses with the ids that a golden case stores, by the row's text."""

    contexts: dict[str, tuple[int, ...]]
    responses: dict[str, tuple[int, ...]]
    direct: tuple[int, ...]

    def context(self, task: Task, example: Example) -> tuple[int, ...]:
        return self.contexts[example.input]

    def response(self, example: Example) -> tuple[int, ...]:
        return (*self.responses[example.response], self.end_of_turn)

    def answer_header(self) -> tuple[int, ...]:
        return self.direct


@dataclasses.dataclass(frozen=True)
class StoredModels:
    """The real model with that chat."""

    loaded: LoadedModels
    stored: Chat

    def chat(self, lm: LM) -> Chat:
        return self.stored

    def scorer(self, lm: LM, bench: Bench) -> Scorer:
        return self.loaded.scorer(lm, bench)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """One store for all cases, so that each loss is computed once."""
    return Bench(Store(tmp_path_factory.mktemp("store")))


def score(data: dict[str, Any], selector: IFD, lm: LM, models: LoadedModels, bench: Bench) -> Scored:
    rows: Sequence[dict[str, Any]] = data["inputs"]["rows"]
    pool = examples(tuple((row["conditional_context"], row["response"]) for row in rows))
    chat = StoredChat(
        models.chat(lm).tokenizer,
        data["parameters"]["max_length"],
        {row["conditional_context"]: tuple(row["conditional_context_ids"]) for row in rows},
        {row["response"]: tuple(row["response_ids"]) for row in rows},
        tuple(rows[0]["direct_context_ids"]),
    )
    splits = Splits(pool=pool, target=(), test=())
    return Trial(selector, lm, splits, TASK, StoredModels(models, chat)).score_in(bench, selector.needs)


@pytest.mark.parametrize("case", ["main", "truncated", "mismatched"])
def test_published_numbers(case: str, shared: Path, smollm2: LM, models: LoadedModels, bench: Bench) -> None:
    data = golden(shared, f"ifd/case_{case}")
    found = score(data, IFD(score_eos=False), smollm2, models, bench)
    expected = [data["expected"]["rows"][int(id)] for id in found.ids]
    close = data["tolerance"]["suggested_rel_ifd"]
    np.testing.assert_allclose(found.scores.values, [row["ifd"] for row in expected], rtol=close)
    kept = data["expected"]["rank_of_kept_rows_high_to_low"]
    order = [int(id) for id in found.choose(len(expected), 0)]
    assert order[: len(kept)] == kept
    # Misaligned rows follow, the least misaligned first.
    by_ifd = sorted(set(range(len(expected))) - set(kept), key=lambda row: data["expected"]["rows"][row]["ifd"])
    assert order[len(kept) :] == by_ifd
    assert found.scores.notes == {"rows_above_ifd_max": len(by_ifd)}
    for value, row in zip(found.scores.values, expected, strict=True):
        if row["official_kept"] and row["ids_equal_to_tokenising_the_joined_text"]:
            assert value == pytest.approx(row["official_ifd"], rel=close)


def test_ratio_of_perplexities(shared: Path, smollm2: LM, models: LoadedModels, bench: Bench) -> None:
    data = golden(shared, "ifd/case_mismatched")
    found = score(data, IFD(ratio="ppl", score_eos=False), smollm2, models, bench)
    expected = [data["expected"]["rows"][int(id)]["ifd_ppl"] for id in found.ids]
    np.testing.assert_allclose(found.scores.values, expected, rtol=2e-4)


def test_end_of_turn_counts_only_where_it_was_not_cut(
    shared: Path, smollm2: LM, models: LoadedModels, bench: Bench
) -> None:
    data = golden(shared, "ifd/case_truncated")
    without = score(data, IFD(score_eos=False), smollm2, models, bench).scores.values
    found = score(data, IFD(score_eos=True), smollm2, models, bench)
    cut = [len(row["response_ids"]) > data["expected"]["rows"][n]["n"] for n, row in enumerate(data["inputs"]["rows"])]
    same = np.isclose(found.scores.values, without, rtol=1e-6)
    assert same.tolist() == [cut[int(id)] for id in found.ids]
    assert 0 < sum(cut) < len(cut)
