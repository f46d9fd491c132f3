"""Data Whisperer's arithmetic, with a scorer whose answers and attention are known."""

import dataclasses
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from rows import TASK, TOO_LONG, splits

from dwbench.contract import Trial
from dwbench.cost import Cost
from dwbench.data.base import Splits
from dwbench.errors import UserError
from dwbench.metrics import answer_score
from dwbench.models.chat import Chat
from dwbench.models.spec import LM
from dwbench.representations.attention import RowsAndColumns
from dwbench.representations.generation import Answer
from dwbench.representations.models import LoadedModels
from dwbench.representations.scorer import Answers
from dwbench.rules.ranking import Scores
from dwbench.selectors import data_whisperer_reference as reference
from dwbench.selectors.base import Context
from dwbench.selectors.data_whisperer import (
    DataWhisperer,
    contributions,
    demo_weights,
    layer_for,
    position_correction,
    queries_for,
    random_groups,
)
from dwbench.store import Bench, Store


def test_weights_and_scores_by_hand() -> None:
    """The case of spec 1.9."""
    weights = demo_weights(np.array([0.6, 0.5]), [2, 1], 2)
    np.testing.assert_allclose(weights, [0.375, 0.625])
    np.testing.assert_allclose(contributions(2 / 3, weights, 2), [0.25, 0.41667], atol=1e-5)


def test_a_short_group_gains_nothing() -> None:
    """With even attention a row scores the same in a full group and in a short one."""
    full = contributions(0.8, demo_weights(np.ones(10), [1] * 10, 4), 10)
    short = contributions(0.8, demo_weights(np.ones(2), [1] * 2, 4), 10)
    np.testing.assert_allclose(short, full[:2])


def test_even_attention_gives_even_weights() -> None:
    np.testing.assert_allclose(demo_weights(np.array([3.0, 6.0, 1.5]), [20, 40, 10], 7), [1 / 3] * 3)


def test_position_correction_takes_out_what_all_prompts_share() -> None:
    weights = np.array([[0.1, 0.3, 0.6], [0.1, 0.3, 0.6], [0.4, 0.6, 0.0]])
    present = np.array([[True] * 3, [True] * 3, [True, True, False]])
    found = position_correction(weights, present)
    np.testing.assert_allclose(found.sum(axis=1), 1)
    np.testing.assert_allclose(found[0] / found[0].sum(), np.array([0.5, 0.75, 1]) / 2.25)
    assert found[2, 2] == 0
    np.testing.assert_allclose(found[2, :2], np.array([2, 1.5]) / 3.5)


@pytest.mark.parametrize(("n", "n_d", "n_q"), [(11, 3, 2), (10, 5, 5), (7, 3, 4), (12, 5, 7)])
def test_groups_hold_every_row_once_and_never_their_queries(n: int, n_d: int, n_q: int) -> None:
    order = np.random.default_rng(n).permutation(n)
    groups = random_groups(order, n_d)
    assert sorted(np.concatenate(groups)) == list(range(n))
    assert {len(group) for group in groups[:-1]} == {n_d}
    start = 0
    asked_of_all = []
    for group in groups:
        asked, start = queries_for(group, order[::-1], start, n_q)
        assert len(set(asked.tolist())) == n_q
        assert not set(asked.tolist()) & set(group.tolist())
        asked_of_all += asked.tolist()
    if len(asked_of_all) >= 2 * n:
        assert set(asked_of_all) == set(range(n))


@pytest.mark.parametrize(
    ("architecture", "layer"),
    [
        (("llama", 32, 4096), 13),
        (("mistral", 40, 5120), 13),
        (("mistral", 32, 4096), 10),
        (("qwen2", 36, 2048), 16),
        (("qwen2", 28, 3584), 16),
        (("llama", 30, 576), 13),
        (("llama", 2, 32), 1),
        (("other", 1, 32), 0),
    ],
)
def test_layers(architecture: tuple[str, int, int], layer: int) -> None:
    assert layer_for(*architecture) == layer


ANSWERS = "Headline 1: Library shut on Monday late\nHeadline 2: Pool late\n"


