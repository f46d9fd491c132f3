"""The engines that compute nothing: they read lengths and shapes, book what the real ones would, and make up the rest.

A selector's own code runs on them, so that there is no second account of what a method costs. Tokenizers are the real
ones; models are without weights (torch's `meta` device). What comes out has the right shapes and plausible values:
losses above 0, EL2N within its range, unit vectors, answers that the selectors' readers take. How long answers get is
assumed. Tunings and gradients of the adapters leave a note of the bytes that they did not write.
"""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from dwbench.component import canonical_json, identity
from dwbench.data.base import Task
from dwbench.models.chat import Chat, Pair
from dwbench.models.encoder import LONGEST_TEXT, Encoder
from dwbench.models.flop import Shape
from dwbench.models.loading import load
from dwbench.models.spec import LM
from dwbench.progress import Advance
from dwbench.representations.attention import RowsAndColumns
from dwbench.representations.encode import Embedder
from dwbench.representations.errors import TokenErrors
from dwbench.representations.generation import Answer
from dwbench.representations.gradients import Gradients, Reduce
from dwbench.representations.heads import Head, Uniform
from dwbench.representations.per_sample import Wanted
from dwbench.representations.prefix import CachedPrefix
from dwbench.representations.probes import Probe
from dwbench.representations.scorer import Answers, Scorer
from dwbench.representations.uncertainty import Steps
from dwbench.selectors.models import LoadedModels
from dwbench.store import Bench, write_json
from dwbench.training.checkpoints import Keep
from dwbench.training.sft import LoraSFT, adapters, count_tuning

NOT_WRITTEN = "not_written.json"
"""The file of a dry stage that tells the `bytes` of what a real one would have written beside."""

FLOAT32 = 4

MADE_UP_GRADIENT = 8
"""Entries of a made-up gradient of one weight: nothing reads how many there are."""

MOST_ANSWERS = 100
"""Answers that one generation is given at most to be complete."""


@dataclass(frozen=True)
class AnswerLength:
    """Tokens of an answer, end of turn included: to a question alone (`free`), and with examples of answers before it
    (`shown`)."""

    free: int
    shown: int


