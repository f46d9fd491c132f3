"""Facility location, k-center and NovelSelect against other implementations: `python experiments/speed/diversity.py`.

Every method runs in a process of its own, on the same unit vectors, random ones or real ones (`--embeddings`,
`--texts`), after a run on 300 rows off the clock (imports, thread pools, just-in-time compilation). It prints the
seconds from vectors to picks, the objective worked out here in double precision, that objective as a share of the
first method's, and the peak memory of the process, imports and vectors included.

- facility location: dwbench exact (float32), stochastic and sparse; apricot-select (lazy) and submodlib-py
  (LazyGreedy), both on clipped cosines made by numpy; apricot-select compiles its loops anew at every call, and that
  counts;
- k-center: dwbench, and submodlib-py's DisparityMin, which has the same objective; the objective is the largest
  distance that is left, so lower is better;
- NovelSelect: dwbench; plain: all distances of the candidates sorted anew at each turn, as published.

apricot-select and submodlib-py are no dependencies of dwbench: `pip install apricot-select submodlib-py`. What is not
installed, or would hold N x N numbers for more than 20,000 rows, is left out with a word.
"""

import argparse
import functools
import importlib.util
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dwbench.rules import facility, novelty
from dwbench.rules.k_center import k_center

SEED = 0
MOST_DENSE = 20_000
MOST_PLAIN = 2 * 10**9
"""Numbers that the plain NovelSelect sorts at most."""


class Method(NamedTuple):
    """`choose(vectors, k)` gives picks; `package` must be installed; `fits(n, k)` says what it is too large for."""

    name: str
    choose: Callable[[np.ndarray, int], np.ndarray]
    package: str | None = None
    fits: Callable[[int, int], bool] = lambda n, k: True


class Timed(NamedTuple):
    seconds: float
    picks: np.ndarray
    peak: float
    """GB"""


def exact(vectors: np.ndarray, k: int) -> np.ndarray:
    return facility.facility_location(facility.cosine(vectors, np.float32), len(vectors), k).picks


def stochastic(vectors: np.ndarray, k: int) -> np.ndarray:
    similarities = facility.cosine(vectors, np.float32)
    return facility.stochastic_facility_location(similarities, len(vectors), k, options.epsilon, SEED).picks


def sparse(vectors: np.ndarray, k: int) -> np.ndarray:
    n, similarities = len(vectors), facility.cosine(vectors, np.float32)
    return facility.sparse_facility_location(facility.nearest_graph(similarities, n, options.neighbours), k).picks


def clipped(vectors: np.ndarray) -> np.ndarray:
    return np.maximum(vectors @ vectors.T, 0)


def apricot(vectors: np.ndarray, k: int) -> np.ndarray:
    from apricot import FacilityLocationSelection

    selection = FacilityLocationSelection(k, metric="precomputed", optimizer="lazy")
    return np.asarray(selection.fit(clipped(vectors)).ranking)


def submodlib(vectors: np.ndarray, k: int) -> np.ndarray:
    from submodlib import FacilityLocationFunction

    function = FacilityLocationFunction(n=len(vectors), mode="dense", sijs=clipped(vectors), separate_rep=False)
    return greedy_of_submodlib(function, k, "LazyGreedy")


def disparity_min(vectors: np.ndarray, k: int) -> np.ndarray:
    from submodlib import DisparityMinFunction

    function = DisparityMinFunction(n=len(vectors), mode="dense", sijs=clipped(vectors))
    return greedy_of_submodlib(function, k, "NaiveGreedy")


def greedy_of_submodlib(function: Any, k: int, optimizer: str) -> np.ndarray:
    found = function.maximize(
        budget=k, optimizer=optimizer, stopIfZeroGain=False, stopIfNegativeGain=False, show_progress=False
    )
    return np.array([row for row, _ in found], dtype=np.int64)


def farthest_first(vectors: np.ndarray, k: int) -> np.ndarray:
    return np.concatenate([[0], k_center(vectors, np.array([0]), k - 1).picks])


def novelselect(vectors: np.ndarray, k: int) -> np.ndarray:
    density = novelty.densities(vectors)
    return novelty.novelselect(novelty.cosine_distances(vectors), density, k, 0, form="reference").picks


def plain_novelselect(vectors: np.ndarray, k: int) -> np.ndarray:
    density, distances = novelty.densities(vectors), novelty.cosine_distances(vectors)
    picks = [0]
    while len(picks) < k:
        chosen = np.array(picks)
        products = np.sort(distances(chosen).T * (density[:, None] + density[chosen]), axis=1)
        value = products @ (1 / np.arange(1, len(picks) + 1)) / len(picks)
        value[chosen] = -np.inf
        picks.append(int(value.argmax()))
    return np.array(picks)


def coverage(vectors: np.ndarray, picks: np.ndarray) -> float:
    return facility.objective(facility.cosine(vectors), len(vectors), picks)


def radius(vectors: np.ndarray, picks: np.ndarray) -> float:
    return k_center(vectors, picks, 0).radius


