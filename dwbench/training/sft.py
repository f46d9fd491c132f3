"""LoRA fine-tuning by TRL's SFTTrainer, on token ids that are made here and checked before the first step."""

import dataclasses
import math
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

from dwbench import seeds
from dwbench.component import component, identity
from dwbench.data.base import Task
from dwbench.errors import UserError
from dwbench.models.chat import Pair
from dwbench.models.flop import Shape
from dwbench.models.loading import load_model, load_tokenizer
from dwbench.models.spec import LM
from dwbench.rng import preserved_rng
from dwbench.store import Bench, write_json
from dwbench.training.checkpoints import Keep, adapter_folder, keep_checkpoints, load_adapter, save_adapter

TRAIN_VERSION = 1

LEARNING_RATES = {"llama": 1e-4, "qwen2": 1e-5, "mistral": 1e-5}
"""Data Whisperer's, by transformers' `model_type`."""

DEFAULT_LEARNING_RATE = 1e-4

IGNORED = -100
"""The label of a token without loss."""


@component
class LoraSFT:
    """How a model is tuned: LoRA on all linear layers, AdamW, loss on the response only.

    The defaults are Data Whisperer's settings. Everything here is part of the key.

    Attributes:
        r: rank of the adapters.
        alpha: scale of the adapters, times 1/r.
        dropout: dropout in front of the adapters.
        epochs: passes over the rows.
        batch_size: rows a step.
        micro_batch_size: rows a forward pass, a divisor of `batch_size`; None: `batch_size`.
        learning_rate: its peak. None: the paper's for the model's family (`LEARNING_RATES`), else 1e-4.
        scheduler: what happens behind the warm-up.
        warmup_ratio: share of the steps with a rising learning rate.
        weight_decay: AdamW's.
        max_grad_norm: gradients are clipped to it; 0: not clipped.
        activation_checkpointing: recompute activations in the backward pass: less memory, more time. LLaMA-Factory,
            by which the paper tunes, does so unless told otherwise.
    """

    r: int = 8
    alpha: int = 16
    dropout: float = 0.0
    epochs: int = 5
    batch_size: int = 8
    micro_batch_size: int | None = None
    learning_rate: float | None = None
    scheduler: Literal["cosine", "linear", "constant_with_warmup"] = "cosine"
    warmup_ratio: float = 0.1
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    activation_checkpointing: bool = True

    def __post_init__(self) -> None:
        for name in ("r", "alpha", "epochs", "batch_size", "micro_batch_size", "learning_rate"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"{name}: must be above 0, not {value}")
        for name in ("dropout", "warmup_ratio"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name}: must be at least 0 and below 1, not {getattr(self, name)}")
        for name in ("weight_decay", "max_grad_norm"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}: must not be negative, as {getattr(self, name)} is")
        if self.batch_size % self.micro_batch:
            raise ValueError(f"micro_batch_size: {self.micro_batch} does not divide batch_size {self.batch_size}")

    @property
    def micro_batch(self) -> int:
        return self.batch_size if self.micro_batch_size is None else self.micro_batch_size

    def rate_for(self, model_type: str) -> float:
        if self.learning_rate is not None:
            return self.learning_rate
        return LEARNING_RATES.get(model_type, DEFAULT_LEARNING_RATE)

    def steps(self, rows: int) -> int:
        """Optimizer steps over `rows` rows; the last one of an epoch may be a short one."""
        return self.epochs * self.steps_an_epoch(rows)

    def steps_an_epoch(self, rows: int) -> int:
        return math.ceil(rows / self.batch_size)

    def check_steps(self, rows: int) -> None:
        """Raise UserError where all steps are warm-up: transformers rounds it up, and its first step has rate 0."""
        steps = self.steps(rows)
        if 0 < steps <= math.ceil(self.warmup_ratio * steps):
            raise UserError(
                f"train.warmup_ratio={self.warmup_ratio}: {rows} rows make {steps} optimizer step, all of it warm-up "
                f"at learning rate 0: more rows or epochs, or a smaller train.batch_size, make more steps"
            )


def train_identity(lm: LM, config: LoraSFT, task: Task, uids: Iterable[str], seed: int) -> dict[str, Any]:
    """Plain data that determines an adapter: the set of rows, not who chose them."""
    return {
        "version": TRAIN_VERSION,
        "model": lm.training_identity(),
        "train": identity(config),
        "prompt": task.prompt_identity(),
        "rows": sorted(uids),
        "seed": seed,
    }


