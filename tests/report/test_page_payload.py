"""What the report page is made of: which runs stand together, fronts, sentences, details."""

import json
from pathlib import Path
from typing import Any

import pytest
from made_records import POOL, made
from page_records import HOSTILE, chosen_only, enriched, one, said, sample, scored, study

from dwbench.records import Record
from dwbench.report.page.ablations import commands
from dwbench.report.page.payload import payload
from dwbench.report.page.published_points import every_published, points
from dwbench.report.page.rows import fronts, pareto, rows
from dwbench.report.page.settings import Setting, settings


def test_a_setting_holds_one_pool_and_model() -> None:
    found = settings([made(), made("ifd"), made(dataset="gsm8k"), made("zero_shot")])
    assert [(one.title, len(one.records)) for one in found] == [
        ("dialogsum (pool 1,000, target 50, test 64), smollm2-135m", 3),
        ("gsm8k (pool 1,000, target 50, test 64), smollm2-135m", 1),
    ]


def test_other_training_makes_another_setting_and_zero_shot_belongs_to_both() -> None:
    found = settings([made(), made(rate=2e-4), made("zero_shot")])
    assert [len(one.records) for one in found] == [2, 2]
    assert all("learning_rate=" in one.title for one in found)
    assert len({one.title for one in found}) == 2


def test_other_evaluation_makes_another_setting() -> None:
    found = settings([made(), made("ifd", nll_rows=8), made("zero_shot")])
    assert sorted(len(one.records) for one in found) == [1, 2]


def test_commands_that_are_shown_suit_every_configured_model() -> None:
    (setting,) = settings([made()])
    layers = commands(setting)["layer"].partition("selector.layer=")[2].split(",")
    assert max(map(int, layers)) < 16  # the layers of llama3.2-1b-instruct, the fewest


def test_hardware_is_not_mixed_unless_asked_for() -> None:
    records = [made(), made("ifd", cores=64)]
    apart = settings(records)
    assert [len(one.records) for one in apart] == [1, 1]
    assert all("hardware.cores=" in one.title and not one.mixed for one in apart)
    (mixed,) = settings(records, allow_mixed=True)
    assert "hardware.cores 2 (1 record), 64 (1 record)" in mixed.mixed


def test_runs_that_only_chose_stand_apart() -> None:
    tuned, only = settings([made(), chosen_only(made("ifd"))])
    assert (tuned.evaluated, only.evaluated) == (True, False)
    assert only.title.endswith(", chosen only")
    assert one([chosen_only(made("ifd"))])["headline"] is None


def test_planted_noise_is_another_data_set() -> None:
    planted = enriched(
        made("ifd"), dataset={"kinds": {"clean": 900, "empty": 100}}, selection={"kinds": {"clean": 100}}
    )
    # As in a real record: other rows, another fingerprint.
    prints = {**planted.data["dataset"]["fingerprints"], "pool": "f" * 20}
    told = payload([made(), enriched(planted, dataset={"fingerprints": prints})], ())["settings"]
    assert [setting["dataset"] for setting in told] == ["dialogsum", "dialogsum with planted noise"]
    (audit,) = told[1]["chosen"]["kinds"]
    assert audit["pool"] == {"clean": 0.9, "empty": 0.1}
    assert audit["selectors"]["ifd"]["clean"][0] == 1


@pytest.mark.parametrize(
    ("points", "front"),
    [
        ([(1, 5), (2, 4), (3, 6)], [0, 2]),
        ([(3, 6), (1, 5), (1, 7)], [2]),
        ([(1, 5), (1, 5), (0, 4)], [2, 0]),
        ([(0, 1)], [0]),
        ([], []),
    ],
)
def test_a_pareto_front_by_hand(points: list[tuple[float, float]], front: list[int]) -> None:
    assert pareto(range(len(points)), lambda at: points[at][0], lambda at: points[at][1]) == front


