"""Files of rows: JSON Lines, JSON, CSV and Parquet, read with the place of every row and written back unchanged.

Chosen rows are copied as the text that they are in their file (Parquet: as Arrow rows with the file's schema), so
that a number's spelling, an unknown column or a line's end survive a selection.
"""

import difflib
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dwbench.data.textfiles import Row, take_apart
from dwbench.errors import UserError
from dwbench.files import check_file, is_stream, write_whole

SUFFIXES = (".jsonl", ".json", ".csv", ".parquet")


def read_rows(path: Path) -> list[Row]:
    """The rows of a file with their places, `file:line` (Parquet: `file: row n`, from 0).

    Raises UserError for whatever is wrong with the file, with its line.
    """
    if _suffix(path) == ".parquet":
        rows = [(f"{path}: row {n}", fields) for n, fields in enumerate(_read_parquet(path).to_pylist())]
    else:
        rows = take_apart(path, _read_text(path)).rows
    if not rows:
        raise UserError(f"{path}: holds no rows: give a file with at least one")
    return rows


def write_rows(source: Path, positions: Sequence[int], out: Path) -> None:
    """Write the rows of `source` at `positions` (numbers from 0) to `out`, exactly as they are and in their order.

    `out` appears whole or not at all, unless it is a stream. Raises UserError where its format is not that of `source`.
    """
    check_output(source, out)
    chosen = sorted(positions)
    if _suffix(source) == ".parquet":
        import pyarrow.parquet

        buffer = io.BytesIO()
        pyarrow.parquet.write_table(_read_parquet(source).take(chosen), buffer)
        write_output(out, buffer.getvalue())
    else:
        parts = take_apart(source, _read_text(source))
        # Where `between` is empty, a row's text has its own line end, but for the last line of some files.
        texts = [text if parts.between or text.endswith(("\n", "\r")) else text + "\n" for text in parts.texts]
        write_output(out, (parts.head + parts.between.join(texts[i] for i in chosen) + parts.tail).encode())


def write_fields(rows: Sequence[Mapping[str, Any]], out: Path) -> None:
    """Write rows that come from no file (a hub data set) as JSON Lines; `out` appears whole or not at all."""
    check_output(None, out)
    write_output(out, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode())


def check_output(source: Path | None, out: Path) -> None:
    """Raise UserError if writing rows of `source` (None: of a hub data set) to `out` can't work.

    To be called before hours of selection, too.
    """
    suffix = ".jsonl" if source is None else source.suffix.lower()
    if out.suffix.lower() != suffix and not is_stream(out):
        raise UserError(f"{out}: rows are written as they were, so its name must end in {suffix} as the pool's")
    if source is not None and out.exists() and source.exists() and out.samefile(source):
        raise UserError(f"{out}: is the pool itself: name another file")
    check_file(out, str(out))


def write_output(out: Path, content: bytes) -> None:
    """As `write_whole`, with a UserError where that can't be done."""
    try:
        write_whole(out, content)
    except OSError as error:
        raise UserError(f"{out}: can't be written ({error.strerror}): name another file") from error


def _suffix(path: Path) -> str:
    """The format of an existing file. Raises UserError for a missing or unknown one."""
    if path.is_dir():
        raise UserError(f"{path}: is a folder: give a file ending in {', '.join(SUFFIXES)}")
    if not path.exists():
        siblings = sorted(item.name for item in path.parent.iterdir()) if path.parent.is_dir() else []
        close = difflib.get_close_matches(path.name, siblings, n=1)
        hint = f"did you mean {str(path.with_name(close[0]))!r}?" if close else "give the path of an existing file"
        raise UserError(f"{path}: no such file: {hint}")
    if path.suffix.lower() not in SUFFIXES:
        raise UserError(f"{path}: unknown format {path.suffix!r}: give a file ending in {', '.join(SUFFIXES)}")
    return path.suffix.lower()


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: can't be read ({error.strerror}): check its permissions") from error


def _read_text(path: Path) -> str:
    content = _read_bytes(path)
    try:
        # A byte-order mark, as some editors write it, is no part of the first row.
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        byte = content[error.start]
        raise UserError(f"{path}:{line}: is not UTF-8 (byte 0x{byte:02x}): save the file as UTF-8") from error


def _read_parquet(path: Path) -> Any:
    import pyarrow
    import pyarrow.parquet

    try:
        return pyarrow.parquet.read_table(io.BytesIO(_read_bytes(path)))
    except pyarrow.ArrowInvalid as error:
        raise UserError(f"{path}: is no readable Parquet file: write it anew") from error
