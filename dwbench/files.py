"""Files that people name: where they lie, whether they can be written, and writing them whole or not at all."""

import os
import tempfile
from pathlib import Path

from dwbench.errors import UserError


def expanded(name: str) -> Path:
    """The path that a person wrote, `~` replaced. Raises UserError for the home of nobody."""
    try:
        return Path(name).expanduser()
    except RuntimeError:
        raise UserError(f"{name}: no such user: write the path without ~") from None


def is_stream(path: Path) -> bool:
    """Whether `path` is a device, a pipe or the like (`/dev/stdout`), which is written to and never replaced."""
    # A link of the system's to a regular file: standard output, where a shell sends it into one.
    own = path.is_symlink() and path.absolute().parts[1] in ("dev", "proc")
    return own or (path.exists() and not path.is_file() and not path.is_dir())


def write_whole(path: Path, content: bytes) -> None:
    """Write `content` to `path` whole or not at all: readers see the old or the new file, never half.

    A link stays, and what it leads to is replaced. A stream is written to. Raises OSError where that can't be done.
    """
    if is_stream(path):
        with path.open("ab") as stream:  # appending: a redirected standard output keeps what is there
            stream.write(content)
        return
    target = Path(os.path.realpath(path))
    part = _part(target)
    try:
        part.write_bytes(content)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def check_file(path: Path, what: str) -> None:
    """Raise UserError, beginning with `what`, where `write_whole` can't write `path`; to be called before long work."""
    if path.is_dir():
        raise UserError(f"{what}: is a folder: name a file in it")
    target = Path(os.path.realpath(path))
    if not target.parent.is_dir() and not is_stream(path):
        raise UserError(f"{what}: there is no folder {path.parent}: name a file in a folder that exists")
    if path.exists() and not os.access(path, os.W_OK):
        raise UserError(f"{what}: can't be written (Permission denied): name another file")
    if not is_stream(path):
        part = _part(target)
        try:
            part.touch()
            part.unlink()
        except OSError as error:
            raise UserError(f"{what}: can't be written ({error.strerror}): name another file") from error


def check_folder(path: Path, what: str) -> None:
    """Raise UserError, beginning with `what`, where nothing can be written into `path` or it can't be created.

    Leaves nothing behind, not even the folder.
    """
    above = path.absolute()
    while not os.path.lexists(above):
        above = above.parent
    if not above.is_dir():
        raise UserError(f"{what}: {above} is no folder: name another one")
    try:
        with tempfile.TemporaryFile(dir=above):
            return
    except OSError as error:
        raise UserError(f"{what}: can't be written ({error.strerror}): name another folder") from error


def _part(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.part")
