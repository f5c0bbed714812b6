"""Passes private data and ID3 of a transport stream on, as timed data of the stream."""

from __future__ import annotations

from typing import Final

from gateway.formats import id3
from gateway.formats.ts.data_units import METADATA_PES, DataUnit
from gateway.formats.ts.program_tables import StreamEntry, StreamUse
from gateway.media.clock import VIDEO_CLOCK
from gateway.media.timed_data import MAX_METADATA, MAX_PRIVATE, Metadata, PrivateData
from gateway.media.track import TimedData

PRIVATE_USES: Final = (StreamUse.KLV, StreamUse.PRIVATE)
_MAX_UNITS, _MAX_RATE = 60, 256_000  # units and bytes in a second of a stream
_WHOLE_CELL: Final = 0xDF  # §2.12.4.2: one complete cell, random access


class PrivateIntake:
    """Makes timed data of KLV, ID3 and unknown private data. Above 60 units or 256 kB a second, units are dropped.

    ID3 is timed metadata if it has a text of at most MAX_METADATA bytes. dropped: counts the dropped units.
    """

    def __init__(self) -> None:
        self.dropped = 0
        self._second = 0
        self._units = self._bytes = 0
        self._cells = 0

    def take(self, unit: DataUnit, entry: StreamEntry, dts: int, at: int | None) -> TimedData | None:
        """Returns the data of a unit; None if it is left out.

        dts: now, ticks on the stream's clock. at: the time of the unit; None: without time.
        """
        if unit.kind not in PRIVATE_USES:
            return None
        payload = self._cell(unit.payload) if unit.kind is StreamUse.KLV and is_cells(entry) else unit.payload
        second, size = dts // VIDEO_CLOCK, len(payload)
        if second != self._second:
            self._second, self._units, self._bytes = second, 0, 0
        if self._units >= _MAX_UNITS or self._bytes + size > _MAX_RATE or size > MAX_PRIVATE:
            self.dropped += 1
            return None
        self._units += 1
        self._bytes += size
        text = id3.read_text(payload)
        if text is not None and len(text.encode()) <= MAX_METADATA:
            return TimedData(dts, Metadata(text), VIDEO_CLOCK)
        data = PrivateData(unit.pid, entry.stream_type, entry.descriptors, at, payload)
        return TimedData(dts, data, VIDEO_CLOCK)

    def _cell(self, data: bytes) -> bytes:
        """Returns KLV in a metadata cell, as it was before the reader (ISO/IEC 13818-1 §2.12.4)."""
        self._cells = self._cells + 1 & 0xFF
        return bytes((0, self._cells, _WHOLE_CELL)) + len(data[:0xFFFF]).to_bytes(2, "big") + data[:0xFFFF]


def is_cells(entry: StreamEntry) -> bool:
    """Whether the payload of a stream has metadata cells, which the reader takes off."""
    return entry.stream_type == METADATA_PES
