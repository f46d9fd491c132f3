"""What a leaderboard claims, and what it must not claim, on made-up records with scores by test row."""

import csv
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from made_records import made

from dwbench.errors import UserError
from dwbench.records import Record
from dwbench.report.leaderboard import UNCLEAR, Entry, Leaderboard, leaderboards, overall
from dwbench.report.leaderboard_view import render

ROWS = 60
NOISE = np.random.default_rng(0).normal(scale=0.1, size=ROWS)


def scored(selector: str, values: "Sequence[float] | np.ndarray", *, metric: str = "rouge_l", **options: Any) -> Record:
    record = made(selector, metrics={metric: (float(np.mean(values)), None)}, **options)
    return Record(record.path, {**record.data, "items": {metric: [float(value) for value in values]}})


def entries(boards: Sequence[Leaderboard]) -> dict[str, Entry]:
    (board,) = boards
    return {entry.label: entry for entry in board.entries}


def test_one_seed_by_hand() -> None:
    base = 0.5 + NOISE
    found = entries(
        leaderboards(
            [
                scored("random", base),
                scored("ifd", base + 0.1),
                scored("low_ppl", base - 0.1),
                scored("miwv", base[::-1]),
            ]
        )
    )
    assert (next(iter(found)), list(found)[-1]) == ("ifd", "low_ppl")
    assert {name: entry.verdict for name, entry in found.items()} == {
        "ifd": UNCLEAR,
        "random": "baseline",
        "miwv": UNCLEAR,
        "low_ppl": UNCLEAR,
    }
    better = found["ifd"].against
    assert better is not None
    # Paired: every row is better by 0.1, so the difference has no spread though the scores have.
    assert (better.difference.low, better.difference.high) == pytest.approx((0.1, 0.1), abs=1e-6)
    assert found["ifd"].score.low < found["ifd"].score.mean - 0.01
    assert better.better == 1
    assert better.p == pytest.approx(3 / 5001)  # Holm: the smallest of three


def test_a_lower_metric_is_better_where_it_says_so() -> None:
    base = 2 + NOISE
    records = [scored("random", base, metric="nll"), scored("ifd", base - 0.2, metric="nll")]
    found = entries(leaderboards(records))
    assert list(found) == ["ifd", "random"]
    assert found["ifd"].against is not None
    assert found["ifd"].against.difference.mean == pytest.approx(-0.2)
    assert found["ifd"].against.better == 1


def test_seeds_that_disagree_prove_nothing_however_many_rows_agree() -> None:
    base = 0.5 + NOISE
    shifts = (0.3, -0.25, 0.1)
    records = [scored("random", base, seed=seed) for seed in range(3)]
    records += [scored("ifd", base + shift, seed=seed) for seed, shift in enumerate(shifts)]
    found = entries(leaderboards(records))
    assert found["ifd"].against is not None
    assert found["ifd"].against.p > 0.05
    assert found["ifd"].verdict == "not distinguishable from random"
    assert not leaderboards(records)[0].one_seed


def test_seeds_that_agree_by_hand() -> None:
    base = 0.5 + NOISE
    records = [scored("random", base, seed=seed) for seed in range(3)]
    records += [scored("ifd", base + shift, seed=seed) for seed, shift in enumerate((0.1, 0.2, 0.3))]
    against = entries(leaderboards(records))["ifd"].against
    assert against is not None
    # Only seeds differ: Student's t of 0.1, 0.2 and 0.3 with 2 degrees of freedom.
    half = 4.302653 * 0.1 / 3**0.5
    assert (against.difference.low, against.difference.high) == pytest.approx((0.2 - half, 0.2 + half), rel=1e-5)
    assert against.p == pytest.approx(0.0741799, rel=1e-5)
    assert (against.seeds, against.better) == (3, 1)


