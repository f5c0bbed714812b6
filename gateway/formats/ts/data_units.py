"""Data of a program that are no media: cues, metadata and teletext."""

from dataclasses import dataclass
from typing import Final

from gateway.formats.ts.program_tables import StreamEntry, StreamUse

MAX_DATA: Final = 1 << 16  # bytes of a PES packet
_CUE_TABLE: Final = 0xFC  # SCTE 35 §9.6
_MIN_CUE: Final = 20  # bytes of a section without a command
METADATA_PES: Final = 0x15
_CELL_HEAD: Final = 5


@dataclass(frozen=True, slots=True)
class DataUnit:
    """One section or PES packet. pts: ticks of 90 kHz on the clock of the units; None: without time.

    Of a section, `pts` is the decode time of the last unit before it.

    payload: a `splice_info_section`; KLV sets; the data field of teletext (ETSI EN 300 472); or anything.
    """

    pid: int
    kind: StreamUse
    pts: int | None
    payload: bytes


class DataTrack:
    """Makes a data unit of each PES packet of one stream."""

    format = None  # as `SoundTrack.format`: nothing is converted

    def __init__(self, entry: StreamEntry) -> None:
        self.name = entry.codec
        self._entry = entry

    def take(self, payload: bytes, pts: int | None, dts: int | None) -> list[DataUnit]:
        """Returns the unit of a PES packet."""
        if self._entry.use is StreamUse.KLV and self._entry.stream_type == METADATA_PES:
            payload = _cell_data(payload)
        return [DataUnit(self._entry.pid, self._entry.use, pts, payload)] if payload else []

    def flush(self) -> list[DataUnit]:
        """Returns nothing: each unit was complete."""
        return []

    def restart(self) -> None:
        """Does nothing: units are independent."""


def is_cue(section: bytes) -> bool:
    return section[0] == _CUE_TABLE and len(section) >= _MIN_CUE


def _cell_data(payload: bytes) -> bytes:
    """Returns the data of metadata cells without their headers (§2.12.4.2)."""
    data, at = [], 0
    while at + _CELL_HEAD <= len(payload):
        begin = at + _CELL_HEAD
        at = begin + int.from_bytes(payload[begin - 2 : begin], "big")
        data.append(payload[begin:at])
    return b"".join(data)
