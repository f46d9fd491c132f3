"""Records are written once, named so that no two runs share a file, and read back or refused by name."""

import json
from pathlib import Path
from typing import Any

import pytest
from made_records import made

from dwbench.errors import UserError
from dwbench.records import load_records, record_path, write_record


def write(folder: Path, data: Any) -> Path:
    path = record_path(folder, data["experiment"], data)
    assert write_record(path, data)
    return path


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    data = made("ifd", scorer="smollm2-135m").data
    path = write(tmp_path, data)
    assert path.parent == tmp_path / "quickstart"
    assert path.name == f"dialogsum-smollm2-135m-ifd-0.1-s0-{data['run'][:8]}.json"
    (record,) = load_records(tmp_path)
    assert record.data == data
    assert record.path == path
    assert (record.selector, record.rows, record.seed, record.experiment) == ("ifd", 100, 0, "quickstart")
    assert record.spent("selection", "seconds") == 2.0


def test_labels_that_differ_in_punctuation_only_do_not_share_a_file(tmp_path: Path) -> None:
    paths = {record_path(tmp_path, None, made("x", label=label).data) for label in ("x(a=1)", "x[a=1]", "x a=1 ")}
    assert len(paths) == 3
    assert {path.parent.name for path in paths} == {"runs"}


def test_another_environment_alone_leaves_the_file_untouched(tmp_path: Path) -> None:
    data = dict(made().data)
    path = write(tmp_path, data)
    before = path.read_bytes()
    elsewhere = {
        **data,
        "environment": {**data["environment"], "commit": "f" * 40},
        "command": "dwbench run -m",
    }
    assert not write_record(path, elsewhere)
    assert path.read_bytes() == before
    assert write_record(path, {**elsewhere, "seed": 7})
    assert load_records(tmp_path)[0].seed == 7


def test_a_broken_file_is_written_anew(tmp_path: Path) -> None:
    data = made().data
    path = write(tmp_path, data)
    path.write_text("{")
    assert write_record(path, data)
    assert len(load_records(tmp_path)) == 1


def test_the_content_key_ignores_where_a_run_was_made() -> None:
    data = dict(made().data)
    record = made()
    assert type(record)(record.path, {**data, "command": "x"}).content_key == record.content_key
    assert type(record)(record.path, {**data, "seed": 1}).content_key != record.content_key


def test_failures_are_no_records(tmp_path: Path) -> None:
    write(tmp_path, made().data)
    (tmp_path / "failed").mkdir()
    (tmp_path / "failed" / "x.json").write_text('{"error": "boom"}')
    assert len(load_records(tmp_path)) == 1


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"schema": 1,\n oops}', "bad.json:2: not JSON"),
        ("[]", "bad.json: not a record"),
        ('{"a": 1}', "bad.json: not a record"),
        ('{"schema": 2}', "bad.json: record schema 2, this dwbench reads 1"),
        ('{"schema": 1, "run": "x"}', "bad.json: the record lacks 'experiment'"),
    ],
)
def test_what_is_no_record_is_refused_by_name(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "bad.json").write_text(text)
    with pytest.raises(UserError) as error:
        load_records(tmp_path)
    assert told in str(error.value)
    assert "\n" not in str(error.value)


def test_a_nested_key_that_is_missing_is_named(tmp_path: Path) -> None:
    data = json.loads(json.dumps(made().data))
    del data["cost"]["training"]["total"]
    write(tmp_path, data)
    with pytest.raises(UserError, match=r"lacks 'cost\.training\.total'"):
        load_records(tmp_path)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere: no such folder"):
        load_records(tmp_path / "nowhere")
