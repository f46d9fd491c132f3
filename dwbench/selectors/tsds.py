"""TSDS: a probability for every row by optimal transport from the target set, with a term against near-copies."""

from typing import ClassVar

import numpy as np

from dwbench.component import component
from dwbench.errors import UserError
from dwbench.rules.gumbel import gumbel_keys
from dwbench.rules.ranking import Scores, scores
from dwbench.rules.transport import transport
from dwbench.selectors.context import Context
from dwbench.selectors.material import Need
from dwbench.selectors.texts import Text, text_of

LARGEST_SHARE = 10
"""A query looks at a tenth of the pool at most, and so does a density."""


@component
class TSDS:
    """TSDS (Liu et al., NeurIPS 2024, "Task-Specific Data Selection"; Algorithm 2, KNN-KDE): targeted.

    Each row of the target set spreads its mass over the nearest rows of the pool, a row getting the less the more rows
    crowd around it; spreading goes on until what it costs in distance outweighs what it adds in diversity. Score: a
    row's probability. The choice is a draw without replacement by these probabilities (Gumbel top-k), so that a larger
    choice holds a smaller one; rows that got none follow, the nearest to a row of the target set first.

    The reference's code differs: it draws with replacement, so that a row can come several times; it looks for
    neighbours in an approximate index; under NumPy 2 it computes in single precision and stops on many inputs. As
    there, a density counts only rows that are a neighbour of some row of the target set. `sigma` and `c` are made for
    embeddings of about unit length, which they have here.

    Attributes:
        text: `full`, input and response, or the `instruction` alone; earlier turns are a part of either.
        alpha: weight of closeness against diversity, from 0 to 1.
        c: scale of the distances.
        sigma: distance from which on another row no longer crowds.
        neighbours: rows that one of the target set can give to; at most a tenth of the pool.
        kde_neighbours: rows that a density counts; at most a tenth of the pool.
    """

    text: Text = "full"
    alpha: float = 0.5
    c: float = 5.0
    sigma: float = 0.75
    neighbours: int = 5000
    kde_neighbours: int = 1000

    version: ClassVar[int] = 1
    paper: ClassVar[str] = "Liu et al., NeurIPS 2024, arXiv 2410.11303"
    cost_class: ClassVar[str] = "1 embedding; N x m distances, and those among the neighbours"
    fixed_share: ClassVar[float | None] = None

    def __post_init__(self) -> None:
        if not 0 <= self.alpha <= 1:
            raise ValueError(f"alpha: must be from 0 to 1, not {self.alpha}")
        for name in ("c", "sigma"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name}: must be above 0, not {getattr(self, name)}")
        for name in ("neighbours", "kde_neighbours"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: must be at least 1, not {getattr(self, name)}")

    @property
    def needs(self) -> frozenset[Need]:
        return frozenset({"responses", "target", "embedder", "seed"})

    def check(self, context: Context) -> None:
        """Raises UserError without target set."""
        if not context.target:
            raise UserError(
                "selector tsds: the target set is empty: set dataset.target_rows, or give a file of such rows"
            )

    def score(self, context: Context) -> Scores:
        self.check(context)
        share = max(1, context.n_rows // LARGEST_SHARE)
        found = transport(
            context.embed([text_of(row, self.text) for row in context.pool], "embeddings of the pool"),
            context.embed([text_of(row, self.text) for row in context.target], "embeddings of the target set"),
            min(self.neighbours, share),
            min(self.kde_neighbours, share),
            self.sigma,
            self.alpha,
            self.c,
        )
        drawn = found.probability > 0
        log_probability = np.log(found.probability, out=np.zeros(context.n_rows), where=drawn)
        keys = gumbel_keys(log_probability, context.draw("tsds", "gumbel"))
        return scores(
            found.probability,
            np.where(drawn, keys, -found.distance),
            ("",) * context.n_rows,
            np.where(drawn, 0, 1),
            {"target_rows": len(context.target), "rows_with_probability": int(drawn.sum()), "spread": found.s},
        )
