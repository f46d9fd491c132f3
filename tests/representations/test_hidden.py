"""Means of hidden states in which later tokens weigh more: by hand, against transformers, in any batching."""

import dataclasses
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scoring import with_scorer

from dwbench.models.flop import Shape
from dwbench.models.loading import load_model
from dwbench.models.spec import LM
from dwbench.representations.hidden import batch_mean_hidden, batch_weighted_hidden
from dwbench.selectors.models import LoadedModels

SEQUENCES = [tuple(range(3, 3 + n)) for n in (5, 80, 1, 30)]


class Given:
    """A model whose last hidden states are given, [sequences, tokens, size]."""

    device = "cpu"

    def __init__(self, hidden: list[list[list[float]]]) -> None:
        self._hidden = hidden

    def get_decoder(self) -> Any:
        import torch

        return lambda **_: SimpleNamespace(last_hidden_state=torch.tensor(self._hidden))


def test_by_hand() -> None:
    """Spec 13; what stands in the padding does not count."""
    model = Given([[[1, 0], [0, 1], [9, 9]], [[1, 0], [0, 1], [0, 1]]])
    found = batch_weighted_hidden(model, [(7, 7), (7, 7, 7)])
    np.testing.assert_allclose(found, [[1 / 3, 2 / 3], [1 / 6, 5 / 6]], rtol=1e-6)
    assert found.dtype == np.float32
    np.testing.assert_allclose(batch_mean_hidden(model, [(7, 7), (7, 7, 7)]), [[1 / 2, 1 / 2], [1 / 3, 2 / 3]])


def test_in_any_batching_and_its_cost(tiny_lm: LM, models: LoadedModels) -> None:
    import torch

    model = load_model(tiny_lm)
    expected = []
    with torch.inference_mode():
        for sequence in SEQUENCES:
            states = model(input_ids=torch.tensor([sequence]), output_hidden_states=True).hidden_states[-1][0]
            weights = torch.arange(1, len(sequence) + 1, dtype=torch.float64)
            expected.append(((states.double() * weights[:, None]).sum(dim=0) / weights.sum()).numpy())
    shape = Shape.of(model)
    for token_budget in (1, 100, 100_000):
        lm = dataclasses.replace(tiny_lm, token_budget=token_budget)
        found, cost = with_scorer(models, lm, lambda scorer: scorer.weighted_hidden(SEQUENCES))
        np.testing.assert_allclose(found, expected, atol=1e-5, rtol=0)
        assert cost.forward_tokens == 116
        assert cost.flop == pytest.approx(shape.forward([5, 80, 1, 30], 0))
    none, _ = with_scorer(models, tiny_lm, lambda scorer: scorer.weighted_hidden([]))
    assert none.shape == (0, shape.hidden)
