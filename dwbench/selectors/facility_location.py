"""Facility location: rows that stand for the whole pool."""

import math
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from dwbench.component import component
from dwbench.rules.ranking import Scores
from dwbench.selectors.context import Context
from dwbench.selectors.material import Need
from dwbench.selectors.picks import picked, pool_vectors
from dwbench.selectors.texts import Text
from dwbench.selectors.uncertainty import Uncertainty

if TYPE_CHECKING:
    from dwbench.rules.facility import Cover

EPSILON, NEIGHBOURS = 0.01, 256
"""Where no other ones are given."""


@component
class FacilityLocation:
    """Facility location on embeddings, as in Experimental Design (Bhatt et al., Findings of ACL 2024): the k rows that
    stand for the pool best.

    Greedy maximiser of FL(S), the sum over all rows of the similarity to the nearest chosen one. Value: what a row adds
    when it is chosen. Prompts alone, annotation-free. A negative cosine counts 0. With `rbf` the similarity is
    exp(-g d^2), g being 1 / the median squared distance of two rows (the paper's width is not known).

    With a `prefilter`, the paper's hybrid: the pool is first cut to the `prefilter_share` of it that is most
    uncertain (k rows at least), and the rows stand for that share. `selector=facility_location_hybrid` is so
    configured, with `min_margin`. Rows without an uncertainty are invalid.

    Similarities are float32: of rows whose gains are equal to its rounding (about 1e-6) either may be chosen. With the
    same rows the result is the same.

    There is no official code. FL / rows of the share is in the notes (`coverage`; of `sparse` on its graph, so a lower
    bound).

    Charged are the embeddings, the search, and the prefilter. up to 20,000 rows `exact` takes about N^2 (d + 1 + ln k)
    operations, `stochastic` N^2 (d + ln(1 / epsilon)), both 4 N^2 bytes; beyond that N^2 d (1 + ln k) and N^2 d ln(1 /
    epsilon), and 512 x N similarities; `sparse` N^2 d and 44 N `neighbours` bytes: 1.1 GB at N = 100,000. At 10,000
    rows they take 0.5, 0.5 and 1.0 s on 2 cores; `stochastic` covers less, by 0.5 to 0.7 % on embeddings with the
    default `epsilon`, `sparse` by up to 0.05 %.

    Attributes:
        text: what of a row is embedded: `instruction`, or `full`, with its response.
        similarity: `cosine` or `rbf`.
        method: `exact`; `stochastic`, the best of N / k x ln(1 / epsilon) drawn rows at each turn; or `sparse`, where a
            row counts only for those that have it among their `neighbours` most similar ones.
        epsilon: of `stochastic`. neighbours: of `sparse`. Each is refused with another method.
        prefilter: an uncertainty selector, or None. prefilter_share: share of the pool that it leaves.
    """

    text: Text = "instruction"
    similarity: Literal["cosine", "rbf"] = "cosine"
    method: Literal["exact", "stochastic", "sparse"] = "exact"
    epsilon: float = EPSILON
    neighbours: int = NEIGHBOURS
    prefilter: Uncertainty | None = None
    prefilter_share: float = 1.0

    version: ClassVar[int] = 1
    paper: ClassVar[str] = "Bhatt et al., Findings of ACL 2024, arXiv 2401.06692"
    cost_class: ClassVar[str] = "1 pass of the text encoder a row; N x N similarities; what the prefilter costs"
    fixed_share: ClassVar[float | None] = None

    def __post_init__(self) -> None:
        if not 0 < self.epsilon < 1:
            raise ValueError(f"epsilon: must be above 0 and below 1, not {self.epsilon}")
        if self.neighbours < 1:
            raise ValueError("neighbours: must be at least 1")
        if self.method != "stochastic" and self.epsilon != EPSILON:
            raise ValueError(f"epsilon: only method=stochastic draws candidates; leave it at {EPSILON}")
        if self.method != "sparse" and self.neighbours != NEIGHBOURS:
            raise ValueError(f"neighbours: only method=sparse has a graph; leave it at {NEIGHBOURS}")
        if not 0 < self.prefilter_share <= 1:
            raise ValueError(f"prefilter_share: must be above 0 and at most 1, not {self.prefilter_share}")
        if self.prefilter is None and self.prefilter_share != 1:
            raise ValueError("prefilter_share: nothing is filtered without a prefilter; leave it at 1")

    @property
    def needs(self) -> frozenset[Need]:
        needs: frozenset[Need] = frozenset({"responses", "embedder"})
        if self.method == "stochastic":
            needs |= {"seed"}
        return needs if self.prefilter is None else needs | self.prefilter.needs

    def check(self, context: Context) -> None:
        """Raises UserError where no prompt leaves room for an answer of the prefilter's."""
        if self.prefilter is not None:
            self.prefilter.check(context)

    def choose(self, context: Context, k: int, allowed: np.ndarray) -> Scores:
        vectors = pool_vectors(context, self.text)
        reasons = None
        candidates = allowed
        if self.prefilter is not None:
            found = self.prefilter.score(context)
            reasons = found.reasons
            # 0.29 x 100 is 28.999999999999996 in floating point.
            share = math.floor(round(self.prefilter_share * context.n_rows, 9))
            candidates = most_preferred(np.where(allowed, found.preference, np.nan), max(k, share))
        may = np.flatnonzero(candidates)
        cover = self._cover(context, vectors[may], min(k, len(may)))
        notes: dict[str, float | int | str] = {"rows_to_stand_for": len(may)}
        if may.size:
            notes["coverage"] = float(cover.gains.sum()) / len(may)
        return picked(candidates, may[cover.picks], cover.gains, notes, reasons)

    def _cover(self, context: Context, vectors: np.ndarray, k: int) -> "Cover":
        with context.importing():
            from dwbench.rules import facility
        if self.similarity == "cosine":
            similarities = facility.cosine(vectors, np.float32)
        else:
            similarities = facility.gaussian(vectors, facility.median_gamma(vectors))
        n = len(vectors)
        if self.method == "sparse":
            return facility.sparse_facility_location(facility.nearest_graph(similarities, n, self.neighbours), k)
        if self.method == "stochastic":
            seed = context.derive("facility_location")
            return facility.stochastic_facility_location(similarities, n, k, self.epsilon, seed)
        return facility.facility_location(similarities, n, k)


def most_preferred(preference: np.ndarray, size: int) -> np.ndarray:
    """The `size` rows with the highest preference, fewer where the rest is NaN: bool [N]. Of equal ones the first."""
    order = np.argsort(-preference, kind="stable")  # NaN comes last
    taken = np.zeros(len(preference), dtype=np.bool_)
    taken[order[:size]] = True
    return np.asarray(taken & ~np.isnan(preference))
