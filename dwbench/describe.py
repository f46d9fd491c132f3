"""What was chosen, in numbers: how diverse the rows are. Computed beside a run and charged to nobody."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dwbench.data.base import Example
from dwbench.rules.diversity import PoolProfile, diversity_report, pool_profile
from dwbench.selectors.context import Context
from dwbench.selectors.material import Material, Models, Need
from dwbench.selectors.texts import full_text
from dwbench.store import Bench, write_json

VERSION = 1

NEEDS: frozenset[Need] = frozenset({"responses", "embedder"})

SEED = 0
"""Of the pool's clusters and of the samples for vocd-D: the same for all runs, so that their numbers compare."""


def describe(
    bench: Bench, material: Material, models: Models, chosen: Sequence[Example], tokens: Sequence[int]
) -> dict[str, float]:
    """Diversity of the chosen rows within their pool (`dwbench.rules.diversity`), by embeddings of prompt and response.

    A stored stage; embeddings and the pool's own profile are shared by all runs on the pool.

    Args:
        tokens: of each chosen row's response.
    """
    context = Context(NEEDS, bench, material, models)
    uids = sorted(row.uid for row in chosen)
    key = {"version": VERSION, "rows": uids, "tokens": sorted(tokens), **context.identity_of("pool", "embedder")}

    def build(folder: Path) -> None:
        vectors = context.embed([full_text(row) for row in context.pool])
        profile = PoolProfile(**_profile(context, vectors))
        place = {uid: position for position, uid in enumerate(context.uids)}
        positions = np.array([place[uid] for uid in uids])
        texts = [full_text(context.pool[position]) for position in positions]
        write_json(
            folder / "diversity.json",
            diversity_report(vectors, profile, positions, texts, np.array(tokens), SEED),
        )

    found: dict[str, float] = bench.stage("describe", key, build).json("diversity.json")
    return found


def _profile(context: Context, vectors: np.ndarray) -> dict[str, np.ndarray]:
    return context.represent(
        "pool_profile", VERSION, {"seed": SEED}, ("pool", "embedder"), lambda: pool_profile(vectors, SEED)._asdict()
    )
