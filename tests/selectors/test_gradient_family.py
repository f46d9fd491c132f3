"""What holds for every method of the gradient family: passes forward and backward by the formulas of the spec (sections
2 to 8 and 13), reasons of rows without a score, and what is refused before anything runs."""

import dataclasses
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from rows import TASK, TOO_LONG, TRAINING, examples, material, splits
from transformers import Phi3Config

from dwbench.contract import Trial
from dwbench.cost import Cost
from dwbench.data.base import Splits
from dwbench.dry import AnswerLength, DryModels, Outlines
from dwbench.errors import UserError
from dwbench.models.chat import Chat
from dwbench.models.encoder import Encoder
from dwbench.models.spec import LM
from dwbench.representations.gradients import Gradients
from dwbench.rules.ranking import Scores
from dwbench.selectors.base import Checking, Selector, compute_scores
from dwbench.selectors.ccs import CCS
from dwbench.selectors.cluster_ucb import ClusterUCB
from dwbench.selectors.context import Context
from dwbench.selectors.dynamic import Dynamic
from dwbench.selectors.el2n import EL2N
from dwbench.selectors.g2is import G2IS
from dwbench.selectors.gist import GIST
from dwbench.selectors.gradients import check_target
from dwbench.selectors.grand import GraNd
from dwbench.selectors.less import LESS
from dwbench.selectors.losses import NO_RESPONSE
from dwbench.selectors.material import Material, Models
from dwbench.selectors.models import LoadedModels
from dwbench.selectors.s2l import S2L
from dwbench.selectors.staff import STAFF
from dwbench.store import Artefact, Bench, Store

N, TARGET, K = 20, 3, 4

WARMED: dict[str, Any] = {"warmup_share": 0.5, "epochs": 2}
SKETCHED: dict[str, Any] = {**WARMED, "dim": 64}

WARM_UP = 2 * N // 2
"""Passes of a warm-up for 2 epochs on half of the pool."""


class Passes(NamedTuple):
    """Of rows: tuning (forward and backward alike), and in representations forward and backward."""

    tuning: int
    forward: int
    backward: int


BOTH = N + TARGET

PASSES: dict[str, tuple[Selector, Passes]] = {
    "less": (LESS(**SKETCHED), Passes(WARM_UP, 2 * BOTH, 2 * BOTH)),
    "less_by_turns": (LESS(**SKETCHED, rule="round_robin"), Passes(WARM_UP, 2 * BOTH, 2 * BOTH)),
    "grand": (GraNd(), Passes(0, N, N)),
    "grand_last_v": (GraNd(part="last_v"), Passes(0, N, N)),
    "grand_lm_head": (GraNd(part="lm_head"), Passes(0, N, 0)),
    "grand_tuned": (GraNd(scorer="tuned", epochs=2), Passes(2 * N, N, N)),
    "el2n": (EL2N(), Passes(0, N, 0)),
    "el2n_tuned": (EL2N(scorer="tuned", epochs=2), Passes(2 * N, N, 0)),
    "ccs": (CCS(epochs=2), Passes(2 * N, 2 * N, 0)),
    "ccs_el2n": (CCS(score="el2n"), Passes(0, N, 0)),
    "s2l": (S2L(epochs=2, checkpoints_per_epoch=1), Passes(2 * N, 2 * N, 0)),
    "s2l_twice_an_epoch": (S2L(epochs=2, checkpoints_per_epoch=2), Passes(2 * N, 4 * N, 0)),
    "g2is": (G2IS(**SKETCHED), Passes(WARM_UP, BOTH, BOTH)),
    "gist": (GIST(**WARMED), Passes(WARM_UP, BOTH, BOTH)),
    # A budget of floor(0.3 N) gradients. Embeddings are counted apart.
    "cluster_ucb": (ClusterUCB(**SKETCHED, gradient_budget=0.3), Passes(WARM_UP, 6 + TARGET, 6 + TARGET)),
    "dynamic": (Dynamic(**SKETCHED, rounds=3), Passes(WARM_UP + 2 * K, 3 * BOTH, 3 * BOTH)),
}

EMBEDDED = frozenset({"embeddings", "pool_clusters"})


@pytest.fixture(scope="module")
def given(tiny_lm: LM, encoder: Encoder) -> Material:
    """20 rows, all with a response, and 3 of the target."""
    rows = tuple((f"Notice {n} of the town.", f"{n * 7919 % 1000} news " * (1 + n % 4)) for n in range(N))
    data = Splits(pool=examples(rows), target=splits().target, test=())
    return dataclasses.replace(
        material(tiny_lm, data, encoder=encoder), train=dataclasses.replace(TRAINING, batch_size=4)
    )


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """One store for all methods: what they share is computed once, and charged to each."""
    return Bench(Store(tmp_path_factory.mktemp("store")))


