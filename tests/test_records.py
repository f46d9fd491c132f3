"""Records are written once, named so that no two runs share a file, and read back or refused by name."""

import json
from pathlib import Path
from typing import Any

import pytest
from made_records import made

from dwbench.errors import UserError
from dwbench.records import PARTS, Record, differing, load_records, record_path, write_record


def write(folder: Path, data: Any) -> Path:
    path = record_path(folder, data["experiment"], data)
    assert write_record(path, data)
    return path


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    data = made("ifd", scorer="smollm2-135m").data
    path = write(tmp_path, data)
    assert path.parent == tmp_path / "quickstart"
    assert path.name == f"dialogsum-smollm2-135m-ifd-0.1-s0-{data['run'][:8]}.json"
    (record,) = load_records(tmp_path)
    assert record.data == data
    assert record.path == path
    assert (record.selector, record.rows, record.seed, record.experiment) == ("ifd", 100, 0, "quickstart")
    assert record.spent("selection", "seconds") == 2.0


def test_labels_that_differ_in_punctuation_only_do_not_share_a_file(tmp_path: Path) -> None:
    paths = {record_path(tmp_path, None, made("x", label=label).data) for label in ("x(a=1)", "x[a=1]", "x a=1 ")}
    assert len(paths) == 3
    assert {path.parent.name for path in paths} == {"runs"}


def test_another_environment_alone_leaves_the_file_untouched(tmp_path: Path) -> None:
    data = dict(made().data)
    path = write(tmp_path, data)
    before = path.read_bytes()
    elsewhere = {
        **data,
        "environment": {**data["environment"], "commit": "f" * 40},
        "command": "dwbench run -m",
    }
    elsewhere["environments_differ"] = {"packages.torch": {"selection": ["2.12.0"], "evaluation": ["2.13.0"]}}
    assert not write_record(path, elsewhere)
    assert path.read_bytes() == before
    assert write_record(path, {**elsewhere, "seed": 7})
    assert load_records(tmp_path)[0].seed == 7


def test_a_broken_file_is_written_anew(tmp_path: Path) -> None:
    data = made().data
    path = write(tmp_path, data)
    path.write_text("{")
    assert write_record(path, data)
    assert len(load_records(tmp_path)) == 1


def test_the_content_key_ignores_where_a_run_was_made() -> None:
    data = dict(made().data)
    record = made()
    elsewhere = {**data, "command": "x", "config": {"results_dir": "y"}}
    assert type(record)(record.path, elsewhere).content_key == record.content_key
    assert type(record)(record.path, {**data, "seed": 1}).content_key != record.content_key


def test_failures_are_no_records(tmp_path: Path) -> None:
    write(tmp_path, made().data)
    (tmp_path / "failed").mkdir()
    (tmp_path / "failed" / "x.json").write_text('{"error": "boom"}')
    assert len(load_records(tmp_path)) == 1


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"schema": 1,\n oops}', "bad.json:2: not JSON"),
        ("[]", "bad.json: not a record"),
        ('{"a": 1}', "bad.json: not a record"),
        ('{"schema": 2}', "bad.json: record schema 2, this dwbench reads 1"),
        ('{"schema": 1, "run": "x"}', "bad.json: the record lacks 'experiment'"),
    ],
)
def test_what_is_no_record_is_refused_by_name(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "bad.json").write_text(text)
    with pytest.raises(UserError) as error:
        load_records(tmp_path)
    assert told in str(error.value)
    assert "\n" not in str(error.value)


def test_a_nested_key_that_is_missing_is_named(tmp_path: Path) -> None:
    data = json.loads(json.dumps(made().data))
    del data["cost"]["training"]["total"]
    write(tmp_path, data)
    with pytest.raises(UserError, match=r"lacks 'cost\.training\.total'"):
        load_records(tmp_path)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere: no such folder"):
        load_records(tmp_path / "nowhere")


