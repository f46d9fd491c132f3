import pytest

from dwbench.metrics import answer_score, flexible_number, gold_number, rouge_l, scored, strict_number


@pytest.mark.parametrize(
    ("answer", "number"),
    [
        ("so 9 + 9\n#### 18", 18.0),
        ("#### $18", 18.0),
        ("#### -5", -5.0),
        ("#### -$5", -5.0),
        ("#### \N{MINUS SIGN}5", -5.0),
        ("#### **18**", 18.0),
        ("#### .5", 0.5),
        ("#### x = 5", 5.0),
        ("#### 3 x 4 = 12", 12.0),
        ("#### 1,575,000", 1575000.0),
        ("####18.", 18.0),
        ("#### 2,000 apples", 2000.0),
        ("#### 3\n#### 4", 3.0),
        ("#### none\n#### 4", 4.0),
        ("####\n7", 7.0),
        ("the answer is 18", None),
        ("#### none\n18", None),
        ("", None),
    ],
)
def test_strict_number(answer: str, number: float | None) -> None:
    assert strict_number(answer) == number


@pytest.mark.parametrize(
    ("answer", "number"),
    [
        ("the answer is 18.", 18.0),
        ("#### 4 or 5", 5.0),
        ("it costs $1,234.50 in all", 1234.5),
        ("that is 10-3", 3.0),
        ("it fell to -3", -3.0),
        ("1,2", 2.0),
        ("nothing", None),
    ],
)
def test_flexible_number(answer: str, number: float | None) -> None:
    assert flexible_number(answer) == number


def test_gold_number_reads_what_the_reference_code_misreads() -> None:
    assert gold_number("<<1000*2=2000>>2,000\n#### 2,000") == 2000.0
    assert gold_number("#### -47") == -47.0
    assert gold_number("no mark 3") is None


def test_rouge_l_stems_and_scores_each_reference() -> None:
    one, other, none = rouge_l("the cats sat", ["the cat sat", "the dog sat", "xyz"])
    assert one == pytest.approx(1.0)
    assert other == pytest.approx(2 / 3)
    assert none == 0.0
    assert rouge_l("", ["the cat"]) == [0.0]


def test_answer_score_is_the_mean_over_references_or_equality() -> None:
    assert answer_score("rouge_l", "the cat sat", ["the cat sat", "xyz"]) == pytest.approx(0.5)
    assert answer_score("exact_match", "#### 2000.0", ["#### 2,000"]) == 1.0
    assert answer_score("exact_match", "2000", ["#### 2,000"]) == 0.0
    assert answer_score("exact_match", "no number", ["no number either"]) == 0.0


def test_scored_names_strict_and_flexible_and_best() -> None:
    assert scored("exact_match", "so 18", ["#### 18"]) == {"exact_match_strict": 0.0, "exact_match_flexible": 1.0}
    assert scored("rouge_l", "a b", ["a b", "c"]) == {"rouge_l": 0.5, "rouge_l_best": 1.0}
