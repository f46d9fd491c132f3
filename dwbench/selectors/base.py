"""What a selector is.

A selector is one component with a `score` method, or with `choose` where what is taken depends on how many rows are. It
declares in `needs` what it uses; the key of its result is made of exactly that, and `Context` refuses everything else,
also when the result lies in the store already. So `random` is drawn once for all models, and a loss is computed once
for all seeds.
"""

from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np

from dwbench.component import identity, key_of
from dwbench.rules.ranking import Scores
from dwbench.selectors.context import Context
from dwbench.selectors.material import Need

SCORE_VERSION = 1


@runtime_checkable
class Selector(Protocol):
    """A published method. An implementation is a component (frozen, validated) with these members, and with `score`
    (`ScoreSelector`) or `choose` (`SetSelector`).

    Attributes:
        version: raised by hand when the code changes what comes out.
        paper: where the method is from.
        cost_class: what it costs for each row of the pool, in words.
        fixed_share: share of the pool that the method takes whatever the budget; None: the budget decides.
    """

    version: ClassVar[int]
    paper: ClassVar[str]
    cost_class: ClassVar[str]
    fixed_share: ClassVar[float | None]

    @property
    def needs(self) -> frozenset[Need]: ...


@runtime_checkable
class ScoreSelector(Selector, Protocol):
    """A method that scores rows; 1, 5 and 10 % are cuts of one ranking."""

    def score(self, context: Context) -> Scores:
        """A score for every row of `context`'s pool, in its order. Knows nothing of the budget."""
        ...


@runtime_checkable
class SetSelector(Selector, Protocol):
    """A method whose choice depends on its size: quotas, greedy sets."""

    def choose(self, context: Context, k: int, allowed: np.ndarray) -> Scores:
        """Scores by which exactly the k chosen rows rank first (by tier, then preference).

        `allowed` [N] is false for rows that nothing can be learnt from: they take no place while others are left.
        """
        ...


@runtime_checkable
class Checking(Protocol):
    """A selector that can tell before anything is computed that its settings don't suit the data or the model."""

    def check(self, context: Context) -> None:
        """Raise UserError where they don't. Loads no weights."""
        ...


def versions(selector: Selector) -> list[int]:
    """The selector's version, and those of the selectors that it is made of."""
    inner = [value for value in vars(selector).values() if isinstance(value, Selector)]
    return [selector.version, *(version for one in inner for version in versions(one))]


def score_identity(selector: Selector, context: Context) -> dict[str, Any]:
    """Plain data that determines a selector's scores: itself and what it declares that it needs."""
    needs = sorted(need for need in selector.needs if need != "responses")
    return {
        "version": [SCORE_VERSION, *versions(selector)],
        "selector": identity(selector),
        **context.identity_of("pool", *needs),
    }


def selection_stage(selector: Selector, context: Context, k: int, allowed: np.ndarray) -> tuple[str, dict[str, Any]]:
    """Name and identity of the stage that holds a selector's scores: one for all budgets, or one for this choice."""
    scores = score_identity(selector, context)
    if not isinstance(selector, SetSelector):
        return "score", scores
    barred = [uid for uid, may in zip(context.uids, allowed, strict=True) if not may]
    return "select", {**scores, "rows": k, "barred": key_of(sorted(barred))}


def compute_scores(selector: Selector, context: Context, k: int, allowed: np.ndarray) -> Scores:
    """Let the selector score, or choose k of the rows that are allowed."""
    if isinstance(selector, SetSelector):
        return selector.choose(context, k, allowed)
    assert isinstance(selector, ScoreSelector), f"{type(selector).__name__} has neither score nor choose"
    return selector.score(context)
