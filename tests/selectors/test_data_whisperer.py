"""Data Whisperer's arithmetic, with a scorer whose answers and attention are known."""

import copy
import dataclasses
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from rows import TASK, TOO_LONG, examples, material, splits

from dwbench.contract import Trial
from dwbench.cost import Cost
from dwbench.data.base import Splits
from dwbench.errors import UserError
from dwbench.metrics import answer_score
from dwbench.models.chat import Chat
from dwbench.models.spec import LM
from dwbench.representations.attention import RowsAndColumns
from dwbench.representations.generation import Answer
from dwbench.representations.scorer import Answers
from dwbench.rules.ranking import Scores
from dwbench.selectors import data_whisperer_reference as reference
from dwbench.selectors.context import Context
from dwbench.selectors.data_whisperer import (
    DataWhisperer,
    contributions,
    demo_weights,
    layer_for,
    position_correction,
)
from dwbench.selectors.icl import build_prompt
from dwbench.selectors.models import LoadedModels
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


def test_position_correction_takes_out_what_prompts_of_a_size_share() -> None:
    weights = np.array([[0.1, 0.3, 0.6], [0.1, 0.3, 0.6], [0.4, 0.3, 0.3], [0.4, 0.6, 0.0], [0.2, 0.8, 0.0]])
    present = weights > 0
    found = position_correction(weights, present)
    np.testing.assert_allclose(found.sum(axis=1), 1)
    # Means .2, .3 and .5 of the full ones; .3 and .7 of the short ones.
    np.testing.assert_allclose(found[0], np.array([0.5, 1, 1.2]) / 2.7)
    np.testing.assert_allclose(found[2], np.array([2, 1, 0.6]) / 3.6)
    np.testing.assert_allclose(found[3], [4 / 3 / (4 / 3 + 6 / 7), 6 / 7 / (4 / 3 + 6 / 7), 0])
    assert (found[~present] == 0).all()


def test_position_correction_leaves_the_only_prompt_of_a_size_alone() -> None:
    weights = np.array([[0.1, 0.3, 0.6], [0.3, 0.3, 0.4], [0.2, 0.8, 0.0]])
    np.testing.assert_array_equal(position_correction(weights, weights > 0)[2], weights[2])


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


@pytest.mark.parametrize(
    ("architecture", "layer"), [(("qwen2", 28, 3584), 16), (("llama", 30, 576), 11), (("o", 2, 9), 1)]
)
def test_layers_of_the_reference(architecture: tuple[str, int, int], layer: int) -> None:
    assert layer_for(*architecture, variant="reference") == layer


ANSWERS = "Headline 1: Library shut on Monday late\nHeadline 2: Pool late\n"


@dataclasses.dataclass
class Oracle:
    """A scorer that gives `answer(prompt text)`, and attention that grows with the position."""

    chat: Chat
    answer: Callable[[str], str]
    prompts: list[str] = dataclasses.field(default_factory=list)
    layers: list[int | None] = dataclasses.field(default_factory=list)
    stops: list[Callable[[str], bool]] = dataclasses.field(default_factory=list)

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
        self.stops.append(is_complete)
        mass = [np.array([float(end) for _, end in want.columns]) * want.n_rows for want in wanted]
        return Answers([Answer(self.answer(text), 5, True) for text in texts], mass)


@dataclasses.dataclass(frozen=True)
class OracleModels:
    oracle: Oracle

    def chat(self, lm: LM) -> Chat:
        return self.oracle.chat

    def config(self, lm: LM) -> Any:
        return SimpleNamespace(model_type="llama", num_hidden_layers=30, hidden_size=576)

    def scorer(self, lm: LM, bench: Bench, adapter: Path | None = None) -> Any:
        return self.oracle

    def embedder(self, encoder: Any, bench: Bench) -> Any:
        raise AssertionError("not declared")

    def release(self) -> None:
        pass


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
        context = Context(selector.needs, bench, material(lm, data or eleven()), OracleModels(oracle))
        bench.stage("score", {}, lambda _: found.extend([selector.score(context), selector._prompts_shown(context)]))
    return found[0], found[1]


