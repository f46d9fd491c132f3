"""lm-eval without its log and its bars."""

import functools
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def quiet_lm_eval() -> Iterator[None]:
    """Inside the block lm-eval logs errors only, and draws bars only on a terminal."""
    import lm_eval.api.task
    import lm_eval.models.huggingface

    # It has no switch for the bars of building requests.
    modules: list[Any] = [lm_eval.api.task, lm_eval.models.huggingface]
    bars = [module.tqdm for module in modules]
    logger = logging.getLogger("lm_eval")
    level = logger.level
    logger.setLevel(logging.ERROR)
    for module, bar in zip(modules, bars, strict=True):
        module.tqdm = functools.partial(bar, disable=None)
    try:
        yield
    finally:
        logger.setLevel(level)
        for module, bar in zip(modules, bars, strict=True):
            module.tqdm = bar
