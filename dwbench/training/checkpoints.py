"""What a tuning leaves: adapters, and where a selector computes with its course, checkpoints with Adam's moments."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dwbench.errors import UserError
from dwbench.models.spec import LM
from dwbench.store import write_json


@dataclass(frozen=True)
class Keep:
    """Which checkpoints a tuning keeps.

    Attributes:
        epochs: training ends after so many.
        per_epoch: checkpoints in each epoch, at even distances; the last one is at its end.
        moments: keep Adam's moments too (twice the adapter's size).
        start: folder of an adapter to go on from, with a fresh optimizer and schedule.
    """

    epochs: int
    per_epoch: int = 1
    moments: bool = False
    start: Path | None = None

    def steps(self, steps_an_epoch: int) -> list[int]:
        """The optimizer steps behind which a checkpoint is kept, from 1, rising. Where an epoch has fewer steps than
        `per_epoch`, as many as there are."""
        within = {-(-part * steps_an_epoch // self.per_epoch) for part in range(1, self.per_epoch + 1)}
        return [epoch * steps_an_epoch + step for epoch in range(self.epochs) for step in sorted(within)]


def adapter_folder(folder: Path, number: int | None = None) -> Path:
    """Where a tuning leaves its adapter in the stage's folder: the last one, or that of a checkpoint, from 1."""
    return folder / ("adapter" if number is None else f"adapter-{number}")


def moments_file(folder: Path, number: int) -> Path:
    """Where a tuning leaves Adam's moments at a checkpoint: `PARAMETER.exp_avg` and `PARAMETER.exp_avg_sq`, float32."""
    return folder / f"moments-{number}.safetensors"


def keep_checkpoints(trainer: Any, keep: Keep, steps_an_epoch: int, lm: LM, folder: Path) -> list[dict[str, float]]:
    """Let `trainer` write its checkpoints into `folder` and end at the last of them.

    Returns a list that fills while it trains: `step` (how many Adam has taken) and `rate` (mean learning rate since the
    one before) of each. Raises UserError, as it trains, where Adam has taken no step by the first of them.
    """
    from transformers import TrainerCallback

    at = keep.steps(steps_an_epoch)
    made: list[dict[str, float]] = []
    rates: list[float] = []

    class Keeping(TrainerCallback):
        # The signatures are transformers'.
        def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            rates.append(float(trainer.optimizer.param_groups[0]["lr"]))

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step not in at:
                return
            made.append({"step": _steps_taken(trainer.optimizer, state.global_step), "rate": sum(rates) / len(rates)})
            rates.clear()
            save_adapter(trainer.model, lm, adapter_folder(folder, len(made)))
            if keep.moments:
                _save_moments(trainer, moments_file(folder, len(made)))
            control.should_training_stop = state.global_step == at[-1]

    trainer.add_callback(Keeping())
    return made


def _steps_taken(optimizer: Any, steps: int) -> int:
    """Of `steps` optimizer steps those that Adam took. In float16 those whose gradients overflow are skipped."""
    taken = max((int(of_parameter["step"]) for of_parameter in optimizer.state.values()), default=0)
    if not taken:
        raise UserError(
            f"train: the gradients of all {steps} optimizer steps so far overflow in float16, so nothing was learnt: "
            "tune in bfloat16 or float32 (model.dtype)"
        )
    return taken


def _save_moments(trainer: Any, path: Path) -> None:
    from safetensors.torch import save_file

    state = trainer.optimizer.state
    moments = {
        f"{name}.{moment}": state[parameter][moment].detach().float().cpu().contiguous()
        for name, parameter in trainer.model.named_parameters()
        if parameter.requires_grad
        for moment in ("exp_avg", "exp_avg_sq")
    }
    save_file(moments, str(path))


def load_adapter(model: Any, folder: Path) -> None:
    """Give the adapters of a PEFT model the values of those in `folder`."""
    from peft import set_peft_model_state_dict
    from safetensors.torch import load_file

    loaded: Any = set_peft_model_state_dict(model, load_file(str(folder / "adapter_model.safetensors")))
    if loaded.unexpected_keys:
        raise RuntimeError(f"{folder} holds an adapter of another shape: {loaded.unexpected_keys[0]}")


def save_adapter(model: Any, lm: LM, folder: Path) -> None:
    """Write a PEFT model's adapter as safetensors and configuration, the same bytes for the same values."""
    # Told not to save embeddings, PEFT does not look on the hub for the base model's configuration.
    model.save_pretrained(str(folder), safe_serialization=True, save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = lm.name  # not where it lies on this machine
    config["target_modules"] = sorted(config["target_modules"])  # a set: its order differs between processes
    write_json(path, config)
