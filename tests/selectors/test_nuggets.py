"""Nuggets: wins by hand and by brute force, exact pruning, both arms alike, and the published numbers."""

import copy
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rows import TASK, TOO_LONG, examples, material, splits
from scoring import golden, with_scorer

from dwbench.component import field_identities
from dwbench.contract import Scored, Trial, check_selector
from dwbench.data.base import Example, Splits, Task
from dwbench.errors import UserError
from dwbench.models.chat import Chat, Pair
from dwbench.models.spec import LM
from dwbench.representations.scorer import Scorer
from dwbench.rules.ranking import rank, scores
from dwbench.selectors import nuggets_reference as reference
from dwbench.selectors.context import Context
from dwbench.selectors.losses import NO_RESPONSE
from dwbench.selectors.material import Models
from dwbench.selectors.models import LoadedModels
from dwbench.selectors.nuggets import (
    BARRED,
    NO_ROOM,
    ONLY_COPIES,
    Nuggets,
    compare_pruned,
    halving_blocks,
    still_possible,
    tally,
)
from dwbench.selectors.nuggets_arms import ids_behind_an_answer, with_shared_start
from dwbench.store import Bench, Store

SELECTORS = {
    "kmeans": Nuggets(m=4),
    "target": Nuggets(task_source="target"),
    "random_pruned": Nuggets(m=6, task_source="random", prune=True, score_eos=False),
    "reference": Nuggets(m=4, variant="reference", score_eos=False),
}


@pytest.mark.parametrize("name", SELECTORS)
def test_keeps_the_contract(name: str, tiny_lm: LM, models: LoadedModels) -> None:
    check_selector(SELECTORS[name], material(tiny_lm), models)


# The rule


def test_hand_computed_score() -> None:
    alone, behind = np.array([-2.0, -1.0, -3.0]), np.array([[-1.5, -1.0, -3.5]])
    advantage = behind - alone
    assert tally(advantage, np.ones((1, 3), dtype=bool)).golden_score == pytest.approx([1 / 3])
    # Without the second task, which is the candidate itself, the mean is over two.
    without = np.array([[True, False, True]])
    assert tally(np.where(without, advantage, np.nan), without).golden_score == pytest.approx([1 / 2])
    assert np.isnan(tally(np.full((1, 3), np.nan), np.zeros((1, 3), dtype=bool)).golden_score).all()


def test_hand_computed_bounds() -> None:
    comparable = np.ones((3, 4), dtype=bool)
    comparable[1, 3] = False
    unknown = np.nan
    advantage = np.array([[1, 1, 1, unknown], [1, -1, unknown, unknown], [-1, 0, unknown, unknown]])
    told = tally(advantage, comparable)
    assert (told.wins.tolist(), told.left.tolist(), told.total.tolist()) == ([3, 1, 0], [1, 1, 2], [4, 3, 4])
    np.testing.assert_allclose(told.golden_score, [1, 2 / 3, 1 / 2])
    # Lower bounds 3/4, 1/3 and 0, upper bounds 1, 2/3 and 1/2.
    assert still_possible(told, 1).tolist() == [True, False, False]
    assert still_possible(told, 2).tolist() == [True, True, True]
    assert still_possible(told, 3).tolist() == [True, True, True]


def test_who_can_only_equal_the_kth_stays() -> None:
    told = tally(np.array([[1.0, -1.0], [-1.0, np.nan]]), np.ones((2, 2), dtype=bool))
    assert still_possible(told, 1).tolist() == [True, True]


@pytest.mark.parametrize("m", [1, 2, 3, 7, 8, 100])
def test_blocks_halve_what_is_left(m: int) -> None:
    blocks = halving_blocks(m)
    np.testing.assert_array_equal(np.concatenate(blocks), np.arange(m))
    assert all(block.size for block in blocks)
    if m == 100:
        assert [block.size for block in blocks] == [50, 25, 13, 12]


def choice(advantage: np.ndarray, comparable: np.ndarray, k: int, tie_break: np.ndarray) -> list[int]:
    told = tally(advantage, comparable)
    found = told.golden_score
    tier = ((told.left > 0) & ~np.isnan(found)).astype(np.int64)
    given = scores(found, found, ("",) * len(found), tier)
    return list(map(int, rank(given, k, tie_break).order[:k]))


