"""Files are written whole or not at all, streams are written to, and what can't be written is known beforehand."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from dwbench.errors import UserError
from dwbench.files import check_file, check_folder, expanded, is_stream, write_whole


def left(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_home_of_nobody() -> None:
    assert expanded("~/x") == Path.home() / "x"
    with pytest.raises(UserError, match=r"^~no-such-user/x\.jsonl: no such user: write the path without ~"):
        expanded("~no-such-user/x.jsonl")


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Path, content: bytes) -> None:
        self.touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(OSError, match="No space left"):
        write_whole(tmp_path / "a", b"x")
    assert left(tmp_path) == set()


def test_a_link_stays(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder/target")
    check_file(tmp_path / "link", "x")
    for content in (b"one", b"two"):
        write_whole(tmp_path / "link", content)
        assert (tmp_path / "link").is_symlink()
        assert (tmp_path / "folder" / "target").read_bytes() == content
    assert left(tmp_path / "folder") == {"target"}


def test_a_device_stays(tmp_path: Path) -> None:
    for device in ("/dev/null", "/dev/full"):
        assert is_stream(Path(device))
        check_file(Path(device), device)
    write_whole(Path("/dev/null"), b"x")
    with pytest.raises(OSError, match="No space left"):
        write_whole(Path("/dev/full"), b"x")
    assert Path("/dev/full").is_char_device()
    assert Path("/dev/null").is_char_device()


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
def test_standard_output_that_goes_into_a_file(name: str, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("before\n")
    code = f"from dwbench.files import *; p = Path({name!r}); check_file(p, 'x'); write_whole(p, b'rows')"
    with (tmp_path / "out").open("a") as file:
        subprocess.run([sys.executable, "-c", code], stdout=file, check=True)
    assert (tmp_path / "out").read_text() == "before\nrows"
    assert Path("/dev/stdout").is_symlink()


def test_a_file_in_shared_memory_is_no_stream() -> None:
    path = Path(f"/dev/shm/dwbench-test-{os.getpid()}")
    if not path.parent.is_dir():
        pytest.skip("no /dev/shm")
    try:
        write_whole(path, b"one")
        write_whole(path, b"two")
        assert path.read_bytes() == b"two"
    finally:
        path.unlink(missing_ok=True)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("folder", "is a folder: name a file in it"),
        ("no/file", "there is no folder .*/no: name a file in a folder that exists"),
        ("old/file", "there is no folder .*/old: name a file in a folder that exists"),
        ("/proc/file", r"can't be written \(No such file or directory\): name another file"),
        ("x" * 250, r"can't be written \(File name too long\)"),
    ],
)
def test_files_that_can_not_be_written(name: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "old").touch()
    with pytest.raises(UserError, match=f"^--out: {message}"):
        check_file(tmp_path / name, "--out")
    assert left(tmp_path) == {"folder", "old"}


@pytest.mark.parametrize(
    ("name", "message"),
    [("old", "{tmp}/old is no folder: name another one"), ("old/x/y", "{tmp}/old is no folder"),
     ("/proc/x/y", "can't be written ("), ("dangling", "{tmp}/dangling is no folder")],
)  # fmt: skip
def test_folders_that_can_not_be_written(name: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "old").touch()
    (tmp_path / "dangling").symlink_to("nowhere")
    with pytest.raises(UserError, match=re.escape("--store: " + message.format(tmp=tmp_path))):
        check_folder(tmp_path / name, "--store")
    assert left(tmp_path) == {"old", "dangling"}


@pytest.mark.parametrize("name", ["", "new", "new/er/est"])
def test_a_check_leaves_nothing(name: str, tmp_path: Path) -> None:
    check_folder(tmp_path / name, "--store")
    check_file(tmp_path / "file", "--out")
    assert left(tmp_path) == set()


def test_without_permission(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write anywhere")
    (tmp_path / "file").touch(0o400)
    with pytest.raises(UserError, match="Permission denied"):
        check_file(tmp_path / "file", "--out")
    tmp_path.chmod(0o500)
    with pytest.raises(UserError, match="Permission denied"):
        check_folder(tmp_path / "new", "--store")
    with pytest.raises(UserError, match="Permission denied"):
        check_file(tmp_path / "new", "--out")
    tmp_path.chmod(0o700)
