"""Data Whisperer with the real model against published code and an independent naive implementation."""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rows import TASK
from scoring import golden, with_scorer

from dwbench.component import field_identities
from dwbench.data.base import Task
from dwbench.metrics import answer_score
from dwbench.models.spec import LM
from dwbench.representations.attention import RowsAndColumns, part_masses
from dwbench.representations.scorer import Answers
from dwbench.selectors import data_whisperer_reference as reference
from dwbench.selectors.data_whisperer import contributions, demo_weights
from dwbench.selectors.icl import answers_by_index, is_complete, token_spans
from dwbench.selectors.models import LoadedModels

DIALOGUES = Task(**{**field_identities(TASK), "input_label": "Dialogue", "answer_label": "Summary"})
ROWS = ("query_block", "query_text_only", "last_token")
N_NEW = 24
"""Tokens that are generated of the stored 96, to save time."""


@pytest.fixture(scope="module")
def data(shared: Path) -> dict[str, Any]:
    return golden(shared, "data_whisperer/case_main")


@pytest.fixture(scope="module")
def cases(data: dict[str, Any]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """(inputs, expected) of each prompt."""
    return list(zip(data["inputs"]["prompts"], data["expected"]["prompts"], strict=True))


@pytest.fixture(scope="module")
def tokenizer(smollm2: LM, models: LoadedModels, cases: list[tuple[Any, Any]]) -> Any:
    """The tokenizer that the case was made with, which does not split numbers into digits."""
    from tokenizers.pre_tokenizers import ByteLevel

    found = copy.deepcopy(models.chat(smollm2).tokenizer)
    found.backend_tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False, use_regex=True)
    for given, _ in cases:
        assert found(given["prompt"], add_special_tokens=False)["input_ids"] == given["prompt_ids"]
    return found


def wanted(spans: dict[str, Any], length: int, rows: str) -> RowsAndColumns:
    of_rows = {
        "query_block": (tuple(spans["query_block"]),),
        "query_text_only": tuple(tuple(span) for span in spans["query_texts"]),
        "last_token": ((length - 1, length),),
    }
    return RowsAndColumns(length, of_rows[rows], tuple(tuple(span) for span in spans["demos"]))