class DryScorer(Scorer):
    """The scoring engine on a model without weights."""

    def __init__(
        self,
        model: Any,
        chat: Chat,
        bench: Bench,
        token_budget: int,
        task: Task,
        length: AnswerLength,
        random: np.random.Generator,
    ) -> None:
        super().__init__(model, chat, bench, token_budget)
        self._task = task
        self._length = length
        self._random = random

    def token_nll_behind(self, prefix: Sequence[int], pairs: Sequence[Pair | None]) -> list[np.ndarray]:
        if any(pair is not None for pair in pairs):
            self._count_read(prefix)
        return self._token_nll(pairs, CachedPrefix(len(prefix), None), lambda units: None)

    def _token_nll(
        self, pairs: Sequence[Pair | None], prefix: CachedPrefix | None, advance: Callable[[int], None]
    ) -> list[np.ndarray]:
        known = [pair for pair in pairs if pair is not None]
        self._count_forward(known, prefix.n_tokens if prefix else 0)
        advance(len(known))
        return [np.empty(0) if pair is None else self._losses(len(pair.response)) for pair in pairs]

    def masked_token_nll(
        self,
        pairs: Sequence[Pair | None],
        heads: Sequence[Head],
        uniform: Uniform,
        what: str = "response loss with masked heads",
    ) -> list[np.ndarray]:
        return self.token_nll(pairs, what)

    def retrieval_scores(self, probes: Sequence[Probe], what: str = "retrieval heads") -> np.ndarray:
        self._count_read(*(probe.ids for probe in probes))
        return self._random.random((self._shape.layers, self.config.num_attention_heads))

    def _pooled_hidden(
        self, sequences: Sequence[Sequence[int]], pool: Callable[[Any, Sequence[Sequence[int]]], np.ndarray], what: str
    ) -> np.ndarray:
        self._count_read(*sequences)
        return self._random.standard_normal((len(sequences), self._shape.hidden), dtype=np.float32)

    def next_token_logits(
        self, prompts: Sequence[Sequence[int]], tokens: Sequence[int], what: str = "next-token logits"
    ) -> np.ndarray:
        self._count_forward([Pair(tuple(prompt), (tokens[0],)) for prompt in prompts])
        return self._random.standard_normal((len(prompts), len(tokens)))

    def answers(
        self,
        prompts: Sequence[Sequence[int]],
        max_new_tokens: int,
        is_complete: Callable[[str], bool] | None = None,
        layer: int | None = None,
        wanted: Sequence[RowsAndColumns] = (),
        what: str = "answers",
    ) -> Answers:
        """Made-up answers: as many as make one `is_complete`, each of the assumed length."""
        text, parts = _answers(self._task, is_complete)
        n_tokens = self._within(max_new_tokens, self._length.shown * parts if is_complete else self._length.free)
        self._count_generation(prompts, [n_tokens] * len(prompts))
        answer = Answer(text, n_tokens, finished=n_tokens < max_new_tokens)
        mass = [np.empty(0)] * len(prompts)
        if layer is not None:
            mass = [self._random.uniform(0.5, 1.5, len(of_one.columns)) for of_one in wanted]
        return Answers([answer] * len(prompts), mass)

    def greedy_uncertainty(
        self, prompts: Sequence[Sequence[int]], max_new_tokens: int, what: str = "uncertainty of greedy answers"
    ) -> list[Steps]:
        n_tokens = self._within(max_new_tokens, self._length.free)
        self._count_generation(prompts, [n_tokens] * len(prompts))
        return [self._steps(n_tokens) for _ in prompts]

    def response_uncertainty(self, pairs: Sequence[Pair], what: str = "uncertainty of responses") -> list[Steps]:
        self._count_forward(pairs)
        return [self._steps(len(pair.response)) for pair in pairs]

    def response_errors(self, pairs: Sequence[Pair], what: str = "errors on responses") -> list[TokenErrors]:
        self._count_forward(pairs)
        return [
            TokenErrors(self._random.uniform(0, 2**0.5, n), self._random.uniform(-1, 1, n))
            for n in (len(pair.response) for pair in pairs)
        ]

    def _count_read(self, *sequences: Sequence[int]) -> None:
        """Book passes forward without logits."""
        self._count_forward([Pair(tuple(sequence), ()) for sequence in sequences])

    def _losses(self, n: int) -> np.ndarray:
        return self._random.gamma(2.0, 1.0, n)

    def _steps(self, n: int) -> Steps:
        entropy, margin = self._losses(n).astype(np.float32), self._random.random(n, dtype=np.float32)
        return Steps(entropy, margin, -self._losses(n).astype(np.float32), ended=True)

    def _within(self, cap: int, n_tokens: int) -> int:
        return max(1, min(cap, n_tokens))


def _answers(task: Task, is_complete: Callable[[str], bool] | None) -> tuple[str, int]:
    """The shortest text of made-up answers that is complete, and how many they are: one to the question that is open,
    then each behind the label of the next one. It reads as a line of tags and as a number, too."""
    part = " town, weather, sport\n#### 7\n"
    text, parts = part, 1
    while is_complete is not None and not is_complete(text) and parts < MOST_ANSWERS:
        text += f"{task.answer_label} {parts + 1}:"
        if is_complete(text):
            break
        text, parts = text + part, parts + 1
    return text, parts


