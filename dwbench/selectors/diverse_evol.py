"""DiverseEvol: the model, tuned on what is chosen so far, says what is far from that."""

import math
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from dwbench.component import component
from dwbench.models.chat import Pair
from dwbench.rules.k_center import k_center
from dwbench.rules.ranking import Scores
from dwbench.selectors.context import Context
from dwbench.selectors.losses import NO_RESPONSE
from dwbench.selectors.material import Checkpoint, Need
from dwbench.selectors.picks import picked

VERSION = 1


@component
class DiverseEvol:
    """DiverseEvol (Wu et al. 2023, "Self-Evolved Diverse Data Sampling for Efficient Instruction Tuning").

    A first part of the rows is drawn. Then, `rounds` times, the untuned scorer is tuned on all rows chosen so far, all
    rows are embedded by it (mean last hidden state of prompt and response, behind the final norm), and the next part
    is chosen by k-center: each row the one farthest (Euclidean, vectors as they are) from the chosen ones. All parts
    have ceil(k / (rounds + 1)) rows, the last what is missing, so small k take fewer rounds. The rows of the last
    round are not tuned on. Value: a row's distance to the nearest chosen one when it was chosen; none in the
    first part. Rows without a response token within the scorer's maximum length are invalid.

    The reference's code differs: its tuning changes all weights, for 3 epochs; here it is LoRA with the run's settings
    for `epochs`. Its parts are 100 rows, in 10 rounds. Its distances of near-copies come out as no numbers, and so
    it picks these first (`dwbench.rules.k_center`); not kept.

    Charged are every round's tuning and pass over the pool: with k = 10 % and 10 rounds more than tuning on the whole
    pool once.

    Attributes:
        rounds: T; less costs less (1 or 5).
        epochs: of each round's tuning.
    """

    rounds: int = 10
    epochs: int = 3

    version: ClassVar[int] = 1
    paper: ClassVar[str] = "Wu et al. 2023, arXiv 2311.08182"
    cost_class: ClassVar[str] = "a forward pass and, for chosen rows, a tuning, in each of 10 rounds"
    fixed_share: ClassVar[float | None] = None

    def __post_init__(self) -> None:
        for name, value in (("rounds", self.rounds), ("epochs", self.epochs)):
            if value < 1:
                raise ValueError(f"{name}: must be at least 1, not {value}")

    @property
    def needs(self) -> frozenset[Need]:
        return frozenset({"responses", "task", "scorer", "training", "seed"})

    def check(self, context: Context) -> None:
        """Raises UserError where a tuning, even on all rows, would do nothing."""
        context.check_tuning(context.n_rows, self.epochs)

    def choose(self, context: Context, k: int, allowed: np.ndarray) -> Scores:
        known = np.array([_pair(context, position) is not None for position in range(context.n_rows)])
        candidates = allowed & known
        may = np.flatnonzero(candidates)
        wanted = min(k, len(may))
        size = math.ceil(wanted / (self.rounds + 1))
        chosen = may[np.argsort(context.draw("diverse_evol", "first")[may])[:size]]
        values = np.full(len(chosen), np.nan)
        tunings = 0
        while len(chosen) < wanted:
            checkpoint = context.tune(chosen.tolist(), self.epochs)[-1]
            vectors = tuned_vectors(context, checkpoint)[may]
            found = k_center(vectors, np.searchsorted(may, chosen), min(size, wanted - len(chosen)))
            chosen = np.concatenate([chosen, may[found.picks]])
            values = np.concatenate([values, found.radii])
            tunings += 1
        reasons = tuple("" if one else NO_RESPONSE for one in known)
        return picked(candidates, chosen, values, {"tunings": tunings}, reasons)


def tuned_vectors(context: Context, checkpoint: Checkpoint) -> np.ndarray:
    """Mean last hidden states of all rows with their responses by a tuned scorer, float32 [N, hidden size]; NaN for a
    row without response token. Stored stages."""
    return context.represent_rows(
        "tuned_hidden",
        VERSION,
        {"checkpoint": checkpoint.ref},
        ("responses", "prompt", "scorer"),
        lambda positions: {"vectors": _vectors(context, checkpoint, positions)},
    )["vectors"]


def _vectors(context: Context, checkpoint: Checkpoint, positions: Sequence[int]) -> np.ndarray:
    pairs = [_pair(context, position) for position in positions]
    sequences = [None if pair is None else (*pair.context, *pair.response) for pair in pairs]
    # Copies of a row share one pass: in two batches, rounding would tell them apart.
    place = {sequence: number for number, sequence in enumerate(dict.fromkeys(filter(None, sequences)))}
    vectors = context.scorer_with(checkpoint).mean_hidden(list(place), "hidden states of the pool")
    found = np.full((len(sequences), vectors.shape[1]), np.nan, dtype=np.float32)
    for row, sequence in enumerate(sequences):
        if sequence is not None:
            found[row] = vectors[place[sequence]]
    return found


def _pair(context: Context, position: int) -> Pair | None:
    """The row within the scorer's maximum length; None where no token of its response is left."""
    pair = context.chat.pair(context.task, context.pool[position])
    return None if pair is None or pair.response == (context.chat.end_of_turn,) else pair
