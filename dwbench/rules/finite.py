"""A row that is no point anywhere has no place in a rule on points."""

import numpy as np


def check_finite(points: np.ndarray) -> None:
    """Raise ValueError, with the first such row, where a row of the points [N, d] is not finite."""
    finite = np.isfinite(points).all(axis=1)
    if not finite.all():
        raise ValueError(f"row {int(finite.argmin())} is not finite")
