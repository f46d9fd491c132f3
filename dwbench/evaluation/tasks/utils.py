"""What the YAML files beside this one refer to by `!function`.

The document loaders are called by lm-eval with the task's metadata: `documents`, put there by the harness, is the
folder with the rendered rows; the rest is lm-eval's own.
"""

import json
from pathlib import Path
from typing import Any

from dwbench.metrics import scored


def nll_documents(documents: str, version: float, config_source: str) -> dict[str, Any]:
    return _documents(documents, "nll")


def generation_documents(documents: str, version: float, config_source: str) -> dict[str, Any]:
    return _documents(documents, "generation")


def _documents(folder: str, name: str) -> dict[str, Any]:
    from datasets import Dataset

    lines = (Path(folder) / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return {"test": Dataset.from_list([json.loads(line) for line in lines])}


def response_nll(document: dict[str, Any], results: list[tuple[float, bool]]) -> dict[str, float]:
    ((log_likelihood, _),) = results
    return {"nll": -log_likelihood / document["n_tokens"]}


def exact_match(document: dict[str, Any], results: list[str]) -> dict[str, float]:
    return scored("exact_match", results[0], document["references"])


def rouge_l(document: dict[str, Any], results: list[str]) -> dict[str, float]:
    return scored("rouge_l", results[0], document["references"])
