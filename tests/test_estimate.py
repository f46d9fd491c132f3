"""What a sweep will cost: against the same sweep really run, and the parts that the numbers are made of."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from dwbench import estimate as estimating
from dwbench.amounts import Amount, extrapolated, total
from dwbench.cli import main
from dwbench.commands.check import HELP
from dwbench.commands.estimate import told
from dwbench.component import identity
from dwbench.cost import Cost
from dwbench.estimate import FEW, PARTS, WHOLE, Estimate, estimate, measured, models_of, sizes_in_parts
from dwbench.models.spec import LM
from dwbench.selectors import ifd
from dwbench.selectors.models import LoadedModels
from dwbench.selectors.nuggets import Nuggets
from dwbench.selectors.staff import STAFF
from dwbench.store import Artefact, Bench, Store
from dwbench.sweep import Sweep, plan
from dwbench.throughput import Given, Measured, Work, model_key, work_of

SMALL = [
    "dataset=embedded",
    "dataset.pool_rows=16",
    "dataset.target_rows=2",
    "dataset.test_rows=4",
    "train=small",
    "budget=0.25",
    "tracker=none",
]

Planning = Callable[..., Sweep]


@pytest.fixture
def tiny(tiny_lm: LM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Arguments of small runs in an empty folder."""
    monkeypatch.chdir(tmp_path)
    model = [f"model.source={tiny_lm.source}", "model.name=tiny", "model.dtype=float32", "model.max_length=512"]
    return [*SMALL, *model]


def estimated(arguments: list[str], models: LoadedModels, answer_tokens: int | None = None) -> list[Estimate]:
    return estimate(plan(arguments, multirun=True), models, answer_tokens)


def stages(store: Path, name: str) -> list[Artefact]:
    keys = sorted(path.parent.name for path in (store / name).glob("*/manifest.json"))
    return [Store(store).get(f"{name}/{key}") for key in keys]


def cost_of(found: list[Artefact]) -> Cost:
    return sum((stage.cost for stage in found), Cost())


def tokens(cost: Cost) -> tuple[int, int, int]:
    return cost.forward_tokens, cost.backward_tokens, cost.generated_tokens


def test_as_the_sweep_then_costs(tiny: list[str], models: LoadedModels, tmp_path: Path) -> None:
    arguments = [*tiny, "selector=full,low_ppl", "eval.generation_rows=0", "train.epochs=2", "-m"]
    of_full, of_low = estimated(arguments[:-1], models)
    assert main(["run", *arguments]) == 0
    store = tmp_path / ".dwbench" / "store"
    assert tokens(of_full.selection.cost) == (0, 0, 0)
    selecting, evaluating = cost_of(stages(store, "represent")), stages(store, "evaluate")
    assert tokens(of_low.selection.cost) == tokens(selecting)
    assert of_low.selection.cost.flop == pytest.approx(selecting.flop)
    full, low = sorted(stages(store, "train"), key=lambda stage: -stage.cost.forward_tokens)
    assert tokens(of_full.tuning.cost) == tokens(full.cost)
    assert of_full.tuning.cost.flop == pytest.approx(full.cost.flop)
    assert of_low.tuning.cost.flop == pytest.approx(low.cost.flop, rel=0.3)  # 4 rows of the pool's mean length
    adapter = (full.folder / "adapter" / "adapter_model.safetensors").stat().st_size
    assert of_full.tuning.stored == pytest.approx(adapter, rel=0.25)  # without a header
    for amount, stage in zip((of_full.evaluation, of_low.evaluation), evaluating, strict=True):
        assert tokens(amount.cost) == tokens(stage.cost)
    again = estimated(arguments[:-1], models)
    assert all(tokens(total((one.selection, one.tuning, one.evaluation)).cost) == (0, 0, 0) for one in again)


