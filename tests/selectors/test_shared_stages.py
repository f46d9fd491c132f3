"""A sweep over all loss selectors computes each loss once, and charges it to each of them."""

import dataclasses
import json
from collections import Counter
from pathlib import Path

from rows import material

from dwbench.cost import Cost
from dwbench.models.encoder import Encoder
from dwbench.models.spec import LM
from dwbench.run import select
from dwbench.selectors.attention_influence import AttentionInfluence
from dwbench.selectors.base import Selector
from dwbench.selectors.ifd import IFD
from dwbench.selectors.lp import LP
from dwbench.selectors.miwv import MIWV
from dwbench.selectors.models import LoadedModels
from dwbench.selectors.perplexity import Perplexity
from dwbench.selectors.superfiltering import Superfiltering
from dwbench.selectors.superfiltering_d import SuperfilteringD
from dwbench.store import Artefact, Bench, Store

SELECTORS: dict[str, Selector] = {
    "low_ppl": Perplexity(which="low"),
    "high_ppl": Perplexity(which="high"),
    "ifd": IFD(),
    "superfiltering": Superfiltering(),
    "superfiltering_d": SuperfilteringD(),
    "miwv": MIWV(),
    "lp": LP(estimate="lp_app"),
    "attention_influence": AttentionInfluence(loss_on="response", probes=1, probe_tokens=600),
}


def test_each_loss_is_computed_once_and_charged_to_all(
    tiny_lm: LM, encoder: Encoder, models: LoadedModels, tmp_path: Path
) -> None:
    store = Store(tmp_path)
    given = material(dataclasses.replace(tiny_lm, max_length=640), encoder=encoder)  # room for a probe
    found: dict[str, Artefact] = {}
    for name, selector in SELECTORS.items():
        chosen = select(Bench(store), models, selector, given, 3, {})
        assert chosen.artefact is not None
        found[name] = chosen.artefact
    arms = Counter()
    prompt_loss = ""
    for path in (tmp_path / "represent").glob("*/manifest.json"):
        manifest = json.loads(path.read_text())
        key = manifest["identity"]
        if key["representation"] == "response_nll":
            arms[key["settings"]["arm"], key["settings"]["checkpoint"] is None] += 1
            if key["settings"]["arm"] == "prompt" and key["settings"]["checkpoint"] is None:
                prompt_loss = f"represent/{manifest['key']}"
    # The untuned model's losses behind the prompt, a header and one token; and those behind the prompt of LP's epoch.
    assert arms == {("prompt", True): 1, ("header", True): 1, ("bos", True): 1, ("prompt", False): 1}
    spent = store.get(prompt_loss).cost
    assert spent.forward_tokens > 0
    for name, artefact in found.items():
        used = store.closure((artefact.ref,))
        assert prompt_loss in used, name
        total = sum((stage.cost for stage in used.values()), Cost())
        assert total.forward_tokens >= spent.forward_tokens, name
    tuned = store.closure((found["lp"].ref,))
    assert any(ref.startswith("train/") for ref in tuned)
    assert sum(stage.cost.backward_tokens for stage in tuned.values()) > 0
