"""Models of the Hugging Face hub by commit: what a branch or tag stands for, asked once a process."""

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from dwbench.errors import UserError

HUB_TIMEOUT = 5.0
"""Seconds to wait for the hub's first answer; transformers itself would retry for 50."""

TAKE_CACHED = "set HF_HUB_OFFLINE=1 to take what the cache holds"

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


class _Refused(Exception):
    """Why there is no snapshot, and the key of the model's section by which that is mended; None: not by a key."""

    def __init__(self, why: str, key: str | None = None) -> None:
        super().__init__(why)
        self.why = why
        self.key = key


def snapshot_of(spec: Source) -> Snapshot:
    """The commit that the revision of a hub model (a commit, tag or branch; None: `main`) stands for.

    The hub is asked once a process: a branch that moves does not divide what one process does. Where a launcher spreads
    a sweep over processes, each asks for itself; with a commit as `revision` all get the same answer. Without
    network, or with HF_HUB_OFFLINE=1, the hub's cache says it.

    Raises UserError, within seconds, for a wrong name or revision, without access, where the hub answers with an error
    of its own, and without network and cache.
    """
    try:
        return _snapshot(spec.source, spec.revision)
    except _Refused as error:
        mend = f": set {spec.section}.{error.key}" if error.key else ""
        raise UserError(f"{spec.section} {spec.name}: {error.why}{mend}") from error


def hub_identity(spec: Source) -> dict[str, str]:
    """Plain data that determines the weights of a hub model."""
    return {"hub": spec.source, "commit": snapshot_of(spec).commit}


@functools.cache
def _snapshot(source: str, revision: str | None) -> Snapshot:
    found = _on_hub(source, revision) or _cached(source, revision)
    if found is None:
        at = f" at revision {revision}" if revision else ""
        raise _Refused(f"no network, and {source}{at} is not in the cache of the hub", "source=FOLDER")
    return found


def _on_hub(source: str, revision: str | None) -> Snapshot | None:
    """As the hub says; None without network. Raises _Refused where the hub answers and there is no such snapshot."""
    from huggingface_hub import HfApi, hf_hub_download, is_offline_mode
    from huggingface_hub.errors import (  # type: ignore[attr-defined]  # HTTPError: httpx's or httpx2's, by version
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        HTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    if is_offline_mode():
        return None
    try:
        told = HfApi().model_info(source, revision=revision, timeout=HUB_TIMEOUT)
        files = frozenset(file.rfilename for file in told.siblings or ())
        if CONFIG_FILE not in files:
            raise _Refused(f"{source} has no {CONFIG_FILE}, so transformers can't load it")
        # By the revision's own name: so the cache learns its commit, for a later run without network.
        try:
            config = hf_hub_download(source, CONFIG_FILE, revision=revision, etag_timeout=HUB_TIMEOUT)
        except LocalEntryNotFoundError as error:
            raise error.__cause__ or error from None  # what kept it from asking the hub
    except GatedRepoError as error:
        raise _Refused(f"the owner of {source} must grant access: ask on its page, then run `hf auth login`") from error
    except RevisionNotFoundError as error:
        raise _Refused(f"{source} has no revision {revision!r}", "revision") from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise _Refused(f"{source} is neither a folder nor a model on the hub (or no access): mend the name") from error
    except HfHubHTTPError as error:
        status = error.response.status_code
        raise _Refused(f"the hub answers {status} for {source}: try again later, or {TAKE_CACHED}") from error
    except (HTTPError, ConnectionError, TimeoutError):
        return None  # no answer at all
    except (OSError, ValueError) as error:  # a full disk; an answer that is not the hub's
        line = " ".join(str(error).split())[:200]
        raise _Refused(f"{source} can't be had from the hub ({line}): mend that, or {TAKE_CACHED}") from error
    if Path(config).parent.name != told.sha:
        # The client takes what its cache holds, maybe of old, where it can't learn what the hub has.
        raise _Refused(f"the hub told of {source} but did not serve it: try again later, or {TAKE_CACHED}")
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
