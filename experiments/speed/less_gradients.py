"""What LESS's gradient features cost, as released and here: `python experiments/speed/less_gradients.py`.

Both arms run in one process, with the same model, adapters (r 8 on all linear layers), Adam moments (from a short
tuning on the same rows) and rows of exactly `--tokens` tokens:

- released: a row at a time, `loss.backward()` through adapters that require gradients; Adam's step for the whole
  gradient; after every `--lot` rows a dense projection by signs that are drawn anew, `--block` of its columns at a time
  (what LESS does where TRAK's CUDA kernel is not to be had);
- here: `Gradients.features`, with the sketch (default) and with dense signs.

The gradients' part of our seconds is `Gradients.collect`, gradients without projection; the rest counts as projection.
Peak memory is what comes on top of what stood in memory when the arm began.

Checked in the same run: our gradients are those of `loss.backward()`, and the features' cosines are those of the
gradients themselves, on average within 2/sqrt(8192). `--growth 50,100,200` adds the cost for pools of so many rows, in
blocks as a run has them. Prints Markdown; `--json FILE` writes the numbers. Ends with 1 where a check fails.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dwbench.cost import Cost
from dwbench.data.columns import to_raw_rows
from dwbench.data.generated import generate
from dwbench.data.sources import read_source
from dwbench.models.chat import Pair
from dwbench.models.loading import load_model
from dwbench.models.spec import LM
from dwbench.representations.adam import Adam, adam_direction
from dwbench.representations.gradients import Gradients
from dwbench.representations.projection import Projection
from dwbench.rules.matching import unit_rows
from dwbench.selectors.context import ROWS_A_BLOCK
from dwbench.selectors.models import LoadedModels
from dwbench.store import Artefact, Bench, Store, write_json
from dwbench.training.checkpoints import Keep, adapter_folder, moments_file
from dwbench.training.sft import LoraSFT, tune

DIM = 8192

SAME = {"float32": 1e-3, "bfloat16": 0.1, "float16": 0.1}
"""Difference between our gradients and autograd's, as a share of the largest entry, that is rounding."""

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--model", default="embedded", help="embedded, a folder or a hub id")
parser.add_argument("--dtype", default="auto", choices=["auto", "float32", "bfloat16"])
parser.add_argument("--rows", help="file of real rows; else generated ones")
parser.add_argument("--n", type=int, default=16, help="rows that both arms go over, at least 2")
parser.add_argument("--tokens", type=int, default=256, help="of each row")
parser.add_argument("--lot", type=int, default=16, help="rows that the released procedure projects at once")
parser.add_argument("--block", type=int, default=128, help="columns of its projection that are drawn at once")
parser.add_argument("--form", default="published", choices=["published", "textbook"], help="of Adam's step")
parser.add_argument("--tuned-rows", type=int, default=16, help="rows that the moments come from")
parser.add_argument("--token-budget", type=int, default=4096, help="padded tokens of a forward batch (GPU)")
parser.add_argument("--growth", default="", help="pool sizes, such as 50,100,200,400,800")
parser.add_argument("--json", type=Path, help="where the numbers go")
options = parser.parse_args()

lm = LM(
    name="timed",
    source=options.model,
    dtype=options.dtype,
    max_length=options.tokens,
    token_budget=options.token_budget,
)
on_gpu = lm.resolved_device() != "cpu"
models = LoadedModels()
scratch = tempfile.TemporaryDirectory()
bench = Bench(Store(Path(scratch.name)))
growth = [int(n) for n in options.growth.split(",") if n]


def texts(n: int) -> list[tuple[str, str]]:
    """Inputs and responses of n rows; a file that has fewer is gone over again."""
    if options.rows is None:
        return [(row["input"], row["response"]) for row in generate(n, seed=0)]
    rows = to_raw_rows(read_source(options.rows, "train", "main"))
    return [(rows[number % len(rows)].input, rows[number % len(rows)].response) for number in range(n)]


