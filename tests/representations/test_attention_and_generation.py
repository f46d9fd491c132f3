"""Attention rows and greedy answers: padding, batching and architecture don't move them."""

import copy
import dataclasses
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from scoring import with_scorer

from dwbench.data.base import Task
from dwbench.models.flop import Shape
from dwbench.models.loading import load_model
from dwbench.models.spec import LM
from dwbench.representations import generation
from dwbench.representations.attention import AttentionProbe, RowsAndColumns, part_masses
from dwbench.representations.generation import SETTLING, greedy
from dwbench.selectors.icl import is_complete, with_opening
from dwbench.selectors.models import LoadedModels

WANTED = [
    RowsAndColumns(23, ((15, 23),), ((2, 9), (9, 15))),
    RowsAndColumns(61, ((40, 44), (50, 61)), ((0, 10), (10, 11), (30, 40))),
    RowsAndColumns(40, ((39, 40),), ((5, 20), (20, 30))),
]


def prompts() -> list[list[int]]:
    generator = np.random.default_rng(3)
    return [generator.integers(100, 8_000, want.length).tolist() for want in WANTED]


WINDOW = 16
"""Tokens of a sliding window: fewer than all prompts have."""

SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "initializer_range": 0.2,
}


def qwen2(vocab_size: int) -> Any:
    from transformers import Qwen2Config, Qwen2ForCausalLM

    sizes = {**SIZES, "num_hidden_layers": 3, "num_key_value_heads": 1}
    return Qwen2ForCausalLM(Qwen2Config(**sizes, vocab_size=vocab_size))


def mistral(vocab_size: int) -> Any:
    from transformers import MistralConfig, MistralForCausalLM

    return MistralForCausalLM(MistralConfig(**SIZES, vocab_size=vocab_size, sliding_window=WINDOW))


def gemma3(vocab_size: int) -> Any:
    """One layer with a sliding window, one without."""
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    layers = ["sliding_attention", "full_attention"]
    config = Gemma3TextConfig(**SIZES, vocab_size=vocab_size, head_dim=8, sliding_window=WINDOW, layer_types=layers)
    return Gemma3ForCausalLM(config)


@pytest.fixture(params=[None, qwen2, mistral, gemma3], ids=["llama", "qwen2", "mistral", "gemma3"])
def model(request: pytest.FixtureRequest, tiny_lm: LM) -> Any:
    import torch

    llama = load_model(tiny_lm)
    make: Callable[[int], Any] | None = request.param
    if make is None:
        return llama
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        made = make(llama.config.vocab_size)
    made.set_attn_implementation("sdpa")
    return made.eval()


def eager_masses(model: Any, ids: list[int], layer: int, want: RowsAndColumns) -> list[float]:
    """From the full map of one unpadded prompt."""
    import torch

    eager = copy.deepcopy(model)
    eager.set_attn_implementation("eager")
    with torch.inference_mode():
        maps = eager(input_ids=torch.tensor([ids]), output_attentions=True).attentions[layer][0]
    rows = [row for start, end in want.rows for row in range(start, end)]
    return [float(maps[:, rows, start:end].double().sum()) for start, end in want.columns]


@pytest.mark.parametrize("layer", [0, 1])
def test_rows_equal_the_full_map(layer: int, model: Any, tiny_lm: LM, models: LoadedModels) -> None:
    """In a left-padded batch, by the prefill of a generation."""
    given = prompts()
    expected = [eager_masses(model, ids, layer, want) for ids, want in zip(given, WANTED, strict=True)]
    chat = models.chat(tiny_lm)
    for members in ([0, 1, 2], [1], [2, 0]):
        probe = AttentionProbe(layer, [WANTED[n] for n in members])
        with probe.on(model):
            greedy(model, chat, [given[n] for n in members], 3)
        assert model.config._attn_implementation == "sdpa"
        assert len(probe.mass) == len(members)
        for n, mass in zip(members, probe.mass, strict=True):
            np.testing.assert_allclose(mass, expected[n], rtol=1e-5, atol=1e-5)


def test_attention_is_restored_after_an_error(model: Any) -> None:
    with pytest.raises(RuntimeError, match="stop"), AttentionProbe(0).on(model):
        raise RuntimeError("stop")
    assert model.config._attn_implementation == "sdpa"


def test_masses_computed_by_hand() -> None:
    """One head, six tokens, two demonstrations in columns 1 to 2 and 3, query rows 4 and 5 (spec 1.9)."""
    import torch

    rows = torch.zeros(6, 6)
    rows[4] = torch.tensor([0.1, 0.2, 0.2, 0.3, 0.2, 0.0])
    rows[5] = torch.tensor([0.1, 0.1, 0.1, 0.2, 0.2, 0.3])
    # Keys whose product with the one-hot queries is the logarithm of the wanted row.
    key = torch.log(rows.clamp_min(1e-30)).T[None]
    want = RowsAndColumns(6, ((4, 6),), ((1, 3), (3, 4)))
    np.testing.assert_allclose(part_masses(torch.eye(6)[None], key, None, 1.0, want), [0.6, 0.5], rtol=1e-6)


