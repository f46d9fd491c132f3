"""How fast a model computes: measured by the stages in a store, or given; and what an amount of work then takes."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from dwbench.component import key_of
from dwbench.cost import Cost
from dwbench.models.encoder import Encoder
from dwbench.models.spec import LM

Kind = Literal["inference", "evaluation", "gradients", "tuning"]

KIND_OF_STAGE: Mapping[str, Kind] = {"train": "tuning", "evaluate": "evaluation"}


@dataclass(frozen=True)
class Work:
    """What is computed by which model: `model` as `model_key` names it."""

    model: str
    kind: Kind


class Throughput(Protocol):
    def seconds(self, work: Work, cost: Cost) -> float | None:
        """Seconds that an amount of work takes on one device; None where that is not known."""
        ...


def model_key(model: LM | Encoder) -> str:
    """Names the weights and their precision, on which speed depends; not the lengths, on which the amount does."""
    dtype = model.resolved_dtype() if isinstance(model, LM) else None
    return key_of([model.weights_identity(), dtype])


def work_of(stage: str, identity: Mapping[str, Any], cost: Cost, models: Iterable[LM | Encoder]) -> Work | None:
    """What a stage with this identity computed: the first of `models` that it names. None where it names none of
    them, or passed nothing through a model."""
    if not cost.flop:
        return None
    for model in models:
        dtype = model.resolved_dtype() if isinstance(model, LM) else None
        if _names(identity, model.weights_identity(), dtype):
            other: Kind = "gradients" if cost.backward_tokens else "inference"
            return Work(model_key(model), KIND_OF_STAGE.get(stage, other))
    return None


def _names(identity: Any, weights: Mapping[str, str], dtype: str | None) -> bool:
    """Whether plain data holds a model's identity, or weights and precision alone (the part `weights` of a key)."""
    if isinstance(identity, Mapping):
        if identity.get("weights") == weights and identity.get("dtype") == dtype:
            return True
        return any(_names(value, weights, dtype) for value in identity.values())
    if isinstance(identity, list | tuple):
        return list(identity) == [weights, dtype] or any(_names(item, weights, dtype) for item in identity)
    return False


@dataclass(frozen=True)
class Given:
    """`tflops` (10^12 model FLOP a second) for everything, and `decoded` tokens a second, all rows of a batch together,
    for what generation takes beside its FLOP."""

    tflops: float
    decoded: float | None

    def seconds(self, work: Work, cost: Cost) -> float | None:
        if cost.generated_tokens and self.decoded is None:
            return None
        decoding = cost.generated_tokens / self.decoded if self.decoded else 0.0
        return cost.flop / (self.tflops * 1e12) + decoding


@dataclass(frozen=True)
class Measured:
    """Stages that were timed on this hardware: seconds ~ a FLOP + b generated tokens.

    a is the seconds over the FLOP of all stages without generation: of the same model and kind where there are any,
    else of the model's inference, else of the model, else of any. b is what is left over of the seconds of the stages
    that generate, of the same model and kind or else of the model, for each of their tokens; where the model never
    generated, that of any, times how many more FLOP a token of this model takes. Both are least squares under a
    variance that grows with the work. What such stages do beside their models' work is in a and b.
    """

    stages: Sequence[tuple[Work, Cost]]

    def seconds(self, work: Work, cost: Cost) -> float | None:
        a = self._a_flop(work)
        if a is None:
            return None
        if not cost.generated_tokens:
            return a * cost.flop
        b = self._a_token(work, cost)
        return None if b is None else a * cost.flop + b * cost.generated_tokens

    def guessed(self, work: Work, cost: Cost) -> bool:
        """Whether the speed is that of another model or kind of work."""
        return not self._like(work, generating=bool(cost.generated_tokens))

    def scaled(self, work: Work, cost: Cost) -> bool:
        """Whether the speed of generation is that of another model, scaled."""
        models = {of.model for of, _ in self._speaking()}
        return bool(cost.generated_tokens and models) and work.model not in models

    def _speaking(self) -> list[tuple[Work, Cost]]:
        return [(of, cost) for of, cost in self.stages if cost.generated_tokens]

    def _like(self, work: Work, generating: bool) -> list[Cost]:
        return [cost for of, cost in self.stages if of == work and bool(cost.generated_tokens) == generating]

    def _a_flop(self, work: Work) -> float | None:
        silent = [(of, cost) for of, cost in self.stages if not cost.generated_tokens]
        nearest = (
            self._like(work, generating=False)
            or self._like(Work(work.model, "inference"), generating=False)
            or [cost for of, cost in silent if of.model == work.model]
            or [cost for _, cost in silent]
        )
        flop = sum(cost.flop for cost in nearest)
        return sum(cost.seconds for cost in nearest) / flop if flop else None

    def _a_token(self, work: Work, cost: Cost) -> float | None:
        speaking = self._speaking()
        same = [(of, known) for of, known in speaking if of.model == work.model]
        nearest = [(of, known) for of, known in same if of == work] or same or speaking
        left = sum(known.seconds - (self._a_flop(of) or 0.0) * known.flop for of, known in nearest)
        # Weights are read for every token, so that it takes as much longer as the model is larger.
        tokens = sum(known.generated_tokens * (1.0 if same else _relative(known, cost)) for _, known in nearest)
        return max(0.0, left) / tokens if tokens else None


def _relative(one: Cost, other: Cost) -> float:
    """FLOP of a token of the one over those of the other."""
    return one.flop / one.forward_tokens * other.forward_tokens / other.flop
