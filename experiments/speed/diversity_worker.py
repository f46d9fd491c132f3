"""One method of `diversity.py` in a process of its own: `python diversity_worker.py METHOD VECTORS.npy K PICKS.npy`.

It chooses K rows of the unit vectors (float32 [N, d]) and prints one JSON line:

- `seconds`: from vectors in memory to picks; NovelSelect and its baselines have the rows' densities too. A run on the
  first 300 rows goes before, off the clock: imports, thread pools, just-in-time compilation. The least of up to fifteen
  runs, as long as these take less than 20 seconds together;
- `small_seconds`: the same for these 300 rows: what the method takes whatever the number of rows (apricot-select
  compiles its loops anew at every call);
- `peak_bytes`: highest resident set of the process, imports and vectors included;
- `package`: the library's version, `numpy`: NumPy's;
- or `error`: that it is not installed, or what it raised.

Methods of dwbench need dwbench; those of apricot-select and submodlib-py nothing but the library, so that these can
lie in an environment of their own, with versions that do not suit dwbench.
"""

import argparse
import json
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

SEED = 0
SMALL_ROWS, SMALL_K = 300, 60
RUNS, TIME_FOR_RUNS = 15, 20.0


class Settings(NamedTuple):
    """`first`: the row that methods begin with which are given one. `epsilon` and `neighbours`: of stochastic and of
    sparse facility location, of all who do it. `density`: of the rows, where a method takes it."""

    first: int
    epsilon: float
    neighbours: int
    density: np.ndarray | None = None


Choose = Callable[[np.ndarray, int, Settings], np.ndarray]
"""From vectors [N, d] and k to k positions."""


def exact(vectors: np.ndarray, k: int, settings: Settings) -> np.ndarray:
    from dwbench.rules import facility

    return facility.facility_location(facility.cosine(vectors, np.float32), len(vectors), k).picks


def stochastic(vectors: np.ndarray, k: int, settings: Settings) -> np.ndarray:
    from dwbench.rules import facility

    similarities = facility.cosine(vectors, np.float32)
    return facility.stochastic_facility_location(similarities, len(vectors), k, settings.epsilon, SEED).picks


def sparse(vectors: np.ndarray, k: int, settings: Settings) -> np.ndarray:
    from dwbench.rules import facility

    graph = facility.nearest_graph(facility.cosine(vectors, np.float32), len(vectors), settings.neighbours)
    return facility.sparse_facility_location(graph, k).picks


def farthest_first(vectors: np.ndarray, k: int, settings: Settings) -> np.ndarray:
    from dwbench.rules.k_center import k_center

    return np.concatenate([[settings.first], k_center(vectors, np.array([settings.first]), k - 1).picks])


def novelselect(vectors: np.ndarray, k: int, settings: Settings) -> np.ndarray:
    from dwbench.rules.novelselect import novelselect
    from dwbench.rules.novelty import cosine_distances

    assert settings.density is not None
    return novelselect(cosine_distances(vectors), settings.density, k, settings.first, form="reference").picks


def published_novelselect(vectors: np.ndarray, k: int, settings: Settings) -> np.ndarray:
    """The formula as the published code goes about it: at each turn all distances to the chosen rows, sorted."""
    return _sorted_anew(vectors, k, settings, keep=False)


def kept_novelselect(vectors: np.ndarray, k: int, settings: Settings) -> np.ndarray:
    """The same, but that distances are worked out once; all are sorted at each turn."""
    return _sorted_anew(vectors, k, settings, keep=True)


def _sorted_anew(vectors: np.ndarray, k: int, settings: Settings, keep: bool) -> np.ndarray:
    from dwbench.rules import novelty

    density, distances = settings.density, novelty.cosine_distances(vectors)
    assert density is not None
    picks = [settings.first]
    kept = np.empty((len(vectors), k if keep else 0), dtype=np.float32)
    while len(picks) < k:
        turn, chosen = len(picks), np.array(picks)
        if keep:
            kept[:, turn - 1] = distances(chosen[-1:])[0] * (density + density[chosen[-1]])
            products = np.sort(kept[:, :turn], axis=1)
        else:
            products = np.sort(distances(chosen).T * (density[:, None] + density[chosen]), axis=1)
        value = products @ (1 / np.arange(1, turn + 1, dtype=products.dtype)) / turn
        value[chosen] = -np.inf
        picks.append(int(value.argmax()))
    return np.array(picks)


