"""Which model: name, source, precision; and its identity, which is its content and not its path."""

import hashlib
import json
import os
import re
from collections.abc import Sequence
from dataclasses import field
from pathlib import Path
from typing import Any, ClassVar, Literal

from dwbench.component import NOT_IN_KEY, component, identity
from dwbench.errors import UserError
from dwbench.files import expanded
from dwbench.models import embedded
from dwbench.models.hub import hub_identity, snapshot_of
from dwbench.models.packaged import cache_folder

Dtype = Literal["float32", "bfloat16", "float16"]

ADAPTER_FILE = "adapter_config.json"


@component
class LM:
    """A causal language model with a chat template.

    Attributes:
        name: what tables call it.
        source: `embedded` (SmolLM2-135M-Instruct from PyPI), a folder, or a hub id.
        revision: the hub's commit, tag or branch, None: `main`; unused for the other two. The key holds the commit.
        dtype: `auto` is bfloat16 on a device with bf16 units, else float32.
        device: `cpu`, `cuda`, `cuda:1`, `mps`; `auto` is `cuda` where there is one.
        max_length: longest sequence in tokens, prompt and response together.
        token_budget: padded tokens of one forward batch. It moves scores by less than 1e-5 in float32 and is then
            no part of any key; in half precision it is part of what is computed in such batches, which tuning is not.
    """

    section: ClassVar[str] = "model"

    name: str
    source: str
    revision: str | None = None
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    device: str = field(default="auto", metadata=NOT_IN_KEY)
    max_length: int = 2048
    token_budget: int = 4096

    def __post_init__(self) -> None:
        refuse_unknown_device(self.device)
        if not self.name.strip():
            raise ValueError("name: must not be empty: tables call the model by it")
        if self.max_length < 2:
            raise ValueError("max_length: must be at least 2")
        if self.token_budget < 1:
            raise ValueError("token_budget: must be at least 1")

    @property
    def is_local(self) -> bool:
        """Whether `source` is a folder on this machine (or the embedded model)."""
        return self.source == "embedded" or expanded(self.source).is_dir()

    def identity_fields(self) -> dict[str, Any]:
        dtype = self.resolved_dtype()
        fields: dict[str, Any] = {"weights": self.weights_identity(), "dtype": dtype, "max_length": self.max_length}
        if dtype != "float32":
            fields["token_budget"] = self.token_budget
        return fields

    def training_identity(self) -> dict[str, Any]:
        """The identity but for `token_budget`: what determines a tuning, which makes batches of its own."""
        return {name: value for name, value in identity(self).items() if name != "token_budget"}

    def weights_identity(self) -> dict[str, str]:
        """Checksum and conversion of the embedded model, `folder_fingerprint` of a folder, or id and commit on the hub.

        Raises UserError for what is no model, and for a hub model as `dwbench.models.hub.snapshot_of`.
        """
        if self.source == "embedded":
            return embedded.identity()
        if self.is_local:
            folder = expanded(self.source)
            self._refuse_adapter((folder / ADAPTER_FILE).is_file())
            return {"folder": folder_fingerprint(folder)}
        if self.source.startswith(("/", "./", "../", "~")):
            raise UserError(f"model.source: {self.source} is no folder: give an existing one, or a hub id")
        self._refuse_adapter(ADAPTER_FILE in snapshot_of(self).files)
        return hub_identity(self)

    def _refuse_adapter(self, is_adapter: bool) -> None:
        # transformers would take the weights from wherever the adapter's file says.
        if is_adapter:
            raise UserError(f"model.source: {self.source} is a LoRA adapter: merge it into its model, and give that")

    def resolved_device(self) -> str:
        return device_named(self.device)

    def resolved_dtype(self) -> Dtype:
        if self.dtype != "auto":
            return self.dtype
        if self.resolved_device() == "cpu":
            return "bfloat16" if _cpu_has_bf16() else "float32"
        import torch

        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"

    def location(self) -> str:
        """What transformers' `from_pretrained` is given. Fetches the embedded model on first use."""
        if self.source == "embedded":
            return str(embedded.smollm2_folder())
        return str(expanded(self.source)) if self.is_local else self.source


def _cpu_has_bf16() -> bool:
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return "amx_bf16" in flags


def refuse_unknown_device(device: str) -> None:
    """Raise ValueError for what is no name of a device."""
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", device):
        raise ValueError(f"device: {device!r} is unknown: auto, cpu, cuda, cuda:N or mps")


def device_named(device: str) -> str:
    """`device`, `auto` being `cuda` where there is one."""
    if device != "auto":
        return device
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def folder_fingerprint(folder: Path, subfolders: Sequence[str] = ()) -> str:
    """Hash of the names and contents of a model's files: weights (.safetensors), configuration, tokenizer and template
    (.json, .model, .txt, .jinja), in `folder` and those of its subfolders that are named. Whatever else lies there is
    no part of it. Remembered by size and time of change."""
    files = {
        path.relative_to(folder).as_posix(): path
        for part in (".", *subfolders)
        for path in sorted((folder / part).glob("*"))
        if path.is_file() and path.suffix in {".json", ".safetensors", ".model", ".txt", ".jinja"}
    }
    if "config.json" not in files:
        raise UserError(f"{folder}: holds no config.json, so it is no model folder")
    stats = [[name, path.stat().st_size, path.stat().st_mtime_ns] for name, path in files.items()]
    stamp = hashlib.sha256(json.dumps([str(folder.resolve()), stats]).encode()).hexdigest()
    memo = cache_folder() / "fingerprints" / stamp
    if memo.exists():
        return memo.read_text().strip()
    digest = hashlib.sha256()
    for name, path in files.items():
        with path.open("rb") as file:
            digest.update(f"{name}\0{hashlib.file_digest(file, 'sha256').hexdigest()}\0".encode())
    try:
        memo.parent.mkdir(parents=True, exist_ok=True)
        part = memo.with_name(f"{memo.name}.{os.getpid()}.part")
        part.write_text(digest.hexdigest())
        part.replace(memo)
    except OSError as error:
        raise UserError(f"cannot write into {memo.parent} ({error.strerror}): set DWBENCH_CACHE") from error
    return digest.hexdigest()