def check(selector: DataWhisperer, oracle: Oracle, lm: LM, data: Splits | None = None) -> None:
    """The check before anything is computed."""
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Store(Path(folder)))
        selector.check(Context(selector.needs, bench, material(lm, data or eleven()), OracleModels(oracle)))


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


@pytest.mark.parametrize("source", ["pool", "target"])
def test_an_over_long_row_does_not_spoil_its_group(source: str, oracle: Oracle, tiny_lm: LM) -> None:
    selector = DataWhisperer(n_d=3, n_q=2, max_new_tokens=16, rounds=2, query_source=source)
    result, shown = scored(selector, oracle, tiny_lm, splits())
    reasons = [reason for reason in result.reasons if reason]
    assert reasons == ["too long for a prompt with n_q=2 queries"]
    assert np.isnan(result.values).sum() == 1
    members = shown["group"][shown["group"] >= 0]
    assert sorted(np.bincount(members, minlength=12)) == [0, *[2] * 11]
    assert (shown["group"] >= 0).sum(axis=1).tolist() == [3, 3, 3, 2] * 2
    assert result.notes["rows_too_long"] == 1
    assert result.notes["rows_too_long_to_ask"] == (source == "pool")
    assert result.notes["prompts_with_fewer_than_n_d"] == 2


def test_a_group_that_does_not_fit_is_shortened(oracle: Oracle, tiny_lm: LM) -> None:
    """All rows are shown, and those of short groups gain nothing by it."""
    oracle.chat = dataclasses.replace(oracle.chat, max_length=250)
    result, shown = scored(DataWhisperer(n_d=6, n_q=2, max_new_tokens=16, weight="uniform"), oracle, tiny_lm)
    sizes = (shown["group"] >= 0).sum(axis=1)
    assert 1 < max(sizes) < 6
    assert sorted(shown["group"][shown["group"] >= 0]) == list(range(11))
    assert result.notes["prompts_with_fewer_than_n_d"] == len(sizes)
    assert max(len(oracle.chat.ids(text)) for text in oracle.prompts) <= 250 - 16
    for row, s in zip(shown["group"], shown["quality"].mean(axis=1), strict=True):
        np.testing.assert_allclose(result.values[row[row >= 0]], s / 6)


def test_copies_are_not_asked(oracle: Oracle, tiny_lm: LM) -> None:
    scored(DataWhisperer(n_d=2, n_q=4, max_new_tokens=16, rounds=6), oracle, tiny_lm)
    copied = "The library is closed on Monday"
    demos_and_queries = [text.split("one line each.\n\n") for text in oracle.prompts]
    assert any(copied in demos for demos, _ in demos_and_queries)
    assert any(copied in queries for _, queries in demos_and_queries)
    assert not any(copied in demos and copied in queries for demos, queries in demos_and_queries)


def test_fewer_queries_where_all_others_are_copies(oracle: Oracle, tiny_lm: LM) -> None:
    rows = (("a", "Pool late"), ("a", "b"), ("a", "c"), ("z", "Pool late"))
    data = dataclasses.replace(splits(), pool=examples(rows))
    oracle.answer = lambda text: "Pool late\n"
    selector = DataWhisperer(n_d=1, n_q=3, max_new_tokens=16, weight="uniform")
    result, shown = scored(selector, oracle, tiny_lm, data)
    assert sorted((~np.isnan(shown["quality"])).sum(axis=1)) == [1, 1, 1, 3]
    # The three copies are asked "z", and the answer is right; "z" gets one answer of three.
    values = dict(zip([row.response for row in sorted(data.pool, key=lambda row: row.uid)], result.values, strict=True))
    assert values["b"] == values["c"] == 1
    assert result.notes["prompts_with_fewer_than_n_q"] == 3
    assert result.notes["answers_parsed_share"] == 4 / 6
    dropped, _ = scored(dataclasses.replace(selector, on_missing="drop"), oracle, tiny_lm, data)
    assert np.isnan(dropped.values).sum() == 1


