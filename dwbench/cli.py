"""The command line. Imports nothing heavy: `--help` answers at once."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from dwbench.errors import UserError

USAGE = """\
usage: dwbench COMMAND ...

Which rows of a data set are worth tuning on? Every selection method on one footing, its cost measured.

commands:
  run [key=value ...] [-m]      one run or a sweep: select, tune, evaluate; prints the table of what it ran
  select POOL --selector NAME   choose rows of your own data, no training
  status                        how far the sweeps are that run here: done, running, failed, time left, best so far
  table [NAME]                  tables from records; of a paper's experiment with its numbers beside ours
  list [WHAT]                   selectors, models, datasets, experiments
  check [key=value ...]         compose and validate; say which stages would run and which are stored
  report [--out FILE]           one HTML page from records, to look at
  plot [NAME]                   figures for papers from records: SVG, PDF or PNG
  publish [--dashboard]         records to W&B, each once, and a table of them all

  dwbench COMMAND --help says more. A first run without network or account: dwbench run experiment=quickstart
"""


def _run(arguments: Sequence[str]) -> int:
    from dwbench.commands.run import run

    return run(arguments)


def _check(arguments: Sequence[str]) -> int:
    from dwbench.commands.check import check

    return check(arguments)


def _select(arguments: Sequence[str]) -> int:
    from dwbench.commands.select import select

    return select(arguments)


def _table(arguments: Sequence[str]) -> int:
    from dwbench.commands.show import table

    return table(arguments)


def _list(arguments: Sequence[str]) -> int:
    from dwbench.commands.show import list_names

    return list_names(arguments)


def _report(arguments: Sequence[str]) -> int:
    from dwbench.commands.report import report

    return report(arguments)


def _plot(arguments: Sequence[str]) -> int:
    from dwbench.commands.plot import plot

    return plot(arguments)


def _status(arguments: Sequence[str]) -> int:
    from dwbench.commands.status import status

    return status(arguments)


def _publish(arguments: Sequence[str]) -> int:
    from dwbench.commands.publish import publish

    return publish(arguments)


COMMANDS: dict[str, Callable[[Sequence[str]], int]] = {
    "run": _run,
    "select": _select,
    "table": _table,
    "list": _list,
    "check": _check,
    "report": _report,
    "plot": _plot,
    "status": _status,
    "publish": _publish,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; the exit code: 0 done, 1 a run failed, 2 bad input, 130 interrupted."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] in ("-h", "--help", "help"):
        print(USAGE, end="")
        return 0
    if given[0] == "--version":
        from dwbench import __version__

        print(__version__)
        return 0
    # For a user's own selectors beside their conf/ folder; last, so that nothing is shadowed.
    sys.path.append(os.getcwd())  # noqa: PTH109  pathlib takes longer to import than the rest of --help
    try:
        if given[0] not in COMMANDS:
            from dwbench.errors import nearest

            raise UserError(f"{given[0]}: no such command: {nearest(given[0], COMMANDS)}")
        return COMMANDS[given[0]](given[1:])
    except UserError as error:
        print(f"dwbench: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("dwbench: interrupted; the same command goes on where this one stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output has gone: nothing to tell, and nobody to tell it
        return 0


class Parser(argparse.ArgumentParser):
    """argparse with our one-line errors."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message} (see dwbench {self.prog.split()[-1]} --help)")


if __name__ == "__main__":
    sys.exit(main())
