"""Joins payloads to PES packets, and reads their headers (§2.4.3.6)."""

from typing import Final, Protocol

from gateway.formats.ts.packets import PidReader, ProgramClock, TsCounters, ignore
from gateway.media.errors import InvalidData

_BODY: Final = 184
_PACKET, _SYNC = 188, 0x47
_PREFIX: Final = b"\0\0\1"  # packet_start_code_prefix
# §2.4.3.7: stream_id of packets without the optional header: program_stream_map, private_stream_2, ECM, EMM,
# DSM-CC, H.222.1 type E and program_stream_directory.
_PLAIN: Final = frozenset((0xBC, 0xBF, 0xF0, 0xF1, 0xF2, 0xF8, 0xFF))
_PADDING: Final = 0xBE
# PES packets of a PID that must end with stuffing, and only there, before stuffing is taken as their end.
PROOFS: Final = 30
_REFUTED: Final = -1 << 60
# StreamPack (3.2) writes the stuffing of a unit that fits into one packet over its PES header, and fills up behind it.
_LOST_HEADER: Final = b"\xff" * 16  # the least fill: as long as a PES header with a PTS, and an empty adaptation field
_CUT: Final = 3  # PES packets shorter than their length, without missing packets, before such ones are taken


def parse_pes(data: bytes) -> tuple[int | None, int | None, bytes]:
    """Reads a complete PES packet. Returns PTS, DTS (33-bit ticks of 90 kHz) and payload. Without DTS, it is the PTS.

    Bytes beyond `PES_packet_length` are left out. Raises InvalidData, also if bytes are missing.
    """
    if data[:3] != _PREFIX and data.endswith(_LOST_HEADER):
        return None, None, data.rstrip(b"\xff") if data[:1] == b"\0" else data[: -len(_LOST_HEADER)]
    length = int.from_bytes(data[4:6], "big")
    if data[:3] != _PREFIX or len(data) < 9 or (length and length > len(data) - 6):
        raise InvalidData("MPEG-TS: a PES packet is cut short")
    end = 6 + length if length else len(data)
    if data[3] == _PADDING:
        return None, None, b""
    if data[3] in _PLAIN:
        return None, None, data[6:end]
    stamps, start = data[7] >> 6, 9 + data[8]
    if stamps == 1 or start < (9, 0, 14, 19)[stamps] or start > end:
        raise InvalidData("MPEG-TS: a broken PES header")
    if not stamps:
        return None, None, data[start:end]
    pts = _stamp(data, 9)
    return pts, _stamp(data, 14) if stamps == 3 else pts, data[start:end]


def find_first_pts(data: bytes) -> int | None:
    """Returns the earliest PTS of the first PES packets of all PIDs, 33-bit ticks of 90 kHz; None: no packet has one.

    data: the beginning of a file. Reading ends where no packet begins.
    """
    found: dict[int, int] = {}
    for at in range(0, len(data) - _PACKET + 1, _PACKET):
        packet = data[at : at + _PACKET]
        if packet[0] != _SYNC:
            break
        pid, start = int.from_bytes(packet[1:3], "big") & 0x1FFF, 4
        if packet[3] & 0x20:  # adaptation_field_control, §2.4.3.2
            start += 1 + packet[4]
        header = packet[start : start + 14]
        begins = packet[1] & 0x40 and header[:3] == _PREFIX and len(header) == 14
        if begins and pid not in found and header[3] not in _PLAIN and header[7] & 0x80:
            found[pid] = _stamp(header, 9)
    return min(found.values(), default=None)


def _stamp(data: bytes, at: int) -> int:
    value = int.from_bytes(data[at : at + 5], "big")
    return value >> 3 & 0x1_C000_0000 | value >> 2 & 0x3FFF_8000 | value >> 1 & 0x7FFF


class PesTarget(Protocol):
    """One elementary stream, which takes the PES packets of a reader."""

    def take_pes(self, data: bytes, generation: int, *, continues: bool) -> None:
        """Takes a PES packet.

        generation: of the program's clock at its start. continues: whether the next one begins within a NAL unit, as
        far as its beginning has come.
        """

    def lose(self) -> None:
        """Learns that data are missing."""

    def scramble(self) -> None:
        """Learns that the stream is scrambled."""


