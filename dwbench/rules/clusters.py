"""Clusters of embeddings, shares of a budget for them, and rows that stand for them."""

import numpy as np


def kmeans_labels(embeddings: np.ndarray, k: int, seed: int) -> np.ndarray:
    """Cluster of every row by Lloyd's k-means from one k-means++ start (scikit-learn): [N] int64 in 0..k-1.

    The same rows in the same order and the same seed give the same labels on one machine. Where there are fewer than k
    different rows, the numbers from there on stay empty.

    Work N k d for the start, for each of some log k candidates of a centre, and for each of 10 to 300 rounds. Memory:
    the vectors and their centred copy in float64, log k x N distances, and 256 x k of them for each core; never N x N.

    Args:
        embeddings: [N, d].
        k: number of clusters.
        seed: of the first centres.

    Raises ValueError unless 1 <= k <= N.
    """
    if not 1 <= k <= len(embeddings):
        raise ValueError(f"{k} clusters of {len(embeddings)} rows")
    from sklearn.cluster import KMeans

    # Threads add up in any order. In float64 what that changes is too small to move a row, but for near-ties.
    points = np.asarray(embeddings, dtype=np.float64)
    found = KMeans(_distinct(points, k), n_init=1, random_state=seed).fit(points)
    return np.asarray(found.labels_, dtype=np.int64)


def _distinct(points: np.ndarray, most: int) -> int:
    """How many different rows there are; counted no further than to `most`."""
    seen: set[bytes] = set()
    for row in points:
        seen.add((row + 0.0).tobytes())  # -0.0 becomes 0.0
        if len(seen) == most:
            break
    return len(seen)


def quotas(sizes: np.ndarray, k: int, tie_break: np.ndarray) -> np.ndarray:
    """Rows to take from every cluster, in proportion to its size, by largest remainders: [clusters] int64.

    They sum to exactly k, or to all rows where there are fewer; none is above its cluster's size. Of equal remainders
    the one with the smaller `tie_break` is rounded up.

    Args:
        sizes: rows that each cluster has to give, [clusters] integers.
        k: rows in all.
        tie_break: [clusters] numbers.
    """
    sizes = np.asarray(sizes, dtype=np.int64)
    total = int(sizes.sum())
    if k >= total:
        return sizes.copy()
    whole, remainder = np.divmod(k * sizes, total)
    left = k - int(whole.sum())
    whole[np.lexsort((tie_break, -remainder))[:left]] += 1
    return np.asarray(whole)


def lowest_of_each(values: np.ndarray, labels: np.ndarray, counts: np.ndarray, tie_break: np.ndarray) -> np.ndarray:
    """The `counts[c]` rows with the lowest value of every cluster c: bool [N].

    Rows with a NaN are never taken. Of equal values the one with the smaller `tie_break` goes first.

    Args:
        values: [N]. labels: cluster of each row, [N] integers. counts: [clusters]. tie_break: [N] numbers.
    """
    order = np.lexsort((tie_break, values, labels))
    order = order[~np.isnan(values[order])]
    sorted_labels = labels[order]
    place = np.arange(len(order)) - np.searchsorted(sorted_labels, sorted_labels)
    taken = np.zeros(len(values), dtype=np.bool_)
    taken[order[place < np.asarray(counts)[sorted_labels]]] = True
    return taken


def nearest_to_centres(embeddings: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """For every cluster that has rows, by its number, the row nearest to the mean of its rows: positions, int64.

    Euclidean distance, among the cluster's own rows; of equally near ones the first. Memory: the vectors in float64.

    Args:
        embeddings: [N, d]. labels: cluster of each row, [N] integers.
    """
    points = np.asarray(embeddings, dtype=np.float64)
    nearest = []
    for cluster in np.unique(labels):
        members = np.flatnonzero(labels == cluster)
        distance = np.linalg.norm(points[members] - points[members].mean(axis=0), axis=1)
        nearest.append(members[np.argmin(distance)])
    return np.array(nearest, dtype=np.int64)
