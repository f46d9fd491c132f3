"""What a tuning keeps of its course: checkpoints within epochs, Adam's moments, and going on from one."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dwbench.errors import UserError
from dwbench.models.chat import Pair
from dwbench.models.loading import load_model
from dwbench.models.spec import LM
from dwbench.store import Artefact, Bench, Store
from dwbench.training.checkpoints import Keep, _steps_taken, adapter_folder, moments_file
from dwbench.training.sft import LoraSFT, tune, untuned

CONFIG = LoraSFT(r=2, epochs=2, batch_size=2, learning_rate=1e-2, scheduler="linear", warmup_ratio=0.0)
PAIRS = [Pair(tuple(range(100 + n, 112 + n)), (300 + n, 301, 302 + n)) for n in range(6)]

Train = Callable[..., Artefact]


def weights(file: Path) -> dict[str, np.ndarray]:
    from safetensors.numpy import load_file

    return load_file(file)


@pytest.fixture
def train(tiny_lm: LM, tmp_path: Path) -> Train:
    bench = Bench(Store(tmp_path))

    def run(name: str, keep: Keep | None, config: LoraSFT = CONFIG) -> Artefact:
        return bench.stage("train", {"name": name}, lambda folder: tune(bench, tiny_lm, PAIRS, config, 0, folder, keep))

    return run


@pytest.mark.parametrize(
    ("keep", "steps_an_epoch", "expected"),
    [
        (Keep(2), 3, [3, 6]),
        (Keep(1, per_epoch=2), 4, [2, 4]),
        (Keep(2, per_epoch=2), 3, [2, 3, 5, 6]),
        (Keep(2, per_epoch=5), 2, [1, 2, 3, 4]),  # no more checkpoints than steps
        (Keep(1, per_epoch=3), 10, [4, 7, 10]),
    ],
)
def test_checkpoints_lie_at_even_distances(keep: Keep, steps_an_epoch: int, expected: list[int]) -> None:
    assert keep.steps(steps_an_epoch) == expected


def test_checkpoints_know_their_steps_and_rates(train: Train) -> None:
    found = train("parts", Keep(2, per_epoch=3))
    made = found.json("training.json")["checkpoints"]
    assert [one["step"] for one in made] == [1, 2, 3, 4, 5, 6]
    # Linear from 1e-2 to 0 in 6 steps, without warm-up.
    np.testing.assert_allclose([one["rate"] for one in made], [1e-2 * (6 - step) / 6 for step in range(6)])
    whole = train("epochs", Keep(2)).json("training.json")["checkpoints"]
    np.testing.assert_allclose(
        [one["rate"] for one in whole], [np.mean([6, 5, 4]) * 1e-2 / 6, np.mean([3, 2, 1]) * 1e-2 / 6]
    )
    last = weights(adapter_folder(found.folder, 6) / "adapter_model.safetensors")
    plain = weights(adapter_folder(train("plain", None).folder) / "adapter_model.safetensors")
    assert all((last[name] == plain[name]).all() for name in plain)
    assert not list(found.folder.glob("moments*"))


def test_moments_are_adams_by_parameter_name(train: Train, tiny_lm: LM) -> None:
    """One step from zero: exp_avg = 0.1 g and exp_avg_sq = 0.001 g^2, so the one follows from the other."""
    one_step = LoraSFT(r=2, epochs=1, batch_size=6, learning_rate=1e-2, warmup_ratio=0.0, max_grad_norm=0.0)
    found = train("one step", Keep(1, moments=True), one_step)
    moments = weights(moments_file(found.folder, 1))
    names = {name.removesuffix(".exp_avg") for name in moments if name.endswith(".exp_avg")}
    model = load_model(tiny_lm, adapter_folder(found.folder, 1), merge=False)
    assert names == {name for name, _ in model.named_parameters() if "lora_" in name}
    for name in names:
        first, second = moments[f"{name}.exp_avg"], moments[f"{name}.exp_avg_sq"]
        np.testing.assert_allclose(second, 0.001 * (first / 0.1) ** 2, rtol=1e-4, atol=1e-12)
    assert max(np.abs(moments[f"{name}.exp_avg"]).max() for name in names if "lora_B" in name) > 0
    assert all((moments[f"{name}.exp_avg"] == 0).all() for name in names if "lora_A" in name)  # B = 0 before step 1


def test_steps_that_are_skipped_are_not_adams() -> None:
    """In float16 a step whose gradients overflow is skipped; Adam's correction of its bias goes by those it took."""
    import torch

    weights = [torch.nn.Parameter(torch.ones(2)) for _ in range(2)]
    optimizer = torch.optim.AdamW(weights)
    with pytest.raises(UserError, match="all 3 optimizer steps so far overflow in float16"):
        _steps_taken(optimizer, 3)
    for _ in range(2):
        weights[0].grad = torch.ones(2)
        optimizer.step()
    assert _steps_taken(optimizer, 5) == 2


def test_training_goes_on_from_an_adapter(train: Train, tmp_path: Path) -> None:
    still = LoraSFT(r=2, epochs=1, batch_size=2, learning_rate=1e-12, warmup_ratio=0.0)
    first = train("first", Keep(1))
    start = adapter_folder(first.folder, 1)
    gone_on = train("still", Keep(1, start=start), still)
    before = weights(start / "adapter_model.safetensors")
    after = weights(adapter_folder(gone_on.folder, 1) / "adapter_model.safetensors")
    for name in before:
        np.testing.assert_allclose(after[name], before[name], atol=1e-8)
    fresh = weights(adapter_folder(train("fresh", Keep(1), still).folder, 1) / "adapter_model.safetensors")
    assert any(np.abs(fresh[name] - before[name]).max() > 1e-4 for name in before)


def test_an_adapter_of_another_rank_is_refused(train: Train) -> None:
    start = adapter_folder(train("first", Keep(1)).folder, 1)
    with pytest.raises(RuntimeError, match=r"size mismatch|another shape"):
        train("other", Keep(1, start=start), LoraSFT(r=4, epochs=1, batch_size=2, warmup_ratio=0.0))


def test_an_untuned_adapter_changes_nothing_and_is_drawn_by_the_seed(tiny_lm: LM, tmp_path: Path) -> None:
    bench = Bench(Store(tmp_path))

    def made(name: str, seed: int) -> dict[str, np.ndarray]:
        stage = bench.stage("train", {"n": name}, lambda folder: untuned(bench, tiny_lm, CONFIG, seed, folder))
        return weights(adapter_folder(stage.folder) / "adapter_model.safetensors")

    one, same, other = made("a", 0), made("b", 0), made("c", 1)
    assert all((one[name] == same[name]).all() for name in one)
    for name in one:
        if "lora_B" in name:
            assert (one[name] == 0).all()
        else:
            assert (one[name] != other[name]).any()
