"""Reads live Matroska and WebM in pieces of any size, and returns tracks and samples."""

from typing import Final

from gateway.formats.mkv import ebml
from gateway.formats.mkv.entries import MkvTrackEntry, children, element_head, read_entries, uint
from gateway.formats.recording import Event, Packet, opened
from gateway.media.errors import InvalidData

MAX_BLOCK: Final = 8_000_000  # bytes of one picture, as in the whole gateway
MAX_HEADER: Final = 1 << 20
MAX_SKIPPED: Final = 16_000_000  # bytes of an element that is not used

BLOCK_GROUP: Final = b"\xa0"
BLOCK: Final = b"\xa1"
REFERENCE_BLOCK: Final = b"\xfb"

_ENTERED: Final = frozenset((ebml.SEGMENT, ebml.CLUSTER))
# Elements that are read, and their maximum size in bytes. All others are skipped.
_MAX_WHOLE_BYTES: Final = {
    ebml.EBML: 4096,
    ebml.INFO: MAX_HEADER,
    ebml.TRACKS: MAX_HEADER,
    ebml.TIMESTAMP: 8,
    ebml.SIMPLE_BLOCK: MAX_BLOCK,
    BLOCK_GROUP: MAX_BLOCK + 4096,
}
_DOC_TYPES: Final = (b"webm", b"matroska")
_LACING: Final = 0x06
_MAX_TIME: Final = 1 << 62  # nanoseconds


class MatroskaReader:
    """Reads Matroska and WebM. It stores at most one incomplete element, as far as it has arrived.

    It reads inside Segments and Clusters of known and unknown size, so it returns each block when its last byte
    arrives. A new EBML header starts another recording.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._skip = 0  # remaining bytes of an element that is not used
        self._begin()

    def _begin(self) -> None:
        self._scale = 1_000_000  # nanoseconds of a tick
        self._tracks: bytes | None = None
        self._entries: dict[int, MkvTrackEntry] | None = None
        self._cluster: int | None = None  # the time of the cluster, ticks

    def receive(self, data: bytes) -> list[Event]:
        """Returns the events that these bytes complete.

        Raises InvalidData if the data are not Matroska or exceed a limit.
        """
        buffer = self._buffer
        buffer += data
        events: list[Event] = []
        at = 0
        try:
            while True:
                if self._skip:
                    step = min(self._skip, len(buffer) - at)
                    self._skip -= step
                    at += step
                head = element_head(buffer, at)
                if head is None:
                    return events
                if head.id in _ENTERED:
                    self._enter(head.id, events)
                    at = head.body
                    continue
                limit = _MAX_WHOLE_BYTES.get(head.id)
                if head.size is None:
                    raise InvalidData(f"Matroska: element {head.id.hex()} of unknown size")
                if head.size > (MAX_SKIPPED if limit is None else limit):
                    raise InvalidData(f"Matroska: element {head.id.hex()} of {head.size} bytes")
                if limit is None:
                    self._skip, at = head.size, head.body
                    continue
                end = head.body + head.size
                if end > len(buffer):
                    return events
                at, body = end, bytes(buffer[head.body : end])
                self._take(head.id, body, events)
        finally:
            del buffer[:at]

    def _enter(self, id: bytes, events: list[Event]) -> None:
        self._cluster = None
        if id == ebml.CLUSTER and self._entries is None:
            if self._tracks is None:
                raise InvalidData("Matroska: a cluster before the tracks")
            entries, left_out = read_entries(self._tracks, self._scale)
            found = opened([e.track for e in entries], left_out)
            used = [e for e in entries if e.track is found.video or e.track is found.audio]
            self._entries = {e.number: e for e in reversed(used)}  # the first one of repeated numbers is used
            events.append(found)

    def _take(self, id: bytes, body: bytes, events: list[Event]) -> None:
        if id == ebml.SIMPLE_BLOCK:
            self._add_block(body, None, events)
        elif id == BLOCK_GROUP:
            self._add_group(body, events)
        elif id == ebml.TIMESTAMP:
            self._cluster = uint(body, "Timestamp")
        elif id == ebml.EBML:
            doc_type = dict(children(body)).get(ebml.DOC_TYPE, b"matroska").rstrip(b"\x00")
            if doc_type not in _DOC_TYPES:
                raise InvalidData(f"EBML of the type {doc_type[:16]!r}, neither WebM nor Matroska")
            self._begin()
        elif id == ebml.INFO:
            scale = dict(children(body)).get(ebml.TIMESTAMP_SCALE)
            self._scale = 1_000_000 if scale is None else uint(scale, "TimestampScale")
            if not 0 < self._scale <= 1_000_000_000:
                raise InvalidData(f"Matroska: ticks of {self._scale} ns")
        elif body != self._tracks:
            self._tracks, self._entries = body, None

    def _add_group(self, body: bytes, events: list[Event]) -> None:
        fields = children(body)
        key = all(id != REFERENCE_BLOCK for id, _ in fields)
        for id, block in fields:
            if id == BLOCK:
                self._add_block(block, key, events)

    def _add_block(self, body: bytes, key: bool | None, events: list[Event]) -> None:
        """Adds a block's sample (RFC 9559 §10: track number, 16 bits of time in the cluster, flags, payload)."""
        entries, cluster = self._entries, self._cluster
        if entries is None or cluster is None:
            raise InvalidData("Matroska: a block outside of a cluster")
        width = 9 - body[0].bit_length() if body else 9
        if width > 8 or len(body) < width + 3:
            raise InvalidData(f"Matroska: a block of {len(body)} bytes")
        entry = entries.get(int.from_bytes(body[:width], "big") & (1 << 7 * width) - 1)
        if entry is None:
            return
        flags = body[width + 2]
        if flags & _LACING:
            raise InvalidData("Matroska: a block with lacing, which live WebM does not have")
        ticks = cluster + int.from_bytes(body[width : width + 2], "big", signed=True)
        time = ticks * self._scale - entry.delay
        if not -_MAX_TIME < time < _MAX_TIME:
            raise InvalidData(f"Matroska: a block at {ticks}")
        track = entry.track
        payload = body[width + 3 :]
        if payload:
            key = bool(flags & 0x80) if key is None else key
            events.append(Packet(track, time * track.timescale // 1_000_000_000, 0, key, payload))
