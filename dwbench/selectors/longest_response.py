"""Longest responses first: the baseline that costs nothing and is hard to beat."""

from typing import ClassVar, Literal

import numpy as np

from dwbench.component import component
from dwbench.rules.ranking import Scores, scores
from dwbench.selectors.context import Context
from dwbench.selectors.material import Need


@component
class LongestResponse:
    """Rows with the most response tokens, in tokens of the model to be tuned (Zhao et al. 2024, "Long Is More for
    Alignment").

    Score: response tokens without the end of turn, untruncated; higher is chosen first. No forward pass.

    Attributes:
        count: `response`, or `total`: the rendered prompt's tokens too.
    """

    count: Literal["response", "total"] = "response"

    version: ClassVar[int] = 1
    paper: ClassVar[str] = "Zhao et al. 2024, arXiv 2402.04833"
    cost_class: ClassVar[str] = "tokenising"
    fixed_share: ClassVar[float | None] = None

    @property
    def needs(self) -> frozenset[Need]:
        return frozenset({"responses", "tokenizer", "task"} if self.count == "total" else {"responses", "tokenizer"})

    def score(self, context: Context) -> Scores:
        chat = context.chat
        lengths = np.array([len(chat.ids(row.response)) for row in context.pool], dtype=np.float64)
        if self.count == "total":
            lengths += [len(chat.context(context.task, row)) for row in context.pool]
        return scores(lengths, lengths, ("",) * context.n_rows)
