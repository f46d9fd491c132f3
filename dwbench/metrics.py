"""How a generated answer is compared with the accepted ones. Selection and evaluation use the same functions."""

import functools
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from rouge_score.rouge_scorer import RougeScorer

MARK = "####"
"""What GSM8K puts in front of its final answer."""

# Groups of thousands are taken as one number; "1,2" is two.
_NUMBER = re.compile(r"-?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|-?\.\d+")


def rouge_l(answer: str, references: Sequence[str]) -> list[float]:
    """ROUGE-L F1 with Porter stemming, in [0, 1], of the answer against each reference."""
    scorer = _rouge_scorer()
    return [float(scorer.score(reference, answer)["rougeL"].fmeasure) for reference in references]


def prepare(metric: Literal["exact_match", "rouge_l"]) -> None:
    """Import now what `metric` needs: rouge_score takes 2 seconds, which belong to no stage."""
    if metric == "rouge_l":
        _rouge_scorer()


@functools.cache
def _rouge_scorer() -> "RougeScorer":
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(["rougeL"], use_stemmer=True)


def gold_number(response: str) -> float | None:
    """The number behind `####` in a reference answer; None where there is none."""
    return strict_number(response)


def strict_number(answer: str) -> float | None:
    """The first number in the line behind the first `####` that has one, None otherwise.

    As lm-eval's `strict-match` the first mark counts, so that rambling on does not mend an answer. Beyond it dollar
    signs, signs, bold marks, a leading decimal point, `x = 5` and `1,575,000` are understood.
    """
    for part in answer.split(MARK)[1:]:
        line = part.lstrip().split("\n", 1)[0]
        numbers = _numbers(line)
        if numbers:
            # `x = 5`, `3 x 4 = 12`: what stands behind the last equals sign.
            behind = _numbers(line.rsplit("=", 1)[1]) if "=" in line else []
            return (behind or numbers)[0]
    return None


def flexible_number(answer: str) -> float | None:
    """The last number anywhere in the text; None where there is none."""
    numbers = _numbers(answer)
    return numbers[-1] if numbers else None


def answer_score(metric: Literal["exact_match", "rouge_l"], answer: str, references: Sequence[str]) -> float:
    """Quality of an answer in [0, 1]: Data Whisperer's f.

    `exact_match`: 1 where the number behind `####` equals that of any reference. `rouge_l`: mean over the references.
    """
    if metric == "rouge_l":
        scores = rouge_l(answer, references)
        return sum(scores) / len(scores)
    return float(matches(strict_number(answer), references))


def matches(number: float | None, references: Sequence[str]) -> bool:
    """Whether `number` is the final number of any reference."""
    return number is not None and any(gold_number(reference) == number for reference in references)


def _numbers(text: str) -> list[float]:
    return [_value(found) for found in _NUMBER.finditer(text.replace("$", "").replace("\u2212", "-"))]


def _value(found: "re.Match[str]") -> float:
    number = found.group()
    before = found.string[: found.start()]
    # `10-3`, `5 - 3`, `day-2`: a dash behind a word or a number is no sign.
    if number.startswith("-") and before[-1:].isalnum():
        number = number[1:]
    return float(number.replace(",", ""))


def scored(metric: Literal["exact_match", "rouge_l"], answer: str, references: Sequence[str]) -> dict[str, float]:
    """The metrics of one test answer, by name, each in [0, 1]."""
    if metric == "rouge_l":
        scores = rouge_l(answer, references)
        return {"rouge_l": sum(scores) / len(scores), "rouge_l_best": max(scores)}
    return {
        "exact_match_strict": float(matches(strict_number(answer), references)),
        "exact_match_flexible": float(matches(flexible_number(answer), references)),
    }
