"""Identity of configuration objects: what is in a key and what is not."""

from dataclasses import FrozenInstanceError, field
from typing import Any, Literal

import pytest
from pydantic import ValidationError

from dwbench.component import NOT_IN_KEY, canonical_json, component, field_identities, identity, key_of


@component
class Inner:
    rate: float = 0.5


@component
class Outer:
    name: str
    size: int = 3
    which: Literal["low", "high"] = "low"
    inner: Inner = field(default_factory=Inner)
    names: tuple[str, ...] = ()
    path: str | None = field(default=None, metadata=NOT_IN_KEY)


@component
class Named:
    path: str

    def identity_fields(self) -> dict[str, Any]:
        return {"content": len(self.path)}


def test_identity_is_class_and_every_field_with_defaults() -> None:
    assert identity(Outer(name="a")) == {
        "class": f"{__name__}.Outer",
        "name": "a",
        "size": 3,
        "which": "low",
        "inner": {"class": f"{__name__}.Inner", "rate": 0.5},
        "names": [],
    }


def test_a_default_that_is_spelt_out_changes_no_key() -> None:
    assert key_of(identity(Outer(name="a"))) == key_of(identity(Outer(name="a", size=3, inner=Inner(rate=0.5))))


@pytest.mark.parametrize("changed", [{"size": 4}, {"which": "high"}, {"inner": Inner(rate=0.6)}, {"names": ("x",)}])
def test_every_field_changes_the_key(changed: dict[str, Any]) -> None:
    assert key_of(identity(Outer(name="a"))) != key_of(identity(Outer(name="a", **changed)))


def test_a_field_not_in_key_changes_nothing() -> None:
    assert identity(Outer(name="a", path="/x")) == identity(Outer(name="a", path="/y"))
    assert "path" not in field_identities(Outer(name="a", path="/x"))


def test_a_component_may_say_what_it_is() -> None:
    assert identity(Named(path="/xy")) == {"class": f"{__name__}.Named", "content": 3}


def test_two_classes_with_the_same_fields_have_two_keys() -> None:
    @component
    class Other:
        rate: float = 0.5

    assert key_of(identity(Other())) != key_of(identity(Inner()))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_a_number_is_refused(value: float) -> None:
    with pytest.raises(TypeError, match="can't be part of a key"):
        identity({"a": [value]})
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json({"a": value})
    with pytest.raises(ValidationError):
        Inner(rate=value)


@pytest.mark.parametrize("value", [object(), Inner, {1, 2}, b"bytes", lambda: None])
def test_what_is_not_plain_is_refused(value: object) -> None:
    with pytest.raises(TypeError, match="use components and plain data"):
        identity({"a": value})


def test_canonical_json_has_one_spelling() -> None:
    assert canonical_json({"b": 1, "a": [1.0, None, "é"]}) == '{"a":[1.0,null,"é"],"b":1}'
    assert canonical_json({"a": 1, "b": 2}) == canonical_json({"b": 2, "a": 1})


def test_unknown_fields_and_wrong_types_are_refused() -> None:
    with pytest.raises(ValidationError, match="unexpected"):
        Outer(name="a", sise=4)  # type: ignore[call-arg]
    with pytest.raises(ValidationError, match="valid integer"):
        Outer(name="a", size="many")  # type: ignore[arg-type]
    with pytest.raises(ValidationError, match="'low' or 'high'"):
        Outer(name="a", which="mid")  # type: ignore[arg-type]


def test_components_are_frozen_and_keyword_only() -> None:
    with pytest.raises(FrozenInstanceError):
        Inner().rate = 1.0  # type: ignore[misc]
    with pytest.raises(ValidationError):
        Inner(0.5)  # type: ignore[misc]


def test_golden_key() -> None:
    # If this fails, results stored under the old keys are lost to everybody: raise versions knowingly instead.
    plain = {"class": "dwbench.X", "name": "a", "size": 3, "share": 0.1, "path": None, "on": True, "names": ["é", "z"]}
    assert key_of(plain) == "79766008c122a3e7bd2a"
