"""Baselines without a model, and what the key of a score is made of."""

import dataclasses
import tempfile
from pathlib import Path

import pytest
from rows import examples, material, splits

from dwbench.component import key_of
from dwbench.contract import Trial, check_selector, trial_with
from dwbench.data.base import Splits
from dwbench.errors import UndeclaredNeedError
from dwbench.models.spec import LM
from dwbench.selectors.base import Selector, score_identity
from dwbench.selectors.bounds import Full
from dwbench.selectors.context import Context
from dwbench.selectors.data_whisperer import DataWhisperer
from dwbench.selectors.ifd import IFD
from dwbench.selectors.longest_response import LongestResponse
from dwbench.selectors.models import LoadedModels
from dwbench.selectors.perplexity import Perplexity
from dwbench.selectors.random import Random
from dwbench.store import Bench, Store


def test_longest_response_first(tiny_lm: LM, models: LoadedModels) -> None:
    pool = examples((("A long question, longer than all answers?", "one"), ("b", "one two three"), ("c", "one two")))
    found = Trial(LongestResponse(), material(tiny_lm, Splits(pool=pool, target=(), test=())), models).score()
    assert found.choose(3, 0) == ["1", "2", "0"]
    assert dict(zip(found.ids, found.scores.values, strict=True)) == {"0": 1, "1": 3, "2": 2}


def test_longest_total_counts_the_prompt_too(tiny_lm: LM, models: LoadedModels) -> None:
    pool = examples((("A long question, longer than all answers?", "one"), ("b", "one two three"), ("c", "one two")))
    trial = Trial(LongestResponse(count="total"), material(tiny_lm, Splits(pool=pool, target=(), test=())), models)
    found = trial.score()
    assert found.choose(3, 0) == ["0", "1", "2"]
    chat = models.chat(tiny_lm)
    for id, value in zip(found.ids, found.scores.values, strict=True):
        row = pool[int(id)]
        assert value == len(chat.ids(chat.text(trial.material.task.turns(row)))) + len(chat.ids(row.response))
    assert LongestResponse().needs == {"responses", "tokenizer"}
    check_selector(LongestResponse(count="total"), material(tiny_lm), models)


def test_random_differs_by_seed_and_not_by_pool(tiny_lm: LM, models: LoadedModels) -> None:
    trial = Trial(Random(), material(tiny_lm), models)
    first = trial.score()
    assert first.choose(12, 0) != trial_with(trial, seed=1).score().choose(12, 0)
    # Without a row that was not chosen, the others keep their order.
    fewer = dataclasses.replace(splits(), pool=splits().pool[1:])
    less = trial_with(trial, splits=fewer).score()
    assert less.choose(11, 0) == [id for id in first.choose(12, 0) if id != "0"]


def context(selector: Selector, lm: LM, seed: int = 0) -> Context:
    bench = Bench(Store(Path(tempfile.gettempdir()) / "unused"))
    # The keys below were made when row 6 answered "Yes".
    rows = ((row.input, "Yes" if row.id == "6" else row.response) for row in splits().pool)
    data = dataclasses.replace(splits(), pool=examples(tuple(rows)))
    return Context(selector.needs, bench, material(lm, data, seed=seed), LoadedModels())


EMBEDDED = LM(name="any", source="embedded", dtype="float32", device="cpu")


@pytest.mark.parametrize(
    ("selector", "key"),
    [
        (Random(), "d4096936cc2bd2e5a2db"),
        (IFD(), "d8011be5dac4de166b0b"),
        (DataWhisperer(), "47b2967b9f6857254347"),
    ],
)
def test_keys_do_not_change_silently(selector: Selector, key: str) -> None:
    """A new key means that all stored scores are computed anew: raise `version` knowingly, then change this."""
    assert key_of(score_identity(selector, context(selector, EMBEDDED))) == key


def test_a_key_holds_what_is_declared_and_no_more() -> None:
    def key(selector: Selector, lm: LM = EMBEDDED, seed: int = 0) -> str:
        return key_of(score_identity(selector, context(selector, lm, seed)))

    half, shorter = dataclasses.replace(EMBEDDED, dtype="bfloat16"), dataclasses.replace(EMBEDDED, max_length=512)
    assert key(Random()) == key(Random(), half) != key(Random(), seed=1)
    low = Perplexity(which="low")
    assert key(low) == key(low, seed=1) == key(low, dataclasses.replace(EMBEDDED, name="x", token_budget=9))
    assert len({key(low), key(low, half), key(low, shorter), key(Perplexity(which="mid")), key(IFD())}) == 5
    assert key(low, half) != key(low, dataclasses.replace(half, token_budget=9))


def test_what_is_not_declared_is_refused() -> None:
    given = context(Full(), EMBEDDED)
    for reach in (
        lambda: given.pool,
        lambda: given.target,
        lambda: given.task,
        lambda: given.turns,
        lambda: given.scorer,
        lambda: given.chat,
        lambda: given.ids,
        lambda: given.draw("x"),
        lambda: given.draw_target("x"),
        lambda: given.identity_of("scorer"),
    ):
        with pytest.raises(UndeclaredNeedError, match="declares nothing"):
            reach()
    assert given.n_rows == len(given.uids) == 12


def test_lengths_are_those_of_the_model_to_be_tuned(tiny_lm: LM, models: LoadedModels, tmp_path: Path) -> None:
    # A scorer that is somewhere else altogether is not even looked at.
    scorer = dataclasses.replace(tiny_lm, source=str(tmp_path / "nowhere"))
    trial = Trial(LongestResponse(), material(tiny_lm), models)
    assert trial_with(trial, scorer=scorer).score().scores.values.tolist() == trial.score().scores.values.tolist()
