"""Rows of a table with their scores by test row, and which of them stand for different evaluations."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from dwbench.component import canonical_json
from dwbench.records import Record
from dwbench.report.str_ratio import CHOOSES_NOTHING


class Evaluation(NamedTuple):
    """An evaluation's artefact and its scores by test row, [rows]."""

    artefact: str
    scores: np.ndarray


@dataclass(frozen=True)
class Contender:
    """A row of a table with its records, those with scores by test row; at least one."""

    label: str
    records: tuple[Record, ...]

    @property
    def first(self) -> Record:
        return self.records[0]

    @property
    def bound(self) -> bool:
        return self.first.selector in CHOOSES_NOTHING

    @property
    def training(self) -> str:
        training = self.first.training
        return canonical_json(None if training is None else [training["version"], training["identity"]])

    @property
    def evaluation(self) -> str:
        return canonical_json(self.first.data["evaluation"])

    def by_seed(self, metric: str) -> dict[int, Evaluation]:
        """The evaluation of each seed; several seeds may share one."""
        return {
            record.seed: Evaluation(record.data["artefacts"]["evaluation"], np.array(scores, dtype=np.float64))
            for record in self.records
            if (scores := record.items.get(metric))
        }


def different(evaluations: Iterable[Evaluation]) -> np.ndarray:
    """Scores of the different ones, [evaluations, rows]: the same once more tells nothing of other seeds."""
    return np.stack(list({one.artefact: one.scores for one in evaluations}.values()))


def pairs(mine: Mapping[int, Evaluation], others: Mapping[int, Evaluation]) -> tuple[np.ndarray, np.ndarray]:
    """Scores of both under the seeds that they have in common, each [pairs, rows]; the same two evaluations once."""
    common = sorted(mine.keys() & others.keys())
    once = {(mine[seed].artefact, others[seed].artefact): (mine[seed].scores, others[seed].scores) for seed in common}
    return np.stack([one for one, _ in once.values()]), np.stack([other for _, other in once.values()])
