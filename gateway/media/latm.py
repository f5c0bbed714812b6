"""Reads LOAS/LATM: AAC with its configuration in the stream, or beside it (ISO/IEC 14496-3 §1.7)."""

from gateway.lib.bit_reader import BitReader
from gateway.media import aac
from gateway.media.errors import InvalidData, UnsupportedCodec

_SYNC = 0x2B7  # 11 bits; also of the extension of an AudioSpecificConfig
_SBR = 5
_MAX_FRAME = 8_191  # bytes: as in ADTS. Longer ones would be read a byte of their length at a time.
_MAX_ESCAPES = 4  # bytes of otherDataLenBits


def loas_bytes(data: bytes, at: int) -> int:
    """Returns the size of the AudioSyncStream frame at `at` (§1.7.2). Raises InvalidData."""
    head = int.from_bytes(data[at : at + 3], "big")
    if head >> 13 != _SYNC or at + 3 > len(data):
        raise InvalidData(f"not a LOAS frame: {data[at : at + 3].hex()}")
    return 3 + (head & 0x1FFF)


class LatmReader:
    """Reads AudioMuxElements (§1.7.3). config: the last AudioSpecificConfig; empty before the first one.

    Reads one program of one layer, frames with their length, and both versions of the syntax. Anything else raises
    UnsupportedCodec.

    mux_config: a StreamMuxConfig that is known before. is_inside: whether the elements have it too (muxConfigPresent).
    """

    def __init__(self, mux_config: bytes = b"", *, is_inside: bool = True) -> None:
        """Raises InvalidData."""
        self.config = b""
        self._frames = 1
        self._is_inside = is_inside
        if mux_config:
            # GStreamer (1.22) leaves out the fields behind the AudioSpecificConfig.
            self._read_config(BitReader(mux_config + bytes(4), what="StreamMuxConfig", error=InvalidData))

    def read(self, element: bytes) -> list[bytes]:
        """Returns the raw AAC frames of an element; none before the first configuration. Raises InvalidData."""
        bits = BitReader(element, what="LATM", error=InvalidData)
        if self._is_inside and not bits.flag():  # useSameStreamMux
            self._read_config(bits)
        if not self.config:
            return []
        frames = []
        for _ in range(self._frames):
            size = 0
            while (part := bits.u(8)) == 255 and size <= _MAX_FRAME:  # PayloadLengthInfo, frameLengthType 0
                size += part
            size += part
            if size > _MAX_FRAME:
                raise InvalidData(f"LATM: a frame of more than {_MAX_FRAME} bytes")
            frames.append(bits.u(8 * size).to_bytes(size, "big"))
        return frames

    def _read_config(self, bits: BitReader) -> None:
        """Reads StreamMuxConfig (§1.7.3.1)."""
        self.config = b""
        version = bits.u(1)
        if version and bits.flag():
            raise UnsupportedCodec("LATM of audioMuxVersionA 1")
        if version:
            _value(bits)  # taraBufferFullness
        same_framing = bits.flag()
        self._frames = bits.u(6) + 1
        if not same_framing or bits.u(4) or bits.u(3):
            raise UnsupportedCodec("LATM of several programs or layers")
        size = _value(bits) if version else 0
        start = bits.position
        aac.read_asc(bits, to_end=False)
        if not version:
            _skip_extension(bits)
        if version and bits.position > start + size:
            raise InvalidData("LATM: the configuration exceeds its length")
        end = start + size if version else bits.position
        bits.position = start
        count = end - start
        config = (bits.u(count) << -count % 8).to_bytes((count + 7) // 8, "big")
        if bits.u(3):
            raise UnsupportedCodec("LATM of another frameLengthType")
        bits.skip(8)  # latmBufferFullness
        if bits.flag():  # otherDataPresent: its bits follow the frames
            if version:
                _value(bits)
            elif all(bits.u(9) >> 8 for _ in range(_MAX_ESCAPES)):  # otherDataLenEsc
                raise InvalidData("LATM: too long other data")
        if bits.flag():  # crcCheckPresent
            bits.skip(8)
        aac.parse_asc(config)
        self.config = config


def _skip_extension(bits: BitReader) -> None:
    """Skips the explicit signalling of SBR, which GStreamer (1.22) copies although the configuration has no length.

    Otherwise these bits are a `frameLengthType` of 2, which is reserved.
    """
    at = bits.position
    if bits.u(11) != _SYNC:
        bits.position = at
    elif bits.u(5) == _SBR and bits.flag() and bits.u(4) == 15:
        bits.skip(24)


def _value(bits: BitReader) -> int:
    """Reads a number of LatmGetValue: the count of its bytes less 1, then the bytes."""
    return bits.u(8 * (bits.u(2) + 1))
