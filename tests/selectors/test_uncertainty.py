"""Uncertainty selectors: the four measures by hand, what is annotation-free, and the real model's golden scores."""

import dataclasses
import tempfile
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pydantic
import pytest
import yaml
from rows import TASK, TOO_LONG, examples, material, splits
from scoring import golden

from dwbench.contract import Scored, Trial, check_selector, trial_with
from dwbench.data.base import Splits
from dwbench.errors import UserError
from dwbench.models.chat import Chat
from dwbench.models.spec import LM
from dwbench.representations.uncertainty import Steps
from dwbench.selectors.context import Context
from dwbench.selectors.losses import NO_RESPONSE, response_losses
from dwbench.selectors.models import LoadedModels
from dwbench.selectors.uncertainty import EMPTY, Measure, Totals, Uncertainty, correlation, uncertainty
from dwbench.store import Bench, Store

MEASURES: tuple[Measure, ...] = get_args(Measure)

P1, P2 = np.array([0.5, 0.3, 0.2]), np.array([0.9, 0.05, 0.05])


def entropy(p: np.ndarray) -> float:
    return float(-(p * np.log(p)).sum())


def steps(*distributions: np.ndarray, ended: bool = False) -> Steps:
    """Of descending distributions of which the likeliest token was taken."""
    return Steps(
        np.array([entropy(p) for p in distributions]),
        np.array([p[0] - p[1] for p in distributions]),
        np.array([np.log(p[0]) for p in distributions]),
        ended,
    )


BY_HAND = {
    # measure: (p1, p2), the end's step p2 counted or not, no token of its own
    "mean_entropy": ([0.7120, 0.7120, 0.3944], [0.7120, 1.0297, np.nan]),
    "least_confidence": ([0.7985, 0.7985, 0.1054], [0.7985, 0.6931, np.nan]),
    "mean_margin": ([-0.525, -0.525, -0.85], [-0.525, -0.2, np.nan]),
    "min_margin": ([-0.2, -0.2, -0.85], [-0.2, -0.2, np.nan]),
}


@pytest.mark.parametrize("measure", MEASURES)
def test_computed_by_hand(measure: Measure) -> None:
    """Spec 8."""
    rows = Totals.of([steps(P1, P2), steps(P1, P2, ended=True), steps(P2, ended=True), None])
    with_end, without = BY_HAND[measure]
    np.testing.assert_allclose(uncertainty(measure, rows, True), [*with_end, np.nan], atol=5e-5)
    np.testing.assert_allclose(uncertainty(measure, rows, False), [*without, np.nan], atol=5e-5)
    np.testing.assert_array_equal(rows.steps(True), [2, 2, 1, 0])
    np.testing.assert_array_equal(rows.steps(False), [2, 1, 0, 0])
    np.testing.assert_array_equal(rows.answered, [True, True, True, False])
    np.testing.assert_array_equal(rows.ended, [False, True, True, False])


def test_the_least_margin_may_be_the_end_s() -> None:
    rows = Totals.of([steps(P2, P1, ended=True)])
    np.testing.assert_allclose(uncertainty("min_margin", rows, True), [-0.2])
    np.testing.assert_allclose(uncertainty("min_margin", rows, False), [-0.85])


def test_a_long_answer_does_not_underflow() -> None:
    """The product of 2,000 probabilities is 0 in float64; its logarithm still orders."""
    rows = Totals.of([steps(*[P1] * n) for n in (2000, 2001)])
    found = uncertainty("least_confidence", rows, True)
    np.testing.assert_allclose(found, np.array([2000, 2001]) * np.log(2))


def test_correlations() -> None:
    x, y = np.array([1.0, 2.0, 4.0, 4.0]), np.array([2.0, 1.0, 30.0, 40.0])
    assert correlation(x, y, False) == pytest.approx(np.corrcoef(x, y)[0, 1])
    # Ranks 1 2 3.5 3.5 and 2 1 3 4.
    assert correlation(x, y, True) == pytest.approx(3.5 / np.sqrt(4.5 * 5))
    assert np.isnan(correlation(x, np.ones(4), True))
    assert np.isnan(correlation(x[:0], y[:0], False))


def selector(measure: Measure = "mean_entropy", **changes: Any) -> Uncertainty:
    cap = {} if changes.get("source") == "gold" else {"max_new_tokens": 8}
    return Uncertainty(**{"measure": measure, **cap, **changes})


@pytest.mark.parametrize("source", ["greedy", "gold"])
@pytest.mark.parametrize("measure", MEASURES)
def test_keeps_the_contract(measure: Measure, source: str, tiny_lm: LM, models: LoadedModels) -> None:
    check_selector(selector(measure, source=source), material(tiny_lm), models)


