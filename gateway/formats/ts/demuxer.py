"""Reads the transport streams that `TsMuxer` writes: joins packets to PES packets, strictly and within bounds.

The § numbers refer to ISO/IEC 13818-1.
"""

import re
import struct
from dataclasses import dataclass
from typing import Final

from gateway.formats.ts import psi
from gateway.formats.ts.muxer import AUDIO_PID, AUDIO_TYPES, VIDEO_PID, VIDEO_TYPES
from gateway.formats.ts.packets import PACKET
from gateway.formats.ts.pes import parse_pes
from gateway.formats.ts.program_tables import PMT_TABLE, check_section, parse_pmt
from gateway.media.errors import InvalidData
from gateway.media.track import Codec

MAX_PES: Final = 24 << 20  # bytes of packets; the largest RTMP message is smaller

_TYPES: Final = {kind: codec for codec, (kind, _) in (VIDEO_TYPES | AUDIO_TYPES).items()}
# Bits of the second and fourth byte of a packet.
_ERROR, _START, _RANDOM_ACCESS = 0x80, 0x40, 0x40
_PAYLOAD, _ADAPTATION = 0x10, 0x20
_UPPER: Final = bytes(n & 0xF0 for n in range(256))
_LOWER: Final = bytes(n & 0x0F for n in range(256))
_BLOCK: Final = 64  # packets that one call splits
_CUT: Final = [struct.Struct("4x184s" * n) for n in range(_BLOCK + 1)]
_COUNTERS: Final = bytes(n & 15 for n in range(16 + _BLOCK))
# Runs of packets that contain only payload and continue a PES packet: three bytes of each header.
_RUNS: Final = {
    pid: re.compile(b"(?:" + re.escape(bytes((pid >> 8, pid & 0xFF, _PAYLOAD))) + b"){1,%d}" % _BLOCK)
    for pid in (VIDEO_PID, AUDIO_PID)
}


@dataclass(slots=True)
class Pes:
    """One PES packet. pts, dts: 33-bit ticks of 90 kHz. key: its `random_access_indicator`."""

    video: bool
    pts: int
    dts: int
    key: bool
    payload: bytes


@dataclass(slots=True)
class _OpenPes:
    """The open PES packet of one PID. counter: of the last packet with payload; -1: none yet."""

    counter: int = -1
    key: bool = False
    pieces: list[bytes] | None = None
    size: int = 0