def test_what_runs_share_is_charged_once(tiny: list[str], models: LoadedModels) -> None:
    two, four = estimated([*tiny, "selector=low_ppl", "budget=2,4"], models)
    assert two.selection.cost.forward_tokens > 0
    assert four.selection == Amount()
    assert four.tuning.cost.flop == pytest.approx(2 * two.tuning.cost.flop)
    assert four.evaluation.cost == two.evaluation.cost
    untuned, again = estimated([*tiny, "selector=zero_shot", "budget=2,4"], models)
    assert untuned.evaluation.cost.forward_tokens > 0
    assert again.evaluation == Amount()


def test_answers_of_a_given_length(tiny: list[str], models: LoadedModels) -> None:
    arguments = [*tiny, "selector=zero_shot", "eval.nll_rows=0", "eval.generation_rows=4"]
    (short,), (longer,) = (estimated(arguments, models, n) for n in (2, 9))
    assert short.evaluation.cost.generated_tokens == 8
    assert longer.evaluation.cost.generated_tokens == 36
    assert longer.evaluation.cost.forward_tokens - short.evaluation.cost.forward_tokens == 4 * 7
    (capped,) = estimated([*arguments, "dataset.task.max_new_tokens=3"], models, 9)
    assert capped.evaluation.cost.generated_tokens == 12


