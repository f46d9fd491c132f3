"""The compiled loops of facility location against NumPy, and when they are compiled."""

import subprocess
import sys

import numpy as np
import pytest

from dwbench.rules.facility_loops import gained, lost


@pytest.mark.parametrize("precision", [np.float32, np.float64])
@pytest.mark.parametrize(("n", "m"), [(1, 1), (7, 0), (7, 3), (33, 4), (5000, 9), (130, 130)])
def test_loops_as_in_numpy(precision: type[np.floating], n: int, m: int) -> None:
    rng = np.random.default_rng(n + m)
    rows = rng.uniform(-1, 1, size=(n, n)).astype(precision)
    which = rng.permutation(n)[:m]
    before = rng.uniform(0, 0.5, size=m).astype(precision)
    after = before + rng.uniform(0, 0.5, size=m).astype(precision)
    total = np.full(n, 3.0)
    lost(rows, which, before, after, total)
    exact = rows[which].astype(np.float64)
    fall = np.clip(exact, before[:, None], after[:, None]) - before[:, None]
    tolerance = 1e-6 if precision is np.float32 else 1e-13
    np.testing.assert_allclose(total, 3 + fall.sum(axis=0), atol=tolerance * max(m, 1))

    covered = rng.uniform(0, 0.5, size=n).astype(precision)
    gains = np.empty(m)
    gained(rows, which, covered, gains)
    np.testing.assert_allclose(
        gains, np.maximum(exact - covered, 0).sum(axis=1), rtol=tolerance / 10, atol=tolerance / 10
    )


def test_the_first_gains_have_no_upper_limit() -> None:
    rows = np.array([[0.5, -1.0], [2.0, 0.25]])
    total = np.zeros(2)
    lost(rows, np.arange(2), np.zeros(2), np.full(2, np.inf), total)
    np.testing.assert_allclose(total, [2.5, 0.25])


def test_columns_that_are_equal_are_added_up_equally() -> None:
    """Else rounding would tell copies apart, at whatever place they are."""
    rng = np.random.default_rng(0)
    column = rng.uniform(0, 1, size=(203, 1)).astype(np.float32)
    total = np.zeros(77)
    lost(np.tile(column, 77), np.arange(203), np.zeros(203, np.float32), np.ones(203, np.float32), total)
    assert len(set(total.tolist())) == 1


def test_nothing_is_compiled_before_a_selector_needs_it() -> None:
    """It takes a second: `dwbench list` would wait for it, and a selector's clock would charge it."""
    modules = ", ".join(f"dwbench.selectors.{name}" for name in ("facility_location", "qdit", "superfiltering_d"))
    code = f"import sys, {modules}; assert 'numba' not in sys.modules, 'imported'"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
