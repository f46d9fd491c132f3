"""Where rows lie: a folder with a file a split, a file, or the hub."""

import difflib
import re
from pathlib import Path

from dwbench.data.hub import load_hub
from dwbench.data.readers import SUFFIXES, read_rows
from dwbench.data.textfiles import Row
from dwbench.errors import UserError
from dwbench.files import expanded

_HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")


def read_split(folder: Path, split: str) -> list[Row] | None:
    """The rows of `folder/split` with any of the known suffixes; None where there is no such file."""
    if not folder.is_dir():
        siblings = sorted(item.name for item in folder.parent.iterdir()) if folder.parent.is_dir() else []
        close = difflib.get_close_matches(folder.name, siblings, n=1)
        hint = f"did you mean {str(folder.with_name(close[0]))!r}?" if close else "give an existing folder"
        raise UserError(f"dataset.path: {folder} is no folder: {hint}")
    found = [path for suffix in SUFFIXES if (path := folder / f"{split}{suffix}").is_file()]
    if len(found) > 1:
        raise UserError(f"{found[1]}: there is also {found[0].name}: take one of the two away")
    return read_rows(found[0]) if found else None


def need_split(folder: Path, split: str) -> list[Row]:
    """As `read_split`, with a UserError where there is no such file."""
    rows = read_split(folder, split)
    if rows is None:
        there = ", ".join(sorted(item.name for item in folder.iterdir())[:10]) or "nothing"
        raise UserError(f"{folder}: no {split}.jsonl (.json, .csv, .parquet) but {there}: add it, or mend dataset.path")
    return rows


def on_hub(source: str) -> bool:
    """Whether `source` names a data set of the hub: it reads `owner/name` and is no file."""
    path = expanded(source)
    looks_so = _HUB_NAME.fullmatch(source) is not None and path.suffix.lower() not in SUFFIXES
    return looks_so and not path.exists() and not path.parent.is_dir()


def read_source(source: str, hub_split: str, revision: str) -> list[Row]:
    """The rows of a file, or of a split of a hub data set where `source` reads `owner/name` and is no file."""
    if on_hub(source):
        return load_hub(source, None, revision).split(hub_split)
    return read_rows(expanded(source))
