"""NovelSum and NovelSelect against published code, a computation from scratch, and by hand."""

import json
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dwbench.rules import novelselect as novelselect_module
from dwbench.rules import novelty
from dwbench.rules.novelselect import TIE, Novel, novelselect
from dwbench.rules.novelty import ALL, Form, copies, cosine_distances, densities, novelsum, of_matrix

LINE = np.array([[0.0, 1, 2], [1, 0, 1], [2, 1, 0]])
ONES = np.ones(3)

FORMS: tuple[Form, ...] = ("paper", "reference")


def case(shared: Path, rule: str) -> tuple[dict[str, Any], np.ndarray]:
    folder = shared / "golden" / "rules" / rule
    if not folder.is_dir():
        pytest.skip(f"no golden vectors: {folder}")
    arrays = np.load(folder / "case_a.npz", allow_pickle=False)
    return json.loads((folder / "case_a.json").read_text()), arrays["in_embeddings"]


def points(n: int, d: int = 8, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


def from_scratch(vectors: np.ndarray, density: np.ndarray, k: int, first: int, power: float, form: Form) -> Novel:
    """Every novelty sorted anew at every turn, in float64."""
    units = vectors / np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    distance = np.maximum(1 - units @ units.T, 0)
    picks, values = [first], [np.nan]
    novelty = np.zeros(len(vectors))
    while True:
        weights = np.arange(1, len(picks) + 1) ** -power
        for row in range(len(vectors)):
            own = distance[row, picks]
            if form == "reference":
                terms = np.sort((density[row] + density[picks]) * own)
            else:
                order = np.argsort(own)
                terms = (density[picks] * own)[order]
            novelty[row] = terms @ weights / len(picks)
        if len(picks) == k:
            return Novel(np.array(picks), np.array(values), novelty)
        free = np.isin(np.arange(len(vectors)), picks, invert=True)
        best = novelty[free].max()
        picks.append(int(np.flatnonzero(free & (novelty >= best * (1 - TIE)))[0]))
        values.append(novelty[picks[-1]])


def test_published_selector(shared: Path) -> None:
    data, vectors = case(shared, "novelselect")
    given, expected = data["parameters"], data["expected"]
    density = densities(vectors, given["neighbours"], given["density_power"])
    np.testing.assert_allclose(density, expected["density"]["value"], rtol=1e-5)
    found = novelselect(
        cosine_distances(vectors), density, given["k"], given["first_pick"], given["distance_power"], "reference"
    )
    assert found.picks.tolist() == expected["picks_in_order"]["value"]
    np.testing.assert_allclose(found.values[1:], expected["winning_score"]["value"], rtol=1e-5)


def test_published_metric(shared: Path) -> None:
    data, vectors = case(shared, "novelsum")
    for entry in data["expected"]["values"]["value"]:
        chosen = np.array(data["inputs"][f"subset_{entry['subset']}"]["value"])
        density = densities(vectors, entry["neighbours"], entry["density_power"])[chosen]
        found = novelsum(cosine_distances(vectors[chosen]), density, entry["distance_power"])
        assert found == pytest.approx(entry["value"], rel=1e-5), entry


def test_metric_by_hand() -> None:
    # Itself among them: rows 0 and 2 give (1/2 + 2/3) / (1 + 1/2 + 1/3), row 1 (1/2 + 1/3) / the same.
    assert novelsum(of_matrix(LINE), ONES) == pytest.approx(0.57576, abs=1e-5)
    # Without: (1 + 2/2) / 1.5 twice, and (1 + 1/2) / 1.5.
    assert novelsum(of_matrix(LINE), ONES, form="paper") == pytest.approx(1.22222, abs=1e-5)
    # The weight is the row's own density, or its neighbour's: of row 2 alone.
    light = np.array([0.0, 0, 1])
    assert novelsum(of_matrix(LINE), light) == pytest.approx((1 / 2 + 2 / 3) / (11 / 6) / 3)
    assert novelsum(of_matrix(LINE), light, form="paper") == pytest.approx((2 / 2 + 1 / 2 + 0) / 1.5 / 3)


def test_metric_of_sets_larger_than_a_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = points(50)
    density = densities(vectors, 3)
    for form in FORMS:
        whole = novelsum(cosine_distances(vectors), density, form=form)
        with monkeypatch.context() as patched:
            patched.setattr(novelty, "CHUNK", 7)
            assert novelsum(cosine_distances(vectors), density, form=form) == pytest.approx(whole, rel=1e-6)
            np.testing.assert_allclose(densities(vectors, 3), density, rtol=1e-6)


@pytest.mark.parametrize("form", FORMS)
def test_metric_of_one_row_and_of_copies(form: Form) -> None:
    assert novelsum(of_matrix(np.zeros((1, 1))), np.ones(1), form=form) == 0
    assert novelsum(of_matrix(np.zeros((4, 4))), np.ones(4), form=form) == 0


@pytest.mark.parametrize("form", FORMS)
def test_farthest_second(form: Form) -> None:
    found = novelselect(of_matrix(LINE), ONES, 3, 0, form=form)
    assert found.picks.tolist() == [0, 2, 1]
    # Row 1 is at 1 from both: (1 + 1/2) / 2; in the reference densities add to 2.
    scale = 2 if form == "reference" else 1
    np.testing.assert_allclose(found.values, [np.nan, 2 * scale, 0.75 * scale])


def test_whose_density_and_which_rank() -> None:
    """Row 2 and row 3 are equally far from row 0; row 3 lies where the pool is dense."""
    distance = np.array([[0, 1, 2, 2.0], [1, 0, 3, 3], [2, 3, 0, 1], [2, 3, 1, 0]])
    density = np.array([1.0, 4, 1, 2])
    assert novelselect(of_matrix(distance), density, 2, 0).picks.tolist() == [0, 2]
    published = novelselect(of_matrix(distance), density, 3, 0, form="reference")
    assert published.picks.tolist() == [0, 3, 1]
    np.testing.assert_allclose(published.values[1], 3 * 2)
    # Row 1: products 5 x 1 and 6 x 3 in this order; row 2: 2 x 2 and 3 x 1, smaller product first.
    np.testing.assert_allclose(published.values[2], (5 + 18 / 2) / 2)
    np.testing.assert_allclose(
        novelselect(of_matrix(distance), density, 2, 0, form="reference").left[2], (3 + 4 / 2) / 2
    )
    # Paper, rows 0 and 1 chosen: distance 2 (density 8) goes before 3 (density 1), though the products are 16 and 3.
    density = np.array([8.0, 1, 1, 1])
    later = novelselect(of_matrix(distance), density, 2, 0, groups=np.array([0, 1, 0, 0]))
    assert later.picks.tolist() == [0, 1]
    np.testing.assert_allclose(later.left[2:], (8 * 2 + 1 * 3 / 2) / 2)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("density_power", "distance_power"), [(0.5, 1.0), (0.0, 2.0), (1.0, 0.0)])