@pytest.mark.parametrize("seed", range(8))
def test_pruning_never_changes_the_choice(seed: int) -> None:
    generator = np.random.default_rng(seed)
    n, m = 40, 24
    # Few levels, so that many rows are tied, and rows that win nearly always or never.
    quality = generator.choice([-3.0, 0.0, 0.0, 3.0], n)
    truth = np.sign(np.round(generator.normal(quality[:, None], 1.5, (n, m))))
    comparable = generator.random((n, m)) > 0.1
    comparable[3] = False
    allowed = generator.random(n) > 0.15
    tie_break = generator.random(n)
    compared: list[int] = []

    def compare(rows: np.ndarray, tasks: np.ndarray) -> np.ndarray:
        return np.asarray(truth[np.ix_(rows, tasks)])

    known = comparable & allowed[:, None]
    exact = np.where(known, truth, np.nan)
    n_known = int(known.any(axis=1).sum())
    for k in range(1, n_known + 1):
        for blocks in (halving_blocks(m), [np.array([task]) for task in range(m)]):
            pruned = compare_pruned(compare, comparable, allowed, blocks, k)
            assert choice(pruned, known, k, tie_break) == choice(exact, known, k, tie_break)
            compared.append(int((~np.isnan(pruned)).sum()))
    assert min(compared) < int((~np.isnan(exact)).sum()) * 0.8
    everybody = compare_pruned(compare, comparable, allowed, halving_blocks(m), n)
    np.testing.assert_array_equal(everybody, exact)


# What the two arms are shown


@dataclasses.dataclass(frozen=True)
class WithChat:
    """The models, with another tokenizer in front of them."""

    loaded: LoadedModels
    other: Chat

    def chat(self, lm: LM) -> Chat:
        return self.other

    def config(self, lm: LM) -> Any:
        return self.loaded.config(lm)

    def scorer(self, lm: LM, bench: Bench, adapter: Path | None = None) -> Scorer:
        return self.loaded.scorer(lm, bench, adapter)

    def embedder(self, encoder: Any, bench: Bench) -> Any:
        raise NotImplementedError

    def release(self) -> None:
        self.loaded.release()


WITH_BOS = (
    "{{ bos_token }}{% for m in messages %}[{{ m.role }}]\n{{ m.content }}{% if m.role == 'assistant' %}{{ eos_token }}"
    "{% endif %}\n{% endfor %}{% if add_generation_prompt %}[assistant]\n{% endif %}"
)


@pytest.fixture(scope="module", params=["chatml", "bos_and_eos"])
def chat(request: pytest.FixtureRequest, tiny_lm: LM, models: LoadedModels) -> Chat:
    """SmolLM2's own template, and one with a BOS that ends answers, and nothing else, with a special token."""
    own = models.chat(tiny_lm)
    if request.param == "chatml":
        return own
    tokenizer = copy.deepcopy(own.tokenizer)
    tokenizer.bos_token = "<|endoftext|>"
    tokenizer.chat_template = WITH_BOS
    return Chat(tokenizer, own.max_length)


def conversation(chat: Chat, shown: Example, row: Example) -> tuple[int, ...]:
    """Context of `row` with `shown` as a previous turn, rendered and tokenised as a whole."""
    own = [turn for turn in TASK.turns(row) if turn[0] != "system"]
    return chat.ids(chat.text([*TASK.turns(shown), ("assistant", shown.response), *own]))


def test_both_arms_are_the_models_own_conversation(chat: Chat) -> None:
    rows = [row for row in splits().pool if row.id != TOO_LONG]
    candidates = [(*chat.context(TASK, row), *chat.ids(row.response)) for row in rows]
    behind = [ids_behind_an_answer(chat, TASK, row) for row in rows]
    shared, rest = with_shared_start(candidates, behind)
    assert len(shared[0]) > len(candidates[0]) + 3
    for shown, candidate, start in zip(rows, candidates, shared, strict=True):
        for row, question, own in zip(rows, behind, rest, strict=True):
            whole = conversation(chat, shown, row)
            assert candidate + question == whole
            assert start + own == whole
            assert own
            alone = chat.context(TASK, row)
            assert (whole[0], whole[-1]) == (alone[0], alone[-1])
            if chat.tokenizer.bos_token == "<|endoftext|>":
                assert [ids.count(chat.tokenizer.bos_token_id) for ids in (whole, alone)] == [1, 1]


