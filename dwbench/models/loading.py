"""Models and tokenizers from a folder or the hub, with transformers' failures turned into one line."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dwbench.errors import UserError
from dwbench.models.chat import Chat
from dwbench.models.spec import LM

HUB_TIMEOUT = 5.0
"""Seconds to wait for the hub's first answer; transformers itself would retry for 50."""


def load_tokenizer(lm: LM) -> Chat:
    """The model's tokenizer with its chat template.

    Raises UserError without network or model, and for a tokenizer without chat template.
    """
    from transformers import AutoTokenizer

    return Chat(_load(lm, AutoTokenizer.from_pretrained, {}), lm.max_length)


def load_model(lm: LM, adapter: Path | None = None) -> Any:
    """A causal LM in eval mode, on its device and in its precision, with SDPA attention.

    Args:
        lm: which model.
        adapter: folder of a LoRA adapter (safetensors). In float32 it is merged into the weights, which makes decoding
            faster and moves logits by rounding only; in half precision merging would round the adapter away.

    Raises UserError without network, model or device, and where `max_length` exceeds the model's positions.
    """
    import torch
    from transformers import AutoModelForCausalLM

    device, dtype = lm.resolved_device(), lm.resolved_dtype()
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise UserError(f"model.device: {device}, but torch sees no GPU here: set model.device=cpu")
    options = {"dtype": getattr(torch, dtype), "attn_implementation": "sdpa", "use_safetensors": True}
    model = _load(lm, AutoModelForCausalLM.from_pretrained, options)
    positions = getattr(model.config, "max_position_embeddings", None)
    if positions is not None and positions < lm.max_length:
        raise UserError(
            f"model.max_length: {lm.max_length}, but {lm.name} has {positions} positions: "
            f"set model.max_length={positions} or less"
        )
    if adapter is not None:
        model = _with_adapter(model, adapter, merge=dtype == "float32")
    return model.to(device).eval()


def _with_adapter(model: Any, adapter: Path, merge: bool) -> Any:
    from peft import PeftModel

    if not (adapter / "adapter_model.safetensors").is_file():
        raise UserError(f"{adapter}: holds no adapter_model.safetensors, so it is no adapter")
    adapted = PeftModel.from_pretrained(model, str(adapter), is_trainable=False)
    return adapted.merge_and_unload() if merge else adapted


def _load(lm: LM, from_pretrained: Callable[..., Any], options: dict[str, Any]) -> Any:
    import safetensors

    source = lm.location()
    if not lm.is_local:
        if _hub_has(lm):
            options = {**options, "revision": lm.revision}
        else:
            source = _cached(lm)
    try:
        with _no_bars():
            return from_pretrained(source, trust_remote_code=False, **options)
    except (OSError, ValueError, ImportError, safetensors.SafetensorError) as error:
        line = " ".join(str(error).split())[:240]
        raise UserError(f"model {lm.name}: {source} could not be loaded: {line}") from error


def _cached(lm: LM) -> str:
    """The folder of the hub's cache that holds the model. transformers would get there too, after many retries."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return str(snapshot_download(lm.source, revision=lm.revision, local_files_only=True))
    except LocalEntryNotFoundError as error:
        raise UserError(
            f"model {lm.name}: no network, and {lm.source} is not in the cache of the hub: set model.source=FOLDER"
        ) from error


def _hub_has(lm: LM) -> bool:
    """Whether the hub answers and has the model. False without network; raises UserError for a wrong name."""
    from huggingface_hub import HfApi, is_offline_mode
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    if is_offline_mode():
        return False
    try:
        HfApi().model_info(lm.source, revision=lm.revision, timeout=HUB_TIMEOUT)
    except GatedRepoError as error:
        raise UserError(
            f"model {lm.name}: the owner of {lm.source} must grant access: ask on its page, then run `hf auth login`"
        ) from error
    except RevisionNotFoundError as error:
        raise UserError(f"model {lm.name}: {lm.source} has no revision {lm.revision!r}: set model.revision") from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise UserError(
            f"model {lm.name}: {lm.source} is neither a folder nor a model on the hub (or no access): mend the name"
        ) from error
    except Exception:  # the HTTP library that the hub's client uses changes, and its errors with it
        return False
    return True


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
