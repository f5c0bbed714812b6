"""Dataclasses that are read from JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import pytest

from gateway.lib.records import read_record


class Color(StrEnum):
    RED = "red"


@dataclass(frozen=True, slots=True)
class Wheel:
    size: float


@dataclass(frozen=True, slots=True)
class Car:
    name: str
    color: Color = Color.RED
    wheels: tuple[Wheel, ...] = ()
    spare: Wheel | None = None
    notes: Mapping[str, Any] = field(default_factory=dict)


CAR: dict[str, Any] = {"name": "a", "color": "red", "wheels": [{"size": 1}], "spare": {"size": "2"}, "notes": {"x": 1}}


def test_values_become_the_types_of_their_fields() -> None:
    assert read_record(Car, {**CAR, "later": True}) == Car("a", Color.RED, (Wheel(1.0),), Wheel(2.0), {"x": 1})
    assert read_record(Car, {**CAR, "spare": None}).spare is None


@pytest.mark.parametrize(
    "change", [{"color": "blue"}, {"wheels": 3}, {"wheels": [{}]}, {"wheels": [1]}, {"spare": {"size": "x"}}]
)
def test_wrong_values_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        read_record(Car, CAR | change)


def test_values_may_be_missing_only_where_the_reader_says_so() -> None:
    assert read_record(Car, {"name": "a", "notes": None}, defaults=True) == Car("a")
    with pytest.raises(KeyError):
        read_record(Car, {"name": "a"})
    with pytest.raises(KeyError):
        read_record(Car, {"color": "red"}, defaults=True)
