"""`dwbench report`: one HTML page from records; nothing is computed but what the page says."""

import sys
from collections.abc import Sequence
from pathlib import Path

from dwbench.cli import Parser
from dwbench.errors import UserError
from dwbench.files import check_file, expanded, is_stream, write_whole


def report(arguments: Sequence[str]) -> int:
    from dwbench.records import load_records
    from dwbench.report.page.document import document
    from dwbench.report.page.failed import failures
    from dwbench.report.page.payload import payload
    from dwbench.report.page.published_points import every_published
    from dwbench.report.page.summary import counted

    given = _parser().parse_args(arguments)
    folder, out = Path(given.results), expanded(given.out)
    check_file(out, f"--out {out}")
    records, failed = load_records(folder), failures(folder)
    without = f"{counted(len(failed), 'run')} failed: see {folder / 'failed'}" if failed else ""
    if not records:
        raise UserError(f"{folder}: no records: {without or 'run something first'}")
    data = payload(records, every_published(), failed=failed, allow_mixed=given.allow_mixed)
    page = document(data).encode()
    try:
        write_whole(out, page)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise UserError(f"--out {out}: can't be written ({error.strerror}): name another file") from error
    told = [f"{out}: {len(data['runs']):,} runs, {len(page) / 1e6:.1f} MB"]
    if data["samples_left_out"]:
        told.append(f"sample rows of {data['samples_left_out']:,} runs left out: there is no room for more")
    # A page that goes to standard output must not have these lines in it.
    print("\n".join([*told, *([without] if without else [])]), file=sys.stderr if is_stream(out) else sys.stdout)
    return 0


def _parser() -> Parser:
    parser = Parser(prog="dwbench report", description="One self-contained HTML page from records, to look at.")
    parser.add_argument("--results", default="results", help="folder of records (results)")
    parser.add_argument("--out", default="report.html", help="file to write (report.html)")
    parser.add_argument(
        "--allow-mixed", action="store_true", help="show other library versions or hardware in one plot too"
    )
    return parser
