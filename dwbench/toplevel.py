"""The keys of conf/config.yaml beside the groups, checked."""

from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeInt

from dwbench.component import component


@component
class WandB:
    """Where runs are tracked; `entity` null: the account's own."""

    project: str
    entity: str | None
    mode: Literal["auto", "online", "offline"]


@component
class TopLevel:
    """The keys of conf/config.yaml beside the groups; what they mean stands there."""

    budget: Any
    seed: NonNegativeInt
    split_seed: NonNegativeInt
    scorer_model: str | None
    select_only: bool
    diversity: bool
    perplexity: bool
    perplexity_model: str | None
    record_samples: NonNegativeInt
    selector_settings: dict[str, dict[str, Any]] | None
    experiment_name: Annotated[str, Field(pattern=r"^[\w=,+-][\w.=,+-]*$")] | None
    sweep: dict[str, list[Any]] | None
    results_dir: Annotated[str, Field(min_length=1)]
    store_dir: Annotated[str, Field(min_length=1)]
    tracker: Literal["trackio", "wandb", "none"]
    wandb: WandB
