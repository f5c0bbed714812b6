"""Reads and writes AMF0, the value encoding of RTMP commands and FLV script data, within limits.

Source: "Action Message Format -- AMF 0" (Adobe, 2007). The section numbers below refer to it.
"""

from __future__ import annotations

import struct

from gateway.formats.amf3 import Amf3Reader, AmfCursor
from gateway.media.errors import InvalidData
from gateway.media.track import AmfValue

MAX_DEPTH = 32
MAX_ITEMS = 10_000

_NUMBER, _BOOLEAN, _STRING, _OBJECT, _MOVIE_CLIP, _NULL, _UNDEFINED, _REFERENCE = 0, 1, 2, 3, 4, 5, 6, 7
_UNSUPPORTED, _RECORD_SET = 13, 14
_ECMA_ARRAY, _OBJECT_END, _STRICT_ARRAY, _DATE, _LONG_STRING, _XML, _TYPED, _AVMPLUS = 8, 9, 10, 11, 12, 15, 16, 17
# §2.14: "no further information is encoded" after the unsupported marker; §2.6 and §2.15: movie clips and record sets
# are "not supported and … reserved for future use", so no value follows them.
_NOTHING = frozenset({_NULL, _UNDEFINED, _UNSUPPORTED, _MOVIE_CLIP, _RECORD_SET})

_f64 = struct.Struct(">d")
_u16 = struct.Struct(">H")
_u32 = struct.Struct(">I")


class Date(float):
    """A date in milliseconds since 1970: a float that is written as an AMF date."""


class EcmaArray(dict[str, AmfValue]):
    """A dict that is written as an ECMA array, the form that players expect for onMetaData."""


def decode(data: bytes, *, max_depth: int = MAX_DEPTH, max_items: int = MAX_ITEMS) -> list[AmfValue]:
    """Returns all values of `data` in order.

    Objects, ECMA arrays and typed objects become dicts (the class name is dropped), XML documents text, dates `Date`.
    Null, undefined, unsupported, movie clips and record sets become None; the last three are markers without a value.
    A reference counts as many items as its target contains, so repeated references cannot turn a small message into a
    large tree.
    Raises InvalidData if the data are truncated, have an unknown marker, are nested too deep or contain too many items.
    """
    reader = _Reader(data, 0, max_depth, max_items)
    values: list[AmfValue] = []
    while reader.position < len(data):
        values.append(reader.value(0))
    return values


def read(data: bytes, offset: int = 0, *, max_depth: int = MAX_DEPTH) -> tuple[AmfValue, int]:
    """Returns the value at `offset` and the offset after it. Raises InvalidData."""
    reader = _Reader(data, offset, max_depth, MAX_ITEMS)
    return reader.value(0), reader.position


def encode(*values: AmfValue | int) -> bytes:
    """Returns the AMF0 encoding of `values`. A dict becomes an object, `EcmaArray` an ECMA array, `Date` a date.

    Raises TypeError for values that are nested deeper than MAX_DEPTH or have another type, an error of the caller.
    """
    parts: list[bytes] = []
    for value in values:
        _write(parts, value, 0)
    return b"".join(parts)


