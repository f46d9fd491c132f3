"""The store of stage results: `<root>/<stage>/<key>/` with `manifest.json` and the stage's files.

A result is written into a `.part` folder beside its place and appears by one rename, under a lock of the operating
system that dies with its process. So a result is either whole or absent, an exception stores nothing, and of several
processes that want one key, one builds and the others wait. What it costs: one lock file a key is left behind.

What was damaged later (a file cut short, edited or deleted) is as good as absent, and so is what used it: found out by
the hashes of the files whenever a result is looked up, and built again.

Costs live with results. A `Bench` tracks which stages a stage used; the cost of a selection is the sum over
everything it used, each key once, whether it was computed now or found.
"""

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import filelock
import numpy as np
from pydantic import TypeAdapter, ValidationError

from dwbench.component import key_of
from dwbench.cost import Cost, Meter
from dwbench.environment import environment
from dwbench.errors import UserError
from dwbench.files import write_whole
from dwbench.progress import Progress, Quiet

HASHED_BYTES = 64 * 2**20
"""Files up to this size are hashed whenever a result is looked up; of larger ones (gradients) the size must do."""


@dataclass(frozen=True)
class Artefact:
    """A stored result: where its files lie, what it cost by itself, and which other results it used."""

    ref: str
    folder: Path
    cost: Cost
    uses: tuple[str, ...]
    environment: Mapping[str, Any]

    def json(self, name: str) -> Any:
        return json.loads((self.folder / name).read_text(encoding="utf-8"))

    def arrays(self, name: str) -> dict[str, np.ndarray]:
        with np.load(self.folder / name, allow_pickle=False) as file:
            return {key: file[key] for key in file.files}


NUMBERS = re.compile(r"\[\n([-+\w.,\s]+)\](?=,?\n)")
"""A list of numbers (or of true, false, null) as `json` indents it: one a line."""


def write_json(path: Path, data: object) -> None:
    """Write `data` to `path` by a temporary file and a rename: readers see the old or the new text, never half."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    write_whole(path, NUMBERS.sub(lambda found: "[" + " ".join(found[1].split()) + "]", text).encode())


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class Manifest:
    """What `manifest.json` says of a result.

    Attributes:
        stage, key: its name; `identity`: what the key was made from.
        cost, uses, environment: as in `Artefact`.
        files: sha256 of each file, by its path in the folder; `sizes`: their bytes (not in manifests of old).
    """

    stage: str
    key: str
    identity: dict[str, Any]
    cost: Cost
    uses: tuple[str, ...]
    files: dict[str, str]
    environment: dict[str, Any]
    sizes: dict[str, int] = field(default_factory=dict)

    def fits(self, folder: Path) -> bool:
        """Whether the files in `folder` are those that were stored. Raises FileNotFoundError where one is missing."""
        for name, digest in self.files.items():
            path = folder / name
            size = path.stat().st_size
            if size != self.sizes.get(name, size):
                return False
            if size <= HASHED_BYTES and file_sha256(path) != digest:
                return False
        return True


_MANIFEST = TypeAdapter(Manifest)


@dataclass(frozen=True)
class Store:
    """Stage results below `root`."""

    root: Path

    def folder(self, stage: str, key: str) -> Path:
        return self.root / stage / key

    def find(self, stage: str, key: str) -> Artefact | None:
        """The stored result; None where it, or anything that it used, is absent or damaged."""
        ref = f"{stage}/{key}"
        used = self._with_uses((ref,))
        return None if None in used.values() else used[ref]

    def get(self, ref: str) -> Artefact:
        """The result named `<stage>/<key>`. Raises UserError where it, or anything that it used, is gone."""
        return self.closure((ref,))[ref]

    def closure(self, refs: tuple[str, ...]) -> dict[str, Artefact]:
        """Everything that `refs` used, themselves included, each once. Raises UserError where anything is gone."""
        found = {}
        for ref, artefact in self._with_uses(refs).items():
            if artefact is None:
                raise UserError(f"{ref} is not in the store {self.root} (any more): give the same command again")
            found[ref] = artefact
        return dict(sorted(found.items()))

    def _with_uses(self, refs: tuple[str, ...]) -> dict[str, Artefact | None]:
        """Everything that `refs` used, themselves included; None for what is absent or damaged."""
        found: dict[str, Artefact | None] = {}
        waiting = list(refs)
        while waiting:
            ref = waiting.pop()
            if ref not in found:
                found[ref] = artefact = self._read(ref)
                waiting.extend(artefact.uses if artefact else ())
        return found

    def _read(self, ref: str) -> Artefact | None:
        """The result by itself; None where it is absent or damaged."""
        folder = self.root / ref
        try:
            manifest = _MANIFEST.validate_json((folder / "manifest.json").read_bytes())
            whole = f"{manifest.stage}/{manifest.key}" == ref and manifest.fits(folder)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError, ValidationError):
            return None  # also where another process is just replacing a damaged one
        return None if not whole else Artefact(ref, folder, manifest.cost, manifest.uses, manifest.environment)

    @contextmanager
    def lock(
        self, stage: str, key: str, waiting: Callable[[], AbstractContextManager[None]] = nullcontext
    ) -> Iterator[None]:
        """Hold the key's lock; where another process holds it, wait for it inside of `waiting()`."""
        path = self.root / ".locks" / f"{stage}-{key}.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(path)
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            with waiting():
                lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def put(
        self,
        stage: str,
        key: str,
        identity: Mapping[str, Any],
        part: Path,
        cost: Cost,
        uses: tuple[str, ...],
    ) -> Artefact:
        """Turn the finished `.part` folder into the result, in place of a damaged one. Call it under the lock."""
        files = {str(path.relative_to(part)): path for path in sorted(part.rglob("*")) if path.is_file()}
        manifest = Manifest(
            stage=stage,
            key=key,
            identity=dict(identity),
            cost=cost,
            uses=uses,
            files={name: file_sha256(path) for name, path in files.items()},
            environment=environment(),
            sizes={name: path.stat().st_size for name, path in files.items()},
        )
        write_json(part / "manifest.json", asdict(manifest))
        folder = self.folder(stage, key)
        if folder.exists():
            shutil.rmtree(folder)
        part.replace(folder)
        return Artefact(f"{stage}/{key}", folder, cost, uses, manifest.environment)