def test_greedy_looks_at_no_response(tiny_lm: LM, models: LoadedModels) -> None:
    """Other responses: the same scores; for `gold` other ones."""
    data = splits()
    others = tuple(dataclasses.replace(row, response=row.response[::-1] + " no") for row in data.pool)
    assert selector().needs == {"task", "scorer"}
    for source, same in (("greedy", True), ("gold", False)):
        trial = Trial(selector(source=source), material(tiny_lm), models)
        other = trial_with(trial, splits=dataclasses.replace(data, pool=others))
        assert np.array_equal(trial.score().scores.values, other.score().scores.values, equal_nan=True) == same


def test_other_responses_are_not_decoded_again(tiny_lm: LM, models: LoadedModels, tmp_path: Path) -> None:
    """Rows stand in another order then, and rows with equal prompts are answered once; other prompts are decoded."""
    bench, data = Bench(Store(tmp_path)), splits()
    relabelled = examples(tuple((row.input, f"{row.id} no") for row in data.pool))
    fewer = data.pool[2:]
    scored = []
    for pool, stages in ((data.pool, 1), (relabelled, 1), (fewer, 2)):
        trial = Trial(selector(), material(tiny_lm, dataclasses.replace(data, pool=pool)), models)
        found = trial.score_in(bench, trial.selector.needs)
        scored.append(dict(zip(found.ids, found.scores.values.tolist(), strict=True)))
        refs = [path.parent.name for path in bench.store.root.glob("represent/*/manifest.json")]
        assert len(refs) == stages
        if pool is data.pool:
            cost = bench.store.get(f"represent/{refs[0]}").cost
            assert cost.forward_calls == 10  # of 12 rows one is too long, and two ask the same
    first, again, _ = scored
    assert list(first) != list(again)
    assert first == pytest.approx(again, nan_ok=True)
    assert first["0"] == first["3"]


def test_measures_share_one_decoding(tiny_lm: LM, models: LoadedModels) -> None:
    """And every score is charged for it."""
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Store(Path(folder)))
        for measure in MEASURES:
            for include_eos in (True, False):
                one = selector(measure, include_eos=include_eos)
                Trial(one, material(tiny_lm), models).score_in(bench, one.needs)
        (stage,) = (bench.store.root / "represent").glob("[0-9a-f]*")
        ref = f"represent/{stage.name}"
        found = [
            bench.store.get(f"score/{path.parent.name}") for path in bench.store.root.glob("score/*/manifest.json")
        ]
        assert [one.uses for one in found] == [(ref,)] * 8
        assert bench.store.get(ref).cost.generated_tokens > 0


def test_overlong_prompts_and_notes(tiny_lm: LM, models: LoadedModels) -> None:
    found = Trial(selector("min_margin"), material(tiny_lm), models).score()
    reasons = dict(zip(found.ids, found.scores.reasons, strict=True))
    assert {id for id, reason in reasons.items() if reason} == {TOO_LONG}
    assert reasons[TOO_LONG] == "the prompt leaves no room for max_new_tokens=8 within max_length"
    assert found.scores.notes["answers_cut_share"] == 1  # a random model does not end by itself
    assert found.scores.notes["answer_tokens_mean"] == 8
    assert "pearson_with_length" not in found.scores.notes  # all have the same length


def test_the_cap_takes_its_room(tiny_lm: LM, models: LoadedModels) -> None:
    """A prompt fits up to max_length - max_new_tokens and no further."""
    chat = models.chat(tiny_lm)
    lengths = [len(chat.context(TASK, row)) for row in splits().pool]
    longest = sorted(lengths)[-2]
    for room, invalid in ((8, 1), (7, 1 + lengths.count(longest))):
        lm = dataclasses.replace(tiny_lm, max_length=longest + room)
        found = Trial(selector(), material(lm), models).score()
        assert np.isnan(found.scores.values).sum() == invalid


