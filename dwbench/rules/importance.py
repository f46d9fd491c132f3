"""Importance weights of texts by hashed n-grams: how much more likely a text is in a target than in its own pool."""

import hashlib
import itertools
import re
from collections.abc import Sequence

import numpy as np

WORD = re.compile(r"\w+|[^\w\s]+")
"""Runs of letters and digits, and runs of other signs: nltk's WordPunctTokenizer."""

EPSILON = 1e-8
"""Added to every probability before its logarithm is taken."""


def hashed_ngrams(text: str, buckets: int) -> np.ndarray:
    """Buckets of the text's words and pairs of neighbouring words in lower case, [n-grams] int64; words first.

    A bucket is the SHA-256 of the n-gram modulo `buckets`, the two words of a pair being joined by a space.
    """
    words = WORD.findall(text.lower())
    pairs = [f"{first} {second}" for first, second in itertools.pairwise(words)]
    return np.array([_bucket(ngram, buckets) for ngram in [*words, *pairs]], dtype=np.int64)


def _bucket(ngram: str, buckets: int) -> int:
    # A lone surrogate, which JSON can hold, has no UTF-8 form.
    return int.from_bytes(hashlib.sha256(ngram.encode("utf-8", "surrogatepass")).digest(), "big") % buckets


def log_importance(
    rows: Sequence[np.ndarray], target: Sequence[np.ndarray], buckets: int, smoothing: float
) -> np.ndarray:
    """log p_target(row) - log p_pool(row) of every row, [N] float64; 0 for a row without n-grams.

    Both are bags of n-grams: the sum over a row's n-grams of the log-ratio of their frequencies in the two sets, so a
    long row lies further from 0. Memory: a few numbers for each bucket, beside the n-grams themselves (8 bytes each).

    Args:
        rows: buckets of each row's n-grams, as from `hashed_ngrams`: those of the pool, N arrays.
        target: those of the target set.
        buckets: how many there are.
        smoothing: added to every count of the target.
    """
    wanted = _frequencies(target, buckets, smoothing)
    raw = _frequencies(rows, buckets, 0.0)
    log_ratio = np.log(wanted + EPSILON) - np.log(raw + EPSILON)
    return np.array([log_ratio[row].sum() for row in rows], dtype=np.float64)


def _frequencies(texts: Sequence[np.ndarray], buckets: int, smoothing: float) -> np.ndarray:
    counts = np.full(buckets, smoothing, dtype=np.float64)
    for ngrams in texts:
        np.add.at(counts, ngrams, 1.0)
    total = counts.sum()
    return np.asarray(counts / total if total > 0 else counts)
