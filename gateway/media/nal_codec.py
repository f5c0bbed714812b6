"""What H.264 and H.265 have in common: the types of their NAL units, and the records of their parameter sets."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from gateway.media import h264, h265
from gateway.media.track import Codec


@dataclass(frozen=True, slots=True)
class NalCodec:
    """One of the two codecs.

    shift, mask: of the type in the first byte of a NAL unit. sets: types of the parameter sets, in the record's order.
    slices: types of slices. lengths: the byte of a record that has the size of lengths, less one, in its two low bits.
    parse_record, build_record, parse_sps: see `h264` and `h265`.
    """

    shift: int
    mask: int
    sets: tuple[int, ...]
    slices: frozenset[int]
    lengths: int
    sps: int
    delimiter: int
    parse_record: Callable[[bytes], h264.Avcc | h265.Hvcc]
    build_record: Callable[..., bytes]
    parse_sps: Callable[[bytes], h264.H264Sps | h265.H265Sps]

    def type_of(self, unit: bytes | memoryview) -> int:
        return unit[0] >> self.shift & self.mask


NAL_CODECS: Final = {
    Codec.H264: NalCodec(
        0, 0x1F, (h264.SPS, h264.PPS), frozenset(h264.SLICES), 4, h264.SPS, h264.AUD,
        h264.parse_avcc, h264.build_avcc, h264.parse_sps,
    ),
    Codec.H265: NalCodec(
        1, 0x3F, (h265.VPS, h265.SPS, h265.PPS), frozenset((*range(10), *range(16, 22))), 21, h265.SPS, h265.AUD,
        h265.parse_hvcc, h265.build_hvcc, h265.parse_sps,
    ),
}  # fmt: skip
