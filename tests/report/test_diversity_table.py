"""The table of diversity, from records."""

import dataclasses

from made_records import made

from dwbench.records import Record
from dwbench.report.diversity import diversities, render


def told(
    selector: str, seed: int, rows: int = 10, encoder: str = "minilm", choice: int | None = None, **numbers: float
) -> Record:
    """A record of the choice of this number; None: each seed has one of its own."""
    record = made(selector, rows=rows, seed=seed)
    ids = [f"row-{seed if choice is None else choice}-{number}" for number in range(rows)]
    told = {"ids": ids, "diversity": numbers, "described_by": {"version": 1, "name": encoder, "identity": {}}}
    data = {**record.data, "selection": {**record.data["selection"], **told}}
    return dataclasses.replace(record, data=data)


def test_a_choice_that_seeds_share_is_one() -> None:
    (found,) = diversities([told("ifd", seed, choice=seed // 2, vendi=(2.0, 5.0)[seed // 2]) for seed in range(3)])
    (row,) = found.rows
    assert (row.choices, row.numbers) == (2, {"vendi": 3.5})


def test_seeds_are_averaged_and_what_is_unknown_is_shown_as_missing() -> None:
    (found,) = diversities(
        [
            told("random", 0, vendi=4.0, ttr=0.5, vocd_d=80.0),
            told("random", 1, vendi=6.0, ttr=0.7),
            told("random", 0, rows=20, vendi=9.0),
            told("ifd", 0, vendi=2.0),
            made("low_ppl"),  # tells nothing of it
        ]
    )
    by_method = {(row.label, row.rows): row for row in found.rows}
    assert set(by_method) == {("random", 10), ("random", 20), ("ifd", 10)}
    assert by_method["random", 10].numbers == {"vendi": 5.0, "ttr": 0.6}
    assert by_method["random", 10].choices == 2
    text = render([found], "text")
    assert "5.000" in text
    assert "80.0" not in text  # known for one of two seeds only
    assert "-" in text.splitlines()[-4]


def test_what_two_encoders_describe_is_not_compared() -> None:
    found = diversities([told("random", 0, vendi=4.0), told("random", 0, encoder="bge", vendi=8.0)])
    assert sorted(row.numbers["vendi"] for one in found for row in one.rows) == [4.0, 8.0]
    assert len({one.title for one in found}) == 2


def test_two_pools_of_one_size_are_told_apart() -> None:
    first, second = told("random", 0, vendi=4.0), told("random", 0, vendi=8.0)
    fingerprints = {**second.data["dataset"]["fingerprints"], "pool": "9" * 20}
    data = {**second.data, "dataset": {**second.data["dataset"], "fingerprints": fingerprints}}
    titles = [one.title for one in diversities([first, dataclasses.replace(second, data=data)])]
    assert len(set(titles)) == 2
    assert any(f"(dataset.pool={'9' * 20})" in title for title in titles)


def test_without_diversity_there_is_no_table() -> None:
    assert diversities([made("random")]) == []
