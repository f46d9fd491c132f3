"""MIWV: demonstrations, what is cut of them, the two arms, and independently computed numbers."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rows import TASK, TOO_LONG, examples, material
from scoring import golden, with_scorer

from dwbench.contract import Scored, Trial, check_selector
from dwbench.data.base import Example, Splits, Turn
from dwbench.errors import UserError
from dwbench.models.chat import Chat, Pair
from dwbench.models.encoder import Encoder
from dwbench.models.spec import LM
from dwbench.representations.scorer import Scorer
from dwbench.rules.neighbours import nearest_other
from dwbench.rules.ranking import rank, scores
from dwbench.selectors.context import Context
from dwbench.selectors.losses import NO_RESPONSE
from dwbench.selectors.miwv import (
    MIWV,
    NO_ROOM,
    miwv,
    one_shot_context,
    one_shot_losses,
    with_demonstration,
    without_left,
)
from dwbench.selectors.models import LoadedModels
from dwbench.selectors.perplexity import Perplexity
from dwbench.store import Bench, Store


def test_by_hand() -> None:
    values = miwv(np.array([2, 1, 3.0]), np.array([2.5, 0.8, 3]))
    np.testing.assert_allclose(values, [-0.5, 0.2, 0], atol=1e-12)
    order = rank(scores(values, values, ("",) * 3), 3, np.zeros(3)).order
    assert order.tolist() == [1, 2, 0]


def test_no_demonstration_leaves_the_prompt_as_it_is() -> None:
    """So that MIWV with an empty demonstration is 0."""
    row = dataclasses.replace(examples((("now", "x"),))[0], history=(("user", "before"), ("assistant", "then")))
    assert with_demonstration(TASK.turns(row), []) == TASK.turns(row)


def test_the_demonstration_stands_behind_the_system_turn() -> None:
    target = [("system", "s"), ("user", "q")]
    assert with_demonstration(target, [("user", "d"), ("assistant", "a")]) == [
        ("system", "s"),
        ("user", "d"),
        ("assistant", "a"),
        ("user", "q"),
    ]


@pytest.mark.parametrize(
    ("turn", "start", "expected"),
    [
        (0, 1, ["ne", "two", "three", "four"]),
        (1, 0, ["", "two", "three", "four"]),
        (1, 3, ["three", "four"]),
        (2, 4, ["e", "four"]),
        (3, 1, ["", "our"]),
    ],
)
def test_turns_lose_text_from_the_left_and_go_in_pairs(turn: int, start: int, expected: list[str]) -> None:
    turns: list[Turn] = [("user", "one"), ("assistant", "two"), ("user", "three"), ("assistant", "four")]
    found = without_left(turns, turn, start)
    assert [text for _, text in found] == expected
    assert [role for role, _ in found] == ["user", "assistant"] * (len(expected) // 2)


@pytest.fixture(scope="module")
def chat(tiny_lm: LM, models: LoadedModels) -> Chat:
    return models.chat(tiny_lm)


def test_one_shot_prompt(chat: Chat) -> None:
    row, neighbour = examples((("The pool opens late.", "Pool late"), ("Das Café öffnet 🎉", "Café {öffnet}")))
    found = one_shot_context(chat, TASK, row, neighbour, 1000)
    assert found is not None
    ids, dropped = found
    assert dropped == 0
    assert chat.tokenizer.decode(ids) == (
        "<|im_start|>system\nYou write one line.<|im_end|>\n"
        "<|im_start|>user\nNotice: Das Café öffnet 🎉\nHeadline:<|im_end|>\n"
        "<|im_start|>assistant\nCafé {öffnet}<|im_end|>\n"
        "<|im_start|>user\nNotice: The pool opens late.\nHeadline:<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_what_does_not_fit_is_cut_from_the_left(chat: Chat) -> None:
    """At every length: the most that fits, a suffix of the demonstration, and the row's own prompt untouched."""
    row, neighbour = examples(
        (("The pool opens late.", "Pool late"), ("Das Café öffnet um 7 Uhr 🎉", "Café öffnet 🎉"))
    )
    demonstration = "Notice: Das Café öffnet um 7 Uhr 🎉\nHeadline:Café öffnet 🎉"
    whole = one_shot_context(chat, TASK, row, neighbour, 1000)
    assert whole is not None
    alone = chat.text(TASK.turns(row)).removeprefix("<|im_start|>system\nYou write one line.<|im_end|>\n")
    cut, texts = 0, []
    for room in range(len(whole[0]), len(chat.context(TASK, row)), -1):
        found = one_shot_context(chat, TASK, row, neighbour, room)
        if found is None:
            continue
        ids, dropped = found
        assert room - 4 <= len(ids) <= room  # an emoji is four tokens
        assert dropped >= cut
        cut = dropped
        text = chat.tokenizer.decode(ids)
        assert text.endswith(alone)
        shown = text.removesuffix(alone).removeprefix("<|im_start|>system\nYou write one line.<|im_end|>\n")
        question, answer = shown.split("<|im_end|>\n<|im_start|>assistant\n")
        kept = question.removeprefix("<|im_start|>user\n") + answer.removesuffix("<|im_end|>\n")
        assert kept
        assert demonstration.endswith(kept)
        texts.append(kept)
    assert texts[0] == demonstration
    assert len(texts[-1]) <= 2
    assert one_shot_context(chat, TASK, row, neighbour, len(chat.context(TASK, row)) + 5) is None


