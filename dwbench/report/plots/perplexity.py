"""Of which perplexity, and of which length, what selectors choose is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from dwbench.records import Record
from dwbench.report.labels import by_method, by_pool, pool_identity
from dwbench.report.perplexity import Perplexities, perplexities
from dwbench.report.plots.style import COLOURS, GREY, Panel, Plot, draw, name_rows, rows_height
from dwbench.report.str_ratio import CHOOSES_NOTHING

if TYPE_CHECKING:
    from matplotlib.figure import SubFigure

QUARTILES = (0.25, 0.5, 0.75)
GIVEN_PROMPT, LENGTH = "response perplexity given the prompt", "response length"
QUANTITIES = {"given_prompt": "responses given the prompt", "alone": "responses alone"}
"""What runs with `perplexity` tell, by what stands in front of the response."""

RANKED_BY = {
    "low_ppl": (GIVEN_PROMPT, False),
    "high_ppl": (GIVEN_PROMPT, True),
    "longest_response": (LENGTH, True),
}
"""Selectors that rank the pool by a quantity: which one, and whether its largest comes first."""

Three = tuple[float, float, float]


@dataclass(frozen=True)
class Spreads:
    """What selectors chose of one pool, by one quantity.

    Attributes:
        title: data set, tuned model, pool, and what else tells it apart.
        quantity: what the axis shows. by: the model that tells it, where the title does not; None: none.
        chosen: quartiles of the chosen rows by the selector's label; means over its choices.
        pool: quartiles of the pool.
        percentiles: whether the numbers are percentiles of the pool.
        untold: labels of selectors whose records do not tell.
    """

    title: str
    quantity: str
    by: str | None
    chosen: Mapping[str, Three]
    pool: Three
    percentiles: bool
    untold: tuple[str, ...]


def spreads(records: Sequence[Record]) -> list[Spreads]:
    """One for each pool and tuned model, and each quantity that is known of it.

    Where records tell of perplexity (runs with `perplexity`), in that. Others hold places only: `low_ppl` (or
    `high_ppl`) ranks the pool by perplexity, `longest_response` by length, and the chosen rows' percentiles in that
    ranking are shown, for each budget.
    """
    found = [one for told in perplexities(records) for one in _told(told)]
    chosen = [record for record in records if record.selector not in CHOOSES_NOTHING and record.rows]
    for title, group in by_pool(chosen, lambda record: {"rows": record.rows}, _title):
        same_pool = [record for record in records if pool_identity(record) == pool_identity(group[0])]
        told = any(record.data["selection"].get("perplexity") for record in same_pool)
        found += [one for one in _ranked(title, group, same_pool) if not told or one.quantity == LENGTH]
    return [one for one in found if one.chosen]


def _told(found: Perplexities) -> list[Spreads]:
    """One for each front."""
    pool, *methods = found.rows
    several = len({row.rows for row in methods}) > 1
    spreads = []
    for front, quantity in QUANTITIES.items():
        every = {
            f"{row.label}, {row.rows:,} rows" if several else row.label: _quartiles(row.numbers[front])
            for row in methods
        }
        chosen = {name: three for name, three in every.items() if three}
        if (of_pool := _quartiles(pool.numbers[front])) is not None:
            untold = tuple(name for name in every if name not in chosen)
            spreads.append(Spreads(found.title, quantity, None, chosen, of_pool, False, untold))
    return spreads


def _quartiles(numbers: Mapping[str, float]) -> Three | None:
    """None where no row has a perplexity."""
    if "median" not in numbers:
        return None
    return numbers["quartile_1"], numbers["median"], numbers["quartile_3"]


def _title(record: Record) -> str:
    return f"{record.dataset}, {record.model}: {record.rows:,} of {record.data['budget']['pool']:,} rows"


def _ranked(title: str, records: Sequence[Record], same_pool: Sequence[Record]) -> list[Spreads]:
    """By each quantity that a record of this pool ranks it by."""
    placed = [record for record in records if _has_places(record)]
    found = []
    for (quantity, by), percentiles in _rankings(same_pool).items():
        every = {name: _quartiles_in(percentiles, same) for name, same in by_method(placed)}
        chosen = {name: one for name, one in every.items() if one}
        untold = tuple(name for name, one in every.items() if not one)
        found.append(Spreads(title, quantity, by, chosen, (25.0, 50.0, 75.0), True, untold))
    return found


def _rankings(records: Sequence[Record]) -> dict[tuple[str, str | None], np.ndarray]:
    """Percentiles of the pool's rows, 0: smallest, NaN: not known, by quantity and the model that tells it."""
    found: dict[tuple[str, str | None], np.ndarray] = {}
    for selector, (quantity, largest_first) in RANKED_BY.items():
        for record in records:
            if record.selector == selector and _has_places(record):
                scorer = record.data["scorer"]
                whose = quantity, scorer["name"] if scorer else None
                if whose not in found:
                    found[whose] = _percentiles(_places(record), largest_first)
    return found


