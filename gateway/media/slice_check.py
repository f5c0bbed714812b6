"""Reads the first fields of the slices of H.264 and H.265. Encryption may leave the NAL units whole, but not these."""

from typing import Final

from gateway.lib.bit_reader import BitReader
from gateway.media import h264, nal
from gateway.media.errors import InvalidData
from gateway.media.nal_codec import NAL_CODECS
from gateway.media.track import Codec, MediaTrack

_HEAD: Final = 16  # bytes with the first fields of a slice
_FIRST_IRAP: Final = 16
_B: Final = 1  # slice_type modulo 5, H.264 Table 7-6


def has_readable_slice(track: MediaTrack, payload: bytes) -> bool | None:
    """Whether the first slice of a picture begins with values that the specification allows.

    None: no slice is found, or its codec has none. About half of encrypted pictures look readable.
    """
    found = _first_slice(track, payload)
    if found is None:
        return None
    try:
        return (_is_h264 if track.codec is Codec.H264 else _is_h265)(*found)
    except InvalidData:
        return False


def is_bidirectional(track: MediaTrack, payload: bytes) -> bool:
    """Whether a picture of H.264 is a B-frame. Of H.265, B slices are usual in pictures that are not reordered, too."""
    found = _first_slice(track, payload) if track.codec is Codec.H264 else None
    if found is None:
        return False
    bits, _ = found
    try:
        bits.skip(8)
        return bits.ue() == 0 and bits.ue() % 5 == _B
    except InvalidData:
        return False


def _first_slice(track: MediaTrack, payload: bytes) -> tuple[BitReader, int] | None:
    """Returns the begin of a picture's first slice, and the type of its NAL unit; None: there is none."""
    if track.codec not in NAL_CODECS or not track.config:
        return None
    codec = NAL_CODECS[track.codec]
    try:
        units = nal.views(payload, (track.config[codec.lengths] & 3) + 1)
    except (InvalidData, IndexError):
        return None
    first = next((unit for unit in units if codec.type_of(unit) in codec.slices), None)
    if first is None:
        return None
    return BitReader(nal.unescape(bytes(first[:_HEAD])), what="slice", error=InvalidData), codec.type_of(first)


def _is_h264(bits: BitReader, kind: int) -> bool:
    """Whether the fields of §7.3.3 are in range. Table 7-6: an IDR picture has slices of the types I and SI."""
    bits.skip(8)
    # first_mb_in_slice, slice_type, pic_parameter_set_id
    first, slice_type, parameters = bits.ue(), bits.ue(), bits.ue()
    is_known = slice_type % 5 in (2, 4) if kind == h264.SLICE_IDR else slice_type < 10
    return not first and slice_type < 10 and is_known and parameters < 256


def _is_h265(bits: BitReader, kind: int) -> bool:
    """Whether the fields of §7.3.6.1 are in range: the parameter set is below 64."""
    bits.skip(16)
    first = bits.flag()  # first_slice_segment_in_pic_flag
    bits.skip(kind >= _FIRST_IRAP)
    return bool(first) and bits.ue() < 64