@dataclasses.dataclass(frozen=True)
class Known:
    """An embedder that knows its texts."""

    vectors: dict[str, tuple[float, ...]]

    def embed(self, texts: Sequence[str], what: str) -> np.ndarray:
        found = np.array([self.vectors[text] for text in texts], dtype=np.float32)
        return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True))


@dataclasses.dataclass(frozen=True)
class KnownModels:
    """Real models with that embedder."""

    loaded: LoadedModels
    known: Known

    def chat(self, lm: LM) -> Chat:
        return self.loaded.chat(lm)

    def config(self, lm: LM) -> Any:
        return self.loaded.config(lm)

    def scorer(self, lm: LM, bench: Bench, adapter: Path | None = None) -> Scorer:
        return self.loaded.scorer(lm, bench, adapter)

    def embedder(self, encoder: Encoder, bench: Bench) -> Any:
        return self.known


ROWS = (
    ("The library is closed.", "Library shut"),
    ("The library is open.", "Library open on all days of the week"),
    ("word " * 480, "Many words"),
    ("A word is a word.", "Word"),
    ("word " * 700, "Words"),
    ("word " * 460, "many " * 80),
)
VECTORS = ((1.0, 0.0), (1.0, 0.1), (0.0, 1.0), (-0.05, 1.0), (-0.7, 0.7), (0.3, 1.0))
"""Nearest: 0 and 1 of each other, 2 and 3 of each other, 3 of 4, 2 of 5."""


def score_rows(
    lm: LM, encoder: Encoder, models: LoadedModels, bench: Bench, selector: MIWV | None = None
) -> dict[str, Any]:
    """Scores of the rows above by id, with notes and reasons."""
    known = {row[0]: vector for row, vector in zip(ROWS, VECTORS, strict=True)}
    chosen = selector or MIWV()
    splits = Splits(pool=examples(ROWS), target=(), test=())
    trial = Trial(chosen, material(lm, splits, encoder=encoder), KnownModels(models, Known(known)))
    found = trial.score_in(bench, chosen.needs)
    by_id = sorted(zip(found.ids, found.scores.values, found.scores.reasons, strict=True))
    return {
        "values": np.array([value for _, value, _ in by_id]),
        "reasons": [reason for *_, reason in by_id],
        "notes": found.scores.notes,
    }


def mean_loss(lm: LM, context: Sequence[int], row: Example, chat: Chat, with_end: bool) -> float:
    """transformers' own loss of the row's response behind `context`."""
    import torch

    from dwbench.models.loading import load_model

    response = chat.response(row) if with_end else chat.response(row)[:-1]
    labels = torch.tensor([[-100] * len(context) + list(response)])
    with torch.inference_mode():
        return float(load_model(lm)(input_ids=torch.tensor([[*context, *response]]), labels=labels).loss)


@pytest.mark.parametrize("score_eos", [True, False])
def test_two_plain_passes_give_the_same(
    score_eos: bool, tiny_lm: LM, encoder: Encoder, models: LoadedModels, chat: Chat, tmp_path: Path
) -> None:
    found = score_rows(tiny_lm, encoder, models, Bench(Store(tmp_path)), MIWV(score_eos=score_eos))
    rows = examples(ROWS)
    for number, neighbour in ((0, 1), (1, 0), (3, 2)):
        row, other = rows[number], rows[neighbour]
        words = other.input.split()
        target = TASK.turns(row)
        shown = [target[0], TASK.turns(other)[1], ("assistant", other.response), target[1]]
        context = chat.ids(chat.text(shown))
        excess = len(context) + len(chat.response(row)) - tiny_lm.max_length
        if number == 3:  # the demonstration loses "Notice:" and words
            label = len(chat.ids("Notice:"))
            assert excess > label
            shown[1] = ("user", " " + " ".join(words[excess - label :]) + " \nHeadline:")
            context = chat.ids(chat.text(shown))
            assert len(context) + len(chat.response(row)) == tiny_lm.max_length
        one, zero = (mean_loss(tiny_lm, ids, row, chat, score_eos) for ids in (context, chat.context(TASK, row)))
        assert found["values"][number] == pytest.approx(one - zero, abs=5e-5)


