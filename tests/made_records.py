"""Made-up records for tests of whatever reads records. Their numbers are chosen to be worked out by hand."""

from pathlib import Path
from typing import Any

from dwbench.component import key_of
from dwbench.records import Record

POOL, FULL_TOKENS, FULL_FLOP = 1000, 100_000, 5e15


def cost(seconds: float, flop: float) -> dict[str, Any]:
    """A cost as records hold it."""
    counts = dict.fromkeys(("forward_tokens", "backward_tokens", "generated_tokens"), 10)
    calls = {"forward_calls": 1, "backward_calls": 0, "peak_bytes": 1024, "apart": {"load": 2.0}}
    return {"seconds": seconds, "flop": flop, **counts, **calls}


def made(
    selector: str = "random",
    *,
    label: str | None = None,
    rows: int = 100,
    seed: int = 0,
    dataset: str = "dialogsum",
    experiment: str | None = "quickstart",
    scorer: str | None = None,
    embedder: str | None = None,
    version: int = 1,
    nll_rows: int | None = None,
    split_seed: int = 0,
    token_budget: int | None = None,
    select: tuple[float, float] = (2.0, 1e15),
    train_seconds: float = 30.0,
    rate: float = 1e-4,
    metrics: dict[str, tuple[float, float | None]] | None = None,
    torch: str = "2.13.0",
    cores: int = 2,
) -> Record:
    """A record of a tuned run, or of an untuned one where `selector` is zero_shot.

    `select` are seconds and FLOP of the selection; tuning takes 100 tokens a chosen row.
    """
    count = {"full": POOL, "zero_shot": 0}.get(selector, rows)
    label = label or selector
    settings = [dataset, label, count, seed, scorer, rate, experiment, torch, cores]
    settings += [embedder, version, nll_rows, split_seed, token_budget]
    key = key_of(settings)
    tuned = selector != "zero_shot"
    training = {
        "version": 1,
        "identity": {"class": "dwbench.training.sft.LoraSFT", "epochs": 2, "learning_rate": rate},
        "rows": count,
        "epochs": 2,
        "steps": 3,
        "tokens": 100 * count,
        "supervised_tokens": 20 * count,
        "learning_rate": rate,
        "loss": [[1, 3.5], [2, 2.25], [3, 1.75]],
    }
    scored = {"rouge_l": (0.25, 0.0125), "nll": (1.5, 0.03125)} if metrics is None else metrics
    half = {} if token_budget is None else {"token_budget": token_budget}
    spent = {"selection": cost(*select), "training": cost(train_seconds, 1e14), "evaluation": cost(9.0, 1e13)}
    data = {
        "schema": 1,
        "run": key,
        "experiment": experiment,
        "dataset": {
            "name": dataset,
            "fingerprints": {"pool": "a" * 20, "target": "b" * 20, "test": "c" * 20},
            "rows": {"pool": POOL, "target": 50, "test": 64},
            "task": {"class": "dwbench.data.Task"},
            "notes": [],
        },
        "model": {"name": "smollm2-135m", "identity": {"weights": "d" * 20, "dtype": "float32", **half}},
        "scorer": None if scorer is None else {"name": scorer, "identity": {"weights": scorer}},
        "embedder": None if embedder is None else {"name": embedder, "identity": {"weights": embedder}},
        "selector": {
            "name": selector,
            "label": label,
            "version": version,
            "identity": {"class": selector, "label": label},
            "needs": [],
        },
        "budget": {"asked": "0.1", "rows": count, "pool": POOL},
        "seed": seed,
        "selection": {
            "ids": [f"row-{number}" for number in range(count)],
            "ties_at_cut": 0,
            "invalid": {},
            "tokens": 50 * count,
            "response_tokens": 20 * count,
        },
        "training": training if tuned else None,
        "evaluation": {"version": 1, "split_seed": split_seed, "identity": {"nll_rows": nll_rows}},
        "full_tuning": {"tokens": FULL_TOKENS, "flop": FULL_FLOP},
        "metrics": {name: {"value": v, "stderr": e, "n": 64} for name, (v, e) in scored.items()},
        "cost": {part: {"total": one, "stages": {f"{part}/{key}": one}} for part, one in spent.items()},
        "environment": {
            "packages": {"torch": torch, "trl": "1.16.0"},
            "python": "3.11.7",
            "hardware": {"cpu": "Test CPU", "cores": cores, "gpus": [], "system": "Linux"},
            "commit": "e" * 40,
            "dirty": False,
        },
        "artefacts": {
            "selection": f"select/{key}",
            "training": f"train/{key}" if tuned else None,
            "evaluation": f"evaluate/{key if tuned else key_of(dataset)}",
        },
        "config": {"selector": selector},
        "command": "dwbench run",
    }
    return Record(path=Path(f"{label}-{key[:8]}.json"), data=data)
