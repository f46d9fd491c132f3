"""The two ends of every table: no tuning at all, and tuning on the whole pool."""

from typing import ClassVar

import numpy as np

from dwbench.component import component
from dwbench.rules.ranking import Scores, scores
from dwbench.selectors.context import Context
from dwbench.selectors.material import Need


def _all_equal(context: Context) -> Scores:
    same = np.zeros(context.n_rows)
    return scores(same, same, ("",) * context.n_rows)


@component
class Full:
    """The whole pool, whatever the budget: what the other rows are measured against, and STR's denominator."""

    version: ClassVar[int] = 1
    paper: ClassVar[str] = "-"
    cost_class: ClassVar[str] = "nothing"
    fixed_share: ClassVar[float | None] = 1.0

    @property
    def needs(self) -> frozenset[Need]:
        return frozenset()

    def score(self, context: Context) -> Scores:
        return _all_equal(context)


@component
class ZeroShot:
    """No rows and no tuning: the model as it is."""

    version: ClassVar[int] = 1
    paper: ClassVar[str] = "-"
    cost_class: ClassVar[str] = "nothing"
    fixed_share: ClassVar[float | None] = 0.0

    @property
    def needs(self) -> frozenset[Need]:
        return frozenset()

    def score(self, context: Context) -> Scores:
        return _all_equal(context)
