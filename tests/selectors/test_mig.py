"""MIG: where labels and quality are from, rows without them, and the key of a file of tags."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rows import TOO_LONG, examples, material

from dwbench.component import identity
from dwbench.config import selector_named
from dwbench.contract import Scored, Trial, check_selector
from dwbench.data.base import Splits
from dwbench.errors import UserError
from dwbench.models.encoder import Encoder
from dwbench.models.spec import LM
from dwbench.selectors.context import Context
from dwbench.selectors.losses import NO_RESPONSE
from dwbench.selectors.material import Material
from dwbench.selectors.mig import MIG, Labels, cluster_labels
from dwbench.selectors.models import LoadedModels
from dwbench.store import Bench, Store

SUBJECTS = (("The ferry is late again", 16), ("Rain", 12), ("A long film about trees and doors", 8), ("Cats!", 4))

TAGS: Mapping[str, Sequence[str]] = {
    **{str(n): ["Library"] for n in (0, 3)},
    "1": ["pool", "opening hours"],
    "2": ["school"],
    "8": ["weather", "ferry", "harbour"],
    "11": ["film", "Weather"],
    "gone": ["nothing"],
}


@pytest.fixture(scope="module")
def given(tiny_lm: LM, encoder: Encoder) -> Material:
    return material(tiny_lm, encoder=encoder)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(Store(tmp_path_factory.mktemp("store")))


@pytest.fixture
def tags_file(tmp_path: Path) -> str:
    return written(tmp_path / "tags.jsonl", TAGS)


def written(path: Path, tags: Mapping[str, Sequence[str]]) -> str:
    path.write_text("".join(json.dumps({"id": id, "tags": one}) + "\n" for id, one in tags.items()))
    return str(path)


def choose(
    selector: MIG, given: Material, models: LoadedModels, bench: Bench, k: int, barred: frozenset[str] = frozenset()
) -> Scored:
    return Trial(selector, given, models).score_in(bench, selector.needs, k, barred)


def subjects(lm: LM, encoder: Encoder) -> Material:
    rows = tuple((f"{subject}, number {n}.", f"{subject} {n}") for subject, count in SUBJECTS for n in range(count))
    return material(lm, Splits(pool=examples(rows), target=(), test=()), encoder=encoder)


def test_tags_of_a_file(tags_file: str, given: Material, models: LoadedModels, bench: Bench) -> None:
    selector = MIG(tags="file", tags_file=tags_file, edge_threshold=1)
    found = choose(selector, given, models, bench, 6)
    values = dict(zip(found.ids, found.scores.values, strict=True))
    fresh, once = (0.8 * (n + 1e-6) ** -0.2 for n in (0, 1))
    # Three new labels, then two, then one of two; then a library and a school, in the order of their content.
    chosen = found.choose(6, 0)
    assert chosen[:2] == ["8", "1"]
    assert chosen[2] == "11"
    assert set(chosen[3:]) == {"0", "3", "2"}
    assert chosen[5] != "2"
    np.testing.assert_allclose([values[id] for id in chosen[:3]], [3 * fresh, 2 * fresh, fresh + once])
    np.testing.assert_allclose([values[id] for id in chosen[3:]], [fresh, fresh, once])
    without = set(found.ids) - set(TAGS)
    assert {id for id in found.ids if values[id] == 0} == without
    assert found.scores.notes == {
        "rows_not_in_tags_file": len(without),
        "lines_of_other_rows": 1,
        "rows_without_tags": len(without),
        "labels": 8,
        "label_edges": 0,
        "labels_reached": 8,
    }


def test_many_tags_give_no_advantage_where_quality_is_divided(
    tags_file: str, given: Material, models: LoadedModels, bench: Bench
) -> None:
    selector = MIG(tags="file", tags_file=tags_file, edge_threshold=1, divide=True)
    found = choose(selector, given, models, bench, 1)
    values = dict(zip(found.ids, found.scores.values, strict=True))
    fresh = 0.8 * 1e-6**-0.2
    assert values[found.choose(1, 0)[0]] == pytest.approx(fresh)


def test_joined_labels(given: Material, models: LoadedModels, tags_file: str, bench: Bench) -> None:
    """The tiny encoder finds all texts alike: every label is joined with each other one."""
    found = choose(MIG(tags="file", tags_file=tags_file, edge_threshold=0.01), given, models, bench, 4)
    assert found.scores.notes["label_edges"] == 28


def test_the_tags_are_in_the_key_and_the_path_is_not(tmp_path: Path) -> None:
    one = MIG(tags="file", tags_file=written(tmp_path / "one", TAGS))
    turned = dict(reversed(TAGS.items()))
    other = MIG(tags="file", tags_file=written(tmp_path / "other", turned))
    assert identity(one) == identity(other)
    assert str(tmp_path) not in json.dumps(identity(one))
    written(tmp_path / "other", {**TAGS, "5": ["library"]})
    assert identity(one) == identity(other)  # what a run began with is what its record tells of
    other = MIG(tags="file", tags_file=str(tmp_path / "other"))
    assert identity(one) != identity(other)
    assert identity(MIG()) != identity(MIG(tags="model"))
    _, label = selector_named("mig", {"tags": "file", "tags_file": other.tags_file})
    assert label == f"mig(tags=file, tags_file={identity(other)['tags_file']})"
    (tmp_path / "other").unlink()
    with pytest.raises(UserError, match="No such file"):
        identity(MIG(tags="file", tags_file=str(tmp_path / "other")))


def test_tags_for_other_rows_are_refused_beforehand(
    given: Material, models: LoadedModels, tmp_path: Path, bench: Bench
) -> None:
    for tags, fits in (({"x": ["a"]}, False), (TAGS, True)):
        selector = MIG(tags="file", tags_file=written(tmp_path / "tags", tags))
        context = Context(selector.needs, bench, given, models)
        if fits:
            selector.check(context)
        else:
            with pytest.raises(UserError, match="are none of the pool's"):
                selector.check(context)


def test_a_file_without_tags_for_these_rows_gives_a_drawn_order(
    given: Material, models: LoadedModels, tmp_path: Path, bench: Bench
) -> None:
    """As for an estimate, which looks at a part of the pool."""
    selector = MIG(tags="file", tags_file=written(tmp_path / "tags", {"gone": ["nothing"]}))
    found = choose(selector, given, models, bench, 4)
    assert len(set(found.choose(4, 0))) == 4
    assert found.scores.notes["labels"] == 0
    assert set(found.scores.values) == {0}


def test_a_scorer_that_can_tag_no_row_is_refused_beforehand(
    given: Material, models: LoadedModels, bench: Bench
) -> None:
    selector = MIG(tags="model")
    selector.check(Context(selector.needs, bench, given, models))
    short = dataclasses.replace(given, scorer=dataclasses.replace(given.scorer, max_length=100))
    with pytest.raises(UserError, match=r"selector.tags=model: no question .* max_length 100: raise it"):
        selector.check(Context(selector.needs, bench, short, models))


def test_imports_are_not_charged(given: Material, models: LoadedModels, tags_file: str, bench: Bench) -> None:
    selector = MIG(tags="file", tags_file=tags_file)
    context = Context(selector.needs, bench, given, models)

    def work(_: Path) -> None:
        selector.choose(context, 3, np.ones(context.n_rows, dtype=np.bool_))

    assert "import" in bench.stage("test", {"of": "imports"}, work).cost.apart


def test_clusters_are_labels(tiny_lm: LM, encoder: Encoder, models: LoadedModels, bench: Bench) -> None:
    given = subjects(tiny_lm, encoder)
    selector = MIG(edge_threshold=1)
    found = choose(selector, given, models, bench, 4)
    labels: list[Labels] = []
    context = Context(selector.needs, bench, given, models)
    bench.stage("labels", {}, lambda _: labels.append(cluster_labels(context, 1000)))
    fine = [label for label, _ in labels[0].of_rows]
    assert len(set(fine)) == 4
    assert {coarse for _, coarse in labels[0].of_rows} == {4}
    assert labels[0].vectors.shape == (5, 16)
    # Four picks, a cluster each.
    of_id = dict(zip(found.ids, fine, strict=True))
    assert sorted(of_id[id] for id in found.choose(4, 0)) == [0, 1, 2, 3]
    assert found.scores.notes == {"labels": 5, "label_edges": 0, "labels_reached": 5}


@pytest.mark.parametrize("gain", ["gradient", "exact"])
@pytest.mark.parametrize("phi", ["power", "exponential"])
def test_exact_numbers_whatever_the_budget(
    gain: Any, phi: Any, tiny_lm: LM, encoder: Encoder, models: LoadedModels, bench: Bench
) -> None:
    given = subjects(tiny_lm, encoder)
    smaller: list[str] = []
    for k in (1, 7, 40):
        chosen = choose(MIG(gain=gain, phi=phi), given, models, bench, k).choose(k, 0)
        assert len(set(chosen)) == k
        assert chosen[: len(smaller)] == smaller  # greedy: a smaller choice is a part of a larger one
        smaller = chosen


@pytest.mark.parametrize("quality", ["high_loss", "ifd"])
def test_quality_by_losses(quality: Any, given: Material, models: LoadedModels, tags_file: str, bench: Bench) -> None:
    selector = MIG(tags="file", tags_file=tags_file, quality=quality, edge_threshold=1, gain="exact")
    found = choose(selector, given, models, bench, 12)
    reasons = {id: reason for id, reason in zip(found.ids, found.scores.reasons, strict=True) if reason}
    assert reasons == {TOO_LONG: NO_RESPONSE}
    assert found.choose(12, 0)[-1] == TOO_LONG
    values = dict(zip(found.ids, found.scores.values, strict=True))
    plain = dict(
        zip(
            found.ids,
            choose(dataclasses.replace(selector, quality="none"), given, models, bench, 12).scores.values,
            strict=True,
        )
    )
    assert values["2"] != pytest.approx(plain["2"])


def test_more_of_a_quality_adds_more(given: Material, models: LoadedModels, tags_file: str, bench: Bench) -> None:
    """Alone with its tag, a row adds phi(q): the more tokens, the more."""
    selector = MIG(tags="file", tags_file=tags_file, quality="length", edge_threshold=1, gain="exact")
    found = choose(selector, given, models, bench, 12)
    tokens = len(models.chat(given.scorer).ids("School gets new windows, says the council of the town"))
    values = dict(zip(found.ids, found.scores.values, strict=True))
    assert values["2"] == pytest.approx(tokens**0.8, rel=1e-4)
    assert selector.needs == {"responses", "embedder", "seed", "ids", "tokenizer"}


def test_barred_rows_take_no_place(given: Material, models: LoadedModels, tags_file: str, bench: Bench) -> None:
    barred = frozenset({"8", TOO_LONG, "2"})
    selector = MIG(tags="file", tags_file=tags_file)
    assert not barred & set(choose(selector, given, models, bench, 9, barred).choose(9, 0))
    assert set(choose(selector, given, models, bench, 12, barred).choose(12, 0)[9:]) == barred
    everyone = frozenset(row.id for row in given.splits.pool)
    assert len(set(choose(selector, given, models, bench, 4, everyone).choose(4, 0))) == 4


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tags": "file"}, "tags_file: give a file"),
        ({"tags_file": "x"}, "tags_file: .* none otherwise"),
        ({"edge_threshold": 0}, "edge_threshold: must be above 0"),
        ({"edge_factor": -1}, "edge_factor"),
        ({"clusters": 0}, "clusters"),
        ({"tags": "model", "clusters": 50}, "clusters: there are none with tags=model"),
        ({"quality": "low_loss"}, "quality"),
    ],
)
def test_settings_that_mean_nothing(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MIG(**settings)


def test_configured() -> None:
    assert selector_named("mig", {}) == (MIG(), "mig")


def test_keeps_the_contract_with_clusters(given: Material, models: LoadedModels) -> None:
    check_selector(MIG(quality="ifd"), given, models)


def test_keeps_the_contract_with_a_file(given: Material, models: LoadedModels, tags_file: str) -> None:
    check_selector(MIG(tags="file", tags_file=tags_file, gain="exact"), given, models)


def test_keeps_the_contract_with_tags_by_the_model(given: Material, models: LoadedModels) -> None:
    check_selector(MIG(tags="model"), given, models)
