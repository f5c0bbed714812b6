"""MPEG audio: the values of a frame header."""

from dataclasses import dataclass

from gateway.media.errors import InvalidData

# ISO/IEC 11172-3 §2.4.2.3 and 13818-3 §2.4.2.3, by the two bits of the version: 2.5, reserved, 2, 1.
_RATES = ((11025, 12000, 8000), (), (22050, 24000, 16000), (44100, 48000, 32000))
MPEG1_MIN_RATE = 32_000  # lower sample rates are those of ISO/IEC 13818-3


@dataclass(frozen=True, slots=True)
class Mp3Header:
    """The header of one Layer III frame. rate: Hz. samples: of each channel."""

    rate: int
    channels: int
    samples: int


def parse_header(frame: bytes) -> Mp3Header:
    """Reads the header at the start of a Layer III frame. Raises InvalidData."""
    if len(frame) < 4 or frame[0] != 0xFF or frame[1] & 0xE0 != 0xE0:
        raise InvalidData(f"not an MPEG audio frame: {frame[:4].hex()}")
    version, layer = frame[1] >> 3 & 3, frame[1] >> 1 & 3
    bitrate, rate = frame[2] >> 4, frame[2] >> 2 & 3
    if layer != 1 or version == 1 or rate == 3 or bitrate == 15:
        raise InvalidData(f"not a Layer III frame: {frame[:4].hex()}")
    return Mp3Header(_RATES[version][rate], 1 if frame[3] >> 6 == 3 else 2, 1152 if version == 3 else 576)


# ISO/IEC 11172-3 §2.4.2.3 and 13818-3 §2.4.2.3: kilobits a second of Layer III, by bitrate_index from 1.
# The first row is for MPEG-2 and MPEG-2.5, the second one for MPEG-1.
_KILOBITS = (
    (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
)


def frame_bytes(frame: bytes) -> int:
    """Returns the size of the frame that begins with this header. Raises InvalidData, also for a free bitrate."""
    header = parse_header(frame)
    index = frame[2] >> 4
    if not index:
        raise InvalidData("an MPEG audio frame with a free bitrate")
    bits = _KILOBITS[header.samples == 1152][index - 1] * 1000 * header.samples // 8
    return bits // header.rate + (frame[2] >> 1 & 1)
