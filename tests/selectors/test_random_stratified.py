"""Random choice inside clusters: exact shares, random within, and what may not be chosen."""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pydantic
import pytest
from rows import examples, material

from dwbench.contract import Trial, check_selector, trial_with
from dwbench.data.base import Splits
from dwbench.models.encoder import Encoder
from dwbench.models.spec import LM
from dwbench.selectors.models import LoadedModels
from dwbench.selectors.random_stratified import RandomStratified
from dwbench.store import Bench

TOPICS = {"ferry": 16, "music": 12, "garden": 4}


class ByTopic:
    """A text encoder that knows topics and nothing else, and says what it was given."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def embedder(self, encoder: Encoder, bench: Bench) -> "ByTopic":
        return self

    def embed(self, texts: Sequence[str], what: str = "") -> np.ndarray:
        self.texts = list(texts)
        return np.array([[topic in text for topic in TOPICS] for text in texts], dtype=np.float32)

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"reached for {name}")


def pool() -> Splits:
    rows = [(f"{topic} {number}?", f"Answer {number}") for topic, n in TOPICS.items() for number in range(n)]
    return Splits(pool=examples(tuple(rows)), target=(), test=())


def topic(id: str) -> str:
    return pool().pool[int(id)].input.split()[0]


@pytest.fixture
def trial(tiny_lm: LM, encoder: Encoder) -> Trial:
    return Trial(RandomStratified(), material(tiny_lm, pool(), encoder=encoder), ByTopic())


def test_every_cluster_gives_its_share(trial: Trial) -> None:
    for k, shares in ((8, [4, 3, 1]), (16, [8, 6, 2]), (32, [16, 12, 4])):
        chosen = trial.score(k).choose(k, 0)
        assert len(set(chosen)) == k
        assert Counter(map(topic, chosen)) == dict(zip(TOPICS, shares, strict=True))
    # 9 of 32: 4.5, 3.375 and 1.125.
    assert Counter(map(topic, trial.score(9).choose(9, 0))) == {"ferry": 5, "music": 3, "garden": 1}
    assert trial.models.texts[0].startswith("Instruction: ")  # type: ignore[attr-defined]
    assert " Response: Answer" in trial.models.texts[0]  # type: ignore[attr-defined]


def test_random_inside_a_cluster(trial: Trial) -> None:
    """The rows with the highest draws of each cluster, others with another seed."""
    found = trial.score(8)
    drawn = dict(zip(found.ids, found.scores.values, strict=True))
    chosen = set(found.choose(8, 0))
    for name in TOPICS:
        of_topic = sorted((id for id in drawn if topic(id) == name), key=lambda id: -drawn[id])
        n = sum(id in chosen for id in of_topic)
        assert set(of_topic[:n]) == chosen & set(of_topic)
    assert set(trial_with(trial, seed=1).score(8).choose(8, 0)) != chosen
    assert found.scores.notes == {"clusters": 3}


def test_rows_that_nothing_can_be_learnt_from_take_no_place(trial: Trial) -> None:
    garden = frozenset(row.id for row in pool().pool if topic(row.id) == "garden")
    found = trial.score(7, garden)
    assert Counter(map(topic, found.choose(7, 0))) == {"ferry": 4, "music": 3}
    every = trial.score(32, garden).choose(32, 0)
    assert set(every[28:]) == garden


def test_the_number_of_clusters(trial: Trial) -> None:
    one = dataclasses.replace(trial, selector=RandomStratified(clusters=1)).score(8)
    assert one.scores.notes == {"clusters": 1}
    assert one.choose(8, 0) == [id for _, id in sorted(zip(-one.scores.values, one.ids, strict=True))][:8]
    with pytest.raises(pydantic.ValidationError, match="at least 1"):
        RandomStratified(clusters=0)


def test_keeps_the_contract(tiny_lm: LM, encoder: Encoder, models: LoadedModels) -> None:
    check_selector(RandomStratified(), material(tiny_lm, pool(), encoder=encoder), models)
    check_selector(RandomStratified(), material(tiny_lm, encoder=encoder), models)
