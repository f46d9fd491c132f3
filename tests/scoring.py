"""Helpers for tests that compute with a model: a scorer inside a stage, and golden vectors."""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

from dwbench.cost import Cost
from dwbench.models.spec import LM
from dwbench.representations.scorer import Scorer
from dwbench.selectors.models import LoadedModels
from dwbench.store import Bench, Store

T = TypeVar("T")


def with_scorer(models: LoadedModels, lm: LM, work: Callable[[Scorer], T]) -> tuple[T, Cost]:
    """`work` done with a scorer inside a stage, and what it cost."""
    found: list[T] = []
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Store(Path(folder)))
        stage = bench.stage("test", {}, lambda _: found.append(work(models.scorer(lm, bench))))
    return found[0], stage.cost


def golden(shared: Path, name: str) -> dict[str, Any]:
    """The golden case `scores/<name>.json`. Skips where it is absent."""
    path = shared / "golden" / "scores" / f"{name}.json"
    if not path.is_file():
        pytest.skip(f"no golden vectors: {path}")
    case: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return case


def short_rows(case: dict[str, Any], tokens: int, *ranks: str) -> dict[str, Any]:
    """The case without its rows of more than `tokens` tokens, to save time, also in its lists of rows named `ranks`."""
    rows, expected = case["inputs"]["rows"], case["expected"]
    lengths = [len(row["conditional_context_ids"]) + len(row["response_ids"]) for row in rows]
    kept = [number for number, length in enumerate(lengths) if length <= tokens]
    ranked = {name: [kept.index(number) for number in expected[name] if number in kept] for name in ranks}
    return {
        **case,
        "inputs": {"rows": [rows[number] for number in kept]},
        "expected": {"rows": [expected["rows"][number] for number in kept], **ranked},
    }