def used_by(
    selector: Selector, given: Material, models: Models, bench: Bench, name: str
) -> tuple[Scores, dict[str, Artefact]]:
    """A choice of K rows, and all results that it used."""
    context = Context(selector.needs, bench, given, models)
    found: list[Scores] = []
    allowed = np.ones(context.n_rows, dtype=np.bool_)
    stage = bench.stage("score", {"of": name}, lambda _: found.append(compute_scores(selector, context, K, allowed)))
    return found[0], bench.store.closure((stage.ref,))


def passes(used: dict[str, Artefact]) -> Passes:
    tuning, features = Cost(), Cost()
    for ref, artefact in used.items():
        if ref.startswith("train/"):
            tuning += artefact.cost
        elif ref.startswith("represent/"):
            manifest = json.loads((artefact.folder / "manifest.json").read_text())
            if manifest["identity"]["representation"] not in EMBEDDED:
                features += artefact.cost
    assert tuning.forward_calls == tuning.backward_calls
    return Passes(tuning.forward_calls, features.forward_calls, features.backward_calls)


@pytest.mark.parametrize("name", PASSES)
def test_passes_are_those_of_the_formula(name: str, given: Material, models: LoadedModels, bench: Bench) -> None:
    selector, expected = PASSES[name]
    _, used = used_by(selector, given, models, bench, name)
    assert passes(used) == expected


def test_passes_of_staff(given: Material, models: LoadedModels, bench: Bench) -> None:
    """Beside the tuning and the pass of the small model, one of the large one for at most `verified` rows a stratum."""
    found, used = used_by(STAFF(epochs=2, strata=2, verified=3), given, models, bench, "staff")
    verified = int(found.notes["rows_verified"])
    assert 2 <= verified <= 6
    assert passes(used) == Passes(2 * N, N + verified, N + verified)


def test_cluster_ucb_is_charged_for_embedding_and_clustering(
    given: Material, models: LoadedModels, bench: Bench
) -> None:
    _, used = used_by(PASSES["cluster_ucb"][0], given, models, bench, "clustered")
    stages = {
        json.loads((artefact.folder / "manifest.json").read_text())["identity"].get("representation"): artefact.cost
        for ref, artefact in used.items()
        if ref.startswith("represent/")
    }
    assert stages["embeddings"].forward_calls == N
    assert stages["pool_clusters"].seconds > 0


def test_the_estimate_charges_a_dense_projection(
    given: Material, models: LoadedModels, bench: Bench, tmp_path: Path
) -> None:
    selector = LESS(**SKETCHED, projection="rademacher")
    dry = DryModels(Outlines(models), TASK, given.train, lambda lm: AnswerLength(free=5, shown=4))
    flop = [
        sum((artefact.cost for artefact in used_by(selector, given, which, where, "dense")[1].values()), Cost()).flop
        for which, where in ((models, bench), (dry, Bench(Store(tmp_path))))
    ]
    assert flop[0] == pytest.approx(flop[1], rel=1e-12)
    _, sketched = used_by(PASSES["less"][0], given, models, bench, "less again")
    assert flop[0] > sum((artefact.cost for artefact in sketched.values()), Cost()).flop


WITH_REASONS: dict[str, Selector] = {
    "less": LESS(warmup_share=0.5, epochs=1, dim=64),
    "less_by_turns": LESS(warmup_share=0.5, epochs=1, dim=64, rule="round_robin"),
    "g2is": G2IS(warmup_share=0.5, epochs=1, dim=64),
    "gist": GIST(warmup_share=0.5, epochs=1),
    "cluster_ucb": ClusterUCB(warmup_share=0.5, epochs=1, dim=64, gradient_budget=1),
    "dynamic": Dynamic(warmup_share=0.5, epochs=1, dim=64, rounds=1),
    "gist_full": GIST(warmup_share=0.5, epochs=1, norm="full"),
    "grand": GraNd(),
    "ccs": CCS(score="grand", variant="reference"),
    "staff": STAFF(epochs=1),
}


