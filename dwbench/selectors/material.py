"""What there is to select with, and what of it a selector can ask for."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from dwbench.data.base import Example, Splits, Task
from dwbench.models.chat import Chat, Pair
from dwbench.models.encoder import Encoder
from dwbench.models.spec import LM
from dwbench.representations.encode import Embedder
from dwbench.representations.gradients import Gradients
from dwbench.representations.scorer import Scorer
from dwbench.store import Bench
from dwbench.training.checkpoints import Keep
from dwbench.training.sft import LoraSFT

Need = Literal[
    "responses", "target", "task", "scorer", "model", "tokenizer", "embedder", "training", "seed", "order", "ids"
]
"""What a selector can ask for:

- `responses`: the pool's answers, not only its prompts;
- `target`: the labelled target set;
- `task`: the data set's prompts and metric;
- `scorer`: a language model;
- `model`: the model to be tuned, as a second one beside the scorer;
- `tokenizer`: the tokenizer of the model to be tuned, alone;
- `embedder`: a text encoder;
- `training`: tuning the language model with the run's own settings;
- `seed`: random draws;
- `order`: the data set's own order of rows (only for what a reference implementation makes of it);
- `ids`: the rows' own ids (only for what a user's file says of them: no content, so nobody else may depend on them).
"""

Part = Need | Literal["pool", "prompt", "icl", "weights"]
"""What a stored representation can depend on: a need, the rows of the pool, of the task the chat turns alone
(`prompt`) or the prompts with several examples (`icl`), of the scorer the weights and their precision (`weights`)."""


class Models(Protocol):
    """Loads models on demand, each once, and tunes them."""

    def chat(self, lm: LM) -> Chat: ...

    def config(self, lm: LM) -> Any: ...

    def scorer(self, lm: LM, bench: Bench, adapter: Path | None = None) -> Scorer: ...

    def gradients(self, lm: LM, bench: Bench, adapter: Path | None = None) -> Gradients: ...

    def embedder(self, encoder: Encoder, bench: Bench) -> Embedder: ...

    def tune(
        self, lm: LM, bench: Bench, pairs: Sequence[Pair], train: LoraSFT, seed: int, folder: Path, keep: Keep
    ) -> None: ...

    def untuned(self, lm: LM, bench: Bench, train: LoraSFT, seed: int, folder: Path) -> None: ...


@dataclass(frozen=True)
class Material:
    """What there is to select with; `Context` shows a selector the part of it that it declared.

    Attributes:
        model: the model to be tuned. scorer: the one that selectors compute with. embedder: the text encoder.
        train: how the scorer is tuned where a method tunes it.
    """

    splits: Splits
    task: Task
    model: LM
    scorer: LM
    embedder: Encoder
    train: LoraSFT
    seed: int


@dataclass(frozen=True)
class Checkpoint:
    """The scoring model at a point of a tuning.

    Attributes:
        ref: names it in keys. folder: holds the adapter.
        step: optimizer steps taken so far. rate: mean learning rate of those since the checkpoint before.
        moments: file of Adam's moments, where they were asked for: `PARAMETER.exp_avg` and `PARAMETER.exp_avg_sq`.
    """

    ref: str
    folder: Path
    step: int = 0
    rate: float = 0.0
    moments: Path | None = None

    @property
    def stage(self) -> str:
        """The stage that made it."""
        return self.ref.rpartition(":")[0]


def pool_order(needs: frozenset[Need], pool: Sequence[Example]) -> tuple[Example, ...]:
    """The order of all arrays: by content, so that the file's does not matter, unless `order` is needed."""
    return tuple(sorted(pool, key=lambda row: row.index if "order" in needs else row.uid))
