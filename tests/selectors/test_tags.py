"""Tags from files and out of answers."""

from pathlib import Path

import numpy as np
import pytest
from rows import TOO_LONG, material

from dwbench.errors import UserError
from dwbench.models.spec import LM
from dwbench.representations.generation import Answer
from dwbench.representations.scorer import Answers, Scorer
from dwbench.selectors.context import Context
from dwbench.selectors.mig import MIG
from dwbench.selectors.models import LoadedModels
from dwbench.selectors.tags import ModelTags, check_tags, file_tags, model_tags, parse_tags, read_tags
from dwbench.store import Bench, Store


@pytest.mark.parametrize(
    ("answer", "tags"),
    [
        ("ferries, Bad  Weather, ferries", ("ferries", "bad weather")),
        ("\n\n Tags: rail; C++ ; C#\nand more, lines", ("rail", "c++", "c#")),
        ('1. "cooking", 2) #3D printing, - [maths].', ("cooking", "3d printing", "maths")),
        ("铁路, Fähre", ("铁路", "fähre")),
        ("The request is about a ferry that waits.", ()),
        ("2024, 7, ...", ()),
        ("", ()),
        (", ".join("abcdefghij"), tuple("abcdefgh")),
    ],
)
def test_tags_of_an_answer(answer: str, tags: tuple[str, ...]) -> None:
    assert parse_tags(answer) == tags


def test_a_file(tmp_path: Path) -> None:
    path = tmp_path / "tags.jsonl"
    path.write_text('{"id": "a", "tags": ["Rail ", "rail", ""]}\n\n{"id": 7, "tags": []}\n', encoding="utf-8")
    tags = read_tags(str(path))
    assert tags == {"a": ("rail",), "7": ()}
    found = file_tags(tags, ["b", "7", "c"])
    assert (found.of_rows, found.missing, found.unused) == ([(), (), ()], 2, 1)
    with pytest.raises(UserError, match=r"its ids \(first 'a'\) are none of the pool's \(first 'b'\)"):
        check_tags(str(path), tags, ["c", "b"])
    check_tags(str(path), tags, ["c", "7"])


def test_a_file_with_a_byte_order_mark_and_odd_line_ends(tmp_path: Path) -> None:
    path = tmp_path / "tags.jsonl"
    path.write_bytes('\ufeff{"id": 1, "tags": ["a\u2028b"]}\r\n{"id": 2, "tags": ["c"]}'.encode())
    assert read_tags(str(path)) == {"1": ("a b",), "2": ("c",)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no lines"),
        ('{"id": 1, "tags": []}\nno', r":2: is no JSON"),
        ('{"id": 1}', r":1: has no id and tags: want"),
        ('[1, ["a"]]', r":1: has no id and tags"),
        ('{"id": null, "tags": []}', "neither text nor a number"),
        ('{"id": 1, "tags": "a, b"}', "no list of texts"),
        ('{"id": 1, "tags": []}\n{"id": "1", "tags": ["a"]}', ":2: a second line for id '1'"),
    ],
)
def test_files_that_are_refused(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "tags.jsonl"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=message):
        read_tags(str(path))


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No such file"):
        read_tags(str(tmp_path / "none.jsonl"))
    (tmp_path / "latin").write_bytes(b"\xe4")
    with pytest.raises(UserError, match="no UTF-8"):
        read_tags(str(tmp_path / "latin"))


def test_tags_by_a_model(tiny_lm: LM, models: LoadedModels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every question that fits is asked alone, once; an answer that is no list gives no tag."""
    asked: list[str] = []

    def answers(self: Scorer, prompts: list[tuple[int, ...]], *_: object, what: str) -> Answers:
        texts = [self.chat.tokenizer.decode(prompt) for prompt in prompts]
        asked.extend(texts)
        given = ["rail, ferries" if "ferry" in text else "I would say that it is a notice" for text in texts]
        return Answers([Answer(text, 3, True) for text in given], [])

    monkeypatch.setattr(Scorer, "answers", answers)
    bench = Bench(Store(tmp_path))
    selector = MIG(tags="model")
    found: list[ModelTags] = []
    for attempt in range(2):
        context = Context(selector.needs, bench, material(tiny_lm), models)
        bench.stage("test", {"attempt": attempt}, lambda _, context=context: found.append(model_tags(context)))
    assert len(asked) == 10  # 12 rows, of which two ask the same and one is too long
    assert all("Headline" not in text and "Storm holds" not in text for text in asked)
    tags = dict(zip([row.id for row in context.pool], found[1].of_rows, strict=True))
    assert {id: one for id, one in tags.items() if one} == {"8": ("rail", "ferries")}
    assert [row.id for row, fits in zip(context.pool, found[0].asked, strict=True) if not fits] == [TOO_LONG]
    assert found[0].of_rows == found[1].of_rows
    assert found[0].asked.dtype == np.bool_
