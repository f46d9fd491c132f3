"""Which model: name, source, precision; and its identity, which is its content and not its path."""

import hashlib
import json
import os
from dataclasses import field
from pathlib import Path
from typing import Any, Literal

from dwbench.component import NOT_IN_KEY, component
from dwbench.errors import UserError
from dwbench.models import embedded

Dtype = Literal["float32", "bfloat16", "float16"]


@component
class LM:
    """A causal language model with a chat template.

    Attributes:
        name: what tables call it.
        source: `embedded` (SmolLM2-135M-Instruct from PyPI), a folder, or a hub id.
        revision: the hub's commit or tag; unused for the other two.
        dtype: `auto` is bfloat16 on a device with bf16 units, else float32.
        device: `auto` is `cuda` where there is one.
        max_length: longest sequence in tokens, prompt and response together.
        token_budget: padded tokens of one forward batch. It moves scores by less than 1e-5 in float32 and is then
            not part of the key.
    """

    name: str
    source: str
    revision: str | None = None
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    device: str = field(default="auto", metadata=NOT_IN_KEY)
    max_length: int = 2048
    token_budget: int = 4096

    def __post_init__(self) -> None:
        if self.max_length < 2:
            raise ValueError("max_length: must be at least 2")
        if self.token_budget < 1:
            raise ValueError("token_budget: must be at least 1")

    @property
    def is_local(self) -> bool:
        """Whether `source` is a folder on this machine (or the embedded model)."""
        return self.source == "embedded" or Path(self.source).expanduser().is_dir()

    def identity_fields(self) -> dict[str, Any]:
        dtype = self.resolved_dtype()
        fields: dict[str, Any] = {"weights": self.weights_identity(), "dtype": dtype, "max_length": self.max_length}
        if dtype != "float32":
            fields["token_budget"] = self.token_budget
        return fields

    def weights_identity(self) -> dict[str, str]:
        """Checksum for the embedded model, hash of all files for a folder, id and revision for a hub model."""
        if self.source == "embedded":
            return {"embedded": embedded.GGUF_SHA256}
        if self.is_local:
            return {"folder": _folder_fingerprint(Path(self.source).expanduser())}
        if self.source.startswith(("/", "./", "../", "~")):
            raise UserError(f"model.source: {self.source} is no folder: give an existing one, or a hub id")
        return {"hub": self.source, "revision": self.revision or "main"}

    def resolved_device(self) -> str:
        if self.device != "auto":
            return self.device
        import torch

        return "cuda" if torch.cuda.is_available() else "cpu"

    def resolved_dtype(self) -> Dtype:
        if self.dtype != "auto":
            return self.dtype
        if self.resolved_device() == "cpu":
            return "bfloat16" if _cpu_has_bf16() else "float32"
        import torch

        return "bfloat16" if torch.cuda.is_bf16_supported() else "float32"

    def location(self) -> str:
        """What transformers' `from_pretrained` is given. Fetches the embedded model on first use."""
        if self.source == "embedded":
            return str(embedded.smollm2_folder())
        return str(Path(self.source).expanduser()) if self.is_local else self.source


def _cpu_has_bf16() -> bool:
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return "amx_bf16" in flags


def _folder_fingerprint(folder: Path) -> str:
    """Hash of the names and contents of the files that make up a model; remembered by size and time of change."""
    files = sorted(
        path
        for path in folder.iterdir()
        if path.is_file() and path.suffix in {".json", ".safetensors", ".model", ".txt", ".jinja"}
    )
    if not any(path.name == "config.json" for path in files):
        raise UserError(f"{folder}: holds no config.json, so it is no model folder")
    stats = [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in files]
    stamp = hashlib.sha256(json.dumps([str(folder.resolve()), stats]).encode()).hexdigest()
    memo = embedded.cache_folder() / "fingerprints" / stamp
    if memo.exists():
        return memo.read_text().strip()
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            digest.update(f"{path.name}\0{hashlib.file_digest(file, 'sha256').hexdigest()}\0".encode())
    memo.parent.mkdir(parents=True, exist_ok=True)
    part = memo.with_name(f"{memo.name}.{os.getpid()}.part")
    part.write_text(digest.hexdigest())
    part.replace(memo)
    return digest.hexdigest()
