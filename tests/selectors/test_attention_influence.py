"""AttentionInfluence: its score, its stages, and losses of the real model with masked heads."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rows import TOO_LONG, examples, material
from scoring import golden, with_scorer

from dwbench.contract import Scored, Trial, check_selector, trial_with
from dwbench.data.base import Splits
from dwbench.errors import UserError
from dwbench.models.chat import Pair
from dwbench.models.spec import LM
from dwbench.representations.heads import Uniform
from dwbench.selectors.attention_influence import LOSS_FLOOR, AttentionInfluence, relative_increase
from dwbench.selectors.context import Context
from dwbench.selectors.models import LoadedModels
from dwbench.selectors.perplexity import Perplexity
from dwbench.store import Bench, Store


@pytest.fixture(scope="module")
def tiny_lm(tiny_lm: LM) -> LM:
    """With room for a probe."""
    return dataclasses.replace(tiny_lm, max_length=640)


def influence(**changes: object) -> AttentionInfluence:
    return AttentionInfluence(**{"probes": 2, "probe_tokens": 600, "head_share": 0.25, **changes})


def test_hand_computed_increases() -> None:
    base, masked = np.array([2, 1, 0.01, np.nan]), np.array([2.5, 0.9, 0.11, np.nan])
    np.testing.assert_allclose(relative_increase(base, masked), [0.25, -0.1, 0.1 / LOSS_FLOOR, np.nan])


def test_either_loss_below_the_line_gives_the_same_order() -> None:
    """The paper's Figure 3 divides by L_ref, Eq. 5 by L_base."""
    base, masked = np.random.default_rng(0).uniform(0.1, 4, (2, 200))
    by_equation, by_figure = relative_increase(base, masked), (masked - base) / masked
    np.testing.assert_array_equal(np.argsort(by_equation), np.argsort(by_figure))


@pytest.mark.parametrize(
    "selector",
    [influence(), influence(loss_on="all", uniform="literal", score_eos=False)],
    ids=["response", "all"],
)
def test_keeps_the_contract(selector: AttentionInfluence, tiny_lm: LM, models: LoadedModels) -> None:
    check_selector(selector, material(tiny_lm), models)


@pytest.mark.parametrize("head_share", [0, -0.1, 1.1])
def test_share_of_heads(head_share: float) -> None:
    with pytest.raises(ValueError, match="head_share: must be above 0 and at most 1"):
        influence(head_share=head_share)


@pytest.mark.parametrize(
    ("probe_tokens", "message"),
    [(641, "the model takes 640 tokens: set selector.probe_tokens=640 or less"), (100, "give more")],
)
def test_probes_that_do_not_suit_the_model(
    probe_tokens: int, message: str, tiny_lm: LM, models: LoadedModels, tmp_path: Path
) -> None:
    selector = influence(probe_tokens=probe_tokens)
    with pytest.raises(UserError, match=message):
        selector.check(Context(selector.needs, Bench(Store(tmp_path)), material(tiny_lm), models))


def by_id(found: Scored) -> dict[str, float]:
    return dict(zip(found.ids, found.scores.values.tolist(), strict=True))


@pytest.mark.parametrize("uniform", ["visible", "literal"])
@pytest.mark.parametrize("loss_on", ["response", "all"])
@pytest.mark.parametrize("score_eos", [True, False])
def test_score_is_made_of_losses(
    loss_on: str, uniform: Uniform, score_eos: bool, tiny_lm: LM, models: LoadedModels
) -> None:
    """Row by row, from token losses with the heads that the notes name."""
    given = material(tiny_lm)
    found = Trial(influence(loss_on=loss_on, uniform=uniform, score_eos=score_eos), given, models).score()
    named = str(found.scores.notes["masked_heads"]).split()
    heads = [(int(layer), int(head)) for layer, head in (name.split(".") for name in named)]
    assert len(heads) == 2  # a quarter of 8
    chat, scores = models.chat(tiny_lm), by_id(found)
    for row in given.splits.pool:
        pair = chat.pair(given.task, row)
        if row.id == TOO_LONG:
            assert pair is None
            assert np.isnan(scores[row.id])
            continue
        assert pair is not None
        if loss_on == "all":
            ids = (*pair.context, *pair.response)
            pair = Pair(ids[:1], ids[1:])
        base, masked = (
            with_scorer(models, tiny_lm, lambda scorer, pair=pair, of=of: scorer.masked_token_nll([pair], of, uniform))[
                0
            ][0]
            for of in ([], heads)
        )
        if not score_eos:
            base, masked = base[:-1], masked[:-1]
        assert scores[row.id] == pytest.approx((masked.mean() - base.mean()) / base.mean(), abs=1e-5)


