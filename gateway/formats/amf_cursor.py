"""The common base of the AMF0 and AMF3 readers: a position, the message's references, and bounds."""

from __future__ import annotations

from typing import ClassVar

from gateway.media.errors import InvalidData
from gateway.media.track import AmfValue


class AmfCursor:
    """A cursor over one message, with its reference table and item budget.

    items: how many more may be read. A reference costs as many as its target holds.
    """

    __slots__ = ("_complex", "_data", "_max_depth", "items", "position")
    form: ClassVar[str]  # for errors

    def __init__(self, data: bytes, position: int, max_depth: int, max_items: int) -> None:
        self._data = data
        self.position = position
        self._max_depth = max_depth
        self.items = max_items
        self._complex: list[tuple[AmfValue, int] | None] = []  # value and its item count; None while being read

    def _reference(self, index: int) -> AmfValue:
        target = self._complex[index] if index < len(self._complex) else None
        if target is None:
            raise InvalidData(f"{self.form}: reference {index} to nothing, or to the object around it")
        value: AmfValue = target[0]
        self._spend(target[1])
        return value

    def _open(self) -> tuple[int, int]:
        """Makes a place in the reference table. Returns its index, and the present budget."""
        self._complex.append(None)
        return len(self._complex) - 1, self.items

    def _spend(self, items: int) -> None:
        self.items -= items
        if self.items < 0:
            raise InvalidData(f"{self.form}: too many items")

    def _take(self, size: int) -> bytes:
        end = self.position + size
        if end > len(self._data):
            raise InvalidData(f"{self.form}: truncated at byte {self.position}, {size} bytes wanted")
        taken = self._data[self.position : end]
        self.position = end
        return taken