def test_one_evaluation_under_three_seeds_is_one() -> None:
    base = 0.5 + NOISE

    def same(record: Record) -> Record:
        artefacts = {**record.data["artefacts"], "evaluation": f"evaluate/the only one of {record.selector}"}
        return Record(record.path, {**record.data, "artefacts": artefacts})

    fixed = [same(scored("ifd", base + 0.1, seed=seed)) for seed in range(3)]
    drawn = [scored("random", base + seed / 100, seed=seed) for seed in range(3)]
    found = entries(leaderboards([*fixed, *drawn]))
    alone = entries(leaderboards([fixed[0], *drawn]))
    assert (found["ifd"].seeds, found["random"].seeds) == (1, 3)
    assert found["ifd"].score == alone["ifd"].score
    # Paired with three different ones it makes three pairs; with one and the same it makes one.
    assert found["ifd"].against is not None
    assert found["ifd"].against.seeds == 3
    pinned = leaderboards([*fixed, *(same(one) for one in drawn[:1]), same(scored("random", base, seed=1))])
    assert entries(pinned)["ifd"].against == entries(leaderboards([fixed[0], same(drawn[0])]))["ifd"].against
    assert pinned[0].stability is None


def test_only_seeds_in_common_are_paired() -> None:
    base = 0.5 + NOISE
    records = [scored("random", base, seed=0), scored("random", base + 5, seed=1)]
    found = entries(leaderboards([*records, scored("ifd", base + 0.1, seed=0)]))
    assert found["ifd"].against is not None
    assert found["ifd"].against.difference.mean == pytest.approx(0.1)
    text = render(leaderboards([*records, *(scored("ifd", base, seed=seed) for seed in (0, 7))]), "text", width=300)
    assert "Paired with random under fewer seeds than it has: ifd 1." in text
    apart = entries(leaderboards([records[0], scored("ifd", base + 0.1, seed=7)]))
    assert apart["ifd"].verdict == "no seed in common with random"
    alone = entries(leaderboards([scored("ifd", base), scored("miwv", base)]))
    assert {entry.verdict for entry in alone.values()} == {"no run of random"}


def test_bounds_are_shown_and_not_ranked() -> None:
    base = 0.5 + NOISE
    records = [scored("random", base), scored("zero_shot", base - 0.3), scored("full", base + 0.3)]
    found = entries(leaderboards(records))
    assert list(found) == ["full", "random", "zero_shot"]
    assert [entry.verdict for entry in found.values()] == ["bound", "baseline", "bound"]
    lines = [line.split() for line in render(leaderboards(records), "text").splitlines()]
    assert next(line for line in lines if line[:1] == ["full"])[1] == "-"
    assert next(line for line in lines if line[:1] == ["random"])[1] == "1"


def test_what_is_not_alike_is_not_compared() -> None:
    base = 0.5 + NOISE
    options: list[dict[str, Any]] = [{}, {"rows": 50}, {"rate": 1e-5}, {"split_seed": 1}, {"dataset": "gsm8k"}]
    records = [scored(name, base, **option) for option in options for name in ("random", "ifd")]
    boards = leaderboards(records)
    assert len(boards) == len(options)
    assert len({board.title for board in boards}) == len(boards)
    assert all(len(board.entries) == 2 for board in boards)
    assert all({entry.verdict for entry in board.entries} == {"baseline", UNCLEAR} for board in boards)
    assert any("training.learning_rate=1e-05" in board.title for board in boards)


def test_bounds_stand_at_every_budget() -> None:
    base = 0.5 + NOISE
    records = [scored(name, base, rows=rows) for name in ("random", "ifd") for rows in (50, 100)]
    boards = leaderboards([*records, scored("full", base)])
    assert [board.budget for board in boards] == [50, 100]
    assert all("full" in {entry.label for entry in board.entries} for board in boards)