def test_settings_that_leave_no_room_are_refused(tiny_lm: LM, models: LoadedModels) -> None:
    def check(one: Uncertainty) -> None:
        with tempfile.TemporaryDirectory() as folder:
            one.check(Context(one.needs, Bench(Store(Path(folder))), material(tiny_lm), models))

    check(selector())
    check(selector(source="gold"))
    with pytest.raises(UserError, match=r"max_new_tokens=500: no prompt .* max_length 512: lower"):
        check(selector(max_new_tokens=500))
    for bad in ({"max_new_tokens": 0}, {"source": "gold", "max_new_tokens": 8}, {"measure": "entropy"}):
        with pytest.raises(pydantic.ValidationError):
            selector(**bad)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_gold_is_the_response_s_own_loss(dtype: str, tiny_lm: LM, models: LoadedModels) -> None:
    """`least_confidence` is its sum, with or without the end of turn; an over-long prompt has none."""
    tiny_lm = dataclasses.replace(tiny_lm, dtype=dtype)
    for include_eos in (True, False):
        one = selector("least_confidence", source="gold", include_eos=include_eos)
        found = Trial(one, material(tiny_lm), models).score()
        losses = losses_of(tiny_lm, models)
        total = losses.total + (np.nan_to_num(losses.end) if include_eos else 0)
        np.testing.assert_allclose(found.scores.values, total, rtol=1e-5)
        assert found.scores.reasons == losses.reasons()
        assert NO_RESPONSE in found.scores.reasons
        assert found.scores.notes["answers_cut_share"] == 0
        lengths = losses.tokens[losses.tokens > 0]
        assert found.scores.notes["answer_tokens_mean"] == pytest.approx(lengths.mean() + include_eos)
        assert 0.5 < float(found.scores.notes["spearman_with_length"]) <= 1  # longer responses lose more
    longest = sorted(len(models.chat(tiny_lm).context(TASK, row)) for row in splits().pool)[-2]
    cut = Trial(one, material(dataclasses.replace(tiny_lm, max_length=longest + 2)), models).score()
    assert 0 < float(cut.scores.notes["answers_cut_share"]) < 1


def losses_of(lm: LM, models: LoadedModels) -> Any:
    found = []
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Store(Path(folder)))
        context = Context(frozenset({"responses", "task", "scorer"}), bench, material(lm), models)
        bench.stage("score", {}, lambda _: found.append(response_losses(context, "prompt")))
    return found[0]


@dataclasses.dataclass(frozen=True)
class Given:
    """Steps in place of a model's, by the text of the row."""

    loaded: LoadedModels
    by_prompt: dict[tuple[int, ...], Steps]

    def chat(self, lm: LM) -> Chat:
        return self.loaded.chat(lm)

    def scorer(self, lm: LM, bench: Bench, adapter: Path | None = None) -> Any:
        return self

    def greedy_uncertainty(self, prompts: list[tuple[int, ...]], max_new_tokens: int) -> list[Steps]:
        return [self.by_prompt[prompt] for prompt in prompts]


def test_empty_answers_ranking_and_length_bias(tiny_lm: LM, models: LoadedModels) -> None:
    pool = examples((("a", "x"), ("b", "x"), ("c", "x"), ("d", "x")))
    data = material(tiny_lm, Splits(pool=pool, target=(), test=()))
    answers = [steps(P1, ended=True), steps(P1, P2, P2, ended=True), steps(P2, P1, P1, P2), steps(P1, P1)]
    chat = models.chat(tiny_lm)
    given = Given(models, {chat.context(data.task, row): one for row, one in zip(pool, answers, strict=True)})

    def scored(**changes: Any) -> Scored:
        return Trial(selector("least_confidence", **changes), data, given).score()  # type: ignore[arg-type]

    found = scored()
    assert found.choose(4, 0) == ["2", "3", "1", "0"]
    assert found.scores.notes["answers_cut_share"] == 0.5
    assert found.scores.notes["answer_tokens_mean"] == 2.5
    # U 0.69, 0.90, 1.60, 1.39 with lengths 1, 3, 4, 2.
    assert found.scores.notes["spearman_with_length"] == pytest.approx(0.8)
    found = scored(include_eos=False)
    assert found.choose(4, 0) == ["2", "3", "1", "0"]
    assert dict(zip(found.ids, found.scores.reasons, strict=True)) == {"0": EMPTY, "1": "", "2": "", "3": ""}
    assert found.scores.notes["answers_cut_share"] == pytest.approx(2 / 3)


def test_yaml_files_spell_out_the_defaults() -> None:
    conf = Path(__file__).resolve().parents[2] / "conf" / "selector"
    for measure in MEASURES:
        fields = yaml.safe_load((conf / f"{measure}.yaml").read_text())
        assert fields.pop("_target_") == "dwbench.selectors.uncertainty.Uncertainty"
        assert fields == dataclasses.asdict(Uncertainty(measure=measure))  # type: ignore[call-overload]


@pytest.mark.parametrize("case", ["main", "eos"])
def test_golden_scores(case: str, shared: Path) -> None:
    """Made of the golden steps; those are compared with the real model's in the tests of representations."""
    expected = golden(shared, f"uncertainty/case_{case}")["expected"]["rows"]
    names = ("entropy_per_step", "margin_per_step", "logp_per_step", "ended_with_eos")
    totals = Totals.of([Steps(*(np.asarray(want[name]) for name in names[:3]), want[names[3]]) for want in expected])
    for measure in MEASURES:
        found = uncertainty(measure, totals, True)
        np.testing.assert_allclose(found, [want[measure] for want in expected], rtol=1e-6)
    assert totals.steps(True).tolist() == [want["T"] for want in expected]
