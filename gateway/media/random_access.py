"""Classifies key frames by the pictures that follow them: closed GOP, open GOP or intra refresh."""

from collections.abc import Callable
from enum import Enum
from functools import lru_cache
from typing import TypeAlias

from gateway.media import h264, nal
from gateway.media.errors import InvalidData
from gateway.media.nal_codec import NAL_CODECS
from gateway.media.track import Codec, MediaTrack

# nal_unit_type, ITU-T H.265 Table 7-1.
_BLA_W_LP, _IDR_N_LP, _CRA = 16, 20, 21
_FIRST_NON_VCL = 32  # the first type that is not a slice


class RandomAccess(Enum):
    """How a decoder can start with a picture that its encoder marks as a key frame.

    CLOSED: all following pictures can be decoded (IDR, BLA).
    CLEAN: all except leading pictures, if there are any. Decoders skip them (CRA, ITU-T H.265 §8.1.3).
    OPEN: like CLEAN, but in H.264, where only IDR pictures are sync samples. ISO/IEC 14496-15 §4.10 has another mark
    for recovery points.
    GRADUAL: the picture is incomplete, and the following pictures complete it (intra refresh).
    """

    CLOSED = 1
    CLEAN = 2
    OPEN = 3
    GRADUAL = 4


RandomAccessOf: TypeAlias = Callable[[bytes], RandomAccess]


@lru_cache(maxsize=64)  # callers ask for each key frame, and a record may have 32,000 parameter sets
def random_access_of(track: MediaTrack) -> RandomAccessOf:
    """Returns a function that classifies those samples of the track that the encoder marks as key frames.

    If the configuration or the sample cannot be parsed, the function returns CLOSED.
    """
    try:
        if track.codec in NAL_CODECS:
            length = NAL_CODECS[track.codec].parse_record(track.config).length_size
            classify_unit = _classify_h264 if track.codec is Codec.H264 else _classify_h265
            return lambda payload: _classify(classify_unit, payload, length)
    except InvalidData:
        pass
    return lambda payload: RandomAccess.CLOSED


def _classify(classify_unit: Callable[[memoryview], RandomAccess | None], payload: bytes, length: int) -> RandomAccess:
    try:
        for unit in nal.views(payload, length):
            found = classify_unit(unit)
            if found is not None:
                return found
    except InvalidData:
        pass
    return RandomAccess.CLOSED


def _classify_h264(unit: memoryview) -> RandomAccess | None:
    kind = unit[0] & 0x1F
    if kind == h264.SLICE_IDR:
        return RandomAccess.CLOSED
    if kind not in h264.SLICES:
        return None
    return RandomAccess.OPEN if h264.is_intra_slice(unit) else RandomAccess.GRADUAL


def _classify_h265(unit: memoryview) -> RandomAccess | None:
    kind = unit[0] >> 1 & 0x3F
    if kind >= _FIRST_NON_VCL:
        return None
    if _BLA_W_LP <= kind <= _IDR_N_LP:
        return RandomAccess.CLOSED
    return RandomAccess.CLEAN if kind == _CRA else RandomAccess.GRADUAL
