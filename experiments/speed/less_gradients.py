"""What LESS's gradient features cost, as released and here: `python experiments/speed/less_gradients.py --rows FILE`.

All arms have the same model, adapters (r 8 on all linear layers), Adam moments (of a short tuning on other rows of the
file) and rows: those of at least `--tokens` tokens, cut to exactly as many (the end of the prompt, the beginning of the
response). Adam's directions are projected to 8,192 dimensions:

- released: a row at a time, `loss.backward()` through adapters that require gradients; after every `--lot` rows a dense
  projection by signs that are drawn anew, `--block` of its columns at a time, in float32 (what LESS does where TRAK's
  CUDA kernel is not to be had);
- sketch, rademacher: `Gradients.features`, with the sketch (the default) and with dense signs.

Each arm runs in a process of its own, so that its peak of memory is its own: what comes on top of what stood in memory,
model and all, when it began (the resident set; on a GPU torch's allocator). The clock stands for loading and for one
small pass to begin with. Gradient, Adam and projection are timed apart; on a GPU that waits for each of them.

Beside that:

- gradients alone, `--repeats` times by turns in one process: the plain loop against ours, without Adam or projection;
- our gradients against those of `loss.backward()`, and cosines of features against those of the gradients themselves,
  which on average are to be within 2/sqrt(8192);
- with `--growth 50,100,200`: pools of so many rows of `--growth-tokens` tokens (shorter, to save time), each gone
  through by itself in blocks as a run has them; a line fitted to the seconds, its R2 and the largest deviation from it.

Prints Markdown; `--json FILE` writes the numbers. Ends with 1 where a check fails. A pass of 256 tokens forward and
backward takes 1.5 to 3 s on 2 cores, one dense projection of 16 rows some 80 s; `--n 32 --growth 50,100,200,400,800`
makes 290 passes of 256 tokens, 1,550 of 64, and 3 projections: 30 to 45 minutes.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from released_less import DIM, Released, synchronised

from dwbench.cost import Cost
from dwbench.data.columns import to_raw_rows
from dwbench.data.embedded import generate
from dwbench.data.sources import read_source
from dwbench.environment import environment
from dwbench.models.chat import Pair
from dwbench.models.loading import load_tokenizer
from dwbench.models.spec import LM
from dwbench.representations.adam import Adam, Directions
from dwbench.representations.gradients import Gradients
from dwbench.representations.projection import Projection, Projector
from dwbench.rules.matching import unit_rows
from dwbench.selectors.context import ROWS_A_BLOCK
from dwbench.selectors.models import LoadedModels
from dwbench.store import Bench, Store, write_json
from dwbench.training.checkpoints import Keep, adapter_folder, moments_file
from dwbench.training.sft import LoraSFT, tune

BOUND = 2 / DIM**0.5

CHECKED = 4
"""Rows whose gradients are compared with autograd's."""

SAME = {"float32": 1e-3, "bfloat16": 0.1, "float16": 0.1}
"""Difference between our gradients and autograd's, as a share of the largest entry, that is rounding."""

ARMS = ("released", "sketch", "rademacher")

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--model", default="embedded", help="embedded (SmolLM2-135M-Instruct), a folder or a hub id")
parser.add_argument("--device", default="auto", help="cpu, cuda or cuda:1; auto is cuda where there is one")
parser.add_argument("--dtype", default="auto", choices=["auto", "float32", "bfloat16"])
parser.add_argument("--rows", help="file of real rows; else generated ones, which take a small --tokens")
parser.add_argument("--n", type=int, default=16, help="rows that all arms go over, at least 2")
parser.add_argument("--tokens", type=int, default=256, help="of each row")
parser.add_argument("--lot", type=int, default=16, help="rows that the released procedure projects at once")
parser.add_argument("--block", type=int, default=128, help="columns of its projection that are drawn at once")
parser.add_argument("--form", default="published", choices=["published", "textbook"], help="of Adam's step")
parser.add_argument("--tuned-rows", type=int, default=8, help="rows that the moments come from")
parser.add_argument("--repeats", type=int, default=3, help="of the comparison of gradients alone")
parser.add_argument("--gradient-rows", type=int, default=16, help="rows of that comparison")
parser.add_argument("--token-budget", type=int, default=16384, help="padded tokens of a forward batch (GPU)")
parser.add_argument("--growth", default="", help="pool sizes, such as 50,100,200,400,800")
parser.add_argument("--growth-tokens", type=int, default=64, help="of each row of these pools")
parser.add_argument("--json", type=Path, help="where the numbers go")
parser.add_argument("--step", help=argparse.SUPPRESS)  # what a process of its own does, in the folder --job
parser.add_argument("--job", type=Path, help=argparse.SUPPRESS)
options = parser.parse_args()

