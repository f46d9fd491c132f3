"""Retrieval probes: a JSON object of random keys and invented sentences, one of whose values is asked for.

All text is made of the word lists below, by a grammar of one sentence; nothing is real, and no sentence occurs twice in
a probe. Ids are made by concatenation, so that a value has the same ids in the object and as the answer, and its place
is known and not looked for.
"""

import random
import string
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dwbench.errors import UserError
from dwbench.models.chat import Chat
from dwbench.representations.attention import Span
from dwbench.seeds import derive

VERSION = 1
"""To be raised when the text of the probes changes."""

SHOTS = 3
"""Questions that come with their answers."""

_KEY_LENGTH = 32
_INSTRUCTION = (
    "Below is a JSON object, and then questions that each name one of its keys. "
    "Answer with the value of that key, word for word, and with nothing else."
)
_PAIRS = "{pairs}"

_ADJECTIVES = (
    "quiet", "cheerful", "tired", "curious", "patient", "nervous", "clever", "careful", "proud", "young", "retired",
    "famous", "gentle", "stubborn", "lonely", "busy",
)  # fmt: skip
_PEOPLE = (
    "baker", "teacher", "sailor", "gardener", "doctor", "painter", "farmer", "singer", "pilot", "tailor", "student",
    "carpenter", "driver", "nurse", "writer", "fisherman", "captain", "waiter", "judge", "hunter",
)  # fmt: skip
_VERBS = (
    "repaired", "sold", "painted", "found", "carried", "hid", "borrowed", "lost", "cleaned", "bought", "described",
    "moved", "opened", "photographed", "returned", "weighed", "watched", "covered",
)  # fmt: skip
_QUALITIES = (
    "wooden", "broken", "heavy", "silver", "yellow", "tiny", "ancient", "empty", "striped", "rusty", "golden", "soft",
    "square", "purple", "borrowed", "cracked",
)  # fmt: skip
_THINGS = (
    "ladder", "boat", "clock", "basket", "mirror", "bicycle", "lamp", "suitcase", "piano", "blanket", "bell", "kettle",
    "map", "statue", "drum", "carpet", "bottle", "wheel", "candle", "telescope",
)  # fmt: skip
_PLACES = (
    "behind the station", "near the harbour", "under the old bridge", "in the village hall", "beside the river",
    "on the roof of the hotel", "outside the library", "at the edge of the forest", "in a narrow street",
    "in front of the museum", "on the northern beach", "inside an empty barn",
)  # fmt: skip
_TIMES = (
    "before breakfast", "during the storm", "after the concert", "on a rainy Tuesday", "early in the morning",
    "while the children slept", "in the last week of autumn", "shortly after midnight", "on the first day of spring",
    "when the lights went out", "without telling anyone", "for the second time this year",
)  # fmt: skip


@dataclass(frozen=True)
class Probe:
    """A prompt that asks for one value of a JSON object, and the answer, as token ids.

    Attributes:
        context: the prompt, up to and with the header of the answer.
        answer: the value's ids; `context[value[0] : value[1]]` are the same.
        value: where in `context` the queried value stands.
    """

    context: tuple[int, ...]
    answer: tuple[int, ...]
    value: Span

    @property
    def ids(self) -> tuple[int, ...]:
        """What a teacher-forced pass is fed: nothing behind the last answer token is predicted."""
        return (*self.context, *self.answer[:-1])


def retrieval_probes(chat: Chat, number: int, tokens: int, seed: int) -> list[Probe]:
    """`number` probes with as many pairs as fit into `tokens` tokens, the answer included.

    Raises UserError where not even the pairs that are asked for do.
    """
    return [_probe(chat, tokens, random.Random(derive(seed, "probe", n))) for n in range(number)]


def _probe(chat: Chat, tokens: int, rng: random.Random) -> Probe:
    pairs = _pairs(rng)
    asked = [next(pairs) for _ in range(SHOTS + 1)]
    before, behind = chat.text([("user", _frame(asked))]).split(_PAIRS)
    head, tail, between = chat.ids(before), chat.ids(behind), chat.ids('",\n')

    def encoded(pair: tuple[str, str]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        return chat.ids(f'"{pair[0]}": "'), chat.ids(pair[1])

    shown = [encoded(pair) for pair in asked]
    queried = shown[-1]
    answer = queried[1]
    used = len(head) + len(tail) + len(answer) + sum(len(key) + len(value) for key, value in shown)
    used += SHOTS * len(between)
    if used > tokens:
        raise UserError(f"selector.probe_tokens={tokens}: a probe with {SHOTS} examples takes {used} tokens: give more")
    for key, value in map(encoded, pairs):
        used += len(between) + len(key) + len(value)
        if used > tokens:
            break
        shown.append((key, value))
    rng.shuffle(shown)
    context = list(head)
    start = 0
    for number, pair in enumerate(shown):
        context += (*(between if number else ()), *pair[0])
        if pair is queried:
            start = len(context)
        context += pair[1]
    return Probe((*context, *tail), answer, (start, start + len(answer)))


def _pairs(rng: random.Random) -> Iterator[tuple[str, str]]:
    """Keys and sentences without end; no sentence twice."""
    seen: set[str] = set()
    while True:
        key = "".join(rng.choices(string.ascii_letters + string.digits, k=_KEY_LENGTH))
        value = _sentence(rng)
        if value not in seen:
            seen.add(value)
            yield key, value


def _sentence(rng: random.Random) -> str:
    """12 to 20 words: about as many tokens in the usual vocabularies, below 30."""
    someone = f"{rng.choice(_ADJECTIVES)} {rng.choice(_PEOPLE)}"
    something = f"{rng.choice(_QUALITIES)} {rng.choice(_THINGS)}"
    return f"The {someone} {rng.choice(_VERBS)} the {something} {rng.choice(_PLACES)} {rng.choice(_TIMES)}."


def _frame(asked: Sequence[tuple[str, str]]) -> str:
    """The user turn with a placeholder for the pairs; the last of `asked` is the query."""
    *examples, (query, _) = asked
    questions = "".join(f"question: {key}\nanswer: {value}\n\n" for key, value in examples)
    return f'{_INSTRUCTION}\n\n{{\n{_PAIRS}"\n}}\n\n{questions}question: {query}\nanswer:'