def apricot(vectors: np.ndarray, k: int, settings: Settings) -> np.ndarray:
    from apricot import FacilityLocationSelection

    selection = FacilityLocationSelection(k, metric="precomputed", optimizer="lazy")
    return np.asarray(selection.fit(clipped(vectors)).ranking)


def stochastic_apricot(vectors: np.ndarray, k: int, settings: Settings) -> np.ndarray:
    from apricot import FacilityLocationSelection

    chosen = {"optimizer": "stochastic", "optimizer_kwds": {"epsilon": settings.epsilon}, "random_state": SEED}
    return np.asarray(FacilityLocationSelection(k, metric="precomputed", **chosen).fit(clipped(vectors)).ranking)


def sparse_apricot(vectors: np.ndarray, k: int, settings: Settings) -> np.ndarray:
    from apricot import FacilityLocationSelection

    # It adds up a candidate's row, so that row must hold those who have the candidate among their nearest.
    graph = nearest_graph(vectors, settings.neighbours).T.tocsr()
    graph.indices, graph.indptr = graph.indices.astype(np.int32), graph.indptr.astype(np.int32)
    return np.asarray(FacilityLocationSelection(k, metric="precomputed", optimizer="lazy").fit(graph).ranking)


def submodlib(vectors: np.ndarray, k: int, settings: Settings) -> np.ndarray:
    from submodlib import FacilityLocationFunction

    function = FacilityLocationFunction(n=len(vectors), mode="dense", sijs=clipped(vectors), separate_rep=False)
    return greedy_of_submodlib(function, k, "LazyGreedy")


def stochastic_submodlib(vectors: np.ndarray, k: int, settings: Settings) -> np.ndarray:
    from submodlib import FacilityLocationFunction

    function = FacilityLocationFunction(n=len(vectors), mode="dense", sijs=clipped(vectors), separate_rep=False)
    return greedy_of_submodlib(function, k, "StochasticGreedy", settings.epsilon)


def sparse_submodlib(vectors: np.ndarray, k: int, settings: Settings) -> np.ndarray:
    from submodlib import FacilityLocationFunction

    graph, width = nearest_graph(vectors, settings.neighbours), min(settings.neighbours, len(vectors))
    function = FacilityLocationFunction(n=len(vectors), mode="sparse", sijs=graph, num_neighbors=width)
    return greedy_of_submodlib(function, k, "LazyGreedy")


def disparity_min(vectors: np.ndarray, k: int, settings: Settings) -> np.ndarray:
    """DisparityMin grows the least of all distances 1 - s of chosen rows; its greedy algorithm is farthest-first."""
    from submodlib import DisparityMinFunction

    function = DisparityMinFunction(n=len(vectors), mode="dense", sijs=vectors @ vectors.T)
    return greedy_of_submodlib(function, k, "NaiveGreedy")


def greedy_of_submodlib(function: Any, k: int, optimizer: str, epsilon: float = 0.1) -> np.ndarray:
    found = function.maximize(
        budget=k,
        optimizer=optimizer,
        stopIfZeroGain=False,
        stopIfNegativeGain=False,
        epsilon=epsilon,
        show_progress=False,
    )
    return np.array([row for row, _ in found], dtype=np.int64)


def clipped(vectors: np.ndarray) -> np.ndarray:
    """All cosines, negative ones 0, [N, N] float32."""
    similarity = vectors @ vectors.T
    return np.asarray(np.maximum(similarity, 0, out=similarity))


def nearest_graph(vectors: np.ndarray, neighbours: int) -> Any:
    """Each row's nearest rows, itself among them, with their cosines, as scikit-learn finds them: sparse [N, N]."""
    from scipy.sparse import csr_matrix
    from sklearn.neighbors import NearestNeighbors

    n, width = len(vectors), min(neighbours, len(vectors))
    search = NearestNeighbors(n_neighbors=width, metric="cosine", algorithm="brute").fit(vectors)
    distance, rows = search.kneighbors(vectors)
    similarity = np.maximum(1 - distance, 0).astype(np.float64).ravel()
    return csr_matrix((similarity, rows.ravel(), np.arange(0, n * width + 1, width)), shape=(n, n))


