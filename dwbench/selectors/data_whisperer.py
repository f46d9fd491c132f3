"""Data Whisperer: few-shot in-context quality, shared out by attention."""

from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar, Literal

import numpy as np

from dwbench.component import component, key_of
from dwbench.data.base import Example, Task
from dwbench.errors import UserError
from dwbench.metrics import answer_score, prepare
from dwbench.representations.attention import RowsAndColumns, Span
from dwbench.rules.ranking import Scores, scores
from dwbench.selectors import data_whisperer_reference as reference
from dwbench.selectors.context import Context
from dwbench.selectors.icl import answers_by_index, build_prompt, is_complete, with_opening
from dwbench.selectors.icl_groups import Grouping, Shown, grouping, table
from dwbench.selectors.material import Need, Part

PLAN_VERSION = 1
PROMPTS_VERSION = 3

PROMPTS_A_BLOCK = 64
"""Prompts whose answers are one stored stage: what a process that is killed can lose."""

AttentionRows = Literal["query_block", "query_text_only", "last_token"]
Variant = Literal["paper", "reference"]

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


def layer_for(model_type: str, n_layers: int, hidden: int, variant: Variant = "paper") -> int:
    """The paper's attention layer, 0-based; for a model that is not in it `round(0.42 n_layers)`, or the reference's.

    Never more than the last.
    """
    other = reference.LAYER if variant == "reference" else round(RELATIVE_DEPTH * n_layers)
    return LAYERS.get((model_type, n_layers, hidden), min(n_layers - 1, other))


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


def position_correction(weights: np.ndarray, present: np.ndarray) -> np.ndarray:
    """Weights divided by the mean weight at their position over all prompts of their size, normalised; [prompts, n_d].

    Attention depends strongly on where in the prompt a demonstration stands (the last gets half of it), so position 2
    of 3 is no position 2 of 10. `present` is true for the n_b demonstrations of a prompt, which come first. A prompt
    whose n_b no other prompt has stays as it is: there is nothing to compare it with.
    """
    corrected = weights.copy()
    sizes = present.sum(axis=1)
    for n_b in np.unique(sizes):
        alike = sizes == n_b
        if alike.sum() > 1:
            ratio = weights[alike, :n_b] / weights[alike, :n_b].mean(axis=0)
            corrected[alike, :n_b] = ratio / ratio.sum(axis=1, keepdims=True)
    return corrected


