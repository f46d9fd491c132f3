"""`dwbench` in processes of their own that begin at once: forked from a server that has imported what a run needs."""

import multiprocessing
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from dwbench.cli import main

IMPORTED = (
    "dwbench.commands.run",
    "dwbench.evaluation.harness",
    "hydra",
    "transformers.models.llama.modeling_llama",
    "trl.trainer.sft_trainer",
    "lm_eval.evaluator",
    "lm_eval.models.huggingface",
)
"""What takes seconds. Only imported: nothing is computed in the server, so that it can be forked."""


class Started:
    """`dwbench ARGUMENTS` in `folder`, begun; it may be signalled by `pid`."""

    def __init__(self, arguments: Sequence[str], folder: Path) -> None:
        self._out, self._err = folder / "out.txt", folder / "err.txt"
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(list(IMPORTED))
        self._process = context.Process(target=_work, args=(list(arguments), folder, self._out, self._err))
        self._process.start()
        assert self._process.pid is not None
        self.pid: int = self._process.pid

    def ended(self, seconds: float | None = None) -> int | None:
        """Wait so long (None: as long as it takes) for its end. Its exit code, None where it goes on."""
        self._process.join(seconds)
        return self._process.exitcode

    @property
    def out(self) -> str:
        return self._out.read_text()

    @property
    def err(self) -> str:
        return self._err.read_text()


def _work(arguments: list[str], folder: Path, out: Path, err: Path) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests were begun in the background
    os.chdir(folder)
    for stream, path in ((sys.stdout, out), (sys.stderr, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream.fileno())
    sys.exit(main(arguments))
