"""Scores of a model on test rows: lm-eval with our task files, our prompts and exactly our token ids."""

import hashlib
import json
import math
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dwbench import seeds
from dwbench.component import component
from dwbench.data.base import Example, Task
from dwbench.errors import UserError
from dwbench.models.chat import Chat, cut_response
from dwbench.models.loading import load_model, load_tokenizer
from dwbench.models.spec import LM
from dwbench.representations.scorer import Scorer
from dwbench.rng import preserved_rng
from dwbench.store import Bench, write_json

TASKS = Path(__file__).parent / "tasks"

REQUESTS = ("nll", "generation")
"""What our own samples are of; those of further tasks bear the task's name."""

Metrics = dict[str, dict[str, float | int | None]]
"""`{name: {value, stderr, n}}`; stderr is that of the mean over n rows, None where it is unknown."""


@component
class Evaluation:
    """What a tuned model is scored on. Everything here is part of the key.

    Attributes:
        nll_rows: test rows whose response's NLL is taken; 0: none, None: all.
        generation_rows: test rows that are answered, likewise. Both draw the same rows, the fewer a part of the more.
        tasks: further tasks of lm-eval, by name.
        tasks_limit: rows of each of those; None: all.
        tasks_num_fewshot: examples in their prompts; None: what the task itself says.
        tasks_chat_template: put their prompts through the model's chat template.
        tasks_batch_size: sequences of one of their batches. Our own rows go by the model's token budget.
    """

    nll_rows: int | None = None
    generation_rows: int | None = None
    tasks: tuple[str, ...] = ()
    tasks_limit: int | None = None
    tasks_num_fewshot: int | None = None
    tasks_chat_template: bool = True
    tasks_batch_size: int = 8

    def __post_init__(self) -> None:
        for name in ("nll_rows", "generation_rows", "tasks_num_fewshot"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise ValueError(f"{name}: must not be negative, as {value} is")
        if self.tasks_limit is not None and self.tasks_limit < 1:
            raise ValueError(f"tasks_limit: must be at least 1, not {self.tasks_limit}")
        if self.tasks_batch_size < 1:
            raise ValueError(f"tasks_batch_size: must be at least 1, not {self.tasks_batch_size}")
        if len(set(self.tasks)) < len(self.tasks):
            raise ValueError("tasks: names one task twice")
        if self.nll_rows == 0 and self.generation_rows == 0 and not self.tasks:
            raise ValueError("nll_rows and generation_rows are 0 and tasks is empty: nothing would be evaluated")


class Evaluated(NamedTuple):
    """What was measured, and a line for each row and request."""

    metrics: Metrics
    samples: list[dict[str, Any]]


def evaluate(
    bench: Bench,
    lm: LM,
    adapter: Path | None,
    task: Task,
    test: Sequence[Example],
    config: Evaluation,
    seed: int,
    folder: Path,
) -> None:
    """Score `lm` with `adapter` (None: as it is), inside an open stage, and write into `folder`:

    - `metrics.json`: see `Metrics`. `nll` is the mean over rows of the NLL per response token (nats), `rouge_l`,
      `rouge_l_best`, `exact_match_strict` and `exact_match_flexible` are in [0, 1], `response_tokens_mean` is the
      length of the answers; other tasks are `<task>/<metric>,<filter>`.
    - `samples.jsonl`: a line a row and request, with the answer as it was generated.

    Global random state is left as it was.

    Raises:
        UserError: a prompt leaves no room in `lm.max_length` for the answer, or another task's data is out of reach.
    """
    with bench.meter.apart("import"):
        import lm_eval  # noqa: F401  with torch and transformers, 5 s

        from dwbench.metrics import rouge_l

        rouge_l("", [""])
    with bench.meter.apart("load"):
        chat = load_tokenizer(lm)
        rows = documents(chat, task, test, config, seed)
        model = load_model(lm, adapter)
    metrics: Metrics = {}
    samples: list[dict[str, Any]] = []
    with preserved_rng():
        if config.tasks:
            from dwbench.evaluation.others import evaluate_others

            others = evaluate_others(bench, lm, model, chat, config)
            metrics |= others.metrics
            samples += others.samples
        if any(rows.values()):
            ours = _evaluate_ours(Scorer(model, chat, bench, lm.token_budget), task, rows)
            metrics |= ours.metrics
            samples += ours.samples
    write_json(folder / "metrics.json", dict(sorted(metrics.items())))
    lines = [json.dumps(plain(sample), ensure_ascii=False, allow_nan=False) for sample in samples]
    (folder / "samples.jsonl").write_text("".join(line + "\n" for line in lines), encoding="utf-8")


def item_scores(folder: Path) -> dict[str, list[float]]:
    """Our metrics by test row, six decimals, from a folder that `evaluate` wrote.

    In the order of the hashes of the rows' prompts: the same for all results of a model on the same rows, whatever the
    order of their file, so that results can be compared row by row.
    """
    text = (folder / "samples.jsonl").read_text(encoding="utf-8")
    lines = [json.loads(line) for line in text.split("\n") if line]  # answers may hold other signs that end lines
    ours = sorted((line for line in lines if line["request"] in REQUESTS), key=lambda line: str(line["prompt_sha256"]))
    found = {
        name: [round(float(line[name]), 6) for line in ours if name in line]
        for name in json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    }
    return {name: scores for name, scores in found.items() if scores}


def chosen(test: Sequence[Example], rows: int | None, seed: int) -> list[Example]:
    """`rows` of the test split (None: all), drawn by content and seed, in the split's order."""
    order = np.argsort(seeds.draw([row.uid for row in test], seed, "eval"), kind="stable")
    return [test[position] for position in sorted(order[:rows].tolist())]


def documents(
    chat: Chat, task: Task, test: Sequence[Example], config: Evaluation, seed: int
) -> dict[str, list[dict[str, Any]]]:
    """The test rows of each of our requests (`nll`, `generation`), rendered. Raises UserError for a prompt that is
    longer than the model takes."""
    return {
        "nll": _documents(chat, task, chosen(test, config.nll_rows, seed), reserve=1),
        "generation": _documents(chat, task, chosen(test, config.generation_rows, seed), task.max_new_tokens),
    }


def _documents(chat: Chat, task: Task, rows: Sequence[Example], reserve: int) -> list[dict[str, Any]]:
    """Rendered rows, each with room for `reserve` tokens behind the prompt."""
    documents = []
    for row in rows:
        prompt = chat.text(task.turns(row))
        n_prompt = len(chat.ids(prompt))
        if n_prompt + reserve > chat.max_length:
            raise UserError(
                f"test row {row.id!r}: its prompt has {n_prompt} tokens and leaves no room for an answer of {reserve} "
                f"within model.max_length {chat.max_length}: raise model.max_length, or take the row out"
            )
        response = cut_response(n_prompt, chat.response(row), chat.max_length)
        documents.append(
            {
                "id": row.id,
                "prompt": prompt,
                "response": row.response,
                "references": list(row.references),
                "n_tokens": len(response),
            }
        )
    return documents


def _evaluate_ours(scorer: Scorer, task: Task, documents: Mapping[str, list[dict[str, Any]]]) -> Evaluated:
    """Run our own tasks on the rendered rows by request (`nll`, `generation`)."""
    import lm_eval
    from lm_eval.tasks import TaskManager

    from dwbench.evaluation.engine import Engine
    from dwbench.evaluation.quiet import quiet_lm_eval

    names = {"nll": "dwbench_nll", "generation": f"dwbench_{task.metric}"}
    engine = Engine(scorer)
    with tempfile.TemporaryDirectory() as scratch, quiet_lm_eval():
        for request, rows in documents.items():
            lines = "".join(json.dumps(row) + "\n" for row in rows)
            (Path(scratch) / f"{request}.jsonl").write_text(lines, encoding="utf-8")
        manager = TaskManager(include_path=str(TASKS), include_defaults=False, metadata={"documents": scratch})
        loaded = manager.load([names[request] for request, rows in documents.items() if rows])
        if documents["generation"]:
            generation = loaded["tasks"][names["generation"]]
            generation.set_config("generation_kwargs", {"max_gen_toks": task.max_new_tokens}, update=True)
        # Not simple_evaluate: it spends 3 s on a report of the environment that nobody reads.
        results = lm_eval.evaluate(lm=engine, task_dict=loaded)
    metrics: Metrics = {}
    samples: list[dict[str, Any]] = []
    for request, rows in documents.items():
        if rows:
            metrics |= read_metrics(results["results"][names[request]], len(rows))
            ordered = sorted(results["samples"][names[request]], key=lambda sample: sample["doc_id"])
            samples += [_sample(request, sample) for sample in ordered]
    lost = [name for name, metric in metrics.items() if metric["value"] is None]
    if lost:
        raise RuntimeError(
            f"{', '.join(lost)} of the test rows is not finite: the tuned model is broken; lower train.learning_rate"
        )
    answered = [sample for sample in samples if sample["request"] == "generation"]
    for sample, answer in zip(answered, engine.answers, strict=True):
        sample |= {"answer": answer.text, "tokens": answer.n_tokens, "finished": answer.finished}
    if answered:
        metrics["response_tokens_mean"] = _mean([answer.n_tokens for answer in engine.answers])
    return Evaluated(metrics, samples)


def _sample(request: str, sample: Mapping[str, Any]) -> dict[str, Any]:
    document = sample["doc"]
    digest = hashlib.sha256(document["prompt"].encode()).hexdigest()
    line = {"id": document["id"], "request": request, "prompt_sha256": digest, "tokens": document["n_tokens"]}
    return line | {metric: sample[metric] for metric in sample["metrics"]}


def _mean(values: Sequence[int]) -> dict[str, float | int | None]:
    from lm_eval.api.metrics import mean_stderr

    stderr = mean_stderr(values) if len(values) > 1 else None
    return {"value": sum(values) / len(values), "stderr": stderr, "n": len(values)}


def read_metrics(results: Mapping[str, Any], n: int, task: str | None = None) -> Metrics:
    """lm-eval's `metric,filter` and `metric_stderr,filter` as `Metrics`: named `metric`, or `task/metric,filter`."""
    found: Metrics = {}
    for key, value in results.items():
        metric, comma, kind = key.partition(",")
        if not comma or metric.endswith("_stderr") or isinstance(value, str):
            continue
        error = results.get(f"{metric}_stderr,{kind}")
        stderr = None if error is None or isinstance(error, str) else plain(float(error))
        found[metric if task is None else f"{task}/{key}"] = {"value": plain(float(value)), "stderr": stderr, "n": n}
    return found


def plain(value: Any) -> Any:
    """`value` fit for JSON: what is not finite becomes None, what is not plain becomes text."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)
