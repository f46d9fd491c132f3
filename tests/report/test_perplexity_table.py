"""The table of perplexity, from records."""

import dataclasses

from made_records import made

from dwbench.records import Record
from dwbench.report.perplexity import perplexities, render


def numbers(mean: float) -> dict[str, float]:
    return {"rows": 10, "undefined": 0, "mean": mean, "quartile_1": 1.0, "median": 2.0, "quartile_3": 3.0}


def told(
    selector: str, mean: float, seed: int = 0, rows: int = 10, by: str = "smollm2", choice: int | None = None
) -> Record:
    """A record of the choice of this number; None: each seed has one of its own."""
    record = made(selector, rows=rows, seed=seed)
    pool, none = numbers(40.0), {"rows": 10, "undefined": 10}
    perplexity = {
        "given_prompt": {"chosen": numbers(mean), "pool": pool},
        "alone": {"chosen": none, "pool": pool},
    }
    ids = [f"row-{seed if choice is None else choice}-{number}" for number in range(rows)]
    said = {"ids": ids, "perplexity": perplexity, "perplexity_by": {"version": 1, "name": by, "identity": {}}}
    return dataclasses.replace(record, data={**record.data, "selection": {**record.data["selection"], **said}})


def test_seeds_are_averaged_and_the_pool_stands_first() -> None:
    (found,) = perplexities(
        [
            told("random", 20.0),
            told("random", 30.0, seed=1),
            told("random", 9.0, rows=20),
            told("low_ppl", 5.0),
            made("ifd"),  # tells nothing of it
        ]
    )
    assert "perplexity under smollm2" in found.title
    assert [(row.label, row.rows, row.choices) for row in found.rows] == [
        ("(the pool)", 1000, 0),
        ("random", 10, 2),
        ("random", 20, 1),
        ("low_ppl", 10, 1),
    ]
    assert [row.numbers["given_prompt"]["mean"] for row in found.rows] == [40.0, 25.0, 9.0, 5.0]
    assert found.rows[1].numbers["alone"] == {}
    for form in ("text", "md"):
        drawn = render([found], form)
        (line,) = (line for line in drawn.splitlines() if "low_ppl" in line)
        assert line.replace("|", " ").split() == ["low_ppl", "10", "1", "5.00", "1.00", "2.00", "3.00", *"----"]


def test_a_choice_that_seeds_share_is_one() -> None:
    same = [told("low_ppl", 5.0, seed=seed, choice=0) for seed in range(3)]
    two = [
        told("random", mean, seed=seed, choice=choice) for seed, choice, mean in ((0, 0, 4.0), (1, 0, 4.0), (2, 1, 7.0))
    ]
    (found,) = perplexities([*same, *two])
    assert [(row.label, row.choices, row.numbers["given_prompt"]["mean"]) for row in found.rows[1:]] == [
        ("low_ppl", 1, 5.0),
        ("random", 2, 5.5),
    ]


def test_what_two_models_tell_is_not_compared() -> None:
    found = perplexities([told("random", 4.0), told("random", 8.0, by="qwen")])
    assert sorted(one.rows[1].numbers["given_prompt"]["mean"] for one in found) == [4.0, 8.0]
    assert len({one.title for one in found}) == 2


def test_without_perplexity_there_is_no_table() -> None:
    assert perplexities([made("random")]) == []
