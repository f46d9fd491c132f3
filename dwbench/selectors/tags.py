"""Tags of rows: what each is about, from a file or in an instruct model's words."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from dwbench.component import key_of
from dwbench.data.base import Turn
from dwbench.errors import UserError
from dwbench.files import expanded
from dwbench.models.chat import Chat
from dwbench.selectors.context import ROWS_A_BLOCK, Context
from dwbench.selectors.texts import question_text

VERSION = 2

MAX_NEW_TOKENS = 48
"""Cap of an answer with tags."""

MOST_TAGS, LONGEST_TAG = 8, 4
"""Tags that are taken of an answer, and words of a tag; what is longer is a sentence and no tag."""

INSTRUCTION = (
    "Name the topics and skills that the request needs, as 1 to 5 tags of at most 3 words each, in English, on one "
    "line, separated by commas. Write nothing else and do not answer the request."
)

SHOWN = (
    ("How long must I bake bread of 500 g of flour at 220 degrees?", "cooking, baking bread, time estimate"),
    ("Translate into French: The meeting is moved to Friday.", "translation, french, business"),
)
"""Requests with their tags, as earlier turns: small models answer the request without."""

Tags = tuple[str, ...]


def normalised(tag: str) -> str:
    """A tag as it is compared: lower case, single spaces."""
    return " ".join(tag.lower().split())


def read_tags(name: str) -> dict[str, Tags]:
    """Tags by id from a file of lines `{"id": ..., "tags": ["...", ...]}`, UTF-8 with or without a byte order mark; a
    tag that is empty is dropped.

    Raises UserError, with file and line, for what is no such file.
    """
    try:
        # Not splitlines: JSON texts may hold what Unicode calls a line's end.
        lines = expanded(name).read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "is no UTF-8 text"
        raise UserError(f"selector.tags_file: {name}: {why}: give a file of JSON lines") from error
    found: dict[str, Tags] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        id, tags = _tags_of_line(line, f"{name}:{number}")
        if id in found:
            raise UserError(f"{name}:{number}: a second line for id {id!r}: leave one")
        found[id] = tags
    if not found:
        raise UserError(f"selector.tags_file: {name}: has no lines")
    return found


def _tags_of_line(line: str, where: str) -> tuple[str, Tags]:
    wanted = 'want {"id": ..., "tags": ["...", ...]}'
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise UserError(f"{where}: is no JSON ({error}): {wanted}") from error
    if not isinstance(row, dict) or not {"id", "tags"} <= row.keys():
        raise UserError(f"{where}: has no id and tags: {wanted}")
    id, tags = row["id"], row["tags"]
    if isinstance(id, bool) or not isinstance(id, str | int):
        raise UserError(f"{where}: its id is neither text nor a number: {wanted}")
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        raise UserError(f"{where}: its tags are no list of texts: {wanted}")
    return str(id), distinct(tags)


def distinct(tags: Sequence[str]) -> Tags:
    """The tags normalised, each once, in the order of their first place."""
    return tuple(dict.fromkeys(tag for tag in map(normalised, tags) if tag))


def parse_tags(answer: str) -> Tags:
    """Tags of a model's answer: the parts of its first line with text between commas or semicolons, without numbering,
    quotes and brackets. Parts of more than 4 words, or without a letter, are none."""
    line = next((line for line in answer.splitlines() if line.strip()), "")
    parts = re.split(r"[,;]", re.sub(r"^\s*tags?\s*:", "", line, flags=re.IGNORECASE))
    found = distinct([re.sub(r"^(\W|_|\d+[.)])+|[^\w+#]+$", "", part) for part in parts])
    fitting = [tag for tag in found if len(tag.split()) <= LONGEST_TAG and re.search(r"[^\W\d_]", tag)]
    return tuple(fitting[:MOST_TAGS])


@dataclass(frozen=True)
class ModelTags:
    """`of_rows`: tags of every row, [N]. `asked`: whether the row's prompt fits the model, bool [N]."""

    of_rows: list[Tags]
    asked: np.ndarray


