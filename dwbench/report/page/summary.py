"""What a reader wants to know first, in sentences made of records.

A sentence is a list of texts and of links `{"run": key, "text": text}`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from dwbench.report.formats import arrow, short
from dwbench.report.leaderboard import LEVEL, Leaderboard, leaderboards
from dwbench.report.page.rows import COSTS, NEXT_TO_NOTHING, rounded
from dwbench.report.page.settings import Setting
from dwbench.report.str_ratio import CHOOSES_NOTHING

Rows = Sequence[Mapping[str, Any]]
Sentence = list[str | dict[str, str]]

COST_NAMES = {
    "seconds": "STR in seconds",
    "flop": "STR in FLOP",
    "total": "STR in seconds with tuning on the chosen rows",
}
NAMED = 8
"""Of a verdict's selectors as many are named; a plot has all."""

VERDICTS = ("better than random", "not distinguishable from random", "worse than random")


def boards_of(setting: Setting) -> list[Leaderboard]:
    """The setting's leaderboards; none where no selector's record tells of scores by test row."""
    choosing = [record for record in setting.records if record.selector not in CHOOSES_NOTHING]
    tested = any(arrow(name) for record in choosing for name in record.items)
    return leaderboards(setting.records, allow_mixed=True) if tested else []


def board(one: Leaderboard, rows: Rows) -> dict[str, Any]:
    """A leaderboard as plain data; of each entry: label, run, seeds, score, verdict, and against random: difference,
    its interval, p, P(better), seeds."""
    links = _links(rows, one.budget)
    return {
        "metric": one.metric,
        "budget": one.budget,
        "title": one.title,
        "test_rows": one.test_rows,
        "seeds": _few_seeds(one),
        "stability": rounded(one.stability),
        "entries": [
            {
                "label": entry.label,
                "run": links.get(entry.label),
                "seeds": entry.seeds,
                "score": [rounded(value) for value in (entry.score.mean, entry.score.low, entry.score.high)],
                "verdict": entry.verdict,
                "against": None
                if entry.against is None
                else [
                    rounded(entry.against.difference.mean),
                    rounded(entry.against.difference.low),
                    rounded(entry.against.difference.high),
                    rounded(entry.against.p),
                    rounded(entry.against.better),
                    entry.against.seeds,
                ],
            }
            for entry in one.entries
        ],
    }


def _links(rows: Rows, budget: int | None) -> dict[str, str]:
    return {row["label"]: row["runs"][0] for row in rows if row["bound"] or row["budget"] == budget}


def verdicts(one: Leaderboard, rows: Rows) -> Sentence:
    """Who is better and worse than random and of whom it can't be told."""
    links = _links(rows, one.budget)
    sentence: Sentence = [f"{one.metric} {arrow(one.metric)} at {counted(one.budget, 'row')}: "]
    apart = {verdict: [entry.label for entry in one.ranked if entry.verdict == verdict] for verdict in VERDICTS}
    if not any(apart.values()):
        return [*sentence, f"{_why_untested(one)}."]
    for verdict in VERDICTS:
        sentence += [f"{verdict}: ", *_listed(apart[verdict], links), "; "]
    seeds = _few_seeds(one) or "over seeds and rows"
    sentence[-1] = f" (paired over {counted(one.test_rows, 'test row')}, p < {LEVEL} after Holm; {seeds})."
    return sentence


def _few_seeds(one: Leaderboard) -> str:
    """Whether the comparisons with random rest on one seed: all, some, or none (empty)."""
    counts = {entry.against.seeds for entry in one.ranked if entry.against}
    if counts == {1}:
        return "one seed"
    return "some of one seed" if 1 in counts else ""


def _why_untested(one: Leaderboard) -> str:
    named = {entry.verdict for entry in one.ranked}
    return "no seed in common with random" if "no seed in common with random" in named else "no run of random"


def front_sentence(rows: Rows, front: Sequence[int], metric: str, cost: str) -> Sentence:
    """Who is on a Pareto front, cheapest first."""
    first = rows[front[0]]
    sentence: Sentence = [
        f"{counted(first['budget'], 'row')}: on the Pareto front of {metric} {arrow(metric)} against "
        f"{COST_NAMES[cost]}, cheapest first: "
    ]
    for position in front:
        row = rows[position]
        sentence += [
            _link(row["label"], row["runs"][0]),
            f" ({quality(row, metric)} at {price(row, cost)}), ",
        ]
    sentence[-1] = str(sentence[-1]).removesuffix(", ") + "."
    return sentence


def pays(rows: Rows, front: Sequence[int], one: Leaderboard | None) -> Sentence:
    """Whether any selector on the front in seconds is better than random by more than chance."""
    if one is None:
        return [
            "What is better than random is not tested: these records hold no scores by test row. The same commands "
            "again add them and compute nothing anew."
        ]
    if not any(entry.against for entry in one.ranked):
        return [f"What is better than random can't be told: {_why_untested(one)}."]
    if (seeds := _few_seeds(one)) == "one seed":
        return ["What is better than random can't be told: one seed compares one adapter with one other."]
    better = {entry.label for entry in one.ranked if entry.verdict == "better than random"}
    paying = [rows[position] for position in front if rows[position]["label"] in better]
    if not paying:
        return ["No selector on the front is better than random by more than chance."]
    sentence: Sentence = ["On the front and better than random by more than chance: "]
    for row in paying:
        sentence += [_link(row["label"], row["runs"][0]), f" ({price(row, 'seconds')}), "]
    sentence[-1] = str(sentence[-1]).removesuffix(", ") + (f" ({seeds})." if seeds else ".")
    return sentence