@dataclasses.dataclass
class Oracle:
    """A scorer that gives `answer(prompt text)`, and attention that grows with the position."""

    chat: Chat
    answer: Callable[[str], str]
    prompts: list[str] = dataclasses.field(default_factory=list)
    layers: list[int | None] = dataclasses.field(default_factory=list)
    n_layers: int = 30
    config: Any = dataclasses.field(default_factory=lambda: SimpleNamespace(model_type="llama", hidden_size=576))

    def answers(
        self,
        prompts: Sequence[Sequence[int]],
        max_new_tokens: int,
        is_complete: Callable[[str], bool] = lambda text: False,
        layer: int | None = None,
        wanted: Sequence[RowsAndColumns] = (),
        what: str = "answers",
    ) -> Answers:
        texts = [self.chat.tokenizer.decode(ids) for ids in prompts]
        self.prompts += texts
        self.layers.append(layer)
        mass = [np.array([float(end) for _, end in want.columns]) * want.n_rows for want in wanted]
        return Answers([Answer(self.answer(text), 5, True) for text in texts], mass)


@dataclasses.dataclass(frozen=True)
class OracleModels:
    oracle: Oracle

    def chat(self, lm: LM) -> Chat:
        return self.oracle.chat

    def scorer(self, lm: LM, bench: Bench) -> Any:
        return self.oracle


@pytest.fixture
def oracle(tiny_lm: LM, models: LoadedModels) -> Oracle:
    return Oracle(models.chat(tiny_lm), lambda text: ANSWERS)


def eleven() -> Splits:
    """The pool without the row that does not fit."""
    return dataclasses.replace(splits(), pool=tuple(row for row in splits().pool if row.id != TOO_LONG))


def scored(
    selector: DataWhisperer, oracle: Oracle, lm: LM, data: Splits | None = None
) -> tuple[Scores, dict[str, Any]]:
    """Scores and what was shown, both in the context's order."""
    found: list[Any] = []
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Store(Path(folder)))
        context = Context(selector.needs, bench, data or eleven(), TASK, lm, 0, OracleModels(oracle))
        bench.stage("score", {}, lambda _: found.extend([selector.score(context), selector._prompts_shown(context)]))
    return found[0], found[1]


def test_shares_of_a_prompt_add_up_to_its_quality(oracle: Oracle, tiny_lm: LM) -> None:
    """Identity 7 of the spec, with four full groups and with a short one."""
    result, shown = scored(DataWhisperer(n_d=3, n_q=2, max_new_tokens=16), oracle, tiny_lm)
    uniform, same = scored(DataWhisperer(n_d=3, n_q=2, max_new_tokens=16, weight="uniform"), oracle, tiny_lm)
    np.testing.assert_array_equal(shown["group"], same["group"])
    quality = shown["quality"].mean(axis=1)
    assert len(set(quality)) > 1
    for row, s in zip(shown["group"], quality, strict=True):
        members = row[row >= 0]
        assert result.values[members].sum() == pytest.approx(s * len(members) / 3)
        np.testing.assert_allclose(uniform.values[members], s / 3)
        if s:
            assert len(set(result.values[members])) == len(members)
    assert (shown["group"] >= 0).sum(axis=1).tolist() == [3, 3, 3, 2]


def test_quality_is_the_metric_of_each_query(oracle: Oracle, tiny_lm: LM) -> None:
    _, shown = scored(DataWhisperer(n_d=3, n_q=2, max_new_tokens=16), oracle, tiny_lm)
    pool = {row.input: row for row in eleven().pool}
    for text, quality in zip(oracle.prompts, shown["quality"], strict=True):
        asked = text.split("one line each.\n\n")[1]
        for number, answer in ((1, "Library shut on Monday late"), (2, "Pool late")):
            tail = asked.split(f"Notice {number}: ")[1]
            row = next(row for input, row in pool.items() if tail.startswith(input))
            assert quality[number - 1] == pytest.approx(answer_score("rouge_l", answer, row.references))


@pytest.mark.parametrize("rounds", [1, 3])
def test_every_row_is_shown_once_a_round_in_new_groups(rounds: int, oracle: Oracle, tiny_lm: LM) -> None:
    result, shown = scored(DataWhisperer(n_d=3, n_q=2, max_new_tokens=16, rounds=rounds), oracle, tiny_lm)
    members = shown["group"][shown["group"] >= 0]
    assert np.bincount(members).tolist() == [rounds] * 11
    groups = {frozenset(row[row >= 0].tolist()) for row in shown["group"]}
    assert len(groups) > 4 * rounds - 2
    total = np.zeros(11)
    weights = shown["mass"] / (shown["demo_tokens"].clip(1) * shown["rows"][:, None])
    weights /= np.nansum(weights, axis=1, keepdims=True)
    for row, w, s in zip(shown["group"], weights, shown["quality"].mean(axis=1), strict=True):
        n_b = (row >= 0).sum()
        total[row[:n_b]] += s * w[:n_b] * n_b / 3
    np.testing.assert_allclose(result.values, total / rounds)


