"""Superfiltering.D: a share of the pool by Superfiltering, then rows that stand for that share."""

import math
from typing import ClassVar, Literal

import numpy as np

from dwbench.component import component
from dwbench.rules.ranking import Scores
from dwbench.selectors.context import Context
from dwbench.selectors.losses import Template
from dwbench.selectors.material import Need
from dwbench.selectors.superfiltering import Variant, ifd_ppl_scores
from dwbench.selectors.texts import full_text

LAST = 10
"""Added to the tier of rows that nothing can be learnt from."""


def shortlist(found: Scores, allowed: np.ndarray, size: int) -> np.ndarray:
    """Positions of the `size` best allowed rows with IFD_ppl below 1, best first; fewer where there are no more."""
    may = np.flatnonzero(allowed & (found.tier == 0) & ~np.isnan(found.preference))
    return np.asarray(may[np.argsort(-found.preference[may], kind="stable")[:size]])


@component
class SuperfilteringD:
    """Superfiltering.D (Li et al., ACL 2024, "Superfiltering", section on diversity): of the share of the pool that
    Superfiltering puts first, the k rows that stand for that share best (facility location).

    Score: IFD_ppl, as `superfiltering`; the k rows come first in the order in which they were found, then the rest
    of the share and of the pool by IFD_ppl. Where k is above the share, the share is k rows; where fewer are below 1,
    rows from 1 up follow in ascending order. Ties go by the rows' content.

    The reference's code differs: `ifd_share` and the budget are shares of 52,002 rows; and as in `superfiltering`.

    Attributes:
        variant, prompt, score_eos: of the IFD_ppl, as in `superfiltering`.
        ifd_share: share of the pool to choose from.
        kernel: similarity of two rows' embeddings: `rbf` exp(-|u - v| / d) (as published) or `cosine`. The text is
            the row's input and response.
    """

    variant: Variant = "paper"
    prompt: Template = "chat"
    score_eos: bool = True
    ifd_share: float = 0.2
    kernel: Literal["rbf", "cosine"] = "rbf"

    version: ClassVar[int] = 2
    paper: ClassVar[str] = "Li et al., ACL 2024, arXiv 2402.00530"
    cost_class: ClassVar[str] = "2 forward passes a row; facility location among ifd_share of the rows"
    fixed_share: ClassVar[float | None] = None

    def __post_init__(self) -> None:
        if not 0 < self.ifd_share <= 1:
            raise ValueError(f"ifd_share: must be above 0 and at most 1, not {self.ifd_share}")

    @property
    def needs(self) -> frozenset[Need]:
        return frozenset({"responses", "task", "scorer", "embedder"})

    def choose(self, context: Context, k: int, allowed: np.ndarray) -> Scores:
        found = ifd_ppl_scores(context, self.variant, self.prompt, self.score_eos)
        # 0.29 x 100 is 28.999999999999996 in floating point.
        share = math.floor(round(self.ifd_share * context.n_rows, 9))
        best = shortlist(found, allowed, max(k, share))
        chosen = self._representatives(context, best, k) if best.size else best
        preference, tier = found.preference.copy(), np.where(allowed, 1, LAST) + found.tier
        preference[chosen] = np.arange(len(chosen), 0, -1)
        tier[chosen] = 0
        notes = {**found.notes, "rows_in_share": len(best)}
        return Scores(found.values, preference, tier, found.reasons, notes)

    def _representatives(self, context: Context, best: np.ndarray, k: int) -> np.ndarray:
        """The k rows of `best` that stand for it, in the order in which they were found; all where there are fewer."""
        rows = [context.pool[position] for position in best]
        vectors = context.embed([full_text(row) for row in rows], "embeddings of the share")
        with context.importing():
            from dwbench.rules.facility import cosine, facility_location, rbf
        similarities = rbf(vectors) if self.kernel == "rbf" else cosine(vectors)
        return np.asarray(best[facility_location(similarities, len(best), min(k, len(best))).picks])