def test_a_single_task_keeps_a_token_of_its_context() -> None:
    assert with_shared_start([(1, 2), ()], [(3, 4, 5)]) == ([(1, 2, 3, 4), ()], [(5,)])
    assert with_shared_start([(1,)], [(3, 4, 5), (3, 4)]) == ([(1, 3)], [(4, 5), (4,)])


def test_turns_of_a_task_with_history_follow(chat: Chat) -> None:
    row = dataclasses.replace(splits().pool[1], history=(("user", "Hello."), ("assistant", "Yes?")))
    shown = splits().pool[0]
    candidate = (*chat.context(TASK, shown), *chat.ids(shown.response))
    assert candidate + ids_behind_an_answer(chat, TASK, row) == conversation(chat, shown, row)


def test_a_task_leaves_its_own_system_turn_out(chat: Chat) -> None:
    shown = splits().pool[0]
    said = (("system", "Be kind."), ("user", "Hello."), ("assistant", "Yes?"))
    row = dataclasses.replace(splits().pool[1], history=said)
    candidate = (*chat.context(TASK, shown), *chat.ids(shown.response))
    for task in (TASK, dataclasses.replace(TASK, system="")):
        behind = ids_behind_an_answer(chat, task, row)
        assert "Be kind." not in chat.tokenizer.decode(behind)
        assert candidate + behind == conversation(chat, shown, row)


def test_the_row_that_is_tried_beforehand_is_one_with_a_system_turn(
    tiny_lm: LM, models: LoadedModels, tmp_path: Path
) -> None:
    tokenizer = copy.deepcopy(models.chat(tiny_lm).tokenizer)
    tokenizer.chat_template = (
        "{% for m in messages %}{% if m.role == 'system' and not loop.first %}{{ raise_exception('one system turn') }}"
        "{% endif %}[{{ m.content }}]{% endfor %}"
    )
    other = WithChat(models, Chat(tokenizer, 512))
    said = (("system", "Be kind."), ("user", "Hello."), ("assistant", "Yes?"))
    own = dataclasses.replace(splits().pool[-1], history=said)
    for pool, refused in ((splits().pool, False), ((*splits().pool[:-1], own), True)):
        given = material(tiny_lm, dataclasses.replace(splits(), pool=pool))
        context = Context(Nuggets().needs, Bench(Store(tmp_path)), given, other)
        if refused:
            with pytest.raises(UserError, match="one system turn"):
                Nuggets().check(context)
        else:
            Nuggets().check(context)


def test_a_template_without_previous_answers_is_refused_beforehand(
    tiny_lm: LM, models: LoadedModels, tmp_path: Path
) -> None:
    tokenizer = copy.deepcopy(models.chat(tiny_lm).tokenizer)
    tokenizer.chat_template = "{{ messages[-1].content }}"
    other = WithChat(models, Chat(tokenizer, 512))
    context = Context(Nuggets().needs, Bench(Store(tmp_path)), material(tiny_lm), other)
    with pytest.raises(UserError, match="leaves out previous answers"):
        Nuggets().check(context)


# Scores


def score(selector: Nuggets, lm: LM, models: Models, data: Splits | None = None, **options: Any) -> Scored:
    return Trial(selector, material(lm, data), models).score(**options)


def by_brute_force(chat: Chat, lm: LM, models: LoadedModels, rows: list[Example], tasks: list[Example]) -> np.ndarray:
    """Mean log-probability behind each row less the one alone, by plain concatenation, [rows, tasks]; end of turn
    counted."""
    alone = [Pair(chat.context(TASK, row), chat.response(row)) for row in tasks]
    shown = [Pair(conversation(chat, row, one), chat.response(one)) for row in rows for one in tasks]
    losses, _ = with_scorer(models, lm, lambda scorer: scorer.response_nll([*alone, *shown]).mean)
    return np.asarray(losses[: len(tasks)] - losses[len(tasks) :].reshape(len(rows), len(tasks)))


