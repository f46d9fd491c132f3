"""Models and tokenizers from a folder or the hub, with transformers' failures turned into one line."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dwbench.errors import UserError
from dwbench.models.chat import Chat
from dwbench.models.flop import Shape
from dwbench.models.hub import Source, snapshot_of
from dwbench.models.spec import LM


def load_tokenizer(lm: LM) -> Chat:
    """The model's tokenizer with its chat template.

    Raises UserError without network or model, and for a tokenizer without chat template.
    """
    from transformers import AutoTokenizer

    return Chat(load(lm, AutoTokenizer.from_pretrained, {}), lm.max_length)


def load_config(lm: LM) -> Any:
    """The model's architecture as transformers' configuration, without its weights. Raises UserError as
    `load_tokenizer`."""
    from transformers import AutoConfig

    return load(lm, AutoConfig.from_pretrained, {})


def check_model(lm: LM) -> None:
    """Raise UserError where `lm` can't be computed with here: its device, its architecture, its positions. Loads no
    weights."""
    check_device(lm.section, lm.resolved_device())
    config = load_config(lm)
    _check_positions(lm, config)
    try:
        Shape.of_configuration(config)
    except (ValueError, AttributeError) as error:
        raise UserError(
            f"model {lm.name}: {lm.source} is no causal language model that is known here ({config.model_type}): "
            "take another one"
        ) from error


def check_device(section: str, name: str) -> None:
    """Raise UserError where torch does not see the device `name` here."""
    import torch

    device = torch.device(name)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError(f"{section}.device: {device}, but torch sees no GPU here: set {section}.device=cpu")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        seen = torch.cuda.device_count()
        raise UserError(f"{section}.device: {device}, but torch sees {seen} GPUs: lower its number")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise UserError(f"{section}.device: mps is not available here: set {section}.device=cpu")


def _check_positions(lm: LM, config: Any) -> None:
    positions = getattr(config, "max_position_embeddings", None)
    if positions is not None and positions < lm.max_length:
        raise UserError(
            f"model.max_length: {lm.max_length}, but {lm.name} has {positions} positions: "
            f"set model.max_length={positions} or less"
        )


def load_model(lm: LM, adapter: Path | None = None, merge: bool = True) -> Any:
    """A causal LM in eval mode, on its device and in its precision, with SDPA attention.

    Args:
        lm: which model.
        adapter: folder of a LoRA adapter (safetensors).
        merge: put the adapter into the weights where they are float32, which makes decoding faster and moves logits by
            rounding only; in half precision merging would round the adapter away.

    Raises UserError without network, model or device, and where `max_length` exceeds the model's positions.
    """
    import torch
    from transformers import AutoModelForCausalLM

    check_device(lm.section, lm.resolved_device())
    device, dtype = lm.resolved_device(), lm.resolved_dtype()
    options = {"dtype": getattr(torch, dtype), "attn_implementation": "sdpa", "use_safetensors": True}
    model = load(lm, AutoModelForCausalLM.from_pretrained, options)
    _check_positions(lm, model.config)
    if adapter is not None:
        model = _with_adapter(model, adapter, merge and dtype == "float32")
    return model.to(device).eval()


def _with_adapter(model: Any, adapter: Path, merge: bool) -> Any:
    from peft import PeftModel

    if not (adapter / "adapter_model.safetensors").is_file():
        raise UserError(f"{adapter}: holds no adapter_model.safetensors, so it is no adapter")
    adapted = PeftModel.from_pretrained(model, str(adapter), is_trainable=False)
    return adapted.merge_and_unload() if merge else adapted


def load(spec: Source, from_pretrained: Callable[..., Any], options: dict[str, Any]) -> Any:
    """`from_pretrained(location, trust_remote_code=False, **options)`; a model of the hub at the commit in its key.

    Raises UserError without network or model.
    """
    import safetensors

    source = spec.location()
    if not spec.is_local:
        found = snapshot_of(spec)
        if found.folder is None:
            options = {**options, "revision": found.commit}
        else:
            source = str(found.folder)  # by its name transformers would look for the hub, with many retries
    try:
        with _no_bars():
            return from_pretrained(source, trust_remote_code=False, **options)
    except (OSError, ValueError, ImportError, safetensors.SafetensorError) as error:
        line = " ".join(str(error).split())[:240]
        raise UserError(f"{spec.section} {spec.name}: {source} could not be loaded: {line}") from error


@contextmanager
def _no_bars() -> Iterator[None]:
    """Loading weights draws a bar of its own, into whatever is shown."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]