Build = Callable[[Path], None]


class Bench:
    """A store with the stages that are being built in this process, innermost last.

    It is what models report their tokens to, and what makes nested stages exclusive: while an inner stage is
    looked up, waited for or built, the clock of the outer one stands.
    """

    def __init__(self, store: Store, progress: Progress | None = None) -> None:
        self.store = store
        self.progress: Progress = progress or Quiet()
        self._open: list[tuple[Meter, list[str]]] = []

    @property
    def meter(self) -> Meter:
        """The meter of the stage that is being built. Raises RuntimeError outside of any stage."""
        if not self._open:
            raise RuntimeError("work that costs something must run inside a stage")
        return self._open[-1][0]

    def apart(self, what: str) -> AbstractContextManager[None]:
        """Book a block apart from the stage that is being built, as `Meter.apart`; outside of any it costs nobody."""
        return self.meter.apart(what) if self._open else nullcontext()

    def use(self, ref: str) -> None:
        """Note that the stage that is being built uses the result `ref`, which is in the store."""
        if self._open and ref not in self._open[-1][1]:
            self._open[-1][1].append(ref)

    def stage(self, name: str, identity: Mapping[str, Any], build: Build) -> Artefact:
        """The result of stage `name` with this identity: found, or built by `build(folder)` and stored.

        `identity` is plain data that holds all that determines the result, a `version` of the stage included.
        """
        key = key_of(identity)
        if not self._open:
            return self._find_or_build(name, key, identity, build)
        meter, uses = self._open[-1]
        with meter.paused():
            artefact = self._find_or_build(name, key, identity, build)
        if artefact.ref not in uses:
            uses.append(artefact.ref)
        return artefact

    def _find_or_build(self, name: str, key: str, identity: Mapping[str, Any], build: Build) -> Artefact:
        found = self.store.find(name, key)
        if found is not None:
            self.progress.stage(name, "stored")
            return found
        with self.store.lock(name, key, lambda: self._waiting(name)):
            found = self.store.find(name, key)  # another process may have built it while this one waited
            if found is not None:
                self.progress.stage(name, "stored")
                return found
            if self.store.folder(name, key).exists():
                self.progress.stage(name, "damaged")
            self.progress.stage(name, "start")
            artefact = self._build(name, key, identity, build)
            self.progress.stage(name, "done")
            return artefact

    @contextmanager
    def _waiting(self, name: str) -> Iterator[None]:
        """Say that another process builds `name`, and book the time apart in the stage that needs it."""
        self.progress.stage(name, "wait")
        with self.meter.apart("wait") if self._open else nullcontext():
            yield

    def _build(self, name: str, key: str, identity: Mapping[str, Any], build: Build) -> Artefact:
        part = self.store.folder(name, key).with_name(f".{key}.part")
        shutil.rmtree(part, ignore_errors=True)  # left by a process that was killed: we hold its lock
        part.mkdir(parents=True)
        meter, uses = Meter(), list[str]()
        self._open.append((meter, uses))
        try:
            with meter.running():
                build(part)
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise
        finally:
            self._open.pop()
        return self.store.put(name, key, identity, part, meter.cost(), tuple(uses))