def test_fronts_are_drawn_for_each_budget_and_without_bounds() -> None:
    records = [
        made("random", select=(0.0, 0.0), metrics={"nll": (2.0, 0.1)}),
        made("ifd", select=(50.0, 1e15), metrics={"nll": (1.8, 0.1)}),
        made("low_ppl", select=(20.0, 2e15), metrics={"nll": (1.9, 0.1)}),
        made("nuggets", select=(90.0, 3e15), metrics={"nll": (1.85, 0.1)}),
        made("ifd", rows=50, select=(50.0, 1e15), metrics={"nll": (1.95, 0.1)}),
        made("full", train_seconds=100.0, metrics={"nll": (1.0, 0.1)}),
        made("zero_shot", metrics={"nll": (0.5, 0.1)}),
    ]
    (setting,) = settings(records)
    found = rows(setting)
    named = {
        cost: [[(found[at]["label"], found[at]["budget"]) for at in front] for front in by_budget]
        for cost, by_budget in fronts(found, "nll").items()
    }
    assert named["seconds"] == [[("ifd", 50)], [("random", 100), ("low_ppl", 100), ("ifd", 100)]]
    assert named["flop"] == [[("ifd", 50)], [("random", 100), ("ifd", 100)]]
    costs = {(row["label"], row["budget"]): row["cost"] for row in found}
    assert costs["ifd", 100] == {"seconds": 0.5, "flop": 0.2, "total": 0.8}
    assert costs["full", POOL]["total"] == 1
    assert costs["zero_shot", None]["total"] == 0


def test_a_cost_that_is_not_known_is_on_no_front() -> None:
    differ = {"hardware.cores": {"selection": [2], "training": [64], "evaluation": [2]}}
    odd = enriched(made("ifd"), environments_differ=differ)
    setting = one([made(), odd])
    row = next(row for row in setting["rows"] if row["label"] == "ifd")
    assert row["cost"]["seconds"] is None
    assert all(setting["rows"].index(row) not in front for front in setting["fronts"]["rouge_l"]["seconds"])


def test_what_pays_is_said_first() -> None:
    setting = payload(study(seeds=(0, 1, 2)), ())["settings"][0]
    told = setting["said"]["metrics"]["rouge_l"]
    paying = {budget: said(sentence) for budget, sentence in told["pays"]}
    assert paying[100].startswith("100 rows: on the front and better than random by more than chance: data_whisperer (")
    assert "nuggets" in paying[100]
    assert "low_ppl" not in paying[100]
    (verdicts,) = [said(sentence) for budget, sentence in told["verdicts"] if budget == 50]
    assert "worse than random: low_ppl" in verdicts
    assert "over seeds and rows" in verdicts
    better = verdicts.split("better than random: ")[1].split(";")[0]
    assert {"nuggets", "data_whisperer"} == set(better.split(", "))
    front = said(told["fronts"]["seconds"][0][1])
    assert front.startswith(
        "50 rows: on the Pareto front of rouge_l ↑ against STR in seconds, cheapest first: random ("
    )
    assert "at ≈ 0)" in front


def test_what_is_not_tested_is_said() -> None:
    records = [made(), made("ifd")]
    assert "not tested: these records hold no scores by test row" in said(
        one(records)["said"]["metrics"]["nll"]["pays"][0][1]
    )
    lonely = [scored("ifd", [0.1, 0.2, 0.4]), scored("low_ppl", [0.1, 0.2, 0.3])]
    told = one(lonely)["said"]["metrics"]["rouge_l"]
    assert "can't be told: no run of random" in said(told["pays"][0][1])
    assert said(told["verdicts"][0][1]).endswith("no run of random.")


def test_costs_and_budgets_are_said() -> None:
    setting = payload(study(), ())["settings"][0]
    costs = said(setting["said"]["costs"])
    assert costs.startswith("Dearest selection: nuggets, 900 s (STR 3).")
    assert "More than tuning on the whole pool: nuggets." in costs
    assert "50 rows: nuggets (" in said(setting["said"]["metrics"]["rouge_l"]["budgets"])
    assert "One budget only" in said(one([made(), made("ifd")])["said"]["metrics"]["nll"]["budgets"])


def test_seeds_are_averaged_and_every_run_is_reachable() -> None:
    setting = one([made(seed=seed, metrics={"nll": (1.0 + seed, 0.5)}) for seed in range(3)])
    (row,) = setting["rows"]
    assert row["scores"]["nll"] == [2.0, pytest.approx(0.57735), 64, 3, "2.00 ±0.58"]
    assert len(row["runs"]) == 3


