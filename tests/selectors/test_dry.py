"""The engines that compute nothing: they book for every selector what the real ones do."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hydra.utils import instantiate
from rows import TASK, TRAINING, material
from tiny_encoder import tiny_encoder_in

from dwbench.cost import Cost
from dwbench.dry import AnswerLength, DryModels, Outlines
from dwbench.models.spec import LM
from dwbench.selectors.base import Selector, compute_scores
from dwbench.selectors.context import Context
from dwbench.selectors.material import Material, Models
from dwbench.selectors.models import LoadedModels
from dwbench.store import Bench, Store

CONF = Path(__file__).resolve().parents[2] / "conf" / "selector"

WARMED = {"warmup_share": 0.5, "epochs": 2}

SMALL: dict[str, dict[str, Any]] = {
    "attention_influence": {"probes": 2, "probe_tokens": 600},
    "ccs": {"epochs": 1},
    "cluster_ucb": {**WARMED, "dim": 64, "gradient_budget": 1.0},
    "data_whisperer": {"n_d": 3, "n_q": 2},
    "diverse_evol": {"rounds": 2, "epochs": 1},
    "dynamic": {**WARMED, "dim": 64, "rounds": 2},
    "g2is": {**WARMED, "dim": 64},
    "gist": WARMED,
    "less": {**WARMED, "dim": 64},
    "nuggets": {"m": 12},
    "s2l": {"epochs": 1},
    "staff": {"epochs": 1},
}
"""Settings for a pool of 12 rows."""

GENERATE = frozenset(
    {"data_whisperer", "facility_location_hybrid", "least_confidence", "mean_entropy", "mean_margin", "min_margin"}
)
"""What they cost depends on how long answers get."""

READ_OTHER_ROWS = frozenset({"diverse_evol", "dynamic", "miwv", "staff", "superfiltering_d"})
"""Which rows they tune on, show or embed depends on what came out before; how many does not."""

LENGTH = AnswerLength(free=5, shown=4)


@pytest.fixture(scope="module")
def given(tiny_lm: LM, tmp_path_factory: pytest.TempPathFactory) -> Material:
    folder = tmp_path_factory.mktemp("encoder")
    encoder = tiny_encoder_in(folder)
    # With it, sentence-transformers puts every text into a chat.
    (folder / "chat_template.jinja").unlink()
    lm = dataclasses.replace(tiny_lm, max_length=640)  # room for a probe
    return dataclasses.replace(
        material(lm, encoder=encoder), train=dataclasses.replace(TRAINING, batch_size=4, epochs=2)
    )


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(Store(tmp_path_factory.mktemp("real")))


@pytest.fixture(scope="module")
def dry(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(Store(tmp_path_factory.mktemp("dry")))


@pytest.fixture(scope="module")
def dry_models(models: LoadedModels, given: Material) -> DryModels:
    return DryModels(Outlines(models), TASK, given.train, lambda lm: LENGTH)


def selector_named(name: str) -> Selector:
    configured = yaml.safe_load((CONF / f"{name}.yaml").read_text(encoding="utf-8"))
    found: Selector = instantiate(configured | SMALL.get(name, {}))
    return found


def cost_of(name: str, given: Material, models: Models, bench: Bench) -> Cost:
    """All that a choice of 3 rows costs, transitively. Of 4, superfiltering_d finds but 3 with an IFD below 1 here."""
    selector = selector_named(name)
    context = Context(selector.needs, bench, given, models)
    allowed = np.ones(context.n_rows, dtype=np.bool_)

    def build(folder: Path) -> None:
        found = compute_scores(selector, context, 3, allowed)
        assert len(found.values) == context.n_rows

    stage = bench.stage("score", {"of": name}, build)
    return sum((used.cost for used in bench.store.closure((stage.ref,)).values()), Cost())


def counts(cost: Cost) -> dict[str, float]:
    return {name: value for name, value in cost.to_json().items() if name not in ("seconds", "peak_bytes", "apart")}


@pytest.mark.parametrize("name", sorted(path.stem for path in CONF.glob("*.yaml")))
def test_books_what_the_real_engines_do(
    name: str, given: Material, models: LoadedModels, dry_models: DryModels, real: Bench, dry: Bench
) -> None:
    expected, found = (
        counts(cost_of(name, given, which, bench)) for which, bench in ((models, real), (dry_models, dry))
    )
    if name in GENERATE | READ_OTHER_ROWS:
        expected, found = ({name: value for name, value in of.items() if "calls" in name} for of in (expected, found))
    assert found == pytest.approx(expected, rel=1e-12)
