"""Joins the payloads of RTP packets to access units: H.264, H.265, AAC, and sound of one frame in each packet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

from gateway.media import nal
from gateway.media.errors import InvalidData
from gateway.protocols.rtp.packets import RtpPacket

_MAX_UNIT: Final = 8_000_000
_MAX_FRAMES: Final = 64  # of AAC in one packet


@dataclass(frozen=True, slots=True)
class Assembled:
    """The bytes of one access unit. offset: samples from the packet's timestamp. Video is in Annex B form."""

    timestamp: int
    payload: bytes
    offset: int = 0


class Depacketizer(Protocol):
    """Joins packets that come in order. `lost` is called where packets are missing."""

    def push(self, packet: RtpPacket) -> list[Assembled]:
        """Returns the units that are complete. Raises InvalidData."""

    def lost(self) -> None:
        """Drops the unfinished unit."""


class NalDepacketizer:
    """H.264 (RFC 6184, packetization modes 0 and 1) and H.265 (RFC 7798). A unit ends at its marker."""

    def __init__(self, *, h265: bool) -> None:
        self._h265 = h265
        self._units: list[bytes] = []
        self._fragments: list[bytes] = []
        self._size = 0
        self._timestamp: int | None = None

    def push(self, packet: RtpPacket) -> list[Assembled]:
        done: list[Assembled] = []
        if packet.timestamp != self._timestamp:
            done += self._finish()  # a sender without markers
            self._timestamp = packet.timestamp
        payload = packet.payload
        self._size += len(payload)
        if self._size > _MAX_UNIT:
            self.lost()
            raise InvalidData(f"a picture of more than {_MAX_UNIT} bytes")
        if self._h265:
            self._add_h265(payload)
        else:
            self._add_h264(payload)
        if packet.marker:
            done += self._finish()
        return done

    def lost(self) -> None:
        self._units, self._fragments, self._size = [], [], 0

    def _add_h264(self, payload: bytes) -> None:
        kind = payload[0] & 0x1F
        if 1 <= kind <= 23:
            self._units.append(payload)
        elif kind == 24:  # STAP-A
            self._add_aggregate(payload, 1)
        elif kind == 28 and len(payload) > 2:  # FU-A
            self._add_fragment(bytes(((payload[0] & 0xE0) | (payload[1] & 0x1F),)), payload[1], payload[2:])
        else:
            raise InvalidData(f"an RTP packet of type {kind}")

    def _add_h265(self, payload: bytes) -> None:
        if len(payload) < 3:
            raise InvalidData(f"an RTP packet of {len(payload)} bytes")
        kind = payload[0] >> 1 & 0x3F
        if kind < 48:
            self._units.append(payload)
        elif kind == 48:  # aggregation packet
            self._add_aggregate(payload, 2)
        elif kind == 49 and len(payload) > 3:  # fragmentation unit
            head = bytes((payload[0] & 0x81 | (payload[2] & 0x3F) << 1, payload[1]))
            self._add_fragment(head, payload[2], payload[3:])
        else:
            raise InvalidData(f"an RTP packet of type {kind}")

    def _add_aggregate(self, payload: bytes, at: int) -> None:
        while at + 2 < len(payload):
            size = payload[at] << 8 | payload[at + 1]
            unit = payload[at + 2 : at + 2 + size]
            if not size or len(unit) != size:
                raise InvalidData("an aggregation packet that is cut short")
            self._units.append(unit)
            at += 2 + size

    def _add_fragment(self, head: bytes, flags: int, data: bytes) -> None:
        if flags & 0x80:
            self._fragments = [head, data]
        elif self._fragments:
            self._fragments.append(data)
        if flags & 0x40 and self._fragments:
            self._units.append(b"".join(self._fragments))
            self._fragments = []

    def _finish(self) -> list[Assembled]:
        units, timestamp = self._units, self._timestamp
        self.lost()
        return [Assembled(timestamp, nal.join_annexb(units))] if units and timestamp is not None else []


class AacDepacketizer:
    """AAC in mode AAC-hbr or AAC-lbr (RFC 3640). frame_samples: of one frame, in ticks of the timestamps."""

    def __init__(self, size_bits: int, index_bits: int, frame_samples: int) -> None:
        """size_bits, index_bits: of each header of a frame. Raises InvalidData for other than whole bytes."""
        if not size_bits or (size_bits + index_bits) % 8 or size_bits + index_bits > 32:
            raise InvalidData("AAC headers that are not whole bytes")
        self._header = (size_bits + index_bits) // 8
        self._index_bits = index_bits
        self._frame_samples = frame_samples
        self._fragment = b""

    def push(self, packet: RtpPacket) -> list[Assembled]:
        payload = packet.payload
        if len(payload) < 2:
            raise InvalidData("an AAC packet without headers")
        header_bytes = ((payload[0] << 8 | payload[1]) + 7) // 8
        at, end = 2, 2 + header_bytes
        data, frames = end, []
        if header_bytes > _MAX_FRAMES * self._header:
            raise InvalidData("an AAC packet with too many frames")
        while at + self._header <= end:
            size = int.from_bytes(payload[at : at + self._header], "big") >> self._index_bits
            at += self._header
            frame = payload[data : data + size]
            data += size
            if len(frame) < size:  # a frame over several packets
                self._fragment += frame
                if len(self._fragment) < size:
                    return []
                frame, self._fragment = self._fragment[:size], b""
            frames.append(frame)
        return [Assembled(packet.timestamp, f, n * self._frame_samples) for n, f in enumerate(frames) if f]

    def lost(self) -> None:
        self._fragment = b""


class FrameDepacketizer:
    """Sound whose packets are frames: Opus (RFC 7587), G.711 and PCM (RFC 3551)."""

    def push(self, packet: RtpPacket) -> list[Assembled]:
        return [Assembled(packet.timestamp, packet.payload)]

    def lost(self) -> None:
        """Nothing is unfinished."""
