"""GIST: LESS in the few dimensions that the target set's gradients span."""

import functools
from typing import Any, ClassVar, Literal

import numpy as np

from dwbench.component import component
from dwbench.rules.matching import subspace, unit_rows
from dwbench.rules.ranking import Scores, scores
from dwbench.selectors import gradients
from dwbench.selectors.context import Context
from dwbench.selectors.material import Checkpoint, Need

VERSION = 1


def coordinates_in(basis_weights: np.ndarray, products: np.ndarray) -> np.ndarray:
    """Coordinates of gradients in a subspace, [n, q], from their inner products with the target gradients, [n, m]."""
    return np.asarray(products @ basis_weights)


def cosines(coordinates: np.ndarray, target: np.ndarray, lengths: np.ndarray | None) -> np.ndarray:
    """Cosine of each row with the mean of the target rows, [n], in a subspace.

    Args:
        coordinates: of the rows, [n, q]. target: of the target rows, [m, q].
        lengths: of the rows' whole gradients, [n]; None: of what the subspace holds of them.
    """
    sought = unit_rows(target.mean(axis=0)[None])[0]
    if lengths is None:
        return np.asarray(unit_rows(coordinates) @ sought)
    return np.asarray(coordinates @ sought / np.where(lengths == 0, 1.0, lengths))


@component
class GIST:
    """GIST (Min et al., ICML 2026, "GIST: Targeted Data Selection for Instruction Tuning via Coupled Optimization
    Geometry"): LESS without random projection and Adam.

    The scorer is tuned on a random share of the pool. With the plain gradients G [m, P] of the target set at the last
    checkpoint and the eigen-decomposition of G G^T (not centred), the subspace is that of the `target_dim` largest.
    Score: the cosine, in the subspace, of a row's plain gradient with the mean of the target rows'. Higher is chosen
    first. The whole target set is one subtask.

    As published a row's coordinates are scaled to length 1 in the subspace, so that a gradient that is almost
    orthogonal to it counts as much as one inside of it (`norm: subspace`). With `norm: full` they are divided by the
    length of the whole gradient. Where the subspace has one dimension (one target row, or `target_dim: 1`), the first
    leaves 1 and -1 as scores and draws among equals; take `norm: full` there.

    The reference takes 300 target rows at most, 9 dimensions in its README, and products in bfloat16; here all rows,
    and float32. Its warm-up is that of LESS; here it is tuned with the run's own settings.

    Charged: the warm-up, and a pass forward and backward for every row of pool and target set. While the pool is gone
    through, the target rows' gradients are in memory: m x P x 4 bytes, P being the adapters' parameters (64 rows with
    r 8 on all linear layers: 5 GB for a model of 7 billion parameters). A pool that is gone through in several
    sittings has them computed, and charged, in each.

    Attributes:
        warmup_share: share of the pool that the warm-up is on. epochs: of the warm-up.
        target_dim: dimensions of the subspace, at most the rank of the target gradients.
        norm: see above.
    """

    warmup_share: float = 0.05
    epochs: int = 4
    target_dim: int = 150
    norm: Literal["subspace", "full"] = "subspace"

    version: ClassVar[int] = 1
    paper: ClassVar[str] = "Min et al., ICML 2026, arXiv 2602.18584"
    cost_class: ClassVar[str] = "tuning on warmup_share of the rows, then a forward and backward pass"
    fixed_share: ClassVar[float | None] = None

    def __post_init__(self) -> None:
        gradients.validate(self.warmup_share, self.epochs)
        if self.target_dim < 1:
            raise ValueError(f"target_dim: must be at least 1, not {self.target_dim}")

    @property
    def needs(self) -> frozenset[Need]:
        return frozenset({"responses", "target", "task", "scorer", "training", "seed"})

    def check(self, context: Context) -> None:
        """Raise UserError where the warm-up would do nothing, or no target row has a response token."""
        gradients.check(context, self.warmup_share, self.epochs)

    def score(self, context: Context) -> Scores:
        known = gradients.trainable(context)
        checkpoint = gradients.warm_up(context, known, self.warmup_share, self.epochs)[-1]
        products = target_products(context, checkpoint)
        found = subspace(products["gram"], self.target_dim)
        coordinates = coordinates_in(found.weights, products["products"])
        lengths = np.sqrt(products["squares"])
        values = cosines(coordinates, found.target, lengths if self.norm == "full" else None)
        with np.errstate(invalid="ignore"):
            held = np.linalg.norm(coordinates, axis=1) / lengths
        notes: dict[str, float | int | str] = {
            "warmup_rows": gradients.warmup_rows(known, self.warmup_share),
            "target_rows_without_response": len(context.target) - len(found.target),
            "dimensions": found.target.shape[1],
            "gradient_in_subspace_mean": float(np.nanmean(held)),
        }
        return scores(values, values, gradients.reasons(known), notes=notes)


def target_products(context: Context, checkpoint: Checkpoint) -> dict[str, np.ndarray]:
    """Inner products of the adapters' plain gradients at a checkpoint, float64: `gram` [m, m] of the target rows among
    themselves, `products` [N, m] of the pool's rows with them, and `squares` [N], the pool's squared lengths. NaN for a
    row without response token. Stored, the pool's block by block.

    Needs `responses`, `target`, `task`, `scorer` and `training`.
    """

    @functools.cache
    def target() -> dict[str, np.ndarray]:
        found = context.gradients(checkpoint).collect(gradients.target_pairs(context), what="gradients of the target")
        gradients.check_target(np.stack([np.abs(part).sum(axis=1) for part in found.values()], axis=1))
        return found

    def gram() -> dict[str, np.ndarray]:
        parts = (part.astype(np.float64) for part in target().values())
        return {"gram": np.asarray(sum(part @ part.T for part in parts))}

    def block(positions: range) -> dict[str, np.ndarray]:
        against = target()
        pairs = gradients.training_pairs(context, positions)
        products, squares = context.gradients(checkpoint).products(pairs, against, what="gradients of the pool")
        return {"products": products, "squares": squares}

    key: dict[str, Any] = {"features": gradients.VERSION, "checkpoint": checkpoint.ref}
    among = context.represent("gist_target", VERSION, key, ("target", "prompt", "scorer"), gram)
    pool = context.represent_rows("gist", VERSION, key, ("responses", "target", "prompt", "scorer"), block)
    return {**among, **pool}