lm = LM(
    name="timed",
    source=options.model,
    device=options.device,
    dtype=options.dtype,
    max_length=max(options.tokens, options.growth_tokens),
    token_budget=options.token_budget,
)
on_gpu = lm.resolved_device() != "cpu"
growth = [int(n) for n in options.growth.split(",") if n]


def cut_pairs(tokens: int, n: int) -> list[Pair]:
    """The first n rows of at least `tokens` tokens, cut to exactly as many: at most half of them are the prompt's end,
    unless the response is shorter."""
    if options.rows is None:
        texts = [(row["input"], row["response"]) for row in generate(max(1000, 2 * n), seed=0)]
    else:
        texts = [(row.input, row.response) for row in to_raw_rows(read_source(options.rows, "train", "main"))]
    chat, found = load_tokenizer(lm), []
    for input, answer in texts:
        context = chat.ids(chat.text([("user", input)]))
        response = (*chat.ids(answer), chat.end_of_turn)
        if len(context) + len(response) >= tokens:
            kept = min(len(context), max(tokens // 2, tokens - len(response)))
            found.append(Pair(context[-kept:], response[: tokens - kept]))
        if len(found) == n:
            return found
    raise SystemExit(f"only {len(found)} rows have {tokens} tokens, and {n} are needed: fewer rows, or fewer tokens")


def in_memory() -> int:
    """Bytes: of CUDA's allocator on a GPU, else the resident set."""
    if on_gpu:
        return torch.cuda.memory_allocated()
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS"))


class Alone:
    """In place of a projector, where gradients are all that is wanted."""

    projection = Projection(dim=1)

    def project(self, parameter: str, gradients: torch.Tensor) -> torch.Tensor:
        return gradients[:, :1]


class TimedProjector(Projector):
    seconds = 0.0

    def project(self, parameter: str, gradients: torch.Tensor) -> torch.Tensor:
        began = synchronised()
        found = super().project(parameter, gradients)
        self.seconds += synchronised() - began
        return found


class TimedDirections(Directions):
    seconds = 0.0

    def of(self, parameter: str, gradients: torch.Tensor) -> torch.Tensor:
        began = synchronised()
        found = super().of(parameter, gradients)
        self.seconds += synchronised() - began
        return found


class Job:
    """What the processes share, in one folder: the rows, the adapter with its moments, and what each has found."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bench = Bench(Store(folder / "store"))

    def save_pairs(self, name: str, pairs: list[Pair]) -> None:
        write_json(self.folder / f"{name}.json", [[pair.context, pair.response] for pair in pairs])

    def pairs(self, name: str) -> list[Pair]:
        return [Pair(tuple(context), tuple(response)) for context, response in self.read(name)]

    def read(self, name: str) -> Any:
        return json.loads((self.folder / f"{name}.json").read_text())

    def write(self, name: str, found: dict[str, Any]) -> None:
        write_json(self.folder / f"{name}.json", found)

    def rows(self, name: str) -> np.ndarray:
        return np.load(self.folder / f"{name}.npy")

    def tuned(self) -> tuple[Path, Adam]:
        """Adapter and Adam's moments behind one epoch on some of the rows: found, or made."""
        train = LoraSFT(
            r=8, epochs=1, batch_size=4, learning_rate=1e-4, warmup_ratio=0.0, activation_checkpointing=False
        )
        keep, pairs = Keep(1, moments=True), self.pairs("tuned-on")
        stage = self.bench.stage("train", {}, lambda folder: tune(self.bench, lm, pairs, train, 0, folder, keep))
        step = stage.json("training.json")["checkpoints"][0]["step"]
        return adapter_folder(stage.folder, 1), Adam(moments_file(stage.folder, 1), step, options.form)

    def measured(self, what: str, work: Callable[[], Any]) -> tuple[Any, Cost]:
        """What `work` gives, and its cost."""
        found: list[Any] = []
        stage = self.bench.stage("speed", {"step": options.step, "what": what}, lambda _: found.append(work()))
        return found[0], stage.cost

    def engine(self, adapter: Path) -> Gradients:
        """Ours, one row behind it: kernels and thread pools."""
        engine = LoadedModels().gradients(lm, self.bench, adapter)
        self.measured("small pass", lambda: engine.features(self.pairs("tuned-on")[:1], Alone()))  # type: ignore[arg-type]
        return engine

    def released(self, adapter: Path, adam: Adam) -> Released:
        """The baseline, one row behind it."""
        released = Released(lm, adapter, adam, options.lot, options.block)
        released.gradient(self.pairs("tuned-on")[0])
        return released


def cosines(rows: Any) -> np.ndarray:
    """Of all pairs of different rows."""
    units = torch.nn.functional.normalize(torch.as_tensor(rows, dtype=torch.float32), dim=1)
    return (units @ units.T).numpy()[np.triu_indices(len(units), 1)]


def spent(cost: Cost, before: int) -> dict[str, float]:
    """Seconds, and the peak of memory: on top of `before`, and whole."""
    return {"seconds": cost.seconds, "bytes": cost.peak_bytes - before, "peak_bytes": cost.peak_bytes}


def do_released(job: Job) -> dict[str, Any]:
    pairs, released = job.pairs("pairs"), job.released(*job.tuned())
    before = in_memory()
    rows, cost = job.measured("released", lambda: released.features(pairs))
    np.save(job.folder / "released.npy", rows)
    return spent(cost, before) | released.seconds


def do_ours(job: Job, kind: str) -> dict[str, Any]:
    pairs, (adapter, adam) = job.pairs("pairs"), job.tuned()
    engine = job.engine(adapter)
    projector, directions = TimedProjector(Projection(dim=DIM, kind=kind)), TimedDirections(adam)  # type: ignore[arg-type]
    before = in_memory()
    rows, cost = job.measured(kind, lambda: engine.features(pairs, projector, directions))
    np.save(job.folder / f"{kind}.npy", rows)
    parts = {"Adam": directions.seconds, "projection": projector.seconds}
    return spent(cost, before) | parts | {"gradient": cost.seconds - sum(parts.values())}


def do_gradients(job: Job) -> dict[str, Any]:
    """Gradients alone by turns, and what is to be checked."""
    pairs, (adapter, adam) = job.pairs("pairs"), job.tuned()
    released, engine = job.released(adapter, adam), job.engine(adapter)
    raw = torch.stack([released.gradient(pair) for pair in pairs]).cpu()
    some = pairs[: options.gradient_rows]

    def plain() -> None:
        for pair in some:
            released.gradient(pair)

    arms: dict[str, Callable[[], object]] = {
        "plain": plain,
        "ours": lambda: engine.features(some, Alone()),  # type: ignore[arg-type]
    }
    seconds: dict[str, list[float]] = {"plain": [], "ours": []}
    for turn in range(options.repeats):
        for arm in list(arms)[:: 1 if turn % 2 == 0 else -1]:
            seconds[arm].append(job.measured(f"{arm} {turn}", arms[arm])[1].seconds)
    ratios = [theirs / ours for theirs, ours in zip(seconds["plain"], seconds["ours"], strict=True)]
    collected, _ = job.measured("collected", lambda: engine.collect(pairs[:CHECKED]))
    found = np.hstack([collected[name] for name in released.weights])
    largest = float(raw[:CHECKED].abs().max())
    device = released.first.device
    exact = {
        "plain": cosines(raw.numpy()),
        "Adam": cosines(torch.cat([released.step(row[None].to(device)).cpu() for row in raw]).numpy()),
    }
    sizes, sketch = [weight.numel() for weight in released.weights.values()], Projector(Projection(dim=DIM))
    parts = zip(released.weights, torch.split(raw, sizes, dim=1), strict=True)
    sketched = torch.stack([sketch.project(name, part) for name, part in parts]).sum(0).numpy()
    errors = {"sketch, plain": float(np.abs(cosines(sketched) - exact["plain"]).mean())}
    for arm in ARMS:
        errors[f"{arm}, Adam"] = float(np.abs(cosines(job.rows(arm)) - exact["Adam"]).mean())
    return {
        "parameters": sum(sizes),
        "rows": len(some),
        "seconds": seconds,
        "ratios": ratios,
        "median_ratio": statistics.median(ratios),
        "difference": float(np.abs(found - raw[:CHECKED].numpy()).max()) / largest,
        "mean_cosines": {name: float(of.mean()) for name, of in exact.items()},
        "cosine_errors": errors,
    }


def do_growth(job: Job) -> dict[str, Any]:
    """Pools of all sizes, each gone through by itself. Memory is on top of what stood there before the first."""
    pairs, (adapter, adam) = job.pairs("growing"), job.tuned()
    engine, before, sizes = job.engine(adapter), in_memory(), []

    def features(n: int) -> None:
        projector, directions = Projector(Projection(dim=DIM)), Directions(adam)
        for start in range(0, n, ROWS_A_BLOCK):
            block = pairs[start : min(start + ROWS_A_BLOCK, n)]
            unit_rows(engine.features(block, projector, directions)).astype(np.float16)

    for n in growth:
        _, cost = job.measured(f"{n} rows", lambda n=n: features(n))
        sizes.append({"rows": n, **spent(cost, before)})
        print(f"  {n} rows: {cost.seconds:.0f} s", file=sys.stderr)
    return {"tokens": options.growth_tokens, "sizes": sizes, **fitted(sizes)}


def fitted(sizes: list[dict[str, Any]]) -> dict[str, float]:
    """A line through seconds by rows; `largest_deviation` is a share of what the line says. Nothing for under 3."""
    if len(sizes) < 3:
        return {}
    rows, seconds = (np.array([size[name] for size in sizes], dtype=np.float64) for name in ("rows", "seconds"))
    slope, start = np.polyfit(rows, seconds, 1)
    line = start + slope * rows
    r2 = 1 - ((seconds - line) ** 2).sum() / ((seconds - seconds.mean()) ** 2).sum()
    deviation = np.abs(seconds / line - 1).max()
    return {"seconds_a_row": slope, "start": start, "r2": float(r2), "largest_deviation": float(deviation)}


STEPS: dict[str, Callable[[Job], dict[str, Any]]] = {
    "tune": lambda job: {"steps": job.tuned()[1].step},
    "released": do_released,
    "sketch": lambda job: do_ours(job, "sketch"),
    "rademacher": lambda job: do_ours(job, "rademacher"),
    "gradients": do_gradients,
    "growth": do_growth,
}


def measure(folder: Path) -> dict[str, Any]:
    """Every step in a process of its own; what each found."""
    job, found = Job(folder), {}
    pairs = cut_pairs(options.tokens, options.n + options.tuned_rows)
    job.save_pairs("pairs", pairs[: options.n])
    job.save_pairs("tuned-on", pairs[options.n :])
    job.save_pairs("growing", cut_pairs(options.growth_tokens, max(growth)) if growth else [])
    for step in [step for step in STEPS if growth or step != "growth"]:
        print(f"{step} ...", file=sys.stderr)
        subprocess.run([sys.executable, __file__, *sys.argv[1:], "--step", step, "--job", str(folder)], check=True)
        found[step] = job.read(step)
    return found


def told(found: dict[str, Any]) -> Iterator[str]:
    """The report, line by line."""
    alone = found["gradients"]
    yield f"{lm.source}, {lm.resolved_dtype()} on {lm.resolved_device()}: {options.n} rows of {options.tokens} tokens,"
    yield f"{alone['parameters']:,} parameters of adapters to {DIM} dimensions, Adam {options.form}, "
    yield f"{torch.get_num_threads()} threads\n"
    yield "| arm | seconds | gradient | Adam | projection | released / arm | peak memory, MB |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: | ---: |"
    for arm in ARMS:
        parts = " | ".join(f"{found[arm][part]:.2f}" for part in ("seconds", "gradient", "Adam", "projection"))
        ratio = found["released"]["seconds"] / found[arm]["seconds"]
        yield f"| {arm} | {parts} | {ratio:.2f} | {found[arm]['bytes'] / 2**20:.0f} |"
    turns = ", ".join(f"{ratio:.2f}" for ratio in alone["ratios"])
    yield f"\nGradients alone, {alone['rows']} rows by turns: plain loop / ours {alone['median_ratio']:.2f} ({turns})."
    yield f"Largest difference from autograd's gradients: {alone['difference']:.1e} of the largest entry.\n"
    yield f"| cosines | mean error (bound {BOUND:.4f}) |\n| --- | ---: |"
    for name, error in alone["cosine_errors"].items():
        yield f"| {name} | {error:.5f} |"
    if growth:
        of = found["growth"]
        yield f"\n| rows of {of['tokens']} tokens | seconds | seconds a row | peak memory, MB |"
        yield "| ---: | ---: | ---: | ---: |"
        for size in of["sizes"]:
            a_row = size["seconds"] / size["rows"]
            yield f"| {size['rows']} | {size['seconds']:.1f} | {a_row:.3f} | {size['bytes'] / 2**20:.0f} |"
        if "r2" in of:
            line = f"{of['start']:.1f} s + {of['seconds_a_row']:.4f} s a row"
            yield f"\nLine: {line}, R2 {of['r2']:.5f}, largest deviation {of['largest_deviation']:.1%}."


def main() -> None:
    if options.step:
        job = Job(options.job)
        job.write(options.step, STEPS[options.step](job))
        return
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder))
    print("\n".join(told(found)))
    if options.json is not None:
        left_out = ("json", "rows", "model", "step", "job")
        numbers = {
            "options": {name: value for name, value in vars(options).items() if name not in left_out},
            "rows": None if options.rows is None else Path(options.rows).name,
            "dtype": lm.resolved_dtype(),
            "device": lm.resolved_device(),
            "threads": torch.get_num_threads(),
            "environment": environment(),
            "cosine_bound": BOUND,
            **found,
        }
        write_json(options.json, numbers)
    alone = found["gradients"]
    if alone["difference"] > SAME[lm.resolved_dtype()] or max(alone["cosine_errors"].values()) > BOUND:
        raise SystemExit("a check failed: gradients differ from autograd's, or cosines err by more than the bound")


if __name__ == "__main__":
    main()