def test_scores_of_a_pool_by_brute_force(tiny_lm: LM, models: LoadedModels) -> None:
    """All rows are tasks of all others."""
    found = score(Nuggets(), tiny_lm, models)
    rows = {row.id: row for row in splits().pool}
    ids = [id for id in found.ids if id != TOO_LONG]
    advantage = by_brute_force(models.chat(tiny_lm), tiny_lm, models, *([rows[id] for id in ids],) * 2)
    for id, value, reason in zip(found.ids, found.scores.values, found.scores.reasons, strict=True):
        if id == TOO_LONG:
            assert np.isnan(value)
            assert reason == NO_RESPONSE
            continue
        others = [rows[other].input != rows[id].input for other in ids]
        assert value == pytest.approx((advantage[ids.index(id)] > 0)[others].mean(), abs=1e-12)
    assert found.scores.notes["tasks"] == 11
    assert found.scores.notes["left_out_copies"] == 13  # 11 rows themselves, and the copies 0 and 3 of each other
    assert found.scores.notes["compared"] == 11 * 11 - 13
    assert found.scores.notes["left_out_no_room"] == 11  # the row that is too long
    assert len(set(found.scores.values)) > 4


def test_one_task_gives_the_sign_of_the_loss_difference(tiny_lm: LM, models: LoadedModels) -> None:
    """With m = 1 a win is L(y | x, z) < L(y | x), MIWV's difference with the other sign."""
    first, _, last = splits().target
    data = dataclasses.replace(splits(), target=(first, last))
    found = score(Nuggets(m=1, task_source="target"), tiny_lm, models, data)
    task = min(data.target, key=lambda row: row.uid)
    rows = {row.id: row for row in data.pool}
    ids = [id for id in found.ids if id != TOO_LONG]
    difference = by_brute_force(models.chat(tiny_lm), tiny_lm, models, [rows[id] for id in ids], [task])[:, 0]
    values = dict(zip(found.ids, found.scores.values, strict=True))
    assert [values[id] for id in ids] == (difference > 0).astype(float).tolist()
    assert 0 < (difference > 0).sum() < len(ids)
    assert found.scores.notes["tasks"] == 1


def test_pruned_scores_are_upper_bounds_in_a_tier_below(tiny_lm: LM, models: LoadedModels) -> None:
    exact = score(Nuggets(), tiny_lm, models)
    whole = dict(zip(exact.ids, exact.scores.values, strict=True))
    pruned_rows = 0
    for k in (1, 2, 5, 9):
        found = score(Nuggets(prune=True), tiny_lm, models, k=k)
        assert found.choose(k, 0) == exact.choose(k, 0)
        assert found.scores.reasons == exact.scores.reasons
        out = found.scores.tier == 1
        pruned_rows += int(out.sum())
        for id, value, is_out in zip(found.ids, found.scores.values, out, strict=True):
            assert value >= whole[id] if is_out else value == whole[id] or id == TOO_LONG
    assert pruned_rows > 0


def test_budgets_share_all_comparisons_unless_pruned(tiny_lm: LM, models: LoadedModels, tmp_path: Path) -> None:
    def tokens(bench: Bench, selector: Nuggets, k: int, barred: int = 0) -> int:
        context = Context(selector.needs, bench, material(tiny_lm), models)
        allowed = np.arange(context.n_rows) >= barred
        before = {path.parent.name for path in bench.store.root.glob("represent/*/manifest.json")}
        attempt = {"k": k, "prune": selector.prune, "barred": barred}
        bench.stage("score", attempt, lambda _: selector.choose(context, k, allowed))
        new = {path.parent.name for path in bench.store.root.glob("represent/*/manifest.json")} - before
        return sum(bench.store.get(f"represent/{name}").cost.forward_tokens for name in new)

    bench = Bench(Store(tmp_path / "whole"))
    first = tokens(bench, Nuggets(), 1)
    assert first > 0
    assert tokens(bench, Nuggets(), 5) == 0
    assert tokens(bench, Nuggets(), 5, barred=3) == 0
    bench = Bench(Store(tmp_path / "pruned"))
    assert tokens(bench, Nuggets(prune=True), 1) > 0
    assert 0 < tokens(bench, Nuggets(prune=True), 5) < first


