"""AC-3 and E-AC-3: the values of one syncframe, and the MP4 boxes that describe it."""

from dataclasses import dataclass

from gateway.lib.bit_reader import BitReader
from gateway.media.errors import InvalidData

_RATES = (48000, 44100, 32000)
_CHANNELS = (2, 1, 2, 3, 3, 4, 4, 5)  # ETSI TS 102 366 Table 4.3, by acmod
_BLOCKS = (1, 2, 3, 6)  # of 256 samples, by numblkscod
# Kilobits per second, by frmsizecod / 2.
_KILOBITS = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640)


@dataclass(frozen=True, slots=True)
class Syncframe:
    """The values of a syncframe (ETSI TS 102 366 §4.3, §E.1.2).

    rate: Hz.
    samples: of each channel, in all blocks together.
    specific: payload of the dac3 or dec3 box.
    """

    rate: int
    channels: int
    samples: int
    specific: bytes


def parse_frame(frame: bytes) -> Syncframe:
    """Reads the first syncframe of `frame`. Its bsid distinguishes AC-3 from E-AC-3. Raises InvalidData."""
    if len(frame) < 8 or frame[:2] != b"\x0b\x77":
        raise InvalidData(f"not an AC-3 syncframe: {frame[:4].hex()}")
    bsid = frame[5] >> 3
    if bsid <= 10:
        return _ac3(frame)
    if bsid <= 16:
        return _eac3(frame)
    raise InvalidData(f"AC-3 syncframe with bsid {bsid}")


def _ac3(frame: bytes) -> Syncframe:
    bits = BitReader(frame[:16], what="AC-3 syncframe", error=InvalidData)
    bits.skip(32)
    code, size = bits.u(2), bits.u(6)
    bsid, mode, acmod = bits.u(5), bits.u(3), bits.u(3)
    if code == 3 or size >> 1 >= len(_KILOBITS):
        raise InvalidData(f"AC-3 syncframe: fscod {code}, frmsizecod {size}")
    if acmod & 1 and acmod != 1:
        bits.skip(2)
    if acmod & 4:
        bits.skip(2)
    if acmod == 2:
        bits.skip(2)
    lfe = bits.u(1)
    # §F.4: AC3SpecificBox
    packed = code << 22 | bsid << 17 | mode << 14 | acmod << 11 | lfe << 10 | size >> 1 << 5
    return Syncframe(_RATES[code], _CHANNELS[acmod] + lfe, 1536, packed.to_bytes(3, "big"))


def _eac3(frame: bytes) -> Syncframe:
    bits = BitReader(frame[:16], what="E-AC-3 syncframe", error=InvalidData)
    bits.skip(16 + 2 + 3)
    size = (bits.u(11) + 1) * 2
    code = bits.u(2)
    low = bits.u(2)
    if code == 3:
        if low == 3:
            raise InvalidData("E-AC-3 syncframe: reserved sample rate")
        rate, blocks = _RATES[low] // 2, 6
    else:
        rate, blocks = _RATES[code], _BLOCKS[low]
    acmod, lfe, bsid = bits.u(3), bits.u(1), bits.u(5)
    samples = 256 * blocks
    kilobits = size * 8 * rate // samples // 1000
    # §F.6: EC3SpecificBox with one independent substream and no dependent substreams
    packed = min(kilobits, 0x1FFF) << 27 | code << 22 | bsid << 17 | acmod << 9 | lfe << 8
    return Syncframe(rate, _CHANNELS[acmod] + lfe, samples, packed.to_bytes(5, "big"))


DEPENDENT = 1  # strmtyp, ETSI TS 102 366 Table E1.1
_MOST_DEPENDENT = 8  # substreams of a syncframe, §E.1.3.1.2: substreamid has three bits


def frame_bytes(data: bytes, at: int) -> int:
    """Returns the size of the frame at `at`: a syncframe and the dependent substreams after it. Raises InvalidData."""
    size = syncframe_bytes(data[at : at + 16])
    for _ in range(_MOST_DEPENDENT + 1):
        head = data[at + size : at + size + 16]
        if len(head) < 8 or head[:2] != b"\x0b\x77" or not 10 < head[5] >> 3 <= 16 or head[2] >> 6 != DEPENDENT:
            return size
        size += _eac3_bytes(head)
    raise InvalidData(f"an E-AC-3 syncframe with more than {_MOST_DEPENDENT} dependent substreams")


def syncframe_bytes(frame: bytes) -> int:
    """Returns the size of a syncframe, of which only the head is read. Raises InvalidData."""
    parsed = parse_frame(frame)
    if frame[5] >> 3 > 10:
        return _eac3_bytes(frame)
    # §4.4.1.4 Table 4.13: frmsizecod. Only at 44.1 kHz frames differ by a word.
    code = frame[4] & 0x3F
    return _KILOBITS[code >> 1] * 1000 * 1536 // parsed.rate // 16 * 2 + 2 * (parsed.rate == 44_100 and code & 1)


def _eac3_bytes(frame: bytes) -> int:
    return ((int.from_bytes(frame[2:4], "big") & 0x7FF) + 1) * 2
