"""What was chosen, in numbers: how diverse the rows are, and how likely a model finds their responses. Computed beside
a run and charged to nobody."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dwbench.component import identity
from dwbench.models.spec import LM
from dwbench.rules.diversity import PoolProfile, diversity_report, pool_profile
from dwbench.selectors.context import Context
from dwbench.selectors.losses import Arm, response_losses
from dwbench.selectors.material import Material, Models, Need
from dwbench.selectors.texts import full_text
from dwbench.store import Bench, write_json

VERSION = 1
PERPLEXITY_VERSION = 1

NEEDS: frozenset[Need] = frozenset({"responses", "embedder"})
PERPLEXITY_NEEDS: frozenset[Need] = frozenset({"responses", "task", "scorer"})

ARMS: Mapping[str, Arm] = {"given_prompt": "prompt", "alone": "header"}
"""What stands in front of the response: the row's prompt as in tuning, or the bare header of an answer (as for IFD)."""

SEED = 0
"""Of the pool's clusters and of the samples for vocd-D: the same for all runs, so that their numbers compare."""


def description(
    bench: Bench,
    material: Material,
    models: Models,
    tokens: Mapping[str, int],
    diversity: bool,
    perplexity: LM | None,
) -> dict[str, Any]:
    """What a record's `selection` says of the chosen rows, and by which models: empty where it is not asked for or
    nothing is chosen.

    Args:
        tokens: uid of each chosen row that can be trained on, and the length of its response.
        diversity: whether to tell of diversity. perplexity: the model under which to tell of it, or None.
    """
    told: dict[str, Any] = {"diversity": {}, "described_by": None, "perplexity": {}, "perplexity_by": None}
    if diversity and tokens:
        encoder = material.embedder
        told["diversity"] = describe(bench, material, models, list(tokens), list(tokens.values()))
        told["described_by"] = {"version": VERSION, "name": encoder.name, "identity": identity(encoder)}
    if perplexity is not None and tokens:
        told["perplexity"] = perplexities(bench, dataclasses.replace(material, scorer=perplexity), models, list(tokens))
        told["perplexity_by"] = {
            "version": PERPLEXITY_VERSION,
            "name": perplexity.name,
            "identity": identity(perplexity),
        }
    return told


def describe(
    bench: Bench, material: Material, models: Models, chosen: Sequence[str], tokens: Sequence[int]
) -> dict[str, float]:
    """Diversity of the chosen rows within their pool (`dwbench.rules.diversity`), by embeddings of prompt and response.

    A stored stage; embeddings and the pool's own profile are shared by all runs on the pool.

    Args:
        chosen: uids of the rows. tokens: of each one's response.
    """
    context = Context(NEEDS, bench, material, models)
    uids = sorted(chosen)
    key = {"version": VERSION, "rows": uids, "tokens": sorted(tokens), **context.identity_of("pool", "embedder")}

    def build(folder: Path) -> None:
        vectors = context.embed([full_text(row) for row in context.pool])
        profile = PoolProfile(**_profile(context, vectors))
        positions = _positions(context, uids)
        texts = [full_text(context.pool[position]) for position in positions]
        write_json(
            folder / "diversity.json",
            diversity_report(vectors, profile, positions, texts, np.array(tokens), SEED),
        )

    found: dict[str, float] = bench.stage("describe", key, build).json("diversity.json")
    return found


def perplexities(
    bench: Bench, material: Material, models: Models, chosen: Sequence[str]
) -> dict[str, dict[str, dict[str, float | int]]]:
    """Perplexity of the responses of the rows with the uids `chosen`, and of the pool's, under `material.scorer`:
    exp(mean NLL of the response's tokens, end of turn included), as for `low_ppl`.

    `{front: {"chosen": numbers, "pool": numbers}}` by what stands in front of the response (`ARMS`), the numbers being
    `spread`'s. The losses of the pool are the stored ones that selectors share.
    """
    context = Context(PERPLEXITY_NEEDS, bench, material, models)
    positions = _positions(context, chosen)
    found = {}
    for front, arm in ARMS.items():
        values = np.exp(response_losses(context, arm).mean(score_eos=True))
        found[front] = {"chosen": spread(values[positions]), "pool": spread(values)}
    return found


def spread(values: np.ndarray) -> dict[str, float | int]:
    """How many `values` [N] there are, how many of them `undefined` (NaN), and of the others mean, median and
    quartiles (linear between ranks); none of these where there are no others."""
    known = values[~np.isnan(values)]
    told: dict[str, float | int] = {"rows": len(values), "undefined": len(values) - len(known)}
    if known.size:
        low, median, high = (float(value) for value in np.quantile(known, (0.25, 0.5, 0.75)))
        told |= {"mean": float(known.mean()), "quartile_1": low, "median": median, "quartile_3": high}
    return told


def _positions(context: Context, uids: Sequence[str]) -> np.ndarray:
    place = {uid: position for position, uid in enumerate(context.uids)}
    return np.array([place[uid] for uid in uids])


def _profile(context: Context, vectors: np.ndarray) -> dict[str, np.ndarray]:
    return context.represent(
        "pool_profile", VERSION, {"seed": SEED}, ("pool", "embedder"), lambda: pool_profile(vectors, SEED)._asdict()
    )
