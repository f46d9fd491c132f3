"""Made-up records with all that the report page shows: scores by row, places, samples, configurations."""

import random
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

from made_records import POOL, cost, made

from dwbench.records import Record
from dwbench.report.diversity import HEADINGS
from dwbench.report.page.payload import payload
from dwbench.report.page.summary import Sentence

HOSTILE = "<script>window.hacked = 1</script><img src=x onerror='window.hacked = 2'>\u2028</script><b>&amp;"
"""Nothing of this may ever be more than text."""

SELECTORS = ("random", "ifd", "low_ppl", "nuggets", "data_whisperer")


def enriched(record: Record, **parts: Any) -> Record:
    """The record with fields added: `selection={"places": [...]}` joins what is there, other values replace it."""
    data = dict(record.data)
    for name, value in parts.items():
        data[name] = {**data[name], **value} if isinstance(value, dict) and isinstance(data.get(name), dict) else value
    return Record(record.path, data)


def scored(selector: str, values: Sequence[float], *, metric: str = "rouge_l", **options: Any) -> Record:
    """A run with its scores by test row, and their mean with its standard error."""
    mean = sum(values) / len(values)
    error = (sum((value - mean) ** 2 for value in values) / (len(values) - 1) / len(values)) ** 0.5
    return enriched(made(selector, metrics={metric: (mean, error)}, **options), items={metric: list(values)})


def one(records: Sequence[Record]) -> dict[str, Any]:
    """The only setting of these records' page."""
    (found,) = payload(records, ())["settings"]
    assert isinstance(found, dict)
    return found


def said(sentence: Sentence) -> str:
    """What a sentence of the page reads."""
    return "".join(part if isinstance(part, str) else part["text"] for part in sentence)


def sample(name: str, chosen: bool, *, input: str = "What?", response: str = "That.") -> dict[str, Any]:
    """A row as records show it."""
    return {"id": name, "input": input, "response": response, "score": 0.5, "place": 3.0, "chosen": chosen}


def study(seeds: Sequence[int] = (0,)) -> list[Record]:
    """Selectors at two budgets with scores by row, ranks and samples, one of them with hostile texts and name; bounds;
    another data set with one budget and no scores by row."""
    draw = random.Random(0)
    base = [draw.gauss(0.4, 0.1) for _ in range(40)]
    gains = {"random": 0.0, "ifd": 0.002, "low_ppl": -0.1, "nuggets": 0.1, "data_whisperer": 0.05}
    seconds = {"random": 0.001, "ifd": 20.0, "low_ppl": 10.0, "nuggets": 900.0, "data_whisperer": 60.0}
    records = []
    for place, selector in enumerate(SELECTORS):
        for rows, seed in product((50, 100), seeds):
            values = [value + gains[selector] + draw.gauss(0, 0.02) for value in base]
            one = scored(
                selector,
                values,
                rows=rows,
                seed=seed,
                label=f"ifd({HOSTILE})" if selector == "ifd" else selector,
                scorer="smollm2-135m" if selector != "random" else None,
                select=(seconds[selector], seconds[selector] * 1e13),
            )
            places = [float((7 * number + 13 * place * number) % POOL + 1) for number in range(POOL)]
            texts = [sample("a", True, input=HOSTILE), sample("b", False, response=f"No. {selector}")]
            records.append(enriched(one, selection={"places": places, "samples": texts}))
    bounds = [
        scored("zero_shot", [value - 0.3 for value in base]),
        scored("full", [value + 0.3 for value in base], train_seconds=300.0),
    ]
    return [*records, *bounds, made("random", dataset="gsm8k"), made("ifd", dataset="gsm8k")]


