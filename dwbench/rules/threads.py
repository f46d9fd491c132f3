"""How many threads array work may take."""

from threadpoolctl import threadpool_info


def blas_threads() -> int:
    """As many as NumPy's BLAS takes: all cores, or what OMP_NUM_THREADS and the like say. At least 1."""
    return max((library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"), default=1)
