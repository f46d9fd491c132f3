"""A small pool with what real data hold, shared by the tests of selectors."""

from dwbench.data.base import Example, RawRow, Splits, Task, number_rows
from dwbench.models.encoder import Encoder
from dwbench.models.spec import LM
from dwbench.selectors.material import Material
from dwbench.training.sft import LoraSFT

TASK = Task(
    name="towns",
    system="You write one line.",
    user="Notice: {input}\nHeadline:",
    input_label="Notice",
    answer_label="Headline",
    icl_system="You write one line for each notice.",
    metric="rouge_l",
    multiline=False,
    max_new_tokens=24,
)

TOO_LONG = "9"
"""Id of the row whose prompt is longer than 512 tokens."""

_POOL = (
    ("The library is closed on Monday because of a flood.", "Library shut on Monday over flood"),
    ("The pool opens late today.", "Pool late"),
    ("The school has new windows.", "School gets new windows, says the council of the town"),
    ("The library is closed on Monday because of a flood.", "Library shut on Monday over flood"),
    ("Das Café am Fluß öffnet – endlich! 🎉", "Café öffnet 🎉"),
    ("图书馆星期一关门。", "图书馆关门"),
    ("Is the bus late?", "No"),
    ("The {museum} shows <b>art</b>.\n\nIt is free.", "Free art:\nin {museum}"),
    ("The ferry waits for the storm to pass.", "Storm holds the ferry"),
    ("word " * 700, "Words"),
    ("The town hall paints its doors.", "Paint for the town hall"),
    ("A film is shot in Mill Street on Friday.", "Film shoot in Mill Street on Friday"),
)


def examples(rows: tuple[tuple[str, str], ...]) -> tuple[Example, ...]:
    return number_rows(
        RawRow(id=str(number), input=input, response=response, where=f"row {number}")
        for number, (input, response) in enumerate(rows)
    )


def splits() -> Splits:
    """12 rows to choose from (0 and 3 are the same), 3 target rows, 1 test row."""
    target = (("The rink is open.", "Rink open"), ("The post is late.", "Post late"), ("It rains.", "Rain"))
    return Splits(pool=examples(_POOL), target=examples(target), test=examples((("It snows.", "Snow"),)))


NO_ENCODER = Encoder(name="none", source="none")

TRAINING = LoraSFT(r=2, epochs=1, batch_size=2, learning_rate=1e-3, warmup_ratio=0.0)
"""How a method tunes the scorer in these tests."""


def material(lm: LM, data: Splits | None = None, seed: int = 0, encoder: Encoder = NO_ENCODER) -> Material:
    """The rows above, or other ones, with a scorer."""
    return Material(data or splits(), TASK, lm, lm, encoder, TRAINING, seed)
