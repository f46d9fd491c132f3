"""Superfiltering.D: the share by IFD_ppl, and the rows that stand for it."""

from pathlib import Path

import numpy as np
import pytest
from rows import TOO_LONG, material

from dwbench.contract import Scored, Trial, check_selector
from dwbench.models.encoder import Encoder
from dwbench.models.spec import LM
from dwbench.rules.ranking import Scores
from dwbench.selectors.models import LoadedModels
from dwbench.selectors.superfiltering import ranked_ifd_ppl
from dwbench.selectors.superfiltering_d import SuperfilteringD, shortlist
from dwbench.store import Bench, Store

NAN = float("nan")


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """One store for all choices: losses and vectors are computed once."""
    return Bench(Store(tmp_path_factory.mktemp("store")))


def found_scores(values: list[float]) -> Scores:
    return ranked_ifd_ppl(np.array(values), tuple("too long" if np.isnan(value) else "" for value in values))


def test_share_by_hand() -> None:
    found = found_scores([0.2, 1.0, 0.9, NAN, 0.9, 1.5, 0.5])
    everyone = np.ones(7, dtype=np.bool_)
    assert shortlist(found, everyone, 3).tolist() == [2, 4, 6]
    assert shortlist(found, everyone, 9).tolist() == [2, 4, 6, 0]
    assert shortlist(found, everyone & (np.arange(7) != 4), 3).tolist() == [2, 6, 0]


@pytest.mark.parametrize("share", [0.0, -0.1, 1.1])
def test_impossible_shares(share: float) -> None:
    with pytest.raises(ValueError, match="ifd_share"):
        SuperfilteringD(ifd_share=share)


def choose(
    selector: SuperfilteringD, k: int, lm: LM, encoder: Encoder, models: LoadedModels, bench: Bench
) -> tuple[Scored, list[str]]:
    found = Trial(selector, material(lm, encoder=encoder), models).score_in(bench, selector.needs, k)
    return found, found.choose(k, 0)


def test_chooses_what_stands_for_the_share(
    tiny_lm: LM, encoder: Encoder, models: LoadedModels, bench: Bench, tmp_path: Path
) -> None:
    selector = SuperfilteringD(ifd_share=0.5, kernel="cosine", prompt="plain")
    found, chosen = choose(selector, 2, tiny_lm, encoder, models, bench)
    ifd = dict(zip(found.ids, found.scores.values, strict=True))
    below = sorted((id for id in found.ids if ifd[id] < 1), key=lambda id: -ifd[id])
    assert len(below) > 3
    share = below[:6]
    assert found.scores.notes["rows_in_share"] == len(share)
    rows = {row.id: row for row in material(tiny_lm).splits.pool}
    texts = [f"{rows[id].input}\n{rows[id].response}" for id in share]
    vectors: list[np.ndarray] = []
    other = Bench(Store(tmp_path))
    other.stage("test", {}, lambda _: vectors.append(models.embedder(encoder, other).embed(texts)))
    similarity = np.maximum(vectors[0].astype(np.float64) @ vectors[0].T, 0)
    first = int(np.argmax(similarity.sum(axis=1)))
    both = [np.maximum(similarity[first], similarity[row]).sum() for row in range(len(share))]
    assert chosen == [share[first], share[int(np.argmax(both))]]
    # Behind the chosen: the rest of the pool as superfiltering ranks it.
    rest = [id for id in below if id not in chosen]
    assert found.choose(12, 0)[2 : 2 + len(rest)] == rest
    assert found.choose(12, 0)[-1] == TOO_LONG


def test_the_share_widens_with_k(tiny_lm: LM, encoder: Encoder, models: LoadedModels, bench: Bench) -> None:
    found, chosen = choose(SuperfilteringD(prompt="plain"), 4, tiny_lm, encoder, models, bench)
    n_below = int((found.scores.tier < 2).sum() - np.isnan(found.scores.preference).sum())
    assert found.scores.notes["rows_in_share"] == min(4, n_below)
    ifd = dict(zip(found.ids, found.scores.values, strict=True))
    assert set(chosen) == set(sorted((id for id in found.ids if ifd[id] < 1), key=lambda id: -ifd[id])[:4])
    # Beyond the rows below 1, those from 1 up follow in ascending order.
    found, chosen = choose(SuperfilteringD(prompt="plain"), 11, tiny_lm, encoder, models, bench)
    above = sorted((id for id in found.ids if ifd[id] >= 1), key=lambda id: ifd[id])
    behind = chosen[11 - len(above) :]
    assert [ifd[id] for id in behind] == [ifd[id] for id in above]  # of two copies either may come first
    assert TOO_LONG not in chosen


@pytest.mark.parametrize("kernel", ["rbf", "cosine"])
def test_keeps_the_contract(kernel: str, tiny_lm: LM, encoder: Encoder, models: LoadedModels) -> None:
    selector = SuperfilteringD(ifd_share=0.6, kernel=kernel)  # type: ignore[arg-type]
    check_selector(selector, material(tiny_lm, encoder=encoder), models)


def test_no_row_below_one_is_left(tiny_lm: LM, encoder: Encoder, models: LoadedModels, bench: Bench) -> None:
    selector = SuperfilteringD()
    found, _ = choose(selector, 4, tiny_lm, encoder, models, bench)
    ifd = dict(zip(found.ids, found.scores.values, strict=True))
    above = sorted((id for id in found.ids if ifd[id] >= 1), key=lambda id: ifd[id])
    barred = frozenset(id for id in found.ids if ifd[id] < 1) | {above[0]}
    left = above[1:]
    assert left
    trial = Trial(selector, material(tiny_lm, encoder=encoder), models)
    rest = trial.score_in(bench, selector.needs - {"embedder"}, len(left), barred)  # nothing to embed
    chosen = rest.choose(len(left), 0)
    assert [ifd[id] for id in chosen] == [ifd[id] for id in left]  # of two copies either may come first
    assert set(chosen) == set(left)
