"""How diverse a set of rows is, in numbers for a report; none of them says whether it is worth tuning on.

Distances are cosine distances of the rows' embeddings. A number that is undefined for a set is NaN and is left out of
the report.
"""

import math
import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from dwbench.rules.clusters import kmeans_labels
from dwbench.rules.matching import unit_rows
from dwbench.rules.novelty import CHUNK, cosine_distances, densities, novelsum

NEAR = 0.95
"""Cosine above which two rows are near duplicates."""

CLUSTERS = 100
"""Clusters of the pool for the partition entropy, at most; and at most one for ten rows."""

VOCD_SIZES = range(35, 51)
"""Sample sizes in tokens (McCarthy & Jarvis 2010)."""

VOCD_SAMPLES, VOCD_TRIALS = 100, 3
"""Samples of each size, and times that the whole is done; D is the trials' mean."""

VOCD_RANGE = (1e-3, 1e4)
"""D is looked for in here; text without any repetition has the upper end."""


class PoolProfile(NamedTuple):
    """What reports of all sets from one pool share. `density`: [N] float64. `cluster`: of each row, [N] int64."""

    density: np.ndarray
    cluster: np.ndarray


def pool_profile(vectors: np.ndarray, seed: int) -> PoolProfile:
    """Densities (10 neighbours, power 0.5) and k-means clusters of a pool's embeddings, [N, d].

    Work N^2 d, a few seconds at N = 10,000; memory 256 x N numbers of 12 bytes and the vectors in float64, never N x N.
    """
    clusters = max(1, min(CLUSTERS, len(vectors) // 10))
    return PoolProfile(densities(vectors), kmeans_labels(vectors, clusters, seed))


def diversity_report(
    vectors: np.ndarray,
    profile: PoolProfile,
    chosen: np.ndarray,
    texts: Sequence[str],
    tokens: np.ndarray,
    seed: int,
) -> dict[str, float]:
    """All numbers on one set; those that are undefined for it are left out.

    Work n N d and n^2 log n; memory 256 x N numbers and the vectors in float64, never n x n. The order of the rows has
    no part in it but for the samples of `vocd_d`.

    Args:
        vectors: of the pool, [N, d].
        profile: of the pool (`pool_profile`).
        chosen: positions of the set's rows in the pool, [n], at least one.
        texts: of the set's rows, [n].
        tokens: of the set's rows (response tokens), [n].
        seed: of the samples of `vocd_d`.

    Raises ValueError for an empty set.
    """
    if len(chosen) == 0:
        raise ValueError("an empty set has no diversity")
    own = np.asarray(vectors)[chosen]
    distances, density = cosine_distances(own), profile.density[chosen]
    nearest = nearest_distances(own)
    types = words(texts)
    numbers = {
        "novelsum": novelsum(distances, density),
        "novelsum_paper": novelsum(distances, density, form="paper"),
        "nearest_distance_mean": float(nearest.mean()),
        "pairwise_distance_mean": mean_pairwise_distance(own),
        "facility_location": facility_location_value(vectors, chosen),
        "partition_entropy": partition_entropy(profile.cluster[chosen]),
        "vendi": vendi(own),
        "ttr": type_token_ratio(types),
        "vocd_d": vocd_d(types, seed),
        "duplicates_exact": exact_duplicates(texts),
        "duplicates_near": float((nearest < 1 - NEAR).mean()),
        "tokens_mean": float(np.mean(tokens)),
        "tokens_median": float(np.median(tokens)),
        "tokens_sd": float(np.std(tokens)),
    }
    return {name: value for name, value in numbers.items() if not math.isnan(value)}


def nearest_distances(vectors: np.ndarray) -> np.ndarray:
    """Distance of every row to the nearest other one, [n] float64; NaN for a single row. Memory 256 x n float32."""
    n = len(vectors)
    if n < 2:
        return np.full(n, np.nan)
    distances = cosine_distances(vectors)
    found = np.empty(n)
    for start in range(0, n, CHUNK):
        positions = np.arange(start, min(start + CHUNK, n))
        block = distances(positions)
        block[np.arange(len(block)), positions] = np.inf
        found[positions] = block.min(axis=1)
    return found


def mean_pairwise_distance(vectors: np.ndarray) -> float:
    """Mean distance of two different rows (DistSum); NaN for a single row. Work n d, memory 2 n d float64: from the sum
    of the unit rows, without the distances themselves."""
    n = len(vectors)
    if n < 2:
        return math.nan
    units = unit_rows(vectors)
    cosines = float((units.sum(axis=0) ** 2).sum() - (units**2).sum())  # of all ordered pairs
    return 1 - cosines / (n * (n - 1))


def facility_location_value(vectors: np.ndarray, chosen: np.ndarray) -> float:
    """Mean over the pool's rows [N, d] of the cosine with the nearest row of the set, negative ones counting 0.

    Work N n d; memory 256 x n float32 and the vectors in float64.
    """
    units = unit_rows(vectors).astype(np.float32)
    own = units[chosen]
    total = 0.0
    for start in range(0, len(units), CHUNK):
        nearest = (units[start : start + CHUNK] @ own.T).max(axis=1)
        total += float(np.clip(nearest, 0, 1).sum())
    return total / len(units)


def partition_entropy(clusters: np.ndarray) -> float:
    """Entropy in nats of the set's spread over clusters of the pool: 0 where all rows are of one."""
    _, counts = np.unique(clusters, return_counts=True)
    return _entropy(counts / counts.sum())


def vendi(vectors: np.ndarray) -> float:
    """Vendi score (Friedman & Dieng 2023): exp of the entropy of the eigenvalues of the cosine kernel / n.

    An effective number of different rows, from 1 to n, and at most d. Work n d^2; memory min(n, d)^2 float64.
    """
    units = unit_rows(vectors)
    # The kernel's eigenvalues that are not 0 are those of the smaller product of the two.
    product = units @ units.T if len(units) < units.shape[1] else units.T @ units
    eigenvalues = np.clip(np.linalg.eigvalsh(product), 0, None)
    return math.exp(_entropy(eigenvalues / eigenvalues.sum()))


def words(texts: Sequence[str]) -> np.ndarray:
    """Numbers of the words of all texts, one text behind the other; equal words, case apart, have equal numbers."""
    numbers: dict[str, int] = {}
    found = [numbers.setdefault(word, len(numbers)) for text in texts for word in re.findall(r"\w+", text.lower())]
    return np.array(found, dtype=np.int64)


def type_token_ratio(tokens: np.ndarray) -> float:
    """Different tokens / tokens; NaN for none. It falls with the length of the text: compare like with like."""
    return len(np.unique(tokens)) / len(tokens) if len(tokens) else math.nan


def vocd_d(tokens: np.ndarray, seed: int) -> float:
    """vocd-D (Malvern & Richards 1997; McCarthy & Jarvis 2010): lexical diversity that hardly depends on length.

    The D whose curve of type-token ratios is nearest (least squares) to the mean ratios of 100 random samples of each
    size from 35 to 50 tokens, drawn without replacement; the mean of three trials. NaN below 50 tokens.
    """
    if len(tokens) < VOCD_SIZES[-1]:
        return math.nan
    rng = np.random.default_rng(seed)
    return float(np.mean([fit_d(_sampled_ratios(tokens, rng)) for _ in range(VOCD_TRIALS)]))


def ratio_curve(d: float, sizes: np.ndarray) -> np.ndarray:
    """Type-token ratios at sample sizes N for a diversity of D: D / N (sqrt(1 + 2 N / D) - 1)."""
    return np.asarray(d / sizes * (np.sqrt(1 + 2 * sizes / d) - 1))


def fit_d(ratios: np.ndarray) -> float:
    """The D whose curve is nearest to the ratios at `VOCD_SIZES`."""
    from scipy.optimize import minimize_scalar

    sizes = np.array(VOCD_SIZES, dtype=np.float64)
    low, high = VOCD_RANGE
    found = minimize_scalar(
        lambda log_d: float(((ratio_curve(math.exp(log_d), sizes) - ratios) ** 2).sum()),
        bounds=(math.log(low), math.log(high)),
        method="bounded",
        options={"xatol": 1e-8},
    )
    return math.exp(found.x)


def exact_duplicates(texts: Sequence[str]) -> float:
    """Share of the texts that have a twin among the others, white space and case apart."""
    same = [" ".join(text.lower().split()) for text in texts]
    _, place, counts = np.unique(same, return_inverse=True, return_counts=True)
    return float((counts[place] > 1).mean())


def _sampled_ratios(tokens: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Mean type-token ratio of the samples of each size."""

    def sampled(size: int) -> float:
        return len(np.unique(rng.choice(tokens, size, replace=False))) / size

    return np.array([np.mean([sampled(size) for _ in range(VOCD_SAMPLES)]) for size in VOCD_SIZES])


def _entropy(shares: np.ndarray) -> float:
    """In nats; shares sum to 1."""
    present = shares[shares > 0]
    return float(-(present * np.log(present)).sum()) + 0.0