def test_generation_stops_at_the_last_answer(oracle: Oracle, tiny_lm: LM) -> None:
    """The text is read behind the opening that the prompt ends with."""
    scored(DataWhisperer(n_d=3, n_q=2, max_new_tokens=16), oracle, tiny_lm)
    assert all(text.endswith("<|im_start|>assistant\nHeadline 1:") for text in oracle.prompts)
    (stop,) = oracle.stops
    assert stop(" a\nHeadline 2: b\n")
    assert not stop(" a\nHeadline 2: b")
    assert not stop(" a\nNotice 2: b\nNotice 1: a\n")


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
        (DataWhisperer(n_d=3, n_q=2, max_new_tokens=450), "the model takes 512: lower n_q or max_new_tokens"),
    ):
        for attempt in (check, scored):
            with pytest.raises(UserError, match=message):
                attempt(selector, oracle, tiny_lm)
    assert oracle.layers == []
    for selector in (DataWhisperer(n_d=2, n_q=2, max_new_tokens=16), DataWhisperer(n_d=2, n_q=2, variant="reference")):
        check(selector, oracle, tiny_lm)
        scored(selector, oracle, tiny_lm)
    assert oracle.layers == [13, 11]


def test_the_check_loads_no_weights(tiny_lm: LM) -> None:
    class NoWeights(LoadedModels):
        def scorer(self, lm: LM, bench: Bench, adapter: Path | None = None) -> Any:
            raise AssertionError("weights are loaded")

    selector = DataWhisperer(n_d=3, n_q=2)
    with tempfile.TemporaryDirectory() as folder:
        context = Context(selector.needs, Bench(Store(Path(folder))), material(tiny_lm, eleven()), NoWeights())
        selector.check(context)
        with pytest.raises(UserError, match="layers 0 to 1"):
            dataclasses.replace(selector, layer=2).check(context)


def test_cap_of_a_generation(tiny_lm: LM, oracle: Oracle) -> None:
    """n_q (1.5 x 99th percentile of answer lengths) + 64."""
    selector = DataWhisperer(n_d=3, n_q=2)
    pool = eleven().pool
    lengths = [len(oracle.chat.ids(row.response)) for row in pool]
    found: list[int] = []
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Store(Path(folder)))
        context = Context(selector.needs, bench, material(tiny_lm, eleven()), OracleModels(oracle))
        bench.stage("score", {}, lambda _: found.extend([selector._cap(context, 2), selector._cap(context, 1)]))
    assert found == [int(n * 1.5 * np.quantile(lengths, 0.99)) + 64 for n in (2, 1)]


def test_ablations_share_the_prompts(tiny_lm: LM, models: LoadedModels) -> None:
    """`weight` and `on_missing: drop` cost no second generation, and each is charged what the first one cost."""
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Store(Path(folder)))
        costs: list[Cost] = []
        for changes in ({}, {"weight": "uniform"}, {"on_missing": "drop"}, {"attn_rows": "last_token"}):
            selector = DataWhisperer(**{"n_d": 3, "n_q": 2, "max_new_tokens": 8, **changes})
            Trial(selector, material(tiny_lm, eleven()), models).score_in(bench, selector.needs)
        stages = sorted((bench.store.root / "score").glob("*/manifest.json"))
        for path in stages:
            used = bench.store.closure((f"score/{path.parent.name}",))
            costs.append(sum((artefact.cost for artefact in used.values()), Cost()))
        # Who is shown together, and what the model makes of it with either kind of rows.
        assert len(list((bench.store.root / "represent").glob("*/manifest.json"))) == 3
    assert len({cost.generated_tokens for cost in costs}) == 1
    assert all(cost.generated_tokens > 0 and cost.seconds > 0 for cost in costs)


