"""Repr Filter: rows in an order of quality, or drawn, but for those too close to one taken before."""

from typing import ClassVar

import numpy as np

from dwbench.component import component
from dwbench.rules.ranking import Scores
from dwbench.rules.repr_filter import filtered
from dwbench.selectors.context import Context
from dwbench.selectors.material import Need
from dwbench.selectors.picks import picked, pool_vectors
from dwbench.selectors.quality import Quality, pool_quality, quality_needs
from dwbench.selectors.texts import Text


@component
class ReprFilter:
    """Repr Filter, the diversity half of DEITA (Liu et al., ICLR 2024), by itself.

    Rows are visited from the highest quality down, or, as in NovelSum's comparison (Yang et al., ACL 2025), in a drawn
    order; a row is taken if its cosine with every row taken before is at most `tau`. Where that leaves fewer than k
    rows, `tau` is raised until k are found; what it was is in the notes. Value: the quality, or the number drawn.

    The reference's code differs: it returns fewer rows instead; with batches a row is also held against rejected rows
    of its batch (off by default there). Its embedding is a LLaMA's last token; here it is the run's `embedder`.

    Charged are the embeddings, the quality, and k N d for each `tau` that is tried.

    Attributes:
        text: what of a row is embedded: `full`, with its response, or `instruction`.
        tau: highest cosine of two chosen rows.
        quality: `low_loss`, `high_loss`, `ifd` or `length` (`dwbench.selectors.quality`); None: a drawn order.
    """

    text: Text = "full"
    tau: float = 0.9
    quality: Quality | None = None

    version: ClassVar[int] = 1
    paper: ClassVar[str] = "Liu et al., ICLR 2024, arXiv 2312.15685"
    cost_class: ClassVar[str] = "1 pass of the text encoder a row; k x N cosines; what the quality costs"
    fixed_share: ClassVar[float | None] = None

    def __post_init__(self) -> None:
        if not -1 <= self.tau <= 1:
            raise ValueError(f"tau: must be from -1 to 1, not {self.tau}")

    @property
    def needs(self) -> frozenset[Need]:
        order: frozenset[Need] = frozenset({"seed"}) if self.quality is None else quality_needs(self.quality)
        return order | {"responses", "embedder"}

    def choose(self, context: Context, k: int, allowed: np.ndarray) -> Scores:
        vectors = pool_vectors(context, self.text)
        if self.quality is None:
            quality, reasons = context.draw("repr_filter"), ("",) * context.n_rows
        else:
            quality, reasons = pool_quality(context, self.quality)
        candidates = allowed & ~np.isnan(quality)
        may = np.flatnonzero(candidates)
        order = may[np.argsort(-quality[may], kind="stable")]
        found = filtered(vectors, order, min(k, len(order)), self.tau)
        return picked(candidates, found.picks, quality[found.picks], {"tau_used": found.tau}, reasons)
