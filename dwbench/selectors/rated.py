"""What the methods share that let the scorer rate rows: a look beforehand at whether it can."""

from collections.abc import Iterable, Sequence

from dwbench.errors import UserError
from dwbench.representations.ratings import rating_tokens
from dwbench.selectors.context import Context


def check_ratings(context: Context, selector: str, questions: Iterable[Sequence[str]], most: int) -> None:
    """Raise UserError unless the ratings 1 to `most` are single tokens of the scorer's, and some row fits all of its
    `questions`: given for one row after another, and asked for no further than to the first that fits. Needs `scorer`.
    """
    chat = context.chat
    lead = len(rating_tokens(chat, most).lead)
    for asked in questions:
        if all(len(chat.ids(chat.text([("user", question)]))) + lead < chat.max_length for question in asked):
            return
    raise UserError(
        f"selector {selector}: no row of the pool fits into the rating prompts within the scorer's max_length "
        f"{chat.max_length}: raise it"
    )