def test_rows_are_compared_block_by_block(
    tiny_lm: LM, models: LoadedModels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = score(Nuggets(), tiny_lm, models)
    monkeypatch.setattr("dwbench.selectors.context.ROWS_A_BLOCK", 5)
    bench = Bench(Store(tmp_path))
    found = Trial(Nuggets(), material(tiny_lm), models).score_in(bench, Nuggets().needs)
    np.testing.assert_array_equal(found.scores.values, whole.scores.values)
    stages = [json.loads(path.read_text())["identity"] for path in tmp_path.glob("represent/*/manifest.json")]
    assert sorted(stage["representation"] for stage in stages) == ["nuggets_advantage"] * 3 + ["nuggets_alone"]


def test_same_answer_tokens_in_both_arms(tiny_lm: LM, models: LoadedModels) -> None:
    """An answer that fits alone but not behind the row is cut in both arms; where nothing fits the task is left out."""
    chat = models.chat(tiny_lm)
    data = Splits(
        pool=examples(
            (("Is it late?", "Yes, very late"), ("late " * 30, "It is a word"), ("late " * 40, "It is a word"))
        ),
        target=examples((("It rains.", "Rain falls on the town all day and all night"),)),
        test=examples((("It snows.", "Snow"),)),
    )
    task = data.target[0]
    behind, alone = conversation(chat, data.pool[1], task), chat.context(TASK, task)
    answer = chat.response(task)
    (shown, own), _ = with_scorer(
        models, tiny_lm, lambda scorer: scorer.token_nll([Pair(behind, answer), Pair(alone, answer)])
    )
    wins = []
    for kept in range(1, 6):
        short = dataclasses.replace(tiny_lm, max_length=len(behind) + kept)
        found = score(Nuggets(task_source="target"), short, models, data)
        by_id = dict(zip(found.ids, range(3), strict=True))
        wins.append(found.scores.values[by_id["1"]])
        assert wins[-1] == float(shown[:kept].sum() < own[:kept].sum())
        assert found.scores.reasons[by_id["2"]] == NO_ROOM
        assert found.scores.notes["compared"] == 2
        assert found.scores.notes["compared_with_cut_answer"] == 1
        assert found.scores.notes["left_out_no_room"] == 1
    assert set(wins) == {0, 1}


@pytest.mark.parametrize("score_eos", [True, False])
def test_the_end_of_turn_counts_if_asked_for(score_eos: bool, tiny_lm: LM, models: LoadedModels) -> None:
    chat = models.chat(tiny_lm)
    task = examples((("Is the bus late?", "Yes"),))
    rows = [row for row in splits().pool if row.id != TOO_LONG and row.input != task[0].input]
    answer = chat.response(task[0]) if score_eos else chat.ids("Yes")
    alone = Pair(chat.context(TASK, task[0]), answer)
    shown = [Pair(conversation(chat, row, task[0]), answer) for row in rows]
    losses, _ = with_scorer(models, tiny_lm, lambda scorer: scorer.response_nll([alone, *shown]).total)
    data = Splits(pool=tuple(rows), target=task, test=())
    found = score(Nuggets(task_source="target", score_eos=score_eos), tiny_lm, models, data)
    values = dict(zip(found.ids, found.scores.values, strict=True))
    assert [values[row.id] for row in rows] == (losses[1:] < losses[0]).astype(float).tolist()


def test_reasons(tiny_lm: LM, models: LoadedModels) -> None:
    same = (("Is it late?", "Yes"), ("is it  LATE?", "No"), ("Is it late?", "Yes"))
    found = score(Nuggets(), tiny_lm, models, Splits(pool=examples(same), target=(), test=()))
    assert found.scores.reasons == (ONLY_COPIES,) * 3
    found = score(Nuggets(), tiny_lm, models, barred=frozenset({"0", TOO_LONG}))
    reasons = dict(zip(found.ids, found.scores.reasons, strict=True))
    assert reasons.pop("0") == reasons.pop(TOO_LONG) == BARRED
    assert set(reasons.values()) == {""}


def test_win_rates_of_tasks(tiny_lm: LM, models: LoadedModels) -> None:
    found = score(Nuggets(task_source="target"), tiny_lm, models)
    notes = found.scores.notes
    rows = [row for row in splits().pool if row.id != TOO_LONG]
    advantage = by_brute_force(models.chat(tiny_lm), tiny_lm, models, rows, list(splits().target))
    rates = sorted((advantage > 0).mean(axis=0))
    told = [notes[f"task_win_rate_{name}"] for name in ("min", "median", "max")]
    assert told == pytest.approx(rates, abs=1e-4)
    assert notes["ties"] == 0


# Tasks


def tasks_of(selector: Nuggets, lm: LM, models: LoadedModels, seed: int = 0) -> list[Example]:
    found: list[list[Example]] = []
    with_scorer(
        models,
        lm,
        lambda scorer: found.append(
            selector._tasks(Context(selector.needs, scorer._bench, material(lm, seed=seed), models))
        ),
    )
    return found[0]


def test_kmeans_takes_the_row_nearest_to_each_centre(tiny_lm: LM, models: LoadedModels) -> None:
    from sklearn.cluster import KMeans

    chat = models.chat(tiny_lm)
    rows = sorted((row for row in splits().pool if row.id != TOO_LONG), key=lambda row: row.uid)
    sequences = [(*chat.context(TASK, row), *chat.response(row)) for row in rows]
    embeddings, _ = with_scorer(models, tiny_lm, lambda scorer: scorer.mean_hidden(sequences))
    centres = KMeans(4, random_state=0).fit(embeddings).cluster_centers_
    nearest = {int(np.argmin([np.linalg.norm(one - centre) for one in embeddings])) for centre in centres}
    assert [row.id for row in tasks_of(Nuggets(m=4), tiny_lm, models)] == [rows[row].id for row in sorted(nearest)]


def test_random_tasks_go_by_the_seed_and_are_nested(tiny_lm: LM, models: LoadedModels) -> None:
    few, more = (Nuggets(m=m, task_source="random") for m in (3, 6))
    ids = [row.id for row in tasks_of(more, tiny_lm, models)]
    assert [row.id for row in tasks_of(few, tiny_lm, models)] == ids[:3]
    assert [row.id for row in tasks_of(more, tiny_lm, models, seed=1)] != ids
    everything = [row.id for row in tasks_of(Nuggets(task_source="random"), tiny_lm, models)]
    assert set(everything) == {row.id for row in splits().pool} - {TOO_LONG}


def test_without_a_target_set_it_is_refused_beforehand(tiny_lm: LM, models: LoadedModels, tmp_path: Path) -> None:
    selector = Nuggets(task_source="target")
    bench = Bench(Store(tmp_path))
    nothing = material(tiny_lm, dataclasses.replace(splits(), target=()))
    with pytest.raises(UserError, match=r"task_source=target.*target set"):
        selector.check(Context(selector.needs, bench, nothing, models))
    selector.check(Context(selector.needs, bench, material(tiny_lm), models))


def test_settings_are_checked() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Nuggets(m=0)
    with pytest.raises(ValueError, match="score_eos=false"):
        Nuggets(variant="reference")


# The published code and independent numbers

PLAIN = Task(**{**field_identities(TASK), "system": "", "user": "{input}"})


def test_reference_texts(tiny_lm: LM, models: LoadedModels) -> None:
    tokenizer = copy.deepcopy(models.chat(tiny_lm).tokenizer)
    from tokenizers.processors import TemplateProcessing

    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", 0)]
    )
    chat = Chat(tokenizer, 512)
    row = splits().pool[1]
    shown, asked = reference.candidate(chat, TASK, row), reference.task_pair(chat, TASK, row)
    text = "Instruction:\nNotice: The pool opens late today.\nHeadline:\nResponse:\n"
    assert tokenizer.decode(shown) == f"<|endoftext|>{text}Pool late"
    assert tokenizer.decode(asked.context) == text  # without BOS
    assert tokenizer.decode(asked.response) == "Pool late"
    long = dataclasses.replace(row, response="late " * 300)
    assert reference.task_pair(chat, TASK, long).length == 200
    assert reference.task_pair(chat, TASK, dataclasses.replace(row, input="late " * 300)).response == ()


