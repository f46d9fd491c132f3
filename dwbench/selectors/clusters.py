"""Clusters of a pool by what its rows are about, and what each gives: shared by the methods that choose inside
clusters, so that they differ in nothing else (spec of the loss selectors, section 5)."""

import numpy as np

from dwbench.data.base import Example
from dwbench.rules.clusters import kmeans_labels, quotas
from dwbench.selectors.context import Context
from dwbench.selectors.texts import question_text

VERSION = 1


def cluster_text(row: Example) -> str:
    """What a row is clustered by."""
    return f"Instruction: {question_text(row)} Response: {row.response}"


def pool_clusters(context: Context, clusters: int) -> np.ndarray:
    """Cluster of every row, [N] integers, the same for all budgets: k-means of embeddings of the text "Instruction: ...
    Response: ...".

    At most `clusters`, and at most one for ten rows. A stored stage. Needs `responses`, `embedder` and `seed`.
    """
    k = max(1, min(clusters, context.n_rows // 10))
    with context.importing():
        import sklearn.cluster  # noqa: F401

    def compute() -> dict[str, np.ndarray]:
        texts = [cluster_text(row) for row in context.pool]
        return {"labels": kmeans_labels(context.embed(texts), k, context.derive("clusters"))}

    return context.represent(
        "pool_clusters", VERSION, {"clusters": k}, ("pool", "responses", "embedder", "seed"), compute
    )["labels"]


def cluster_quotas(context: Context, labels: np.ndarray, candidates: np.ndarray, k: int) -> np.ndarray:
    """What every cluster gives of its `candidates` (bool [N]): exact shares of k by largest remainders, equal ones
    drawn; [clusters] integers. Needs `seed`."""
    sizes = np.bincount(labels[candidates], minlength=int(labels.max()) + 1)
    tie_break = np.random.default_rng(context.derive("clusters", "quotas")).random(len(sizes))
    return quotas(sizes, k, tie_break)