def test_missing_answers(oracle: Oracle, tiny_lm: LM) -> None:
    """zero: f = 0 for the missing one; drop: the prompt goes; retry_single: it is asked alone."""

    def only_second(text: str) -> str:
        return ANSWERS.split("\n", 1)[1] if "Notice 2:" in text else "Headline 1: Library shut on Monday late"

    oracle.answer = only_second
    zero, shown = scored(DataWhisperer(n_d=3, n_q=2, max_new_tokens=16), oracle, tiny_lm)
    assert shown["parsed"].tolist() == [1, 1, 1, 1]
    assert (shown["quality"][:, 0] == 0).all()
    assert zero.notes["prompts_dropped"] == 0
    assert zero.notes["answers_parsed_share"] == 0.5
    assert not np.isnan(zero.values).any()
    drop, _ = scored(DataWhisperer(n_d=3, n_q=2, max_new_tokens=16, on_missing="drop"), oracle, tiny_lm)
    assert np.isnan(drop.preference).all()
    assert set(drop.reasons) == {"only in prompts whose answers did not parse"}
    assert drop.notes["prompts_dropped"] == 4
    oracle.prompts.clear()
    retry, shown = scored(DataWhisperer(n_d=3, n_q=2, max_new_tokens=16, on_missing="retry_single"), oracle, tiny_lm)
    assert shown["parsed"].tolist() == [2, 2, 2, 2]
    assert len(oracle.prompts) == 8
    assert (retry.values >= zero.values - 1e-12).all()
    assert retry.values.sum() > zero.values.sum()


def test_prompts_that_do_not_fit_are_left_out(oracle: Oracle, tiny_lm: LM) -> None:
    result, shown = scored(DataWhisperer(n_d=3, n_q=2, max_new_tokens=16), oracle, tiny_lm, splits())
    assert 0 < result.notes["prompts_too_long"] < 4
    assert np.isnan(result.values).sum() == (shown["group"][~shown["shown"]] >= 0).sum()
    assert {reason for reason in result.reasons if reason} == {
        "only in prompts longer than the model takes with n_d=3, n_q=2"
    }
    with pytest.raises(UserError, match="lower n_d or n_q"):
        scored(DataWhisperer(n_d=3, n_q=2, max_new_tokens=500), oracle, tiny_lm)


def test_queries_from_the_target_set(oracle: Oracle, tiny_lm: LM) -> None:
    scored(DataWhisperer(n_d=3, n_q=2, max_new_tokens=16, query_source="target"), oracle, tiny_lm)
    targets = {row.input for row in splits().target}
    for text in oracle.prompts:
        asked = text.split("one line each.\n\n")[1]
        assert sum(target in asked for target in targets) == 2


def test_configuration_errors_name_the_field(oracle: Oracle, tiny_lm: LM) -> None:
    with pytest.raises(ValueError, match="n_d: must be at least 1"):
        DataWhisperer(n_d=0)
    with pytest.raises(ValueError, match="max_new_tokens: must be at least 1"):
        DataWhisperer(max_new_tokens=0)
    with pytest.raises(ValueError, match="rounds"):
        DataWhisperer(variant="reference", rounds=2)
    with pytest.raises(ValueError, match="weight"):
        DataWhisperer(variant="reference", weight="uniform")
    for selector, message in (
        (DataWhisperer(n_d=8, n_q=4), "the pool has 11 rows but a prompt takes 12"),
        (DataWhisperer(n_d=2, n_q=4, query_source="target"), "the target set has 3 rows but a prompt takes 4"),
        (DataWhisperer(n_d=2, n_q=2, layer=30), "layers 0 to 29"),
        (DataWhisperer(n_d=2, n_q=7, variant="reference"), "only 6 queries"),
    ):
        with pytest.raises(UserError, match=message):
            scored(selector, oracle, tiny_lm)
    scored(DataWhisperer(n_d=2, n_q=2, max_new_tokens=16), oracle, tiny_lm)
    assert oracle.layers == [13]


