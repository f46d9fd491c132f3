"""What reading an example once saves Nuggets: `python experiments/speed/nuggets_prefix.py`.

Times the one-shot arm of some candidates over some tasks in two ways, in turns, in one process:

- plain concatenation, same process: `Scorer.token_nll` over candidate + task, the candidate run again for every task;
- prefix: `Scorer.token_nll_behind`, the candidate run once, its keys and values shared by all tasks.

Prints the median seconds of each, their ratio, the ratio of their FLOP, and the largest difference of a token's loss.
Token ids are random: what is timed does not depend on them.
"""

import argparse
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from dwbench.models.chat import Pair
from dwbench.models.spec import LM
from dwbench.representations.scorer import Scorer
from dwbench.selectors.models import LoadedModels
from dwbench.store import Bench, Store

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--model", default="embedded", help="embedded, a folder or a hub id")
parser.add_argument("--dtype", default="auto", choices=["auto", "float32", "bfloat16"])
parser.add_argument("--candidates", type=int, default=4)
parser.add_argument("--tasks", type=int, default=20)
parser.add_argument("--candidate-tokens", type=int, default=200)
parser.add_argument("--task-tokens", type=int, default=150, help="longest; the shortest has half of it")
parser.add_argument("--answer-share", type=float, default=0.4, help="of a task's tokens")
parser.add_argument("--token-budget", type=int, default=4096)
parser.add_argument("--repeats", type=int, default=3)
options = parser.parse_args()

lm = LM(
    name="timed",
    source=options.model,
    dtype=options.dtype,
    max_length=options.candidate_tokens + options.task_tokens,
    token_budget=options.token_budget,
)
generator = np.random.default_rng(0)


def random_ids(n: int, vocabulary: int) -> tuple[int, ...]:
    return tuple(generator.integers(100, vocabulary, n).tolist())


def plain(scorer: Scorer) -> list[np.ndarray]:
    return [
        nll
        for candidate in candidates
        for nll in scorer.token_nll([Pair(candidate + task.context, task.response) for task in tasks])
    ]


def prefix(scorer: Scorer) -> list[np.ndarray]:
    return [nll for candidate in candidates for nll in scorer.token_nll_behind(candidate, tasks)]


def timed(work: Callable[[Scorer], list[np.ndarray]]) -> tuple[float, float, np.ndarray]:
    """Seconds, FLOP and losses."""
    found: list[np.ndarray] = []
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Store(Path(folder)))
        scorer = models.scorer(lm, bench)
        stage = bench.stage("speed", {}, lambda _: found.extend(work(scorer)))
    return stage.cost.seconds, stage.cost.flop, np.concatenate(found)


models = LoadedModels()
vocabulary = models.config(lm).vocab_size
candidates = [random_ids(options.candidate_tokens, vocabulary) for _ in range(options.candidates)]
lengths = generator.integers(max(2, options.task_tokens // 2), options.task_tokens + 1, options.tasks).tolist()
answers = [min(n - 1, max(1, round(options.answer_share * n))) for n in lengths]
tasks = [Pair(random_ids(n - m, vocabulary), random_ids(m, vocabulary)) for n, m in zip(lengths, answers, strict=True)]

seconds: dict[str, list[float]] = {"plain": [], "prefix": []}
for _ in range(options.repeats):
    plain_seconds, plain_flop, plain_losses = timed(plain)
    prefix_seconds, prefix_flop, prefix_losses = timed(prefix)
    seconds["plain"].append(plain_seconds)
    seconds["prefix"].append(prefix_seconds)
typical = {name: statistics.median(values) for name, values in seconds.items()}
shape = f"{options.candidates} candidates of {options.candidate_tokens} tokens, {options.tasks} tasks of {min(lengths)}"
print(f"{options.model}, {lm.resolved_dtype()} on {lm.resolved_device()}: {shape} to {max(lengths)}")
print(f"plain concatenation, same process: {typical['plain']:.2f} s  {[round(value, 2) for value in seconds['plain']]}")
print(f"prefix: {typical['prefix']:.2f} s  {[round(value, 2) for value in seconds['prefix']]}")
in_seconds, in_flop = typical["plain"] / typical["prefix"], plain_flop / prefix_flop
print(f"ratio plain / prefix: {in_seconds:.2f} in seconds, {in_flop:.2f} in FLOP")
print(f"largest difference of a token's loss: {np.abs(plain_losses - prefix_losses).max():.1e} nats")
