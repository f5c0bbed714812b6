"""What a browser's MediaRecorder sends: told apart by its first bytes, then read as WebM or as fragmented MP4."""

from __future__ import annotations

from typing import Final

from gateway.formats.lanes import Event, Packet
from gateway.formats.mkv import ebml
from gateway.formats.mkv.reader import MatroskaReader
from gateway.formats.mp4.stream import FragmentReader
from gateway.media.errors import InvalidData

MOST_SILENT: Final = 40_000_000  # bytes without a sample in them: more than one fragment

_BEGINNINGS: Final = frozenset((b"ftyp", b"styp", b"moov"))


class RecordingReader:
    """Bytes of one push, cut anywhere. A recording that begins anew on the same push opens again."""

    def __init__(self) -> None:
        self._first = b""
        self._reader: MatroskaReader | FragmentReader | None = None
        self._silent = 0

    def receive(self, data: bytes) -> list[Event]:
        """What these bytes complete. Raises InvalidData; then nothing more can be read."""
        if self._reader is None:
            self._first += data
            data = b""
            if self._begin():
                data, self._first = self._first, b""
        if self._reader is None:
            return []
        events = self._reader.receive(data)
        if any(isinstance(event, Packet) for event in events):
            self._silent = 0
        else:
            self._silent += len(data)
            if self._silent > MOST_SILENT:
                raise InvalidData(f"no picture and no sound in {self._silent} bytes")
        return events

    def _begin(self) -> bool:
        """Whether the first bytes are there and say which reader it is."""
        first = self._first
        if first.startswith(ebml.EBML):
            self._reader = MatroskaReader()
        elif len(first) >= 8 and first[4:8] in _BEGINNINGS:
            self._reader = FragmentReader()
        elif len(first) >= 8:
            raise InvalidData("the recording's beginning is missing: it starts with neither WebM's nor MP4's header")
        return self._reader is not None