def many(count: int) -> Iterator[Record]:
    """Runs of 42 selectors x 5 budgets x 5 seeds on as many data sets as it takes, with all that a record may hold; no
    two sample rows are the same."""
    draw = random.Random(1)
    words = [f"word{number}" for number in range(500)]
    for number in range(count):
        selector, rest = number % 42, number // 42
        rows, seed, dataset = (10, 20, 50, 100, 200)[rest % 5], rest // 5 % 5, rest // 25
        name = "random" if selector == 0 else f"selector_{selector}"
        values = [round(draw.gauss(0.4, 0.1), 6) for _ in range(32)]
        one = scored(
            name,
            values,
            label=f"{name}(setting=12, another_setting=abcdef)" if selector else name,
            rows=rows,
            seed=seed,
            dataset=f"data_{dataset}",
            select=(draw.uniform(1, 500), draw.uniform(1, 500) * 1e12),
        )
        choices = [
            sample(str(place), place < 3, input=_text(draw, words), response=_text(draw, words)) for place in range(6)
        ]
        config = {"dataset": {"name": f"data_{dataset}", "prompt": "p" * 400}, "selector": {"name": name}, "seed": seed}
        notes = {"prompts": number, "answers_cut_share": draw.random()}
        places = draw.sample([float(place) for place in range(1, 201)], 200)
        yield enriched(
            one,
            selection={"samples": choices, "places": places, "notes": notes},
            config=config,
            command="dwbench " * 20,
        )


def _text(draw: random.Random, words: Sequence[str]) -> str:
    return " ".join(draw.choices(words, k=45))[:300]


# Selector: gain over random, seconds, likeness of its ranking to the others'.
SHOWN = {
    "random": (0.0, 0.001, 0.0),
    "longest_response": (-0.02, 0.05, 0.2),
    "low_ppl": (0.01, 20.0, 0.9),
    "ifd": (0.03, 45.0, 0.7),
    "data_whisperer": (0.07, 110.0, 0.5),
    "nuggets": (0.06, 900.0, 0.6),
    "less": (0.05, 400.0, -0.3),
    "attention_influence": (0.035, 60.0, 0.1),
}


def showcase() -> list[Record]:
    """Records that fill every part of the page: selectors at three budgets under three seeds, bounds, Data Whisperer's
    grid and layers, diversity, perplexity and samples; a pool with planted noise; a model that papers tell of."""
    draw = random.Random(2)
    truth = [draw.gauss(0, 1) for _ in range(POOL)]
    base = [draw.gauss(0.3, 0.1) for _ in range(40)]
    records = []
    for selector, (gain, seconds, likeness) in SHOWN.items():
        for seed in range(3):
            order = _order(draw, truth, likeness)
            for rows in (10, 50, 100):
                more = gain * (rows / 100) ** 0.3 + 0.02 * (rows / 100) + draw.gauss(0, 0.008)
                options = {"rows": rows, "seed": seed, "select": (seconds, seconds * 2e12)}
                records.append(_shown(draw, selector, selector, [value + more for value in base], order, options))
    settings = [(n_d, n_q, None) for n_d in (5, 10, 15) for n_q in (3, 5, 10) if (n_d, n_q) != (10, 5)]
    for n_d, n_q, layer in [*settings, *((10, 5, layer) for layer in (5, 9, 13, 20, 30))]:
        told = f"data_whisperer(n_d={n_d}, n_q={n_q}" + (")" if layer is None else f", layer={layer})")
        more = 0.07 - 0.002 * abs(n_d - 10) - 0.001 * abs(n_q - 5) - 0.003 * abs((layer or 13) - 13)
        options = {"rows": 100, "select": (100.0 + n_d, 2e14)}
        one = _shown(draw, "data_whisperer", told, [value + more for value in base], _order(draw, truth, 0.5), options)
        records.append(enriched(one, selector={"identity": {"n_d": n_d, "n_q": n_q, "layer": layer}}))
    for seed in range(3):
        records.append(scored("full", [value + 0.12 + 0.003 * seed for value in base], seed=seed, train_seconds=300.0))
    records.append(scored("zero_shot", [value - 0.05 for value in base]))
    records = [enriched(record, model={"name": "llama3-8b-instruct"}) for record in records]
    return [*records, *_planted(draw)]


def _order(draw: random.Random, truth: Sequence[float], likeness: float) -> list[int]:
    noisy = [likeness * value + (1 - abs(likeness)) * draw.gauss(0, 1) for value in truth]
    return sorted(range(POOL), key=lambda row: -noisy[row])


