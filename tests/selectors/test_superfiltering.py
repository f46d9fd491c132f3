"""Superfiltering: the ratio of perplexities, its cut and order, both direct arms, and the published numbers."""

import copy
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rows import TOO_LONG, examples, material, splits
from scoring import golden, short_rows

from dwbench.contract import Scored, Trial, check_selector
from dwbench.data.base import Splits
from dwbench.models.chat import Chat
from dwbench.models.spec import LM
from dwbench.representations.scorer import Scorer
from dwbench.rules.ranking import rank
from dwbench.selectors.context import Context
from dwbench.selectors.ifd import IFD, ifd
from dwbench.selectors.losses import plain_pair, response_losses
from dwbench.selectors.models import LoadedModels
from dwbench.selectors.superfiltering import ONE_TOKEN, Superfiltering, ranked_ifd_ppl
from dwbench.store import Bench, Store

NAN = float("nan")


def order(values: list[float], reasons: tuple[str, ...] | None = None) -> list[int]:
    found = ranked_ifd_ppl(np.array(values), reasons or ("",) * len(values))
    return rank(found, 1, np.arange(len(values)) / len(values)).order.tolist()


def test_hand_computed() -> None:
    values = ifd(np.array([1, 2, 0.5]), np.array([2, 2.5, 0.4]), "ppl")
    np.testing.assert_allclose(values, np.exp([-1, -0.5, 0.1]))
    assert order(values.tolist()) == [1, 0, 2]


def test_one_itself_is_not_below_one() -> None:
    assert order([1.0, 0.1, 1.7, 0.9, 1.2]) == [3, 1, 0, 4, 2]
    found = ranked_ifd_ppl(np.array([1.0, 0.1]), ("", ""))
    assert found.tier.tolist() == [1, 0]
    assert found.notes == {"rows_not_below_1": 1}


def test_rows_without_a_direct_loss_come_before_those_that_do_not_fit() -> None:
    assert order([NAN, NAN, 3.0, 0.5], ("too long", ONE_TOKEN, "", "")) == [3, 2, 1, 0]


def test_ranks_as_the_loss_difference() -> None:
    rng = np.random.default_rng(0)
    conditional, direct = rng.uniform(0.1, 4, 200), rng.uniform(4, 9, 200)
    assert order(ifd(conditional, direct, "ppl").tolist()) == np.argsort(direct - conditional).tolist()


class OneToken(Chat):
    """The golden case's context token."""

    def single_token(self) -> tuple[int, ...]:
        return (0,)


@dataclasses.dataclass(frozen=True)
class ChatModels:
    """The given models with another chat."""

    loaded: LoadedModels
    other: Chat

    def chat(self, lm: LM) -> Chat:
        return self.other

    def scorer(self, lm: LM, bench: Bench) -> Scorer:
        return self.loaded.scorer(lm, bench)


@pytest.fixture(scope="module")
def data(shared: Path) -> dict[str, Any]:
    case = golden(shared, "ifd_ppl/case_main")
    return short_rows(case, 130, "rank_context_token_variant_high_to_low", "official_selected_top5_in_order")


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(Store(tmp_path_factory.mktemp("store")))


@pytest.fixture(scope="module")
def chat(smollm2: LM, models: LoadedModels) -> Chat:
    """With the tokenizer that the case was made with, which does not split numbers into digits."""
    from tokenizers.pre_tokenizers import ByteLevel

    tokenizer = copy.deepcopy(models.chat(smollm2).tokenizer)
    tokenizer.backend_tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False, use_regex=True)
    return OneToken(tokenizer, 1024)


def published(
    data: dict[str, Any], selector: Superfiltering, lm: LM, models: LoadedModels, chat: Chat, bench: Bench
) -> Scored:
    rows = data["inputs"]["rows"]
    pool = examples(tuple((row["conditional_context"].removesuffix("\n"), row["response"]) for row in rows))
    for row in rows:
        assert chat.ids(row["conditional_context"]) == tuple(row["conditional_context_ids"])
        assert chat.ids(row["response"]) == tuple(row["response_ids"])
    given = material(lm, Splits(pool=pool, target=(), test=()))  # whose task has a system turn and a wording
    return Trial(selector, given, ChatModels(models, chat)).score_in(bench, selector.needs)


def test_the_same_tokens_behind_one_token(
    data: dict[str, Any], smollm2: LM, models: LoadedModels, chat: Chat, bench: Bench
) -> None:
    selector = Superfiltering(prompt="plain", score_eos=False)
    found = published(data, selector, smollm2, models, chat, bench)
    rows = [data["expected"]["rows"][int(id)] for id in found.ids]
    expected = [row["context_token_variant"]["ifd_ppl"] for row in rows]
    close = data["tolerance"]["suggested_rel_ifd_ppl"]
    np.testing.assert_allclose(found.scores.values, expected, rtol=close)
    below = [row for row in range(len(rows)) if data["expected"]["rows"][row]["context_token_variant"]["ifd_ppl"] < 1]
    ranked = [row for row in data["expected"]["rank_context_token_variant_high_to_low"] if row in below]
    assert [int(id) for id in found.choose(len(rows), 0)][: len(ranked)] == ranked
    assert found.scores.notes == {"rows_not_below_1": len(rows) - len(below)}


