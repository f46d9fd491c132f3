import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dwbench.data.base import Example, RawRow, Task, number_rows
from dwbench.errors import UserError
from dwbench.evaluation import others
from dwbench.evaluation.harness import Evaluation, chosen, evaluate
from dwbench.evaluation.others import check_tasks
from dwbench.models.chat import Chat
from dwbench.models.loading import load_model, load_tokenizer
from dwbench.models.spec import LM
from dwbench.store import Artefact, Bench, Store


def task(metric: str) -> Task:
    return Task(
        name="toy",
        system="Be brief.",
        user="Name {it}.\n{input}  ",  # ends in spaces, and holds braces
        input_label="Thing",
        answer_label="Name",
        icl_system="",
        metric=metric,
        multiline=False,
        max_new_tokens=6,
    )


@pytest.fixture(scope="module")
def test_rows() -> tuple[Example, ...]:
    responses = [" a cat", "two dogs \N{SNOWMAN}\n", "#### 5", "{{ braces }}", "17"]
    return number_rows(
        RawRow(id=f"row-{n}", input="word " * (3 * n), response=text, where="x", references=(text, "a cat"))
        for n, text in enumerate(responses)
    )


def run(lm: LM, root: Path, rows: Sequence[Example], config: Evaluation, metric: str = "rouge_l") -> Artefact:
    bench = Bench(Store(root))
    return bench.stage(
        "evaluate", {"metric": metric}, lambda folder: evaluate(bench, lm, None, task(metric), rows, config, 0, folder)
    )


def samples(artefact: Artefact, request: str) -> list[dict[str, Any]]:
    lines = (artefact.folder / "samples.jsonl").read_text(encoding="utf-8").splitlines()
    return [line for line in map(json.loads, lines) if line["request"] == request]


def naive_nll(lm: LM, chat: Chat, example: Example, of: Task) -> list[float]:
    import torch

    context, response = chat.context(of, example), chat.response(example)
    with torch.no_grad():
        logits = load_model(lm)(torch.tensor([[*context, *response]])).logits[0].double()
    logp = logits.log_softmax(-1)
    return [-float(logp[len(context) - 1 + n, token]) for n, token in enumerate(response)]


def test_nll_is_that_of_a_plain_forward_pass(tiny_lm: LM, tmp_path: Path, test_rows: tuple[Example, ...]) -> None:
    artefact = run(tiny_lm, tmp_path, test_rows, Evaluation(generation_rows=0))
    chat = load_tokenizer(tiny_lm)
    wanted = [naive_nll(tiny_lm, chat, row, task("rouge_l")) for row in test_rows]
    lines = samples(artefact, "nll")
    assert [line["id"] for line in lines] == [row.id for row in test_rows]
    assert [line["tokens"] for line in lines] == [len(row) for row in wanted]
    assert np.allclose([line["nll"] for line in lines], [np.mean(row) for row in wanted], atol=1e-5, rtol=0)
    means = [np.mean(row) for row in wanted]
    nll = artefact.json("metrics.json")["nll"]
    assert nll["value"] == pytest.approx(np.mean(means), abs=1e-5)
    assert nll["stderr"] == pytest.approx(np.std(means, ddof=1) / np.sqrt(5), abs=1e-5)
    assert nll["n"] == 5
    assert artefact.json("metrics.json").keys() == {"nll"}


@pytest.fixture(scope="module")
def bos_lm(tiny_lm: LM, tmp_path_factory: pytest.TempPathFactory) -> LM:
    """The tiny model with a tokenizer that puts a BOS in front of everything, and whose template spells it out too."""
    from tokenizers.processors import TemplateProcessing
    from transformers import AutoTokenizer

    folder = tmp_path_factory.mktemp("bos_lm")
    tokenizer = AutoTokenizer.from_pretrained(tiny_lm.source)
    bos = tokenizer.bos_token
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{bos} $A", special_tokens=[(bos, tokenizer.bos_token_id)]
    )
    tokenizer.chat_template = (
        "{{ bos_token }}{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }} {% endfor %}"
        "{% if add_generation_prompt %}[assistant] {% endif %}"
    )
    tokenizer.save_pretrained(folder)
    load_model(tiny_lm).save_pretrained(folder)
    assert AutoTokenizer.from_pretrained(folder)("x")["input_ids"][0] == tokenizer.bos_token_id
    return LM(name="bos", source=str(folder), dtype="float32", device="cpu", max_length=512)