def test_stages_are_summed_by_kind() -> None:
    record = made("ifd", select=(5.0, 1e15))
    costs = {name: dict(part) for name, part in record.data["cost"].items()}
    total = costs["selection"]["total"]
    costs["selection"]["stages"] = {"represent/a": total, "represent/b": total, "score/c": total}
    (row,) = one([enriched(record, cost=costs)])["rows"]
    assert row["stages"]["selection: represent"] == [10.0, 2e15]
    assert row["stages"]["training"] == [30.0, 1e14]
    (bound,) = one([made("full")])["rows"]
    assert not any(name.startswith("selection") for name in bound["stages"])


def whisperer(n_d: int, n_q: int, layer: int | None = None) -> Record:
    identity = {"class": "DataWhisperer", "n_d": n_d, "n_q": n_q, "layer": layer}
    record = made("data_whisperer", label=f"data_whisperer(n_d={n_d}, n_q={n_q}, layer={layer})")
    return enriched(record, selector={"identity": identity})


def test_settings_of_data_whisperer_are_laid_out() -> None:
    setting = one([whisperer(5, 3), whisperer(5, 10), whisperer(10, 3), whisperer(5, 3, layer=7), made()])
    (grid,) = setting["grids"]
    assert sorted(cell[:2] for cell in grid["cells"]) == [[5, 3], [5, 10], [10, 3]]
    (curve,) = setting["layers"]
    assert [layer for layer, _ in curve["cells"]] in ([None, 7], [7, None])
    names = {setting["rows"][place]["label"] for *_, place in grid["cells"]}
    assert len(names) == 3
    assert one([whisperer(5, 3), made()])["grids"] == []
    assert "selector.n_d=5,10,15" in setting["commands"]["grid"]


def ranked(selector: str, places: list[float | None], **options: Any) -> Record:
    return enriched(made(selector, **options), selection={"places": places})


def test_agreement_keeps_one_half_in_hundredths() -> None:
    up, down = [float(place) for place in range(1, 11)], [float(place) for place in range(10, 0, -1)]
    setting = one([ranked("random", up, rows=2), ranked("ifd", down, rows=2)])
    (found,) = setting["agreement"]
    assert found["spearman"] == [[], [-100]]
    assert found["overlap"] == [[], [100]]  # made-up records all choose the same ids
    assert found["rows"] == 2
    told = said(found["said"])
    assert "rank correlation -1.00" in told
    assert "share 100% of their rows on average; two random ones would share 0%" in told


def test_perplexity_is_told_by_rank_where_only_that_is_known() -> None:
    up = [float(place) for place in range(1, POOL + 1)]
    records = [
        ranked("low_ppl", up, rows=100, scorer="smollm2-135m"),
        ranked("high_ppl", up[::-1], rows=100, scorer="smollm2-135m"),
        ranked("ifd", [None, *up[1:]], rows=100),
    ]
    ranks = one(records)["chosen"]["ranks"]
    assert ranks["scorer"] == "smollm2-135m"
    labels = [row["label"] for row in one(records)["rows"]]
    assert {labels[place]: rank for place, rank in ranks["rows"]} == pytest.approx(
        {"low_ppl": 0.05, "high_ppl": 0.95, "ifd": 0.05}, abs=1e-3
    )
    assert one([made(), made("ifd")])["chosen"]["ranks"] is None


def test_perplexity_as_recorded_goes_with_the_pools() -> None:
    spread = {"rows": 100, "undefined": 0, "mean": 3.0, "quartile_1": 2.0, "median": 2.5, "quartile_3": 4.0}
    pool = {**spread, "median": 5.0}

    def told(seed: int, median: float, by: str = "smollm2-135m") -> Record:
        front = {"chosen": {**spread, "median": median}, "pool": pool}
        fronts = {"given_prompt": front, "alone": front}
        return enriched(
            made("ifd", seed=seed),
            selection={
                "ids": [f"row-{seed}-{number}" for number in range(100)],
                "perplexity": fronts,
                "perplexity_by": {"name": by, "identity": {"weights": by}},
            },
        )

    every = [told(0, 2.0), told(1, 3.0), told(2, 9.0, by="another")]
    found = one(every)["chosen"]["perplexity"]
    # Over seeds the mean, and models that tell of it apart, as in `dwbench table --perplexity`.
    assert [(told["front"], told["pool"], told["rows"]) for told in found if "under smollm2" in told["title"]] == [
        (front, [2.0, 5.0, 4.0], [["ifd", 100, every[0].run, [2.0, 2.5, 4.0]]])
        for front in ("given the prompt", "alone")
    ]
    assert [told["rows"][0][3] for told in found if "under another" in told["title"]] == [[2.0, 9.0, 4.0]] * 2


