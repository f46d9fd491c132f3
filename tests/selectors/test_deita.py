"""DEITA: exchanges, complexity times quality by plain passes, and choices that are not too close."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rows import TASK, TOO_LONG, examples, material

from dwbench.contract import Scored, Trial, check_selector
from dwbench.data.base import Example, Splits, Turn
from dwbench.errors import UserError
from dwbench.models.chat import Chat
from dwbench.models.encoder import Encoder
from dwbench.models.loading import load_model
from dwbench.models.spec import LM
from dwbench.representations.ratings import expected_ratings
from dwbench.representations.scorer import Scorer
from dwbench.selectors.context import Context
from dwbench.selectors.deita import COMPLEXITY, NO_ROOM, QUALITY, Deita, exchanges
from dwbench.selectors.models import LoadedModels
from dwbench.store import Bench, Store


@pytest.mark.parametrize(
    ("turns", "expected"),
    [
        ([("user", "q")], [("q", "a")]),
        ([("system", "s"), ("user", "q")], [("s\n\nq", "a")]),
        (
            [("system", "s"), ("user", "1"), ("assistant", "2"), ("user", "3"), ("user", "4")],
            [("s\n\n1", "2"), ("3\n\n4", "a")],
        ),
        ([("assistant", "Hello!"), ("user", "q")], [("q", "a")]),
    ],
)
def test_exchanges(turns: list[Turn], expected: list[tuple[str, str]]) -> None:
    assert exchanges(turns, "a") == expected


@dataclasses.dataclass(frozen=True)
class KnownModels:
    """Real models, and an embedder that knows its texts by their first line."""

    loaded: LoadedModels
    vectors: dict[str, tuple[float, ...]]

    def chat(self, lm: LM) -> Chat:
        return self.loaded.chat(lm)

    def scorer(self, lm: LM, bench: Bench, adapter: Path | None = None) -> Scorer:
        return self.loaded.scorer(lm, bench, adapter)

    def embedder(self, encoder: Encoder, bench: Bench) -> Any:
        return self

    def embed(self, texts: Sequence[str], what: str) -> np.ndarray:
        found = np.array([self.vectors[text.splitlines()[0]] for text in texts], dtype=np.float32)
        return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True))


ROWS = (
    ("The pool opens late.", "Pool late"),
    ("The pool opens early.", "Pool early"),
    ("The library is closed.", "No books"),
    ("word " * 600, "Words"),
    ("Is it {late}?", "Yes\n\nit is"),
)
VECTORS = ((1.0, 0.0), (1.0, 0.1), (0.0, 1.0), (1.0, -1.0), (-1.0, 0.0))
"""The first two are too close to each other."""


def pool() -> tuple[Example, ...]:
    """The rows above, the last with an earlier exchange."""
    rows = examples(ROWS)
    history = (("user", "Hello?"), ("assistant", "Hi there"))
    return (*rows[:4], dataclasses.replace(rows[4], history=history))


def score(lm: LM, encoder: Encoder, models: LoadedModels, k: int, tau: float = 0.9, **barred: Any) -> Scored:
    known = dict(zip(("The pool opens late.", *(row[0] for row in ROWS[1:4]), "Hello?"), VECTORS, strict=True))
    loaded: Any = KnownModels(models, known)
    given = material(lm, Splits(pool=pool(), target=(), test=()), encoder=encoder)
    return Trial(Deita(tau=tau), given, loaded).score(k, **barred)


def rating(lm: LM, chat: Chat, template: str, question: str, answer: str) -> float:
    """Expected rating by a plain pass."""
    import torch

    tokens = [chat.tokenizer.convert_tokens_to_ids(str(number)) for number in range(1, 7)]
    text = template.replace("{response}", answer).replace("{instruction}", question)
    ids = chat.ids(chat.text([("user", text)]))
    with torch.inference_mode():
        logits = load_model(lm)(input_ids=torch.tensor([ids])).logits[0, -1, tokens].double().numpy()
    return float(expected_ratings(logits))


def test_complexity_times_quality_summed_over_exchanges(tiny_lm: LM, encoder: Encoder, models: LoadedModels) -> None:
    found = score(tiny_lm, encoder, models, 2)
    values = dict(zip(found.ids, found.scores.values, strict=True))
    chat = models.chat(tiny_lm)
    for row in pool():
        if row.id == "3":
            assert np.isnan(values["3"])
            continue
        asked = [("You write one line.\n\n" + TASK.user.replace("{input}", row.input), row.response)]
        if row.history:
            asked = [("You write one line.\n\nHello?", "Hi there"), (asked[0][0].split("\n\n")[1], row.response)]
        expected = sum(
            rating(tiny_lm, chat, COMPLEXITY, question, answer) * rating(tiny_lm, chat, QUALITY, question, answer)
            for question, answer in asked
        )
        assert values[row.id] == pytest.approx(expected, abs=1e-4)
    assert values["4"] > max(values["0"], values["1"], values["2"])
    reasons = dict(zip(found.ids, found.scores.reasons, strict=True))
    assert {id: reason for id, reason in reasons.items() if reason} == {"3": NO_ROOM}


def test_the_best_that_are_not_too_close(tiny_lm: LM, encoder: Encoder, models: LoadedModels) -> None:
    found = score(tiny_lm, encoder, models, 3)
    values = dict(zip(found.ids, found.scores.values, strict=True))
    better = max("01", key=lambda id: values[id])
    chosen = found.choose(3, 0)
    assert set(chosen) == {better, "2", "4"}
    assert chosen == sorted(chosen, key=lambda id: -values[id])
    free = score(tiny_lm, encoder, models, 3, tau=1.0).choose(3, 0)
    assert free == sorted("0124", key=lambda id: -values[id])[:3]
    # More than are far enough apart, and all.
    assert set(score(tiny_lm, encoder, models, 4).choose(4, 0)) == set("0124")
    assert set(score(tiny_lm, encoder, models, 5).choose(5, 0)) == set("01234")
    assert score(tiny_lm, encoder, models, 1).choose(1, 0) == ["4"]


def test_rows_that_may_not_be_chosen_keep_nobody_out(tiny_lm: LM, encoder: Encoder, models: LoadedModels) -> None:
    for barred in "01":
        other = "1" if barred == "0" else "0"
        found = score(tiny_lm, encoder, models, 3, barred=frozenset(barred))
        assert set(found.choose(3, 0)) == {other, "2", "4"}


def test_a_row_that_does_not_fit_is_invalid(tiny_lm: LM, encoder: Encoder, models: LoadedModels) -> None:
    found = Trial(Deita(), material(tiny_lm, encoder=encoder), models).score()
    assert [id for id, reason in zip(found.ids, found.scores.reasons, strict=True) if reason] == [TOO_LONG]
    assert found.choose(12, 0)[-1] == TOO_LONG


def test_a_scorer_that_can_rate_no_row_is_refused_beforehand(
    tiny_lm: LM, encoder: Encoder, models: LoadedModels, tmp_path: Path
) -> None:
    selector, bench = Deita(), Bench(Store(tmp_path))
    selector.check(Context(selector.needs, bench, material(tiny_lm, encoder=encoder), models))
    short = material(dataclasses.replace(tiny_lm, max_length=60), encoder=encoder)
    with pytest.raises(UserError, match=r"selector deita: no row of the pool fits .* max_length 60: raise it"):
        selector.check(Context(selector.needs, bench, short, models))


def test_settings_that_mean_nothing() -> None:
    with pytest.raises(ValueError, match="tau: must be from -1 to 1"):
        Deita(tau=1.5)


def test_keeps_the_contract(tiny_lm: LM, encoder: Encoder, models: LoadedModels) -> None:
    check_selector(Deita(), material(tiny_lm, encoder=encoder), models)


@pytest.mark.parametrize(("row", "valid"), [(ROWS[0], True), (ROWS[3], False)])
def test_a_pool_of_one_row(
    row: tuple[str, str], valid: bool, tiny_lm: LM, encoder: Encoder, models: LoadedModels
) -> None:
    given = material(tiny_lm, Splits(pool=examples((row,)), target=(), test=()), encoder=encoder)
    found = Trial(Deita(), given, models).score(1)
    assert found.choose(1, 0) == ["0"]
    assert np.isfinite(found.scores.values).all() == valid