@pytest.mark.parametrize("name", ["tiny_lm", "bos_lm"])
def test_the_model_sees_exactly_our_ids(
    name: str,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    test_rows: tuple[Example, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from dwbench.representations.scorer import Scorer

    lm: LM = request.getfixturevalue(name)
    scored: list[Any] = []
    prompts: list[Any] = []
    token_nll, answers = Scorer.token_nll, Scorer.answers

    def watched_nll(self: Scorer, pairs: Any, *args: Any, **options: Any) -> Any:
        scored.extend(pairs)
        return token_nll(self, pairs, *args, **options)

    def watched_answers(self: Scorer, asked: Any, *args: Any, **options: Any) -> Any:
        prompts.extend(asked)
        return answers(self, asked, *args, **options)

    monkeypatch.setattr(Scorer, "token_nll", watched_nll)
    monkeypatch.setattr(Scorer, "answers", watched_answers)
    run(lm, tmp_path, test_rows, Evaluation())
    chat = load_tokenizer(lm)
    assert scored == [chat.pair(task("rouge_l"), row) for row in test_rows]
    assert prompts == [chat.context(task("rouge_l"), row) for row in test_rows]
    assert all(pair.response[-1] == chat.end_of_turn for pair in scored)
    if name == "bos_lm":
        assert all(ids.count(chat.tokenizer.bos_token_id) == 1 for ids in prompts)


@pytest.mark.parametrize(
    ("metric", "names"),
    [("rouge_l", {"rouge_l", "rouge_l_best"}), ("exact_match", {"exact_match_strict", "exact_match_flexible"})],
)
def test_answers_are_scored_and_stored(
    metric: str, names: set[str], tiny_lm: LM, tmp_path: Path, test_rows: tuple[Example, ...]
) -> None:
    artefact = run(tiny_lm, tmp_path, test_rows, Evaluation(nll_rows=0, generation_rows=3), metric)
    metrics = artefact.json("metrics.json")
    assert metrics.keys() == {*names, "response_tokens_mean"}
    lines = samples(artefact, "generation")
    assert len(lines) == 3
    for name in names:
        assert metrics[name]["value"] == pytest.approx(np.mean([line[name] for line in lines]))
        assert metrics[name]["n"] == 3
    assert all(isinstance(line["answer"], str) and 1 <= line["tokens"] <= 6 for line in lines)
    assert metrics["response_tokens_mean"]["value"] == pytest.approx(np.mean([line["tokens"] for line in lines]))
    assert artefact.cost.generated_tokens == sum(line["tokens"] for line in lines)
    assert artefact.cost.flop > 0
    assert {"import", "load", "warmup"} <= artefact.cost.apart.keys()


def test_one_row_has_no_standard_error(tiny_lm: LM, tmp_path: Path, test_rows: tuple[Example, ...]) -> None:
    metrics = run(tiny_lm, tmp_path, test_rows[:1], Evaluation()).json("metrics.json")
    assert {metric["stderr"] for metric in metrics.values()} == {None}


def test_a_prompt_without_room_for_the_answer_is_named(
    tiny_lm: LM, tmp_path: Path, test_rows: tuple[Example, ...]
) -> None:
    long = number_rows([RawRow(id="long one", input="word " * 600, response="x", where="x")])
    with pytest.raises(UserError, match=r"test row 'long one': its prompt has .* tokens"):
        run(tiny_lm, tmp_path, [*test_rows, *long], Evaluation())


def test_rows_are_drawn_by_content_and_nest(test_rows: tuple[Example, ...]) -> None:
    few, more = chosen(test_rows, 2, seed=3), chosen(test_rows, 4, seed=3)
    assert {row.uid for row in few} < {row.uid for row in more}
    assert [row.uid for row in chosen(test_rows[::-1], 2, seed=3)] == [row.uid for row in few][::-1]
    assert chosen(test_rows, None, seed=3) == list(test_rows)
    assert chosen(test_rows, 0, seed=3) == []


def test_global_random_state_is_left_alone(tiny_lm: LM, tmp_path: Path, test_rows: tuple[Example, ...]) -> None:
    import torch

    def states() -> list[str]:
        return [str(random.getstate()), str(np.random.get_state()), str(torch.get_rng_state().tolist())]

    before = states()
    run(tiny_lm, tmp_path, test_rows[:2], Evaluation(generation_rows=0))
    assert states() == before


OTHER = """
task: toy_other
dataset_path: json
dataset_kwargs:
  data_files: {file}
  cache_dir: {cache}
test_split: train
output_type: {kind}
doc_to_text: "{{{{question}}}}"
doc_to_target: "{target}"
doc_to_choice: ["yes", "no"]
metric_list:
  - metric: {metric}
    aggregation: mean
    higher_is_better: true
"""


@pytest.fixture
def other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A task of somebody else, which lm-eval finds by its name."""
    from lm_eval.tasks import TaskManager

    rows = [{"question": f"Is {n} even?", "answer": n % 2} for n in range(6)]
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    filled = OTHER.format(file=file, cache=tmp_path / "cache", kind="multiple_choice", target="answer", metric="acc")
    (tmp_path / "toy.yaml").write_text(filled)
    manager = TaskManager(include_path=str(tmp_path), include_defaults=False)
    monkeypatch.setattr(others, "_manager", lambda: manager)
    monkeypatch.setattr(others, "_hub_answers", lambda: True)
    return "toy_other"


def test_other_tasks_run_by_name(other: str, tiny_lm: LM, tmp_path: Path, test_rows: tuple[Example, ...]) -> None:
    config = Evaluation(nll_rows=0, generation_rows=0, tasks=(other,), tasks_limit=4, tasks_batch_size=3)
    artefact = run(tiny_lm, tmp_path / "store", test_rows, config)
    metric = artefact.json("metrics.json")[f"{other}/acc,none"]
    assert metric["n"] == 4
    assert 0 <= metric["value"] <= 1
    assert metric["stderr"] > 0 or metric["value"] in (0, 1)
    assert len(samples(artefact, other)) == 4
    assert artefact.cost.forward_tokens > 0


def test_an_unknown_task_gets_the_nearest_name(other: str) -> None:
    with pytest.raises(UserError, match="no task 'toy_othr': did you mean 'toy_other'"):
        check_tasks(["toy_othr"])
    check_tasks([other])


def test_a_missing_network_is_told(other: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(others, "_hub_answers", lambda: False)
    with pytest.raises(UserError, match="no network"):
        check_tasks([other])


def test_settings_are_checked() -> None:
    for field, value in [("nll_rows", -1), ("tasks_limit", 0), ("tasks_batch_size", 0)]:
        with pytest.raises(ValueError, match=f"{field}: must"):
            Evaluation(**{field: value})
    with pytest.raises(ValueError, match="nothing would be evaluated"):
        Evaluation(nll_rows=0, generation_rows=0)
    with pytest.raises(ValueError, match="one task twice"):
        Evaluation(tasks=("a", "a"))
