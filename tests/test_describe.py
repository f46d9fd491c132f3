"""The perplexity of what was chosen: against losses worked out one by one, and by which stages."""

import json
from pathlib import Path

import numpy as np
import pytest

from dwbench.config import build_run, compose
from dwbench.data.base import RawRow, Splits, number_rows
from dwbench.describe import description, perplexities, spread
from dwbench.errors import UserError
from dwbench.models.chat import Pair
from dwbench.models.encoder import Encoder
from dwbench.models.spec import LM
from dwbench.selectors.material import Material
from dwbench.selectors.models import LoadedModels
from dwbench.store import Bench, Store
from dwbench.training.sft import LoraSFT

INPUTS = ("The pool opens late.", "The bus is late today.", "The school has new windows.", "word " * 700)


def material(lm: LM) -> Material:
    task = build_run(compose(["dataset=embedded"])).dataset.task
    pool = number_rows(RawRow(str(n), text, f"Headline {n}", f"row {n}") for n, text in enumerate(INPUTS))
    return Material(Splits(pool, (), ()), task, lm, lm, Encoder(name="none", source="none"), LoraSFT(), 0)


def test_quartiles_by_hand() -> None:
    found = spread(np.array([4.0, np.nan, 1.0, 2.0, 8.0, 10.0]))
    assert found == {
        "rows": 6,
        "undefined": 1,
        "mean": 5.0,
        "quartile_1": 2.0,
        "median": 4.0,
        "quartile_3": 8.0,
    }
    assert spread(np.array([np.nan])) == {"rows": 1, "undefined": 1}


def test_perplexity_of_the_chosen_beside_the_pool(tiny_lm: LM, models: LoadedModels, tmp_path: Path) -> None:
    given, bench = material(tiny_lm), Bench(Store(tmp_path))
    pool, chat = given.splits.pool, models.chat(tiny_lm)
    found = perplexities(bench, given, models, [pool[1].uid])
    losses: list[np.ndarray] = []
    pairs = [chat.pair(given.task, row) for row in pool[:3]]
    alone = [Pair(chat.answer_header(), pair.response) for pair in pairs if pair is not None]
    bench.stage("test", {}, lambda _: losses.extend(models.scorer(tiny_lm, bench).token_nll([*pairs, *alone])))
    expected = np.exp([loss.mean() for loss in losses])
    for front, values in (("given_prompt", expected[:3]), ("alone", expected[3:])):
        assert found[front]["chosen"]["mean"] == pytest.approx(values[1])
        assert found[front]["pool"]["median"] == pytest.approx(np.median(values))
        assert (found[front]["pool"]["rows"], found[front]["pool"]["undefined"]) == (4, 1)
    assert found["given_prompt"]["chosen"]["mean"] != found["alone"]["chosen"]["mean"]


def test_it_is_of_the_named_model_and_of_no_other(
    tiny_lm: LM, models: LoadedModels, smollm2: LM, tmp_path: Path
) -> None:
    told = description(Bench(Store(tmp_path)), material(smollm2), models, {"x": 3}, False, None)
    assert told == {"diversity": {}, "described_by": None, "perplexity": {}, "perplexity_by": None}
    given = material(smollm2)
    uid = given.splits.pool[0].uid
    told = description(Bench(Store(tmp_path)), given, models, {uid: 3}, False, tiny_lm)
    assert told["perplexity_by"]["name"] == "tiny"
    (weights,) = {
        json.dumps(json.loads(path.read_text())["identity"]["scorer"]["weights"])
        for path in tmp_path.glob("represent/*/manifest.json")
    }
    assert weights == json.dumps(tiny_lm.weights_identity())
    assert description(Bench(Store(tmp_path)), given, models, {}, True, tiny_lm)["perplexity"] == {}


def test_by_which_model(tiny_lm: LM) -> None:
    scorer = f"scorer_model={tiny_lm.source}"
    assert build_run(compose([scorer])).perplexity is None
    run = build_run(compose([scorer, "perplexity=true"]))
    assert run.perplexity is run.scorer
    run = build_run(compose([scorer, "perplexity=true", "perplexity_model=smollm2-135m"]))
    assert run.perplexity is not None
    assert run.perplexity.name == "smollm2-135m"
    with pytest.raises(UserError, match=r"^perplexity_model: goes with perplexity=true"):
        build_run(compose(["perplexity_model=smollm2-135m"]))
