import csv
import io
import json
import os
import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dwbench.data.readers import check_output, read_rows, write_fields, write_rows
from dwbench.errors import UserError


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


JSONL = b'\n{"a": 1.50, "b": "x\\u00e9"}\r\n  \n{"b":"\xe2\x80\xa8","a":2}\n{"a": 3, "b": ""}'
CSV = b'a,"b"\n1.50,"two\nlines, ""quoted"""\n\n2,x\r\n003,y'
JSON = b'[{"a": 1.50, "b": "x\\u00e9"},\n {"a": 2e0,\n  "b": "]"},   {"a": 3, "b": ""}\n]\n'


@pytest.mark.parametrize(
    ("name", "content", "lines", "values"),
    [
        ("p.jsonl", JSONL, [2, 4, 5], ["xé", "\u2028", ""]),
        ("p.csv", CSV, [2, 5, 6], ['two\nlines, "quoted"', "x", "y"]),
        ("p.json", JSON, [1, 2, 3], ["xé", "]", ""]),
        ("p.jsonl", b"\xef\xbb\xbf" + JSONL.lstrip(), [1, 3, 4], ["xé", "\u2028", ""]),
    ],
)
def test_rows_come_with_their_lines(
    tmp_path: Path, name: str, content: bytes, lines: list[int], values: list[str]
) -> None:
    path = write(tmp_path, name, content)
    rows = read_rows(path)
    assert [where for where, _ in rows] == [f"{path}:{line}" for line in lines]
    assert [fields["b"] for _, fields in rows] == values


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "p.jsonl",
            '{"a": 1}\n\n{"a": }\n',
            "p.jsonl:3: malformed JSON (Expecting value, column 7): one object a line",
        ),
        ("p.jsonl", '{"a": 1}\n[1]\n', "p.jsonl:2: is no object but a list: a row is written {"),
        ("p.jsonl", '{"a": 1}\nnull\n', "p.jsonl:2: is no object but null"),
        ("p.jsonl", "[" * 200_000, "p.jsonl:1: malformed JSON (nested too deeply)"),
        ("p.jsonl", "{}\n1" + "0" * 5000, "p.jsonl:2: malformed JSON (a number of too many digits)"),
        ("p.json", "[{},\n" + "[" * 200_000, "p.json:2: malformed JSON (nested too deeply)"),
        ("p.jsonl", "", "p.jsonl: holds no rows: give a file with at least one"),
        ("p.jsonl", "\n \n", "p.jsonl: holds no rows"),
        (
            "p.jsonl",
            b'{"a": "x"}\n{"a": "\xe9"}\n',
            "p.jsonl:2: is not UTF-8 (byte 0xe9): save the file as UTF-8",
        ),
        ("p.json", "", "p.json: holds no rows"),
        ("p.json", "[]", "p.json: holds no rows"),
        (
            "p.json",
            '\n{"a": 1}',
            "p.json:2: is no list: a list of objects is expected (one object a line: name it .jsonl)",
        ),
        ("p.json", '[{"a": 1},\n{"a": 1', "p.json:2: malformed JSON (Expecting ',' delimiter, column 8)"),
        ("p.json", '[{"a": 1}\n{"a": 1}]', "p.json:2: malformed JSON (',' or ']' missing)"),
        ("p.json", '[{"a": 1},\n', "p.json:2: malformed JSON (Expecting value"),
        ("p.json", '[{"a": 1}]\n\nx', "p.json:3: malformed JSON (something behind the list)"),
        ("p.json", '[{"a": 1},\n3]', "p.json:2: is no object but a number"),
        ("p.csv", "", "p.csv: holds no rows"),
        ("p.csv", "a,b\n", "p.csv: holds no rows"),
        ("p.csv", "a,b\n1,2\n1,2,3\n", "p.csv:3: 3 cells but 2 columns: quote cells that hold commas"),
        ("p.csv", "a,a\n1,2\n", "p.csv:1: column 'a' is there twice: rename one of them"),
        ("p.csv", "a, a\n1,2\n", "p.csv:1: column 'a' is there twice: rename one of them"),
        ("p.csv", "a;b\n1;2,3\n", "p.csv:1: ';' separates the columns: save the file with commas"),
        ("p.csv", "\na\tb\n1\t2\n", "p.csv:2: '\\t' separates the columns: save the file with commas"),
        ("p.csv", 'a,b\n1,2\n1,"2', "p.csv:3: malformed CSV (unexpected end of data)"),
        ("p.parquet", "no parquet", "p.parquet: is no readable Parquet file"),
        ("p.txt", "x", "p.txt: unknown format '.txt': give a file ending in .jsonl, .json, .csv, .parquet"),
    ],
)
def test_a_bad_file_gets_one_line(tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
    path = write(tmp_path, name, content)
    with pytest.raises(UserError, match=re.escape(f"{tmp_path}/{message}")) as caught:
        read_rows(path)
    assert "\n" not in str(caught.value)


def test_a_missing_file_gets_the_nearest_name(tmp_path: Path) -> None:
    write(tmp_path, "pool.jsonl", "{}")
    with pytest.raises(UserError, match=r"pol\.jsonl: no such file: did you mean '.*/pool\.jsonl'"):
        read_rows(tmp_path / "pol.jsonl")
    with pytest.raises(UserError, match="give the path of an existing file"):
        read_rows(tmp_path / "nowhere" / "x.jsonl")
    with pytest.raises(UserError, match="is a folder: give a file"):
        read_rows(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("p.jsonl", JSONL, b'{"a": 1.50, "b": "x\\u00e9"}\r\n{"a": 3, "b": ""}\n'),
        ("p.csv", CSV, b'a,"b"\n1.50,"two\nlines, ""quoted"""\n003,y\n'),
        ("p.json", JSON, b'[\n{"a": 1.50, "b": "x\\u00e9"},\n{"a": 3, "b": ""}\n]\n'),
    ],
)
def test_chosen_rows_are_written_as_they_were(tmp_path: Path, name: str, content: bytes, expected: bytes) -> None:
    source, out = write(tmp_path, name, content), tmp_path / f"out{Path(name).suffix}"
    write_rows(source, [2, 0], out)
    assert out.read_bytes() == expected
    assert [fields for _, fields in read_rows(out)] == [read_rows(source)[i][1] for i in (0, 2)]
    assert sorted(item.name for item in tmp_path.iterdir()) == sorted([source.name, out.name])


