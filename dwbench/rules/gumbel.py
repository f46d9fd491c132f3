"""Draws without replacement in proportion to given weights."""

import numpy as np

SMALLEST = 2.0**-54
"""In place of a 0 among the uniform numbers; the next one above is 2^-53."""


def gumbel_keys(log_weights: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """Log-weights with Gumbel noise, [N]: the rows by falling key are a draw without replacement.

    Each next row is one of those left with a probability in proportion to its weight (Gumbel top-k; Kool et al., ICML
    2019), so that a smaller draw is the beginning of a larger one. A weight of 0 (-inf) stays -inf.
    Memory: four numbers a row.

    Args:
        log_weights: [N], up to a constant. uniform: [N] numbers in [0, 1).
    """
    return np.asarray(log_weights - np.log(-np.log(np.maximum(uniform, SMALLEST))))
