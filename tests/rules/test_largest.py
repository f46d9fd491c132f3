"""The largest numbers of each row against sorting."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dwbench.rules.largest import largest


def check(block: np.ndarray, width: int) -> None:
    found, values = largest(block, width)
    assert found.shape == values.shape == (len(block), width)
    np.testing.assert_array_equal(np.take_along_axis(block, found, axis=1), values)
    assert all(len(set(row)) == width for row in found.tolist())
    told = np.sort(np.take_along_axis(block, found, axis=1), axis=1)
    np.testing.assert_array_equal(told, np.sort(block, axis=1)[:, block.shape[1] - width :])


@settings(deadline=None, max_examples=60)
@given(m=st.integers(0, 6), n=st.integers(1, 700), seed=st.integers(0, 99), kinds=st.integers(1, 5), data=st.data())
def test_as_by_sorting(m: int, n: int, seed: int, kinds: int, data: st.DataObject) -> None:
    width = data.draw(st.integers(1, n))
    block = np.random.default_rng(seed).integers(0, 10**kinds, size=(m, n)).astype(np.float32)  # few kinds: many equal
    check(block, width)


def test_as_by_sorting_where_the_sample_misleads() -> None:
    """The sample sees only small ones, only large ones, equal ones, or what is told apart."""
    rng = np.random.default_rng(0)
    block = rng.normal(size=(6, 4000)).astype(np.float32)
    block[0, ::16] -= 100
    block[1, ::16] += 100
    block[2] = 0.5
    block[3, 5] = np.inf
    block[4, :3999] = 0.25
    for width in (1, 7, 256):
        check(block, width)
    check(np.sort(block, axis=1), 100)


@pytest.mark.parametrize("width", [0, 4])
def test_no_more_than_there_are(width: int) -> None:
    with pytest.raises(ValueError, match=f"{width} of 3 columns"):
        largest(np.ones((2, 3)), width)
