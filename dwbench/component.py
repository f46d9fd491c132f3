"""Configuration objects: frozen, validated, and with an identity made of every field that changes results.

A component is a frozen pydantic dataclass that refuses unknown fields. Its identity is its class and all of its
fields, defaults included, taken from the built object. A field that says where something lies or how fast it runs,
and not what comes out, is declared with `field(metadata=NOT_IN_KEY)`.
"""

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any, TypeVar, cast, dataclass_transform

import pydantic
import pydantic.dataclasses

T = TypeVar("T")

NOT_IN_KEY: Mapping[str, bool] = {"not_in_key": True}


@dataclass_transform(
    frozen_default=True,
    kw_only_default=True,
    field_specifiers=(dataclasses.field, pydantic.Field),
)
def component(cls: type[T]) -> type[T]:
    """Make `cls` a frozen, validated, keyword-only dataclass."""
    config = pydantic.ConfigDict(extra="forbid", allow_inf_nan=False)
    return cast(type[T], pydantic.dataclasses.dataclass(cls, frozen=True, kw_only=True, config=config))


def class_name(cls: type) -> str:
    """`package.module.Class`, as Hydra's `_target_` spells it."""
    return f"{cls.__module__}.{cls.__qualname__}"


def identity(value: object) -> Any:
    """Plain data that determines `value`: class and fields for a component, itself for plain data.

    A component may define `identity_fields()` to say in other words what it is (a model: its weights' checksum and
    not its path). Raises TypeError for anything that is neither a component nor plain data.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        custom = getattr(value, "identity_fields", None)
        fields = custom() if custom is not None else field_identities(value)
        return {"class": class_name(type(value)), **fields}
    if isinstance(value, Mapping):
        return {str(name): identity(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [identity(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        raise TypeError(f"{value} can't be part of a key")
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"{type(value).__name__} can't be part of a key: use components and plain data")


def field_identities(value: Any) -> dict[str, Any]:
    """The identity of each field of a component, fields marked NOT_IN_KEY left out."""
    return {
        field.name: identity(getattr(value, field.name))
        for field in dataclasses.fields(value)
        if not field.metadata.get("not_in_key")
    }


def canonical_json(data: object) -> str:
    """One spelling for each value: sorted keys, no spaces, no NaN."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False)


def key_of(data: object) -> str:
    """The key of plain data: 20 hex digits of the SHA-256 of its canonical JSON."""
    return hashlib.sha256(canonical_json(data).encode()).hexdigest()[:20]
