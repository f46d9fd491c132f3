"""k-means as a selector: even shares of the clusters, or their centres."""

import dataclasses
from typing import Any

import numpy as np
import pytest
from rows import examples, material

from dwbench.contract import Trial, check_selector
from dwbench.data.base import Splits
from dwbench.models.encoder import Encoder
from dwbench.models.spec import LM
from dwbench.selectors.kmeans import KMeans
from dwbench.selectors.material import Material
from dwbench.selectors.models import LoadedModels

COUNTS = (16, 12, 8, 4)


def towns(lm: LM, encoder: Encoder) -> Material:
    """40 rows, 16, 12, 8 and 4 that ask the same: as many clusters as questions."""
    questions = ("The ferry is late again.", "Rain", "A long film about trees and doors", "Cats!")
    rows = tuple(
        (question, f"Answer {n}") for question, count in zip(questions, COUNTS, strict=True) for n in range(count)
    )
    return material(lm, Splits(pool=examples(rows), target=(), test=()), encoder=encoder)


def of_each_question(chosen: list[str]) -> list[int]:
    group = np.repeat(np.arange(4), COUNTS)
    return np.bincount(group[[int(id) for id in chosen]], minlength=4).tolist()


def test_uniform_gives_even_shares(tiny_lm: LM, encoder: Encoder, models: LoadedModels) -> None:
    trial = Trial(KMeans(clusters=4), towns(tiny_lm, encoder), models)
    for k, counts in ((4, [1, 1, 1, 1]), (8, [2, 2, 2, 2]), (22, [6, 6, 6, 4]), (40, [16, 12, 8, 4])):
        chosen = trial.score(k).choose(k, 0)
        assert len(set(chosen)) == k
        assert of_each_question(chosen) == counts
    assert sum(of_each_question(trial.score(3).choose(3, 0))) == 3


def test_uniform_draws_inside_of_clusters(tiny_lm: LM, encoder: Encoder, models: LoadedModels) -> None:
    given = towns(tiny_lm, encoder)
    one, other = (
        Trial(KMeans(clusters=4), dataclasses.replace(given, seed=seed), models).score(8).choose(8, 0)
        for seed in (0, 1)
    )
    assert set(one) != set(other)
    assert of_each_question(one) == of_each_question(other)


def test_centres_are_one_row_of_each_cluster_and_the_rest_is_drawn(
    tiny_lm: LM, encoder: Encoder, models: LoadedModels
) -> None:
    trial = Trial(KMeans(take="centre"), towns(tiny_lm, encoder), models)
    assert of_each_question(trial.score(4).choose(4, 0)) == [1, 1, 1, 1]
    more = trial.score(9).choose(9, 0)  # only four different rows
    assert len(set(more)) == 9
    assert min(of_each_question(more)) >= 1


def test_barred_rows_have_no_share(tiny_lm: LM, encoder: Encoder, models: LoadedModels) -> None:
    trial = Trial(KMeans(clusters=3), towns(tiny_lm, encoder), models)
    barred = frozenset(str(n) for n in range(16))
    for k, counts in ((6, [0, 2, 2, 2]), (24, [0, 12, 8, 4])):
        assert of_each_question(trial.score(k, barred=barred).choose(k, 0)) == counts


def test_settings_that_mean_nothing() -> None:
    with pytest.raises(ValueError, match="clusters: must be at least 1"):
        KMeans(clusters=0)
    with pytest.raises(ValueError, match="clusters: take=centre has as many"):
        KMeans(take="centre", clusters=7)


@pytest.mark.parametrize("settings", [{}, {"take": "centre", "text": "full"}])
def test_keeps_the_contract(settings: dict[str, Any], tiny_lm: LM, encoder: Encoder, models: LoadedModels) -> None:
    check_selector(KMeans(**settings), material(tiny_lm, encoder=encoder), models)
