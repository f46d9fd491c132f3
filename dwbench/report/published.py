"""A paper's numbers, as they lie in `conf/published/EXPERIMENT.csv`. `comparison` puts ours beside them."""

import csv
from dataclasses import dataclass
from pathlib import Path

from dwbench.budget import parse_budget
from dwbench.config import conf_folders
from dwbench.errors import UserError

COLUMNS = ("model", "dataset", "selector", "budget", "metric", "value", "method", "caveat", "source")
EACH_BUDGET = ("", "100%")
"""Budgets of `zero_shot` and `full`: the bounds at every budget."""

PER_CENT = ("exact_match_strict", "exact_match_flexible", "rouge_l", "rouge_l_best")


@dataclass(frozen=True)
class Published:
    """A number that a paper gives.

    Attributes:
        model, dataset, selector: as in our records and tables.
        budget: `5%`; empty for `zero_shot`; `1%+5%+10%`: the mean over these.
        metric: as in our tables, per cent where ours is a share; or `str_with_tuning` (of selecting and tuning on the
            chosen rows), `speedup` (that of nuggets over this one's) or `total_seconds`.
        method: what the paper calls the selector. Two numbers of one selector, budget and metric differ in this.
        caveat: what is odd about this number; empty: nothing known.
    """

    model: str
    dataset: str
    selector: str
    budget: str
    metric: str
    value: float
    method: str
    caveat: str
    source: str


def published(name: str) -> tuple[Published, ...]:
    """The numbers of the experiment `name`, in the file's order; empty where there is no file.

    Raises UserError naming file and line of what can't be read.
    """
    paths = [folder / "published" / f"{name}.csv" for folder in conf_folders()]
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        return ()
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) != COLUMNS:
            raise UserError(f"{path}:1: the columns must be {','.join(COLUMNS)}")
        found: dict[tuple[str, ...], Published] = {}
        for fields in reader:
            one = _read(path, reader.line_num, fields)
            place = one.model, one.dataset, one.selector, one.budget, one.metric, one.method
            if place in found:
                raise UserError(
                    f"{path}:{reader.line_num}: a second number for {', '.join(place)}: name another method"
                )
            found[place] = one
    return tuple(found.values())


def _read(path: Path, line: int, fields: dict[str, str]) -> Published:
    if None in fields or None in fields.values():
        raise UserError(f"{path}:{line}: must have {len(COLUMNS)} fields: quote those with commas")
    try:
        value = float(fields["value"])
    except ValueError:
        raise UserError(f"{path}:{line}: value {fields['value']!r} is no number") from None
    try:
        for budget in fields["budget"].split("+") if fields["budget"] else ():
            parse_budget(budget)
    except UserError as error:
        raise UserError(f"{path}:{line}: {error}") from None
    return Published(**{name: fields[name] for name in COLUMNS if name != "value"}, value=value)
