"""GraNd: norms against autograd and golden values, what each part needs, and tuned scorers."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from rows import TASK, TOO_LONG, TRAINING, examples, material, splits
from scoring import golden

from dwbench.contract import Scored, Trial, check_selector
from dwbench.data.base import Example, Splits, Task
from dwbench.models.chat import Chat
from dwbench.models.loading import load_model
from dwbench.models.spec import LM
from dwbench.representations.gradients import GradientPart, Gradients
from dwbench.selectors.grand import GraNd
from dwbench.selectors.material import Material
from dwbench.selectors.models import LoadedModels
from dwbench.store import Bench, Store


def score(selector: GraNd, given: Material, models: Any, bench: Bench) -> Scored:
    return Trial(selector, given, models).score_in(bench, selector.needs)


def costs(bench: Bench) -> list[Any]:
    found = [
        bench.store.get(f"represent/{path.parent.name}") for path in bench.store.root.glob("represent/*/manifest.json")
    ]
    return [one.cost for one in found]


def test_the_last_value_projection_against_autograd(tiny_lm: LM, models: LoadedModels, tmp_path: Path) -> None:
    import torch

    found = score(GraNd(part="last_v"), material(tiny_lm), models, Bench(Store(tmp_path)))
    by_id = dict(zip(found.ids, found.scores.values, strict=True))
    model, chat = load_model(tiny_lm), models.chat(tiny_lm)
    weight = model.model.layers[-1].self_attn.v_proj.weight
    for row in splits().pool:
        if row.id == TOO_LONG:
            assert np.isnan(by_id[row.id])
            continue
        context, response = chat.context(TASK, row), chat.response(row)
        labels = torch.tensor([[-100] * len(context) + list(response)])
        loss = model(input_ids=torch.tensor([[*context, *response]]), labels=labels).loss
        (gradient,) = torch.autograd.grad(loss, weight)
        assert by_id[row.id] == pytest.approx(float(gradient.norm()), rel=1e-4)
    hardest = sorted(splits().pool, key=lambda row: -np.nan_to_num(by_id[row.id], nan=-1))
    assert found.choose(3, 0)[:1] == [hardest[0].id]


def test_untuned_adapters_are_seen_through_b(tiny_lm: LM, models: LoadedModels, tmp_path: Path) -> None:
    """Of all adapters those of one layer's value projection are a part; the draw of A has its say, and it is stored."""
    bench = Bench(Store(tmp_path))
    all_parts = score(GraNd(), material(tiny_lm), models, bench).scores.values
    one = score(GraNd(part="last_v_lora_b"), material(tiny_lm), models, bench).scores.values
    known = ~np.isnan(one)
    assert known.sum() == 11
    assert ((one[known] > 0) & (one[known] < all_parts[known])).all()
    assert len(list((tmp_path / "train").glob("[0-9a-f]*"))) == 1
    other = score(GraNd(), material(tiny_lm, seed=1), models, bench).scores.values
    assert not np.allclose(all_parts[known], other[known], rtol=1e-3)


@pytest.mark.parametrize(("part", "backward"), [("lora_all", 11), ("last_v", 11), ("lm_head", 0)])
def test_cost_is_counted(part: GradientPart, backward: int, tiny_lm: LM, models: LoadedModels, tmp_path: Path) -> None:
    bench = Bench(Store(tmp_path))
    for offset in (0.0, 0.3):
        score(GraNd(part=part, offset=offset), material(tiny_lm), models, bench)
    (cost,) = costs(bench)
    assert (cost.forward_calls, cost.backward_calls) == (11, backward)


def test_needs_are_those_of_the_part() -> None:
    """Where no adapter has to be drawn there is no seed in the key."""
    plain = {"responses", "task", "scorer"}
    for part in ("last_v", "lm_head"):
        assert GraNd(part=part).needs == plain
        assert GraNd(part=part, scorer="tuned").needs == plain | {"training", "seed"}
    for part in ("lora_all", "last_v_lora_b"):
        assert GraNd(part=part).needs == plain | {"training", "seed"}


def test_a_tuned_scorer_has_other_gradients(tiny_lm: LM, models: LoadedModels, tmp_path: Path) -> None:
    given = dataclasses.replace(
        material(tiny_lm), train=dataclasses.replace(TRAINING, batch_size=4, learning_rate=1e-2)
    )
    bench = Bench(Store(tmp_path))
    base, tuned = (
        score(GraNd(part="last_v", scorer=scorer, epochs=1), given, models, bench).scores.values
        for scorer in ("base", "tuned")
    )
    known = ~np.isnan(base)
    assert not np.allclose(base[known], tuned[known], rtol=1e-2)
    np.testing.assert_array_equal(np.isnan(tuned), ~known)


@pytest.mark.parametrize("settings", [{"offset": 1.0}, {"epochs": 0}, {"part": "lora"}])
def test_settings_that_mean_nothing(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        GraNd(**settings)


def test_yaml_spells_out_the_defaults() -> None:
    path = Path(__file__).resolve().parents[2] / "conf" / "selector" / "grand.yaml"
    fields = yaml.safe_load(path.read_text())
    assert fields.pop("_target_") == "dwbench.selectors.grand.GraNd"
    assert fields == dataclasses.asdict(GraNd())  # type: ignore[call-overload]


@dataclasses.dataclass(frozen=True)
class StoredChat(Chat):
    """Contexts and responses with the ids that the golden case stores, by the row's text."""

    stored: list[dict[str, Any]]

    def context(self, task: Task, example: Example) -> tuple[int, ...]:
        return next(tuple(row["context_ids"]) for row in self.stored if row["context"] == example.input)

    def response(self, example: Example) -> tuple[int, ...]:
        return next(tuple(row["response_ids_with_eos"]) for row in self.stored if row["response"] == example.response)


@dataclasses.dataclass(frozen=True)
class StoredModels:
    """The real model with that chat."""

    loaded: LoadedModels
    stored: Chat

    def chat(self, lm: LM) -> Chat:
        return self.stored

    def gradients(self, lm: LM, bench: Bench, adapter: Path | None = None) -> Gradients:
        return self.loaded.gradients(lm, bench, adapter)


GOLDEN_ROWS = (2, 4, 6, 9)
"""The shorter ones."""


@pytest.mark.parametrize(("part", "name"), [("lm_head", "grand_lm_head"), ("last_v", "grand_v_proj_29")])
def test_golden_norms(
    part: GradientPart, name: str, shared: Path, smollm2: LM, models: LoadedModels, tmp_path: Path
) -> None:
    data = golden(shared, "el2n_grand/case_main")
    rows = [data["inputs"]["rows"][number] for number in GOLDEN_ROWS]
    pool = examples(tuple((row["context"], row["response"]) for row in rows))
    given = material(smollm2, Splits(pool=pool, target=(), test=()))
    stored = StoredModels(models, StoredChat(models.chat(smollm2).tokenizer, 1024, rows))
    found = score(GraNd(part=part), given, stored, Bench(Store(tmp_path)))
    for id, value in zip(found.ids, found.scores.values, strict=True):
        want = data["expected"]["rows"][GOLDEN_ROWS[int(id)]]
        assert value == pytest.approx(want[name], rel=data["tolerance"]["suggested_rel_norms"])


@pytest.mark.parametrize(
    "selector",
    [
        GraNd(),
        GraNd(part="lm_head", offset=0.2),
        GraNd(part="last_v"),
    ],
)
def test_keeps_the_contract(selector: GraNd, tiny_lm: LM, models: LoadedModels) -> None:
    check_selector(selector, material(tiny_lm), models)
