"""Which text encoder: name, source, pooling; and its identity, which is its content and not its path."""

import json
from dataclasses import field
from pathlib import Path
from typing import Any, ClassVar, Literal

from dwbench.component import NOT_IN_KEY, component
from dwbench.errors import UserError
from dwbench.files import expanded
from dwbench.models import embedded_encoder
from dwbench.models.hub import hub_identity
from dwbench.models.loading import check_device, load
from dwbench.models.spec import device_named, folder_fingerprint, refuse_unknown_device

LONGEST_TEXT = 8192
"""Tokens of a text that are read at most where no length is given."""


@component
class Encoder:
    """A model that turns a text into one vector. It runs in float32, where the batch hardly moves vectors.

    Attributes:
        name: what tables call it.
        source: `embedded` (all-MiniLM-L6-v2 from PyPI), a folder, or a hub id: a sentence-transformers model, or a
            bare transformers encoder.
        revision: the hub's commit, tag or branch, None: `main`; unused for the other two. The key holds the commit.
        pooling: `default` runs the model's own modules; `mean` and `cls` take the mean of the last hidden states, or
            the first of them, and leave out whatever comes behind the model's own pooling.
        prefix: text put in front of every text (E5's `query: `). None: the model's own default, which few have.
        max_length: tokens of a text that are read, special ones included. None: as many as the model's own files say,
            at most 8,192.
        batch_size: texts of one forward batch. It moves vectors by less than 1e-5, which can be
            enough for a row between two clusters.
        device: `cpu`, `cuda`, `cuda:1`, `mps`; `auto` is `cuda` where there is one.
    """

    section: ClassVar[str] = "embedder"

    name: str
    source: str
    revision: str | None = None
    pooling: Literal["default", "mean", "cls"] = "default"
    prefix: str | None = None
    max_length: int | None = None
    batch_size: int = 64
    device: str = field(default="auto", metadata=NOT_IN_KEY)

    def __post_init__(self) -> None:
        refuse_unknown_device(self.device)
        if self.max_length is not None and self.max_length < 3:
            raise ValueError("max_length: must be at least 3")
        if self.batch_size < 1:
            raise ValueError("batch_size: must be at least 1")

    @property
    def is_local(self) -> bool:
        """Whether `source` is a folder on this machine (or the embedded model)."""
        return self.source == "embedded" or expanded(self.source).is_dir()

    def identity_fields(self) -> dict[str, Any]:
        return {
            "weights": self.weights_identity(),
            "pooling": self.pooling,
            "prefix": self.prefix,
            "max_length": self.max_length,
        }

    def weights_identity(self) -> dict[str, str]:
        """Checksum of the embedded model, `folder_fingerprint` of a folder with the subfolders of its modules, id and
        commit of a hub model.

        Raises UserError for what is no model, and for a hub model as `dwbench.models.hub.snapshot_of`.
        """
        if self.source == "embedded":
            return {"embedded": embedded_encoder.WHEEL_SHA256}
        if self.is_local:
            folder = expanded(self.source)
            return {"folder": folder_fingerprint(folder, _module_folders(folder))}
        if self.source.startswith(("/", "./", "../", "~")):
            raise UserError(f"embedder.source: {self.source} is no folder: give an existing one, or a hub id")
        return hub_identity(self)

    def resolved_device(self) -> str:
        return device_named(self.device)

    def location(self) -> str:
        """What sentence-transformers is given. Fetches the embedded model on first use."""
        if self.source == "embedded":
            return str(embedded_encoder.minilm_folder())
        return str(expanded(self.source)) if self.is_local else self.source


def check_encoder(encoder: Encoder) -> None:
    """Raise UserError where `encoder` can't be computed with here: its device, its architecture, its positions. Loads
    no weights."""
    import torch
    from transformers import AutoConfig, AutoModel

    check_device(encoder.section, encoder.resolved_device())
    config = load(encoder, AutoConfig.from_pretrained, {})
    with torch.device("meta"):
        _check_length(encoder, AutoModel.from_config(config))  # type: ignore[no-untyped-call]


def load_encoder(encoder: Encoder) -> Any:
    """The SentenceTransformer in eval mode, float32, on its device, with pooling, prefix and length set.

    Raises UserError without network, model or device, and where `max_length` exceeds what the model takes.
    """
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling

    device = encoder.resolved_device()
    check_device(encoder.section, device)

    def from_pretrained(source: str, **options: Any) -> SentenceTransformer:
        weights = {"dtype": torch.float32, "use_safetensors": True}
        found = Path(source).is_dir()
        return SentenceTransformer(source, device=device, local_files_only=found, model_kwargs=weights, **options)

    model = load(encoder, from_pretrained, {})
    if model.transformers_model is None:
        raise UserError(f"embedder {encoder.name}: {encoder.source} has no transformer in it: take one that has")
    if encoder.pooling != "default":
        pooling = Pooling(model.transformers_model.config.hidden_size, encoder.pooling)
        prompts = {"prompts": model.prompts, "default_prompt_name": model.default_prompt_name}
        model = SentenceTransformer(modules=[model[0], pooling], device=device, **prompts)
    if encoder.prefix is not None:
        model.prompts, model.default_prompt_name = {"prefix": encoder.prefix}, "prefix"
    _check_length(encoder, model.transformers_model)
    model.max_seq_length = encoder.max_length or _own_length(model)
    return model.eval()


def _own_length(model: Any) -> int:
    """How many tokens of a text a SentenceTransformer reads by itself."""
    # A tokenizer that knows no limit says 10 ** 30.
    limits = (model.max_seq_length, _longest_text(model.transformers_model), LONGEST_TEXT)
    return min(limit for limit in limits if limit is not None)


def _check_length(encoder: Encoder, transformer: Any) -> None:
    longest = _longest_text(transformer)
    if encoder.max_length is not None and longest is not None and encoder.max_length > longest:
        raise UserError(
            f"embedder.max_length: {encoder.max_length}, but {encoder.name} takes {longest} tokens: "
            f"set embedder.max_length={longest} or less"
        )


def _longest_text(transformer: Any) -> int | None:
    """How many tokens the encoder has positions for; None where its positions are relative ones."""
    positions: int | None = getattr(transformer.config, "max_position_embeddings", None)
    # RoBERTa's kin count positions from the padding token's id on, in the module that holds their table.
    offsets = [
        module.padding_idx + 1
        for module in transformer.modules()
        if hasattr(module, "position_embeddings") and isinstance(getattr(module, "padding_idx", None), int)
    ]
    return None if positions is None else positions - max(offsets, default=0)


def _module_folders(folder: Path) -> list[str]:
    """The subfolders that a sentence-transformers model keeps modules in."""
    modules = folder / "modules.json"
    if not modules.is_file():
        return []
    listed = json.loads(modules.read_text(encoding="utf-8"))
    return sorted({module["path"] for module in listed} - {""})