def novel(vectors: np.ndarray, picks: np.ndarray) -> float:
    return novelty.novelsum(novelty.cosine_distances(vectors[picks]), novelty.densities(vectors)[picks])


def dense(n: int, k: int) -> bool:
    return n <= MOST_DENSE


RULES: dict[str, tuple[Callable[[np.ndarray, np.ndarray], float], list[Method]]] = {
    "facility_location": (
        coverage,
        [
            Method("dwbench exact", exact),
            Method("dwbench stochastic", stochastic),
            Method("dwbench sparse", sparse),
            Method("apricot-select", apricot, "apricot", dense),
            Method("submodlib-py", submodlib, "submodlib", dense),
        ],
    ),
    "k_center": (
        radius,
        [Method("dwbench", farthest_first), Method("submodlib-py", disparity_min, "submodlib", dense)],
    ),
    "novelselect": (
        novel,
        [
            Method("dwbench", novelselect, None, lambda n, k: n * k <= 10**9),
            Method("plain", plain_novelselect, None, lambda n, k: n * k**2 / 2 <= MOST_PLAIN),
        ],
    ),
}


def run_apart(rule: str, place: int, k: int, path: Path, arguments: list[str]) -> Timed:
    """One method in a fresh process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(run_here, (rule, place, k, path, arguments))


def run_here(rule: str, place: int, k: int, path: Path, arguments: list[str]) -> Timed:
    global options
    options = parser.parse_args(arguments)
    vectors = np.load(path)
    choose = RULES[rule][1][place].choose
    choose(vectors[:300], 60)
    start = time.perf_counter()
    picks = choose(vectors, k)
    seconds = time.perf_counter() - start
    return Timed(seconds, picks, peak_memory())


def peak_memory() -> float:
    """Of this process, GB; `getrusage` would count that of the process it was started by. Linux only."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024 / 1e9


def random_vectors(n: int) -> np.ndarray:
    points = np.random.default_rng(SEED).normal(size=(n, options.dimensions)).astype(np.float32)
    return np.asarray(points / np.linalg.norm(points, axis=1, keepdims=True))


@functools.cache
def real_vectors() -> np.ndarray:
    if options.embeddings:
        found = np.load(options.embeddings, allow_pickle=False).astype(np.float32)
        return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True))
    from dwbench.models.encoder import Encoder
    from dwbench.selectors.models import LoadedModels
    from dwbench.store import Bench, Store

    texts = [line for line in options.texts.read_text(encoding="utf-8").splitlines() if line.strip()]
    embedded: list[np.ndarray] = []
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Store(Path(folder)))
        encoder = Encoder(name="all-minilm-l6-v2", source="embedded")
        bench.stage("speed", {}, lambda _: embedded.append(LoadedModels().embedder(encoder, bench).embed(texts)))
    return embedded[0]


def compare(rule: str, vectors: np.ndarray, k: int, path: Path) -> None:
    objective, methods = RULES[rule]
    first = None
    for place, method in enumerate(methods):
        if options.methods and method.name not in options.methods:
            continue
        if method.package and importlib.util.find_spec(method.package) is None:
            print(f"  {method.name:20} not installed")
        elif not method.fits(len(vectors), k):
            print(f"  {method.name:20} left out: too large for it")
        else:
            runs = [run_apart(rule, place, k, path, sys.argv[1:]) for _ in range(options.repeats)]
            best = min(runs, key=lambda run: run.seconds)
            value = objective(vectors, best.picks)
            first = value if first is None else first
            told = f"{value:12.4f} {value / first:8.5f} {len(set(best.picks.tolist())):7,} rows"
            print(f"  {method.name:20} {best.seconds:9.3f} s {told} {best.peak:6.2f} GB", flush=True)


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--rows", type=int, nargs="+", default=[500, 2000])
parser.add_argument("--share", type=float, default=0.1, help="k as a share of the rows")
parser.add_argument("--dimensions", type=int, default=384, help="of random vectors")
parser.add_argument("--embeddings", type=Path, metavar="FILE.npy", help="real vectors; the first --rows of them")
parser.add_argument("--texts", type=Path, metavar="FILE", help="a text a line, for the embedded encoder")
parser.add_argument("--rules", nargs="+", choices=list(RULES), default=list(RULES))
parser.add_argument("--methods", nargs="+", metavar="NAME", help="only these, as they are printed")
parser.add_argument("--epsilon", type=float, default=0.01, help="of stochastic facility location")
parser.add_argument("--neighbours", type=int, default=256, help="of sparse facility location")
parser.add_argument("--repeats", type=int, default=1, help="the fastest counts")

if __name__ == "__main__":
    options = parser.parse_args()
    real = options.embeddings is not None or options.texts is not None
    for n in options.rows:
        given = real_vectors()[:n] if real else random_vectors(n)
        k = max(1, round(options.share * len(given)))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "vectors.npy"
            np.save(path, given)
            for rule in options.rules:
                print(f"{rule}: k = {k:,} of {len(given):,} {'real' if real else 'random'} vectors", flush=True)
                compare(rule, given, k, path)
