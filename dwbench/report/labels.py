"""Records in groups, and what rows and headings are called, so that no two different ones share a name."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from dwbench.component import canonical_json
from dwbench.records import Record, flat

Identity = Callable[[Record], dict[str, Any]]
Name = Callable[[Record], str]

SHOWN_FIELDS = 3
SHOWN_SIGNS = 24


def label(record: Record) -> str:
    """The selector's label, with `by SCORER` where another model computed than the one that is tuned."""
    scorer = record.data["scorer"]
    another = scorer is not None and scorer["name"] != record.model
    return f"{record.label} by {scorer['name']}" if another else record.label


def told_apart(names: Sequence[str], identities: Sequence[Mapping[str, Any]], runs: Sequence[str]) -> list[str]:
    """`names`; those that occur more than once with what differs between their `identities`, at most three fields, and
    with their run's key where that is not enough."""
    places: dict[str, list[int]] = {}
    for place, name in enumerate(names):
        places.setdefault(name, []).append(place)
    told = list(names)
    for name, same in places.items():
        if len(same) > 1:
            differences = _differences([flat(identities[place]) for place in same])
            for place, what in zip(same, differences, strict=True):
                parts = [what] if what else []
                if differences.count(what) > 1:
                    parts.append(f"run {runs[place][:8]}")
                told[place] = f"{name} ({', '.join(parts)})"
    return told


def names_of(records: Sequence[Record], identity: Identity, name: Name) -> list[str]:
    """The `name` of each, told apart by what differs between their identities."""
    return told_apart(
        [name(record) for record in records],
        [identity(record) for record in records],
        [record.run for record in records],
    )


def grouped(records: Iterable[Record], identity: Callable[[Record], object]) -> list[list[Record]]:
    """Those of one identity together, in order of appearance."""
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(canonical_json(identity(record)), []).append(record)
    return list(groups.values())


def each_choice_once(records: Iterable[Record]) -> list[Record]:
    """One for each different set of chosen rows: what several seeds or runs share is one choice."""
    return [same[0] for same in grouped(records, lambda record: sorted(record.data["selection"]["ids"]))]


def named_groups(records: Iterable[Record], identity: Identity, name: Name) -> list[tuple[str, list[Record]]]:
    """Those of one identity together, in order of appearance, under the `name` of their first."""
    groups = grouped(records, identity)
    return list(zip(names_of([group[0] for group in groups], identity, name), groups, strict=True))


def by_pool(records: Iterable[Record], beside: Identity, title: Name) -> list[tuple[str, list[Record]]]:
    """Those of one pool and tuned model that have `beside` in common too, sorted by all of that."""

    def place(record: Record) -> dict[str, Any]:
        return {**pool_identity(record), **beside(record)}

    return named_groups(sorted(records, key=lambda record: canonical_json(place(record))), place, title)


def by_method(records: Iterable[Record]) -> list[tuple[str, list[Record]]]:
    """Those of one method, under its label: its seeds, and what was done with its choice."""
    return named_groups(records, selection_identity, label)


def pool_identity(record: Record) -> dict[str, Any]:
    """The pool that was chosen from, and the model that was to be tuned."""
    return {
        "dataset": {"name": record.dataset, "pool": record.data["dataset"]["fingerprints"]["pool"]},
        "model": {"name": record.model, **record.tuned_model},
    }


def _differences(every: Sequence[Mapping[str, Any]]) -> list[str]:
    """For each the fields, with values, in which they differ."""
    fields = dict.fromkeys(field for one in every for field in one)
    differ = [field for field in fields if len({str(one.get(field)) for one in every}) > 1]
    shown = [field for field in differ if not _goes_with_a_name(field, every)][:SHOWN_FIELDS]
    return [", ".join(f"{field}={str(one.get(field))[:SHOWN_SIGNS]}" for field in shown) for one in every]


def _goes_with_a_name(field: str, every: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a field of a model's identity differs only where the model's name does, which says enough."""
    model, dot, _ = field.partition(".identity.")
    pairs = {(str(one.get(f"{model}.name")), str(one.get(field))) for one in every}
    return bool(dot) and len(pairs) == len({name for name, _ in pairs})


def selection_identity(record: Record) -> dict[str, Any]:
    """What determines what a method chooses of a pool, beside the pool, the number of rows and the seed."""
    data = record.data
    return {
        "selector": {"version": data["selector"]["version"], **data["selector"]["identity"]},
        "scorer": data["scorer"],
        "embedder": data["embedder"],
        "dataset": {"target": data["dataset"]["fingerprints"].get("target"), "task": data["dataset"]["task"]},
        "training": data["selector"].get("tuned_by"),
    }