def quality(row: Mapping[str, Any], metric: str) -> str:
    """A row's score as a table writes it, without its standard error."""
    return str(row["scores"][metric][-1]).split(" ")[0]


def price(row: Mapping[str, Any], cost: str) -> str:
    """A row's cost for people: three digits, `≈ 0`, or that it is estimated."""
    value = row["cost"][cost]
    if value is None:
        return "unknown"
    mark = "~" if row["estimated"] and cost != "flop" else ""
    return "≈ 0" if value < NEXT_TO_NOTHING else f"{mark}{short(value)}"


def costs_sentence(rows: Rows) -> Sentence:
    """Who costs most, and who costs more than tuning on everything."""
    spending = [row for row in rows if not row["bound"] and row["seconds"]]
    if not spending:
        return ["No selector took any time."]
    dearest = max(spending, key=lambda row: row["seconds"])
    sentence: Sentence = [
        "Dearest selection: ",
        _link(dearest["label"], dearest["runs"][0]),
        f", {short(dearest['seconds'])} s (STR {price(dearest, 'seconds')}).",
    ]
    over = {row["label"]: row["runs"][0] for row in rows if (row["cost"]["seconds"] or 0) > 1 and not row["bound"]}
    if over:
        sentence += [" More than tuning on the whole pool: ", *_listed(list(over), over), "."]
    return sentence


def budgets_sentence(rows: Rows, metric: str) -> Sentence:
    """The best selector at each budget."""
    sign = -1 if arrow(metric) == "↓" else 1
    scored = [row for row in rows if not row["bound"] and metric in row["scores"]]
    budgets = sorted({row["budget"] for row in scored})
    sentence: Sentence = ["Best mean by budget, whether or not by more than chance: "]
    for budget in budgets:
        best = max((row for row in scored if row["budget"] == budget), key=lambda row: sign * row["scores"][metric][0])
        sentence += [
            f"{counted(budget, 'row')}: ",
            _link(best["label"], best["runs"][0]),
            f" ({quality(best, metric)}), ",
        ]
    if not budgets:
        return [f"No selector has {metric}."]
    sentence[-1] = str(sentence[-1]).removesuffix(", ") + "."
    return [*sentence, " One budget only: nothing can be said of others."] if len(budgets) == 1 else sentence


def agreement_sentence(one: Mapping[str, Any]) -> Sentence:
    """The two selectors that agree most, and how far choices overlap on the whole."""
    pairs = [
        (value, one["labels"][place], one["labels"][other])
        for place, line in enumerate(one["spearman"])
        for other, value in enumerate(line)
        if value is not None
    ]
    overlaps = [value for line in one["overlap"] for value in line]
    mean = sum(overlaps) / len(overlaps) / 100
    told = f"Two choices share {mean:.0%} of their rows on average; two random ones would share {one['expected']:.0%}."
    if not pairs:
        return [told]
    value, first, second = max(pairs)
    return [f"Most alike: {second} and {first} (rank correlation {value / 100:.2f}). {told}"]


def chosen_sentence(rows: Rows, chosen: Mapping[str, Any]) -> Sentence:
    """Whose chosen responses are longest and shortest, and the pool's."""
    known = [(length, position) for position, _, length in chosen["lengths"] if length is not None]
    if not known:
        return ["Nothing was chosen."]
    (short_one, first), (long_one, last) = min(known), max(known)
    pool = chosen["pool"][1]
    sentence: Sentence = [
        "Chosen responses have from ",
        _link(f"{short(short_one)} tokens ({rows[first]['label']})", rows[first]["runs"][0]),
        " to ",
        _link(f"{short(long_one)} ({rows[last]['label']})", rows[last]["runs"][0]),
        " on average",
    ]
    return [*sentence, f"; the pool's have {short(pool)}." if pool is not None else "."]


def said(
    setting: Setting, rows: Rows, boards: Sequence[Leaderboard], fronts: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """By metric: what stands above each plot, with the budget that it speaks of."""
    told = {}
    for metric, by_cost in fronts.items():
        mine = [one for one in boards if one.metric == metric]
        by_budget = {one.budget: one for one in mine}
        told[metric] = {
            "verdicts": [[one.budget, verdicts(one, rows)] for one in mine],
            "fronts": {
                cost: [[rows[front[0]]["budget"], front_sentence(rows, front, metric, cost)] for front in by_cost[cost]]
                for cost in COSTS
            },
            "pays": [[None, pays(rows, (), None)]]
            if not mine
            else [
                [budget, [f"{counted(budget, 'row')}: ", *_uncapitalised(pays(rows, front, by_budget.get(budget)))]]
                for front in by_cost["seconds"]
                for budget in (rows[front[0]]["budget"],)
            ],
            "budgets": budgets_sentence(rows, metric),
        }
    return told


def _uncapitalised(sentence: Sentence) -> Sentence:
    first = str(sentence[0])
    return [first[0].lower() + first[1:], *sentence[1:]]


def _listed(labels: Sequence[str], links: Mapping[str, str]) -> Sentence:
    if not labels:
        return ["none"]
    parts: Sentence = []
    shown = labels if len(labels) <= NAMED + 1 else labels[:NAMED]
    for name in shown:
        parts += [_link(name, links[name]) if name in links else name, ", "]
    rest = len(labels) - len(shown)
    return [*parts[:-1], f" and {rest} more"] if rest else parts[:-1]


def _link(text: str, run: str) -> dict[str, str]:
    return {"run": run, "text": text}


def counted(number: int, word: str) -> str:
    """`1 row`, `1,000 rows`."""
    return f"{number:,} {word}{'' if number == 1 else 's'}"
