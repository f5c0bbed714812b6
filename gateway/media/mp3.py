"""MPEG audio: the values of a frame header."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.media.errors import InvalidData

# ISO/IEC 11172-3 §2.4.2.3 and 13818-3 §2.4.2.3, by the two bits of the version: 2.5, reserved, 2, 1.
_RATES = ((11025, 12000, 8000), (), (22050, 24000, 16000), (44100, 48000, 32000))
MPEG1_LEAST_RATE = 32_000
_BITRATES_1 = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_BITRATES_2 = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)


@dataclass(frozen=True, slots=True)
class Mp3Header:
    """The header of one Layer III frame.

    version: 1, 2 or 2.5.
    size: bytes, 0 for the free format.
    """

    version: float
    rate: int
    channels: int
    samples: int
    size: int

    @property
    def mpeg1(self) -> bool:
        """ISO/IEC 11172-3, not 13818-3 with its halved rates. Containers distinguish the two."""
        return self.version == 1


def parse_header(frame: bytes) -> Mp3Header:
    """Reads the header at the start of a Layer III frame. Raises InvalidData."""
    if len(frame) < 4 or frame[0] != 0xFF or frame[1] & 0xE0 != 0xE0:
        raise InvalidData(f"no MPEG audio frame: {frame[:4].hex()}")
    version, layer = frame[1] >> 3 & 3, frame[1] >> 1 & 3
    bitrate, rate = frame[2] >> 4, frame[2] >> 2 & 3
    if layer != 1 or version == 1 or rate == 3 or bitrate == 15:
        raise InvalidData(f"no Layer III frame: {frame[:4].hex()}")
    hertz = _RATES[version][rate]
    samples = 1152 if version == 3 else 576
    kilobits = (_BITRATES_1 if version == 3 else _BITRATES_2)[bitrate]
    size = samples // 8 * 1000 * kilobits // hertz + (frame[2] >> 1 & 1) if kilobits else 0
    return Mp3Header({3: 1, 2: 2, 0: 2.5}[version], hertz, 1 if frame[3] >> 6 == 3 else 2, samples, size)
