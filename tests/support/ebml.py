"""An incremental reader of live Matroska, to check the output of writers. Element sizes may be unknown."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

EBML, SEGMENT, CLUSTER = 0x1A45DFA3, 0x18538067, 0x1F43B675
INFO, TRACKS, TAGS, CUES, SEEK_HEAD = 0x1549A966, 0x1654AE6B, 0x1254C367, 0x1C53BB6B, 0x114D9B74
CHAPTERS, ATTACHMENTS = 0x1043A770, 0x1941A469
VOID, CRC32 = 0xEC, 0xBF
TIMESTAMP, SIMPLE_BLOCK, BLOCK_GROUP, BLOCK, POSITION, PREV_SIZE = 0xE7, 0xA3, 0xA0, 0xA1, 0xA7, 0xAB
TIMESTAMP_SCALE = 0x2AD7B1
DOC_TYPE, DOC_TYPE_READ_VERSION = 0x4282, 0x4285
TRACK_ENTRY, TRACK_NUMBER, TRACK_TYPE, CODEC_ID, CODEC_PRIVATE = 0xAE, 0xD7, 0x83, 0x86, 0x63A2
TAG, SIMPLE_TAG, TAG_NAME, TAG_STRING = 0x7373, 0x67C8, 0x45A3, 0x4487
REFERENCE_BLOCK = 0xFB

# Elements that contain what is reported one by one; all others are reported whole.
OPEN = {SEGMENT: {INFO, TRACKS, TAGS, CUES, SEEK_HEAD, CHAPTERS, ATTACHMENTS, CLUSTER}, CLUSTER: set()}
TOP = {EBML, SEGMENT}
LARGEST = 50_000_000


class NotEbml(Exception):
    """The bytes are not EBML or cannot be read incrementally."""


@dataclass(frozen=True)
class Start:
    """A Segment or Cluster starts. size: None if it is unknown."""

    id: int
    size: int | None


@dataclass(frozen=True)
class End:
    """A Segment or Cluster ends."""

    id: int


@dataclass(frozen=True)
class Element:
    """Any other complete element. raw: its bytes with id and size."""

    id: int
    body: bytes
    raw: bytes


Event = Start | End | Element


def vint(data: bytes | bytearray, at: int, *, marker: bool, most: int) -> tuple[int, int] | None:
    """Returns (value, end) of a variable size integer, or None if more bytes are needed. RFC 8794 §4."""
    if at >= len(data):
        return None
    first = data[at]
    width = 9 - first.bit_length()
    if not first or width > most:
        raise NotEbml(f"a number begins with {first:#04x}")
    if at + width > len(data):
        return None
    value = int.from_bytes(data[at : at + width], "big")
    return (value if marker else value & (1 << 7 * width) - 1), at + width


class EbmlReader:
    """Reads events from pieces of bytes."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._position = 0  # of the first byte of _data in the stream
        self._open: list[tuple[int, int | None]] = []  # (id, where it ends)

    def receive(self, data: bytes) -> Iterator[Event]:
        """Yields the events that these bytes complete. Raises `NotEbml`."""
        self._data += data
        while True:
            yield from self._ended()
            head = self._head()
            if head is None:
                return
            id, size, at = head
            if self._open and self._open[-1][1] is None and self._closes(id):
                yield End(self._open.pop()[0])
                continue
            if id in OPEN:
                where = None if size is None else self._position + at + size
                self._consume(at)
                self._open.append((id, where))
                yield Start(id, size)
                continue
            if size is None:
                raise NotEbml(f"element {id:#x} of unknown size")
            if size > LARGEST:
                raise NotEbml(f"element {id:#x} of {size} bytes")
            if at + size > len(self._data):
                return
            raw = bytes(self._data[: at + size])
            self._consume(at + size)
            yield Element(id, raw[at:], raw)

    def finish(self) -> Iterator[Event]:
        """Ends the input. Raises `NotEbml` if an element is incomplete."""
        if self._data or any(end is not None and end != self._position for _, end in self._open):
            raise NotEbml("cut in an element")
        while self._open:
            yield End(self._open.pop()[0])

    def _head(self) -> tuple[int, int | None, int] | None:
        id = vint(self._data, 0, marker=True, most=4)
        if id is None:
            return None
        size = vint(self._data, id[1], marker=False, most=8)
        if size is None:
            return None
        width = size[1] - id[1]
        unknown = size[0] == (1 << 7 * width) - 1
        return id[0], None if unknown else size[0], size[1]

    def _closes(self, id: int) -> bool:
        """Whether this element ends the innermost one of unknown size, as RFC 8794 §6.2 defines."""
        inner = self._open[-1][0]
        return id in TOP or (inner == CLUSTER and id in OPEN[SEGMENT])

    def _ended(self) -> Iterator[Event]:
        while self._open and self._open[-1][1] is not None and self._position >= self._open[-1][1]:
            if self._position > self._open[-1][1]:
                raise NotEbml("an element passes its parent's end")
            yield End(self._open.pop()[0])

    def _consume(self, count: int) -> None:
        del self._data[:count]
        self._position += count


def children(body: bytes) -> list[tuple[int, bytes]]:
    """Returns the child elements of a complete master element. Raises `NotEbml`."""
    found, at = [], 0
    while at < len(body):
        id = vint(body, at, marker=True, most=4)
        size = vint(body, id[1], marker=False, most=8) if id is not None else None
        if id is None or size is None or size[1] + size[0] > len(body):
            raise NotEbml("cut in an element")
        at = size[1] + size[0]
        found.append((id[0], body[size[1] : at]))
    return found


def number(body: bytes) -> int:
    """Returns the value of an unsigned integer element."""
    if len(body) > 8:
        raise NotEbml("an integer of more than 8 bytes")
    return int.from_bytes(body, "big")
