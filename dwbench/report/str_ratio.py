"""STR, the Selection-to-Tuning Ratio: selection cost / cost of tuning on the whole pool.

In seconds the denominator is measured where a `full` run of the same model, pool, training and hardware
exists, and otherwise estimated from the throughput of the tuning runs there are. In FLOP it is counted. Where a run
was selected on other hardware than it was tuned on, its STR in seconds is unknown.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from dwbench.component import canonical_json
from dwbench.records import Record

# They choose nothing: whatever was booked while they listed the rows is not selection.
CHOOSES_NOTHING = frozenset({"zero_shot", "full"})


@dataclass(frozen=True)
class FullSeconds:
    """Seconds that tuning on the whole pool takes, measured or estimated."""

    seconds: float
    estimated: bool


@dataclass(frozen=True)
class Ratio:
    """STR of one run; None where it is unknown. `estimated` speaks of `seconds` only."""

    seconds: float | None
    flop: float | None
    estimated: bool


def tuning_group(record: Record) -> str | None:
    """What runs share that are timed against each other: model, pool, prompt, training, and the hardware that tuned.
    None if untuned."""
    if record.training is None:
        return None
    return canonical_json(
        [
            record.tuned_model,
            record.data["dataset"]["fingerprints"]["pool"],
            record.data["dataset"]["task"],
            [record.training["version"], record.training["identity"]],
            record.environment_of("training", "hardware."),
        ]
    )


def _each_tuning_once(records: Iterable[Record]) -> list[Record]:
    # Runs that chose the same rows share one tuning and its clock.
    return list({record.data["artefacts"]["training"]: record for record in records}.values())


def full_seconds(group: Sequence[Record]) -> FullSeconds | None:
    """Seconds of tuning on the whole pool, from the records of one `tuning_group`.

    Measured: mean over the seeds of the `full` runs. Estimated: the group's tuning seconds a token x the
    tokens of tuning on the whole pool. None without any tuned run.
    """
    tuned = _each_tuning_once(record for record in group if record.training is not None)
    measured = [record.spent("training", "seconds") for record in tuned if record.selector == "full"]
    if measured:
        return FullSeconds(sum(measured) / len(measured), estimated=False)
    tokens = sum(int(record.training["tokens"]) for record in tuned if record.training is not None)
    if tokens == 0:
        return None
    seconds_a_token = sum(record.spent("training", "seconds") for record in tuned) / tokens
    return FullSeconds(seconds_a_token * int(tuned[0].data["full_tuning"]["tokens"]), estimated=True)


def ratios(records: Sequence[Record]) -> list[Ratio]:
    """STR of each record, in their order. Give it all records there are: a `full` run serves the others."""
    return [_ratio(record, whole) for record, whole in zip(records, _full_seconds_of(records), strict=True)]


def tuning_ratios(records: Sequence[Record]) -> list[float | None]:
    """Seconds of tuning on the chosen rows / seconds of tuning on the whole pool, of each record as in `ratios`.

    Added to STR it is what a selection and what follows cost, beside tuning on everything. None where untuned.
    """
    wholes = zip(records, _full_seconds_of(records), strict=True)
    return [
        record.spent("training", "seconds") / whole.seconds if whole and whole.seconds > 0 else None
        for record, whole in wholes
    ]


def _full_seconds_of(records: Sequence[Record]) -> list[FullSeconds | None]:
    """Of the `tuning_group` of each record; None where untuned."""
    groups: dict[str, list[Record]] = {}
    for record in records:
        key = tuning_group(record)
        if key is not None:
            groups.setdefault(key, []).append(record)
    whole = {key: full_seconds(group) for key, group in groups.items()}
    return [whole.get(tuning_group(record) or "") for record in records]


def _ratio(record: Record, whole: FullSeconds | None) -> Ratio:
    if record.selector in CHOOSES_NOTHING:
        return Ratio(seconds=0.0, flop=0.0, estimated=False)
    full_flop = float(record.data["full_tuning"]["flop"])
    flop = record.spent("selection", "flop") / full_flop if full_flop > 0 else None
    one_machine = record.environment_of("selection", "hardware.") == record.environment_of("training", "hardware.")
    if whole is None or whole.seconds <= 0 or not one_machine:
        return Ratio(seconds=None, flop=flop, estimated=False)
    return Ratio(record.spent("selection", "seconds") / whole.seconds, flop, whole.estimated)