def test_a_large_pool_by_parts_of_it(tiny: list[str], models: LoadedModels, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = [*tiny, "dataset.pool_rows=60", "selector=low_ppl,data_whisperer,miwv", "select_only=true"]
    arguments += ["selector_settings.data_whisperer.n_d=3", "selector_settings.data_whisperer.n_q=2"]
    whole = estimated(arguments, models)
    assert not any(one.drawn for one in whole)
    monkeypatch.setattr(estimating, "WHOLE", 30)
    monkeypatch.setattr(estimating, "PARTS", (15, 30))
    for one, known in zip(estimated(arguments, models), whole, strict=True):
        assert one.drawn
        assert one.selection.work.keys() == known.selection.work.keys()
        assert one.selection.cost.forward_calls == pytest.approx(known.selection.cost.forward_calls, rel=0.1)
        assert one.selection.cost.flop == pytest.approx(known.selection.cost.flop, rel=0.15)
        assert one.selection.stored == pytest.approx(known.selection.stored, rel=0.3)


def test_rounds_are_not_lost_where_few_are_chosen_of_a_part(
    tiny: list[str], models: LoadedModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    """9 of 60 rows take 3 rounds of 3, so 2 tunings and 2 passes; the same share of 15 rows would be 2 rounds of 1."""
    arguments = [*tiny, "dataset.pool_rows=60", "selector=diverse_evol", "selector.rounds=2", "select_only=true"]
    arguments[arguments.index("budget=0.25")] = "budget=9"
    (whole,) = estimated(arguments, models)
    monkeypatch.setattr(estimating, "WHOLE", 30)
    monkeypatch.setattr(estimating, "PARTS", (15, 30))
    monkeypatch.setattr(estimating, "FEW", 3)
    (found,) = estimated(arguments, models)
    assert found.selection.cost.forward_calls == pytest.approx(whole.selection.cost.forward_calls, rel=0.1)
    assert found.selection.cost.backward_calls == pytest.approx(whole.selection.cost.backward_calls, rel=0.25)
    assert found.selection.cost.flop == pytest.approx(whole.selection.cost.flop, rel=0.25)


@pytest.mark.parametrize(
    ("n", "k", "small", "large"),
    [
        (10_000, 1_000, (100,), (200,)),  # the same share
        (10_000, 500, (50,), (100,)),
        (25_000, 250, (60,), (60, 110)),  # 1 %: of 1,000 rows that would be 10
        (25_000, 500, (70,), (70, 120)),
        (25_000, 100, (54,), (54, 100)),
        (25_000, 20, (20,), (20,)),
        (3_000, 1, (1,), (1,)),
    ],
)
def test_how_many_are_chosen_of_parts(n: int, k: int, small: tuple[int, ...], large: tuple[int, ...]) -> None:
    assert (PARTS, FEW) == ((1000, 2000), 50)
    assert sizes_in_parts(n, k) == (small, large)


def test_what_methods_do_a_fixed_number_of_is_done_in_the_smaller_part() -> None:
    assert max(Nuggets().m, STAFF().strata * STAFF().verified, ifd.WARMUP_CLUSTERS * ifd.WARMUP_ROWS) <= PARTS[0]


def test_a_file_of_tags_that_has_none_for_the_drawn_rows(
    tiny: list[str], models: LoadedModels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(estimating, "WHOLE", 10)
    monkeypatch.setattr(estimating, "PARTS", (5, 10))
    pool = plan([*tiny, "selector=random"], multirun=True).planned[0].splits.pool
    drawn = {row.id for row in estimating._drawn(pool, 10)}
    other = next(row.id for row in pool if row.id not in drawn)
    (tmp_path / "tags.jsonl").write_text(json.dumps({"id": other, "tags": ["sport"]}) + "\n")
    (found,) = estimated([*tiny, "selector=mig", "selector.tags=file", "selector.tags_file=tags.jsonl"], models)
    assert found.drawn
    assert found.selection == Amount(stored=found.selection.stored)


def test_describing_is_a_column_of_its_own(tiny: list[str], models: LoadedModels) -> None:
    plain, *described = estimated([*tiny, "selector=low_ppl"], models) + estimated(
        [*tiny, "selector=low_ppl,ifd,k_center", "selector_settings.k_center.text=full", "diversity=true"], models
    )
    assert plain.describing == Amount()
    low, ifd_, center = described
    assert tokens(low.selection.cost) == tokens(plain.selection.cost)
    assert low.describing.cost.forward_calls == 16
    assert ifd_.describing == center.describing == Amount()
    assert center.selection.work == {}  # its embeddings are those that were described by before
    speed = Given(tflops=1, decoded=1)
    assert "describing" in told(described, speed).splitlines()[0]
    assert "describing" not in told([plain], speed).splitlines()[0]


INFERENCE, TUNING, EVALUATION = (Work("m", kind) for kind in ("inference", "tuning", "evaluation"))


def test_a_fixed_part_and_a_part_for_each_row() -> None:
    def of(rows: int) -> Amount:
        return Amount({INFERENCE: Cost(forward_tokens=100 + 7 * rows, flop=1e6 + 2e4 * rows)}, 500 + 8.0 * rows)

    assert extrapolated(of(10), of(30), (10, 30), 1000) == of(1000)
    fixed = Amount({TUNING: Cost(backward_tokens=5, flop=3.0)}, 4.0)
    assert extrapolated(fixed, fixed, (10, 30), 1000) == fixed
    # What only the larger part takes grows from nothing; nothing shrinks.
    assert extrapolated(Amount(), fixed, (10, 30), 50).work[TUNING].flop == pytest.approx(6.0)
    assert extrapolated(fixed, Amount({TUNING: Cost(flop=1.0)}), (10, 30), 50).work[TUNING].flop == 1.0


def test_a_planted_speed_is_found() -> None:
    def timed(work: Work, a: float, b: float, flop: float, generated: int = 0) -> tuple[Work, Cost]:
        return work, Cost(seconds=a * flop + b * generated, flop=flop, generated_tokens=generated)

    a, b = 2e-12, 0.05
    found = Measured(
        [
            *(timed(INFERENCE, a, b, flop) for flop in (1e12, 3e12, 2e13)),
            *(timed(TUNING, 2 * a, b, flop) for flop in (5e12, 6e12)),
            *(timed(EVALUATION, a, b, flop, n) for flop, n in ((1e12, 100), (4e12, 30))),
        ]
    )
    assert found.seconds(INFERENCE, Cost(flop=7e12)) == pytest.approx(14)
    assert found.seconds(TUNING, Cost(flop=7e12)) == pytest.approx(28)
    assert found.seconds(EVALUATION, Cost(flop=7e12, generated_tokens=1000)) == pytest.approx(64)
    assert not found.guessed(TUNING, Cost(flop=1.0))
    # What was not timed takes the nearest speed.
    assert found.guessed(Work("other", "inference"), Cost(flop=1.0))
    assert found.seconds(INFERENCE, Cost(flop=7e12, generated_tokens=1000)) == pytest.approx(64)
    assert found.seconds(Work("m", "gradients"), Cost(flop=1e12)) == pytest.approx(2)
    assert found.seconds(Work("other", "tuning"), Cost(flop=35e12)) == pytest.approx(48 + 44)
    assert Measured([]).seconds(INFERENCE, Cost(flop=1.0)) is None
    assert Measured(found.stages[:3]).seconds(INFERENCE, Cost(flop=1.0, generated_tokens=1)) is None


def test_speed_of_generation_is_the_models_own_or_scaled_by_its_size() -> None:
    a, small, large = 1e-12, Work("small", "evaluation"), Work("large", "inference")

    def spoke(work: Work, a_token: float, flop_a_token: float, generated: int) -> tuple[Work, Cost]:
        flop, tokens = 10 * generated * flop_a_token, 10 * generated
        cost = Cost(a * flop + a_token * generated, tokens, generated_tokens=generated, flop=flop)
        return work, cost

    silent = [(Work(model, "inference"), Cost(seconds=1.0, flop=1e12)) for model in ("small", "large", "other")]
    found = Measured([*silent, spoke(small, 0.01, 3e8, 200), spoke(large, 0.4, 6e9, 10)])

    def seconds(work: Work, flop_a_token: float) -> float:
        told = found.seconds(work, Cost(forward_tokens=50, flop=50 * flop_a_token, generated_tokens=5))
        assert told is not None
        return told - a * 50 * flop_a_token

    assert seconds(small, 3e8) == pytest.approx(0.05)
    assert seconds(Work("large", "evaluation"), 6e9) == pytest.approx(
        2.0
    )  # its own under another kind, not the small one's
    # 0.01 s for each of 200 tokens of 3e8 FLOP and 0.4 s for each of 10 of 6e9: 6 s for 1.2e11.
    assert seconds(Work("other", "evaluation"), 1.2e10) == pytest.approx(5 * 1.2e10 * 6 / 1.2e11)
    for work, is_scaled in ((large, False), (Work("small", "inference"), False), (Work("other", "evaluation"), True)):
        assert found.scaled(work, Cost(generated_tokens=1)) == is_scaled
        assert not found.scaled(work, Cost())
    assert not Measured(silent).scaled(small, Cost(generated_tokens=1))


def test_what_is_scaled_or_not_looked_up_is_said(tiny: list[str], models: LoadedModels) -> None:
    (one,) = estimated([*tiny, "selector=low_ppl", "diversity=true"], models)
    plain, flop = Given(tflops=1, decoded=1), Cost(1.0, 5, flop=1e12)
    silent = (Work("other", "inference"), flop)
    spoken = (Work("other", "inference"), dataclasses.replace(flop, generated_tokens=1))
    assert "takes more FLOP a token" in " ".join(told([one], Measured([silent, spoken])).split())
    assert "takes more FLOP a token" not in " ".join(told([one], plain).split())
    not_found = "as if nothing of them were stored"
    assert not_found not in " ".join(told([one], plain).split())
    # A selection that is stored is not drawn; what describes it is, all the same.
    large = dataclasses.replace(one, pool=WHOLE + 1)
    assert not_found in " ".join(told([large], plain).split())
    assert not_found in " ".join(told([dataclasses.replace(large, drawn=True, describing=Amount())], plain).split())
    assert not_found not in " ".join(told([dataclasses.replace(large, describing=Amount())], plain).split())


def test_a_rate_end_to_end_as_the_help_makes_it_one_to_give() -> None:
    tflops, rate, flop_a_token = 125, 1000, 1.6e10
    given = 1 / (1 / rate - flop_a_token / 1e12 / tflops)
    cost = Cost(forward_tokens=500, generated_tokens=500, flop=500 * flop_a_token)
    assert Given(tflops, given).seconds(INFERENCE, cost) == pytest.approx(500 / rate)
    assert "without the time of their FLOP" in " ".join(HELP.split())
    assert "1 / (1/R - F/X) with F in 10^12 FLOP a token" in " ".join(HELP.split())


def test_a_given_speed() -> None:
    assert Given(tflops=2, decoded=None).seconds(INFERENCE, Cost(flop=6e12)) == pytest.approx(3)
    spoken = Cost(flop=6e12, generated_tokens=100)
    assert Given(tflops=2, decoded=50).seconds(INFERENCE, spoken) == pytest.approx(5)
    assert Given(tflops=2, decoded=None).seconds(INFERENCE, spoken) is None


def test_stages_are_known_by_their_model(tiny_lm: LM, tmp_path: Path) -> None:
    worked = Cost(flop=1.0)
    half = dataclasses.replace(tiny_lm, dtype="bfloat16")
    longer = dataclasses.replace(tiny_lm, max_length=99)
    key = {"representation": "x", "scorer": identity(tiny_lm)}
    assert work_of("represent", key, worked, [tiny_lm]) == Work(model_key(tiny_lm), "inference")
    assert work_of("represent", key, worked, [longer]) == Work(model_key(tiny_lm), "inference")
    assert work_of("represent", key, worked, [half]) is None
    assert work_of("represent", key, Cost(forward_tokens=1), [tiny_lm]) is None
    alone = {"weights": [tiny_lm.weights_identity(), "float32"]}
    backward = dataclasses.replace(worked, backward_tokens=1)
    assert work_of("represent", alone, backward, [half, tiny_lm]) == Work(model_key(tiny_lm), "gradients")
    assert work_of("train", {"model": half.training_identity()}, backward, [tiny_lm, half]) == Work(
        model_key(half), "tuning"
    )


def test_only_this_hardware_is_asked(
    tiny: list[str], tiny_lm: LM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(Store(tmp_path))
    bench.stage("represent", {"scorer": identity(tiny_lm)}, lambda _: bench.meter.count(flop=5.0))
    models = models_of(plan([*tiny, "selector=low_ppl"], multirun=False))
    ((work, cost),) = measured([bench.store], models).stages
    assert work == Work(model_key(tiny_lm), "inference")
    assert cost.flop == 5
    monkeypatch.setattr(estimating, "environment", lambda: {"hardware": {"cores": 10_000}})
    assert measured([bench.store], models).stages == []


Check = Callable[..., tuple[int, str, str]]


@pytest.fixture
def check(tiny: list[str], capsys: pytest.CaptureFixture[str]) -> Check:
    def call(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(["check", *arguments, *tiny])
        return code, *capsys.readouterr()

    return call


def test_hours_by_a_given_speed(check: Check, tmp_path: Path) -> None:
    speeds = ("--tflops", "1e-6", "--decode-tokens-per-second", "10")
    code, out, err = check("--estimate", *speeds, "selector=random,low_ppl", "-m")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert [line.split()[0] for line in lines[3:6]] == ["random", "low_ppl", "all"]
    assert "?" not in "".join(lines[3:6])
    assert list(tmp_path.rglob("manifest.json")) == []


def test_without_a_speed(check: Check) -> None:
    code, out, err = check("--estimate", "selector=low_ppl")
    assert code == 2
    assert "?" in out  # tokens and FLOP are told all the same
    (line,) = err.splitlines()
    assert "--tflops X" in line
    code, _, err = check("--estimate", "--tflops", "1", "selector=low_ppl")
    assert code == 2
    assert "--decode-tokens-per-second Y" in err
    silent = ("selector=low_ppl", "eval.generation_rows=0")
    assert check("--estimate", "--tflops", "1", *silent)[0] == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--tflops", "1"], "--tflops: goes with --estimate"),
        (["--estimate", "--decode-tokens-per-second", "1"], "goes with --tflops"),
        (["--estimate", "--tflops", "0"], "must be above 0, not 0"),
        (["--estimate", "--tflops", "fast"], "'fast'"),
        (["--estimat"], ""),
        (["--guess"], "--guess"),
    ],
)
def test_options_that_say_nothing(arguments: list[str], words: str, check: Check) -> None:
    code, out, err = check(*arguments)
    assert (code, out) == (2, "")
    (line,) = err.splitlines()
    assert words in line
