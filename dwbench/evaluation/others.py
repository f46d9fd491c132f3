"""Any other task of lm-eval, by name, on the tuned model."""

import difflib
import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dwbench.errors import UserError
from dwbench.evaluation.harness import Evaluated, Evaluation, Metrics, read_metrics
from dwbench.models.chat import TEMPLATE_DATE, Chat
from dwbench.models.hub import HUB_TIMEOUT
from dwbench.models.spec import LM
from dwbench.store import Bench

if TYPE_CHECKING:
    from lm_eval.tasks import TaskManager


def check_tasks(names: Sequence[str]) -> None:
    """Refuse unknown tasks and a missing network before anything is computed (9 s, where there are names at all).

    Raises UserError with the nearest name.
    """
    if not names:
        return
    known = set(_manager().all_tasks)
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else "`lm_eval ls tasks` lists them"
            raise UserError(f"eval.tasks: lm-eval has no task {name!r}: {hint}")
    if not _hub_answers():
        raise UserError(
            f"eval.tasks: no network to fetch the data of {', '.join(names)}: "
            f"set HF_HUB_OFFLINE=1 to use copies downloaded before, or eval.tasks=[]"
        )


def evaluate_others(bench: Bench, lm: LM, model: Any, chat: Chat, config: Evaluation) -> Evaluated:
    """Run `config.tasks` on a loaded model, inside an open stage.

    Raises UserError where a task's data cannot be had.
    """
    import datasets
    import lm_eval
    from transformers import GenerationConfig

    from dwbench.evaluation.counting import CountingHFLM
    from dwbench.evaluation.quiet import quiet_lm_eval
    from dwbench.representations.generation import end_tokens

    with bench.meter.apart("load"):
        check_tasks(config.tasks)
    ends = end_tokens(model, chat)
    # lm-eval sets no more than do_sample: a model's default repetition penalty would go on to apply.
    model.generation_config = GenerationConfig(eos_token_id=ends, pad_token_id=ends[0])  # type: ignore[no-untyped-call]
    with quiet_lm_eval():
        try:
            results = lm_eval.simple_evaluate(
                model=CountingHFLM(
                    bench.meter,
                    pretrained=model,
                    tokenizer=chat.tokenizer,
                    batch_size=config.tasks_batch_size,
                    max_length=lm.max_length,
                    chat_template_args={"date_string": TEMPLATE_DATE},
                ),
                tasks=list(config.tasks),
                task_manager=_manager(),
                num_fewshot=config.tasks_num_fewshot,
                limit=config.tasks_limit,
                apply_chat_template=config.tasks_chat_template,
            )
        except (OSError, datasets.exceptions.DatasetsError) as error:
            line = " ".join(str(error).split())[:200]
            raise UserError(
                f"eval.tasks: the data of {', '.join(config.tasks)} could not be loaded ({line}): "
                f"download it where there is a network, or set eval.tasks=[]"
            ) from error
    metrics: Metrics = {}
    for name, values in results["results"].items():
        metrics |= read_metrics(values, int(values.get("sample_len", 0)), task=name)
    samples = [
        {
            "id": sample["doc_id"],
            "request": name,
            "filter": sample["filter"],
            "prompt_sha256": sample["prompt_hash"],
            "answer": sample["filtered_resps"],
            **{metric: sample[metric] for metric in sample["metrics"]},
        }
        for name, lines in results["samples"].items()
        for sample in lines
    ]
    return Evaluated(metrics, samples)


@functools.cache
def _manager() -> "TaskManager":
    """lm-eval's index of its 14,000 tasks, read once: 9 s."""
    from lm_eval.tasks import TaskManager

    return TaskManager()


def _hub_answers() -> bool:
    """Whether the hub can be reached, or is not to be asked (HF_HUB_OFFLINE=1)."""
    from huggingface_hub import constants, get_session, is_offline_mode

    if is_offline_mode():
        return True
    try:
        get_session().head(constants.ENDPOINT, timeout=HUB_TIMEOUT)
    except Exception:  # the HTTP library that the hub's client uses changes, and its errors with it
        return False
    return True