METHODS: dict[str, tuple[Choose, str]] = {
    "dwbench exact": (exact, "dwbench"),
    "dwbench stochastic": (stochastic, "dwbench"),
    "dwbench sparse": (sparse, "dwbench"),
    "dwbench k-center": (farthest_first, "dwbench"),
    "dwbench NovelSelect": (novelselect, "dwbench"),
    "NumPy, as published": (published_novelselect, "dwbench"),
    "NumPy, distances kept": (kept_novelselect, "dwbench"),
    "apricot-select": (apricot, "apricot-select"),
    "apricot-select stochastic": (stochastic_apricot, "apricot-select"),
    "apricot-select sparse": (sparse_apricot, "apricot-select"),
    "submodlib-py": (submodlib, "submodlib-py"),
    "submodlib-py stochastic": (stochastic_submodlib, "submodlib-py"),
    "submodlib-py sparse": (sparse_submodlib, "submodlib-py"),
    "submodlib-py DisparityMin": (disparity_min, "submodlib-py"),
}
"""Each method, and the package that it is of."""

OF_DENSITY = (novelselect, published_novelselect, kept_novelselect)
"""Methods that take the rows' densities, which are worked out off the clock: in all of them by the same function."""


def with_density(choose: Choose, vectors: np.ndarray, settings: Settings) -> Settings:
    if choose not in OF_DENSITY:
        return settings
    from dwbench.rules import novelty

    return settings._replace(density=novelty.densities(vectors))


def timed(choose: Choose, vectors: np.ndarray, k: int, settings: Settings) -> tuple[float, np.ndarray]:
    seconds: list[float] = []
    while not seconds or (len(seconds) < RUNS and sum(seconds) < TIME_FOR_RUNS):
        start = time.perf_counter()
        picks = choose(vectors, k, settings)
        seconds.append(time.perf_counter() - start)
    return min(seconds), picks


def run(name: str, path: Path, k: int, picks: Path, settings: Settings, memory: float) -> dict[str, Any]:
    """What is printed. `memory`: GB of address space that the method may take."""
    choose, package = METHODS[name]
    vectors = np.load(path, allow_pickle=False)
    small, small_k = vectors[:SMALL_ROWS], min(k, SMALL_K, len(vectors))
    try:
        told: dict[str, Any] = {"package": f"{package} {version(package)}", "numpy": np.__version__}
    except PackageNotFoundError:
        return {"error": f"{package} is not installed"}
    try:
        limit_memory(memory)
        small_settings = with_density(choose, small, settings._replace(first=0))
        settings = with_density(choose, vectors, settings)
        choose(small, small_k, small_settings)
        told["small_seconds"], _ = timed(choose, small, small_k, small_settings)
        told["seconds"], found = timed(choose, vectors, k, settings)
    except Exception as error:  # whatever a library raises is the result
        return {**told, "error": f"{type(error).__name__}: {error}".splitlines()[0], "peak_bytes": peak_bytes()}
    np.save(picks, found)
    return {**told, "peak_bytes": peak_bytes()}


def limit_memory(gigabytes: float) -> None:
    """Beyond it an allocation fails, in place of the machine being brought to a halt. Not on Windows."""
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (round(gigabytes * 1e9),) * 2)


def peak_bytes() -> int:
    """Highest resident set; `getrusage` would count that of the process it was started by. Linux only."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("method", choices=list(METHODS))
    parser.add_argument("vectors", type=Path)
    parser.add_argument("k", type=int)
    parser.add_argument("picks", type=Path)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--epsilon", type=float, default=0.01)
    parser.add_argument("--neighbours", type=int, default=256)
    parser.add_argument("--memory", type=float, default=8.0)
    given = parser.parse_args()
    chosen = Settings(given.first, given.epsilon, given.neighbours)
    print(json.dumps(run(given.method, given.vectors, given.k, given.picks, chosen, given.memory)))
