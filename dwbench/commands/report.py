"""`dwbench report`: one HTML page from records; nothing is computed but what the page says."""

from collections.abc import Sequence
from pathlib import Path

from dwbench.cli import Parser
from dwbench.errors import UserError
from dwbench.files import check_file, expanded, write_whole


def report(arguments: Sequence[str]) -> int:
    from dwbench.records import load_records
    from dwbench.report.page.document import document
    from dwbench.report.page.payload import payload
    from dwbench.report.page.published_points import every_published

    given = _parser().parse_args(arguments)
    folder, out = Path(given.results), expanded(given.out)
    check_file(out, f"--out {out}")
    records = load_records(folder)
    if not records:
        raise UserError(f"{folder}: no records: run something first")
    data = payload(records, every_published(), allow_mixed=given.allow_mixed)
    page = document(data).encode()
    write_whole(out, page)
    print(f"{out}: {len(data['runs']):,} runs, {len(page) / 1e6:.1f} MB")
    return 0


def _parser() -> Parser:
    parser = Parser(prog="dwbench report", description="One self-contained HTML page from records, to look at.")
    parser.add_argument("--results", default="results", help="folder of records (results)")
    parser.add_argument("--out", default="report.html", help="file to write (report.html)")
    parser.add_argument(
        "--allow-mixed", action="store_true", help="show other library versions or hardware in one plot too"
    )
    return parser
