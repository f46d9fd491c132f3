"""Random choice: the control of every comparison."""

from typing import ClassVar

from dwbench.component import component
from dwbench.rules.ranking import Scores, scores
from dwbench.selectors.context import Context
from dwbench.selectors.material import Need


@component
class Random:
    """A seeded random order of the pool; the first k rows are taken, so smaller budgets are nested in larger ones.

    Needs nothing but the seed: drawn once for all models. Score: a number in [0, 1), higher is chosen first.
    """

    version: ClassVar[int] = 1
    paper: ClassVar[str] = "-"
    cost_class: ClassVar[str] = "nothing"
    fixed_share: ClassVar[float | None] = None

    @property
    def needs(self) -> frozenset[Need]:
        return frozenset({"seed"})

    def score(self, context: Context) -> Scores:
        drawn = context.draw("random")
        return scores(drawn, drawn, ("",) * context.n_rows)
