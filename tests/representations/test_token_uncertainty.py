"""Entropy, margin and log-probability of steps: by hand, against full distributions, and the real model's."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scoring import golden, with_scorer

from dwbench.models.chat import Pair
from dwbench.models.loading import load_model
from dwbench.models.spec import LM
from dwbench.representations.token_nll import float32_head
from dwbench.representations.uncertainty import Steps, given_steps, greedy_steps, step_values
from dwbench.selectors.models import LoadedModels


def prompts() -> list[tuple[int, ...]]:
    generator = np.random.default_rng(5)
    return [tuple(generator.integers(100, 8_000, n).tolist()) for n in (23, 61, 40, 5)]


def all_of(steps: Steps) -> np.ndarray:
    return np.array([steps.entropy, steps.margin, steps.logp])


def test_steps_computed_by_hand() -> None:
    """Spec 8: (.5, .3, .2) and (.9, .05, .05), and a token that is not the likeliest."""
    import torch

    logits = torch.tensor([[0.5, 0.3, 0.2], [0.9, 0.05, 0.05]]).log() + torch.tensor([[7.0], [-300.0]])
    entropy, margin, logp = step_values(logits).numpy()
    np.testing.assert_allclose(entropy, [1.0297, 0.3944], atol=5e-5)
    np.testing.assert_allclose(margin, [0.2, 0.85], rtol=1e-4)
    np.testing.assert_allclose(logp, np.log([0.5, 0.9]), rtol=1e-4)
    np.testing.assert_allclose(step_values(logits, torch.tensor([2, 1]))[2], np.log([0.2, 0.05]), rtol=1e-4)


def test_float32_is_enough_for_a_large_vocabulary() -> None:
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        logits = torch.randn(100, 50_000) * torch.linspace(0.1, 8, 100)[:, None] + 20
    taken = logits.argmin(dim=1)
    p = torch.softmax(logits.double(), dim=1)
    best = p.topk(2).values
    exact = [-(p * p.log()).sum(1), best[:, 0] - best[:, 1], p.gather(1, taken[:, None])[:, 0].log()]
    np.testing.assert_allclose(step_values(logits, taken), torch.stack(exact), atol=2e-5, rtol=1e-6)


def test_greedy_steps_are_those_of_the_answer_teacher_forced(tiny_lm: LM, models: LoadedModels) -> None:
    """Decoding with a cache in a left-padded batch, and one right-padded pass over prompt and answer."""
    model, chat = load_model(tiny_lm), models.chat(tiny_lm)
    found = greedy_steps(model, chat, prompts(), 12)
    pairs = [Pair(prompt, tuple(answer_ids(model, prompt, 12))) for prompt in prompts()]
    for decoded, given in zip(found, given_steps(model, chat, pairs), strict=True):
        np.testing.assert_allclose(all_of(decoded), all_of(given), atol=1e-5)
        assert decoded.logp.shape == (12,)
        assert not decoded.ended
    alone = [greedy_steps(model, chat, [prompt], 12)[0] for prompt in prompts()]
    for batched, single in zip(found, alone, strict=True):
        np.testing.assert_allclose(all_of(batched), all_of(single), atol=1e-5)


def answer_ids(model: Any, prompt: tuple[int, ...], n: int) -> list[int]:
    """The likeliest next token again and again, without a cache."""
    import torch

    ids = list(prompt)
    with torch.inference_mode():
        for _ in range(n):
            ids.append(int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
    return ids[len(prompt) :]


def test_an_answer_ends_with_its_end_of_turn_step(tiny_lm: LM, models: LoadedModels) -> None:
    """Also while other rows of the batch decode on."""
    model, chat = load_model(tiny_lm), models.chat(tiny_lm)
    whole = greedy_steps(model, chat, prompts(), 8)
    ids = [answer_ids(model, prompt, 8) for prompt in prompts()]
    end = next(token for token in ids[1][2:] if not any(token in other for other in (ids[0], ids[2], ids[3])))
    model.generation_config.eos_token_id = [end]
    found = greedy_steps(model, chat, prompts(), 8)
    n = ids[1].index(end) + 1
    assert [steps.ended for steps in found] == [False, True, False, False]
    assert [steps.logp.size for steps in found] == [8, n, 8, 8]
    np.testing.assert_allclose(all_of(found[1]), all_of(whole[1])[:, :n], atol=1e-6)
    np.testing.assert_allclose(all_of(found[3]), all_of(whole[3]), atol=1e-6)


def test_a_given_response_scores_its_loss(tiny_lm: LM, models: LoadedModels) -> None:
    end = models.chat(tiny_lm).end_of_turn
    pairs = [Pair(prompt, (*prompt[:3], *([end] if number % 2 else []))) for number, prompt in enumerate(prompts())]
    steps, cost = with_scorer(models, tiny_lm, lambda scorer: scorer.response_uncertainty(pairs))
    losses, loss_cost = with_scorer(models, tiny_lm, lambda scorer: scorer.token_nll(pairs))
    for one, loss in zip(steps, losses, strict=True):
        np.testing.assert_allclose(-one.logp, loss, atol=1e-5)
    assert [one.ended for one in steps] == [False, True, False, True]
    assert (cost.flop, cost.forward_tokens, cost.forward_calls) == (
        loss_cost.flop,
        loss_cost.forward_tokens,
        loss_cost.forward_calls,
    )
    assert cost.generated_tokens == 0


def test_batches_and_cost_of_decoding(tiny_lm: LM, models: LoadedModels) -> None:
    given = prompts()
    found, cost = with_scorer(models, tiny_lm, lambda scorer: scorer.greedy_uncertainty(given, 6))
    one_by_one = dataclasses.replace(tiny_lm, token_budget=1)
    alone, alone_cost = with_scorer(models, one_by_one, lambda scorer: scorer.greedy_uncertainty(given, 6))
    _, answers_cost = with_scorer(models, tiny_lm, lambda scorer: scorer.answers(given, 6))
    for batched, single in zip(found, alone, strict=True):
        np.testing.assert_allclose(all_of(batched), all_of(single), atol=1e-5)
    assert cost.generated_tokens == 24
    assert cost.forward_tokens == 20 + sum(len(prompt) for prompt in given)
    assert cost.flop == pytest.approx(alone_cost.flop) == pytest.approx(answers_cost.flop)
    assert with_scorer(models, tiny_lm, lambda scorer: scorer.greedy_uncertainty([], 6))[0] == []


def test_the_head_runs_in_float32_in_a_half_precision_model(tiny_lm: LM, models: LoadedModels) -> None:
    """bfloat16 logits have 8 bits: the two best ones would be equal again and again."""
    import torch

    model, chat = load_model(dataclasses.replace(tiny_lm, dtype="bfloat16")), models.chat(tiny_lm)
    ids = torch.tensor([prompts()[1]])
    with torch.inference_mode():
        with float32_head(model):
            exact = model(input_ids=ids).logits
        rounded = model(input_ids=ids).logits
    assert exact.dtype == torch.float32
    assert rounded.dtype == torch.bfloat16  # as it was before
    torch.testing.assert_close(exact.bfloat16(), rounded, rtol=0.02, atol=0.02)
    assert (exact.bfloat16().float() != exact).any()
    margins = np.concatenate([steps.margin for steps in greedy_steps(model, chat, prompts(), 40)])
    assert margins.min() > 0
    model.lm_head = torch.nn.Linear(32, 50, dtype=torch.bfloat16)
    hidden = torch.randn(4, 32, dtype=torch.bfloat16)
    with torch.inference_mode(), float32_head(model):
        expected = hidden.float() @ model.lm_head.weight.float().T + model.lm_head.bias.float()
        torch.testing.assert_close(model.lm_head(hidden), expected)


@pytest.mark.parametrize("case", ["main", "eos"])
def test_published_formula_with_the_real_model(case: str, shared: Path, smollm2: LM, models: LoadedModels) -> None:
    """Teacher-forced on the golden answers, and decoded for rows whose best tokens are far enough apart."""
    data = golden(shared, f"uncertainty/case_{case}")
    rows = list(zip(data["inputs"]["rows"], data["expected"]["rows"], strict=True))
    tolerance = data["tolerance"]["suggested_abs_per_step"]
    pairs = [Pair(tuple(given["prompt_ids"]), tuple(want["generated_ids"])) for given, want in rows]
    found, _ = with_scorer(models, smollm2, lambda scorer: scorer.response_uncertainty(pairs))
    for steps, (_, want) in zip(found, rows, strict=True):
        check(steps, want, tolerance)
    firm = [(given, want) for given, want in rows if want["smallest_top1_top2_logit_gap"] > 2e-2]
    firm = sorted(firm, key=lambda row: len(row[0]["prompt_ids"]))[:2]
    cap = data["parameters"]["max_new_tokens"]
    decoded, _ = with_scorer(
        models, smollm2, lambda scorer: scorer.greedy_uncertainty([given["prompt_ids"] for given, _ in firm], cap)
    )
    for steps, (_, want) in zip(decoded, firm, strict=True):
        check(steps, want, tolerance)


def check(steps: Steps, want: dict[str, Any], tolerance: float) -> None:
    np.testing.assert_allclose(steps.entropy, want["entropy_per_step"], atol=tolerance, rtol=0)
    np.testing.assert_allclose(steps.margin, want["margin_per_step"], atol=tolerance, rtol=0)
    np.testing.assert_allclose(steps.logp, want["logp_per_step"], atol=tolerance, rtol=0)
    assert steps.ended == want["ended_with_eos"]
    assert steps.logp.size == want["T"]