HERE = {"packages": {"torch": "2.13.0", "trl": "1.16.0"}, "hardware": {"cpu": "A", "gpus": []}, "commit": "c"}
ELSEWHERE = {**HERE, "hardware": {"cpu": "B", "gpus": ["H200"]}}
OLDER = {**HERE, "packages": {"torch": "2.12.0"}}


def test_stages_made_in_one_environment_do_not_differ() -> None:
    assert differing({"selection": [HERE, HERE], "training": [HERE], "evaluation": [HERE]}) == {}
    assert differing({"selection": [], "training": [], "evaluation": [HERE]}) == {}


def test_where_stages_differ_is_told_by_part() -> None:
    assert differing({"selection": [HERE, OLDER], "training": [], "evaluation": [ELSEWHERE]}) == {
        "hardware.cpu": {"selection": ["A"], "evaluation": ["B"]},
        "hardware.gpus": {"selection": [[]], "evaluation": [["H200"]]},
        "packages.torch": {"selection": ["2.12.0", "2.13.0"], "evaluation": ["2.13.0"]},
        "packages.trl": {"selection": ["1.16.0", None], "evaluation": ["1.16.0"]},
    }


def test_a_record_knows_the_environment_of_each_part() -> None:
    differ = differing({"selection": [HERE, OLDER], "training": [HERE], "evaluation": [HERE]})
    record = made()
    record = Record(record.path, {**record.data, "environment": HERE, "environments_differ": differ})
    assert record.environment_of("selection", "packages.") == {
        "packages.torch": ["2.12.0", "2.13.0"],
        "packages.trl": ["1.16.0", None],
    }
    assert record.environment_of("training")["packages.torch"] == ["2.13.0"]
    assert record.environment_of("selection")["commit"] == ["c"]


def test_a_record_from_before_parts_were_told_has_one_environment() -> None:
    record = made(torch="2.11.0")
    assert "environments_differ" not in record.data
    assert [record.environment_of(part)["packages.torch"] for part in PARTS] == [["2.11.0"]] * 3


def test_committed_records_are_read() -> None:
    folder = Path(__file__).parents[1] / "results"
    if not folder.is_dir():
        pytest.skip("no committed records")
    assert all(record.environment_of(part, "packages.") for record in load_records(folder) for part in PARTS)


def test_a_number_that_is_none_is_found_when_it_is_read(tmp_path: Path) -> None:
    data = dict(made().data)
    for broken, told in (
        ({"metrics": {"nll": None}}, "metrics.nll.n is None"),
        ({"metrics": {"nll": {"value": "low", "stderr": None, "n": 3}}}, "metrics.nll.value is 'low'"),
        ({"metrics": {"nll": {"value": float("nan"), "stderr": None, "n": 3}}}, "metrics.nll.value is nan"),
        ({"cost": {**data["cost"], "training": {"total": "x"}}}, "cost.training.total.seconds is None"),
        ({"items": {"nll": [1, 0.5, None]}}, r"items.nll\[2\] is None, no number"),
        ({"items": {"nll": [0.5], "rouge_l": [0.5, float("inf")]}}, r"items.rouge_l\[1\] is inf"),
        ({"items": {"nll": [True]}}, r"items.nll\[0\] is True"),
        ({"items": {"nll": "0.5"}}, "items.nll is '0.5'"),
        ({"items": None}, "items is None"),
    ):
        (tmp_path / "a.json").write_text(json.dumps({**data, **broken}))
        with pytest.raises(UserError, match=rf"a\.json: {told}"):
            load_records(tmp_path)
    (tmp_path / "a.json").write_text(json.dumps({**data, "items": {"nll": [1, 0.5]}}))
    assert load_records(tmp_path)[0].items == {"nll": [1, 0.5]}


def test_a_bad_record_is_told_of_where_the_others_are_wanted(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{}")
    (tmp_path / "b.json").write_text(json.dumps(made().data))
    told: list[str] = []
    assert [record.path.name for record in load_records(tmp_path, told.append)] == ["b.json"]
    assert told == [
        f"left out: {tmp_path / 'a.json'}: not a record of dwbench (no 'schema'); move it out of the results folder"
    ]