def test_parquet_rows_keep_their_schema(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    schema = pa.schema([("id", pa.int16()), ("tags", pa.list_(pa.string()))], metadata={"by": "us"})
    table = pa.table({"id": [1, 2, 3], "tags": [["x"], [], None]}, schema=schema)
    pq.write_table(table, tmp_path / "p.parquet")
    write_rows(tmp_path / "p.parquet", [2, 1], tmp_path / "out.parquet")
    out = pq.read_table(tmp_path / "out.parquet")
    assert out.schema.equals(pq.read_schema(tmp_path / "p.parquet"), check_metadata=True)
    assert (out.schema.field("id").type, out.schema.metadata) == (pa.int16(), {b"by": b"us"})
    assert out.to_pylist() == table.take([1, 2]).to_pylist()
    assert read_rows(tmp_path / "out.parquet")[1] == (
        f"{tmp_path}/out.parquet: row 1",
        {"id": 3, "tags": None},
    )


def test_an_output_that_can_not_work_is_refused_first(tmp_path: Path) -> None:
    source = write(tmp_path, "p.jsonl", '{"a": 1}\n')
    for out, message in [
        ("x.csv", r"x\.csv: rows are written as they were, so its name must end in \.jsonl"),
        ("no/x.jsonl", "there is no folder .*/no: name a file in a folder that exists"),
        ("p.jsonl", "is the pool itself"),
    ]:
        with pytest.raises(UserError, match=message):
            check_output(source, tmp_path / out)
        with pytest.raises(UserError, match=message):
            write_rows(source, [0], tmp_path / out)
    assert source.read_text() == '{"a": 1}\n'


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write(tmp_path, "p.jsonl", '{"a": 1}\n')
    out = write(tmp_path, "out.jsonl", "old")

    def fail(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(UserError, match=r"out\.jsonl: can't be written \(No space left on device\)"):
        write_rows(source, [0], out)
    assert out.read_text() == "old"
    assert sorted(item.name for item in tmp_path.iterdir()) == ["out.jsonl", "p.jsonl"]


def test_spaces_behind_commas(tmp_path: Path) -> None:
    spaced = write(tmp_path, "p.csv", 'a, b\n1, "x, ""y"""\n2, z \n')
    assert [fields for _, fields in read_rows(spaced)] == [{"a": "1", "b": 'x, "y"'}, {"a": "2", "b": "z "}]
    write_rows(spaced, [0], tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_text() == 'a, b\n1, "x, ""y"""\n'
    plain = write(tmp_path, "q.csv", '"a, b",c\n1, x\n')  # a comma in a name is no such habit
    assert [fields for _, fields in read_rows(plain)] == [{"a, b": "1", "c": " x"}]


def test_a_long_cell(tmp_path: Path) -> None:
    path = write(tmp_path, "p.csv", "a,b\n1," + "x" * 200_000 + "\n")
    ((_, fields),) = read_rows(path)
    assert len(fields["b"]) == 200_000


def test_a_stream_is_written_to(tmp_path: Path) -> None:
    source, pipe = write(tmp_path, "p.jsonl", '{"a": 1}\n{"a": 2}\n'), tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = subprocess.Popen(["cat", pipe], stdout=subprocess.PIPE, text=True)
    check_output(source, pipe)
    write_rows(source, [1], pipe)
    assert reader.communicate(timeout=10)[0] == '{"a": 2}\n'
    assert pipe.is_fifo()


def test_rows_without_a_file_are_written_as_json_lines(tmp_path: Path) -> None:
    write_fields([{"a": "é"}, {"a": 2}], tmp_path / "out.jsonl")
    assert (tmp_path / "out.jsonl").read_text() == '{"a": "é"}\n{"a": 2}\n'


TEXT = st.text(st.characters(codec="utf-8"), max_size=8)


@settings(deadline=None)  # a busy machine is no failure
@given(rows=st.lists(st.fixed_dictionaries({"a": TEXT, "b": TEXT}), min_size=1, max_size=5), data=st.data())
def test_any_text_survives(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, str]], data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("any")
    buffer = io.StringIO(newline="")
    # NUL is the one character that CSV as Python reads it has no way to hold.
    clean = [{name: text.replace("\0", "") for name, text in row.items()} for row in rows]
    writer = csv.DictWriter(buffer, ["a", "b"], quoting=csv.QUOTE_ALL)
    writer.writeheader()
    writer.writerows(clean)
    positions = data.draw(st.lists(st.sampled_from(range(len(rows))), unique=True, min_size=1))
    for name, content, values in [
        ("p.jsonl", "\n".join(json.dumps(row, ensure_ascii=False) for row in rows), rows),
        ("p.json", json.dumps(rows, ensure_ascii=False, indent=1), rows),
        ("p.csv", buffer.getvalue(), clean),
    ]:
        source = write(folder, name, content)
        assert [fields for _, fields in read_rows(source)] == values
        write_rows(source, positions, folder / f"out-{name}")
        assert [fields for _, fields in read_rows(folder / f"out-{name}")] == [values[i] for i in sorted(positions)]
