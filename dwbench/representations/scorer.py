"""The scoring engine: a loaded model that gives response losses, answers and attention, and books what they cost."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np

from dwbench.errors import UserError
from dwbench.models.chat import Chat, Pair
from dwbench.models.flop import Shape
from dwbench.representations.attention import AttentionProbe, RowsAndColumns
from dwbench.representations.batches import KEY_COST, batches, generation_batches
from dwbench.representations.errors import TokenErrors, batch_errors
from dwbench.representations.generation import Answer, greedy
from dwbench.representations.heads import Head, Uniform, retrieval_scores, uniform_heads
from dwbench.representations.hidden import batch_mean_hidden, batch_weighted_hidden
from dwbench.representations.prefix import CachedPrefix, read_prefix
from dwbench.representations.probes import Probe
from dwbench.representations.token_nll import batch_token_nll, over_responses
from dwbench.representations.uncertainty import Steps, given_steps, greedy_steps
from dwbench.store import Bench

Item = TypeVar("Item")
Found = TypeVar("Found")


class ResponseNLL(NamedTuple):
    """Summed NLL (nats) and number of scored response tokens for each row; NaN and 0 for a row without any."""

    total: np.ndarray
    tokens: np.ndarray

    @property
    def mean(self) -> np.ndarray:
        """Mean NLL a token, [rows], NaN where no token was scored."""
        with np.errstate(invalid="ignore"):
            return np.where(self.tokens > 0, self.total / np.maximum(self.tokens, 1), np.nan)


class Answers(NamedTuple):
    """Answers in the order of the prompts and, where asked for, the attention mass on each part of each prompt."""

    answers: list[Answer]
    mass: list[np.ndarray]


class Scorer:
    """A model in eval mode with its tokenizer. Work is batched under `token_budget` padded tokens."""

    def __init__(self, model: Any, chat: Chat, bench: Bench, token_budget: int) -> None:
        self.chat = chat
        self._model = model
        self._bench = bench
        self._token_budget = token_budget
        self._shape = Shape.of(model)
        self._warm = False

    @property
    def n_layers(self) -> int:
        return self._shape.layers

    @property
    def config(self) -> Any:
        """The model's own configuration (architecture facts)."""
        return self._model.config

    def token_nll(self, pairs: Sequence[Pair | None], what: str = "response loss") -> list[np.ndarray]:
        """NLL of every response token, one array (nats, float64) a pair; an empty one for None.

        The same to 1e-5 for any batching. `what` names the work on the progress display.
        """
        with self._bench.progress.track(what, sum(pair is not None for pair in pairs)) as advance:
            return self._token_nll(pairs, None, advance)

    def token_nll_behind(self, prefix: Sequence[int], pairs: Sequence[Pair | None]) -> list[np.ndarray]:
        """The same with `prefix` (at least one token) in front of every context, but run only once.

        No progress of its own: callers go over many prefixes.
        """
        first = next((pair for pair in pairs if pair is not None), None)
        if first is None:
            return [np.empty(0) for _ in pairs]
        self._warm_up(first)
        read = read_prefix(self._model, prefix)
        fed = [len(prefix)]
        self._bench.meter.count(forward_tokens=fed[0], forward_calls=1, flop=self._shape.forward(fed, 0))
        return self._token_nll(pairs, read, lambda units: None)

    def _token_nll(
        self, pairs: Sequence[Pair | None], prefix: CachedPrefix | None, advance: Callable[[int], None]
    ) -> list[np.ndarray]:
        present = [position for position, pair in enumerate(pairs) if pair is not None]
        known = [pair for pair in pairs if pair is not None]
        losses = [np.empty(0) for _ in pairs]
        if not known:
            return losses
        self._warm_up(known[0])
        behind = prefix.n_tokens if prefix else 0
        for group in batches([pair.length + behind // KEY_COST for pair in known], self._token_budget):
            members = [known[position] for position in group]
            for position, nll in zip(group, batch_token_nll(self._model, members, prefix), strict=True):
                losses[present[position]] = nll
            self._count_forward(members, behind)
            advance(len(group))
        return losses

    def masked_token_nll(
        self,
        pairs: Sequence[Pair | None],
        heads: Sequence[Head],
        uniform: Uniform,
        what: str = "response loss with masked heads",
    ) -> list[np.ndarray]:
        """`token_nll` of the model whose `heads` attend to all alike (`uniform_heads`)."""
        with uniform_heads(self._model, heads, uniform):
            return self.token_nll(pairs, what)

    def retrieval_scores(self, probes: Sequence[Probe], what: str = "retrieval heads") -> np.ndarray:
        """Share of the answer tokens that each head retrieves, mean over probes, [layers, heads] float64.

        A pass for each probe whatever the token budget: rounding must not move heads across the cut.
        """
        self._warm_up(Pair(probes[0].context[:64], probes[0].answer[:8]))
        found = []
        with self._bench.progress.track(what, len(probes)) as advance:
            for probe in probes:
                found.append(retrieval_scores(self._model, probe))
                fed = [len(probe.ids)]
                self._bench.meter.count(forward_tokens=fed[0], forward_calls=1, flop=self._shape.forward(fed, 0))
                advance(1)
        return np.asarray(np.mean(found, axis=0))

    def response_nll(self, pairs: Sequence[Pair | None], what: str = "response loss") -> ResponseNLL:
        """Summed NLL and number of tokens of every response; a row that is None gets NaN and 0."""
        losses = self.token_nll(pairs, what)
        total = np.array([loss.sum() if loss.size else np.nan for loss in losses], dtype=np.float64)
        return ResponseNLL(total, np.array([loss.size for loss in losses], dtype=np.int64))

    def mean_hidden(self, sequences: Sequence[Sequence[int]], what: str = "mean hidden states") -> np.ndarray:
        """Mean over tokens of the last hidden states, [sequences, hidden size] float32; every sequence has a token.

        Raises UserError where one is not finite.
        """
        return self._pooled_hidden(sequences, batch_mean_hidden, what)

    def weighted_hidden(self, sequences: Sequence[Sequence[int]], what: str = "weighted hidden states") -> np.ndarray:
        """The same mean with the weight t / (1 + ... + n) for token t of n."""
        return self._pooled_hidden(sequences, batch_weighted_hidden, what)

    def _pooled_hidden(
        self, sequences: Sequence[Sequence[int]], pool: Callable[[Any, Sequence[Sequence[int]]], np.ndarray], what: str
    ) -> np.ndarray:
        found = np.empty((len(sequences), self._shape.hidden), dtype=np.float32)
        if not sequences:
            return found
        self._warm_up(Pair(tuple(sequences[0][:64]), (self.chat.end_of_turn,)))
        lengths = [len(sequence) for sequence in sequences]
        with self._bench.progress.track(what, len(sequences)) as advance:
            for group in batches(lengths, self._token_budget):
                found[group] = pool(self._model, [sequences[position] for position in group])
                of_group = [lengths[position] for position in group]
                self._bench.meter.count(
                    forward_tokens=sum(of_group),
                    forward_calls=len(group),
                    flop=self._shape.forward(of_group, 0),
                )
                advance(len(group))
        bad = int((~np.isfinite(found).all(axis=1)).sum())
        if bad:
            raise UserError(f"{what} of {bad} of {len(found)} texts are not finite: compute in float32 (model.dtype)")
        return found

    def next_token_logits(
        self, prompts: Sequence[Sequence[int]], tokens: Sequence[int], what: str = "next-token logits"
    ) -> np.ndarray:
        """Logits of `tokens` at the end of every prompt, [prompts, tokens] float64."""
        wanted = list(tokens)
        # A pair has a response; nothing in front of it sees what it is.
        pairs = [Pair(tuple(prompt), (wanted[0],)) for prompt in prompts]

        def read(members: list[Pair]) -> list[np.ndarray]:
            return over_responses(self._model, members, lambda whole, _: whole[:, wanted].T)

        return np.array(self._over_pairs(pairs, read, what), dtype=np.float64).reshape(len(pairs), len(wanted))

    def answers(
        self,
        prompts: Sequence[Sequence[int]],
        max_new_tokens: int,
        is_complete: Callable[[str], bool] | None = None,
        layer: int | None = None,
        wanted: Sequence[RowsAndColumns] = (),
        what: str = "answers",
    ) -> Answers:
        """Greedy answers, each until `is_complete` where that is given (`greedy`). With a `layer` (0-based) also the
        attention mass on the parts that `wanted` names, taken from the prefill of the same generation."""
        answers: list[Answer | None] = [None] * len(prompts)
        mass: list[np.ndarray] = [np.empty(0)] * len(prompts)
        if prompts:
            self._warm_up(Pair(tuple(prompts[0][:64]), (self.chat.end_of_turn,)))
        with self._bench.progress.track(what, len(prompts)) as advance:
            for group in self._to_generate(prompts, max_new_tokens):
                members = [prompts[position] for position in group]
                if layer is None:
                    found = self._greedy(members, max_new_tokens, is_complete)
                else:
                    probe = AttentionProbe(layer, [wanted[position] for position in group])
                    with probe.on(self._model):
                        found = self._greedy(members, max_new_tokens, is_complete)
                    for position, row in zip(group, probe.mass, strict=True):
                        mass[position] = row
                for position, answer in zip(group, found, strict=True):
                    answers[position] = answer
                advance(len(group))
        return Answers([answer for answer in answers if answer is not None], mass)

    def greedy_uncertainty(
        self, prompts: Sequence[Sequence[int]], max_new_tokens: int, what: str = "uncertainty of greedy answers"
    ) -> list[Steps]:
        """Uncertainty along the model's greedy answer to every prompt."""
        if prompts:
            self._warm_up(Pair(tuple(prompts[0][:64]), (self.chat.end_of_turn,)))

        def read(members: list[Sequence[int]]) -> list[Steps]:
            found = greedy_steps(self._model, self.chat, members, max_new_tokens)
            self._count_generation(members, [steps.logp.size for steps in found])
            return found

        return self._over(prompts, self._to_generate(prompts, max_new_tokens), read, what)

    def response_uncertainty(self, pairs: Sequence[Pair], what: str = "uncertainty of responses") -> list[Steps]:
        """Uncertainty along every given response, by one forward pass."""
        return self._over_pairs(pairs, lambda members: given_steps(self._model, self.chat, members), what)

    def response_errors(self, pairs: Sequence[Pair], what: str = "errors on responses") -> list[TokenErrors]:
        """EL2N and margin of every token of the given responses, by one forward pass."""
        return self._over_pairs(pairs, lambda members: batch_errors(self._model, members), what)

    def _over_pairs(self, pairs: Sequence[Pair], read: Callable[[list[Pair]], list[Found]], what: str) -> list[Found]:
        """What `read` makes of every pair, by one forward pass."""
        if pairs:
            self._warm_up(pairs[0])

        def counted(members: list[Pair]) -> list[Found]:
            found = read(members)
            self._count_forward(members)
            return found

        return self._over(pairs, batches([pair.length for pair in pairs], self._token_budget), counted, what)

    def _over(
        self,
        items: Sequence[Item],
        groups: Sequence[Sequence[int]],
        read: Callable[[list[Item]], list[Found]],
        what: str,
    ) -> list[Found]:
        """What `read` makes of the items, one group of positions after another, in the items' order."""
        found: dict[int, Found] = {}
        with self._bench.progress.track(what, len(items)) as advance:
            for group in groups:
                found.update(zip(group, read([items[position] for position in group]), strict=True))
                advance(len(group))
        return [found[position] for position in range(len(items))]

    def _to_generate(self, prompts: Sequence[Sequence[int]], max_new_tokens: int) -> list[list[int]]:
        return generation_batches([len(prompt) for prompt in prompts], max_new_tokens, self._token_budget)

    def _greedy(
        self, prompts: Sequence[Sequence[int]], max_new_tokens: int, is_complete: Callable[[str], bool] | None
    ) -> list[Answer]:
        found = greedy(self._model, self.chat, prompts, max_new_tokens, is_complete)
        self._count_generation(prompts, [answer.n_tokens for answer in found])
        return found

    def _count_generation(self, prompts: Sequence[Sequence[int]], new: Sequence[int]) -> None:
        """Book a prefill for every prompt and `new` tokens decoded behind it, the last of which is not fed again."""
        lengths = [len(prompt) for prompt in prompts]
        flop = self._shape.forward(lengths, len(prompts))
        fed = [max(0, n - 1) for n in new]
        flop += sum(self._shape.decode(prompt, n) for prompt, n in zip(lengths, fed, strict=True))
        self._bench.meter.count(
            forward_tokens=sum(lengths) + sum(fed),
            generated_tokens=sum(new),
            forward_calls=len(prompts),
            flop=flop,
        )

    def _count_forward(self, pairs: Sequence[Pair], behind: int = 0) -> None:
        lengths = [pair.length for pair in pairs]
        self._bench.meter.count(
            forward_tokens=sum(lengths),
            forward_calls=len(pairs),
            flop=self._shape.forward(lengths, sum(len(pair.response) for pair in pairs), behind),
        )

    def _warm_up(self, pair: Pair) -> None:
        """One small batch off the clock: the first pass of a process pays for kernels and thread pools."""
        if not self._warm:
            self._warm = True
            with self._bench.meter.apart("warmup"):
                batch_token_nll(self._model, [Pair(pair.context[:64], pair.response[:8])])
