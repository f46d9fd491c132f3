"""`dwbench status`: what sweeps tell of themselves, from another terminal. Reads only."""

import time
from collections.abc import Sequence
from pathlib import Path

from dwbench.cli import Parser
from dwbench.errors import UserError


def status(arguments: Sequence[str]) -> int:
    from dwbench.status import folder_beside, sweeps
    from dwbench.status_view import lines

    given = _parser().parse_args(arguments)
    folder = folder_beside(Path(given.store))
    found = sweeps(folder)
    if given.results is not None:
        found = [sweep for sweep in found if Path(sweep.results).resolve() == Path(given.results).resolve()]
    if not found:
        of = f" with results in {given.results}" if given.results is not None else ""
        raise UserError(f"{folder}: no sweep{of}: `dwbench run` begins one; --store DIR says where its store lies")
    now = time.time()
    print("\n\n".join("\n".join(line.text for line in lines(sweep, now)) for sweep in found))
    return 0


def _parser() -> Parser:
    parser = Parser(
        prog="dwbench status",
        description="What the sweeps do that run here, and how those ended that ran before: runs done, running and "
        "failed, time left, best so far. What was killed goes on where it stopped by the same command.",
    )
    parser.add_argument("--results", help="only sweeps whose records go to this folder")
    parser.add_argument("--store", default=".dwbench/store", help="the sweeps' store_dir (.dwbench/store)")
    return parser
