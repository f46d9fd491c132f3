"""Data sets of the Hugging Face hub: the revision that was asked for, or one line that says why not.

`datasets` retries for up to 50 s without a network, and then takes whatever revision its cache holds. Here one request
with a short timeout asks first, and what was loaded is compared with what was asked for.
"""

import functools
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dwbench.data.textfiles import Row
from dwbench.errors import UserError, nearest

TIMEOUT = 5.0
"""Seconds to wait for the hub's first answer."""

_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class HubData:
    """What came from the hub.

    Attributes:
        splits: rows by the name of the split; their places read `name:split row n`, from 0.
        note: which commit it was.
    """

    splits: dict[str, list[Row]]
    note: str

    def split(self, name: str, rows: int | None = None) -> list[Row]:
        """The rows of a split, of which there must be `rows` if given. Raises UserError otherwise."""
        if name not in self.splits:
            raise UserError(f"{self.note}: no split {name!r}: {nearest(name, self.splits)}")
        found = self.splits[name]
        if rows is not None and len(found) != rows:
            raise UserError(
                f"{self.note}: split {name!r} has {len(found):,} rows, not {rows:,}: "
                f"set dataset.revision to a commit that has them"
            )
        return found


def load_hub(name: str, config: str | None, revision: str) -> HubData:
    """All splits of data set `name` at `revision` (a commit, tag or branch).

    Raises UserError, within seconds, without network, data set, access or revision. With HF_HUB_OFFLINE=1 the
    cache is read, and refused if it holds another commit than `revision`.
    """
    from huggingface_hub import is_offline_mode

    wanted = revision if is_offline_mode() else _commit(name, revision)
    loaded = _load(name, config, wanted)
    commits = {Path(file["filename"]).parent.name for split in loaded.values() for file in split.cache_files}
    commit = ", ".join(sorted(commits)) or wanted
    if _COMMIT.fullmatch(wanted) and commit != wanted:
        raise UserError(
            f"{name}: the cache holds commit {commit}, not {wanted}: set dataset.revision={commit}, or go online"
        )
    splits = {
        str(split): [(f"{name}:{split} row {n}", dict(row)) for n, row in enumerate(rows)]
        for split, rows in loaded.items()
    }
    return HubData(splits, f"{name} at commit {commit}")


@functools.cache
def _commit(name: str, revision: str) -> str:
    """The commit of a revision, by one request a process, so that all jobs of a sweep get the same rows."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    try:
        return str(HfApi().dataset_info(name, revision=revision, timeout=TIMEOUT).sha)
    except GatedRepoError as error:
        raise UserError(f"{name}: its owner must grant access: ask on its page, then run `hf auth login`") from error
    except RevisionNotFoundError as error:
        raise UserError(f"{name}: no revision {revision!r} on the hub: set dataset.revision to one") from error
    except RepositoryNotFoundError as error:
        raise UserError(
            f"{name}: no such file, and no such data set on the hub (or no access): mend the name"
        ) from error
    except Exception as error:  # the HTTP library that the hub's client uses changes, and its errors with it
        raise UserError(
            f"{name}: no network, or no answer from the hub ({type(error).__name__}): give local files by "
            f"dataset.path=..., or set HF_HUB_OFFLINE=1 to use a copy downloaded before"
        ) from error


def _load(name: str, config: str | None, revision: str) -> dict[Any, Any]:
    import datasets

    try:
        return dict(datasets.load_dataset(name, config, revision=revision))
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        from huggingface_hub import is_offline_mode

        if is_offline_mode():
            raise UserError(
                f"{name}: not in the cache, and HF_HUB_OFFLINE is set: "
                "unset it, or give local files by dataset.path=..."
            ) from error
        line = " ".join(str(error).split())[:200]
        raise UserError(
            f"{name}: could not be loaded from the hub ({line}): give local files by dataset.path=..."
        ) from error