def _shown(
    draw: random.Random,
    selector: str,
    label: str,
    values: Sequence[float],
    order: Sequence[int],
    options: dict[str, Any],
) -> Record:
    """A run with all that the page tells of a choice."""
    rows = options["rows"]
    noisy = [value + draw.gauss(0, 0.02) for value in values]
    one = scored(selector, noisy, label=label, scorer=None if selector == "random" else "llama3-8b-instruct", **options)
    places = [0.0] * POOL
    for place, row in enumerate(order, 1):
        places[row] = float(place)
    level = draw.uniform(3, 30)
    spread = {
        front: {"chosen": _spread(level * factor), "pool": _spread(12 * factor)}
        for front, factor in (("given_prompt", 1), ("alone", 2.5))
    }
    texts = [
        sample(f"row-{order[place]}", place < rows, input=f"Question {place}?", response=f"Answer {place}. " * 9)
        for place in (0, 1, 2, rows, rows + 1, rows + 2)
    ]
    selection = {
        "ids": [f"row-{row}" for row in order[:rows]],
        "places": places,
        "samples": texts,
        "response_tokens": round(rows * draw.uniform(15, 60)),
        "diversity": {name: draw.uniform(0, 1) for name in HEADINGS},
        "described_by": {"name": "minilm", "identity": {}},
        "perplexity": spread,
        "perplexity_by": {"name": "smollm2-135m", "identity": {}},
        "notes": {"prompts": 25, "answers_parsed_share": 0.98},
    }
    identity = {"n_d": 10, "n_q": 5, "layer": None} if label == "data_whisperer" else one.data["selector"]["identity"]
    return enriched(
        one,
        selection=selection,
        selector={"identity": identity},
        metrics={"nll": {"value": 2 - sum(noisy) / len(noisy), "stderr": 0.02, "n": 40}},
        config={"selector": {"name": selector}, "seed": options.get("seed", 0), "train": {"epochs": 2}},
        command=f"dwbench run dataset=dialogsum selector={selector} budget={rows}",
    )


def _spread(median: float) -> dict[str, float]:
    return {"rows": 1, "undefined": 0, "mean": median * 1.2, "quartile_1": median * 0.6, "median": median} | {
        "quartile_3": median * 1.8
    }


def _planted(draw: random.Random) -> list[Record]:
    """Selections from a pool with planted noise, which ended there."""
    kinds = {"clean": 700, "copy": 100, "empty": 50, "near_copy": 50, "other_response": 50, "truncated": 50}
    found = []
    for selector, share in (("random", 0.7), ("ifd", 0.9), ("low_ppl", 0.8), ("longest_response", 0.95)):
        clean = round(100 * share)
        counts = {"clean": clean, "copy": 100 - clean}
        one = enriched(
            made(selector, select=(SHOWN[selector][1], 1e12), metrics={}, experiment="planted_noise"),
            dataset={"kinds": kinds, "fingerprints": {"pool": "f" * 20, "target": "b" * 20, "test": "c" * 20}},
            selection={"kinds": counts, "ids": [f"{selector}-{row}" for row in range(100)]},
        )
        found.append(chosen_only(one))
    return found


def chosen_only(record: Record) -> Record:
    """The run as it is where it ends with the selection."""
    artefacts = {"training": None, "evaluation": None}
    spent = {part: {"total": cost(0.0, 0.0), "stages": {}} for part in ("training", "evaluation")}
    ended = enriched(record, training=None, artefacts={**record.data["artefacts"], **artefacts}, cost=spent)
    return Record(record.path, {**ended.data, "metrics": {}})


def odd() -> list[Record]:
    """What a page must bear: only bounds; a metric of unknown direction; NaN; nothing but selections; long names."""
    nothing = {"value": float("nan"), "stderr": float("nan"), "n": 64}
    return [
        made("zero_shot", dataset="bounds"),
        made("ifd", dataset="undirected", metrics={"response_tokens_mean": (20.0, 1.0)}),
        enriched(made("ifd", dataset="no_number"), metrics={"nll": nothing}),
        chosen_only(made("ifd", dataset="selections")),
        made("ifd", dataset="long", label=f"ifd({'a_very_long_setting=' * 40}1)", metrics={"nll": (1.0, None)}),
        made("random", dataset="long", metrics={"nll": (1.0, 0.0)}, select=(0.0, 0.0)),
    ]
