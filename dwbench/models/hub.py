"""Models of the Hugging Face hub by commit: what a branch or tag stands for now, asked once a process."""

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from dwbench.errors import UserError

HUB_TIMEOUT = 5.0
"""Seconds to wait for the hub's first answer; transformers itself would retry for 50."""

CONFIG_FILE = "config.json"
DEFAULT_REVISION = "main"


class Source(Protocol):
    """Where a model is: a language model or a text encoder; `section` is its part of the configuration."""

    @property
    def section(self) -> str: ...

    @property
    def name(self) -> str: ...

    @property
    def source(self) -> str: ...

    @property
    def revision(self) -> str | None: ...

    @property
    def is_local(self) -> bool: ...

    def location(self) -> str: ...


@dataclass(frozen=True)
class Snapshot:
    """A model of the hub at one commit.

    Attributes:
        commit: 40 hex digits.
        folder: where the hub's cache holds it; None where the hub answers, and serves what the cache lacks.
        files: names of the files at its top; of a cached one only those that the cache holds.
    """

    commit: str
    folder: Path | None
    files: frozenset[str]


def snapshot_of(spec: Source) -> Snapshot:
    """The commit that the revision of a hub model (a commit, tag or branch; None: `main`) stands for.

    The hub is asked once a process, so that all jobs of a sweep get the same answer. Without network, or with
    HF_HUB_OFFLINE=1, the hub's cache says it.

    Raises UserError, within seconds, for a wrong name or revision, without access, and without network and cache.
    """
    return _snapshot(spec.section, spec.name, spec.source, spec.revision)


def hub_identity(spec: Source) -> dict[str, str]:
    """Plain data that determines the weights of a hub model."""
    return {"hub": spec.source, "commit": snapshot_of(spec).commit}


@functools.cache
def _snapshot(section: str, name: str, source: str, revision: str | None) -> Snapshot:
    found = _on_hub(section, name, source, revision) or _cached(source, revision)
    if found is None:
        at = f" at revision {revision}" if revision else ""
        raise UserError(
            f"{section} {name}: no network, and {source}{at} is not in the cache of the hub: "
            f"set {section}.source=FOLDER"
        )
    return found


def _on_hub(section: str, name: str, source: str, revision: str | None) -> Snapshot | None:
    """As the hub says; None without network."""
    from huggingface_hub import HfApi, hf_hub_download, is_offline_mode
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    if is_offline_mode():
        return None
    try:
        listed = HfApi().model_info(source, revision=revision, timeout=HUB_TIMEOUT).siblings or ()
        files = frozenset(file.rfilename for file in listed)
        if CONFIG_FILE not in files:
            raise UserError(f"{section} {name}: {source} has no {CONFIG_FILE}, so transformers can't load it")
        # By the revision's own name: so the cache learns its commit, for a later run without network.
        config = hf_hub_download(source, CONFIG_FILE, revision=revision, etag_timeout=HUB_TIMEOUT)
    except GatedRepoError as error:
        raise UserError(
            f"{section} {name}: the owner of {source} must grant access: ask on its page, then run `hf auth login`"
        ) from error
    except RevisionNotFoundError as error:
        raise UserError(f"{section} {name}: {source} has no revision {revision!r}: set {section}.revision") from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise UserError(
            f"{section} {name}: {source} is neither a folder nor a model on the hub (or no access): mend the name"
        ) from error
    except UserError:
        raise
    except Exception:  # the HTTP library that the hub's client uses changes, and its errors with it
        return None
    return Snapshot(Path(config).parent.name, None, files)


def _cached(source: str, revision: str | None) -> Snapshot | None:
    """As the hub's cache says; None where it has no such model or revision."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(source, CONFIG_FILE, revision=revision or DEFAULT_REVISION)
    except HFValidationError:
        return None  # no name of the hub's, so that its cache can't hold it
    if not isinstance(found, str):
        return None
    folder = Path(found).parent
    return Snapshot(folder.name, folder, frozenset(file.name for file in folder.iterdir()))
