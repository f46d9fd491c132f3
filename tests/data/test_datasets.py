"""The data sets as they are configured, on small files and, where there are any, on real rows."""

import json
from pathlib import Path
from typing import Any

import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

from dwbench.component import identity, key_of
from dwbench.data.base import Dataset, RawRow, Splits
from dwbench.data.dialogsum import group_references
from dwbench.errors import UserError

CONF = Path(__file__).resolve().parents[2] / "conf" / "dataset"
# One that is made of another has that one's fields.
NAMES = sorted(path.stem for path in CONF.glob("*.yaml") if "defaults:" not in path.read_text(encoding="utf-8"))


def read(name: str) -> Any:
    """The configuration as plain data."""
    return OmegaConf.to_container(OmegaConf.load(CONF / f"{name}.yaml"))


def make(name: str, **changes: object) -> Dataset:
    config = read(name)
    unknown = changes.keys() - config.keys()
    assert not unknown, f"{unknown} can't be overridden without +"
    made: Dataset = instantiate({**config, **changes}, _convert_="all")
    return made


def jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def maths(count: int, name: str = "q") -> list[dict[str, Any]]:
    return [{"question": f"{name} {n}", "answer": f"{n} is <<{n}={n}>>{n}.\n#### {n}"} for n in range(count)]


def ids(splits: Splits) -> tuple[list[str], list[str], list[str]]:
    pool, target, test = ([row.id for row in rows] for rows in (splits.pool, splits.target, splits.test))
    return pool, target, test


@pytest.mark.parametrize("name", NAMES)
def test_every_field_is_spelled_out_and_names_agree(name: str) -> None:
    config = read(name)
    dataset = make(name, **({"path": "x"} if name == "jsonl" else {}))
    assert set(config) == {"_target_", *dataset.__dataclass_fields__}  # type: ignore[attr-defined]
    assert set(config["task"]) == {"_target_", *dataset.task.__dataclass_fields__}
    assert dataset.name == dataset.task.name == name


def test_a_path_is_no_part_of_the_key_and_a_misspelt_field_is_refused() -> None:
    assert key_of(identity(make("gsm8k"))) == key_of(identity(make("gsm8k", path="/somewhere")))
    assert key_of(identity(make("gsm8k"))) != key_of(identity(make("gsm8k", pool_rows=5)))
    config = read("gsm8k")
    with pytest.raises(Exception, match="pol_rows"):
        instantiate({**config, "pol_rows": 5}, _convert_="all")
    with pytest.raises(Exception, match="greater than 0"):
        make("gsm8k", pool_rows=0)


@pytest.fixture
def gsm8k_folder(tmp_path: Path) -> Path:
    jsonl(tmp_path / "train.jsonl", maths(900))
    jsonl(tmp_path / "test.jsonl", maths(20, "test"))
    return tmp_path


def test_gsm8k_official(gsm8k_folder: Path) -> None:
    splits = make("gsm8k", path=str(gsm8k_folder), target_rows=50).load(0)
    assert (len(splits.pool), len(splits.target), len(splits.test)) == (850, 50, 20)
    assert splits.pool[0].response.startswith("0 is <<0=0>>0.")
    small = make("gsm8k", path=str(gsm8k_folder), target_rows=50, pool_rows=30, test_rows=3, strip_calculator=True)
    drawn = small.load(0)
    assert (len(drawn.pool), len(drawn.target), len(drawn.test)) == (30, 50, 3)
    assert set(ids(drawn)[0]) < set(ids(splits)[0])
    assert ids(drawn)[1] == ids(splits)[1]
    assert drawn.pool[0].response == f"{drawn.pool[0].id} is {drawn.pool[0].id}.\n#### {drawn.pool[0].id}"


def test_gsm8k_as_in_the_paper(gsm8k_folder: Path) -> None:
    (gsm8k_folder / "test.jsonl").unlink()
    splits = make("gsm8k", path=str(gsm8k_folder), split="paper", target_rows=0).load(0)
    assert (len(splits.pool), len(splits.target), len(splits.test)) == (152, 0, 748)
    assert splits.notes == ("test: 748 rows of train drawn by seed 0; the paper's own are not known",)
    fewer = make("gsm8k", path=str(gsm8k_folder), split="paper", target_rows=0, test_rows=10).load(0)
    assert fewer.pool == splits.pool
    again = make("gsm8k", path=str(gsm8k_folder), split="paper", target_rows=0).load(1)
    assert ids(again)[2] != ids(splits)[2]


