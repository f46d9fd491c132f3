"""IFD: the ratio, its direction and cut, and the published numbers."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rows import TASK, TOO_LONG, TRAINING, examples, material
from scoring import golden, short_rows

from dwbench.contract import Scored, Trial, check_selector
from dwbench.data.base import Example, Splits, Task
from dwbench.errors import UserError
from dwbench.models.chat import Chat, Pair
from dwbench.models.loading import load_model
from dwbench.models.spec import LM
from dwbench.representations.scorer import Scorer
from dwbench.selectors.context import Context
from dwbench.selectors.ifd import IFD, experience_rows, ifd
from dwbench.selectors.models import LoadedModels
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
    return Trial(selector, material(lm, splits), StoredModels(models, chat)).score_in(bench, selector.needs)


@pytest.mark.parametrize("case", ["main", "truncated", "mismatched"])
def test_published_numbers(case: str, shared: Path, smollm2: LM, models: LoadedModels, bench: Bench) -> None:
    data = golden(shared, f"ifd/case_{case}")
    if case == "main":
        data = short_rows(data, 180, "rank_of_kept_rows_high_to_low")
        assert len(data["inputs"]["rows"]) == 7
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


def test_rows_of_the_pre_experience() -> None:
    # Cluster 0: 14 rows with perplexities 1 to 14, its quartiles 4.25 and 10.75; cluster 1: 9 rows, taken whole;
    # cluster 2: 100 rows, 50 of them between the quartiles; two rows are in none.
    perplexity = np.concatenate([np.arange(1.0, 15), np.arange(9.0), np.arange(100.0), [5, np.nan]])
    labels = np.repeat([0, 1, 2, -1], [14, 9, 100, 2])
    draw = np.random.default_rng(0).random(125)
    rows = experience_rows(perplexity, labels, draw)
    assert rows[rows < 14].tolist() == [4, 5, 6, 7, 8, 9]
    assert rows[(rows >= 14) & (rows < 23)].tolist() == list(range(14, 23))
    drawn = rows[rows >= 23]
    middle = np.arange(23 + 25, 23 + 75)
    assert drawn.tolist() == sorted(middle[np.argsort(draw[middle])[:10]])
    assert len(rows) == len(set(rows))
    assert experience_rows(perplexity, labels, 1 - draw).tolist() != rows.tolist()


@pytest.fixture(scope="module")
def warmed(tiny_lm: LM, models: LoadedModels, tmp_path_factory: pytest.TempPathFactory) -> tuple[Scored, Bench]:
    """Scored after the pre-experience: 12 rows, one of them too long, in one cluster."""
    found = Bench(Store(tmp_path_factory.mktemp("warm")))
    selector = IFD(warmup="pre_experience")
    return Trial(selector, material(tiny_lm), models).score_in(found, selector.needs), found


def test_both_losses_are_those_of_the_tuned_scorer(
    warmed: tuple[Scored, Bench], tiny_lm: LM, models: LoadedModels
) -> None:
    scored, bench = warmed
    (trained,) = (bench.store.root / "train").iterdir()
    needs = IFD(warmup="pre_experience").needs
    found: list[np.ndarray] = []

    def recompute(_: Path) -> None:
        context = Context(needs, bench, material(tiny_lm), models)
        tuned = models.scorer(tiny_lm, bench, trained / "adapter-1")
        chat = context.chat
        pairs = [chat.pair(context.task, row) for row in context.pool]
        direct = [pair and Pair(chat.answer_header(), pair.response) for pair in pairs]
        found.append(tuned.response_nll(pairs).mean / tuned.response_nll(direct).mean)

    bench.stage("test", {}, recompute)
    np.testing.assert_allclose(scored.scores.values, found[0], rtol=1e-6)
    plain = Trial(IFD(), material(tiny_lm), models).score()
    assert not np.allclose(scored.scores.values, plain.scores.values, equal_nan=True)
    assert scored.ids == plain.ids


def test_the_pre_experience_is_one_epoch_on_the_middle_rows(
    warmed: tuple[Scored, Bench], tiny_lm: LM, models: LoadedModels
) -> None:
    scored, bench = warmed
    (training,) = (bench.store.root / "train").glob("*/training.json")
    told = json.loads(training.read_text())
    prompts = next(
        arrays
        for path in (bench.store.root / "represent").glob("*/arrays.npz")
        if "hidden" in (arrays := np.load(path))
    )
    usable = prompts["usable"]
    assert [id for id, use in zip(scored.ids, usable, strict=True) if not use] == [TOO_LONG]
    low, high = np.percentile(prompts["perplexity"][usable], (25, 75))
    middle = int(((prompts["perplexity"] >= low) & (prompts["perplexity"] <= high)).sum())
    assert (told["epochs"], told["rows"]) == (1, min(10, middle))
    # Of all prompt tokens but the first, by the model itself.
    chat = models.chat(tiny_lm)
    row = next(row for row in material(tiny_lm).splits.pool if row.id == scored.ids[0])
    import torch

    ids = torch.tensor([chat.context(TASK, row)])
    with torch.inference_mode():
        out = load_model(tiny_lm)(input_ids=ids, labels=ids, output_hidden_states=True)
    assert prompts["perplexity"][0] == pytest.approx(float(torch.exp(out.loss)), rel=1e-4)
    np.testing.assert_allclose(prompts["hidden"][0], out.hidden_states[-1][0].mean(dim=0), atol=1e-5)


def test_no_row_to_warm_up_on(tiny_lm: LM, models: LoadedModels) -> None:
    short = dataclasses.replace(tiny_lm, max_length=20)
    with pytest.raises(UserError, match=r"selector\.warmup=pre_experience: no row"):
        Trial(IFD(warmup="pre_experience"), material(short), models).score()


def test_a_warm_up_that_does_nothing_is_refused_beforehand(tiny_lm: LM, models: LoadedModels, tmp_path: Path) -> None:
    """One cluster of 12 rows gives 10: two steps of 8 rows, or one of 10."""
    for batch_size, selector, refused in (
        (10, IFD(warmup="pre_experience"), True),
        (8, IFD(warmup="pre_experience"), False),
        (10, IFD(), False),
    ):
        train = dataclasses.replace(TRAINING, batch_size=batch_size, warmup_ratio=0.1)
        given = dataclasses.replace(material(tiny_lm), train=train)
        context = Context(selector.needs, Bench(Store(tmp_path)), given, models)
        if refused:
            with pytest.raises(UserError, match="warm-up"):
                selector.check(context)
        else:
            selector.check(context)


def test_pre_experience_keeps_the_contract(tiny_lm: LM, models: LoadedModels) -> None:
    check_selector(IFD(warmup="pre_experience"), material(tiny_lm), models)