def test_cap_of_a_generation(tiny_lm: LM, oracle: Oracle) -> None:
    """n_q (1.5 x 99th percentile of answer lengths) + 64."""
    selector = DataWhisperer(n_d=3, n_q=2)
    pool = eleven().pool
    lengths = [len(oracle.chat.ids(row.response)) for row in pool]
    found: list[int] = []
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Store(Path(folder)))
        context = Context(selector.needs, bench, eleven(), TASK, tiny_lm, 0, OracleModels(oracle))
        bench.stage("score", {}, lambda _: found.append(selector._cap(context, pool)))
    assert found == [int(2 * 1.5 * np.quantile(lengths, 0.99)) + 64]


def test_ablations_share_the_prompts(tiny_lm: LM, models: LoadedModels) -> None:
    """`weight` and `on_missing: drop` cost no second generation, and each is charged what the first one cost."""
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Store(Path(folder)))
        costs: list[Cost] = []
        for changes in ({}, {"weight": "uniform"}, {"on_missing": "drop"}, {"attn_rows": "last_token"}):
            selector = DataWhisperer(**{"n_d": 3, "n_q": 2, "max_new_tokens": 8, **changes})
            Trial(selector, tiny_lm, eleven(), TASK, models).score_in(bench, selector.needs)
        stages = sorted((bench.store.root / "score").glob("*/manifest.json"))
        for path in stages:
            used = bench.store.closure((f"score/{path.parent.name}",))
            costs.append(sum((artefact.cost for artefact in used.values()), Cost()))
        assert len(list((bench.store.root / "represent").glob("*/manifest.json"))) == 2
    assert len({cost.generated_tokens for cost in costs}) == 1
    assert all(cost.generated_tokens > 0 and cost.seconds > 0 for cost in costs)


def test_reference_pairing_is_in_data_order() -> None:
    groups, queries = reference.pairing(11, 4, 3, 2, from_pool=False)
    assert [group.tolist() for group in groups] == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9, 10]]
    assert [asked.tolist() for asked in queries] == [[0, 1], [2, 3], [0, 1], [2, 3]]
    groups, queries = reference.pairing(12, 12, 4, 2, from_pool=True)
    assert sorted(np.concatenate(groups)) == list(range(12))
    assert [len(group) for group in groups] == [4, 2, 4, 2]
    assert all((np.diff(group) > 0).all() for group in groups)
    for group, asked in zip(groups, queries, strict=True):
        assert not set(group.tolist()) & set(asked.tolist())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # Its own preamble counts as an answer and moves the others by one.
        ("Summaries for Dialogue 1 and 2:\nSummary 1: a\nSummary 2: b", ["and 2:", "a"]),
        ("Summary 1: a", [None, None]),
        ("Summary 1: the shop assistant pays\nSummary 2: b", [None, None]),
        ("Dialogue 1:\nSummary 1: a\nSummary 2: b", ["Summary 1: a", "b"]),
    ],
)
def test_reference_parser_keeps_its_defects(text: str, expected: list[str | None]) -> None:
    task = dataclasses.replace(TASK, input_label="Dialogue", answer_label="Summary")
    assert reference.parse(text, task, 2) == expected


def test_reference_maths_parser_misses_signs_and_currencies() -> None:
    task = dataclasses.replace(TASK, metric="exact_match", multiline=True)
    assert reference.parse("#### 18\n#### 2,000.5", task, 2) == ["#### 18", "#### 2,000.5"]
    for missed in ("#### $18", "#### -5", "#### **18**", "#### .5", "#### x = 5"):
        assert reference.parse(missed, task, 1) == [None]


def test_reference_windows_are_short_by_one_token_a_part() -> None:
    found = reference.windows(10, [5, 6], 11, 20, 41)
    assert found.columns == ((9, 13), (13, 18))
    assert found.rows == ((19, 38),)


def test_reference_rows_of_dropped_prompts_score_zero(oracle: Oracle, tiny_lm: LM) -> None:
    oracle.answer = lambda text: ANSWERS if "The ferry" in text.split("one line each.")[0] else "Headline 1: a"
    result, shown = scored(DataWhisperer(n_d=3, n_q=2, max_new_tokens=16, variant="reference"), oracle, tiny_lm)
    dropped = shown["parsed"] < 2
    assert 0 < dropped.sum() < len(dropped)
    gone = shown["group"][dropped]
    assert (result.values[gone[gone >= 0]] == 0).all()
    assert not np.isnan(result.values).any()
    assert result.notes["prompts_dropped"] == dropped.sum()
    assert result.notes["rows_never_scored"] == (gone >= 0).sum()
