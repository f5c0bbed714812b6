"""The base of the stores in SQL databases."""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from gateway.lib.texts import storable

Value: TypeAlias = str | int | float


class SqlStore(ABC):
    """Tables of one store. The subclasses of an engine run the statements, those of a store have them.

    A statement has a `?` for each value. It takes effect as a whole or not at all, also if the caller is cancelled.
    """

    _clock: Callable[[], float]  # seconds since 1970

    @abstractmethod
    async def rows(self, statement: str, *values: Value) -> Sequence[Any]:
        """Returns the rows of a query. Raises StoreUnavailable."""

    @abstractmethod
    async def write(self, statement: str, *values: Value) -> int:
        """Returns the number of rows that a statement changed. Raises StoreUnavailable."""

    @abstractmethod
    async def write_alone(self, table: str, statement: str, *values: Value) -> int:
        """Like `write`. No other process changes the table between the reads and the writes of the statement."""


def storable_values(values: Sequence[Value]) -> list[Value]:
    """Returns the values of a statement as every database can store them. Keys that none can store are in no row."""
    return [storable(value) if isinstance(value, str) else value for value in values]


def to_json(value: Mapping[str, Any]) -> str:
    """Returns a value as compact JSON text."""
    return json.dumps(dict(value), allow_nan=False, separators=(",", ":"))
