"""RDS+: rows whose hidden states are nearest to those of target rows, which take turns."""

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np

from dwbench.component import component
from dwbench.data.base import Example
from dwbench.errors import UserError
from dwbench.rules.ranking import Scores, scores
from dwbench.rules.round_robin import round_robin
from dwbench.selectors.context import Context
from dwbench.selectors.losses import NO_RESPONSE
from dwbench.selectors.material import Need

VERSION = 1


@component
class RDSPlus:
    """RDS+ (Ivison et al., 2025, "Large-Scale Data Selection for Instruction Tuning"): targeted, without training.

    A row is embedded by the scorer: mean of the last hidden states over its prompt in the chat template and its
    response, token t of n weighted t / (1 + ... + n). Score: its highest cosine with a row of the target set. Rows are
    chosen by turns: each row of the target set in turn takes the row of the pool that is nearest to it and not taken
    yet, so that none of them gets all. All budgets are beginnings of one order. A row without response token within
    the model's `max_length` is invalid, and such a row of the target set has no turn.

    The reference's code differs: a target row whose nearest row is taken loses its turn (`variant: reference`). It
    groups several target tasks, each with the highest cosine of its rows, and lets the tasks take turns; here there is
    one task, whose rows do. Its template is fixed, its limit 2,048 tokens, and its mean counts padding in batches.
    """

    variant: Literal["paper", "reference"] = "paper"

    version: ClassVar[int] = 1
    paper: ClassVar[str] = "Ivison et al., 2025, arXiv 2503.01807"
    cost_class: ClassVar[str] = "1 forward pass; N x m cosines"
    fixed_share: ClassVar[float | None] = None

    @property
    def needs(self) -> frozenset[Need]:
        return frozenset({"responses", "target", "task", "scorer"})

    def check(self, context: Context) -> None:
        """Raises UserError where no row of the target set can be embedded."""
        _target_sequences(context)

    def score(self, context: Context) -> Scores:
        cosines = self._cosines(context)
        order = round_robin(cosines, context.n_rows, retry=self.variant == "paper")
        preference = np.full(context.n_rows, np.nan)
        preference[order] = np.arange(len(order), 0, -1)
        reasons = tuple(NO_RESPONSE if invalid else "" for invalid in np.isnan(preference))
        return scores(cosines.max(axis=1), preference, reasons, notes={"target_rows": cosines.shape[1]})

    def _cosines(self, context: Context) -> np.ndarray:
        """Of every row with every row of the target set, [N, m] float64; NaN for an invalid row."""
        sequences = _target_sequences(context)
        target = context.represent(
            "target_weighted_hidden",
            VERSION,
            {},
            ("target", "prompt", "scorer"),
            lambda: {"vectors": _embedded(context, sequences, "hidden states of the target set")},
        )["vectors"]
        blocks = context.represent_blocks(
            "weighted_hidden",
            VERSION,
            {},
            ("responses", "prompt", "scorer"),
            lambda positions: {"vectors": _pool_vectors(context, positions)},
        )
        found = [arrays["vectors"].astype(np.float64) @ target.astype(np.float64).T for _, arrays in blocks]
        return np.concatenate(found)


def _target_sequences(context: Context) -> list[tuple[int, ...]]:
    """The rows of the target set that have a response token. Raises UserError where there is none."""
    found = [sequence for row in context.target if (sequence := _sequence(context, row)) is not None]
    if not found:
        raise UserError(
            f"selector rds_plus: none of the {len(context.target)} rows of the target set has a response token within "
            f"the scoring model's max_length={context.chat.max_length}: give other ones, or raise it"
        )
    return found


def _sequence(context: Context, row: Example) -> tuple[int, ...] | None:
    pair = context.chat.pair(context.task, row)
    if pair is None or pair.response == (context.chat.end_of_turn,):
        return None
    return (*pair.context, *pair.response)


def _pool_vectors(context: Context, positions: range) -> np.ndarray:
    """Unit rows [positions, hidden size] float32; NaN for a row without response token."""
    sequences = [_sequence(context, context.pool[position]) for position in positions]
    # Copies of a row share one pass: in two batches, rounding would tell them apart.
    known = {sequence: place for place, sequence in enumerate(dict.fromkeys(filter(None, sequences)))}
    vectors = _embedded(context, list(known), "hidden states of the pool")
    found = np.full((len(sequences), vectors.shape[1]), np.nan, dtype=np.float32)
    for row, sequence in enumerate(sequences):
        if sequence is not None:
            found[row] = vectors[known[sequence]]
    return found


def _embedded(context: Context, sequences: Sequence[Sequence[int]], what: str) -> np.ndarray:
    """Unit rows, [sequences, hidden size] float32."""
    vectors = context.scorer.weighted_hidden(sequences, what)
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