def test_the_ranking_of_seeds_is_compared() -> None:
    base = 0.5 + NOISE

    def seeds(*orders: Sequence[str]) -> float | None:
        records = [
            scored(name, base + place, seed=seed)
            for seed, order in enumerate(orders)
            for place, name in enumerate(order)
        ]
        (board,) = leaderboards(records)
        return board.stability

    up = ("random", "ifd", "miwv")
    assert seeds(up, up) == pytest.approx(1)
    assert seeds(up, up[::-1]) == pytest.approx(-1)
    assert seeds(up) is None


def test_one_seed_is_told() -> None:
    base = 0.5 + NOISE
    one = [scored("random", base), scored("ifd", base[::-1])]
    text = render(leaderboards(one), "text")
    assert "One seed: intervals and tests cover the draw of the 60 test rows only." in text
    assert "not distinguishable from random" in text
    # However sure the test rows are: another draw of random might beat both.
    sure = leaderboards([*one, scored("miwv", base + 0.1)])
    assert entries(sure)["miwv"].against.p < 0.001  # type: ignore[union-attr]
    assert entries(sure)["miwv"].verdict == UNCLEAR
    assert render(sure, "text").count(f"{UNCLEAR} (one seed)") == 2
    two = [scored(name, base, seed=seed) for name in ("random", "ifd") for seed in (0, 1)]
    assert "ne seed" not in render(leaderboards(two), "text").replace("one seed compares", "")


def test_how_intervals_were_made_is_told() -> None:
    base = 0.5 + NOISE
    one = leaderboards([scored("random", base), scored("ifd", base[::-1])])
    two = leaderboards([scored(name, base, seed=seed) for name in ("random", "ifd") for seed in (0, 1)])
    text, of_two = (" ".join(render(boards, "text").split()) for boards in (one, two))
    assert "bootstrap of 5,000 draws" in text
    assert "Student's t" not in text
    assert "Student's t" in of_two
    assert "bootstrap" not in of_two
    mixed = leaderboards([scored("random", base), scored("random", base, seed=1), scored("ifd", base)])
    lines = {line["selector"]: line for line in csv.DictReader(io.StringIO(render(mixed, "csv")))}
    assert (lines["random"]["interval_by"], lines["random"]["difference_by"]) == ("t, crossed seeds and rows", "")
    assert lines["ifd"]["interval_by"] == lines["ifd"]["difference_by"] == "bootstrap of rows"


def test_several_budgets_have_one_ranking_by_mean_rank() -> None:
    base = 2 + NOISE  # of nll: the lower the better
    order = {50: ("ifd", "random", "miwv"), 100: ("random", "ifd", "miwv"), 200: ("ifd", "miwv", "random")}
    records = [
        scored(name, base + place, metric="nll", rows=rows)
        for rows, names in order.items()
        for place, name in enumerate(names)
    ]
    boards = leaderboards([*records, scored("low_ppl", base - 1, metric="nll"), scored("full", base, metric="nll")])
    assert [board.budget for board in boards] == [50, 100, 200]
    (ranking,) = overall(boards)
    assert ranking.budgets == (50, 100, 200)
    # By hand: among the three that ran at every budget, whatever the fourth did at one of them.
    assert [(one.label, one.ranks) for one in ranking.standings] == [
        ("ifd", (1, 2, 1)),
        ("random", (2, 1, 3)),
        ("miwv", (3, 3, 2)),
    ]
    assert [one.mean for one in ranking.standings] == pytest.approx([4 / 3, 2, 8 / 3])
    assert ranking.absent == ("low_ppl",)
    text = render(boards, "text", width=200)
    assert "over 3 budgets, nll ↓" in text
    assert "Not at every budget, so not ranked: low_ppl." in text
    lines = list(csv.DictReader(io.StringIO(render(boards, "csv"))))
    assert {line["mean_rank"] for line in lines if line["selector"] == "random"} == {"2.0"}
    assert {(line["rank"], line["mean_rank"]) for line in lines if line["selector"] in ("full", "low_ppl")} == {
        ("", ""),
        ("1", ""),
    }


