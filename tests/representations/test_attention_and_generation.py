"""Attention rows and greedy answers: padding, batching and architecture don't move them."""

import copy
import dataclasses
from typing import Any

import numpy as np
import pytest
from scoring import with_scorer

from dwbench.models.spec import LM
from dwbench.representations.attention import AttentionProbe, RowsAndColumns, part_masses
from dwbench.representations.generation import greedy
from dwbench.representations.models import LoadedModels

WANTED = [
    RowsAndColumns(23, ((15, 23),), ((2, 9), (9, 15))),
    RowsAndColumns(61, ((40, 44), (50, 61)), ((0, 10), (10, 11), (30, 40))),
    RowsAndColumns(40, ((39, 40),), ((5, 20), (20, 30))),
]


def prompts() -> list[list[int]]:
    generator = np.random.default_rng(3)
    return [generator.integers(100, 40_000, want.length).tolist() for want in WANTED]


@pytest.fixture(params=["llama", "qwen2"])
def model(request: pytest.FixtureRequest, tiny_lm: LM) -> Any:
    import torch
    from transformers import AutoModelForCausalLM, Qwen2Config, Qwen2ForCausalLM

    llama = AutoModelForCausalLM.from_pretrained(tiny_lm.source, dtype=torch.float32, attn_implementation="sdpa")
    if request.param == "llama":
        return llama.eval()
    config = Qwen2Config(
        vocab_size=llama.config.vocab_size,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=1,
        initializer_range=0.2,
        attn_implementation="sdpa",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return Qwen2ForCausalLM(config).eval()


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
    tokenizer = models.chat(tiny_lm).tokenizer
    for members in ([0, 1, 2], [1], [2, 0]):
        probe = AttentionProbe(layer, [WANTED[n] for n in members])
        with probe.on(model):
            greedy(model, tokenizer, [given[n] for n in members], 3, lambda text: False)
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
    given, tokenizer = prompts(), models.chat(tiny_lm).tokenizer
    together = greedy(model, tokenizer, given, 12, lambda text: False)
    alone = [greedy(model, tokenizer, [ids], 12, lambda text: False)[0] for ids in given]
    assert together == alone
    assert {answer.n_tokens for answer in together} == {12}
    assert not any(answer.finished for answer in together)


def test_a_row_stops_when_it_is_complete(tiny_lm: LM, models: LoadedModels) -> None:
    """And is not charged for the tokens that others still decode."""
    given = prompts()
    answers, cost = with_scorer(models, tiny_lm, lambda scorer: scorer.answers(given, 12).answers)
    assert cost.generated_tokens == 36
    assert cost.forward_tokens == 36 + sum(want.length for want in WANTED)
    n = len(answers[1].text) // 2
    stop = answers[1].text[:n]
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
    alone, _ = with_scorer(
        models,
        dataclasses.replace(tiny_lm, token_budget=1),
        lambda scorer: scorer.answers(given, 12, lambda text: text.startswith(stop)).answers,
    )
    assert alone == stopped


def test_the_end_of_turn_ends_an_answer(model: Any, tiny_lm: LM, models: LoadedModels) -> None:
    """Also where the model's own configuration names further end tokens."""
    given, tokenizer = prompts()[0], models.chat(tiny_lm).tokenizer
    seen: list[str] = []
    greedy(model, tokenizer, [given], 6, lambda text: bool(seen.append(text)))
    whole = greedy(model, tokenizer, [given], 6, lambda text: False)[0]
    import torch

    with torch.inference_mode():
        first = int(model(input_ids=torch.tensor([given])).logits[0, -1].argmax())
    model.generation_config.eos_token_id = [first]
    ended = greedy(model, tokenizer, [given], 6, lambda text: False)[0]
    assert (ended.text, ended.n_tokens, ended.finished) == ("", 1, True)
    assert whole.text.startswith(seen[0])
    assert len(seen) >= 6
