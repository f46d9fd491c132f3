"""The gradient engine: per-sample gradients of a loaded model, as norms, features or inner products, and their cost."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from dwbench.models.chat import Chat, Pair
from dwbench.models.flop import Shape
from dwbench.progress import Advance
from dwbench.representations.adam import Directions
from dwbench.representations.batches import batches
from dwbench.representations.factors import Factors
from dwbench.representations.head_gradients import head_norms
from dwbench.representations.per_sample import Take, Wanted, backward, wanted
from dwbench.representations.projection import Projector
from dwbench.store import Bench

if TYPE_CHECKING:
    import torch

GradientPart = Literal["lora_all", "last_v_lora_b", "last_v", "lm_head"]
"""Which weights a norm is of:

- `lora_all`: all adapters;
- `last_v_lora_b`: lora_B of the last layer's v_proj (STAFF's effort);
- `last_v`: the weight of the last layer's v_proj itself, with an adapter beside it or without;
- `lm_head`: the LM head, by way of the output only where embeddings are tied; takes no pass backward.
"""

BACKWARD_COST = 4
"""Tokens of a pass forward that take the memory of one that is to pass backward: the activations of all layers stay."""

ENTRIES_TOGETHER = 2**29
"""Gradient entries (2 GiB) that are projected together where the projection is dense: its signs are drawn for each
lot."""

Reduce = Callable[[str, Factors], "torch.Tensor"]

Featuring = Callable[[Sequence[Pair | None], Advance], np.ndarray]


def budgets(device: str, token_budget: int) -> tuple[int, int]:
    """Padded tokens of a batch that is passed forward only, and of one that is passed backward too.

    0 on a CPU, where each row is then a batch of its own: there batches save no time and take memory.
    """
    if device == "cpu":
        return 0, 0
    return token_budget, token_budget // BACKWARD_COST


class Gradients:
    """Per-sample gradients of the mean NLL of responses, end of turn included, as in tuning.

    A pair that is None has NaN in its row of all that comes out. Rows do not depend on batches, to 1e-5 in float32.

    Args:
        model: a transformers causal LM, or a PEFT model with its adapters unmerged. It is put into eval mode, and
            its weights require no gradients any more.
        token_budget: padded tokens of a batch that is passed forward only.
    """

    def __init__(self, model: Any, chat: Chat, bench: Bench, token_budget: int) -> None:
        self.chat = chat
        self._model = model.eval().requires_grad_(False)
        self._bench = bench
        self._forward_budget, self._backward_budget = budgets(model.device.type, token_budget)
        self._shape = Shape.of(model)
        self._warm = False

    def norms(self, pairs: Sequence[Pair | None], part: GradientPart, what: str = "gradient norms") -> np.ndarray:
        """Norms of the gradients of a part of the model, float64 [pairs]; NaN where one overflows. Raises UserError
        where there is no such part.

        GraNd (Paul et al. 2021) is the norm for all weights; those of `part` stand for them here.
        """
        with self._track(pairs, what) as advance:
            if part == "lm_head":
                return _finite(self._head_norms(pairs, advance)[:, None])[:, 0]
            layers = wanted(self._model, part)
            squares = self._summed(pairs, layers, 1, lambda _, of: of.square_norms()[:, None], advance)
        return np.asarray(np.sqrt(_finite(squares)[:, 0]))

    def features(
        self,
        pairs: Sequence[Pair | None],
        projector: Projector,
        directions: Directions | None = None,
        what: str = "gradient features",
    ) -> np.ndarray:
        """Projected gradients of the adapters, or Adam's directions for them, float32 [pairs, dim], not normalised.

        What is drawn and read for the projector and the directions stays with them, for the next rows. Raises UserError
        where the model has no adapters, or one of which there are no moments.
        """
        with self._track(pairs, what) as advance:
            return self.featuring(projector, directions)(pairs, advance)

    def featuring(self, projector: Projector, directions: Directions | None = None) -> Featuring:
        """A function that does the work of `features` for rows that come a few at a time. It takes pairs, and what is
        called with the number of rows done."""
        layers = wanted(self._model, "lora_all")
        dim = projector.projection.dim

        def feature(name: str, gradients: "torch.Tensor") -> "torch.Tensor":
            return projector.project(name, gradients if directions is None else directions.of(name, gradients))

        def features(pairs: Sequence[Pair | None], advance: Advance) -> np.ndarray:
            if projector.projection.kind == "sketch":
                return self._summed(pairs, layers, dim, lambda name, of: feature(name, of.gradients()), advance)
            rows = sum(pair is not None for pair in pairs)
            self._bench.meter.count(flop=2.0 * layers.size * dim * rows)  # a sketch takes 1/dim of that
            return self._gathered(pairs, layers, dim, feature, advance)

        return features

    def collect(self, pairs: Sequence[Pair | None], what: str = "gradients") -> dict[str, np.ndarray]:
        """Gradients of the adapters by the weight's name, flattened, float32 [pairs, size]."""
        with self._track(pairs, what) as advance:
            return self._collected(pairs, wanted(self._model, "lora_all"), advance)

    def products(
        self, pairs: Sequence[Pair | None], against: Mapping[str, np.ndarray], what: str = "gradient products"
    ) -> tuple[np.ndarray, np.ndarray]:
        """Inner products of the adapters' gradients with m given ones, float64 [pairs, m], and the gradients' squared
        norms, float64 [pairs]. A row of which one overflows is NaN.

        `against` holds for each of the adapters what `collect` gives, [m, size].
        """
        import torch

        layers = wanted(self._model, "lora_all")
        if against.keys() != layers.layers.keys():
            raise ValueError(f"against: must hold the {len(layers.layers)} adapters of the model, not {len(against)}")
        given = {
            name: torch.from_numpy(np.asarray(rows, dtype=np.float32)).to(self._model.device)
            for name, rows in against.items()
        }
        n_given = len(next(iter(given.values())))

        def reduced(name: str, factors: Factors) -> torch.Tensor:
            gradients = factors.gradients()
            return torch.cat((gradients @ given[name].T, gradients.square().sum(1, keepdim=True)), dim=1)

        with self._track(pairs, what) as advance:
            found = _finite(self._summed(pairs, layers, n_given + 1, reduced, advance))
        return found[:, :-1], found[:, -1]

    def _track(self, pairs: Sequence[Pair | None], what: str) -> AbstractContextManager[Advance]:
        return self._bench.progress.track(what, sum(pair is not None for pair in pairs))

    def _head_norms(self, pairs: Sequence[Pair | None], advance: Advance) -> np.ndarray:
        found = np.full(len(pairs), np.nan)
        for rows, members in self._batches(pairs, self._forward_budget):
            self._warm_up(members[0], None)
            found[rows] = head_norms(self._model, members).cpu().numpy()
            self._count(members, None)
            advance(len(rows))
        return found

    def _summed(
        self, pairs: Sequence[Pair | None], layers: Wanted, width: int, reduce: Reduce, advance: Advance
    ) -> np.ndarray:
        """The sum over layers of what `reduce` makes of each for the rows of a batch, float32 [pairs, width]."""
        import torch

        found = np.full((len(pairs), width), np.nan, dtype=np.float32)
        for rows, members in self._batches(pairs, self._backward_budget):
            total = torch.zeros((len(rows), width), dtype=torch.float32, device=self._model.device)
            self._backward(members, layers, partial(_add, total, reduce))
            found[rows] = total.cpu().numpy()
            advance(len(rows))
        return found

    def _collected(self, pairs: Sequence[Pair | None], layers: Wanted, advance: Advance) -> dict[str, np.ndarray]:
        found = {
            name: np.full((len(pairs), layer.weight.numel()), np.nan, dtype=np.float32)
            for name, layer in layers.layers.items()
        }
        for rows, members in self._batches(pairs, self._backward_budget):
            self._backward(members, layers, partial(_put, found, rows))
            advance(len(rows))
        return found

    def _gathered(
        self,
        pairs: Sequence[Pair | None],
        layers: Wanted,
        width: int,
        feature: "Callable[[str, torch.Tensor], torch.Tensor]",
        advance: Advance,
    ) -> np.ndarray:
        """The sum over layers of `feature` of each, for as many rows at once as `ENTRIES_TOGETHER` allows."""
        import torch

        found = np.empty((len(pairs), width), dtype=np.float32)
        lot = max(1, ENTRIES_TOGETHER // layers.size)
        for start in range(0, len(pairs), lot):
            total = torch.zeros((), dtype=torch.float32, device=self._model.device)
            for name, rows in self._collected(pairs[start : start + lot], layers, advance).items():
                total = total + feature(name, torch.from_numpy(rows).to(self._model.device))
            found[start : start + lot] = total.cpu().numpy()
        return found

    def _batches(self, pairs: Sequence[Pair | None], token_budget: int) -> Iterator[tuple[list[int], list[Pair]]]:
        """Positions and pairs of one batch after another, pairs that are None left out."""
        present = [(position, pair) for position, pair in enumerate(pairs) if pair is not None]
        for group in batches([pair.length for _, pair in present], token_budget):
            rows, members = zip(*(present[number] for number in group), strict=True)
            yield list(rows), list(members)

    def _backward(self, members: Sequence[Pair], layers: Wanted, take: Take) -> None:
        self._warm_up(members[0], layers)
        backward(self._model, members, layers, take)
        self._count(members, layers)

    def _warm_up(self, pair: Pair, layers: Wanted | None) -> None:
        """One small batch off the clock: the first pass of a process pays for kernels and thread pools."""
        if self._warm:
            return
        self._warm = True
        short = Pair(pair.context[:64], pair.response[:8])
        with self._bench.meter.apart("warmup"):
            if layers is None:
                head_norms(self._model, [short])
            else:
                backward(self._model, [short], layers, lambda name, factors: None)

    def _count(self, members: Sequence[Pair], layers: Wanted | None) -> None:
        """Book a pass forward and, where there are `layers`, one backward as far as the first of them. As there are no
        gradients of weights but of the adapters, below 2 %, it takes what the same layers and the head take forward."""
        lengths = [pair.length for pair in members]
        responses = sum(len(pair.response) for pair in members)
        forward = self._shape.forward(lengths, responses)
        self._bench.meter.count(forward_tokens=sum(lengths), forward_calls=len(members), flop=forward)
        if layers is not None:
            skipped = self._shape.forward(lengths, 0) * layers.first / self._shape.layers
            self._bench.meter.count(backward_tokens=sum(lengths), backward_calls=len(members), flop=forward - skipped)


def _add(total: "torch.Tensor", reduce: Reduce, name: str, factors: Factors) -> None:
    total += reduce(name, factors)


def _put(found: Mapping[str, np.ndarray], rows: Sequence[int], name: str, factors: Factors) -> None:
    found[name][rows] = factors.gradients().cpu().numpy()


def _finite(found: np.ndarray) -> np.ndarray:
    """The rows in float64, NaN where an entry is infinite: an overflow is no large gradient."""
    return np.where(np.isfinite(found).all(axis=1, keepdims=True), found.astype(np.float64), np.nan)