class DryGradients(Gradients):
    """The gradient engine on a model without weights."""

    def __init__(self, model: Any, chat: Chat, bench: Bench, token_budget: int, random: np.random.Generator) -> None:
        super().__init__(model, chat, bench, token_budget)
        self._random = random

    def _head_norms(self, pairs: Sequence[Pair | None], advance: Advance) -> np.ndarray:
        return np.sqrt(self._made_up(pairs, None, 1, advance)[:, 0].astype(np.float64))

    def _summed(
        self, pairs: Sequence[Pair | None], layers: Wanted, width: int, reduce: Reduce, advance: Advance
    ) -> np.ndarray:
        return self._made_up(pairs, layers, width, advance)

    def _gathered(
        self,
        pairs: Sequence[Pair | None],
        layers: Wanted,
        width: int,
        feature: Callable[[str, Any], Any],
        advance: Advance,
    ) -> np.ndarray:
        return self._made_up(pairs, layers, width, advance)

    def _collected(self, pairs: Sequence[Pair | None], layers: Wanted, advance: Advance) -> dict[str, np.ndarray]:
        self._made_up(pairs, layers, 1, advance)
        shape = (len(pairs), MADE_UP_GRADIENT)
        return {name: self._random.standard_normal(shape, dtype=np.float32) for name in layers.layers}

    def _made_up(self, pairs: Sequence[Pair | None], layers: Wanted | None, width: int, advance: Advance) -> np.ndarray:
        """Numbers [pairs, width], NaN for None, the last column above 0: it may hold squares."""
        known = [pair for pair in pairs if pair is not None]
        self._count(known, layers)
        advance(len(known))
        found = self._random.standard_normal((len(pairs), width), dtype=np.float32)
        found[:, -1] = np.abs(found[:, -1]) + 1
        found[[pair is None for pair in pairs]] = np.nan
        return found


@dataclass
class EncoderOutline:
    """What `Embedder` asks a SentenceTransformer, of an encoder without weights."""

    transformers_model: Any
    tokenizer: Any
    max_seq_length: int
    prompts: Mapping[str, str]
    default_prompt_name: str | None

    def get_embedding_dimension(self) -> int:
        """The hidden size; a model with a dense layer behind its pooling has another one."""
        return int(self.transformers_model.config.hidden_size)


class DryEmbedder(Embedder):
    """The embedding engine on an encoder without weights."""

    def __init__(self, model: EncoderOutline, bench: Bench, batch_size: int, random: np.random.Generator) -> None:
        super().__init__(model, bench, batch_size)
        self._random = random

    def _warm_up(self, text: str) -> None:
        return

    def _features(self, texts: list[str]) -> dict[str, Any]:
        prefixed = [self._prefix + text for text in texts]
        options = {"truncation": True, "max_length": self.max_length, "padding": True, "return_tensors": "pt"}
        return cast(dict[str, Any], self._model.tokenizer(prefixed, **options))

    def _forward(self, features: dict[str, Any]) -> np.ndarray:
        shape = (len(features["attention_mask"]), self._model.get_embedding_dimension())
        found = self._random.standard_normal(shape, dtype=np.float32)
        return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True))


class Outlines:
    """Models without weights, each made once."""

    def __init__(self, loaded: LoadedModels) -> None:
        self.loaded = loaded
        self._made: dict[str, Any] = {}

    def lm(self, lm: LM, train: LoraSFT | None = None) -> Any:
        """The LM, with the adapters of `train` where it is given: a model of its own, as PEFT changes what it gets."""
        import torch
        from peft import get_peft_model
        from transformers import AutoModelForCausalLM

        key = canonical_json([identity(lm), None if train is None else train.r])
        if key not in self._made:
            with torch.device("meta"):
                model = AutoModelForCausalLM.from_config(self.loaded.config(lm))  # type: ignore[no-untyped-call]
                self._made[key] = model if train is None else get_peft_model(model, adapters(train))
        return self._made[key]

    def encoder(self, encoder: Encoder) -> EncoderOutline:
        key = canonical_json(identity(encoder))
        if key not in self._made:
            self._made[key] = load(encoder, _encoder_outline(encoder), {})
        found: EncoderOutline = self._made[key]
        return found

    def shape(self, lm: LM) -> Shape:
        return Shape.of(self.lm(lm))

    def adapter_bytes(self, lm: LM, train: LoraSFT) -> int:
        """Of an adapter's file, in float32; Adam's two moments take as much each."""
        weights = self.lm(lm, train).named_parameters()
        return FLOAT32 * sum(int(weight.numel()) for name, weight in weights if ".lora_" in name)


