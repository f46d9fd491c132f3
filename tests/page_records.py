"""Made-up records with all that the report page shows: scores by row, places, samples, configurations."""

import random
from collections.abc import Iterator, Sequence
from typing import Any

from made_records import POOL, made

from dwbench.records import Record

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


def sample(name: str, chosen: bool, *, input: str = "What?", response: str = "That.") -> dict[str, Any]:
    """A row as records show it."""
    return {"id": name, "input": input, "response": response, "score": 0.5, "place": 3.0, "chosen": chosen}


def study() -> list[Record]:
    """Selectors at two budgets with scores by row, ranks and samples, one of them with hostile texts and name; bounds;
    another data set with one budget and no scores by row."""
    draw = random.Random(0)
    base = [draw.gauss(0.4, 0.1) for _ in range(40)]
    gains = {"random": 0.0, "ifd": 0.002, "low_ppl": -0.1, "nuggets": 0.1, "data_whisperer": 0.05}
    seconds = {"random": 0.001, "ifd": 20.0, "low_ppl": 10.0, "nuggets": 900.0, "data_whisperer": 60.0}
    records = []
    for place, selector in enumerate(SELECTORS):
        for rows in (50, 100):
            values = [value + gains[selector] + draw.gauss(0, 0.02) for value in base]
            one = scored(
                selector,
                values,
                rows=rows,
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
    """Runs of 20 selectors x 5 budgets x 5 seeds on as many data sets as it takes, with all that a record may hold."""
    draw = random.Random(1)
    words = [f"word{number}" for number in range(500)]
    texts = [" ".join(draw.choices(words, k=35)) for _ in range(400)]
    for number in range(count):
        selector, rest = number % 20, number // 20
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
            sample(str(place), place < 3, input=draw.choice(texts)[:300], response=draw.choice(texts)[:300])
            for place in range(6)
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