class TsDemuxer:
    """Reads one segment: PAT and PMT first, then whole packets of one video and one audio PID.

    video, audio: the codecs of the PMT.
    Memory: a PES packet of each PID, at most MAX_PES each. Raises InvalidData for all that TsMuxer does not write.
    """

    def __init__(self) -> None:
        self.video: Codec | None = None
        self.audio: Codec | None = None
        self._rest = b""
        self._jumped = False  # then packets may continue a PES packet whose start was not read
        self._has_pmt = False
        self._streams: dict[int, _OpenPes] = {}

    def receive(self, data: bytes) -> list[Pes]:
        """Reads bytes, cut anywhere. Returns the PES packets that they complete."""
        data = self._rest + data if self._rest else data
        count = len(data) // PACKET
        whole = count * PACKET
        self._rest = data[whole:]
        if data[0:whole:PACKET].count(b"\x47") != count or self._rest[:1] not in (b"", b"\x47"):
            raise InvalidData("MPEG-TS: no sync byte")
        heads = bytearray(3 * count)
        fourth = data[3:whole:PACKET]
        heads[0::3], heads[1::3] = data[1:whole:PACKET], data[2:whole:PACKET]
        heads[2::3] = fourth.translate(_UPPER)
        counters = fourth.translate(_LOWER)
        found: list[Pes] = []
        n = 0
        while n < count:
            pid = int.from_bytes(heads[3 * n : 3 * n + 2], "big") & 0x1FFF
            run = _RUNS[pid].match(heads, 3 * n) if pid in _RUNS else None
            if run is None:
                self._read_packet(pid, data[n * PACKET : (n + 1) * PACKET], found)
                n += 1
                continue
            length = (run.end() - 3 * n) // 3
            stream = self._streams.get(pid)
            if stream is None or stream.pieces is None:
                self._check_jumped(stream)
                n += length
                continue
            first = stream.counter + 1 & 15
            if counters[n : n + length] != _COUNTERS[first : first + length]:
                raise InvalidData("MPEG-TS: packets are missing")
            stream.counter = first + length - 1 & 15
            self._add(stream, _CUT[length].unpack_from(data, n * PACKET), PACKET * length)
            n += length
        return found

    def jump(self) -> None:
        """Continues at another packet of the segment. The rest of a PES packet that began before it is left out."""
        self._rest = b""
        self._jumped = True
        for stream in self._streams.values():
            stream.pieces, stream.counter = None, -1

    def finish(self) -> list[Pes]:
        """Returns the last PES packet of each PID. Raises InvalidData if the data end inside a packet."""
        if self._rest:
            raise InvalidData("MPEG-TS: a packet is cut short")
        return [pes for pid in self._streams if (pes := self._close(pid)) is not None]

    def _read_packet(self, pid: int, packet: bytes, found: list[Pes]) -> None:
        """Reads a packet that starts a PES packet, ends one, has a table or only a clock."""
        flags, control = packet[1], packet[3] & 0xF0
        if flags & _ERROR or control not in (_PAYLOAD, _ADAPTATION, _PAYLOAD | _ADAPTATION):
            raise InvalidData("MPEG-TS: a damaged or scrambled packet")
        at, random_access = 4, False
        if control & _ADAPTATION:
            at = 5 + packet[4]
            if at > PACKET:
                raise InvalidData("MPEG-TS: an adaptation field that exceeds its packet")
            random_access = packet[4] > 0 and bool(packet[5] & _RANDOM_ACCESS)
        if pid in (psi.PAT_PID, psi.PMT_PID):
            self._read_table(pid, packet[at:])
            return
        stream = self._streams.get(pid)
        if stream is None:
            raise InvalidData(f"MPEG-TS: a packet of PID {pid}, which the PMT does not have")
        if not control & _PAYLOAD:
            return  # only a clock
        if stream.pieces is None and not flags & _START:
            self._check_jumped(stream)
            return
        if stream.counter >= 0 and packet[3] & 15 != stream.counter + 1 & 15:
            raise InvalidData("MPEG-TS: packets are missing")
        stream.counter = packet[3] & 15
        if flags & _START:
            if (pes := self._close(pid)) is not None:
                found.append(pes)
            stream.pieces, stream.size, stream.key = [], 0, random_access
        self._add(stream, (packet[at:],), PACKET)

    def _check_jumped(self, stream: _OpenPes | None) -> None:
        if stream is None or not self._jumped:
            raise InvalidData("MPEG-TS: payload without the start of a PES packet")

    @staticmethod
    def _add(stream: _OpenPes, pieces: tuple[bytes, ...], size: int) -> None:
        assert stream.pieces is not None  # both callers have checked it
        stream.size += size
        if stream.size > MAX_PES:
            raise InvalidData(f"MPEG-TS: a PES packet of more than {MAX_PES} bytes")
        stream.pieces += pieces

    def _close(self, pid: int) -> Pes | None:
        stream = self._streams[pid]
        pieces, stream.pieces = stream.pieces, None
        return None if pieces is None else _pes(pid == VIDEO_PID, stream.key, b"".join(pieces))

    def _read_table(self, pid: int, payload: bytes) -> None:
        """Reads PAT or PMT. Only the first tables count, because TsMuxer repeats them unchanged."""
        if pid == psi.PAT_PID or self._has_pmt:
            return
        length = 3 + (int.from_bytes(payload[2:4], "big") & 0xFFF)
        section = payload[1 : 1 + length]
        if payload[:1] != b"\0" or not 16 <= length == len(section):
            raise InvalidData("MPEG-TS: a PMT that we do not write")
        check_section(section, PMT_TABLE)
        self._has_pmt = True
        for entry in parse_pmt(section).streams:
            codec = _TYPES.get(entry.stream_type)
            if codec is None or entry.pid != (VIDEO_PID if codec in VIDEO_TYPES else AUDIO_PID):
                raise InvalidData(f"MPEG-TS: stream type {entry.stream_type} with PID {entry.pid}")
            if codec in VIDEO_TYPES:
                self.video = codec
            else:
                self.audio = codec
            self._streams[entry.pid] = _OpenPes()


def _pes(video: bool, key: bool, data: bytes) -> Pes:
    """Reads a PES packet (§2.4.3.7) with the header that TsMuxer writes: it has a time, and its exact length."""
    pts, dts, payload = parse_pes(data)
    length = int.from_bytes(data[4:6], "big")
    if pts is None or dts is None or (length and length != len(data) - 6) or not (length or video):
        raise InvalidData("MPEG-TS: a PES packet that we do not write")
    return Pes(video, pts, dts, key, payload)
