"""Joins the payloads of RTP packets to access units: H.264, H.265, AAC, and sound of one frame in each packet."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Final, Protocol

from gateway.media import aac, h264, h265, nal
from gateway.media.errors import InvalidData
from gateway.media.nal_codec import NAL_CODECS
from gateway.media.nal_samples import has_recovery_point, units_inside
from gateway.media.track import Codec
from gateway.protocols.rtp.packets import RtpPacket

MAX_FRAME: Final = 8_000_000  # bytes of one access unit
PACKET_COST: Final = 64  # bytes that Python needs beside each payload; counted, so that tiny packets are bounded, too
_MAX_FRAMES: Final = 64  # AAC frames in one packet
_MAX_AAC_FRAME: Final = 8_191  # bytes: AAC-hbr has sizes of 13 bits (RFC 3640 §3.3.6), whatever the description says

# H.265, table 7-1: pictures at which decoding can start, and pictures that a decoder skips if it starts there.
_FIRST_IRAP, _LAST_IRAP = 16, 21
_RASL: Final = (8, 9)


@dataclass(slots=True)
class AssembledFrame:
    """The bytes of one access unit. Do not modify it. (`frozen` would be slower.)

    offset: samples after the packet's timestamp. key: whether decoding can start here; true for every frame of sound.
    leading: refers to pictures before the last key frame. It is skipped if decoding starts at that key frame.
    payload: H.264 and H.265 in Annex B form; AV1 as a temporal unit of OBUs with sizes, without delimiter.
    """

    timestamp: int
    payload: bytes
    offset: int = 0
    key: bool = True
    leading: bool = False


class Depacketizer(Protocol):
    """Joins packets that come in order. `lost` is called where packets are missing."""

    def push(self, packet: RtpPacket) -> list[AssembledFrame]:
        """Returns the units that are complete. The payload must not be empty. Raises InvalidData."""

    def lost(self) -> None:
        """Drops the unfinished unit."""


class ResumableDepacketizer(Depacketizer, Protocol):
    """A depacketizer that finds where decoding can start again after a loss."""

    def begins_key(self, payload: bytes) -> bool:
        """Whether this payload is surely the first of a key frame."""


class PictureDepacketizer(ABC):
    """The common part for pictures of several packets. A picture ends at the packet with the marker."""

    def __init__(self) -> None:
        self._timestamp = 0
        self.lost()

    def push(self, packet: RtpPacket) -> list[AssembledFrame]:
        done: list[AssembledFrame] = []
        if packet.timestamp != self._timestamp:
            done = self._finish()  # a sender without markers
            self._timestamp = packet.timestamp
        payload = packet.payload
        self._size += len(payload) + PACKET_COST
        if self._size > MAX_FRAME:
            self.lost()
            raise InvalidData(f"a picture of more than {MAX_FRAME} bytes")
        self._add(payload)
        return done + self._end() if packet.marker else done

    def lost(self) -> None:
        self._size = 0

    def _end(self) -> list[AssembledFrame]:
        """Takes the marker, which ends the picture. Raises InvalidData if it is not complete."""
        return self._finish()

    @abstractmethod
    def _add(self, payload: bytes) -> None:
        """Adds the payload of one packet. Raises InvalidData."""

    @abstractmethod
    def _finish(self) -> list[AssembledFrame]:
        """Ends the picture, and returns it if there is one. Raises InvalidData if it is not complete."""


@dataclass(frozen=True, slots=True)
class _NalFormat:
    """The payload format of a codec.

    header: bytes of a NAL unit's header. shift, mask: of the type in its first byte. single: types that are sent alone.
    aggregation, fragments: types of packets with several units, and with a part of one.
    begins: types of the units that begin a key frame, after a `delimiter`. reserved: types without meaning.
    """

    header: int
    shift: int
    mask: int
    single: frozenset[int]
    aggregation: int
    fragments: int
    delimiter: int
    begins: tuple[int, ...]
    reserved: frozenset[int]


# RFC 6184 §5.2, table 1: STAP-A and FU-A. RFC 7798 §4.4.
_H264: Final = _NalFormat(1, 0, 0x1F, frozenset(range(1, 24)), 24, 28, h264.AUD, (h264.SPS,), frozenset((0, 30, 31)))
_H265: Final = _NalFormat(
    2, 1, 0x3F, frozenset(range(48)), 48, 49, h265.AUD, (h265.VPS, h265.SPS), frozenset(range(51, 64))
)


class NalDepacketizer(PictureDepacketizer):
    """H.264 (RFC 6184, packetization modes 0 and 1) and H.265 (RFC 7798).

    STAP-B, MTAP and FU-B belong to the interleaved mode, which we do not offer: they are errors.

    Units without a slice wait for the next picture: Reolink cameras send parameter sets with their own marker, or with
    the timestamp of the picture before. After a marker inside a picture, all pictures end where the timestamp changes:
    OpenIPC cameras set it on each slice.

    doubts_marker: whether the first picture also ends so. It is whole then, even if it has such markers.
    """

    def __init__(self, *, h265: bool, doubts_marker: bool = False) -> None:
        super().__init__()
        self._h265 = h265
        self._format = _H265 if h265 else _H264
        self._codec = NAL_CODECS[Codec.H265 if h265 else Codec.H264]
        self._doubts_marker = doubts_marker
        self._has_early_marker = False
        self._marked: int | None = None  # the timestamp of a slice with a marker, up to the next slice

    def lost(self) -> None:
        self._units: list[bytes] = []
        self._fragments: list[bytes] = []
        self._searched = 0  # number of units that are no slice and hide none
        self._size = 0

    def begins_key(self, payload: bytes) -> bool:
        """Parameter sets come first in a key frame, or after a delimiter in an aggregation packet."""
        form = self._format
        kind, at = payload[0] >> form.shift & form.mask, form.header + 2
        if kind == form.aggregation and len(payload) > at:
            kind = payload[at] >> form.shift & form.mask
            behind = at + (payload[at - 2] << 8 | payload[at - 1]) + 2
            if kind == form.delimiter and len(payload) > behind:
                kind = payload[behind] >> form.shift & form.mask
        return kind in form.begins

    def is_reserved(self, payload: bytes) -> bool:
        """Whether a packet has a type without meaning. VStarCam cameras send data of their own so."""
        form = self._format
        return payload[0] >> form.shift & form.mask in form.reserved

    def _add(self, payload: bytes) -> None:
        form = self._format
        header = form.header
        kind = payload[0] >> form.shift & form.mask
        if kind == form.fragments and len(payload) > header:  # some cameras send empty fragments
            flags = payload[header]
            if flags & 0x80:
                # The type of the unit replaces that of the packet.
                first = payload[0] & ~(form.mask << form.shift) | (flags & form.mask) << form.shift
                self._begin_fragments(bytes((first,)) + payload[1:header])
            self._add_fragment(flags, payload[header + 1 :])
        elif self._h265 and len(payload) < 3:
            raise InvalidData(f"an RTP packet of {len(payload)} bytes")
        elif kind in form.single:
            self._add_unit(payload)
        elif kind == form.aggregation:
            self._add_aggregate(payload, header)
        else:
            raise InvalidData(f"an RTP packet of type {kind}")

    def _add_unit(self, unit: bytes) -> None:
        if self._fragments:
            raise InvalidData("a fragmented NAL unit without its end")
        if len(self._units) == nal.MAX_UNITS:
            raise InvalidData(f"a picture of more than {nal.MAX_UNITS} NAL units")
        if self._marked == self._timestamp and self._is_slice(unit):
            self._has_early_marker |= not self._is_first(unit)
            self._marked = None  # pictures of GStreamer may have the same timestamp
        self._units.append(unit)

    def _is_slice(self, unit: bytes) -> bool:
        return self._codec.type_of(unit) in self._codec.slices

    def _is_first(self, slice_: bytes) -> bool:
        """Whether it is the first slice of its picture."""
        # The bit after the header is 1 there (first_mb_in_slice 0, first_slice_segment_in_pic_flag 1).
        return slice_[self._format.header :] >= b"\x80"

    def _add_aggregate(self, payload: bytes, at: int) -> None:
        while at + 2 < len(payload):
            size = payload[at] << 8 | payload[at + 1]
            unit = payload[at + 2 : at + 2 + size]
            if not size or len(unit) != size:
                raise InvalidData("an aggregation packet that is cut short")
            self._add_unit(unit)
            at += 2 + size

    def _begin_fragments(self, head: bytes) -> None:
        if self._fragments:
            raise InvalidData("a fragmented NAL unit without its end")
        self._fragments = [head]

    def _add_fragment(self, flags: int, data: bytes) -> None:
        if not self._fragments:
            raise InvalidData("a fragmented NAL unit without its begin")
        self._fragments.append(data)
        if flags & 0x40:
            unit, self._fragments = b"".join(self._fragments), []
            self._add_unit(unit)

    def _end(self) -> list[AssembledFrame]:
        if self._units and self._is_slice(self._units[-1]):
            self._marked = self._timestamp
        return [] if self._doubts_marker or self._has_early_marker else self._finish()

    def _finish(self) -> list[AssembledFrame]:
        units, open_unit, size, searched = self._units, self._fragments, self._size, self._searched
        self.lost()
        if open_unit:
            raise InvalidData("a picture that ends inside a NAL unit")
        new = units[searched:]
        first = next(filter(self._is_slice, new), None)
        if first is None and (inside := units_inside(self._codec, new)):
            units[searched:] = inside
            first = next(filter(self._is_slice, inside))
        if first is None:
            self._units, self._size, self._searched = units, size, len(units)
            return []
        kind = self._codec.type_of(first)
        key = _FIRST_IRAP <= kind <= _LAST_IRAP if self._h265 else kind == h264.SLICE_IDR
        if not key and not self._h265:  # with intra refresh or an open GOP, no IDR picture comes after the first one
            key = has_recovery_point(units, [unit[0] & 0x1F for unit in units])
        if self._is_first(first):
            self._doubts_marker = False
        elif key:  # GStreamer repeats parameter sets before each slice, so they may come after a lost first slice.
            raise InvalidData("a key frame without its first slice")
        return [AssembledFrame(self._timestamp, nal.join_annexb(units), 0, key, self._h265 and kind in _RASL)]


class AacDepacketizer:
    """AAC in mode AAC-hbr or AAC-lbr (RFC 3640). frame_samples: ticks of the timestamps in one frame.

    Some cameras send frames with ADTS headers, also in place of the headers of the mode.

    size_bits, index_bits: fields of the header of each frame. Raises InvalidData unless they fill whole bytes, or there
    is no index: some senders leave it out.
    """

    def __init__(self, size_bits: int, index_bits: int, frame_samples: int) -> None:
        header_bits = size_bits + index_bits
        if not size_bits or (index_bits and header_bits % 8) or header_bits > 32:
            raise InvalidData("AAC headers that are not whole bytes")
        self._header_bits = header_bits
        self._size_bits = size_bits
        self._frame_samples = frame_samples
        self._fragment = bytearray()
        self._fragment_timestamp = 0

    def push(self, packet: RtpPacket) -> list[AssembledFrame]:
        payload = packet.payload
        if packet.timestamp != self._fragment_timestamp:
            # RFC 3640 §3.1: the timestamp is that of the first access unit of the packet, so all fragments of a frame
            # share it. These are of an earlier frame, whose begin or end was lost.
            self._fragment.clear()
            self._fragment_timestamp = packet.timestamp
        if len(payload) < 2:
            raise InvalidData("an AAC packet without headers")
        if (found := _without_adts(payload)) != [payload]:
            return [AssembledFrame(packet.timestamp, f, n * self._frame_samples) for n, f in enumerate(found)]
        header_bytes = ((payload[0] << 8 | payload[1]) + 7) // 8
        bits, data, frames = 8 * header_bytes, 2 + header_bytes, []
        if bits > _MAX_FRAMES * self._header_bits + 7:
            raise InvalidData("an AAC packet with too many frames")
        headers = int.from_bytes(payload[2:data].ljust(header_bytes, b"\0"), "big")
        for begin in range(0, bits - self._header_bits + 1, self._header_bits):
            size = headers >> (bits - begin - self._size_bits) & (1 << self._size_bits) - 1
            if size > _MAX_AAC_FRAME:
                raise InvalidData(f"an AAC frame of {size} bytes")
            frame = payload[data : data + size]
            data += size
            if len(frame) < size:  # a frame over several packets
                self._fragment += frame
                if len(self._fragment) < size:
                    return []
                frame = bytes(self._fragment[:size])
                self._fragment.clear()
            frames += _without_adts(frame)
        return [AssembledFrame(packet.timestamp, f, n * self._frame_samples) for n, f in enumerate(frames) if f]

    def lost(self) -> None:
        self._fragment.clear()


def _without_adts(data: bytes) -> list[bytes]:
    """Returns the raw frames of AAC. A raw frame never begins with 0xFF, which would be its end (ID_END)."""
    return aac.raw_frames(data) if data.startswith(b"\xff") else [data]


class FrameDepacketizer:
    """Sound with one frame in each packet: Opus (RFC 7587), G.711 and PCM (RFC 3551)."""

    def push(self, packet: RtpPacket) -> list[AssembledFrame]:
        return [AssembledFrame(packet.timestamp, packet.payload)]

    def lost(self) -> None:
        """Does nothing, because no frame is ever unfinished."""

    def begins_key(self, payload: bytes) -> bool:
        """Decoding can start at each packet."""
        return True