def test_rows_with_and_without_room(
    tiny_lm: LM, encoder: Encoder, models: LoadedModels, chat: Chat, tmp_path: Path
) -> None:
    found = score_rows(tiny_lm, encoder, models, Bench(Store(tmp_path)))
    lengths = [len(chat.ids(response)) for _, response in ROWS]
    assert found["reasons"] == ["", "", NO_ROOM, "", NO_RESPONSE, NO_ROOM]
    assert np.isnan(found["values"]).tolist() == [False, False, True, False, True, True]
    assert found["notes"] == {
        "neighbour_in_degree_max": 2,
        "neighbour_cosine_mean": pytest.approx(0.92, abs=0.05),
        "demonstrations_cut": 1,  # of row 3, whose neighbour has 480 words
        "response_tokens_mean": pytest.approx(np.mean([lengths[number] for number in (0, 1, 3)])),
        "response_tokens_mean_of_top_tenth": lengths[int(np.nanargmax(found["values"]))],
    }


def test_what_is_stored_is_shared(tiny_lm: LM, encoder: Encoder, models: LoadedModels, tmp_path: Path) -> None:
    bench = Bench(Store(tmp_path))
    splits = Splits(pool=examples(ROWS), target=(), test=())
    low = Perplexity(which="low")
    Trial(low, material(tiny_lm, splits), models).score_in(bench, low.needs)
    assert len(list((tmp_path / "represent").iterdir())) == 1
    score_rows(tiny_lm, encoder, models, bench)
    assert len(list((tmp_path / "represent").iterdir())) == 3  # embeddings and the arm with a demonstration
    score_rows(tiny_lm, encoder, models, bench, MIWV(score_eos=False, chunk=2))
    assert len(list((tmp_path / "represent").iterdir())) == 3


def test_other_neighbours_are_another_arm(tiny_lm: LM, encoder: Encoder, models: LoadedModels, tmp_path: Path) -> None:
    splits = Splits(pool=examples((*ROWS[:2], ROWS[3])), target=(), test=())
    bench = Bench(Store(tmp_path))
    context = Context(MIWV().needs, bench, material(tiny_lm, splits, encoder=encoder), models)
    found: list[np.ndarray] = []

    def work(_: Path) -> None:
        for neighbour in ([1, 2, 0], [1, 0, 0]):
            found.append(one_shot_losses(context, np.array(neighbour))[0].total)

    bench.stage("test", {}, work)
    assert np.isclose(*found, rtol=1e-4).tolist() == [True, False, True]


