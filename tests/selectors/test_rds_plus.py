"""RDS+: the published embedding and turns, cosines with the target set, rows that do not fit."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from rows import TASK, TOO_LONG, examples, material, splits
from scoring import golden, with_scorer

from dwbench.contract import Trial, check_selector
from dwbench.data.base import Splits
from dwbench.errors import UserError
from dwbench.models.loading import load_model
from dwbench.models.spec import LM
from dwbench.rules.round_robin import round_robin
from dwbench.selectors.context import Context
from dwbench.selectors.losses import NO_RESPONSE
from dwbench.selectors.models import LoadedModels
from dwbench.selectors.rds_plus import RDSPlus
from dwbench.store import Bench, Store


def test_published_turns(shared: Path) -> None:
    folder = shared / "golden" / "rules" / "rds_round_robin"
    if not folder.is_dir():
        pytest.skip(f"no golden vectors: {folder}")
    for case, fields in (
        ("case_a_single_task", {"picks_in_order": False, "picks_if_a_lost_turn_were_retried": True}),
        ("case_b_several_tasks", {"picks_in_order": False}),
    ):
        data = json.loads((folder / f"{case}.json").read_text())
        arrays = np.load(folder / f"{case}.npz", allow_pickle=False)
        given = [arrays[entry["npz_key"]] for entry in data["inputs"].values()]
        turns = given[0] if len(given) == 1 else np.array([of_task.max(axis=0) for of_task in given])
        for field, retry in fields.items():
            expected = data["expected"][field]["value"]
            assert round_robin(turns.T, len(expected), retry=retry).tolist() == expected


def test_published_cosines_and_choice(shared: Path, smollm2: LM, models: LoadedModels) -> None:
    data = golden(shared, "rds_plus/case_main")
    expected = data["expected"]
    sequences = [row["ids"] for row in data["inputs"]["rows"]]
    hidden, _ = with_scorer(models, smollm2, lambda scorer: scorer.weighted_hidden(sequences))
    unit = hidden / np.linalg.norm(hidden, axis=1, keepdims=True)
    close = data["tolerance"]["suggested_abs_cosine"]
    np.testing.assert_allclose(unit @ unit.T, expected["cosine_naive_float64_pooling"], atol=close, rtol=0)
    pool = np.array(data["inputs"]["pool_rows"])
    cosines = unit[pool] @ unit[data["inputs"]["target_rows"]].T
    for budget, picks in expected["round_robin_selection_by_budget"].items():
        assert pool[round_robin(cosines, int(budget))].tolist() == picks


def direct_cosines(lm: LM, models: LoadedModels) -> tuple[list[str], np.ndarray]:
    """Ids of the pool and cosines with the target set, its rows ordered by content, by plain passes."""
    import torch

    model, chat = load_model(lm), models.chat(lm)

    def embedded(sequence: tuple[int, ...]) -> np.ndarray:
        with torch.inference_mode():
            states = model(input_ids=torch.tensor([sequence]), output_hidden_states=True).hidden_states[-1][0]
        mean = (states.double().numpy() * np.arange(1, len(sequence) + 1)[:, None]).sum(axis=0)
        return np.asarray(mean / np.linalg.norm(mean))

    data = splits()
    vectors = {}
    for part, rows in (("pool", data.pool), ("target", data.target)):
        for row in sorted(rows, key=lambda row: row.uid):
            pair = chat.pair(TASK, row)
            if pair is not None:
                vectors[part, row.id] = embedded((*pair.context, *pair.response))
    ids = [id for part, id in vectors if part == "pool"]
    target = np.array([vector for (part, _), vector in vectors.items() if part == "target"])
    return ids, np.array([vectors["pool", id] for id in ids]) @ target.T


@pytest.mark.parametrize("variant", ["paper", "reference"])
def test_scores_and_choice(variant: str, tiny_lm: LM, models: LoadedModels) -> None:
    ids, cosines = direct_cosines(tiny_lm, models)
    found = Trial(RDSPlus(variant=variant), material(tiny_lm), models).score()
    values = dict(zip(found.ids, found.scores.values, strict=True))
    assert values.keys() - {*ids} == {TOO_LONG}
    np.testing.assert_allclose([values[id] for id in ids], cosines.max(axis=1), atol=1e-5)
    assert found.scores.notes == {"target_rows": 3}
    order = round_robin(cosines, len(ids), retry=variant == "paper")
    # Rows 0 and 3 are copies; which of the two goes first is a matter of rounding in the direct computation.
    expected = ["0" if ids[row] == "3" else ids[row] for row in order]
    assert ["0" if id == "3" else id for id in found.choose(11, 0)] == expected


def test_a_row_that_does_not_fit_is_invalid(tiny_lm: LM, models: LoadedModels) -> None:
    found = Trial(RDSPlus(), material(tiny_lm), models).score()
    reasons = dict(zip(found.ids, found.scores.reasons, strict=True))
    assert {id: reason for id, reason in reasons.items() if reason} == {TOO_LONG: NO_RESPONSE}
    assert found.choose(12, 0)[-1] == TOO_LONG


def test_target_rows_that_do_not_fit_have_no_turn(tiny_lm: LM, models: LoadedModels, tmp_path: Path) -> None:
    pool = splits().pool
    target = examples((("The rink is open.", "Rink open"), ("much " * 700, "Much"), ("It rains.", "")))
    data = Splits(pool=pool, target=target, test=())
    found = Trial(RDSPlus(), material(tiny_lm, data), models).score()
    assert found.scores.notes == {"target_rows": 1}
    alone = Trial(RDSPlus(), material(tiny_lm, dataclasses.replace(data, target=target[:1])), models).score()
    assert found.choose(12, 0) == alone.choose(12, 0)
    # One row alone: by cosine.
    values = dict(zip(found.ids, found.scores.values, strict=True))
    others = [id for id in found.choose(11, 0) if id not in "03"]
    assert others == sorted(others, key=lambda id: -values[id])
    assert TOO_LONG not in others
    for rows in (target[1:], ()):
        given = material(tiny_lm, dataclasses.replace(data, target=rows))
        context = Context(RDSPlus().needs, Bench(Store(tmp_path)), given, models)
        with pytest.raises(UserError, match=f"none of the {len(rows)} rows of the target set .*max_length=512"):
            RDSPlus().check(context)


def test_variants_share_the_embeddings(tiny_lm: LM, models: LoadedModels, tmp_path: Path) -> None:
    bench = Bench(Store(tmp_path))
    for variant in ("paper", "reference"):
        Trial(RDSPlus(variant=variant), material(tiny_lm), models).score_in(bench, RDSPlus().needs)
    assert len(list((tmp_path / "represent").iterdir())) == 2
    assert len(list((tmp_path / "score").iterdir())) == 2


@pytest.mark.parametrize("variant", ["paper", "reference"])
def test_keeps_the_contract(variant: str, tiny_lm: LM, models: LoadedModels) -> None:
    check_selector(RDSPlus(variant=variant), material(tiny_lm), models)


def test_a_pool_of_one_row(tiny_lm: LM, models: LoadedModels) -> None:
    for row, valid in ((("The pool opens late.", "Pool late"), True), (("word " * 700, "Words"), False)):
        data = dataclasses.replace(splits(), pool=examples((row,)))
        found = Trial(RDSPlus(), material(tiny_lm, data), models).score()
        assert found.choose(1, 0) == ["0"]
        assert np.isfinite(found.scores.values).all() == valid
