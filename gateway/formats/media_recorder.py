"""Reads the recording of a browser's MediaRecorder: WebM or fragmented MP4, detected by the first bytes."""

from typing import Final

from gateway.formats.mkv import ebml
from gateway.formats.mkv.reader import MatroskaReader
from gateway.formats.mp4.stream import FragmentReader
from gateway.formats.recording import Event, Packet
from gateway.media.errors import InvalidData

MAX_BYTES_WITHOUT_SAMPLE: Final = 40_000_000  # more than one fragment

_BEGINNINGS: Final = frozenset((b"ftyp", b"styp", b"moov"))


class RecordingReader:
    """Reads the bytes of one push, in pieces of any size. One push may contain several recordings."""

    def __init__(self) -> None:
        self._first = b""
        self._reader: MatroskaReader | FragmentReader | None = None
        self._bytes_without_sample = 0

    def receive(self, data: bytes) -> list[Event]:
        """Returns the events that these bytes complete. Raises InvalidData; then the reader is no longer usable."""
        if self._reader is None:
            self._first += data
            self._reader = _reader_of(self._first)
            if self._reader is None:
                return []
            data, self._first = self._first, b""
        events = self._reader.receive(data)
        if any(isinstance(event, Packet) for event in events):
            self._bytes_without_sample = 0
        else:
            self._bytes_without_sample += len(data)
            if self._bytes_without_sample > MAX_BYTES_WITHOUT_SAMPLE:
                raise InvalidData(f"no picture and no sound in {self._bytes_without_sample} bytes")
        return events


def _reader_of(first: bytes) -> MatroskaReader | FragmentReader | None:
    """Chooses the reader. Returns None while too few bytes have arrived."""
    if first.startswith(ebml.EBML):
        return MatroskaReader()
    if len(first) >= 8 and first[4:8] in _BEGINNINGS:
        return FragmentReader()
    if len(first) >= 8:
        raise InvalidData("the recording's beginning is missing: it starts with neither WebM's nor MP4's header")
    return None
