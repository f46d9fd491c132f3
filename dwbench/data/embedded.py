"""An embedded, generated data set that needs no network: public notices and their newspaper headlines.

A row's input is a notice of one sentence ("Please note that the city library in Mill Street will stay closed
on Monday because of roof repairs."), its response a headline ("Mill Street city library shut on Monday over
roof repairs"). The metric is ROUGE-L F1 with stemming. All text is made of the word lists below; nothing is
real, and results on it say whether the machinery works, not which selector is best.

Rows of the pool are of three kinds, each drawn independently:

- clean (55 %): the house style, `PLACE ORGANISATION VERB on DAY over REASON`;
- chatty (25 %): teasers and exclamations, about the notice, but not headlines in the house style;
- sloppy (20 %): fragments and empty phrases that leave out most facts.

Test rows are all clean.

Measured on 2026-11-21 with SmolLM2-135M-Instruct (`dwbench.models.embedded`, fp32, greedy, CPU), by
experiments/embedded_data/measure.py; figures of one seed and few prompts, so +-0.05 means little:

- tokens a row, input and response: 23 to 49, mean 35.4;
- few-shot, 5 demonstrations of the pool, 24 prompts each; ROUGE-L F1 a prompt; every answer parsed:
  2 queries of the pool: mean 0.31, min 0.12, quartiles 0.22 0.31 0.39, max 0.55;
  2 queries of the test: mean 0.38, min 0.00, quartiles 0.32 0.44 0.50, max 0.70;
  3 queries of the pool: mean 0.29, min 0.04, quartiles 0.18 0.33 0.36, max 0.46;
  3 queries of the test: mean 0.35, min 0.06, quartiles 0.29 0.38 0.43, max 0.48;
- a prompt's score hardly depends on how many of its demonstrations are clean (correlation -0.19 to 0.19);
- zero-shot on 24 test rows: 0.33 untuned; after tuning on 32 rows (LoRA, 2 epochs) 0.56 when they are a
  random draw of the pool, 0.95 when all are clean, 0.24 when none is.
"""

import random
import zlib

KINDS = {"clean": 0.55, "chatty": 0.25, "sloppy": 0.20}
"""The kinds of rows in a pool and the probability of each."""

_ORGANISATIONS = (
    "city library", "swimming pool", "bus station", "primary school", "art museum", "fish market",
    "post office", "town theatre", "sports hall", "fire station", "public garden", "night shelter",
    "music school", "health centre", "ferry pier", "book shop", "youth club", "ice rink",
)  # fmt: skip
_STREETS = (
    "Mill Street", "Harbour Road", "Oak Lane", "King Square", "River Walk", "North Avenue", "Station Road",
    "Castle Hill", "Rose Street", "Park Row", "Bridge Street", "Lake Road", "Church Lane", "Garden Square",
)  # fmt: skip
_REASONS = (
    "roof repairs", "a burst pipe", "a power cut", "new windows", "a staff meeting", "storm damage",
    "fresh paint", "a film shoot", "road works", "a broken heater", "floor cleaning", "a safety check",
    "a gas leak", "a flood",
)  # fmt: skip
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_TIMES = ("10 am", "11 am", "noon", "1 pm", "2 pm")
_LEADS = (
    "Please note that the", "We would like to tell all visitors that the", "The council said today that the",
    "According to the manager, the",
)  # fmt: skip
# What happens: words of the notice, words of the clean headline.
_EVENTS = (
    ("will stay closed on {day} because of {reason}", "shut on {day} over {reason}"),
    ("will be open to the public again on {day} after {reason}", "back on {day} after {reason}"),
    ("will not open before {time} on {day} because of {reason}", "to open late on {day} over {reason}"),
)
_CHATTY = (
    "You will never guess what is happening at the {organisation} on {day}!",
    "Breaking news: big changes are coming to our beloved {organisation} in {street}!",
    "Oh no, {reason} again at the {organisation}, so mind your plans for {day}!",
)
_SLOPPY = ("{organisation} {reason}", "{day} news", "Some news from the town", "{street} {organisation}??")


def generate(rows: int, seed: int, clean: bool = False) -> list[dict[str, str]]:
    """`rows` distinct rows `{"input": notice, "response": headline}`; the same arguments give the same rows.

    With `clean`, all rows are of the clean kind and their inputs never occur in a pool (`clean=False`),
    whatever the seeds: clean sets use a quarter of the possible notices (about 170,000), pools the others.
    Clean sets of different seeds may share rows: draw target and test at once and split.
    """
    return [row for _, row in labelled(rows, seed, clean)]


def labelled(rows: int, seed: int, clean: bool = False) -> list[tuple[str, dict[str, str]]]:
    """As `generate`, each row with its kind, to see what a selector prefers."""
    rng = random.Random(seed)
    kinds, shares = (("clean",), (1.0,)) if clean else (tuple(KINDS), tuple(KINDS.values()))
    out: list[tuple[str, dict[str, str]]] = []
    seen: set[str] = set()
    while len(out) < rows:
        kind = rng.choices(kinds, shares)[0]
        notice, headline = rng.choice(_EVENTS)
        words = {
            "organisation": rng.choice(_ORGANISATIONS),
            "street": rng.choice(_STREETS),
            "reason": rng.choice(_REASONS),
            "day": rng.choice(_DAYS),
            "time": rng.choice(_TIMES),
        }
        form = {
            "clean": "{street} {organisation} " + headline,
            "chatty": rng.choice(_CHATTY),
            "sloppy": rng.choice(_SLOPPY),
        }[kind]
        text = (rng.choice(_LEADS) + " {organisation} in {street} " + notice + ".").format(**words)
        # A checksum of the text tells test inputs from pool inputs without keeping a list of either.
        if (zlib.crc32(text.encode()) % 4 == 0) == clean and text not in seen:
            seen.add(text)
            out.append((kind, {"input": text, "response": form.format(**words)}))
    return out