def test_settings_are_not_ranked_together() -> None:
    base = 0.5 + NOISE
    records = [
        scored(name, base, rows=rows, rate=rate)
        for name in ("random", "ifd")
        for rows in (50, 100)
        for rate in (1e-4, 1e-5)
    ]
    found = overall(leaderboards(records))
    assert len({one.title for one in found}) == len(found) == 2
    # Equal scores share their ranks.
    assert [one.ranks for one in found[0].standings] == [(1.5, 1.5), (1.5, 1.5)]
    assert overall(leaderboards([scored("random", base), scored("ifd", base)])) == []
    assert overall(leaderboards([scored("random", base), scored("random", base, rows=50)])) == []


def test_records_without_scores_by_row_are_told() -> None:
    with pytest.raises(UserError, match="run the same commands again"):
        leaderboards([made("random"), made("ifd")])
    # Those that have them are compared.
    found = entries(leaderboards([made("miwv"), scored("random", NOISE), scored("ifd", NOISE)]))
    assert set(found) == {"random", "ifd"}


def test_a_metric_without_direction_is_left_out() -> None:
    assert leaderboards([scored("random", NOISE), scored("ifd", NOISE)])
    with pytest.raises(UserError):
        leaderboards([scored("random", NOISE, metric="odd"), scored("ifd", NOISE, metric="odd")])


GAINS = {"random": 0.0, "data_whisperer": 0.1}


def test_a_lower_score_of_several_seeds_is_better_where_less_is() -> None:
    base = 2 + NOISE
    records = [scored(name, base - gain, metric="nll", seed=seed) for name, gain in GAINS.items() for seed in (0, 1)]
    found = entries(leaderboards(records))
    assert found["data_whisperer"].verdict == "better than random"


def test_equals_share_a_rank() -> None:
    records = [scored(name, base) for name, base in (("random", NOISE), ("ifd", NOISE), ("miwv", NOISE + 1))]
    (board,) = leaderboards(records)
    assert board.places == {"miwv": 1, "ifd": 2.5, "random": 2.5}
    text = render([board], "md")
    assert "| miwv | 1 |" in text
    assert text.count("| 2.5 |") == 2
    ranks = {line["selector"]: line["rank"] for line in csv.DictReader(io.StringIO(render([board], "csv")))}
    assert ranks == {"miwv": "1", "ifd": "2.5", "random": "2.5"}


def test_one_selector_of_one_seed_does_not_hide_how_steady_the_others_are() -> None:
    records = [scored(name, NOISE + gain, seed=seed) for name, gain in GAINS.items() for seed in (0, 1)]
    (board,) = leaderboards([*records, scored("nuggets", NOISE + 1)])
    assert (board.stability, board.unsteady) == (1, ("nuggets",))
    assert "Not in it, for want of seeds: nuggets." in render([board], "text")
    (both,) = leaderboards(records)
    assert (both.stability, both.unsteady) == (1, ())
    assert "for want of seeds" not in render([both], "text")


def test_formats() -> None:
    base = 0.5 + NOISE
    boards = leaderboards([scored(name, base + gain, seed=seed) for name, gain in GAINS.items() for seed in (0, 1)])
    whisperer, random = csv.DictReader(io.StringIO(render(boards, "csv")))
    assert float(whisperer["score"]) == boards[0].entries[0].score.mean
    assert (whisperer["verdict"], random["verdict"]) == ("better than random", "baseline")
    assert (random["p_holm"], random["difference"]) == ("", "")
    lines = [line for line in render(boards, "md").splitlines() if line.startswith("|")]
    assert len(lines) == 4
    assert len({line.count("|") for line in lines}) == 1
    tex = render(boards, "latex")
    assert r"data\_whisperer & 1 & 2 & " in tex
    assert " {[}0." in tex
    assert not set(tex) & set("±↑↓~")
