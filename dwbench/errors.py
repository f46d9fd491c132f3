"""The two ways in which a run can go wrong on purpose."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Bad input or configuration: its text is the one line the user sees; the exit code is 2."""


class UndeclaredNeedError(Exception):
    """A selector reached for something that it does not declare in `needs`. A defect of the selector."""


def nearest(name: str, known: Iterable[str]) -> str:
    """` did you mean 'x'?`, or what there is to choose from, to be put behind an error about `name`."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(names)}"