def pairs_of(n: int) -> list[Pair]:
    """n rows of exactly `--tokens` tokens: the end of a row, behind as many of the rows in front of it as it takes. The
    response is the row's own, at most half of the tokens."""
    chat = models.chat(lm)
    contexts, responses = [], []
    for input, response in texts(n):
        contexts.append(chat.ids(chat.text([("user", input)])))
        responses.append((*chat.ids(response), chat.end_of_turn)[-(options.tokens // 2) :])
    found = []
    for number, response in enumerate(responses):
        context, before = contexts[number], number
        while len(context) + len(response) < options.tokens:
            before = (before - 1) % n
            context = (*contexts[before], *responses[before], *context)
        found.append(Pair(context[len(context) + len(response) - options.tokens :], response))
    return found


def in_memory() -> int:
    """Bytes: of CUDA's allocator on a GPU, else the resident set."""
    if on_gpu:
        return torch.cuda.memory_allocated()
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS"))


def measured(what: str, work: Callable[[], Any]) -> tuple[Any, Cost, int]:
    """What `work` gives, its cost, and the bytes of memory that it took at most."""
    found: list[Any] = []
    before = in_memory()
    stage = bench.stage("speed", {"what": what}, lambda _: found.append(work()))
    return found[0], stage.cost, max(0, stage.cost.peak_bytes - before)


def tuned() -> Artefact:
    """Adapters and Adam's moments behind one epoch on some of the rows."""
    train = LoraSFT(r=8, epochs=1, batch_size=4, learning_rate=1e-4, warmup_ratio=0.0, activation_checkpointing=False)
    keep = Keep(1, moments=True)
    return bench.stage(
        "train", {}, lambda folder: tune(bench, lm, pairs_of(options.tuned_rows), train, 0, folder, keep)
    )


class Released:
    """The released procedure: autograd for each row, dense signs drawn anew for each lot of rows."""

    def __init__(self, adapter: Path, adam: Adam) -> None:
        from safetensors.torch import load_file

        self.model = load_model(lm, adapter, merge=False).requires_grad_(False)
        self.weights = {name: weight for name, weight in self.model.named_parameters() if ".lora_" in name}
        for weight in self.weights.values():
            weight.requires_grad_(True)
        moments = load_file(str(adam.moments), device=str(self.model.device))
        self.first, self.second = (
            torch.cat([moments[f"{name}.{moment}"].flatten() for name in self.weights])
            for moment in ("exp_avg", "exp_avg_sq")
        )
        self.adam = adam
        self.seconds = {"gradient": 0.0, "projection": 0.0}

    def gradient(self, pair: Pair) -> torch.Tensor:
        """Of the row's mean response NLL, all adapters as one vector, float32."""
        self.model.zero_grad(set_to_none=True)
        ids = torch.tensor([[*pair.context, *pair.response]], device=self.model.device)
        labels = ids.clone()
        labels[0, : len(pair.context)] = -100
        self.model(input_ids=ids, labels=labels).loss.backward()
        return torch.cat([weight.grad.flatten().float() for weight in self.weights.values()])

    def step(self, gradients: torch.Tensor) -> torch.Tensor:
        return adam_direction(gradients, self.first, self.second, self.adam.step, self.adam.form)

    def projected(self, lot: torch.Tensor) -> torch.Tensor:
        """[rows, DIM] of [rows, size]."""
        found = []
        for start in range(0, DIM, options.block):
            generator = torch.Generator(lot.device).manual_seed(start)
            columns = min(options.block, DIM - start)
            signs = torch.empty((lot.shape[1], columns), device=lot.device).bernoulli_(0.5, generator=generator)
            found.append(lot @ signs.mul_(2).sub_(1))
        return torch.cat(found, dim=1) / DIM**0.5

    def features(self, pairs: list[Pair]) -> np.ndarray:
        """Float32 [rows, DIM], not normalised; adds to `seconds`."""
        found = []
        for start in range(0, len(pairs), options.lot):
            began = time.perf_counter()
            lot = torch.stack([self.step(self.gradient(pair)) for pair in pairs[start : start + options.lot]])
            synchronised()
            between = time.perf_counter()
            found.append(self.projected(lot).cpu().numpy())
            self.seconds["gradient"] += between - began
            self.seconds["projection"] += time.perf_counter() - between
        return np.concatenate(found)


def synchronised() -> None:
    if on_gpu:
        torch.cuda.synchronize()


def pool(engine: Gradients, pairs: list[Pair], projection: Projection, adam: Adam) -> None:
    """Features of a pool as a run makes them: block by block, in half precision."""
    for start in range(0, len(pairs), ROWS_A_BLOCK):
        unit_rows(engine.features(pairs[start : start + ROWS_A_BLOCK], projection, adam)).astype(np.float16)


def cosines(rows: np.ndarray) -> np.ndarray:
    """Of all pairs of different rows."""
    units = unit_rows(rows)
    return (units @ units.T)[np.triu_indices(len(units), 1)]


pairs = pairs_of(options.n)
trained = tuned()
adapter = adapter_folder(trained.folder, 1)
adam = Adam(moments_file(trained.folder, 1), trained.json("training.json")["checkpoints"][0]["step"], options.form)
projections = {kind: Projection(dim=DIM, kind=kind) for kind in ("sketch", "rademacher")}

released = Released(adapter, adam)
released.gradient(Pair(pairs[0].context[-8:], pairs[0].response[:8]))  # kernels and thread pools, off the clock
theirs, cost, memory = measured("released", partial(released.features, pairs))
arms: dict[str, dict[str, float]] = {"released": {"seconds": cost.seconds, **released.seconds, "bytes": memory}}
raw = torch.stack([released.gradient(pair) for pair in pairs])
exact = {"plain": cosines(raw.cpu().numpy()), "Adam": cosines(released.step(raw).cpu().numpy())}
names, autograd = list(released.weights), raw.cpu().numpy()
del released, raw

engine = models.gradients(lm, bench, adapter)
collected, alone, _ = measured("gradients alone", partial(engine.collect, pairs))
difference = float(np.abs(np.hstack([collected[name] for name in names]) - autograd).max() / np.abs(autograd).max())
size = autograd.shape[1]
del collected, autograd

errors = {("released", "Adam"): float(np.abs(cosines(theirs) - exact["Adam"]).mean())}
for kind, projection in projections.items():
    ours, cost, memory = measured(kind, partial(engine.features, pairs, projection, adam))
    plain, _, _ = measured(f"{kind}, plain", partial(engine.features, pairs, projection))
    errors |= {
        (kind, "Adam"): float(np.abs(cosines(ours) - exact["Adam"]).mean()),
        (kind, "plain"): float(np.abs(cosines(plain) - exact["plain"]).mean()),
    }
    arms[kind] = {
        "seconds": cost.seconds,
        "gradient": min(alone.seconds, cost.seconds),
        "projection": max(0.0, cost.seconds - alone.seconds),
        "bytes": memory,
    }

grown: list[dict[str, float]] = []
of_all = pairs_of(max(growth, default=0))
for n in growth:
    _, cost, memory = measured(f"{n} rows", partial(pool, engine, of_all[:n], projections["sketch"], adam))
    grown.append({"rows": n, "seconds": cost.seconds, "bytes": memory})

bound = 2 / DIM**0.5
print(f"{options.model}, {lm.resolved_dtype()} on {lm.resolved_device()}: {options.n} rows of {options.tokens} tokens,")
print(f"{size:,} parameters of adapters to {DIM} dimensions, Adam {options.form}, {torch.get_num_threads()} threads\n")
print("| arm | seconds | gradient | projection | released / arm | peak memory, MB |")
print("| --- | ---: | ---: | ---: | ---: | ---: |")
for arm, of in arms.items():
    ratio = arms["released"]["seconds"] / of["seconds"]
    parts = f"{of['seconds']:.2f} | {of['gradient']:.2f} | {of['projection']:.2f}"
    print(f"| {arm} | {parts} | {ratio:.2f} | {of['bytes'] / 2**20:.0f} |")
print(f"\nLargest difference from autograd's gradients: {difference:.1e} of the largest entry.\n")
print(f"| cosines | mean | mean error (bound {bound:.4f}) |\n| --- | ---: | ---: |")
for (arm, of_what), error in errors.items():
    print(f"| {arm}, {of_what} | {exact[of_what].mean():.3f} | {error:.5f} |")
if grown:
    print("\n| rows | seconds | seconds a row | peak memory, MB |\n| ---: | ---: | ---: | ---: |")
for of in grown:
    print(f"| {of['rows']} | {of['seconds']:.1f} | {of['seconds'] / of['rows']:.3f} | {of['bytes'] / 2**20:.0f} |")

if options.json is not None:
    numbers = {
        "options": {name: str(value) for name, value in vars(options).items() if name not in ("json", "rows", "model")},
        "dtype": lm.resolved_dtype(),
        "device": lm.resolved_device(),
        "parameters": size,
        "arms": arms,
        "gradient_difference": difference,
        "cosine_bound": bound,
        "cosine_errors": {f"{arm}, {of_what}": error for (arm, of_what), error in errors.items()},
        "growth": grown,
    }
    write_json(options.json, numbers)
if difference > SAME[lm.resolved_dtype()] or max(errors.values()) > bound:
    raise SystemExit("a check failed: gradients differ from autograd's, or cosines err by more than the bound")
