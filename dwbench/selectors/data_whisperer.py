"""Data Whisperer: few-shot in-context quality, shared out by attention."""

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np

from dwbench.component import component
from dwbench.data.base import Example
from dwbench.errors import UserError
from dwbench.metrics import answer_score, prepare
from dwbench.representations.attention import RowsAndColumns, Span
from dwbench.representations.generation import Answer
from dwbench.rules.ranking import Scores, scores
from dwbench.selectors import data_whisperer_reference as reference
from dwbench.selectors.base import Context, Need
from dwbench.selectors.icl import ICLPrompt, answers_by_index, build_prompt, is_complete

AttentionRows = Literal["query_block", "query_text_only", "last_token"]

LAYERS: dict[tuple[str, int, int], int] = {
    ("llama", 32, 4096): 13,  # Llama-3-8B
    ("mistral", 40, 5120): 13,  # Mistral-Nemo
    ("mistral", 32, 4096): 10,  # Mistral-7B-v0.2
    ("qwen2", 36, 2048): 16,  # Qwen-2.5-3B
    ("qwen2", 28, 3584): 16,  # Qwen-2.5-7B
}
"""Attention layer (0-based) of the models of the paper, by architecture, number of layers and hidden size."""

RELATIVE_DEPTH = 0.42
"""Layer of any other model, as a share of its depth: the mean of the paper's own choices."""


def layer_for(model_type: str, n_layers: int, hidden: int) -> int:
    """The paper's attention layer, or `round(0.42 n_layers)` for a model that is not in it."""
    return LAYERS.get((model_type, n_layers, hidden), min(n_layers - 1, round(RELATIVE_DEPTH * n_layers)))


def demo_weights(mass: np.ndarray, demo_lengths: Sequence[int], n_rows: int) -> np.ndarray:
    """w [n_d], sums to 1: attention for each pair of row and demonstration token, normalised (Eqs. 5 and 6).

    Args:
        mass: attention on each demonstration, summed over heads, rows and its tokens, [n_d].
        demo_lengths: tokens of each demonstration.
        n_rows: query rows; cancels out, kept for the published scale of `a`.
    """
    a = np.asarray(mass, dtype=np.float64) / (np.asarray(demo_lengths, dtype=np.float64) * n_rows)
    return np.asarray(a / a.sum())


def contributions(quality: float, weights: np.ndarray, n_d: int) -> np.ndarray:
    """What one prompt adds to its demonstrations' scores: s w_k (Eq. 7), [n_b].

    A short group (n_b < n_d) has larger weights only because fewer share them: it is scaled by n_b / n_d.
    """
    return quality * weights * (len(weights) / n_d)


def random_groups(order: np.ndarray, n_d: int) -> list[np.ndarray]:
    """`order` cut into groups of n_d; the last may be shorter. Every row is in exactly one."""
    return [order[start : start + n_d] for start in range(0, len(order), n_d)]


def queries_for(group: np.ndarray, order: np.ndarray, start: int, n_q: int) -> tuple[np.ndarray, int]:
    """n_q rows of `order` from position `start` on, round and round, none of them in `group`; and the next start."""
    members = set(group.tolist())
    chosen: list[int] = []
    position = start
    for position in range(start, start + len(order)):
        row = int(order[position % len(order)])
        if row not in members:
            chosen.append(row)
        if len(chosen) == n_q:
            break
    return np.array(chosen, dtype=np.int64), (position + 1) % len(order)


def position_correction(weights: np.ndarray, present: np.ndarray) -> np.ndarray:
    """Weights divided by the mean weight at their position over all prompts, normalised again; [prompts, n_d].

    Attention depends strongly on where in the prompt a demonstration stands (the last gets half of it). `present` is
    false where a short group has no demonstration.
    """
    masked = np.where(present, weights, np.nan)
    corrected = np.where(present, weights / np.nanmean(masked, axis=0, keepdims=True), 0.0)
    corrected /= corrected.sum(axis=1, keepdims=True)
    return corrected


