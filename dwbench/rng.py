"""Global random state, given back as it was found: TRL and lm-eval seed python, numpy and torch."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np


@contextmanager
def preserved_rng() -> Iterator[None]:
    """Let the block seed and draw as it likes; afterwards all global generators stand where they stood."""
    import torch

    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)
