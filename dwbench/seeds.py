"""Derived seeds: one number drives everything, through named axes (`train`, `select`, `split`, ...).

Random orders are drawn for each uid by hashing, not by shuffling positions. So they don't depend on the order of the
rows, no selector can disturb another's draw, and a smaller budget's random choice is a part of the larger one's.
"""

import hashlib
from collections.abc import Sequence

import numpy as np


def derive(seed: int, *axes: str | int) -> int:
    """A 32-bit seed for the named axes below `seed`."""
    text = "/".join(str(part) for part in (seed, *axes))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")


def draw(uids: Sequence[str], seed: int, *axes: str | int) -> np.ndarray:
    """One number in [0, 1) for each uid, shape [len(uids)], float64; depends on nothing but uid, seed and axes."""
    prefix = "/".join(str(part) for part in (seed, *axes)) + "/"
    words = [hashlib.sha256((prefix + uid).encode()).digest()[:8] for uid in uids]
    return np.array([(int.from_bytes(word, "big") >> 11) / 2**53 for word in words], dtype=np.float64)
