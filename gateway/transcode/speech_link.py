"""What the gateway and the worker of a push's sound agree on beforehand."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from gateway.media.track import Codec, Kind, Track

BITRATES: Final = {1: 96_000, 2: 128_000}  # by channels, bits a second

# AudioSpecificConfig of what the worker makes, by channels: AAC LC at 48 kHz (ISO/IEC 14496-3 §1.6.2.1). It is known
# beforehand, so that nobody waits for the worker to announce it.
CONFIGS: Final = {1: bytes.fromhex("1188"), 2: bytes.fromhex("1190")}


class SpeechMessage(IntEnum):
    """The worker's own messages beside those of `wire`."""

    NOTE = 16  # {"damaged": units} or {"unusable": reason}


def aac_track(channels: int, timescale: int) -> Track:
    """The track of what comes back for sound of so many channels, which is mixed to 1 or 2."""
    return Track(Kind.AUDIO, Codec.AAC, timescale, CONFIGS[1 if channels == 1 else 2])