@pytest.mark.parametrize("spoil", [np.nan, np.inf])
@pytest.mark.parametrize("name", WITH_REASONS)
def test_a_gradient_that_is_not_a_number_is_no_missing_response(
    name: str,
    spoil: float,
    tiny_lm: LM,
    encoder: Encoder,
    models: LoadedModels,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given = material(tiny_lm, encoder=encoder)
    bad = models.chat(tiny_lm).pair(TASK, next(row for row in splits().pool if row.id == "7"))
    real = Gradients._summed

    def spoilt(self: Gradients, pairs: Any, *others: Any) -> np.ndarray:
        found = real(self, pairs, *others)
        found[[pair == bad for pair in pairs]] = spoil
        return found

    monkeypatch.setattr(Gradients, "_summed", spoilt)
    selector = WITH_REASONS[name]
    found = Trial(selector, given, models).score_in(Bench(Store(tmp_path_factory.mktemp(name))), selector.needs, 3)
    reasons = dict(zip(found.ids, found.scores.reasons, strict=True))
    assert reasons == dict.fromkeys(found.ids, "") | {TOO_LONG: NO_RESPONSE, "7": "not a number"}
    assert set(found.choose(12, 0)[-2:]) == {TOO_LONG, "7"}


@pytest.mark.parametrize("name", ["less", "gist", "g2is"])
@pytest.mark.parametrize(("spoil", "told"), [(np.inf, "3 of its rows are not finite"), (0.0, "all of its")])
def test_target_gradients_that_give_no_direction(
    name: str,
    spoil: float,
    told: str,
    given: Material,
    models: LoadedModels,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real, collected = Gradients._summed, Gradients._collected

    def summed(self: Gradients, pairs: Any, *others: Any) -> np.ndarray:
        found = real(self, pairs, *others)
        return np.full_like(found, spoil) if len(pairs) == len(given.splits.target) else found

    def of_adapters(self: Gradients, *others: Any) -> dict[str, np.ndarray]:
        return {weight: np.full_like(part, spoil) for weight, part in collected(self, *others).items()}

    monkeypatch.setattr(Gradients, "_summed", summed)
    monkeypatch.setattr(Gradients, "_collected", of_adapters)
    with pytest.raises(UserError, match=told):
        used_by(WITH_REASONS[name], given, models, Bench(Store(tmp_path)), name)


TUNING: dict[str, Selector] = {
    **WITH_REASONS,
    "grand": GraNd(scorer="tuned", epochs=1),
    "el2n": EL2N(scorer="tuned", epochs=1),
    "ccs": CCS(epochs=1),
    "staff": STAFF(epochs=1),
    "s2l": S2L(epochs=1),
}


@pytest.mark.parametrize("name", TUNING)
def test_rows_that_can_not_be_tuned_on_make_no_steps(
    name: str, tiny_lm: LM, encoder: Encoder, models: LoadedModels, tmp_path: Path
) -> None:
    """Two steps of which one is warm-up do; the one of a pool of which half does not fit is nothing but warm-up."""
    selector = TUNING[name]
    assert isinstance(selector, Checking)
    long, short = ("word " * 700, "Words"), ("The sun is out.", "Sun")
    train = dataclasses.replace(TRAINING, batch_size=1, warmup_ratio=0.5)

    def check(*rows: tuple[str, str]) -> None:
        share = {"warmup_share": 1.0} if hasattr(selector, "warmup_share") else {}
        whole = dataclasses.replace(selector, **share)  # type: ignore[type-var]
        data = Splits(pool=examples(rows), target=splits().target, test=())
        of = dataclasses.replace(material(tiny_lm, data, encoder=encoder), train=train)
        if isinstance(whole, ClusterUCB):
            whole = dataclasses.replace(whole, gradient_budget=1)  # type: ignore[type-var]
        whole.check(Context(selector.needs, Bench(Store(tmp_path)), of, models))

    check(short, short)
    with pytest.raises(UserError, match="1 rows make 1 optimizer step, all of it warm-up"):
        check(short, long)
    with pytest.raises(UserError, match="pool: no row has a response token within the scoring model's max_length=512"):
        check(long, long)
    assert not list(tmp_path.iterdir())


@dataclasses.dataclass(frozen=True)
class WithoutValues:
    """Models of which one, by name, is of an architecture with one weight for queries, keys and values."""

    loaded: LoadedModels
    name: str

    def chat(self, lm: LM) -> Chat:
        return self.loaded.chat(lm)

    def config(self, lm: LM) -> Any:
        if lm.name != self.name:
            return self.loaded.config(lm)
        sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
        return Phi3Config(**sizes, num_key_value_heads=2, vocab_size=90, pad_token_id=0)


@pytest.mark.parametrize(
    ("selector", "name"),
    [
        (STAFF(), "small"),
        (STAFF(), "large"),
        (GraNd(part="last_v"), "small"),
        (GraNd(part="last_v_lora_b", scorer="tuned"), "small"),
    ],
)
def test_a_model_without_a_value_projection_is_refused_beforehand(
    selector: STAFF | GraNd, name: str, given: Material, models: LoadedModels, tmp_path: Path
) -> None:
    two = dataclasses.replace(
        given,
        scorer=dataclasses.replace(given.scorer, name="small"),
        model=dataclasses.replace(given.model, name="large"),
    )
    context = Context(selector.needs, Bench(Store(tmp_path)), two, WithoutValues(models, name))  # type: ignore[arg-type]
    with pytest.raises(UserError, match="phi3 model without layers for 'last_v' gradients: take another model"):
        selector.check(context)
    GraNd().check(context)


@pytest.mark.parametrize("spoil", [np.nan, np.inf])
def test_a_target_row_with_one_entry_that_is_not_finite_is_refused(spoil: float) -> None:
    found = np.ones((3, 2))
    found[1, 0] = spoil
    with pytest.raises(UserError, match="gradients of 1 of its rows are not finite"):
        check_target(found)


def test_a_target_row_without_gradient_beside_others_is_not_refused() -> None:
    check_target(np.array([[0.0, 0.0], [0.0, 1.0]]))
