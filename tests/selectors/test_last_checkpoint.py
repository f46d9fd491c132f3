"""Methods that look through a tuned scorer take it as it is at the end of the tuning, not on the way."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rows import TRAINING, material

from dwbench.contract import Trial
from dwbench.models.encoder import Encoder
from dwbench.models.spec import LM
from dwbench.selectors import gradients
from dwbench.selectors.base import Selector
from dwbench.selectors.cluster_ucb import ClusterUCB
from dwbench.selectors.context import Context
from dwbench.selectors.dynamic import Dynamic, less_scores
from dwbench.selectors.dynamics import gradient_norms, response_errors, tuned_on_pool
from dwbench.selectors.el2n import EL2N
from dwbench.selectors.grand import GraNd
from dwbench.selectors.material import Checkpoint
from dwbench.selectors.models import LoadedModels
from dwbench.selectors.staff import STAFF
from dwbench.store import Bench, Store

EPOCHS = 2

Values = Callable[[Context, Checkpoint], np.ndarray]


def warmed_up(context: Context) -> Sequence[Checkpoint]:
    return gradients.warm_up(context, gradients.trainable(context), 0.5, EPOCHS)


def on_pool(context: Context) -> Sequence[Checkpoint]:
    return tuned_on_pool(context, EPOCHS)


def less(context: Context, checkpoint: Checkpoint) -> np.ndarray:
    projector = gradients.projector(context, 64, "sketch")
    score = less_scores(context, checkpoint, projector, gradients.directions(checkpoint, "textbook"), "paper")
    return score(range(context.n_rows), lambda rows: None)


def last_v(context: Context, checkpoint: Checkpoint) -> np.ndarray:
    return gradient_norms(context, "last_v", checkpoint).norm


def el2n(context: Context, checkpoint: Checkpoint) -> np.ndarray:
    return response_errors(context, checkpoint).el2n


WARM_UP: dict[str, Any] = {"warmup_share": 0.5, "epochs": EPOCHS, "dim": 64}

CASES: dict[str, tuple[Selector, Callable[[Context], Sequence[Checkpoint]], Values]] = {
    "cluster_ucb": (ClusterUCB(gradient_budget=1, **WARM_UP), warmed_up, less),
    "dynamic": (Dynamic(rounds=1, **WARM_UP), warmed_up, less),
    "staff": (STAFF(epochs=EPOCHS), on_pool, last_v),
    "grand": (GraNd(part="last_v", scorer="tuned", epochs=EPOCHS), on_pool, last_v),
    "el2n": (EL2N(scorer="tuned", epochs=EPOCHS), on_pool, el2n),
}


@pytest.mark.parametrize("name", CASES)
def test_scores_are_of_the_last_checkpoint(
    name: str, tiny_lm: LM, encoder: Encoder, models: LoadedModels, tmp_path: Path
) -> None:
    selector, tuned, values = CASES[name]
    train = dataclasses.replace(TRAINING, batch_size=4, learning_rate=1e-2)
    given, bench = dataclasses.replace(material(tiny_lm, encoder=encoder), train=train), Bench(Store(tmp_path))
    found = Trial(selector, given, models).score_in(bench, selector.needs, 4)
    trained = len(list((tmp_path / "train").iterdir()))
    seen: list[np.ndarray] = []

    def recompute(_: Path) -> None:
        context = Context(selector.needs, bench, given, models)
        seen.extend(values(context, checkpoint) for checkpoint in tuned(context))

    bench.stage("test", {}, recompute)
    assert len(list((tmp_path / "train").iterdir())) == trained, "another tuning than the selector's own"
    first, last = seen
    assert not np.allclose(first, last, rtol=1e-4, equal_nan=True)
    np.testing.assert_allclose(found.scores.values, last, rtol=1e-5)
