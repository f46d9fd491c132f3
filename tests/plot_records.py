"""Made-up records with what each kind of plot shows."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from made_records import made

from dwbench.records import Record

LONG = "attention_influence(probes=16, probe_tokens=512)"


def with_(record: Record, **parts: dict[str, Any]) -> Record:
    """The record with some fields of its parts replaced."""
    changed = {part: {**(record.data[part] or {}), **fields} for part, fields in parts.items()}
    return dataclasses.replace(record, data={**record.data, **changed})


def scored(selector: str, value: float, error: float | None = 0.0125, **options: Any) -> Record:
    return made(selector, metrics={"rouge_l": (value, error)}, **options)


def compared() -> list[Record]:
    """200 s of tuning on everything; STR 0.2 and 0.75, random's is nearly nothing."""
    return [
        scored("random", 0.25, select=(0.001, 0.0)),
        scored("ifd", 0.31, select=(40.0, 1e15)),
        scored("data_whisperer", 0.28, select=(150.0, 4e15)),
        scored("full", 0.4, train_seconds=200.0),
        scored("zero_shot", 0.1, select=(0.0, 0.0)),
    ]


def chose(selector: str, places: Sequence[float | None], ids: Sequence[str] = (), **options: Any) -> Record:
    return with_(made(selector, rows=2, **options), selection={"places": places, "ids": list(ids)})


def ranked() -> list[Record]:
    return [
        chose("random", [1, 2, 3, 4], ["a", "b"]),
        chose("low_ppl", [2, 1, 4, 3], ["b", "a"], scorer="smollm2-135m"),
        chose("ifd", [4, 3, 2, 1], ["d", "c"], scorer="smollm2-135m"),
    ]


FEW = {"clean": 700, "copy": 100, "wrong_response": 200}
ALL = {"clean": 650, "copy": 50, "empty": 25, "near_copy": 50, "truncated": 25, "wrong_response": 200}


def planted(selector: str, pool: dict[str, int], label: str | None = None, **counts: int) -> Record:
    """10 rows of 1,000."""
    ids = [f"{selector} {kind} {number}" for kind, count in counts.items() for number in range(count)]
    chosen = made(selector, rows=10, label=label)
    return with_(chosen, dataset={"kinds": pool}, selection={"kinds": counts, "ids": ids})


def whisperer(value: float | None = None, *, seed: int = 0, places: Sequence[float] = (), **fields: Any) -> Record:
    settings = {"n_d": 10, "n_q": 5, "layer": None, "weight": "attn", **fields}
    told = ", ".join(f"{name}={setting}" for name, setting in fields.items())
    name = f"data_whisperer({told})" if told else "data_whisperer"
    record = made(
        "data_whisperer", label=name, seed=seed, metrics={} if value is None else {"rouge_l": (value, 0.0125)}
    )
    artefacts = {} if value is not None else {"evaluation": None, "training": None}
    changed = with_(record, selector={"identity": settings}, selection={"places": list(places)}, artefacts=artefacts)
    return changed if value is not None else dataclasses.replace(changed, data={**changed.data, "training": None})


def planned() -> list[Record]:
    """Layers, and pairs of n_d and n_q."""
    return [
        whisperer(0.25, layer=30),
        whisperer(0.2, layer=5),
        whisperer(0.3, layer=13),
        whisperer(0.29),
        whisperer(0.22, weight="uniform"),
        whisperer(0.27, n_d=5),
        whisperer(0.26, n_d=5, n_q=3),
        scored("random", 0.21),
    ]


def perplexities(name: str, first: float, median: float, third: float, **options: Any) -> Record:
    pool = {"rows": 1000, "undefined": 0, "mean": 9.0, "quartile_1": 4.0, "median": 8.0, "quartile_3": 12.0}
    chosen = {"rows": 100, "undefined": 0, "mean": 9.0, "quartile_1": first, "median": median, "quartile_3": third}
    nothing = {"rows": 100, "undefined": 100}
    told = {
        "given_prompt": {"chosen": chosen, "pool": pool},
        "alone": {"chosen": nothing if name == "ifd" else chosen, "pool": pool},
    }
    by = {"version": 1, "name": "smollm2-135m", "identity": {}}
    ids = [f"row-{options.get('seed', 0)}-{number}" for number in range(100)]
    return with_(made(name, **options), selection={"ids": ids, "perplexity": told, "perplexity_by": by})


def everything() -> list[Record]:
    """Records for every kind of plot, with a label that is too long for one line and a data set of its own for each."""
    long = scored("attention_influence", 0.3, label=LONG, select=(70.0, 1e15))
    return [
        *compared(),
        long,
        *(scored(name, 0.2 + place / 50, rows=50) for place, name in enumerate(("random", "ifd", "data_whisperer"))),
        *(elsewhere(record, "layers") for record in planned()),
        *(
            elsewhere(record, "ranked")
            for record in [*ranked(), chose("attention_influence", [3, 1, 4, 2], label=LONG)]
        ),
        *(
            elsewhere(record, "planted")
            for record in (
                planted("random", ALL, clean=8, copy=1, wrong_response=1),
                planted("high_ppl", ALL, wrong_response=10),
                planted("attention_influence", ALL, LONG, clean=5, truncated=5),
            )
        ),
        *(elsewhere(perplexities(name, 2.0, 3.0, 5.0), "told") for name in ("random", "ifd")),
    ]


def elsewhere(record: Record, name: str) -> Record:
    """The record of another data set."""
    fingerprints = {split: f"{name}-{split}" for split in ("pool", "target", "test")}
    moved = with_(record, dataset={"name": name, "fingerprints": fingerprints})
    return dataclasses.replace(moved, data={**moved.data, "run": f"{record.run[:12]}{abs(hash_of(name)):08x}"})


def hash_of(name: str) -> int:
    return sum(ord(sign) * 31**place for place, sign in enumerate(name)) % 2**31
