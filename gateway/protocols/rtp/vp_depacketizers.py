"""Joins the payloads of RTP packets to VP8 frames (RFC 7741) and VP9 frames (RFC 9628)."""

from typing import Final

from gateway.media import vp9
from gateway.media.errors import InvalidData
from gateway.protocols.rtp.depacketizers import AssembledFrame, PictureDepacketizer

_MAX_LAYERS: Final = 8  # frames of a superframe (VP9, annex B)

# RFC 9628 §4.2, first byte of the descriptor.
_PICTURE_ID, _PREDICTED, _LAYERS, _FLEXIBLE, _BEGIN, _END, _STRUCTURE = 0x80, 0x40, 0x20, 0x10, 0x08, 0x04, 0x02


class Vp8Depacketizer(PictureDepacketizer):
    """A frame begins with the first packet of partition 0."""

    def lost(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0

    def begins_key(self, payload: bytes) -> bool:
        """The first bit of a key frame is 0 (RFC 6386 §9.1)."""
        if payload[0] & 0x17 != 0x10:
            return False
        try:
            return not payload[_vp8_descriptor(payload)] & 1
        except InvalidData:
            return False

    def _add(self, payload: bytes) -> None:
        begin = _vp8_descriptor(payload)
        if bool(self._parts) == (payload[0] & 0x17 == 0x10):  # S, and partition 0
            raise InvalidData("a VP8 frame without its begin, or with two")
        self._parts.append(payload[begin:])

    def _finish(self) -> list[AssembledFrame]:
        parts = self._parts
        self.lost()
        if not parts:
            return []
        frame = b"".join(parts)
        return [AssembledFrame(self._timestamp, frame, 0, vp9.vp8_frame_size(frame) is not None)]


class Vp9Depacketizer(PictureDepacketizer):
    """A frame of one layer, or a superframe of all spatial layers of a picture.

    A sender with spatial layers (scalable video) encodes a picture in several sizes. Each needs the smaller ones, so
    all become one superframe (VP9, annex B), as libvpx writes it.
    """

    def lost(self) -> None:
        self._layers: list[bytes] = []  # whole frames of lower layers
        self._parts: list[bytes] = []  # parts of the unfinished frame
        self._size = 0

    def begins_key(self, payload: bytes) -> bool:
        """Whether the payload begins the lowest layer of a key picture, which needs no other picture."""
        if payload[0] & (_BEGIN | _PREDICTED) != _BEGIN:
            return False
        if not payload[0] & _LAYERS:
            return True
        at = 1
        if payload[0] & _PICTURE_ID:
            at += 2 if len(payload) > 1 and payload[1] & 0x80 else 1
        return len(payload) > at and not payload[at] & 0x0F  # spatial layer 0, not predicted from a lower one

    def _add(self, payload: bytes) -> None:
        begin = _vp9_descriptor(payload)
        flags = payload[0]
        if bool(self._parts) == bool(flags & _BEGIN):
            raise InvalidData("a VP9 frame without its begin or its end")
        if len(self._layers) == _MAX_LAYERS:
            raise InvalidData(f"a picture of more than {_MAX_LAYERS} layers")
        self._parts.append(payload[begin:])
        if flags & _END:
            self._layers.append(b"".join(self._parts))
            self._parts = []

    def _finish(self) -> list[AssembledFrame]:
        layers, open_frame = self._layers, self._parts
        self.lost()
        if open_frame:
            raise InvalidData("a VP9 picture that ends inside a frame")
        if not layers:
            return []
        key = vp9.frame_size(layers[0]) is not None
        frame = layers[0] if len(layers) == 1 else _superframe(layers)
        return [AssembledFrame(self._timestamp, frame, 0, key)]


def _superframe(frames: list[bytes]) -> bytes:
    """Returns these frames, followed by their index (VP9, annex B.2)."""
    marker = bytes((0xC0 | 3 << 3 | len(frames) - 1,))  # sizes of four bytes
    sizes = [len(frame).to_bytes(4, "little") for frame in frames]
    return b"".join([*frames, marker, *sizes, marker])


def _vp8_descriptor(payload: bytes) -> int:
    """Returns where the frame's bytes begin (RFC 7741 §4.2). Raises InvalidData."""
    size = len(payload)
    begin = 1
    if payload[0] & 0x80 and size > 1:  # X
        flags = payload[1]
        begin = 2
        if flags & 0x80:  # I
            begin += 2 if size > 2 and payload[2] & 0x80 else 1
        if flags & 0x40:  # L
            begin += 1
        if flags & 0x30:  # T, K
            begin += 1
    if begin >= size:
        raise InvalidData(f"a VP8 packet of {size} bytes")
    return begin


def _vp9_descriptor(payload: bytes) -> int:
    """Returns where the frame's bytes begin (RFC 9628 §4.2). Raises InvalidData."""
    flags = payload[0]
    at = 1
    try:
        if flags & _PICTURE_ID:
            at += 2 if payload[at] & 0x80 else 1
        if flags & _LAYERS:
            at += 1 if flags & _FLEXIBLE else 2  # TL0PICIDX is absent in flexible mode
        if flags & _FLEXIBLE and flags & _PREDICTED:
            for n in range(3):
                at += 1
                if not payload[at - 1] & 1:  # N: another reference follows
                    break
                if n == 2:
                    raise InvalidData("a VP9 packet with more than three references")
        if flags & _STRUCTURE:
            at = _vp9_structure(payload, at)
    except IndexError:
        at = len(payload)
    if at >= len(payload):
        raise InvalidData(f"a VP9 packet of {len(payload)} bytes")
    return at


def _vp9_structure(payload: bytes, at: int) -> int:
    """Returns where the scalability structure ends (RFC 9628 §4.2.1). Raises IndexError if it is cut short."""
    first = payload[at]
    at += 1
    if first & 0x10:  # Y: width and height of each layer
        at += 4 * ((first >> 5) + 1)
    if first & 0x08:  # G: the pictures of a group
        pictures = payload[at]
        at += 1
        for _ in range(pictures):
            at += 1 + (payload[at] >> 2 & 3)
    return at
