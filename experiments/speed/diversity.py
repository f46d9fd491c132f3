"""Facility location, k-center and NovelSelect against other implementations: `python experiments/speed/diversity.py`.

Every method runs in a process of its own (`diversity_worker.py`), one after another, on the same unit vectors, random
ones or the embeddings of real rows (`--real`), with `--threads` threads, at most `--limit` seconds and `--memory` GB of
address space. Told are the seconds from vectors to picks (the least of up to fifteen runs within 20 seconds), the
objective, worked out here in double precision in one way for all, and the peak of memory, imports and vectors included.
A method that was stopped is told as `> limit`, one that failed by its error.

- facility location: dwbench exact (float32), stochastic and sparse; apricot-select (lazy) and submodlib-py
  (LazyGreedy) on clipped cosines made by NumPy, N x N, which they then hold in float64 and float32; both stochastic,
  with the same epsilon; and both on a graph of `--neighbours` nearest rows made by scikit-learn, as dwbench sparse
  has it;
- k-center: apricot-select has none. submodlib-py's DisparityMin by its greedy algorithm is farthest-first on N x N
  distances. It goes first, and dwbench begins with the row that it began with. The objective is the largest distance
  that is left, so lower is better;
- NovelSelect: neither has it. The baseline is the formula in NumPy: as the published code goes about it (all distances
  to the chosen rows, sorted, at each turn), and with the distances kept from turn to turn. Densities are given.

Speed-ups are against the fastest of the others that does the same (all candidates, drawn ones, or nearest rows) and
finished: of the seconds as they are, and of what is left without those that the other takes for 300 rows
(apricot-select compiles its loops at every call, which does not grow; dwbench compiles its own once a process, off the
clock). Objectives are held against that of ours which is exact, and against the best of the others that do the same.

apricot-select and submodlib-py are no dependencies of dwbench. Install them beside it, or in an environment of their
own and name its interpreter: `--python apricot-select=PATH submodlib-py=PATH`.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from diversity_worker import METHODS, SEED

from dwbench.data.columns import to_raw_rows
from dwbench.data.readers import read_rows
from dwbench.environment import environment
from dwbench.rules import facility, novelty
from dwbench.rules.k_center import k_center
from dwbench.store import Bench, Store, write_json

WORKER = Path(__file__).with_name("diversity_worker.py")

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


class Rule(NamedTuple):
    """`objective` of picks; `methods`, in the order in which they run; `ours`, what the others are held against;
    `rivals` of each of ours; `one_start`: whether all begin with the row that the first method to finish began with;
    `lower_is_better`."""

    objective: Callable[[np.ndarray, np.ndarray], float]
    methods: tuple[str, ...]
    ours: str
    rivals: dict[str, tuple[str, ...]]
    one_start: bool = False
    lower_is_better: bool = False


def coverage(vectors: np.ndarray, picks: np.ndarray) -> float:
    return facility.objective(facility.cosine(vectors), len(vectors), picks)


def radius(vectors: np.ndarray, picks: np.ndarray) -> float:
    return k_center(vectors, picks, 0).radius


def novel(vectors: np.ndarray, picks: np.ndarray) -> float:
    return novelty.novelsum(novelty.cosine_distances(vectors[picks]), novelty.densities(vectors)[picks])


RULES = {
    "facility_location": Rule(
        coverage,
        (
            "dwbench exact",
            "dwbench stochastic",
            "dwbench sparse",
            "apricot-select",
            "submodlib-py",
            "apricot-select stochastic",
            "submodlib-py stochastic",
            "apricot-select sparse",
            "submodlib-py sparse",
        ),
        "dwbench exact",
        {
            "dwbench exact": ("apricot-select", "submodlib-py"),
            "dwbench stochastic": ("apricot-select stochastic", "submodlib-py stochastic"),
            "dwbench sparse": ("apricot-select sparse", "submodlib-py sparse"),
        },
    ),
    "k_center": Rule(
        radius,
        ("submodlib-py DisparityMin", "dwbench k-center"),
        "dwbench k-center",
        {"dwbench k-center": ("submodlib-py DisparityMin",)},
        one_start=True,
        lower_is_better=True,
    ),
    "novelselect": Rule(
        novel,
        ("dwbench NovelSelect", "NumPy, distances kept", "NumPy, as published"),
        "dwbench NovelSelect",
        {"dwbench NovelSelect": ("NumPy, distances kept", "NumPy, as published")},
    ),
}


def random_vectors(n: int, dimensions: int) -> np.ndarray:
    return units(np.random.default_rng(SEED).normal(size=(n, dimensions)))


def units(points: np.ndarray) -> np.ndarray:
    return np.asarray(points / np.linalg.norm(points, axis=1, keepdims=True), dtype=np.float32)


def real_vectors(files: Sequence[Path]) -> np.ndarray:
    """Embeddings by the embedded encoder of the different prompts in the files, in a drawn order."""
    from dwbench.models.encoder import Encoder
    from dwbench.selectors.models import LoadedModels

    texts = sorted({row.input.strip() for file in files for row in to_raw_rows(read_rows(file))})
    drawn = [texts[place] for place in np.random.default_rng(SEED).permutation(len(texts))]
    print(f"{len(drawn):,} different prompts in {len(files)} files", flush=True)
    if max(options.rows) > len(drawn):
        parser.error(f"--rows {max(options.rows)}: there are only {len(drawn):,} different prompts")
    drawn = drawn[: max(options.rows)]
    embedded: list[np.ndarray] = []
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Store(Path(folder)))
        encoder = Encoder(name="all-minilm-l6-v2", source="embedded")
        bench.stage("speed", {}, lambda _: embedded.append(LoadedModels().embedder(encoder, bench).embed(drawn)))
    return units(embedded[0])


def run_apart(method: str, vectors: Path, k: int, first: int) -> dict[str, Any]:
    """One method in a fresh process: what the worker tells, with its `picks`; or `error`."""
    picks = vectors.with_name("picks.npy")
    picks.unlink(missing_ok=True)
    interpreter = options.python.get(METHODS[method][1], sys.executable)
    settings = {"first": first, "epsilon": options.epsilon, "neighbours": options.neighbours, "memory": options.memory}
    command = [interpreter, str(WORKER), method, str(vectors), str(k), str(picks)]
    command += [part for name, value in settings.items() for part in (f"--{name}", str(value))]
    threads = dict.fromkeys(THREADS, str(options.threads))
    try:
        done = subprocess.run(
            command, env={**os.environ, **threads}, capture_output=True, text=True, timeout=options.limit, check=False
        )
    except subprocess.TimeoutExpired:
        return {"error": f"> {options.limit:g} s"}
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        return {"error": f"ended with {done.returncode}: {last}"}
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told if "error" in told else {**told, "picks": np.load(picks, allow_pickle=False)}


def compare(rule: Rule, vectors: np.ndarray, k: int, path: Path) -> list[dict[str, Any]]:
    """All methods of a rule, told as they end."""
    found: dict[str, dict[str, Any]] = {}
    picks: dict[str, np.ndarray] = {}
    for method in rule.methods:
        if options.methods and method not in options.methods:
            continue
        first = int(next(iter(picks.values()))[0]) if picks and rule.one_start else 0
        told = run_apart(method, path, k, first)
        if "picks" in told:
            picks[method] = told.pop("picks")
            told["objective"] = rule.objective(vectors, picks[method])
            told["rows"] = len(set(picks[method].tolist()))
        found[method] = told
        print(f"  {method:26} {line(told)}", flush=True)
    ours = found.get(rule.ours, {})
    for method, told in found.items():
        if "objective" in told and "objective" in ours:
            ratio = told["objective"] / ours["objective"]
            told["of_ours"] = 1 / ratio if rule.lower_is_better else ratio
            told["same_picks"] = len(set(picks[method].tolist()) & set(picks[rule.ours].tolist())) / k
    for method in rule.rivals:
        if method in found:
            summary(method, rule, found)
    return [{"method": method, **told} for method, told in found.items()]


def line(told: dict[str, Any]) -> str:
    if "error" in told:
        return str(told["error"])
    seconds = f"{told['seconds']:10.3f} s ({told['small_seconds']:.3f} for 300)"
    return f"{seconds} {told['objective']:14.5f} {told['rows']:7,} rows {told['peak_bytes'] / 1e9:6.2f} GB"


def summary(method: str, rule: Rule, found: dict[str, dict[str, Any]]) -> None:
    """Print and note how much faster one of our methods is than the fastest of its rivals."""
    mine = found[method]
    others = {name: found[name] for name in rule.rivals[method] if "seconds" in found.get(name, {})}
    if "seconds" not in mine or not others:
        return
    fastest = min(others, key=lambda name: others[name]["seconds"])
    theirs = others[fastest]
    times = theirs["seconds"] / mine["seconds"]
    without = (theirs["seconds"] - theirs["small_seconds"]) / mine["seconds"]
    best = (min if rule.lower_is_better else max)(told["objective"] for told in others.values())
    of_best = best / mine["objective"] if rule.lower_is_better else mine["objective"] / best
    mine["speed_up"] = {"of": fastest, "times": times, "times_without_start": without, "objective_of_theirs": of_best}
    print(
        f"  {method}: {times:.1f} times as fast as {fastest} ({without:.1f} without its start), objective "
        f"{of_best:.5f} of the best of theirs, {mine.get('of_ours', float('nan')):.5f} of that of {rule.ours}",
        flush=True,
    )


def named(text: str) -> tuple[str, str]:
    name, _, path = text.partition("=")
    if not path:
        raise argparse.ArgumentTypeError(f"want PACKAGE=INTERPRETER, not {text!r}")
    return name, path


cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--rows", type=int, nargs="+", default=[500, 2000])
parser.add_argument("--share", type=float, default=0.1, help="k as a share of the rows")
parser.add_argument("--dimensions", type=int, default=384, help="of random vectors")
parser.add_argument("--real", type=Path, nargs="+", metavar="FILE", help="rows whose prompts are embedded")
parser.add_argument("--embeddings", type=Path, metavar="FILE.npy", help="vectors of your own; the first --rows of them")
parser.add_argument("--rules", nargs="+", choices=list(RULES), default=list(RULES))
parser.add_argument("--methods", nargs="+", choices=list(METHODS), metavar="NAME", help="only these, as printed")
parser.add_argument("--epsilon", type=float, default=0.01, help="of stochastic facility location")
parser.add_argument("--neighbours", type=int, default=256, help="of sparse facility location")
parser.add_argument("--threads", type=int, default=cores, help="of each method")
parser.add_argument("--limit", type=float, default=3600, help="seconds that a method may take, its 300 rows included")
parser.add_argument("--memory", type=float, default=8, help="GB of address space that a method may take")
parser.add_argument("--python", type=named, nargs="+", default=[], metavar="PACKAGE=INTERPRETER")
parser.add_argument("--json", type=Path, metavar="FILE", help="where the numbers go, written after each rule")

if __name__ == "__main__":
    options = parser.parse_args()
    options.python = dict(options.python)
    vectors, kind = None, "random"
    if options.embeddings:
        vectors, kind = units(np.load(options.embeddings, allow_pickle=False)), "given"
    elif options.real:
        vectors, kind = real_vectors(options.real), "real"
    settings = {name: getattr(options, name) for name in ("threads", "limit", "memory", "epsilon", "neighbours")}
    numbers: dict[str, Any] = {"settings": settings, "environment": environment(), "runs": []}
    for n in options.rows:
        given = random_vectors(n, options.dimensions) if vectors is None else vectors[:n]
        if len(given) < n:
            parser.error(f"--rows {n}: there are only {len(given):,} vectors")
        k = max(1, round(options.share * n))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "vectors.npy"
            np.save(path, given)
            for name in options.rules:
                print(
                    f"{name}: k = {k:,} of {n:,} {kind} vectors [{given.shape[1]}], {options.threads} threads, at most "
                    f"{options.limit:g} s and {options.memory:g} GB",
                    flush=True,
                )
                run = {"rule": name, "vectors": kind, "n": n, "d": given.shape[1], "k": k}
                numbers["runs"].append({**run, "methods": compare(RULES[name], given, k, path)})
                if options.json:
                    write_json(options.json, numbers)
