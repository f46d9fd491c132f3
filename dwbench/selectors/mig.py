"""MIG: rows that add most to the information in a graph of labels."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Literal

import numpy as np

from dwbench.component import NOT_IN_KEY, component, field_identities, key_of
from dwbench.rules.label_graph import (
    Gain,
    exponential_phi,
    label_edges,
    most_informative,
    power_phi,
    spread_labels,
)
from dwbench.rules.ranking import Scores, scores
from dwbench.selectors.clusters import cluster_text, pool_clusters
from dwbench.selectors.context import Context
from dwbench.selectors.material import Need
from dwbench.selectors.picks import BARRED, CHOSEN, LEFT
from dwbench.selectors.quality import pool_quality, quality_needs
from dwbench.selectors.tags import Tags, check_tagging, check_tags, file_tags, model_tags, read_tags

COARSER = 10
"""Fine clusters for each coarse one."""

CLUSTERS = 1000
"""Fine clusters where no other number is given."""

Notes = dict[str, float | int | str]


@dataclass(frozen=True)
class Labels:
    """Labels of a pool.

    Attributes:
        of_rows: numbers of every row's labels, [N].
        vectors: of the labels, [labels, d]; labels are alike as these are.
        notes: what a reader of the result should know.
    """

    of_rows: list[tuple[int, ...]]
    vectors: np.ndarray
    notes: Notes


@component
class MIG:
    """MIG (Chen et al., Findings of ACL 2025, "MIG: Automatic Data Selection for Instruction Tuning by Maximizing
    Information Gain in Semantic Space"): rows that bring quality to labels that have little of it yet.

    A row gives its quality to each of its labels, and a label shares it out over the labels that mean almost the same
    (cosine of their embeddings at least `edge_threshold`). A label's worth is phi of all that it got, phi(x) =
    (x + 1e-6)^0.8; rows are chosen greedily by what they add. Higher is chosen first; a row without labels adds 0.

    The paper's labels are open tags by a large model (InsTag), its quality the DEITA scores' product, its label encoder
    e5-mistral-7b-instruct; none of these is at hand here, so where tags and quality are from is part of the method's
    name. By default all rows are worth the same, and a row's labels are its two clusters: the rule alone, without
    the paper's judges. Tags from a file come free of charge: what made them is not in the cost.

    The reference's gain is v . phi'(X), the gradient, which sends the first picks to untouched labels whatever
    their quality; `gain: exact` takes the true difference. The reference drops rows without tags or score.

    Attributes:
        tags: `clusters` (k-means of the rows' embeddings, coarse and fine; labels are alike as their centres are);
            `file`; `model` (the scorer writes tags of each row's question, one greedy answer a row behind two examples;
            an answer that is no list of tags gives none).
        tags_file: lines `{"id": ..., "tags": ["..."]}`, for `tags: file`. The tags are in the key, not the path.
        quality: `none` (1 for all), or `high_loss`, `ifd` or `length` (`dwbench.selectors.quality`), which are never
            below 0. A row without one is invalid.
        gain: `gradient` (as published) or `exact`.
        phi: `power`, or `exponential`: 1 - exp(-x), for a quality around 1.
        edge_threshold: cosine from which on two labels are joined. edge_factor: what their edge's weight is times.
        divide: whether a row's quality is divided by its number of labels, so that many give no advantage.
        clusters: fine clusters, at most a tenth of the rows; a tenth as many coarse ones. Refused with other tags.
    """

    tags: Literal["clusters", "file", "model"] = "clusters"
    tags_file: str | None = field(default=None, metadata=NOT_IN_KEY)
    quality: Literal["none", "high_loss", "ifd", "length"] = "none"
    gain: Gain = "gradient"
    phi: Literal["power", "exponential"] = "power"
    edge_threshold: float = 0.9
    edge_factor: float = 1.0
    divide: bool = False
    clusters: int = CLUSTERS

    version: ClassVar[int] = 2
    paper: ClassVar[str] = "Chen et al., Findings of ACL 2025, arXiv 2504.13835"
    cost_class: ClassVar[str] = (
        "1 pass of the text encoder (tags=model: 1 answer); with a quality 1 or 2 forward passes"
    )
    fixed_share: ClassVar[float | None] = None

    def __post_init__(self) -> None:
        if (self.tags == "file") != (self.tags_file is not None):
            raise ValueError("tags_file: give a file with tags=file, and none otherwise")
        if not 0 < self.edge_threshold <= 1:
            raise ValueError(f"edge_threshold: must be above 0 and at most 1, not {self.edge_threshold}")
        if self.edge_factor < 0:
            raise ValueError("edge_factor: must be at least 0")
        if self.clusters < 1:
            raise ValueError("clusters: must be at least 1")
        if self.tags != "clusters" and self.clusters != CLUSTERS:
            raise ValueError(f"clusters: there are none with tags={self.tags}; leave it at {CLUSTERS}")

    def identity_fields(self) -> dict[str, Any]:
        """The fields, with a hash of its tags in place of the file's path. Raises UserError where it can't be read."""
        return {**field_identities(self), "tags_file": self._tags_hash}

    @property
    def needs(self) -> frozenset[Need]:
        needs: set[Need] = {"embedder", "seed"}
        if self.tags == "clusters":
            needs.add("responses")
        if self.tags == "file":
            needs.add("ids")
        if self.tags == "model":
            needs |= {"responses", "scorer"}
        if self.quality != "none":
            needs |= quality_needs(self.quality)
        return frozenset(needs)

    def check(self, context: Context) -> None:
        """Raises UserError for a file that has no tags for any row of the pool, and where the scorer can tag none."""
        if self.tags_file is not None:
            check_tags(self.tags_file, self._tags, context.ids)
        if self.tags == "model":
            check_tagging(context)

    def choose(self, context: Context, k: int, allowed: np.ndarray) -> Scores:
        with context.importing():
            import scipy.sparse  # noqa: F401
        n = context.n_rows
        labels = self._labels(context)
        quality, reasons = np.ones(n), ("",) * n
        if self.quality != "none":
            quality, reasons = pool_quality(context, self.quality)
        may = np.flatnonzero(allowed & ~np.isnan(quality))
        # Rows with the same labels tie, and of equal ones the first is taken: in the seed's order, not the content's.
        may = may[np.argsort(context.draw("mig", "ties")[may])]
        edges = label_edges(labels.vectors, self.edge_threshold, self.edge_factor)
        spread = spread_labels([labels.of_rows[row] for row in may], quality[may], edges, self.divide)
        phi = power_phi() if self.phi == "power" else exponential_phi()
        found = most_informative(spread, min(k, may.size), self.gain, phi)
        chosen = may[found.picks]
        values, preference = np.full(n, np.nan), np.where(np.isnan(quality), np.nan, 0.0)
        values[may] = preference[may] = found.left
        values[chosen], preference[chosen] = found.gains, np.arange(len(chosen), 0, -1)
        tier = np.full(n, BARRED)
        tier[may] = LEFT
        tier[chosen] = CHOSEN
        notes: Notes = {
            **labels.notes,
            "labels": len(labels.vectors),
            "label_edges": (edges.nnz - len(labels.vectors)) // 2,
            "labels_reached": int((found.totals > 0).sum()),
        }
        return scores(values, preference, reasons, tier, notes)

    @cached_property
    def _tags(self) -> dict[str, Tags]:
        """The file's tags by id, read once: what chose the rows must be what the key says."""
        assert self.tags_file is not None
        return read_tags(self.tags_file)

    @cached_property
    def _tags_hash(self) -> str | None:
        if self.tags_file is None:
            return None
        return key_of({id: list(tags) for id, tags in self._tags.items()})[:12]

    def _labels(self, context: Context) -> Labels:
        if self.tags_file is not None:
            read = file_tags(self._tags, context.ids)
            told: Notes = {"rows_not_in_tags_file": read.missing, "lines_of_other_rows": read.unused}
            return tag_labels(context, read.of_rows, told)
        if self.tags == "model":
            written = model_tags(context)
            told = {"rows_too_long_to_ask": int((~written.asked).sum())}
            return tag_labels(context, written.of_rows, told)
        return cluster_labels(context, self.clusters)


def tag_labels(context: Context, of_rows: Sequence[Tags], notes: Notes) -> Labels:
    """Tags as labels, alike as their embeddings are. Needs `embedder`."""
    names = sorted({tag for tags in of_rows for tag in tags})
    number = {name: place for place, name in enumerate(names)}
    vectors = context.embed(names, "embeddings of tags")
    without = sum(not tags for tags in of_rows)
    numbered = [tuple(number[tag] for tag in tags) for tags in of_rows]
    return Labels(numbered, vectors, {**notes, "rows_without_tags": without})


def cluster_labels(context: Context, clusters: int) -> Labels:
    """Two labels for every row, its fine and its coarse cluster, alike as the centres are.

    At most `clusters` fine ones, and one for ten rows; a tenth as many coarse ones. Needs `responses`, `embedder` and
    `seed`.
    """
    fine = pool_clusters(context, clusters)
    coarse = pool_clusters(context, max(1, min(clusters, context.n_rows // 10) // COARSER))
    vectors = context.embed([cluster_text(row) for row in context.pool])
    centres: list[np.ndarray] = []
    numbers: list[np.ndarray] = []
    for labels in (fine, coarse):
        present, number = np.unique(labels, return_inverse=True)
        numbers.append(number + sum([len(part) for part in centres]))
        centres.append(np.array([vectors[labels == cluster].mean(axis=0) for cluster in present]))
    of_rows = list(zip(*(part.tolist() for part in numbers), strict=True))
    return Labels(of_rows, np.concatenate(centres), {})