def test_gsm8k_needs_numbers(gsm8k_folder: Path) -> None:
    jsonl(gsm8k_folder / "test.jsonl", [*maths(2), {"question": "q", "answer": "four"}])
    with pytest.raises(UserError, match=r"test\.jsonl:3: its answer has no line '#### NUMBER'"):
        make("gsm8k", path=str(gsm8k_folder)).load(0)


def test_a_bad_folder_gets_one_line(gsm8k_folder: Path) -> None:
    with pytest.raises(
        UserError, match=rf"^dataset\.path: {gsm8k_folder}x is no folder: did you mean '{gsm8k_folder}'"
    ):
        make("gsm8k", path=f"{gsm8k_folder}x").load(0)
    jsonl(gsm8k_folder / "train.json", [])
    with pytest.raises(UserError, match=r"train\.json: there is also train\.jsonl: take one of the two away"):
        make("gsm8k", path=str(gsm8k_folder)).load(0)
    for path in gsm8k_folder.iterdir():
        path.unlink()
    with pytest.raises(UserError, match=r"no train\.jsonl \(\.json, \.csv, \.parquet\) but nothing: add it"):
        make("gsm8k", path=str(gsm8k_folder)).load(0)


def dialogue(row_id: str, text: str, summary: str) -> dict[str, Any]:
    return {"id": row_id, "dialogue": text, "summary": summary, "topic": "t"}


def test_dialogsum_with_train_has_validation_as_target(tmp_path: Path) -> None:
    jsonl(tmp_path / "train.jsonl", [dialogue(f"train_{n}", f"d{n}", f"s{n}") for n in range(9)])
    jsonl(tmp_path / "validation.jsonl", [dialogue("dev_0", "v", "s"), dialogue("dev_1", "D3", "s")])
    jsonl(tmp_path / "test.jsonl", [dialogue(f"test_0_{n}", "t", f"s{n}") for n in (2, 1, 3)])
    splits = make("dialogsum", path=str(tmp_path), target_rows=2).load(0)
    assert ids(splits) == ([f"train_{n}" for n in (0, 1, 2, 4, 5, 6, 7, 8)], ["dev_0", "dev_1"], ["test_0"])
    assert splits.test[0].response == "s1"
    assert splits.test[0].references == ("s1", "s2", "s3")
    assert splits.notes == (
        "test: 3 reference summaries grouped by their 1 dialogues",
        "pool: 1 row left out, also in the target set",
    )


def test_references_of_different_dialogues_are_not_mixed() -> None:
    rows = [RawRow(id=f"test_1_{n}", input=f"d{n}", response="s", where=f"f:{n}") for n in (1, 2)]
    with pytest.raises(UserError, match=r"^f:2: row 'test_1_2' has another dialogue than 'test_1_1' \(f:1\)"):
        group_references(rows)
    mine = [RawRow(id=name, input=name, response="s", where="f") for name in ("a", "b_1", "b_2")]
    assert [row.id for row in group_references(mine)] == ["a", "b_1", "b_2"]


def test_a_user_file_holds_out_what_it_has_no_file_for(tmp_path: Path) -> None:
    pool = jsonl(tmp_path / "pool.jsonl", maths(40))
    splits = make("jsonl", path=str(pool)).load(0)
    assert (len(splits.pool), len(splits.target), len(splits.test)) == (32, 4, 4)
    assert splits.notes == (
        "test: 4 rows held out of 40 by seed 0",
        "target: 4 rows held out of 36 by seed 0",
    )
    test = jsonl(tmp_path / "test.jsonl", maths(5, "t"))
    splits = make("jsonl", path=str(pool), test_path=str(test), target_rows=0).load(0)
    assert (len(splits.pool), len(splits.target), len(splits.test), splits.notes) == (40, 0, 5, ())
    with pytest.raises(UserError, match=r"^dataset\.target_rows=40: to be held out of 40 rows"):
        make("jsonl", path=str(pool), target_rows=40, test_rows=0).load(0)