@component
class DataWhisperer:
    """Data Whisperer (Wang et al., ACL 2025, Algorithm 1, Eqs. 3 to 7). Higher is chosen first.

    Groups of n_d rows are shown as demonstrations with n_q queries; the model answers all queries at once. The mean
    quality of the answers is shared out among the demonstrations by the attention that the query rows pay them at one
    layer.

    A prompt asks no copy of a row that it shows. One that is too long for the model shows fewer rows, and the others
    come in the next: so every row is shown `rounds` times. A row that fits in no prompt, not even with the shortest
    queries, has no score; a row that leaves no room for others is not asked. The answer is begun for the model
    ("Answer 1:"), which small ones need to keep to the form; the paper does not do that.

    The reference code differs (`variant: reference` gives its behaviour): demonstrations and queries in data set
    order instead of random groups; attention windows that are off by one token a part, or by one in all where the
    tokenizer adds a BOS; prompts with fewer parsed
    answers than queries dropped, so that their demonstrations score 0; a second forward pass for the attention;
    float16 sums; in a short last group the weights are not scaled; copies may be asked; layer 11 for models that it
    does not know. It knows them by the exact name and so misses Llama-3-8B in its own example; here they go by their
    architecture. It fails at a prompt that is too long; here that is left out.

    Attributes:
        n_d, n_q: demonstrations and queries a prompt.
        rounds: how often every row is a demonstration, each time in a new random group.
        layer: attention layer, 0-based; None: the paper's for its models, else 0.42 of the depth (reference: 11).
        attn_rows: `query_block` (all behind the last demonstration; the code), `query_text_only` (Eq. 6 to the
            letter) or `last_token`.
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
    variant: Variant = "paper"

    version: ClassVar[int] = 3
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

    def check(self, context: Context) -> None:
        """Raises UserError for a layer, numbers of rows or lengths that don't suit the model or the data."""
        self._layer(context)
        self._grouping(context, self._cap(context, self.n_q))
        if self.variant == "reference":
            self._reference_pairs(context)

    def score(self, context: Context) -> Scores:
        shown = self._prompts_shown(context)
        if self.variant == "reference":
            return reference.scores_of(shown, context.n_rows)
        return self._scores_of(shown, context.n_rows)

    def _prompts_shown(self, context: Context) -> dict[str, np.ndarray]:
        """Groups, answers' quality and attention of all prompts, in stored stages that know nothing of `weight`: first
        who is shown and asked together, then block by block what the model makes of it, so that little is lost where
        the process dies."""
        settings: dict[str, Any] = {
            "n_d": self.n_d,
            "n_q": self.n_q,
            "query_source": self.query_source,
            "max_new_tokens": self.max_new_tokens,
            "variant": self.variant,
        }
        of: list[Part] = ["pool", "icl", *sorted(self.needs - {"task"})]
        plan = context.represent(
            "icl_plan", PLAN_VERSION, {**settings, "rounds": self.rounds}, of, lambda: self._plan(context)
        )
        settings |= {
            "layer": self.layer,
            "attn_rows": self.attn_rows,
            "retry_single": self.on_missing == "retry_single",
        }
        blocks = []
        for start in range(0, len(plan["group"]), PROMPTS_A_BLOCK):
            group, asked = (plan[name][start : start + PROMPTS_A_BLOCK] for name in ("group", "asked"))
            key = {**settings, "prompts": key_of([group.tolist(), asked.tolist()])}
            blocks.append(
                context.represent("icl_prompts", PROMPTS_VERSION, key, of, partial(self._show, context, group, asked))
            )
        shown = {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}
        return {**shown, "group": plan["group"], "rows_too_long_to_ask": plan["rows_too_long_to_ask"]}

    def _plan(self, context: Context) -> dict[str, np.ndarray]:
        """Who is shown in each prompt, [prompts, n_d], and asked, [prompts, n_q], by position, -1: nobody; and how many
        rows are too long to be asked."""
        if self.variant == "reference":
            with context.importing():
                import sklearn.model_selection  # noqa: F401
        layout = self._grouping(context, self._cap(context, self.n_q))
        prompts = self._prompts(context, layout)
        return {
            "group": table([one.group for one in prompts], self.n_d),
            "asked": table([one.asked for one in prompts], self.n_q),
            "rows_too_long_to_ask": np.array(len(layout.too_long_to_ask)),
        }

    def _show(self, context: Context, groups: np.ndarray, asked: np.ndarray) -> dict[str, np.ndarray]:
        """Arrays of these prompts, [prompts], [prompts, n_d] or [prompts, n_q].

        The attention mass on each row that is shown and its tokens, the number of attending rows, the quality of each
        answer (0 where it is missing, NaN where nothing was asked), answers parsed, whether the cap cut them.
        """
        with context.importing():
            prepare(context.task.metric)
        task, pool, source = context.task, context.pool, self._source(context)
        prompts = []
        for pair in zip(groups, asked, strict=True):
            group, queries = (tuple(found[found >= 0].tolist()) for found in pair)
            prompt = build_prompt(context.chat, task, [pool[row] for row in group], [source[row] for row in queries])
            prompts.append(Shown(group, queries, prompt))
        wanted = [self._wanted(context, one) for one in prompts]
        found = context.scorer.answers(
            [one.prompt.ids for one in prompts],
            self._cap(context, self.n_q),
            lambda text: is_complete(with_opening(task, text), task, self.n_q),
            self._layer(context),
            wanted,
            "in-context answers",
        )
        texts = [
            self._parse(task, with_opening(task, answer.text), len(one.asked))
            for one, answer in zip(prompts, found.answers, strict=True)
        ]
        if self.on_missing == "retry_single":
            self._ask_again(context, prompts, texts)
        shown = {
            "mass": np.full((len(prompts), self.n_d), np.nan),
            "demo_tokens": np.zeros((len(prompts), self.n_d), dtype=np.int64),
            "rows": np.array([want.n_rows for want in wanted]),
            "quality": np.full((len(prompts), self.n_q), np.nan),
            "parsed": np.array([sum(text is not None for text in of_one) for of_one in texts]),
            "cut": np.array([not answer.finished for answer in found.answers]),
        }
        for position, (one, want, answers) in enumerate(zip(prompts, wanted, texts, strict=True)):
            n_b = len(one.group)
            shown["mass"][position, :n_b] = found.mass[position]
            shown["demo_tokens"][position, :n_b] = [end - start for start, end in want.columns]
            shown["quality"][position, : len(answers)] = [
                0.0 if text is None else answer_score(task.metric, text, source[row].references)
                for text, row in zip(answers, one.asked, strict=True)
            ]
        return shown

    def _source(self, context: Context) -> Sequence[Example]:
        """The rows that queries are taken from."""
        return context.target if self.query_source == "target" else context.pool

    def _grouping(self, context: Context, cap: int) -> Grouping:
        source = self._source(context)
        from_pool = self.query_source == "pool"
        needed = self.n_q + (min(self.n_d, context.n_rows) if from_pool else 0)
        if len(source) < needed:
            where = "pool" if from_pool else "target set"
            raise UserError(
                f"selector.n_d={self.n_d}, n_q={self.n_q}: the {where} has {len(source)} rows but a prompt takes "
                f"{needed}: lower n_d or n_q"
            )
        return grouping(context.chat, context.task, context.pool, source, self.n_d, self.n_q, cap)

    def _prompts(self, context: Context, layout: Grouping) -> list[Shown]:
        """All prompts, each within the model's length."""
        if self.variant == "reference":
            pairs = self._reference_pairs(context)
            built = [Shown(group, asked, layout.build(group, asked)) for group, asked in pairs]
            fitting = [one for one in built if len(one.prompt.ids) <= layout.room]
            if not fitting:
                raise UserError(
                    f"selector.n_d={self.n_d}, n_q={self.n_q}, variant=reference: no prompt fits into the "
                    f"{layout.room} tokens that the answers leave: lower n_d or n_q"
                )
            return fitting
        drawn = context.draw if self.query_source == "pool" else context.draw_target
        prompts = []
        for turn in range(self.rounds):
            order = np.argsort(context.draw("data_whisperer", "demos", turn)).tolist()
            prompts += layout.cut_up(order, np.argsort(drawn("data_whisperer", "queries", turn)).tolist())
        return prompts

    def _reference_pairs(self, context: Context) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
        from_pool = self.query_source == "pool"
        return reference.pairing(context.n_rows, len(self._source(context)), self.n_d, self.n_q, from_pool)

    def _wanted(self, context: Context, shown: Shown) -> RowsAndColumns:
        prompt, n = shown.prompt, len(shown.prompt.ids)
        if self.variant == "reference":
            demos = [context.pool[row] for row in shown.group]
            return reference.shifted_windows(context.chat, context.task, prompt, demos)
        rows: dict[AttentionRows, tuple[Span, ...]] = {
            "query_block": (prompt.query_block,),
            "query_text_only": prompt.queries,
            "last_token": ((n - 1, n),),
        }
        return RowsAndColumns(n, rows[self.attn_rows], prompt.demos)

    def _layer(self, context: Context) -> int:
        config = context.model_config()
        n_layers = config.num_hidden_layers
        if self.layer is None:
            return layer_for(config.model_type, n_layers, config.hidden_size, self.variant)
        if not 0 <= self.layer < n_layers:
            raise UserError(f"selector.layer={self.layer}: the model has layers 0 to {n_layers - 1}")
        return self.layer

    def _cap(self, context: Context, n_q: int) -> int:
        """Tokens of the longest generation for n_q answers."""
        if self.max_new_tokens is not None:
            return self.max_new_tokens
        lengths = [len(context.chat.ids(row.response)) for row in self._source(context)]
        return int(n_q * 1.5 * np.quantile(lengths, 0.99)) + 64

    def _parse(self, task: Task, text: str, n_q: int) -> list[str | None]:
        parse = reference.parse if self.variant == "reference" else answers_by_index
        return parse(text, task, n_q)

    def _ask_again(self, context: Context, prompts: Sequence[Shown], texts: list[list[str | None]]) -> None:
        """Fill what is missing in `texts`: each such query is asked alone, behind the same demonstrations."""
        task, source = context.task, self._source(context)
        missing = [(one, j) for one, found in enumerate(texts) for j, text in enumerate(found) if text is None]
        alone = [
            build_prompt(
                context.chat,
                task,
                [context.pool[row] for row in prompts[one].group],
                [source[prompts[one].asked[j]]],
            ).ids
            for one, j in missing
        ]
        found = context.scorer.answers(
            alone,
            self._cap(context, 1),
            lambda text: is_complete(with_opening(task, text), task, 1),
            what="in-context answers, one by one",
        )
        for (one, j), answer in zip(missing, found.answers, strict=True):
            texts[one][j] = answers_by_index(with_opening(task, answer.text), task, 1)[0]

    def _scores_of(self, shown: dict[str, np.ndarray], n_rows: int) -> Scores:
        """Mean contribution of every row over the prompts that it was shown in."""
        present = shown["group"] >= 0
        answered = shown["parsed"] == (~np.isnan(shown["quality"])).sum(axis=1)
        used = answered if self.on_missing == "drop" else np.ones_like(answered)
        weights = self._weights(shown, present)
        total, count = np.zeros(n_rows), np.zeros(n_rows, dtype=np.int64)
        for position in np.flatnonzero(used):
            members = shown["group"][position, present[position]]
            quality = float(np.nanmean(shown["quality"][position]))
            total[members] += contributions(quality, weights[position, present[position]], self.n_d)
            count[members] += 1
        values = np.where(count > 0, total / np.maximum(count, 1), np.nan)
        fits = np.isin(np.arange(n_rows), shown["group"])
        too_long = f"too long for a prompt with n_q={self.n_q} queries"
        dropped = "only in prompts whose answers did not parse"
        reasons = tuple("" if n else (dropped if fitted else too_long) for n, fitted in zip(count, fits, strict=True))
        notes = {**_notes(shown), "prompts_dropped": int((~used).sum()), "rows_too_long": int((~fits).sum())}
        return scores(values, values, reasons, notes=notes)

    def _weights(self, shown: dict[str, np.ndarray], present: np.ndarray) -> np.ndarray:
        """w of every prompt, 0 where it has no demonstration, [prompts, n_d]."""
        if self.weight == "uniform":
            return np.asarray(present / present.sum(axis=1, keepdims=True))
        weights = np.zeros(present.shape)
        for position, mask in enumerate(present):
            weights[position, mask] = demo_weights(
                shown["mass"][position, mask], shown["demo_tokens"][position, mask], int(shown["rows"][position])
            )
        return position_correction(weights, present) if self.weight == "attn_position_corrected" else weights


def _notes(shown: dict[str, np.ndarray]) -> dict[str, float | int | str]:
    asked = ~np.isnan(shown["quality"])
    return {
        "prompts": len(asked),
        "prompts_with_fewer_than_n_d": int((shown["group"] < 0).any(axis=1).sum()),
        "prompts_with_fewer_than_n_q": int((~asked).any(axis=1).sum()),
        "prompts_cut_at_the_cap": int(shown["cut"].sum()),
        "rows_too_long_to_ask": int(shown["rows_too_long_to_ask"]),
        "answers_parsed_share": float(shown["parsed"].sum() / asked.sum()),
        "quality_mean": float(np.nanmean(shown["quality"])),
    }