def test_answers_do_not_depend_on_the_batch(model: Any, tiny_lm: LM, models: LoadedModels) -> None:
    given, chat = prompts(), models.chat(tiny_lm)
    together = greedy(model, chat, given, 12)
    alone = [greedy(model, chat, [ids], 12)[0] for ids in given]
    assert together == alone
    assert {answer.n_tokens for answer in together} == {12}
    assert not any(answer.finished for answer in together)


def test_a_row_stops_when_it_is_complete(tiny_lm: LM, models: LoadedModels, monkeypatch: pytest.MonkeyPatch) -> None:
    """And is not charged for the tokens that others still decode, nor for passing on what was decoded last."""
    given = prompts()
    answers, cost = with_scorer(models, tiny_lm, lambda scorer: scorer.answers(given, 12).answers)
    shape = Shape.of(load_model(tiny_lm))
    assert cost.generated_tokens == 36
    assert cost.forward_tokens == 33 + sum(want.length for want in WANTED)
    assert cost.flop == pytest.approx(
        sum(shape.forward([want.length], 1) + shape.decode(want.length, 11) for want in WANTED)
    )
    n = len(answers[1].text) // 2
    stop = answers[1].text[:n]
    monkeypatch.setattr(generation, "SETTLING", stop[-1])
    stopped, cost = with_scorer(
        models, tiny_lm, lambda scorer: scorer.answers(given, 12, lambda text: text.startswith(stop)).answers
    )
    assert stopped[0] == answers[0]
    assert stopped[2] == answers[2]
    assert stopped[1].finished
    assert stopped[1].text.startswith(stop)
    assert answers[1].text.startswith(stopped[1].text)
    assert stopped[1].n_tokens < 12
    assert cost.generated_tokens == 24 + stopped[1].n_tokens
    assert cost.forward_tokens == cost.generated_tokens - 3 + sum(want.length for want in WANTED)
    alone, _ = with_scorer(
        models,
        dataclasses.replace(tiny_lm, token_budget=1),
        lambda scorer: scorer.answers(given, 12, lambda text: text.startswith(stop)).answers,
    )
    assert alone == stopped


def test_completeness_is_asked_behind_settling_tokens(
    tiny_lm: LM, models: LoadedModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And once more of the whole answer."""
    model, chat, given = load_model(tiny_lm), models.chat(tiny_lm), prompts()[0]
    whole = greedy(model, chat, [given], 12)[0].text
    mark = next(char for char in whole[len(whole) // 3 :] if char.isascii() and char.isalnum())
    monkeypatch.setattr(generation, "SETTLING", mark)
    seen: list[str] = []
    assert greedy(model, chat, [given], 12, lambda text: bool(seen.append(text)))[0].text == whole
    assert seen[-1] == whole
    asked = seen[:-1]
    assert 0 < len(asked) < 12
    for before, after in pairwise(["", *asked]):
        assert mark in after[len(before) :]
    assert mark not in whole[len(asked[-1]) :]


def task(metric: str, multiline: bool) -> Task:
    return Task(
        name="towns",
        system="",
        user="{input}",
        input_label="Question",
        answer_label="Answer",
        icl_system="",
        metric=metric,  # type: ignore[arg-type]
        multiline=multiline,
        max_new_tokens=9,
    )


PIECES = (
    "\nAnswer",
    "\n- **Question",
    "\nanswer 1",
    "\nAnswer 2",
    " 2",
    ":",
    ": ",
    "**",
    "\n",
    " ",
    "42",
    "#### 7",
    "x",
)


@pytest.mark.parametrize("given", [task("rouge_l", False), task("rouge_l", True), task("exact_match", True)])
def test_answers_are_settled_by_nothing_else(given: Task) -> None:
    """Character by character of random texts: what `is_complete` says of in-context answers changes at no other."""
    generator = np.random.default_rng(0)
    changes = 0
    for _ in range(200):
        text, before = "", False
        for char in "".join(generator.choice(PIECES, 25)):
            text += char
            now = is_complete(with_opening(given, text), given, 2)
            assert now == before or char in SETTLING, repr(text)
            changes += now != before
            before = now
    assert changes > 10


def test_the_end_of_turn_ends_an_answer(model: Any, tiny_lm: LM, models: LoadedModels) -> None:
    """Also where the model's own configuration names further end tokens."""
    import torch

    given, chat = prompts()[0], models.chat(tiny_lm)
    with torch.inference_mode():
        first = int(model(input_ids=torch.tensor([given])).logits[0, -1].argmax())
    model.generation_config.eos_token_id = [first]
    ended = greedy(model, chat, [given], 6)[0]
    assert (ended.text, ended.n_tokens, ended.finished) == ("", 1, True)


def test_what_is_learnt_with_responses_ends_an_answer(tiny_lm: LM, models: LoadedModels) -> None:
    """Where the template's end of turn is neither the tokenizer's nor the model's (Gemma, Phi-3)."""
    import torch

    model, chat, given = load_model(tiny_lm), models.chat(tiny_lm), prompts()[0]
    with torch.inference_mode():
        first = int(model(input_ids=torch.tensor([given])).logits[0, -1].argmax())

    class Other(type(chat)):  # type: ignore[misc]
        end_of_turn = first

    ended = greedy(model, Other(chat.tokenizer, chat.max_length), [given], 6)[0]
    assert (ended.text, ended.n_tokens, ended.finished) == ("", 1, True)