class PesReader(PidReader):
    """Gives each PES packet of one PID to `target`, as soon as it is complete.

    A PES packet of known length is complete with its last byte. One without length (video) ends where the next one
    starts, which costs the time of a picture. But a muxer can only fill the last packet with stuffing. After PROOFS
    PES packets that had stuffing at their end and nowhere else, a packet with stuffing ends the PES packet. If this
    is wrong once, the PES packet is lost, and the rule is not used for this PID again.

    Some muxers write a wrong length: only 16 bits of a larger one, or too much. The first such PES packets are lost.
    Then the next one's start ends each.

    limit: bytes of a PES packet; a larger one is dropped.
    """

    def __init__(self, target: PesTarget, counters: TsCounters, clock: ProgramClock, limit: int) -> None:
        super().__init__()
        self._target = target
        self._counters = counters
        self._clock = clock
        self._limit = limit
        self._generation = 0
        self._pieces: list[bytes] | None = None
        self._last: bytes | None = None
        self._short = 0  # bytes that the pieces lack to be full packets
        self._wanted = 0  # bytes of the whole PES packet; 0: unknown
        self._is_exceeded = False  # whether a PES packet went on beyond its length
        self._cut = 0  # number of PES packets that ended before it
        self._stuffed_at = 0  # number of pieces when a packet had stuffing; 0: none had
        self._proofs = 0

    def take(self, payload: bytes, start: bool, stuffed: bool) -> None:
        if start:
            self._begin(payload)
        elif self._pieces is None:
            self.append(payload)  # it may refute the rule about stuffing
            return
        else:
            if self._stuffed_at:
                self._proofs = _REFUTED
            self._pieces.append(payload)
        assert self._pieces is not None, "set by _begin or checked"
        self._short += _BODY - len(payload)
        if stuffed:
            self._stuffed_at = len(self._pieces)
        self.settle()
        if stuffed and self._pieces is not None and not self._wanted and self._proofs >= PROOFS:
            self._close()
            self.append = self._refute

    def settle(self) -> None:
        if self._pieces is None:
            return
        size = _BODY * len(self._pieces) - self._short
        if size > self._limit:
            self._drop()
        elif self._wanted and size >= self._wanted and not self._is_exceeded:
            goes_on = size - len(self._pieces[-1]) >= self._wanted
            self._close()
            self.append = self._exceed
            if goes_on:
                self._exceed(b"")

    def last_payload(self) -> bytes | None:
        return self._pieces[-1] if self._pieces else self._last

    def lose(self) -> None:
        if self._pieces is not None:
            self._drop()
        self.append = ignore
        self._target.lose()

    def scramble(self) -> None:
        self._pieces, self.append = None, ignore
        self._target.scramble()

    def finish(self) -> None:
        """Ends the open PES packet: the data or the stream end.

        It is dropped if stuffing would have ended it: the data end within a picture, which decoders may refuse.
        """
        if self._pieces is not None and (self._wanted or self._proofs < PROOFS):
            self._close()

    def _begin(self, payload: bytes) -> None:
        if self._pieces is not None:
            if self._stuffed_at and not self._wanted:
                self._proofs = self._proofs + 1 if self._stuffed_at == len(self._pieces) else _REFUTED
            at = 9 + (payload[8] if len(payload) > 8 else 0)
            self._close(continues=payload[at : at + 2] not in (b"\0\0", b""))
        self._pieces, self._short, self._stuffed_at = [payload], 0, 0
        self.append = self._pieces.append
        self._generation = self._clock.generation
        # A header that is cut before its length is rare. Then the PES packet ends with the next one.
        length = int.from_bytes(payload[4:6], "big") if payload.startswith(_PREFIX) else 0
        self._wanted = 6 + length if length else 0

    def _close(self, *, continues: bool = False) -> None:
        assert self._pieces is not None, "callers have checked it"
        data = b"".join(self._pieces)
        if self._wanted and len(data) != self._wanted:
            data = self._corrected(data)
        self._last = self._pieces[-1]
        self._pieces, self.append = None, ignore
        self._target.take_pes(data, self._generation, continues=continues)

    def _corrected(self, data: bytes) -> bytes:
        """Returns a PES packet, without its length if that is known to be wrong."""
        more = len(data) - self._wanted
        self._cut += more < 0
        is_wrong = self._cut > _CUT if more < 0 else self._is_exceeded and not more & 0xFFFF
        return data[:4] + bytes(2) + data[6:] if is_wrong else data

    def _exceed(self, payload: bytes) -> None:
        """Takes what follows a PES packet that was complete by its length, which is wrong."""
        if self._is_exceeded:
            return  # the loop over packets has not learnt yet that `append` is another one
        self._is_exceeded = True
        self.append = ignore
        self._counters.damaged += 1
        self._target.lose()

    def _drop(self) -> None:
        self._pieces, self.append = None, ignore
        self._counters.damaged += 1
        self._target.lose()

    def _refute(self, payload: bytes) -> None:
        if self._proofs < 0:
            return  # the loop over packets has not learnt yet that `append` is another one
        self._proofs = _REFUTED
        self.append = ignore
        self._counters.damaged += 1
        self._target.lose()