def test_published_code(data: dict[str, Any], smollm2: LM, models: LoadedModels, chat: Chat, bench: Bench) -> None:
    selector = Superfiltering(variant="reference", prompt="plain", score_eos=False)
    found = published(data, selector, smollm2, models, chat, bench)
    rows = [data["expected"]["rows"][int(id)] for id in found.ids]
    for value, row in zip(found.scores.values, rows, strict=True):
        if row["ids_equal_to_tokenising_the_joined_text"]:
            assert value == pytest.approx(row["official"]["ifd_ppl"], rel=data["tolerance"]["suggested_rel_ifd_ppl"])
    top = data["expected"]["official_selected_top5_in_order"]
    assert len(top) == 4  # the other one is too long
    assert [int(id) for id in found.choose(4, 0)] == top


def test_the_plain_prompt_is_the_rows_own_text(tiny_lm: LM, models: LoadedModels) -> None:
    chat = models.chat(tiny_lm)
    row = dataclasses.replace(splits().pool[1], history=(("user", "Hello."), ("assistant", "Yes?")))
    pair = plain_pair(chat, row)
    assert pair is not None
    assert chat.tokenizer.decode(pair.context) == "Hello.\nYes?\nThe pool opens late today.\n"
    assert pair.response == chat.response(row)


def context(selector: Superfiltering, lm: LM, models: LoadedModels, bench: Bench) -> Context:
    return Context(selector.needs, bench, material(lm), models)


@pytest.mark.parametrize("template", ["chat", "plain"])
def test_the_arms_score_the_same_tokens(template: Any, tiny_lm: LM, models: LoadedModels, tmp_path: Path) -> None:
    short = dataclasses.replace(tiny_lm, max_length=40 if template == "chat" else 16)
    bench = Bench(Store(tmp_path))
    given = context(Superfiltering(), short, models, bench)
    arms: dict[str, Any] = {}

    def work(_: Path) -> None:
        for arm in ("prompt", "bos", "none"):
            arms[arm] = response_losses(given, arm, template=template)  # type: ignore[arg-type]

    bench.stage("score", {}, work)
    n = arms["prompt"].tokens
    assert (n == 0).sum() >= 1
    np.testing.assert_array_equal(arms["bos"].tokens, n)
    np.testing.assert_array_equal(np.isnan(arms["bos"].end), np.isnan(arms["prompt"].end))
    np.testing.assert_array_equal(arms["none"].tokens, np.maximum(n - 1, 0))
    assert np.isnan(arms["prompt"].end[n > 0]).any()  # some responses are cut


def test_shares_its_losses_with_ifd(tiny_lm: LM, models: LoadedModels, tmp_path: Path) -> None:
    bench = Bench(Store(tmp_path))
    one = Trial(Superfiltering(), material(tiny_lm), models).score_in(bench, Superfiltering().needs)
    other = IFD(ratio="ppl", direct_context="bos")
    two = Trial(other, material(tiny_lm), models).score_in(bench, other.needs)
    np.testing.assert_array_equal(one.scores.values, two.scores.values)
    assert one.choose(11, 0) == two.choose(11, 0)
    assert len(list((tmp_path / "represent").iterdir())) == 2


def test_an_answer_of_one_token_behind_nothing(tiny_lm: LM, models: LoadedModels) -> None:
    selector = Superfiltering(variant="reference", prompt="plain", score_eos=False)
    found = Trial(selector, material(tiny_lm), models).score()
    tokens = {row.id: len(models.chat(tiny_lm).ids(row.response)) for row in material(tiny_lm).splits.pool}
    single = {id for id, n in tokens.items() if n == 1 and id != TOO_LONG}
    assert single
    assert {id for id, reason in zip(found.ids, found.scores.reasons, strict=True) if reason == ONE_TOKEN} == single
    last = found.choose(12, 0)
    assert last[-1] == TOO_LONG
    assert set(last[-1 - len(single) : -1]) == single


@pytest.mark.parametrize(
    "selector",
    [
        Superfiltering(),
        Superfiltering(prompt="plain", score_eos=False),
        Superfiltering(variant="reference", prompt="plain", score_eos=False),
    ],
    ids=["default", "plain", "reference"],
)
def test_keeps_the_contract(selector: Superfiltering, tiny_lm: LM, models: LoadedModels) -> None:
    check_selector(selector, material(tiny_lm), models)
