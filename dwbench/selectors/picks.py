"""What the methods share that choose a set of rows by their embeddings, so that they differ in the rule alone."""

import numpy as np

from dwbench.rules.ranking import Scores, scores
from dwbench.selectors.context import Context
from dwbench.selectors.texts import Text, text_of

CHOSEN, LEFT, BARRED = 0, 1, 2
"""Tiers."""


def pool_vectors(context: Context, text: Text) -> np.ndarray:
    """Unit vectors of all rows, float32 [N, d], one stored stage for all methods. Needs `responses`, `embedder`."""
    return context.embed([text_of(row, text) for row in context.pool])


def picked(
    candidates: np.ndarray,
    picks: np.ndarray,
    values: np.ndarray,
    notes: dict[str, float | int | str],
    reasons: tuple[str, ...] | None = None,
) -> Scores:
    """Scores by which the picks come first, in their order; then the other candidates, then all other rows.

    Args:
        candidates: which rows could be picked, bool [N].
        picks: positions, first choice first, [k].
        values: the rule's value of each pick, [k]; a row that was not picked has none (NaN).
        notes: as in `Scores`.
        reasons: of each row why it is invalid, else "", [N]; None: all are valid.
    """
    n = len(candidates)
    told = ("",) * n if reasons is None else reasons
    all_values = np.full(n, np.nan)
    all_values[picks] = values
    preference = np.where([bool(reason) for reason in told], np.nan, 0.0)
    preference[picks] = np.arange(len(picks), 0, -1)
    tier = np.where(candidates, LEFT, BARRED)
    tier[picks] = CHOSEN
    return scores(all_values, preference, told, tier, notes)