def test_fast_as_from_scratch(form: Form, density_power: float, distance_power: float) -> None:
    vectors = points(400, seed=3)
    density = densities(vectors, 10, density_power)
    found = novelselect(cosine_distances(vectors), density, 40, 7, distance_power, form)
    expected = from_scratch(vectors, density, 40, 7, distance_power, form)
    assert found.picks.tolist() == expected.picks.tolist()
    np.testing.assert_allclose(found.values, expected.values, rtol=1e-5)
    np.testing.assert_allclose(found.left, expected.left, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("form", FORMS)
def test_in_parts_as_at_once(form: Form, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = points(60, seed=1)
    density = densities(vectors, 5)
    whole = novelselect(cosine_distances(vectors), density, 30, 0, form=form)
    monkeypatch.setattr(novelselect_module, "CELLS", 50)
    parts = novelselect(cosine_distances(vectors), density, 30, 0, form=form)
    assert parts.picks.tolist() == whole.picks.tolist()
    np.testing.assert_allclose(parts.left, whole.left, rtol=1e-5)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("distance_power", [1.0, 2.0, 0.0])
@pytest.mark.parametrize("spread", [0.1, 3.0])
def test_bounds_hold_and_are_worth_it(form: Form, distance_power: float, spread: float) -> None:
    """At every turn no bound lies below the novelty; rows are worked out anew at different turns."""
    generator, n, k = np.random.default_rng(8), 300, 120
    vectors = points(n, seed=7)
    density = np.exp(generator.normal(scale=spread, size=n)).astype(np.float32)
    terms = novelselect_module._Terms(cosine_distances(vectors), density, form)
    bounds = novelselect_module._Bounds(n, k, distance_power, form)
    everyone, picks = np.arange(n), generator.permutation(n)[:k]
    tightness = []
    for turn in range(k):
        bounds.insert(turn, *terms.of_all(int(picks[turn])))
        keys, ranked = terms.ranked(everyone, picks[: turn + 1])
        novelties = ranked @ np.arange(1, turn + 2, dtype=np.float64) ** -distance_power
        bound = bounds.at(turn + 1)
        assert (bound >= novelties * (1 - TIE)).all(), turn
        tightness.append(bound.sum() / novelties.sum())
        anew = everyone[turn % 7 :: 7]
        bounds.renew(anew, keys[anew], ranked[anew])
    assert np.median(tightness) < (1.1 if spread < 1 else 1.5), tightness


@pytest.mark.parametrize("form", FORMS)
def test_of_equal_distances_the_earlier_pick_ranks_first(form: Form) -> None:
    generator = np.random.default_rng(3)
    distance = np.triu(generator.integers(0, 4, size=(60, 60)).astype(np.float64), 1)
    distance += distance.T
    density = np.exp(generator.normal(size=60))
    found = novelselect(of_matrix(distance), density, 30, 0, form=form)
    for turn in range(1, 30):
        earlier = found.picks[:turn]
        best = -np.inf
        for row in np.setdiff1d(np.arange(60), earlier):
            keys = distance[row, earlier] * (1 if form == "paper" else density[row] + density[earlier])
            terms = keys * density[earlier] if form == "paper" else keys
            novelty_of_row = terms[np.argsort(keys, kind="stable")] @ (1 / np.arange(1, turn + 1)) / turn
            best = max(best, novelty_of_row)
            if row == found.picks[turn]:
                chosen = novelty_of_row
        assert chosen == pytest.approx(found.values[turn], rel=1e-5)
        assert chosen >= best * (1 - 2 * TIE)


def test_densities_beyond_single_precision() -> None:
    vectors, density = points(50, seed=2), densities(points(50, seed=2), 5)
    small = novelselect(cosine_distances(vectors), density, 20, 0)
    large = novelselect(cosine_distances(vectors), density * 1e200, 20, 0)
    assert large.picks.tolist() == small.picks.tolist()
    np.testing.assert_allclose(large.values, small.values * 1e200)


def test_few_rows_are_worked_out() -> None:
    vectors = points(1000, d=64, seed=9)
    distances = cosine_distances(vectors)
    seen = [0]

    def counted(positions: np.ndarray, columns: np.ndarray | slice = ALL) -> np.ndarray:
        found = distances(positions, columns)
        seen[0] += found.size
        return found

    novelselect(counted, densities(vectors), 200, 0)
    all_to_picks = 1000 * 200  # at each pick, and of all rows at the end
    assert seen[0] - 2 * all_to_picks < 0.05 * 1000 * 200**2 / 2


@pytest.mark.parametrize("form", FORMS)
def test_near_duplicates_do_not_break_it(form: Form) -> None:
    once = points(30, seed=2)
    vectors = np.concatenate([once, once + np.float32(1e-7), once])
    found = novelselect(cosine_distances(vectors), densities(vectors), 90, 5, form=form)
    assert sorted(found.picks) == list(range(90))
    assert np.isfinite(found.values[1:]).all()
    assert (found.values[1:] >= 0).all()


def test_copies_wait() -> None:
    once = points(20, seed=4)
    vectors = np.concatenate([once, once[:10], once[:10]])
    found = novelselect(cosine_distances(vectors), densities(vectors), 40, 3, groups=copies(vectors))
    number = copies(vectors)[found.picks]
    assert len(set(number[:20])) == 20
    assert sorted(found.picks) == list(range(40))


def test_a_row_never_twice_where_its_copies_are_novel() -> None:
    """In a tight bunch far away, a copy of a chosen row is more novel than a row beside the first pick."""
    vectors = np.array([[1, 0], [0.999, 0.04], [0, 1], [0, 1]], dtype=np.float32)
    distances, density = cosine_distances(vectors), np.ones(4)
    assert novelselect(distances, density, 3, 0).picks.tolist() == [0, 2, 3]
    assert novelselect(distances, density, 3, 0, groups=copies(vectors)).picks.tolist() == [0, 2, 1]


@pytest.mark.parametrize("form", FORMS)
def test_numbers_of_rows(form: Form) -> None:
    vectors = points(6)
    distances, density = cosine_distances(vectors), densities(vectors, 2)
    assert novelselect(distances, density, 1, 4, form=form).picks.tolist() == [4]
    assert sorted(novelselect(distances, density, 6, 4, form=form).picks) == list(range(6))
    assert novelselect(of_matrix(np.zeros((1, 1))), np.ones(1), 1, 0, form=form).picks.tolist() == [0]
    same = np.ones((5, 3), dtype=np.float32)
    assert novelselect(cosine_distances(same), densities(same), 5, 2, form=form).picks.tolist() == [2, 0, 1, 3, 4]
    for k in (0, 7):
        with pytest.raises(ValueError, match=f"k = {k} of 6 rows"):
            novelselect(distances, density, k, 0, form=form)


@pytest.mark.parametrize("form", FORMS)
def test_the_order_of_rows_does_not_matter(form: Form) -> None:
    vectors = points(80, seed=6)
    shuffled = np.random.default_rng(0).permutation(80)
    one = novelselect(cosine_distances(vectors), densities(vectors), 20, int(shuffled[0]), form=form)
    other = novelselect(cosine_distances(vectors[shuffled]), densities(vectors[shuffled]), 20, 0, form=form)
    assert shuffled[other.picks].tolist() == one.picks.tolist()


def test_density_by_hand() -> None:
    line = np.array([[0.0], [1], [3], [3], [-0.0]])
    # Different rows are 0, 1 and 3; mean squared distances to the two others 5, 2.5 and 6.5.
    np.testing.assert_allclose(densities(line, 2, 1.0), 1 / np.array([5, 2.5, 6.5, 6.5, 5]), rtol=1e-8)
    np.testing.assert_allclose(densities(line, 9, 0.5), np.array([5, 2.5, 6.5, 6.5, 5]) ** -0.5, rtol=1e-8)
    np.testing.assert_allclose(densities(line, 1, 0.5), [1, 1, 0.5, 0.5, 1], rtol=1e-8)
    assert densities(line, 2, 0.0).tolist() == [1] * 5
    assert densities(np.ones((3, 2))).tolist() == [1] * 3


@pytest.mark.parametrize("rule", ["densities", "novelselect"])
def test_no_matrix_of_all_pairs(rule: str) -> None:
    n = 20_500
    vectors = points(n, d=2)
    tracemalloc.start()
    if rule == "densities":
        densities(vectors)
    else:
        novelselect(cosine_distances(vectors), np.ones(n), 30, 0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < n * n  # a byte a pair of rows


def test_cosine_distances_of_any_length() -> None:
    vectors = np.array([[2.0, 0], [0, 5], [-1, 0], [0, 0]])
    np.testing.assert_allclose(cosine_distances(vectors)(np.array([0])), [[0, 1, 2, 1]], atol=1e-7)


@pytest.mark.parametrize("rule", [densities, cosine_distances])
def test_what_is_no_number(rule: Any) -> None:
    vectors = np.eye(3)
    vectors[1, 0] = np.nan
    with pytest.raises(ValueError, match="row 1 is not finite"):
        rule(vectors)