def test_a_cut_response_is_scored_on_what_is_left(tiny_lm: LM, models: LoadedModels) -> None:
    """Also where the text is cut; a row without a response has no score, and a reason."""
    rows = (("Long", "word " * 900), ("None", ""), ("Short", "Yes"))
    pool = Splits(pool=examples(rows), target=(), test=())
    for loss_on in ("response", "all"):
        found = Trial(influence(loss_on=loss_on), material(tiny_lm, pool), models).score()
        invalid = [id for id, reason in zip(found.ids, found.scores.reasons, strict=True) if reason]
        assert invalid == ["1"]
        assert np.isfinite([by_id(found)["0"], by_id(found)["2"]]).all()


def test_heads_are_found_once_for_a_model(tiny_lm: LM, models: LoadedModels, tmp_path: Path) -> None:
    """Shared by pools, seeds, settings of the score, and what the scorer is given at a time."""
    bench = Bench(Store(tmp_path))
    asked: list[int] = []

    class Watched(LoadedModels):
        def scorer(self, lm: LM, bench: Bench, adapter: Path | None = None) -> Any:
            scorer = models.scorer(lm, bench, adapter)
            found = scorer.retrieval_scores
            scorer.retrieval_scores = lambda probes: (asked.append(len(probes)), found(probes))[1]
            return scorer

    trial = Trial(influence(), material(tiny_lm), Watched())
    needs = trial.selector.needs
    trial.score_in(bench, needs)
    fewer = Splits(pool=examples((("A", "b"), ("C", "d e"))), target=(), test=())
    trial_with(trial, splits=fewer, seed=3).score_in(bench, needs)
    for changes in ({"loss_on": "all"}, {"uniform": "literal"}, {"head_share": 0.5}, {"score_eos": False}):
        dataclasses.replace(trial, selector=influence(**changes)).score_in(bench, needs)
    assert asked == [2]
    for changes in ({"max_length": 630}, {"token_budget": 9}):
        trial_with(trial, scorer=dataclasses.replace(tiny_lm, **changes)).score_in(bench, needs)
    assert asked == [2]
    dataclasses.replace(trial, selector=influence(probe_seed=1)).score_in(bench, needs)
    assert asked == [2, 2]


def test_losses_of_whole_texts_are_shared_with_perplexity(tiny_lm: LM, models: LoadedModels, tmp_path: Path) -> None:
    bench, given = Bench(Store(tmp_path)), material(tiny_lm)
    stages = []
    for selector in (Perplexity(which="low", text="full"), influence(loss_on="all")):
        Trial(selector, given, models).score_in(bench, selector.needs)  # type: ignore[arg-type]
        stages.append(len(list(bench.store.root.glob("represent/*/manifest.json"))))
    assert stages == [1, 3]  # the heads, and losses with them masked


@pytest.fixture(scope="module")
def masked_case(shared: Path) -> dict[str, Any]:
    return golden(shared, "attention_influence/case_main")


def test_losses_of_the_real_model(masked_case: dict[str, Any], smollm2: LM, models: LoadedModels) -> None:
    heads = [(layer, head) for layer, head in masked_case["parameters"]["masked_heads_layer_head"]]
    # Texts of up to 150 tokens, four of eight: time.
    cases = zip(masked_case["inputs"]["rows"], masked_case["expected"]["rows"], strict=True)
    short = [(row, want) for row, want in cases if len(row["ids_part_1"]) + len(row["ids_part_2"]) <= 150]
    rows, expected = zip(*short, strict=True)
    texts = [(*row["ids_part_1"], *row["ids_part_2"]) for row in rows]
    pairs = [Pair(text[:1], text[1:]) for text in texts]

    def losses(masked: list[tuple[int, int]], uniform: Uniform) -> list[np.ndarray]:
        found, _ = with_scorer(models, smollm2, lambda scorer: scorer.masked_token_nll(pairs, masked, uniform))
        return found

    arms = {
        "loss_base": losses([], "visible"),
        "loss_masked_uniform_over_visible": losses(heads, "visible"),
        "loss_masked_literal_1_over_L": losses(heads, "literal"),
    }
    assert len(rows) == 4
    close = masked_case["tolerance"]
    for number, want in enumerate(expected):
        for part, n in (("all", len(texts[number]) - 1), ("response", len(rows[number]["ids_part_2"]))):
            assert n == want[part]["n"]
            of_part = {name: arm[number][-n:].mean() for name, arm in arms.items()}
            for name, loss in of_part.items():
                assert loss == pytest.approx(want[part][name], abs=close["suggested_abs_loss"]), (number, name)
            base, *masked = of_part.values()
            for increase, name in zip(relative_increase(base, np.array(masked)), ("ai", "ai_literal"), strict=True):
                assert increase == pytest.approx(want[part][name], abs=close["suggested_abs_ai"]), (number, name)
