"""A weaker and cheaper stand-in for the embedded model, for `proof_table6`: python experiments/proof/weaker.py FOLDER

SmolLM2-135M-Instruct without three of its 30 layers, nothing retrained (as in Gromov et al. 2024, "The Unreasonable
Ineffectiveness of the Deeper Layers", arXiv 2403.17887, whose models are larger and miss more layers less). Of the
layers that were tried it misses these least: the mean NLL of four DialogSum summaries rises from 2.36 to 2.78; without
16 to 18 it is 2.87, without 14, 18 and 22 3.24, without 16, 20 and 24 5.10.
"""

import argparse
import json
import re
import shutil
from pathlib import Path

from safetensors.numpy import load_file, save_file

from dwbench.models.embedded import smollm2_folder

LEFT_OUT = range(12, 15)
"""Layers, from 0."""

MAX_LENGTH = 4096
"""Positions that the stand-in takes, as the embedded model's configuration here has it."""

LAYER = re.compile(r"(model\.layers\.)(\d+)(\..*)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="to be made; must not exist")
    make(smollm2_folder(), parser.parse_args().folder)


def make(source: Path, folder: Path) -> None:
    """Copy the model in `source` without the layers `LEFT_OUT`. Raises FileExistsError where `folder` is there."""
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    kept = [layer for layer in range(config["num_hidden_layers"]) if layer not in LEFT_OUT]
    weights = load_file(source / "model.safetensors")
    named = {renamed: weight for name, weight in weights.items() if (renamed := renumbered(name, kept))}
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns("*.safetensors", "source.json"))
    save_file(named, folder / "model.safetensors", metadata={"format": "pt"})
    config |= {"num_hidden_layers": len(kept), "max_position_embeddings": MAX_LENGTH}
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def renumbered(name: str, kept: list[int]) -> str | None:
    """The weight's name in a model of the `kept` layers; None for one of another layer."""
    found = LAYER.fullmatch(name)
    if found is None:
        return name
    layer = int(found[2])
    return f"{found[1]}{kept.index(layer)}{found[3]}" if layer in kept else None


if __name__ == "__main__":
    main()
