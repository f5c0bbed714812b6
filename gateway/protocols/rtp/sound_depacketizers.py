"""Joins the payloads of RTP packets to frames of MP2, MP3 (RFC 2250 §3.5), AC-3 (RFC 4184) and LATM (RFC 6416)."""

from collections.abc import Callable
from typing import Final

from gateway.media import ac3, mp3
from gateway.media.clock import VIDEO_CLOCK
from gateway.media.errors import InvalidData
from gateway.media.latm import LatmReader
from gateway.media.track import ForeignSound
from gateway.protocols.rtp.depacketizers import AssembledFrame
from gateway.protocols.rtp.packets import RtpPacket

MP3_HEADER: Final = 4  # bytes: two that must be zero, two of the fragment's offset
AC3_HEADER: Final = 2  # bytes: the type of the frames in two bits, and their number
_MAX_FRAMES: Final = 64  # in one packet
_MAX_ELEMENT: Final = 65_536  # bytes of LATM that wait for their end


class MpegAudioDepacketizer:
    """Reads packets with frames, or with a part of one. Timestamps have 90 kHz at any rate (RFC 3551 §4.5.13).

    on_layer_2: called before the first frame of Layer II, with its format. Descriptions do not tell the layer.
    """

    def __init__(self, on_layer_2: Callable[[ForeignSound], None] | None = None) -> None:
        self._part = bytearray()
        self._on_layer_2 = on_layer_2

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
            layer = max(mp3.LAYER_2, mp3.layer_of(data[at : at + 4]))
            size = mp3.frame_bytes(data[at : at + 4], layer)
            if at + size > len(data):
                if at:
                    self._part.clear()
                    raise InvalidData("an MPEG audio packet that is cut short")
                return []  # the rest of the frame follows
            header = mp3.parse_header(data[at : at + 4], layer)
            if layer == mp3.LAYER_2 and self._on_layer_2 is not None:
                self._on_layer_2(ForeignSound("mp2", header.rate, header.channels))
                self._on_layer_2 = None
            frames.append(AssembledFrame(packet.timestamp, data[at : at + size], ticks))
            ticks += header.samples * VIDEO_CLOCK // header.rate
            at += size
        self._part.clear()
        return frames

    def lost(self) -> None:
        self._part.clear()


class Ac3Depacketizer:
    """Reads packets with syncframes, or with a part of one. Timestamps count samples."""

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


class LatmDepacketizer:
    """AAC in audioMuxElements, of which each ends at a packet with the marker (§6.1). GStreamer sends AAC so.

    frame_samples: ticks of the timestamps in one frame.
    """

    def __init__(self, reader: LatmReader, frame_samples: int) -> None:
        self._reader, self._frame_samples = reader, frame_samples
        self._part = bytearray()
        self._timestamp = 0

    def push(self, packet: RtpPacket) -> list[AssembledFrame]:
        if packet.timestamp != self._timestamp:
            self._part.clear()
            self._timestamp = packet.timestamp
        self._part += packet.payload
        if len(self._part) > _MAX_ELEMENT:
            self._part.clear()
            raise InvalidData(f"an audioMuxElement of more than {_MAX_ELEMENT} bytes")
        if not packet.marker:
            return []
        element = bytes(self._part)
        self._part.clear()
        frames = self._reader.read(element)
        return [AssembledFrame(packet.timestamp, f, n * self._frame_samples) for n, f in enumerate(frames) if f]

    def lost(self) -> None:
        self._part.clear()