def test_lengths_stand_beside_the_pools() -> None:
    choices = one([made("ifd"), made("full")])["chosen"]
    assert choices["lengths"] == [[0, 50.0, 20.0]]
    assert choices["pool"] == [50.0, 20.0]
    # Without a run on all rows: tuning takes 100,000 tokens in 2 epochs over 1,000 rows.
    assert one([made("ifd")])["chosen"]["pool"] == [50.0, None]


def test_details_of_runs_share_what_is_the_same() -> None:
    records = [
        enriched(
            made(seed=seed), selection={"samples": [sample("a", True), sample("b", False)]}, config={"model": {"a": 1}}
        )
        for seed in (0, 1)
    ]
    told = payload(records, ())
    first, second = told["runs"].values()
    assert first["settings"] == second["settings"]
    assert told["shared"][first["settings"]["model"]] == {"a": 1}
    assert first["samples"][0][1] == first["samples"][1][1] == second["samples"][0][1]
    assert told["shared"][first["samples"][0][1]] == "What?"
    assert first["str"] == [pytest.approx(2 / 300), 0.2, True]
    assert first["metrics"]["nll"] == [1.5, 0.03125, 64, "1.500 ±0.031"]
    assert first["stages"][1][:4] == ["training", "training", 1, 30.0]
    assert payload([made()], ())["runs"].popitem()[1]["samples"] is None


PUBLISHED = """model,dataset,selector,budget,metric,value,method,caveat,source
smollm2-135m,dialogsum,ifd,5%,rouge_l,31.5,IFD,,Table 9
smollm2-135m,dialogsum,ifd,5%,str_with_tuning,0.4,IFD,,Table 9
smollm2-135m,dialogsum,zero_shot,,rouge_l,12,Zero-shot,odd,Table 9
smollm2-135m,dialogsum,ifd,1%+5%,rouge_l,30,IFD,,Table 9
smollm2-135m,gsm8k,ifd,5%,exact_match_strict,31.5,IFD,,Table 9
"""


@pytest.fixture
def own_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "conf" / "published").mkdir(parents=True)
    (tmp_path / "conf" / "published" / "own.csv").write_text(PUBLISHED)


@pytest.mark.usefixtures("own_numbers")
def test_published_numbers_of_the_same_data_and_model_are_points() -> None:
    numbers = every_published()
    assert len(numbers) > 100  # the package's own are among them
    (setting,) = settings([made()])
    found = {(point["selector"], point["asked"]): point for point in points(setting, numbers)}
    assert found.keys() == {("ifd", "5%"), ("zero_shot", "")}
    five = found["ifd", "5%"]
    assert (five["value"], five["rows"], five["total"]) == (0.315, 50.0, 0.4)
    assert (found["zero_shot", ""]["rows"], found["zero_shot", ""]["total"]) == (None, 0.0)
    assert found["zero_shot", ""]["caveat"] == "odd"


def test_every_published_number_has_a_place() -> None:
    numbers = every_published()
    by_place = {(one.model, one.dataset) for one in numbers}
    template = settings([made()])[0]
    for model, dataset in by_place:
        section = type(template.section)(**{**vars(template.section), "model": model, "dataset": dataset, "pool": 20})
        here = Setting(template.title, section, template.records, True, "", {})
        assert all(point["value"] < 200 for point in points(here, numbers))


def test_the_payload_is_plain_and_knows_its_texts() -> None:
    told = payload(study(), ())
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    assert HOSTILE in told["shared"]
    assert any(HOSTILE in row["label"] for row in told["settings"][0]["rows"])
