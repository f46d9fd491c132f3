"""Gradients on a GPU: half precision keeps the order of rows, batches change nothing, and the projection takes no
memory to speak of (spec of the gradient selectors, section 16)."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest
import torch

from dwbench.data.embedded import generate
from dwbench.models.chat import Pair
from dwbench.models.spec import LM
from dwbench.representations.adam import Adam, Directions
from dwbench.representations.gradients import Gradients
from dwbench.representations.projection import Projection, Projector
from dwbench.rules.matching import Features, direction_of_mean, matches, unit_rows
from dwbench.selectors.models import LoadedModels
from dwbench.selectors.uncertainty import correlation
from dwbench.store import Bench, Store
from dwbench.training.checkpoints import Keep, adapter_folder, moments_file
from dwbench.training.sft import LoraSFT, tune

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU"),
]

T = TypeVar("T")

ROWS, TARGET = 48, 8

TRAIN = LoraSFT(epochs=1, batch_size=4, learning_rate=1e-4, warmup_ratio=0.0, activation_checkpointing=False)


@dataclasses.dataclass(frozen=True)
class Tuned:
    """Where an adapter and its moments lie, tuned in float32 on rows that are not among `pairs`."""

    bench: Bench
    lm: LM
    folder: Path
    step: int
    pairs: list[Pair]

    def with_engine(self, lm: LM, work: Callable[[Gradients], T]) -> T:
        """`work` done inside a stage with the adapter on a model of this precision and batch size."""
        models, found = LoadedModels(), list[T]()
        name = {"dtype": lm.dtype, "token_budget": lm.token_budget, "work": work.__name__}

        def build(_: Path) -> None:
            found.append(work(models.gradients(lm, self.bench, adapter_folder(self.folder, 1))))

        self.bench.stage("test", name, build)
        models.release()
        return found[0]

    def less(self, engine: Gradients) -> np.ndarray:
        """LESS's score of the rows behind the first `TARGET`, which are the target set."""
        projector = Projector(Projection())
        steps = Directions(Adam(moments_file(self.folder, 1), self.step, "textbook"))
        target = Features(engine.features(self.pairs[:TARGET], projector), projector.name)
        pool = Features(unit_rows(engine.features(self.pairs[TARGET:], projector, steps)), projector.name)
        return matches(pool, direction_of_mean(target, np.zeros(TARGET, dtype=np.int64)))[:, 0]

    def grand(self, engine: Gradients) -> np.ndarray:
        return engine.norms(self.pairs, "lora_all")


@pytest.fixture(scope="module")
def tuned(smollm2: LM, tmp_path_factory: pytest.TempPathFactory) -> Tuned:
    lm = dataclasses.replace(smollm2, device="cuda", dtype="float32")
    chat = LoadedModels().chat(lm)
    rows = generate(ROWS + TARGET + 16, seed=0)
    pairs = [
        Pair(chat.ids(chat.text([("user", row["input"])])), (*chat.ids(row["response"]), chat.end_of_turn))
        for row in rows
    ]
    bench = Bench(Store(tmp_path_factory.mktemp("store")))
    keep = Keep(1, moments=True)
    stage = bench.stage("train", {}, lambda folder: tune(bench, lm, pairs[-16:], TRAIN, 0, folder, keep))
    step = stage.json("training.json")["checkpoints"][0]["step"]
    return Tuned(bench, lm, stage.folder, step, pairs[:-16])


@pytest.mark.parametrize("method", ["less", "grand"])
def test_half_precision_keeps_the_order(method: str, tuned: Tuned) -> None:
    exact, half = (
        tuned.with_engine(dataclasses.replace(tuned.lm, dtype=dtype), getattr(tuned, method))
        for dtype in ("float32", "bfloat16")
    )
    assert correlation(exact, half, ranked=True) >= 0.98


def test_batches_change_nothing(tuned: Tuned) -> None:
    alone, together = (
        tuned.with_engine(dataclasses.replace(tuned.lm, token_budget=budget), tuned.grand) for budget in (1, 16_384)
    )
    np.testing.assert_allclose(together, alone, rtol=1e-4)


def test_peak_memory_of_a_projection(tuned: Tuned) -> None:
    """TRAK's projection without a kernel of its own holds 128 columns for all parameters at a time: 0.6 GB here."""
    peaks = {}

    def without(engine: Gradients) -> None:
        torch.cuda.reset_peak_memory_stats()
        engine.norms(tuned.pairs, "lora_all")
        peaks["without"] = torch.cuda.max_memory_allocated()

    def sketched(engine: Gradients) -> None:
        torch.cuda.reset_peak_memory_stats()
        engine.features(tuned.pairs, Projector(Projection()))
        peaks["sketched"] = torch.cuda.max_memory_allocated()

    for work in (without, sketched):
        tuned.with_engine(tuned.lm, work)
    assert peaks["sketched"] - peaks["without"] < 200 * 2**20