@pytest.fixture(scope="module")
def answered(
    data: dict[str, Any], cases: list[tuple[Any, Any]], tokenizer: Any, smollm2: LM, models: LoadedModels
) -> dict[str, Answers]:
    """Greedy answers of one pass, with the attention of each kind of rows and of the published code's windows."""
    prompts = [given["prompt_ids"] for given, _ in cases]
    wants = {
        kind: [wanted(want["token_spans"], len(ids), kind) for ids, (_, want) in zip(prompts, cases, strict=True)]
        for kind in ROWS
    }
    wants["official"] = [official_windows(given, tokenizer) for given, _ in cases]
    mass: dict[str, list[Any]] = {kind: [None] * len(prompts) for kind in wants}

    def of_all_kinds(query: Any, key: Any, mask: Any, scale: float, want: RowsAndColumns) -> Any:
        prompt = wants["query_block"].index(want)
        for kind in wants:
            mass[kind][prompt] = part_masses(query, key, mask, scale, wants[kind][prompt])
        return mass["query_block"][prompt]

    layer = data["parameters"]["layer"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dwbench.representations.attention.part_masses", of_all_kinds)
        found, _ = with_scorer(
            models,
            smollm2,
            lambda scorer: scorer.answers(prompts, N_NEW, layer=layer, wanted=wants["query_block"]),
        )
    np.testing.assert_array_equal(found.mass, mass["query_block"])
    return {kind: Answers(found.answers, of_kind) for kind, of_kind in mass.items()}


def official_windows(given: dict[str, Any], tokenizer: Any) -> RowsAndColumns:
    def n_tokens(span: Sequence[int]) -> int:
        return len(tokenizer(given["prompt"][slice(*span)])["input_ids"])

    spans = given["char_spans"]
    return reference.windows(
        n_tokens(spans["instruction"]),
        [n_tokens(span) for span in spans["demos"]],
        n_tokens([spans["demos"][0][0], spans["demos"][-1][1]]),
        n_tokens(spans["query_block"]),
        len(given["prompt_ids"]),
    )


def test_token_spans(cases: list[tuple[Any, Any]], tokenizer: Any) -> None:
    for given, want in cases:
        encoded = tokenizer(given["prompt"], add_special_tokens=False, return_offsets_mapping=True)
        starts = [begin for begin, _ in encoded["offset_mapping"]]
        for part, chars in given["char_spans"].items():
            several = isinstance(chars[0], list)
            found = token_spans(starts, [tuple(span) for span in (chars if several else [chars])])
            expected = want["token_spans"][part]
            assert found == [tuple(span) for span in (expected if several else [expected])], part


@pytest.mark.parametrize("rows", ROWS)
def test_attention_and_weights(
    rows: str, data: dict[str, Any], cases: list[tuple[Any, Any]], answered: dict[str, Answers]
) -> None:
    for (given, want), mass in zip(cases, answered[rows].mass, strict=True):
        spans = wanted(want["token_spans"], len(given["prompt_ids"]), rows)
        lengths = [end - start for start, end in spans.columns]
        expected = want["attention"][rows]
        tolerance = data["tolerance"]
        np.testing.assert_allclose(
            mass / (np.array(lengths) * spans.n_rows), expected["a"], rtol=tolerance["suggested_rel_a"]
        )
        weights = demo_weights(mass, lengths, spans.n_rows)
        np.testing.assert_allclose(weights, expected["w"], atol=tolerance["suggested_abs_w"], rtol=0)
        if f"contribution_{rows}" in want:
            np.testing.assert_allclose(
                contributions(want["s"], weights, 4), want[f"contribution_{rows}"], atol=tolerance["suggested_abs_w"]
            )


def test_answers_and_their_quality(
    data: dict[str, Any], cases: list[tuple[Any, Any]], answered: dict[str, Answers], tokenizer: Any
) -> None:
    for (given, want), answer in zip(cases, answered["query_block"].answers, strict=True):
        if want["smallest_top1_top2_logit_gap"] > 1e-3:
            assert answer.text == tokenizer.decode(want["generated_ids"][:N_NEW])
            assert answer.n_tokens == N_NEW
        check_quality(data, given, want["generated_text"], want)


def check_quality(data: dict[str, Any], given: dict[str, Any], text: str, want: dict[str, Any]) -> None:
    answers = answers_by_index(text, DIALOGUES, 2)
    assert answers == want["answers_by_index"]
    quality = [
        0.0 if answer is None else answer_score("rouge_l", answer, [query["summary"]])
        for answer, query in zip(answers, given["queries"], strict=True)
    ]
    assert quality == pytest.approx(want["rougeL_f1"], abs=data["tolerance"]["suggested_abs_f"])
    assert np.mean(quality) == pytest.approx(want["s"], abs=data["tolerance"]["suggested_abs_f"])


def test_given_texts(data: dict[str, Any], cases: list[tuple[Any, Any]]) -> None:
    for given, want in cases:
        weights = np.array(want["attention"]["query_block"]["w"])
        for text, scored in zip(given["given_texts"], want["given_texts_scored"], strict=True):
            check_quality(data, given, text, scored)
            np.testing.assert_allclose(
                contributions(scored["s"], weights, 4), scored["contribution_query_block"], atol=1e-6
            )


def test_stopping_early_reads_the_same_answers(cases: list[tuple[Any, Any]]) -> None:
    """The model's own texts repeat dialogues, which is no reason to stop; of the given ones all but the half answered
    end early."""
    stops = []
    for given, want in cases:
        assert not is_complete(want["generated_text"], DIALOGUES, 2)
        for text, scored in zip(given["given_texts"], want["given_texts_scored"], strict=True):
            whole = text + "\n"
            end = next((end for end in range(len(whole) + 1) if is_complete(whole[:end], DIALOGUES, 2)), None)
            stops.append(end is not None)
            if end is not None:
                assert answers_by_index(whole[:end], DIALOGUES, 2) == scored["answers_by_index"]
    assert stops == [True, False, True, True] * len(cases)


def test_published_weights_and_scores(
    cases: list[tuple[Any, Any]], tokenizer: Any, answered: dict[str, Answers]
) -> None:
    """What `variant: reference` makes of the same prompt."""
    for (given, want), mass in zip(cases, answered["official"].mass, strict=True):
        official = want["official"]
        windows = official_windows(given, tokenizer)
        lengths = np.array([end - start for start, end in windows.columns])
        a = mass / (lengths * windows.n_rows)
        np.testing.assert_allclose(a, official["attention_per_demo_fp16"], rtol=2e-3)
        weights = reference.float16_weights(mass, lengths, windows.n_rows)
        np.testing.assert_allclose(weights.astype(float), official["weights"], atol=1e-3)
        parsed = reference.parse(want["generated_text"], DIALOGUES, 2)
        assert (parsed == [None, None]) == official["batch_dropped"]
        if not official["batch_dropped"]:
            assert parsed == official["predictions"][:2]
        quality = [
            0.0 if answer is None else answer_score("rouge_l", answer, [query["summary"]])
            for answer, query in zip(parsed, given["queries"], strict=True)
        ]
        shown = {
            "group": np.array([[0, 1, 2, 3]]),
            "mass": mass[None],
            "demo_tokens": lengths[None],
            "rows": np.array([windows.n_rows]),
            "quality": np.array([quality]),
            "parsed": np.array([sum(answer is not None for answer in parsed)]),
        }
        counts = np.maximum(official["count"], 1)
        np.testing.assert_allclose(
            reference.scores_of(shown, 4).values, np.array(official["score_sum"]) / counts, atol=2e-4
        )