def test_a_killed_run_goes_on_at_the_block_it_was_in(
    oracle: Oracle, tiny_lm: LM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    selector = DataWhisperer(n_d=2, n_q=2, max_new_tokens=16)
    whole, _ = scored(selector, oracle, tiny_lm)
    n_prompts = len(oracle.prompts)
    assert n_prompts == 6
    monkeypatch.setattr("dwbench.selectors.data_whisperer.PROMPTS_A_BLOCK", 4)
    oracle.prompts.clear()
    calls = oracle.layers
    calls.clear()

    def killed(text: str) -> str:
        if len(calls) > 1:
            raise KeyboardInterrupt
        return ANSWERS

    oracle.answer = killed
    bench = Bench(Store(tmp_path))
    context = Context(selector.needs, bench, material(tiny_lm, eleven()), OracleModels(oracle))
    with pytest.raises(KeyboardInterrupt):
        bench.stage("score", {}, lambda _: selector.score(context))
    assert len(oracle.prompts) == 6
    oracle.prompts.clear()
    oracle.answer = lambda text: ANSWERS
    found: list[Scores] = []
    bench.stage("score", {}, lambda _: found.append(selector.score(context)))
    assert len(oracle.prompts) == 2
    np.testing.assert_array_equal(found[0].values, whole.values)
    assert found[0].notes == whole.notes


def test_a_round_more_asks_only_what_is_new(
    oracle: Oracle, tiny_lm: LM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dwbench.selectors.data_whisperer.PROMPTS_A_BLOCK", 6)
    bench = Bench(Store(tmp_path))
    for rounds in (1, 2):
        selector = DataWhisperer(n_d=2, n_q=2, max_new_tokens=16, rounds=rounds)
        context = Context(selector.needs, bench, material(tiny_lm, eleven()), OracleModels(oracle))
        oracle.prompts.clear()
        bench.stage("score", {"rounds": rounds}, lambda _: selector.score(context))  # noqa: B023
        assert len(oracle.prompts) == 6


def test_reference_pairing_is_in_data_order() -> None:
    assert reference.pairing(11, 4, 3, 2, from_pool=False) == [
        ((0, 1, 2), (0, 1)),
        ((3, 4, 5), (2, 3)),
        ((6, 7, 8), (0, 1)),
        ((9, 10), (2, 3)),
    ]
    pairs = reference.pairing(12, 12, 4, 2, from_pool=True)
    assert sorted(row for group, _ in pairs for row in group) == list(range(12))
    assert [len(group) for group, _ in pairs] == [4, 2, 4, 2]
    for group, asked in pairs:
        assert list(group) == sorted(group)
        assert not set(group) & set(asked)


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


WITH_BOS = (
    "{{ bos_token }}{% for m in messages %}[{{ m.role }}] {{ m.content }}{{ eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}[assistant] {% endif %}"
)


@pytest.mark.parametrize("adds_bos", [True, False])
def test_reference_windows_by_what_the_tokenizer_adds(adds_bos: bool, tiny_lm: LM, models: LoadedModels) -> None:
    """One token early with a BOS, as with Llama 3; else one more for each part, as with Qwen (spec 1.6, D1)."""
    from tokenizers import Regex
    from tokenizers.pre_tokenizers import ByteLevel, Sequence, Split
    from tokenizers.processors import TemplateProcessing

    tokenizer = copy.deepcopy(models.chat(tiny_lm).tokenizer)
    tokenizer.bos_token, tokenizer.chat_template = "<|endoftext|>", WITH_BOS
    # A token for each byte, so that parts have as many by themselves as in the prompt.
    tokenizer.backend_tokenizer.pre_tokenizer = Sequence(
        [Split(Regex(r"[\s\S]"), "isolated"), ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    if adds_bos:
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
            single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", 0)]
        )
    chat = Chat(tokenizer, 4096)
    pool = eleven().pool
    prompt = build_prompt(chat, TASK, pool[:3], pool[6:8])
    assert prompt.ids.count(tokenizer.bos_token_id) == 1
    found = reference.shifted_windows(chat, TASK, prompt, pool[:3])
    early = [(1, 1), (1, 1), (1, 1)] if adds_bos else [(1, 2), (2, 3), (3, 4)]
    assert found.columns == tuple(
        (start - first, end - last) for (start, end), (first, last) in zip(prompt.demos, early, strict=True)
    )
    start, end = prompt.query_block
    assert found.rows == (((start - 1, end - 1) if adds_bos else (start - 2, end - 3)),)


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
