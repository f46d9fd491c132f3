"""Norms and cosines of a real model's gradients against independently computed ones."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gradient_models import with_gradients
from scoring import golden

from dwbench.models.chat import Pair
from dwbench.models.loading import load_model
from dwbench.models.spec import LM
from dwbench.representations.per_sample import backward, wanted


@pytest.fixture(scope="module")
def model(smollm2: LM) -> Any:
    return load_model(smollm2)


def pairs_of(case: dict[str, Any]) -> list[Pair]:
    return [Pair(tuple(row["context_ids"]), tuple(row["response_ids_with_eos"])) for row in case["inputs"]["rows"]]


@pytest.mark.parametrize(("part", "field", "n"), [("lm_head", "grand_lm_head", 10), ("last_v", "grand_v_proj_29", 3)])
def test_norms(part: Any, field: str, n: int, shared: Path, model: Any) -> None:
    """Norms of the value projection are compared for all rows below."""
    case = golden(shared, "el2n_grand/case_main")
    found, _ = with_gradients(model, lambda engine: engine.norms(pairs_of(case)[:n], part))
    expected = [row[field] for row in case["expected"]["rows"][:n]]
    np.testing.assert_allclose(found, expected, rtol=case["tolerance"]["suggested_rel_norms"])


def test_cosines(shared: Path, model: Any) -> None:
    case = golden(shared, "less_cosine/case_main")
    layers = wanted(model.requires_grad_(False), "last_v")
    rows: list[np.ndarray] = []
    for pair in pairs_of(case):
        backward(model, [pair], layers, lambda name, factors: rows.append(factors.gradients()[0].double().numpy()))
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    np.testing.assert_allclose(norms[:, 0], case["expected"]["gradient_norm"], rtol=2e-4)
    unit = np.stack(rows) / norms
    tolerance = case["tolerance"]["suggested_abs_cosine"]
    np.testing.assert_allclose(unit @ unit.T, case["expected"]["cosine"], rtol=0, atol=tolerance)