def test_a_reference_task_with_a_long_question_is_never_won(tiny_lm: LM, models: LoadedModels) -> None:
    longs = examples((("late " * 250, "Yes"), ("The rink is open.", "Rink open")))
    data = dataclasses.replace(splits(), target=longs)
    selector = Nuggets(task_source="target", variant="reference", score_eos=False)
    long = dataclasses.replace(tiny_lm, max_length=1024)
    found = score(selector, long, models, data).scores
    assert found.notes["task_win_rate_min"] == 0
    assert set(found.values) <= {0, 0.5}
    assert found.notes["left_out_copies"] == 0


@pytest.fixture(scope="module")
def data(shared: Path) -> dict[str, Any]:
    return golden(shared, "nuggets/case_main")


@pytest.mark.parametrize("block", ["official", "naive", "with_bos_in_both_arms"])
def test_scores_of_given_log_probabilities(block: str, data: dict[str, Any]) -> None:
    expected = data["expected"][block]
    advantage = np.array(expected["one_shot_logp"]) - expected["zero_shot_logp"]
    found = tally(advantage, np.ones(advantage.shape, dtype=bool)).golden_score
    np.testing.assert_allclose(found, expected["golden_score"], atol=1e-6)


@pytest.mark.parametrize(
    ("block", "candidate", "tasks", "bos"),
    [("naive", 9, (0, 4), ()), ("with_bos_in_both_arms", 2, (1, 4), (1,))],
)
def test_independent_numbers(
    block: str,
    candidate: int,
    tasks: Sequence[int],
    bos: tuple[int, ...],
    data: dict[str, Any],
    smollm2: LM,
    models: LoadedModels,
) -> None:
    """Sums of log-probabilities over the answers' tokens, without and with a candidate in front."""
    given = [data["inputs"]["tasks"][task] for task in tasks]
    pairs = [Pair(tuple(task["query_ids"]), tuple(task["answer_ids"])) for task in given]
    shown = (*bos, *data["inputs"]["candidates"][candidate]["ids"])

    def work(scorer: Scorer) -> Any:
        alone = scorer.token_nll([Pair(bos + pair.context, pair.response) for pair in pairs])
        return [[-nll.sum() for nll in losses] for losses in (alone, scorer.token_nll_behind(shown, pairs))]

    found, _ = with_scorer(models, smollm2, work)
    alone, behind = np.array(found)
    expected = data["expected"][block]
    close = data["tolerance"]["suggested_abs_sum_logp"]
    np.testing.assert_allclose(alone, np.array(expected["zero_shot_logp"])[list(tasks)], atol=close, rtol=0)
    want = np.array(expected["one_shot_logp"])[candidate, list(tasks)]
    np.testing.assert_allclose(behind, want, atol=close, rtol=0)