def test_user_files_that_overlap_are_refused(tmp_path: Path) -> None:
    pool = jsonl(tmp_path / "pool.jsonl", maths(10))
    other = jsonl(tmp_path / "other.jsonl", [*maths(1, "fresh"), *maths(3)])
    for split in ("target", "test"):
        match = rf"other\.jsonl:2: {split} row '1' is also in the pool \(.*pool\.jsonl:1, id '0'\), as are 3 of 4"
        with pytest.raises(UserError, match=match):
            make("jsonl", path=str(pool), **{f"{split}_path": str(other)}).load(0)
    far = jsonl(tmp_path / "far.jsonl", maths(1, "far"))
    with pytest.raises(UserError, match=r"far\.jsonl:1: test row '0' is also in the target set"):
        make("jsonl", path=str(pool), target_path=str(far), test_path=str(far)).load(0)


def test_user_columns_and_system_messages(tmp_path: Path) -> None:
    pool = jsonl(tmp_path / "pool.jsonl", [{"ask": f"q{n}", "reply": "a"} for n in range(3)])
    splits = make("jsonl", path=str(pool), input_column="ask", response_column="reply").load(0)
    assert [row.input for row in splits.pool] == ["q0", "q1", "q2"]
    with pytest.raises(Exception, match="name both, or neither"):
        make("jsonl", path=str(pool), input_column="ask")
    turns = [{"role": role, "content": "x"} for role in ("system", "user", "assistant")]
    chats = jsonl(tmp_path / "chats.jsonl", [{"messages": turns}])
    assert make("jsonl", path=str(chats)).load(0).pool[0].history == (("system", "x"),)
    task = read("jsonl")["task"] | {"system": "Be kind."}
    with pytest.raises(UserError, match=r"chats\.jsonl:1: has a system message, and so has the task"):
        make("jsonl", path=str(chats), task=task).load(0)


def test_embedded() -> None:
    splits = make("embedded").load(0)
    assert (len(splits.pool), len(splits.target), len(splits.test), splits.notes) == (200, 20, 50, ())
    assert make("embedded").load(0) == splits
    assert make("embedded").load(1).pool != splits.pool
    with pytest.raises(Exception, match="generates version 1, not 2"):
        make("embedded", version=2)


@pytest.mark.parametrize(
    ("name", "changes", "sizes", "notes"),
    [
        ("gsm8k", {}, (6873, 100, 1000), ["target: 100 rows held out of 6,973 by seed 0"]),
        (
            "dialogsum", {}, (397, 100, 400),
            [
                "pool: the validation split, as",
                "test: 1,200 reference summaries grouped by their 400 dialogues",
                "pool: 3 rows left out, also in the test set",
                "target: 100 rows held out of 497 by seed 0",
            ],
        ),
        ("bioinstruct", {"pool_rows": 100}, (100, 100, 400), ["target: 100 rows held out of 1,600"]),
    ],
)  # fmt: skip
def test_real_rows(
    shared: Path, name: str, changes: dict[str, Any], sizes: tuple[int, int, int], notes: list[str]
) -> None:
    splits = make(name, path=str(shared / "data" / name), **changes).load(0)
    assert (len(splits.pool), len(splits.target), len(splits.test)) == sizes
    assert len(splits.notes) == len(notes)
    assert all(note.startswith(start) for note, start in zip(splits.notes, notes, strict=True))
    references = {len(row.references) for row in splits.test}
    assert references == ({3} if name == "dialogsum" else {1})


def test_real_rows_in_another_order(shared: Path, tmp_path: Path) -> None:
    lines = (shared / "data" / "bioinstruct" / "train.jsonl").read_text().splitlines()
    (tmp_path / "train.jsonl").write_text("\n".join(reversed(lines)))
    (tmp_path / "test.jsonl").symlink_to(shared / "data" / "bioinstruct" / "test.jsonl")
    one = make("bioinstruct", path=str(shared / "data" / "bioinstruct"), pool_rows=50).load(7)
    other = make("bioinstruct", path=str(tmp_path), pool_rows=50).load(7)
    assert [row.uid for row in one.pool] == [row.uid for row in reversed(other.pool)]
    assert [row.uid for row in one.target] == [row.uid for row in reversed(other.target)]
    assert one.test == other.test