def test_rows_are_scored_block_by_block(
    tiny_lm: LM, encoder: Encoder, models: LoadedModels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = score_rows(tiny_lm, encoder, models, Bench(Store(tmp_path / "whole")))
    monkeypatch.setattr("dwbench.selectors.context.ROWS_A_BLOCK", 4)
    found = score_rows(tiny_lm, encoder, models, Bench(Store(tmp_path / "blocks")))
    np.testing.assert_allclose(found["values"], whole["values"], atol=1e-5)
    assert found["reasons"] == whole["reasons"]
    # Embeddings, and two blocks of either arm.
    assert len(list((tmp_path / "blocks" / "represent").iterdir())) == 5


def test_earlier_turns_are_shown_without_their_system_turn(chat: Chat) -> None:
    row, neighbour = examples((("Now?", "Yes"), ("Later?", "No")))
    neighbour = dataclasses.replace(
        neighbour, history=(("system", "Be kind."), ("user", "Hello"), ("assistant", "Hi there"))
    )
    found = one_shot_context(chat, TASK, row, neighbour, 1000)
    assert found is not None
    assert "Be kind" not in chat.tokenizer.decode(found[0])
    assert chat.tokenizer.decode(found[0]).count("<|im_start|>user\n") == 3
    shorter = one_shot_context(chat, TASK, row, neighbour, len(found[0]) - 4)
    assert shorter is not None
    assert "Hello" not in chat.tokenizer.decode(shorter[0])
    assert "Later?" in chat.tokenizer.decode(shorter[0])


@pytest.mark.parametrize("selector", [MIWV(), MIWV(text="prompt", score_eos=False, chunk=5)])
def test_keeps_the_contract(selector: MIWV, tiny_lm: LM, encoder: Encoder, models: LoadedModels) -> None:
    check_selector(selector, material(tiny_lm, encoder=encoder), models)


def test_equally_good_neighbours_are_told_apart_by_content(tiny_lm: LM, encoder: Encoder, models: LoadedModels) -> None:
    rows = (("Which town?", "This one"), ("Which town!", "That one"), ("What town?", "None of them at all"))
    known = Known({"Which town?": (1.0, 0.0), "Which town!": (1.0, 0.0), "What town?": (0.6, 0.8)})
    splits = Splits(pool=examples(rows), target=(), test=())
    check_selector(MIWV(), material(tiny_lm, splits, encoder=encoder), KnownModels(models, known))


def test_a_row_that_does_not_fit_is_invalid(tiny_lm: LM, encoder: Encoder, models: LoadedModels) -> None:
    found: Scored = Trial(MIWV(), material(tiny_lm, encoder=encoder), models).score()
    reasons = dict(zip(found.ids, found.scores.reasons, strict=True))
    assert {id for id, reason in reasons.items() if reason} == {TOO_LONG}
    assert found.choose(12, 0)[-1] == TOO_LONG


def test_one_row_has_no_neighbour(tiny_lm: LM, encoder: Encoder, models: LoadedModels, tmp_path: Path) -> None:
    selector, splits = MIWV(), Splits(pool=examples((("a", "b"),)), target=(), test=())
    context = Context(selector.needs, Bench(Store(tmp_path)), material(tiny_lm, splits, encoder=encoder), models)
    with pytest.raises(UserError, match="give at least 2 rows"):
        selector.check(context)


def test_chunk_is_positive() -> None:
    with pytest.raises(ValueError, match="chunk"):
        MIWV(chunk=0)


@pytest.fixture(scope="module")
def data(shared: Path) -> dict[str, Any]:
    return golden(shared, "miwv/case_main")


def test_published_neighbours(data: dict[str, Any], minilm: Encoder, models: LoadedModels, tmp_path: Path) -> None:
    """Of the real encoder; rows 0 and 11 are the same, and find each other."""
    found: list[np.ndarray] = []
    bench = Bench(Store(tmp_path))
    prompts = [row["prompt"] for row in data["inputs"]["rows"]]
    bench.stage("test", {}, lambda _: found.append(models.embedder(minilm, bench).embed(prompts)))
    vectors, expected = found[0], data["expected"]
    close = data["tolerance"]["suggested_abs_cosine"]
    np.testing.assert_allclose(vectors @ vectors.T, expected["cosine_matrix"], atol=close, rtol=0)
    near = nearest_other(vectors, 5)
    assert near.row.tolist() == [row["neighbour"] for row in expected["rows"]]
    np.testing.assert_allclose(near.cosine, [row["cosine_with_neighbour"] for row in expected["rows"]], atol=close)


def test_published_losses(data: dict[str, Any], smollm2: LM, models: LoadedModels) -> None:
    """Of the real language model; row 11 is shown a copy of itself, row 4 is hindered."""
    chosen = (4, 11)
    rows, expected = ([data[part]["rows"][row] for row in chosen] for part in ("inputs", "expected"))
    alone = [Pair(tuple(row["context_ids"]), tuple(row["response_ids"])) for row in rows]
    shown = [
        Pair((*want["demonstration_ids"], *pair.context), pair.response)
        for pair, want in zip(alone, expected, strict=True)
    ]
    losses, _ = with_scorer(models, smollm2, lambda scorer: scorer.response_nll([*alone, *shown]))
    zero, one = losses.mean[: len(rows)], losses.mean[len(rows) :]
    close = data["tolerance"]["suggested_abs_loss"]
    np.testing.assert_allclose(zero, [want["L0"] for want in expected], atol=close)
    np.testing.assert_allclose(one, [want["L1"] for want in expected], atol=close)
    np.testing.assert_allclose(miwv(one, zero), [want["miwv"] for want in expected], atol=2 * close)
    assert miwv(one, zero)[1] < -1
    assert miwv(one, zero)[0] > 0
