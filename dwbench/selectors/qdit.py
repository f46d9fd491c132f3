"""QDIT: quality and diversity of the chosen rows, weighed against each other."""

from typing import ClassVar, Literal

import numpy as np

from dwbench.component import component
from dwbench.rules.ranking import Scores
from dwbench.selectors.context import Context
from dwbench.selectors.material import Need
from dwbench.selectors.picks import picked, pool_vectors
from dwbench.selectors.quality import Quality, min_max, pool_quality, quality_needs
from dwbench.selectors.texts import Text

Scale = Literal["n", "first_gain"]


@component
class QDIT:
    """QDIT (Bukharin et al., Findings of EMNLP 2024, "Data Diversity Matters for Robust Instruction Tuning").

    Greedy for (1 - `alpha`) d(a | S) + `alpha` q(a): d(a | S) is what row a adds to the coverage d(S), the sum over all
    rows of the cosine with the nearest chosen one (at least 0), and q(a) its quality. Value: that sum when the row was
    chosen. `alpha` 0 is facility location, 1 the rows of highest quality.

    In the paper d is a sum over N rows and q a judge's score, so that the same `alpha` means other things for other
    N, and quality takes over as soon as a row adds less to d than q's spread. Here q is scaled to [0, 1] by its
    minimum and maximum among the candidates, and d divided by N, so d(S) is in [0, 1] (`scale: n`), or by the largest
    d of a single row (`first_gain`), so that the first gains are comparable with q. With `n` quality decides nearly
    alone from the first rows on. Both terms of the final set are in the notes: d(S) / N (`coverage`) and the mean
    scaled q (`quality_mean`). The paper's q is a judge or a reward model; here it is one of those that need none.

    There is no official code. Charged are the embeddings, the quality, and facility location.

    Attributes:
        text: what of a row is embedded: `instruction`, or `full`, with its response.
        quality: `low_loss`, `high_loss`, `ifd` or `length` (`dwbench.selectors.quality`). A row without one is invalid.
        alpha: weight of the quality.
        scale: `n` or `first_gain`: what d is divided by.
    """

    text: Text = "instruction"
    quality: Quality = "ifd"
    alpha: float = 0.5
    scale: Scale = "n"

    version: ClassVar[int] = 2
    paper: ClassVar[str] = "Bukharin et al., Findings of EMNLP 2024, arXiv 2311.14736"
    cost_class: ClassVar[str] = "1 pass of the text encoder a row; N x N cosines; what the quality costs"
    fixed_share: ClassVar[float | None] = None

    def __post_init__(self) -> None:
        if not 0 <= self.alpha <= 1:
            raise ValueError(f"alpha: must be from 0 to 1, not {self.alpha}")

    @property
    def needs(self) -> frozenset[Need]:
        return quality_needs(self.quality) | {"responses", "embedder"}

    def choose(self, context: Context, k: int, allowed: np.ndarray) -> Scores:
        vectors = pool_vectors(context, self.text)
        quality, reasons = pool_quality(context, self.quality)
        candidates = allowed & ~np.isnan(quality)
        may = np.flatnonzero(candidates)
        if not may.size:
            return picked(candidates, may, np.empty(0), {}, reasons)
        with context.importing():
            from dwbench.rules.facility import cosine, facility_location, objective
        similarities, n = cosine(vectors[may], np.float32), len(may)
        scaled = min_max(quality[may])
        relative = self.scale == "first_gain"
        weight = (1 - self.alpha) / (1 if relative else n)
        found = facility_location(similarities, n, min(k, n), weight, self.alpha * scaled, relative)
        notes: dict[str, float | int | str] = {
            "coverage": objective(similarities, n, found.picks) / n,
            "quality_mean": float(scaled[found.picks].mean()),
        }
        return picked(candidates, may[found.picks], found.gains, notes, reasons)
