"""What selectors make of planted noise: the share of each kind among the chosen rows beside its share in the pool."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from dwbench.records import Record
from dwbench.report.formats import WIDE, Column, Grid, draw
from dwbench.report.labels import by_method, by_pool, each_choice_once
from dwbench.report.str_ratio import CHOOSES_NOTHING

Sign = Literal["+", "-"]

CONFIDENCE = 0.95

LEGEND = (
    "In brackets the ends of the exact (Clopper-Pearson) 95 % interval. +, -: the pool's share lies outside of it, and "
    "more or fewer of the kind are chosen; of 20 such intervals one is so by chance. Choices under several seeds are "
    "taken together; a row that several of them have counts once for the width of the interval. A copy can't be told "
    "from its original: a selector that never takes both still takes about half of the copies' share."
)


@dataclass(frozen=True)
class Share:
    """`count` of `of` chosen rows, as a share with its exact (Clopper-Pearson) 95 % interval."""

    count: int
    of: int
    low: float
    high: float

    @property
    def value(self) -> float:
        return self.count / self.of

    def against(self, in_pool: float) -> Sign | Literal[""]:
        """Whether the interval lies above or below the pool's share, or holds it."""
        return "+" if self.low > in_pool else "-" if self.high < in_pool else ""


@dataclass(frozen=True)
class Audit:
    """Selections of one planted pool.

    Attributes:
        title: data set, tuned model, rows and pool, and what tells it from others of these names.
        pool: share of each kind in the pool.
        selectors: for each label the shares of the kinds among what it chose, over all its different choices.
        never: for each sign the kinds that can't get it in a single choice of so many rows.
    """

    title: str
    pool: dict[str, float]
    selectors: dict[str, dict[str, Share]]
    never: dict[Sign, tuple[str, ...]]


def share(count: int, of: int, different: int | None = None) -> Share:
    """The share with its interval. Raises ValueError unless 0 <= count <= of, and 0 < different <= of.

    Args:
        different: how many of the `of` rows are not the same one again; the interval is that of the same share of so
            many (by the incomplete beta function, which takes fractions of a row). None: all are different.
    """
    from scipy.special import betaincinv

    n = of if different is None else different
    if not (0 <= count <= of and 0 < n <= of):
        raise ValueError(f"{count} of {of} rows, {n} of them different: no share")
    successes, tail = count / of * n, (1 - CONFIDENCE) / 2
    low = float(betaincinv(successes, n - successes + 1, tail)) if count else 0.0
    high = float(betaincinv(successes + 1, n - successes, 1 - tail)) if count < of else 1.0
    return Share(count, of, low, high)


def audits(records: Sequence[Record]) -> list[Audit]:
    """One for each planted pool, tuned model and number of rows under which records tell of a selection."""
    planted = [
        record
        for record in records
        if record.data["dataset"].get("kinds") and record.selector not in CHOOSES_NOTHING and record.rows
    ]
    return [_audit(title, group) for title, group in by_pool(planted, lambda record: {"rows": record.rows}, _title)]


def _title(record: Record) -> str:
    return f"{record.dataset}, {record.model}: {record.rows} of {sum(record.data['dataset']['kinds'].values())} rows"


def _audit(title: str, records: Sequence[Record]) -> Audit:
    planted: dict[str, int] = records[0].data["dataset"]["kinds"]
    pool = sum(planted.values())
    selectors = {}
    for name, same in by_method(records):
        group = each_choice_once(same)
        chosen = sum(record.rows for record in group)
        different = len({id for record in group for id in record.data["selection"]["ids"]})
        counts = {kind: sum(one.data["selection"]["kinds"].get(kind, 0) for one in group) for kind in planted}
        selectors[name] = {kind: share(count, chosen, different) for kind, count in counts.items()}
    return Audit(
        title=title,
        pool={kind: count / pool for kind, count in planted.items()},
        selectors=selectors,
        never=out_of_reach(planted, records[0].rows),
    )


def out_of_reach(planted: Mapping[str, int], k: int) -> dict[Sign, tuple[str, ...]]:
    """For each sign the kinds that no choice of k rows of the pool has so many, or so few, of that they get it."""
    pool = sum(planted.values())
    # The more there are, the higher lies the interval: it is enough to look at the most and the least that can be.
    most = {kind: share(min(k, count), k).against(count / pool) for kind, count in planted.items()}
    least = {kind: share(max(0, k - pool + count), k).against(count / pool) for kind, count in planted.items()}
    return {
        "+": tuple(kind for kind, sign in most.items() if sign != "+"),
        "-": tuple(kind for kind, sign in least.items() if sign != "-"),
    }


def render(found: Sequence[Audit], form: str) -> str:
    """A grid for each pool, as text, md or latex: the pool's shares first, then each selector's in per cent with the
    interval's ends."""
    return draw([_grid(audit) for audit in found], [LEGEND], form, width=WIDE)


def _grid(audit: Audit) -> Grid:
    columns = [Column("selector", ("(the pool)", *audit.selectors))]
    for kind, in_pool in audit.pool.items():
        cells = [_cell(shares[kind], in_pool) for shares in audit.selectors.values()]
        columns.append(Column(kind, (f"{in_pool:.1%}", *cells)))
    signs: dict[tuple[str, ...], list[str]] = {}
    for sign, kinds in audit.never.items():
        signs.setdefault(kinds, []).append(sign)
    below = tuple(
        f"A single choice of so many rows can't get a {' or '.join(same)} for {', '.join(kinds)}, whatever it holds."
        for kinds, same in signs.items()
        if kinds
    )
    return Grid(f"{audit.title}: per cent of the chosen rows, with exact 95 % intervals", tuple(columns), below=below)


def _cell(found: Share, in_pool: float) -> str:
    ends = f"{found.value:.0%} [{found.low * 100:.0f}, {found.high * 100:.0f}]"
    return f"{ends} {found.against(in_pool)}".rstrip()