@component
class DataWhisperer:
    """Data Whisperer (Wang et al., ACL 2025, Algorithm 1, Eqs. 3 to 7). Higher is chosen first.

    Groups of n_d rows are shown as demonstrations with n_q queries; the model answers all queries at once. The mean
    quality of the answers is shared out among the demonstrations by the attention that the query rows pay them at one
    layer.

    The reference code differs (`variant: reference` gives its behaviour): demonstrations and queries in data set
    order instead of random groups; attention windows that are off by one token a part; prompts with fewer parsed
    answers than queries dropped, so that their demonstrations score 0; a second forward pass for the attention;
    float16 sums; in a short last group the weights are not scaled.

    Attributes:
        n_d, n_q: demonstrations and queries a prompt.
        rounds: how often every row is a demonstration, each time in a new random group.
        layer: attention layer, 0-based; None: the paper's for its models, else 0.42 of the depth.
        attn_rows: `query_block` (all behind the last demonstration; the code), `query_text_only` (Eq. 6 to the
        letter) or
            `last_token`.
        weight: `attn`, `uniform` (the paper's "w/o attention") or `attn_position_corrected`.
        on_missing: an unparsed answer counts 0 (`zero`), drops its prompt (`drop`), or its query is asked alone
            (`retry_single`).
        query_source: `pool` (rows outside the group) or `target` (the labelled target set).
        max_new_tokens: cap of a generation; None: n_q (1.5 x 99th percentile of answer lengths) + 64.
    """

    n_d: int = 10
    n_q: int = 5
    rounds: int = 1
    layer: int | None = None
    attn_rows: AttentionRows = "query_block"
    weight: Literal["attn", "uniform", "attn_position_corrected"] = "attn"
    on_missing: Literal["zero", "drop", "retry_single"] = "zero"
    query_source: Literal["pool", "target"] = "pool"
    max_new_tokens: int | None = None
    variant: Literal["paper", "reference"] = "paper"

    version: ClassVar[int] = 1
    paper: ClassVar[str] = "Wang et al., ACL 2025, arXiv 2505.12212"
    cost_class: ClassVar[str] = "rounds x (prefill of n_d + n_q rows and n_q generated answers) / n_d a row"
    fixed_share: ClassVar[float | None] = None

    def __post_init__(self) -> None:
        for name in ("n_d", "n_q", "rounds", "max_new_tokens"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name}: must be at least 1")
        own = {"rounds": 1, "attn_rows": "query_block", "weight": "attn", "on_missing": "zero"}
        for name, only in own.items():
            if self.variant == "reference" and getattr(self, name) != only:
                raise ValueError(f"{name}: the reference has its own way; leave {name}={only} with variant=reference")

    @property
    def needs(self) -> frozenset[Need]:
        needs: set[Need] = {"responses", "task", "scorer"}
        needs.add("order" if self.variant == "reference" else "seed")
        if self.query_source == "target":
            needs.add("target")
        return frozenset(needs)

    def score(self, context: Context) -> Scores:
        shown = self._prompts_shown(context)
        if self.variant == "reference":
            return reference.scores_of(shown, context.n_rows)
        return self._scores_of(shown, context.n_rows)

    def _prompts_shown(self, context: Context) -> dict[str, np.ndarray]:
        """Groups, answers' quality and attention of all prompts: a stored stage that knows nothing of `weight`."""
        settings = {
            "n_d": self.n_d,
            "n_q": self.n_q,
            "rounds": self.rounds,
            "layer": self.layer,
            "attn_rows": self.attn_rows,
            "retry_single": self.on_missing == "retry_single",
            "query_source": self.query_source,
            "max_new_tokens": self.max_new_tokens,
            "variant": self.variant,
        }
        return context.represent("icl_prompts", 1, settings, ("pool", *sorted(self.needs)), lambda: self._show(context))

    def _show(self, context: Context) -> dict[str, np.ndarray]:
        with context.importing():
            prepare(context.task.metric)
            if self.variant == "reference":
                import sklearn.model_selection  # noqa: F401
        source = context.target if self.query_source == "target" else context.pool
        groups, queries = self._pairing(context, source)
        prompts = [
            build_prompt(
                context.chat,
                context.task,
                [context.pool[row] for row in group],
                [source[row] for row in asked],
            )
            for group, asked in zip(groups, queries, strict=True)
        ]
        cap = self.max_new_tokens or self._cap(context, source)
        room = context.chat.max_length - cap
        kept = [position for position, prompt in enumerate(prompts) if len(prompt.ids) <= room]
        if not kept:
            shortest = min(len(prompt.ids) for prompt in prompts)
            raise UserError(
                f"selector.n_d={self.n_d}, n_q={self.n_q}: the shortest prompt has {shortest} tokens and {cap} are for "
                f"the answers, but the model takes {context.chat.max_length}: lower n_d or n_q"
            )
        layer = self._layer(context)
        found = context.scorer.answers(
            [prompts[position].ids for position in kept],
            cap,
            lambda text: is_complete(text, context.task, self.n_q),
            layer,
            [self._wanted(context, prompts[position], groups[position]) for position in kept],
            "in-context answers",
        )
        size = (len(groups), self.n_d)
        shown = {
            "group": np.full(size, -1),
            "mass": np.full(size, np.nan),
            "demo_tokens": np.zeros(size, dtype=np.int64),
            "rows": np.zeros(len(groups), dtype=np.int64),
            "quality": np.full((len(groups), self.n_q), np.nan),
            "parsed": np.zeros(len(groups), dtype=np.int64),
            "cut": np.zeros(len(groups), dtype=np.bool_),
            "shown": np.zeros(len(groups), dtype=np.bool_),
        }
        for position, group in enumerate(groups):
            shown["group"][position, : len(group)] = group
        for position, answer, mass in zip(kept, found.answers, found.mass, strict=True):
            wanted = self._wanted(context, prompts[position], groups[position])
            n_b = len(groups[position])
            shown["mass"][position, :n_b] = mass
            shown["demo_tokens"][position, :n_b] = [end - start for start, end in wanted.columns]
            shown["rows"][position] = wanted.n_rows
            asked = [source[row] for row in queries[position]]
            demos = [context.pool[row] for row in groups[position]]
            quality = self._quality(context, answer, demos, asked, cap)
            shown["quality"][position] = np.nan_to_num(quality)
            shown["parsed"][position] = int((~np.isnan(quality)).sum())
            shown["cut"][position] = not answer.finished
            shown["shown"][position] = True
        return shown

    def _pairing(self, context: Context, source: Sequence[Example]) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Which rows are shown together, and which rows of `source` are asked behind them."""
        from_pool = self.query_source == "pool"
        needed = self.n_q + (min(self.n_d, context.n_rows) if from_pool else 0)
        if len(source) < needed:
            where = "pool" if from_pool else "target set"
            sizes = f"selector.n_d={self.n_d}, n_q={self.n_q}"
            raise UserError(
                f"{sizes}: the {where} has {len(source)} rows but a prompt takes {needed}: lower n_d or n_q"
            )
        if self.variant == "reference":
            return reference.pairing(context.n_rows, len(source), self.n_d, self.n_q, from_pool)
        groups: list[np.ndarray] = []
        queries: list[np.ndarray] = []
        for turn in range(self.rounds):
            order = np.argsort(context.draw("data_whisperer", "demos", turn))
            drawn = context.draw if from_pool else context.draw_target
            query_order = np.argsort(drawn("data_whisperer", "queries", turn))
            start = 0
            for group in random_groups(order, self.n_d):
                outside = group if from_pool else np.empty(0, dtype=np.int64)
                asked, start = queries_for(outside, query_order, start, self.n_q)
                groups.append(group)
                queries.append(asked)
        return groups, queries

    def _wanted(self, context: Context, prompt: ICLPrompt, group: np.ndarray) -> RowsAndColumns:
        n = len(prompt.ids)
        rows: dict[AttentionRows, tuple[Span, ...]] = {
            "query_block": (prompt.query_block,),
            "query_text_only": prompt.queries,
            "last_token": ((n - 1, n),),
        }
        if self.variant == "reference":
            demos = [context.pool[row] for row in group]
            return reference.shifted_windows(context.chat, context.task, prompt, demos)
        return RowsAndColumns(n, rows[self.attn_rows], prompt.demos)

    def _layer(self, context: Context) -> int:
        config = context.scorer.config
        n_layers = context.scorer.n_layers
        layer = layer_for(config.model_type, n_layers, config.hidden_size) if self.layer is None else self.layer
        if not 0 <= layer < n_layers:
            raise UserError(f"selector.layer={layer}: the model has layers 0 to {n_layers - 1}")
        return layer

    def _cap(self, context: Context, source: Sequence[Example]) -> int:
        lengths = [len(context.chat.ids(row.response)) for row in source]
        return int(self.n_q * 1.5 * np.quantile(lengths, 0.99)) + 64

    def _quality(
        self, context: Context, answer: Answer, demos: Sequence[Example], asked: Sequence[Example], cap: int
    ) -> np.ndarray:
        """f of every query, NaN where its answer is missing; [n_q]."""
        task = context.task
        if self.variant == "reference":
            texts = reference.parse(answer.text, task, len(asked))
        else:
            texts = answers_by_index(answer.text, task, len(asked))
        if self.on_missing == "retry_single":
            texts = [
                text if text is not None else self._ask_alone(context, demos, row, cap)
                for text, row in zip(texts, asked, strict=True)
            ]
        return np.array(
            [
                np.nan if text is None else answer_score(task.metric, text, row.references)
                for text, row in zip(texts, asked, strict=True)
            ]
        )

    def _ask_alone(self, context: Context, demos: Sequence[Example], query: Example, cap: int) -> str | None:
        prompt = build_prompt(context.chat, context.task, demos, [query])
        task = context.task
        found = context.scorer.answers([prompt.ids], cap, lambda text: is_complete(text, task, 1))
        return answers_by_index(found.answers[0].text, task, 1)[0]

    def _scores_of(self, shown: dict[str, np.ndarray], n_rows: int) -> Scores:
        """Mean contribution of every row over the prompts that it was shown in."""
        present = shown["group"] >= 0
        used = shown["shown"].copy()
        if self.on_missing == "drop":
            used &= shown["parsed"] == self.n_q
        weights = self._weights(shown, present)
        total, count = np.zeros(n_rows), np.zeros(n_rows, dtype=np.int64)
        for position in np.flatnonzero(used):
            n_b = int(present[position].sum())
            members = shown["group"][position, :n_b]
            quality = float(shown["quality"][position].mean())
            total[members] += contributions(quality, weights[position, :n_b], self.n_d)
            count[members] += 1
        values = np.where(count > 0, total / np.maximum(count, 1), np.nan)
        too_long = f"only in prompts longer than the model takes with n_d={self.n_d}, n_q={self.n_q}"
        dropped = "only in prompts whose answers did not parse"
        never_shown = np.ones(n_rows, dtype=bool)
        never_shown[shown["group"][shown["shown"]][present[shown["shown"]]]] = False
        reasons = tuple(
            "" if n else (too_long if unshown else dropped) for n, unshown in zip(count, never_shown, strict=True)
        )
        return scores(values, values, reasons, notes=_notes(shown, used, self.n_q))

    def _weights(self, shown: dict[str, np.ndarray], present: np.ndarray) -> np.ndarray:
        if self.weight == "uniform":
            return np.asarray(present / present.sum(axis=1, keepdims=True))
        weights = np.zeros(present.shape)
        for position in np.flatnonzero(shown["shown"]):
            mask = present[position]
            weights[position, mask] = demo_weights(
                shown["mass"][position, mask], shown["demo_tokens"][position, mask], int(shown["rows"][position])
            )
        if self.weight == "attn_position_corrected":
            kept = shown["shown"]
            weights[kept] = position_correction(weights[kept], present[kept])
        return weights


def _notes(shown: dict[str, np.ndarray], used: np.ndarray, n_q: int) -> dict[str, float | int | str]:
    n_shown = int(shown["shown"].sum())
    return {
        "prompts": n_shown,
        "prompts_too_long": int((~shown["shown"]).sum()),
        "prompts_dropped": n_shown - int(used.sum()),
        "prompts_cut_at_the_cap": int(shown["cut"].sum()),
        "answers_parsed_share": float(shown["parsed"].sum() / (n_shown * n_q)),
        "quality_mean": float(shown["quality"][shown["shown"]].mean()),
    }
