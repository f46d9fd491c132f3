"""What can be known to go wrong before anything is computed: models, prompts and selectors' settings. No weights."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from dwbench.component import identity, key_of
from dwbench.data.base import Splits, fingerprint
from dwbench.errors import UserError
from dwbench.evaluation.harness import documents
from dwbench.models.encoder import check_encoder
from dwbench.models.loading import check_model
from dwbench.run import Run, evaluate_identity, training_pairs
from dwbench.selectors.base import Checking, Selector
from dwbench.selectors.context import Context
from dwbench.selectors.models import LoadedModels
from dwbench.store import Bench, Store
from dwbench.sweep import Planned, Sweep


def check_sweep(sweep: Sweep, models: LoadedModels) -> None:
    """Check all jobs, each thing once. Raises UserError for the first that can't work:

    - a model that is out of reach, has no chat template or fewer positions than its `max_length`, or whose device is
      not here;
    - a test prompt that is longer than the model takes, or a pool of which no row can be trained on;
    - a selector's settings that don't suit the data or the model, as far as the selector can tell.
    """
    done: set[str] = set()
    for planned in sweep.planned:
        for what, check in _checks(planned, models).items():
            if what not in done:
                done.add(what)
                check()


def _checks(planned: Planned, models: LoadedModels) -> dict[str, Callable[[], object]]:
    """The checks of a job, in order, each by a key of all that it depends on."""
    run, splits = planned.run, planned.splits
    selector, task, model = run.selector, run.dataset.task, identity(run.model)
    context = Context(selector.needs, Bench(Store(Path(planned.job.config["store_dir"]))), run.material(splits), models)
    seen = context.identity_of("pool", *sorted(selector.needs - {"responses", "seed"}))
    checks: dict[str, Callable[[], object]] = {
        key_of(["model", model, run.model.device]): lambda: check_model(run.model),
    }
    if not run.select_only:
        checks[key_of(["prompts", evaluate_identity(run, splits, None)])] = lambda: documents(
            models.chat(run.model), task, splits.test, run.evaluation, run.split_seed
        )
    checks[key_of(["pool", model, identity(task), fingerprint(splits.pool)])] = lambda: check_pool(run, models, splits)
    if "scorer" in selector.needs:
        checks[key_of(["model", identity(run.scorer), run.scorer.device])] = lambda: check_model(run.scorer)
    if "scorer" in selector.needs:
        checks[key_of(["tokenizer", identity(run.scorer)])] = lambda: models.chat(run.scorer)
    for beside in (run.writer.lm if run.writer else None, run.perplexity):
        if beside is not None:
            checks[key_of(["model", identity(beside), beside.device])] = partial(check_model, beside)
            checks[key_of(["tokenizer", identity(beside)])] = partial(models.chat, beside)
    if "embedder" in selector.needs or run.diversity:
        checks[key_of(["embedder", identity(run.embedder), run.embedder.device])] = lambda: check_encoder(run.embedder)
    checks[key_of(["selector", identity(selector), seen])] = lambda: check_selector(selector, context)
    return checks


def check_pool(run: Run, models: LoadedModels, splits: Splits) -> None:
    """Raise UserError where no row of the pool can be trained on."""
    chat = models.chat(run.model)
    if not any(training_pairs(chat, run.dataset, [row]) for row in splits.pool):
        raise UserError(f"model.max_length={run.model.max_length}: no row of the pool fits: raise it")


def check_selector(selector: Selector, context: Context) -> None:
    """Let a selector that can tell say whether its settings suit what it sees. Raises UserError where not."""
    if isinstance(selector, Checking):
        selector.check(context)
