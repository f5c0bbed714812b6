"""Reads AMF3: the values that ActionScript 3 clients send after AMF0's avmplus marker. AMF3 is never written.

Source: "Action Message Format -- AMF 3" (Adobe, 2013). Externalizable classes raise InvalidData, because their length
is unknown.
"""

import struct
from typing import ClassVar

from gateway.media.errors import InvalidData
from gateway.media.track import AmfValue

_f64 = struct.Struct(">d")
# §3.15: vectors of int, uint and double: size and struct format of one item.
_VECTORS = {13: (4, "i"), 14: (4, "I"), 15: (8, "d")}


class AmfCursor:
    """A cursor over one message, with its reference table and item limit; the base of the AMF0 and AMF3 readers.

    items: number of items that may still be read. A reference counts as many items as its target contains.
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
        """Adds an entry for a value whose items follow. Returns its index, and the current item limit.

        The caller subtracts the limit after the last item, and so knows how many items the value contains.
        """
        self._complex.append(None)
        return len(self._complex) - 1, self.items

    def _spend(self, items: int) -> None:
        self.items -= items
        if self.items < 0:
            raise InvalidData(f"{self.form}: too many items")

    def _take(self, size: int) -> bytes:
        end = self.position + size
        if end > len(self._data):
            raise InvalidData(f"{self.form}: truncated at byte {self.position}, {size} bytes expected")
        taken = self._data[self.position : end]
        self.position = end
        return taken


class Amf3Reader(AmfCursor):
    """A cursor over `data`. An AMF0 reader can continue with its `position` and remaining `items`."""

    __slots__ = ("_strings", "_traits")
    form = "AMF3"

    def __init__(self, data: bytes, position: int, *, max_depth: int, max_items: int) -> None:
        super().__init__(data, position, max_depth, max_items)
        self._strings: list[str] = []
        self._traits: list[tuple[bool, list[str]]] = []  # dynamic?, sealed member names

    def value(self, depth: int) -> AmfValue:
        """Returns the value at `position`. Raises InvalidData.

        Byte arrays become latin-1 text, dates float milliseconds, vectors lists, dictionaries lists of pairs.
        """
        if depth > self._max_depth:
            raise InvalidData("AMF3: nested too deep")
        self._spend(1)
        marker = self._take(1)[0]
        if marker in (0, 1):  # undefined, null
            return None
        if marker in (2, 3):
            return marker == 3
        if marker == 4:
            number = self._u29()
            return float(number - (1 << 29) if number & 0x10000000 else number)
        if marker == 5:
            return float(_f64.unpack(self._take(8))[0])
        if marker == 6:
            return self._string()
        if not 7 <= marker <= 17:
            raise InvalidData(f"AMF3: marker 0x{marker:02x} at byte {self.position - 1}")
        head = self._u29()
        if not head & 1:
            return self._reference(head >> 1)
        match marker:
            case 9:
                return self._array(head, depth)
            case 10:
                return self._object(head, depth)
            case 13 | 14 | 15 | 16:
                return self._vector(head, marker, depth)
            case 17:
                return self._dictionary(head, depth)
        return self._flat(head, marker)  # XML document, date, XML, byte array

    def _flat(self, head: int, marker: int) -> AmfValue:
        value: AmfValue
        items = 1
        if marker == 8:
            value = float(_f64.unpack(self._take(8))[0])
        else:
            value = self._take(head >> 1).decode("latin-1" if marker == 12 else "utf-8", "replace")
            items += head >> 9
            self._spend(items)
        self._complex.append((value, items))
        return value

    def _array(self, head: int, depth: int) -> AmfValue:
        count = head >> 1
        slot, budget = self._open()
        named: dict[str, AmfValue] = {}
        while key := self._string():
            named[key] = self.value(depth + 1)
        if count > self.items or count > len(self._data) - self.position:
            raise InvalidData(f"AMF3: array claims {count} items")
        dense: list[AmfValue] = [self.value(depth + 1) for _ in range(count)]
        value: AmfValue = dense
        if named:
            value = {**named, **{str(index): item for index, item in enumerate(dense)}}
        self._complex[slot] = (value, budget - self.items + 1)
        return value

    def _vector(self, head: int, marker: int, depth: int) -> AmfValue:
        count = head >> 1
        self._take(1)  # whether its length is fixed
        slot, budget = self._open()
        size, form = _VECTORS.get(marker, (1, ""))
        if marker == 16:
            self._string()  # the class of the items
        if count > self.items or count * size > len(self._data) - self.position:
            raise InvalidData(f"AMF3: vector claims {count} items")
        value: list[AmfValue]
        if marker == 16:
            value = [self.value(depth + 1) for _ in range(count)]
        else:
            self._spend(count)
            value = [float(number) for number in struct.unpack(f">{count}{form}", self._take(count * size))]
        self._complex[slot] = (value, budget - self.items + 1)
        return value

    def _dictionary(self, head: int, depth: int) -> AmfValue:
        count = head >> 1
        self._take(1)  # whether its keys are weak
        slot, budget = self._open()
        if count > self.items or 2 * count > len(self._data) - self.position:
            raise InvalidData(f"AMF3: dictionary claims {count} entries")
        value: list[AmfValue] = [[self.value(depth + 1), self.value(depth + 1)] for _ in range(count)]
        self._complex[slot] = (value, budget - self.items + 1)
        return value

    def _object(self, head: int, depth: int) -> AmfValue:
        slot, budget = self._open()
        dynamic, members = self._class(head)
        value: dict[str, AmfValue] = {name: self.value(depth + 1) for name in members}
        if dynamic:
            while key := self._string():
                value[key] = self.value(depth + 1)
        self._complex[slot] = (value, budget - self.items + 1)
        return value

    def _class(self, head: int) -> tuple[bool, list[str]]:
        if not head & 2:
            index = head >> 2
            if index >= len(self._traits):
                raise InvalidData(f"AMF3: traits reference {index} to nothing")
            return self._traits[index]
        if head & 4:
            raise InvalidData("AMF3: externalizable class")
        self._string()  # the class name
        count = head >> 4
        if count > self.items or count > len(self._data) - self.position:
            raise InvalidData(f"AMF3: class claims {count} members")
        self._spend(count)
        traits = (bool(head & 8), [self._string() for _ in range(count)])
        self._traits.append(traits)
        return traits

    def _string(self) -> str:
        head = self._u29()
        if head & 1:
            text = self._take(head >> 1).decode("utf-8", "replace")
            self._spend(len(text) >> 8)
            if text:  # "The empty string is never sent by reference"
                self._strings.append(text)
            return text
        index = head >> 1
        if index >= len(self._strings):
            raise InvalidData(f"AMF3: string reference {index} to nothing")
        # Long text counts as items, otherwise references to it could grow without limit.
        self._spend(len(self._strings[index]) >> 8)
        return self._strings[index]

    def _u29(self) -> int:
        number = 0
        for _ in range(3):
            byte = self._take(1)[0]
            number = number << 7 | byte & 0x7F
            if byte < 0x80:
                return number
        return number << 8 | self._take(1)[0]