def test_published_scores(data: dict[str, Any], smollm2: LM, models: LoadedModels) -> None:
    """`variant: reference` on the same texts; in this row the cut of the last task changes the score."""
    from tokenizers.pre_tokenizers import ByteLevel

    def row(text: str) -> tuple[str, str]:
        question, _, answer = text.partition("\nResponse:\n")
        return question.removeprefix("Instruction:\n"), answer

    candidate = data["inputs"]["candidates"][3]
    pool = examples((row(candidate["text"]),))
    target = examples(tuple(row(task["query"] + task["answer"]) for task in data["inputs"]["tasks"]))
    tokenizer = copy.deepcopy(models.chat(smollm2).tokenizer)  # the case was made without single digits
    tokenizer.backend_tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False, use_regex=True)
    chat = Chat(tokenizer, 2048)
    assert list(reference.candidate(chat, PLAIN, pool[0])) == candidate["ids"]
    given = dataclasses.replace(material(smollm2, Splits(pool=pool, target=target, test=())), task=PLAIN)
    selector = Nuggets(task_source="target", variant="reference", score_eos=False)
    found = Trial(selector, given, WithChat(models, chat)).score()
    assert found.scores.values == pytest.approx([data["expected"]["official"]["golden_score"][3]], abs=1e-6)
    assert found.scores.values != pytest.approx([data["expected"]["naive"]["golden_score"][3]], abs=1e-6)
