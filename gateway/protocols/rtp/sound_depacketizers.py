"""Joins the payloads of RTP packets to frames of MP3 (RFC 2250 §3.5) and AC-3 (RFC 4184)."""

from typing import Final

from gateway.media import ac3, mp3
from gateway.media.clock import VIDEO_CLOCK
from gateway.media.errors import InvalidData
from gateway.protocols.rtp.depacketizers import AssembledFrame
from gateway.protocols.rtp.packets import RtpPacket

MP3_HEADER: Final = 4  # bytes: two that must be zero, two of the fragment's offset
AC3_HEADER: Final = 2  # bytes: the type of the frames in two bits, and their number
_MAX_FRAMES: Final = 64  # in one packet


class Mp3Depacketizer:
    """Whole frames, or a part of one. The timestamps have 90 kHz whatever the sound has (RFC 3551 §4.5.13)."""

    def __init__(self) -> None:
        self._part = bytearray()

    def push(self, packet: RtpPacket) -> list[AssembledFrame]:
        payload = packet.payload
        if len(payload) <= MP3_HEADER:
            raise InvalidData(f"an MPEG audio packet of {len(payload)} bytes")
        if offset := payload[2] << 8 | payload[3]:
            if offset != len(self._part):
                raise InvalidData("a part of an MPEG audio frame without the one before it")
        else:
            self._part.clear()
        self._part += payload[MP3_HEADER:]
        frames: list[AssembledFrame] = []
        at = ticks = 0
        data = bytes(self._part)
        while at < len(data) and len(frames) < _MAX_FRAMES:
            size = mp3.frame_bytes(data[at : at + 4])
            if at + size > len(data):
                if at:
                    self._part.clear()
                    raise InvalidData("an MPEG audio packet that is cut short")
                return []  # the rest of the frame follows
            header = mp3.parse_header(data[at : at + 4])
            frames.append(AssembledFrame(packet.timestamp, data[at : at + size], ticks))
            ticks += header.samples * VIDEO_CLOCK // header.rate
            at += size
        self._part.clear()
        return frames

    def lost(self) -> None:
        self._part.clear()


class Ac3Depacketizer:
    """Whole syncframes, or a part of one. The timestamps count samples."""

    def __init__(self) -> None:
        self._part = bytearray()

    def push(self, packet: RtpPacket) -> list[AssembledFrame]:
        payload = packet.payload
        if len(payload) <= AC3_HEADER:
            raise InvalidData(f"an AC-3 packet of {len(payload)} bytes")
        kind, data = payload[0] & 3, payload[AC3_HEADER:]
        if kind:  # §4.1.1: 1 and 2 are the first part of a frame, 3 a later one
            if kind < 3:
                self._part.clear()
            elif not self._part:
                raise InvalidData("a part of an AC-3 frame without the one before it")
            self._part += data
            size = ac3.syncframe_bytes(bytes(self._part[:16]))
            if len(self._part) < size:
                return []
            data = bytes(self._part[:size])
        self._part.clear()
        frames: list[AssembledFrame] = []
        at = offset = 0
        while at < len(data) and len(frames) < _MAX_FRAMES:
            size = ac3.syncframe_bytes(data[at : at + 16])
            if at + size > len(data):
                raise InvalidData("an AC-3 packet that is cut short")
            frames.append(AssembledFrame(packet.timestamp, data[at : at + size], offset))
            offset += ac3.parse_frame(data[at : at + 16]).samples
            at += size
        return frames

    def lost(self) -> None:
        self._part.clear()
