"""Perplexities of a pool and of what selectors chose of it: python experiments/figure4/perplexity.py PPL CHOSEN ...

PPL is what `dwbench select --selector low_ppl --scores PPL` wrote, each CHOSEN that of another selector on these rows.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("perplexities", type=Path, metavar="PPL")
    parser.add_argument("chosen", type=Path, nargs="+", metavar="CHOSEN")
    given = parser.parse_args()
    perplexity = {row["id"]: row["score"] for row in read(given.perplexities)}
    print(f"{'':24}{'rows':>8}" + "".join(f"{quantile:>9.0%}" for quantile in QUANTILES))
    print(line("(the pool)", list(perplexity.values())))
    for path in given.chosen:
        rows = read(path)
        if {row["id"] for row in rows} != perplexity.keys():
            raise SystemExit(f"{path}: is of other rows than {given.perplexities}")
        print(line(path.stem, [perplexity[row["id"]] for row in rows if row["selected"]]))


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(text) for text in path.read_text(encoding="utf-8").splitlines()]


def line(name: str, values: list[float | None]) -> str:
    """Rows and quantiles; rows without a response have no perplexity and are not in the quantiles."""
    known = [value for value in values if value is not None]
    return f"{name:24}{len(values):>8,}" + "".join(f"{value:>9.2f}" for value in np.quantile(known, QUANTILES))


if __name__ == "__main__":
    main()
