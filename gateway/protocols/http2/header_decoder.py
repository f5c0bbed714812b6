"""Decodes the headers of one HTTP/2 connection (HPACK, RFC 7541).

The library hpack has the code of Huffman and the static table. Its decoder needs 18 us for the headers of a browser,
this one 4: it has no objects for fields, and remembers what texts were decoded.
"""

from collections import deque
from functools import lru_cache
from typing import Final, TypeAlias

from hpack.exceptions import HPACKDecodingError
from hpack.huffman_table import decode_huffman
from hpack.table import HeaderTable

from gateway.protocols.errors import RemoteProtocolError

Field: TypeAlias = "tuple[bytes, bytes]"

_STATIC: Final[tuple[Field, ...]] = ((b"", b""), *HeaderTable.STATIC_TABLE)  # by index, from 1 (Appendix A)
_TABLE_BYTES: Final = 4096  # of the dynamic table, with _ENTRY for each entry (§4.1, §4.2)
_ENTRY: Final = 32
_REMEMBERED: Final = 256  # bytes of the longest text that is remembered
_MAX_INTEGER: Final = 2**28


class HeadersError(RemoteProtocolError):
    """The block is malformed. The decoder cannot be used again."""


class HeadersTooLarge(HeadersError):
    """The headers of one block have more bytes than allowed."""


class HeaderDecoder:
    """Decodes the blocks of one connection in order, because each may change the table for the next ones.

    max_bytes: of the fields of one block, with 32 bytes for each (RFC 9113 §6.5.2).
    """

    __slots__ = ("_limit", "_max_bytes", "_size", "_table")

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._table: deque[Field] = deque()  # the newest first
        self._size = 0
        self._limit = _TABLE_BYTES

    def decode(self, block: bytes) -> tuple[Field, ...]:
        """Returns the fields of a whole block. Raises HeadersError."""
        fields: list[Field] = []
        at, end, size = 0, len(block), 0
        try:
            while at < end:
                first = block[at]
                if first & 0x80:
                    index = first & 0x7F
                    if index < 0x7F:
                        at += 1
                    else:
                        index, at = _integer(block, at, 7)
                    field = self._field(index)
                elif first & 0x60 == 0x20:
                    if fields:
                        raise HeadersError("change of the table behind a header")  # §4.2
                    limit, at = _integer(block, at, 5)
                    self._resize(limit)
                    size += _ENTRY  # a block of changes alone costs as much as one of fields
                    if size > self._max_bytes:
                        raise HeadersTooLarge("too many changes of the table")
                    continue
                else:
                    indexed = first & 0x40
                    index, at = _integer(block, at, 6 if indexed else 4)
                    if index:
                        name = self._field(index)[0]
                    else:
                        name, at = _text(block, at)
                    value, at = _text(block, at)
                    field = (name, value)
                    if indexed:
                        self._add(field)
                size += len(field[0]) + len(field[1]) + _ENTRY
                if size > self._max_bytes:
                    raise HeadersTooLarge("too large headers")
                fields.append(field)
        except IndexError:  # of the block, or of the table
            raise HeadersError("headers end too early, or an unknown index") from None
        return tuple(fields)

    def _field(self, index: int) -> Field:
        if index < len(_STATIC):
            if not index:
                raise HeadersError("index 0")
            return _STATIC[index]
        return self._table[index - len(_STATIC)]

    def _add(self, field: Field) -> None:
        """Adds a field to the table, and drops the oldest ones above the limit (§4.4)."""
        self._size += len(field[0]) + len(field[1]) + _ENTRY
        self._table.appendleft(field)
        self._evict()

    def _resize(self, limit: int) -> None:
        if limit > _TABLE_BYTES:
            raise HeadersError("too large table")
        self._limit = limit
        self._evict()

    def _evict(self) -> None:
        table = self._table
        while self._size > self._limit:
            name, value = table.pop()
            self._size -= len(name) + len(value) + _ENTRY


def _integer(block: bytes, at: int, bits: int) -> tuple[int, int]:
    """Returns an integer with a prefix of some bits, and the index behind it (§5.1)."""
    most = (1 << bits) - 1
    value = block[at] & most
    at += 1
    if value < most:
        return value, at
    shift = 0
    while True:
        byte = block[at]
        at += 1
        value += (byte & 0x7F) << shift
        shift += 7
        if value > _MAX_INTEGER:
            raise HeadersError("too large integer")
        if not byte & 0x80:
            return value, at
        if shift > 28:
            raise HeadersError("too long integer")


def _text(block: bytes, at: int) -> tuple[bytes, int]:
    """Returns a text, and the index behind it (§5.2)."""
    is_huffman = block[at] & 0x80
    size, at = _integer(block, at, 7)
    end = at + size
    if end > len(block):
        raise HeadersError("a text ends too early")
    data = block[at:end]
    if not is_huffman:
        return data, end
    return (_huffman_remembered(data) if size <= _REMEMBERED else _huffman(data)), end


def _huffman(data: bytes) -> bytes:
    try:
        return decode_huffman(data)
    except HPACKDecodingError:
        raise HeadersError("malformed text") from None


_huffman_remembered = lru_cache(maxsize=4096)(_huffman)
