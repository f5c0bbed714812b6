"""MPEG audio: the values of a frame header."""

from dataclasses import dataclass

from gateway.media.errors import InvalidData

# ISO/IEC 11172-3 §2.4.2.3 and 13818-3 §2.4.2.3, by the two bits of the version: 2.5, reserved, 2, 1.
_RATES = ((11025, 12000, 8000), (), (22050, 24000, 16000), (44100, 48000, 32000))
MPEG1_MIN_RATE = 32_000  # lower sample rates are those of ISO/IEC 13818-3


LAYER_2 = 2
LAYER_3 = 3


@dataclass(frozen=True, slots=True)
class Mp3Header:
    """The header of one frame of Layer II or III. rate: Hz. samples: of each channel."""

    rate: int
    channels: int
    samples: int


def layer_of(frame: bytes) -> int:
    """Returns the layer of the frame that begins here: 1, 2 or 3. Raises InvalidData."""
    if len(frame) < 4 or frame[0] != 0xFF or frame[1] & 0xE0 != 0xE0 or not frame[1] & 6:
        raise InvalidData(f"not an MPEG audio frame: {frame[:4].hex()}")
    return 4 - (frame[1] >> 1 & 3)


def parse_header(frame: bytes, layer: int = LAYER_3) -> Mp3Header:
    """Reads the header at the start of a frame of this layer, II or III. Raises InvalidData."""
    found = layer_of(frame)
    version, bitrate, rate = frame[1] >> 3 & 3, frame[2] >> 4, frame[2] >> 2 & 3
    if found != layer or version == 1 or rate == 3 or bitrate == 15:
        raise InvalidData(f"not a frame of Layer {'I' * layer}: {frame[:4].hex()}")
    samples = 1152 if version == 3 or layer == LAYER_2 else 576
    return Mp3Header(_RATES[version][rate], 1 if frame[3] >> 6 == 3 else 2, samples)


# ISO/IEC 11172-3 §2.4.2.3 and 13818-3 §2.4.2.3: kilobits a second, by bitrate_index from 1. The rows: both layers of
# MPEG-2 and MPEG-2.5; Layer III and Layer II of MPEG-1.
_KILOBITS = (
    (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
)


def frame_bytes(frame: bytes, layer: int = LAYER_3) -> int:
    """Returns the size of the frame that begins with this header. Raises InvalidData, also for a free bitrate."""
    header = parse_header(frame, layer)
    index = frame[2] >> 4
    if not index:
        raise InvalidData("an MPEG audio frame with a free bitrate")
    row = 0 if header.rate < MPEG1_MIN_RATE else 1 if layer == LAYER_3 else 2
    return _KILOBITS[row][index - 1] * 1000 * header.samples // 8 // header.rate + (frame[2] >> 1 & 1)