class DryModels:
    """Engines without weights, as `Models` gives them. The same calls in the same order give the same numbers.

    Args:
        task: by whose labels made-up answers are written.
        train: how methods tune; the rank of the adapters.
        length: of answers, for each LM.
    """

    def __init__(self, outlines: Outlines, task: Task, train: LoraSFT, length: Callable[[LM], AnswerLength]) -> None:
        self._outlines = outlines
        self._task = task
        self._train = train
        self._length = length
        self._random = np.random.default_rng(0)  # one for all engines: two checkpoints do not give the same numbers

    def chat(self, lm: LM) -> Chat:
        return self._outlines.loaded.chat(lm)

    def config(self, lm: LM) -> Any:
        return self._outlines.loaded.config(lm)

    def scorer(self, lm: LM, bench: Bench, adapter: Path | None = None) -> DryScorer:
        """The same engine with an adapter and without: merged or not, it is below 2 % of the work."""
        model = self._outlines.lm(lm)
        return DryScorer(model, self.chat(lm), bench, lm.token_budget, self._task, self._length(lm), self._random)

    def gradients(self, lm: LM, bench: Bench, adapter: Path | None = None) -> DryGradients:
        model = self._outlines.lm(lm, None if adapter is None else self._train)
        return DryGradients(model, self.chat(lm), bench, lm.token_budget, self._random)

    def embedder(self, encoder: Encoder, bench: Bench) -> DryEmbedder:
        return DryEmbedder(self._outlines.encoder(encoder), bench, encoder.batch_size, self._random)

    def tune(
        self, lm: LM, bench: Bench, pairs: Sequence[Pair], train: LoraSFT, seed: int, folder: Path, keep: Keep
    ) -> None:
        """Book the tuning, and write what is read of one: the steps and rates of its checkpoints."""
        done = dataclasses.replace(train, epochs=keep.epochs)
        count_tuning(bench, self._outlines.shape(lm), pairs, done)
        steps = keep.steps(train.steps_an_epoch(len(pairs)))
        rate = train.rate_for(self.config(lm).model_type)
        checkpoints = [{"step": step, "rate": rate / number} for number, step in enumerate(steps, start=1)]
        write_json(folder / "training.json", {"checkpoints": checkpoints})
        adapter = self._outlines.adapter_bytes(lm, train)
        _note(folder, len(steps) * adapter * (3 if keep.moments else 1))

    def untuned(self, lm: LM, bench: Bench, train: LoraSFT, seed: int, folder: Path) -> None:
        _note(folder, self._outlines.adapter_bytes(lm, train))


def bytes_not_written(folder: Path) -> int:
    """What a real stage would have written beside the files of the dry one in `folder`."""
    path = folder / NOT_WRITTEN
    return int(json.loads(path.read_text(encoding="utf-8"))["bytes"]) if path.is_file() else 0


def _note(folder: Path, n_bytes: int) -> None:
    write_json(folder / NOT_WRITTEN, {"bytes": n_bytes})


def _encoder_outline(encoder: Encoder) -> Callable[..., EncoderOutline]:
    """A `from_pretrained` of the encoder's outline. Of sentence-transformers' own files it reads the length and the
    prompts."""

    def from_pretrained(source: str, **options: Any) -> EncoderOutline:
        import torch
        from transformers import AutoConfig, AutoModel, AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(source, **options)
        with torch.device("meta"):
            model = AutoModel.from_config(AutoConfig.from_pretrained(source, **options))  # type: ignore[no-untyped-call]
        revision = options.get("revision")
        lengths = _told(source, "sentence_bert_config.json", revision)
        prompts = _told(source, "config_sentence_transformers.json", revision)
        positions = getattr(model.config, "max_position_embeddings", None)
        limits = (lengths.get("max_seq_length"), tokenizer.model_max_length, positions, LONGEST_TEXT)
        given = {"prefix": encoder.prefix} if encoder.prefix is not None else prompts.get("prompts") or {}
        default = "prefix" if encoder.prefix is not None else prompts.get("default_prompt_name")
        longest = encoder.max_length or min(limit for limit in limits if limit is not None)
        return EncoderOutline(model, tokenizer, longest, given, default)

    return from_pretrained


def _told(source: str, name: str, revision: str | None) -> dict[str, Any]:
    """A JSON file of a model in a folder or on the hub; nothing where it has none."""
    from transformers.utils.hub import cached_file

    path = cached_file(source, name, revision=revision, _raise_exceptions_for_missing_entries=False)
    return {} if path is None else cast(dict[str, Any], json.loads(Path(path).read_text(encoding="utf-8")))