def full_tuning(shape: Shape, pairs: Sequence[Pair], config: LoraSFT) -> dict[str, float]:
    """What tuning on all of `pairs` takes: `tokens` that pass over all epochs, and model `flop`."""
    lengths = [pair.length for pair in pairs]
    head_rows = sum(len(pair.response) for pair in pairs)
    flop = config.epochs * shape.lora_step(lengths, head_rows, config.activation_checkpointing)
    return {"tokens": config.epochs * sum(lengths), "flop": flop}


def count_tuning(bench: Bench, shape: Shape, pairs: Sequence[Pair], config: LoraSFT) -> dict[str, float]:
    """Book a tuning on `pairs` in the stage that is open; `full_tuning` of it."""
    whole = full_tuning(shape, pairs, config)
    tokens, rows = int(whole["tokens"]), config.epochs * len(pairs)
    bench.meter.count(
        forward_tokens=tokens, backward_tokens=tokens, forward_calls=rows, backward_calls=rows, flop=whole["flop"]
    )
    return whole


def tune(
    bench: Bench,
    lm: LM,
    pairs: Sequence[Pair],
    config: LoraSFT,
    seed: int,
    folder: Path,
    keep: Keep | None = None,
) -> None:
    """Tune `lm` on `pairs`, inside an open stage, and write into `folder`:

    - `adapter/`: PEFT's safetensors and configuration;
    - `training.json`: rows, epochs, steps, tokens (over all epochs), supervised_tokens (an epoch), learning_rate,
      and loss as [[step, mean over the step's supervised tokens in nats], ...].

    With `keep` training ends after `keep.epochs` epochs of a schedule that is made for `config.epochs`, each
    checkpoint leaves its `adapter-NUMBER/` in place of `adapter/`, and training.json has `checkpoints`: the number of
    steps before each of them and the mean learning rate of those since the one before.

    The same arguments give the same bytes on one CPU. Global random state is left as it was.

    Raises:
        UserError: no rows, or a row that is longer than `lm.max_length` (TRL would cut it or drop it).
        RuntimeError: the loss is not finite.
    """
    _check(lm, pairs)
    config.check_steps(len(pairs))
    with bench.meter.apart("import"):
        from trl import SFTTrainer  # noqa: F401  the imports of all that follows, 3 s
    with preserved_rng(), tempfile.TemporaryDirectory() as scratch:
        with bench.meter.apart("load"):
            model = load_model(lm)
            shape = Shape.of(model)
        with bench.meter.apart("setup"):
            rate = config.rate_for(model.config.model_type)
            trainer = _trainer(lm, model, pairs, config, rate, seeds.derive(seed, "train"), scratch)
            _check_labels(trainer, pairs)
            if keep is not None and keep.start is not None:
                load_adapter(trainer.model, keep.start)
            made = (
                [] if keep is None else keep_checkpoints(trainer, keep, config.steps_an_epoch(len(pairs)), lm, folder)
            )
        epochs = keep.epochs if keep else config.epochs
        done = dataclasses.replace(config, epochs=epochs)
        with bench.progress.track("tuning", done.steps(len(pairs))) as advance:
            loss = _train(trainer, advance)
        whole = count_tuning(bench, shape, pairs, done)
        if keep is None:
            save_adapter(trainer.model, lm, adapter_folder(folder))
    training = {
        "rows": len(pairs),
        "epochs": epochs,
        "steps": len(loss),
        "tokens": whole["tokens"],
        "supervised_tokens": sum(len(pair.response) for pair in pairs),
        "learning_rate": rate,
        "loss": loss,
        **({"checkpoints": made} if keep else {}),
    }
    write_json(folder / "training.json", training)


def _check(lm: LM, pairs: Sequence[Pair]) -> None:
    if not pairs:
        raise UserError("there are no rows to tune on")
    for number, pair in enumerate(pairs):
        if not pair.context or not pair.response:
            raise UserError(f"row {number} of those to tune on has no token of a prompt or of a response")
        if pair.length > lm.max_length:
            raise UserError(
                f"row {number} of those to tune on has {pair.length} tokens, more than model.max_length "
                f"{lm.max_length}: cut its response or raise model.max_length"
            )


def training_rows(pairs: Sequence[Pair]) -> dict[str, list[list[int]]]:
    """`input_ids` and `labels` of each pair, as columns: labels are the response's ids, and IGNORED in the context.

    They come from where the response lies and never from `id != pad`: pad is often the end-of-turn token.
    """
    return {
        "input_ids": [[*pair.context, *pair.response] for pair in pairs],
        "labels": [[*[IGNORED] * len(pair.context), *pair.response] for pair in pairs],
    }


