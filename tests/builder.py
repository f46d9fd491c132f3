"""A stage in a process of its own: `python builder.py STORE LOG SECONDS`; each build adds a line to LOG."""

import sys
import time
from pathlib import Path

from dwbench.store import Bench, Store, write_json


def main(root: Path, log: Path, seconds: float) -> None:
    def build(folder: Path) -> None:
        with log.open("a") as file:
            file.write("built\n")
        (folder / "half").write_text("half")
        time.sleep(seconds)
        write_json(folder / "value.json", {"value": 42})

    found = Bench(Store(root)).stage("score", {"version": 1}, build)
    print(found.json("value.json")["value"])


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]))