def model_tags(context: Context) -> ModelTags:
    """Tags that the scoring model writes of every row's question: greedy, stored, charged.

    Equal questions are asked once. A row whose prompt leaves no room for an answer within `max_length` is not asked.
    Needs `responses` and `scorer`.
    """
    questions = [question_text(row) for row in context.pool]
    different = sorted(set(questions))
    tags: dict[str, Tags] = {}
    asked: dict[str, bool] = {}
    for start in range(0, len(different), ROWS_A_BLOCK):
        block = different[start : start + ROWS_A_BLOCK]
        settings = {"prompt": tag_turns(""), "max_new_tokens": MAX_NEW_TOKENS, "questions": key_of(block)}
        arrays = context.represent("tags", VERSION, settings, ("scorer",), partial(_answered, context, block))
        tags.update(zip(block, (parse_tags(str(answer)) for answer in arrays["answers"]), strict=True))
        asked.update(zip(block, arrays["asked"].tolist(), strict=True))
    of_rows = [tags[question] for question in questions]
    return ModelTags(of_rows, np.array([asked[question] for question in questions]))


def check_tagging(context: Context) -> None:
    """Raise UserError where no row's question leaves room for tags. Needs `responses` and `scorer`."""
    chat = context.chat
    if not any(_fits(chat, _prompt(chat, question_text(row))) for row in context.pool):
        raise UserError(
            f"selector.tags=model: no question of the pool leaves room for {MAX_NEW_TOKENS} tokens of tags within the "
            f"scorer's max_length {chat.max_length}: raise it, or set selector.tags=clusters"
        )


def _answered(context: Context, questions: Sequence[str]) -> dict[str, np.ndarray]:
    chat = context.chat
    prompts = [_prompt(chat, question) for question in questions]
    asked = [_fits(chat, prompt) for prompt in prompts]
    given = [prompt for prompt, fits in zip(prompts, asked, strict=True) if fits]
    answers = iter(context.scorer.answers(given, MAX_NEW_TOKENS, _has_line, what="tags").answers)
    return {
        "answers": np.array([next(answers).text if fits else "" for fits in asked], dtype=np.str_),
        "asked": np.array(asked),
    }


def _prompt(chat: Chat, question: str) -> tuple[int, ...]:
    return chat.ids(chat.text(tag_turns(question)))


def _fits(chat: Chat, prompt: Sequence[int]) -> bool:
    return len(prompt) + MAX_NEW_TOKENS <= chat.max_length


def tag_turns(question: str) -> list[Turn]:
    """The conversation that asks for the tags of `question`."""
    turns: list[Turn] = []
    for request, tags in (*SHOWN, (question, "")):
        turns += [("user", f"{INSTRUCTION}\n\nRequest: {request}\n\nTags:"), ("assistant", tags)]
    return turns[:-1]


def _has_line(answer: str) -> bool:
    """Whether a line with text is whole."""
    return "\n" in answer.lstrip()


@dataclass(frozen=True)
class FileTags:
    """`of_rows`: tags of every row, [N]. `missing`: rows without a line in the file. `unused`: lines without a row."""

    of_rows: list[Tags]
    missing: int
    unused: int


def file_tags(tags: Mapping[str, Tags], ids: Sequence[str]) -> FileTags:
    """The tags of a file for the rows with these ids."""
    missing = sum(id not in tags for id in ids)
    return FileTags([tags.get(id, ()) for id in ids], missing, len(tags) - (len(ids) - missing))


def check_tags(name: str, tags: Mapping[str, Tags], ids: Sequence[str]) -> None:
    """Raise UserError where the file `name` has lines for none of the rows with these ids."""
    if not any(id in tags for id in ids):
        raise UserError(
            f"selector.tags_file: {name}: its ids (first {next(iter(tags))!r}) are none of the pool's "
            f"(first {min(ids)!r}): write the tags under the ids of the pool's rows"
        )