def _trainer(lm: LM, model: Any, pairs: Sequence[Pair], config: LoraSFT, rate: float, seed: int, scratch: str) -> Any:
    from datasets import Dataset
    from transformers import PrinterCallback, set_seed
    from trl import SFTConfig, SFTTrainer

    on_cpu = lm.resolved_device() == "cpu"
    dtype = lm.resolved_dtype()
    arguments = SFTConfig(
        output_dir=scratch,
        num_train_epochs=config.epochs,
        per_device_train_batch_size=config.micro_batch,
        gradient_accumulation_steps=config.batch_size // config.micro_batch,
        learning_rate=rate,
        lr_scheduler_type=config.scheduler,
        warmup_steps=config.warmup_ratio,  # below 1 it is a share of the steps
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm,
        optim="adamw_torch",
        activation_checkpointing=config.activation_checkpointing,
        bf16=dtype == "bfloat16",
        fp16=dtype == "float16",
        use_cpu=on_cpu,
        dataloader_pin_memory=not on_cpu,
        seed=seed,
        data_seed=seed,
        max_length=lm.max_length,
        packing=False,
        padding_free=False,
        loss_type="nll",
        dataset_kwargs={"skip_prepare_dataset": True},  # its preparation cuts long rows and drops others silently
        eval_strategy="no",
        save_strategy="no",
        logging_strategy="steps",
        logging_steps=1,
        logging_nan_inf_filter=False,  # it would log a NaN as the mean of the steps before
        report_to="none",
        disable_tqdm=True,
    )
    arguments._n_gpu = min(1, arguments.n_gpu)  # else TRL refuses to run where several GPUs are visible
    set_seed(seed)  # the adapters are drawn before the trainer seeds anything
    trainer = SFTTrainer(
        model=model,
        args=arguments,
        train_dataset=Dataset.from_dict(training_rows(pairs)),
        processing_class=load_tokenizer(lm).tokenizer,
        peft_config=adapters(config),
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def adapters(config: LoraSFT) -> Any:
    """PEFT's configuration of the adapters."""
    from peft import LoraConfig

    return LoraConfig(
        r=config.r,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        target_modules="all-linear",
        bias="none",
        task_type="CAUSAL_LM",
    )


def untuned_identity(lm: LM, config: LoraSFT, seed: int) -> dict[str, Any]:
    """Plain data that determines an adapter before its first step."""
    return {
        "version": TRAIN_VERSION,
        "untuned": True,
        "model": lm.training_identity(),
        "train": {"r": config.r, "alpha": config.alpha},
        "seed": seed,
    }


def untuned(bench: Bench, lm: LM, config: LoraSFT, seed: int, folder: Path) -> None:
    """Write a fresh adapter into `folder`: A drawn by the seed, B = 0, so that the model is as without it."""
    with bench.meter.apart("import"):
        from peft import get_peft_model
        from transformers import set_seed
    with preserved_rng():
        with bench.meter.apart("load"):
            model = load_model(lm)
        set_seed(seeds.derive(seed, "train"))
        save_adapter(get_peft_model(model, adapters(config)), lm, adapter_folder(folder))


def _check_labels(trainer: Any, pairs: Sequence[Pair]) -> None:
    """Refuse to train where the trainer has not got exactly our rows and labels."""
    rows = len(trainer.train_dataset)
    if rows != len(pairs):
        raise RuntimeError(f"the trainer kept {rows} of {len(pairs)} rows")
    size = trainer.args.per_device_train_batch_size
    supervised = 0
    for first in range(0, rows, size):
        batch = [trainer.train_dataset[number] for number in range(first, min(first + size, rows))]
        supervised += int((trainer.data_collator(batch)["labels"] != IGNORED).sum())
    wanted = sum(len(pair.response) for pair in pairs)
    if supervised != wanted:
        raise RuntimeError(f"the trainer supervises {supervised} tokens, the responses have {wanted}")


def _train(trainer: Any, advance: Callable[[int], None]) -> list[list[float]]:
    """Run the training; [[step, loss], ...]."""
    from transformers import TrainerCallback

    loss: list[list[float]] = []

    class Watch(TrainerCallback):
        # The signature is transformers', but that it passes `logs` by name.
        def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float], **kwargs: Any) -> None:  # type: ignore[override]
            if "loss" not in logs:
                return  # the summary at the end
            if not math.isfinite(logs["loss"]):
                raise RuntimeError(
                    f"the loss is {logs['loss']} at step {state.global_step} of {state.max_steps}: "
                    f"lower train.learning_rate, or train in float32 (model.dtype)"
                )
            loss.append([int(state.global_step), float(logs["loss"])])
            advance(1)

    trainer.add_callback(Watch())
    trainer.train()
    return loss
