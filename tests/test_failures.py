"""Errors that runs leave in results/failed go when what failed is done."""

import json
from pathlib import Path

from dwbench.failures import forget_failure, write_failure


def failed(results: Path, key: str, command: str) -> Path:
    return write_failure(results, key, "UserError: no", "Traceback", {"config": {"seed": 0}, "command": command})


def left(results: Path) -> set[str]:
    return {path.stem for path in (results / "failed").iterdir()}


def test_an_error_is_kept_with_its_command(tmp_path: Path) -> None:
    told = json.loads(failed(tmp_path, "k1", "dwbench run a=1").read_text())
    assert told == {
        "run": "k1", "error": "UserError: no", "traceback": ["Traceback"], "config": {"seed": 0},
        "command": "dwbench run a=1",
    }  # fmt: skip


def test_what_is_done_has_not_failed(tmp_path: Path) -> None:
    failed(tmp_path, "k1", "dwbench run a=1")
    failed(tmp_path, "other", "dwbench run a=2")
    forget_failure(tmp_path, "k1", "dwbench run -m a=1")  # by another command
    assert left(tmp_path) == {"other"}


def test_an_error_under_another_key_of_the_same_command_goes_too(tmp_path: Path) -> None:
    failed(tmp_path, "before the key was known", "dwbench run a=1")
    forget_failure(tmp_path, "k1", "dwbench run a=1")
    assert left(tmp_path) == set()


def test_a_command_leaves_one_error(tmp_path: Path) -> None:
    failed(tmp_path, "before the key was known", "dwbench run a=1")
    failed(tmp_path, "k1", "dwbench run a=1")
    assert left(tmp_path) == {"k1"}


def test_files_of_others_stay(tmp_path: Path) -> None:
    failed(tmp_path, "k1", "dwbench run a=1")
    (tmp_path / "failed" / "broken.json").write_text("{")
    (tmp_path / "failed" / "list.json").write_text("[1]")
    forget_failure(tmp_path, "k1", "dwbench run a=1")
    assert left(tmp_path) == {"broken", "list"}


def test_nothing_has_failed_yet(tmp_path: Path) -> None:
    forget_failure(tmp_path, "k1", "dwbench run a=1")
    assert list(tmp_path.iterdir()) == []