def _percentiles(places: np.ndarray, largest_first: bool) -> np.ndarray:
    from scipy.stats import rankdata

    known = ~np.isnan(places)
    percentiles = np.full(len(places), np.nan)
    percentiles[known] = 100 * (rankdata(places[known]) - 0.5) / known.sum()
    return 100 - percentiles if largest_first else percentiles


def _quartiles_in(percentiles: np.ndarray, records: Sequence[Record]) -> Three | None:
    """Of the rows that a method chose under any of its seeds; None where no record tells which they are."""
    chances = [chance for record in records if (chance := chances_of(record)) is not None]
    if not chances:
        return None
    weights = np.mean(chances, axis=0)
    known = ~np.isnan(percentiles) & (weights > 0)
    if not known.any():
        return None
    low, middle, high = np.quantile(percentiles[known], QUARTILES, weights=weights[known], method="inverted_cdf")
    return float(low), float(middle), float(high)


def chances_of(record: Record) -> np.ndarray | None:
    """How likely each row of `places` was chosen: 1, 0, or an equal chance among those that tie at the cut; [rows].

    None where a record that holds only a part of the pool's places does not tell which ones tie.
    """
    places, k, ties = _places(record), record.rows, int(record.data["selection"]["ties_at_cut"])
    chances = (places <= k).astype(np.float64)
    if ties == 0:
        return chances
    for place in np.unique(places[~np.isnan(places)]):
        first, last = place - (ties - 1) / 2, place + (ties - 1) / 2
        if first <= k < last and (places == place).sum() == ties:
            chances[places == place] = (k - first + 1) / ties
            return chances
    return None


def _has_places(record: Record) -> bool:
    return record.data["selection"].get("places") is not None


def _places(record: Record) -> np.ndarray:
    return np.array(record.data["selection"]["places"], dtype=np.float64)


def plot_perplexity(records: Sequence[Record]) -> Plot | None:
    """Quartiles of what was chosen beside the pool's, a panel for each pool, model, budget and quantity; None where no
    record tells of any."""
    found = spreads(records)
    if not found:
        return None
    panels = [
        Panel(_heading(one), rows_height(list(one.chosen)) + 0.1, partial(_draw, found=one, number=number))
        for number, one in enumerate(found)
    ]
    untold = [f"not shown, not told by its records: {name}: {one.title}" for one in found for name in one.untold]
    return Plot(
        draw(panels),
        (
            "dots and bars: median and quartiles of the chosen rows; dotted lines: the pool's quartiles",
            *dict.fromkeys(untold),
        ),
    )


def _heading(found: Spreads) -> str:
    by = f" by {found.by}" if found.by else ""
    return f"{found.title}: {found.quantity}{by}"


def _draw(box: "SubFigure", found: Spreads, number: int) -> None:
    axes = box.subplots()
    for quartile in found.pool:
        axes.axvline(quartile, color=GREY, linestyle=":", linewidth=0.6)
    for place, (low, middle, high) in enumerate(found.chosen.values()):
        axes.plot([low, high], [place, place], color=COLOURS[0], linewidth=1.6, solid_capstyle="butt")
        axes.plot(
            [middle], [place], color="white", marker="o", markeredgecolor=COLOURS[0], gid=f"median-{number}-{place}"
        )
    name_rows(axes, list(found.chosen))
    if found.percentiles:
        axes.set_xlim(0, 100)
        axes.set_xticks([0, 25, 50, 75, 100])
    axes.set_xlabel("percentile of the pool" if found.percentiles else "perplexity")