class _Reader(AmfCursor):
    """Reads the values of one message, with its reference table (§2.9)."""

    __slots__ = ()
    form = "AMF0"

    def value(self, depth: int) -> AmfValue:
        if depth > self._max_depth:
            raise InvalidData(f"AMF0: nested deeper than {self._max_depth}")
        self._spend(1)
        marker = self._take(1)[0]
        if marker == _STRING:
            return self._text(_u16.unpack(self._take(2))[0])
        if marker == _NUMBER:
            return float(_f64.unpack(self._take(8))[0])
        if marker in _NOTHING:
            return None
        if marker == _BOOLEAN:
            return self._take(1)[0] != 0
        if marker in (_OBJECT, _ECMA_ARRAY, _TYPED):
            return self._object(marker, depth)
        if marker == _STRICT_ARRAY:
            return self._array(depth)
        if marker == _DATE:
            # §2.13: "time-zone = S16 ; reserved, not supported should be set to 0x0000"
            return Date(_f64.unpack(self._take(10)[:8])[0])
        if marker in (_LONG_STRING, _XML):
            return self._text(_u32.unpack(self._take(4))[0])
        if marker == _REFERENCE:
            return self._reference(_u16.unpack(self._take(2))[0])
        if marker == _AVMPLUS:
            amf3 = Amf3Reader(self._data, self.position, max_depth=self._max_depth - depth, max_items=self.items)
            value = amf3.value(0)
            self.position, self.items = amf3.position, amf3.items
            return value
        raise InvalidData(f"AMF0: marker 0x{marker:02x} at byte {self.position - 1}")

    def _object(self, marker: int, depth: int) -> AmfValue:
        if marker == _ECMA_ARRAY:
            self._take(4)  # the count may be 0 or wrong: only the end marker is reliable
        elif marker == _TYPED:
            self._take(_u16.unpack(self._take(2))[0])
        value: dict[str, AmfValue] = EcmaArray() if marker == _ECMA_ARRAY else {}
        slot, budget = self._open()
        end = len(self._data)
        while not (marker == _ECMA_ARRAY and self.position == end):  # some encoders omit onMetaData's end marker
            size = _u16.unpack(self._take(2))[0]
            if size == 0 and self._data[self.position : self.position + 1] == b"\x09":
                self.position += 1
                break
            if size == 0 and marker == _ECMA_ARRAY and self.position == end:
                break  # other encoders omit its last byte
            key = self._text(size)
            value[key] = self.value(depth + 1)
        self._complex[slot] = (value, budget - self.items + 1)
        return value

    def _array(self, depth: int) -> AmfValue:
        count = _u32.unpack(self._take(4))[0]
        if count > self.items or count > len(self._data) - self.position:
            raise InvalidData(f"AMF0: strict array claims {count} items")
        slot, budget = self._open()
        value: list[AmfValue] = [self.value(depth + 1) for _ in range(count)]
        self._complex[slot] = (value, budget - self.items + 1)
        return value

    def _text(self, size: int) -> str:
        self._spend(size >> 8)  # long text counts as items, otherwise references to it could grow without limit
        return self._take(size).decode("utf-8", "replace")


def _write(parts: list[bytes], value: AmfValue | int, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise TypeError(f"AMF0: nested deeper than {MAX_DEPTH}")
    if value is None:
        parts.append(b"\x05")
    elif isinstance(value, bool):
        parts.append(b"\x01\x01" if value else b"\x01\x00")
    elif isinstance(value, Date):
        parts.append(b"\x0b" + _f64.pack(value) + b"\0\0")
    elif isinstance(value, int | float):
        parts.append(b"\x00" + _f64.pack(value))
    elif isinstance(value, str):
        text = value.encode("utf-8", "replace")
        parts.append(b"\x02" + _u16.pack(len(text)) if len(text) <= 0xFFFF else b"\x0c" + _u32.pack(len(text)))
        parts.append(text)
    elif isinstance(value, dict):
        # §2.5: an empty name marks the end, so it cannot be a key
        named = [(key.encode("utf-8", "replace")[:0xFFFF], item) for key, item in value.items() if key]
        parts.append(b"\x08" + _u32.pack(len(named)) if isinstance(value, EcmaArray) else b"\x03")
        for name, item in named:
            parts.append(_u16.pack(len(name)) + name)
            _write(parts, item, depth + 1)
        parts.append(b"\0\0\x09")
    elif isinstance(value, list | tuple):
        parts.append(b"\x0a" + _u32.pack(len(value)))
        for item in value:
            _write(parts, item, depth + 1)
    else:
        raise TypeError(f"AMF0 cannot encode {type(value).__name__}")
