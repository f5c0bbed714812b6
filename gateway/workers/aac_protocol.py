"""Bitrates, AAC configurations and messages that the gateway and the AAC worker share."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from gateway.media.track import Codec, Kind, MediaTrack

BITRATES: Final = {1: 96_000, 2: 128_000}  # bits per second, by number of channels

# AudioSpecificConfig of the worker's AAC LC at 48 kHz, by number of channels (ISO/IEC 14496-3 §1.6.2.1). It is
# constant, so that the gateway need not wait until the worker sends it.
CONFIGS: Final = {1: bytes.fromhex("1188"), 2: bytes.fromhex("1190")}


class AacMessage(IntEnum):
    """Kinds of frames of the AAC worker, in addition to `wire.StreamMessage`."""

    NOTE = 16  # {"damaged": units} or {"unusable": reason}


def aac_track(channels: int, timescale: int) -> MediaTrack:
    """Returns the AAC track for a source with `channels` channels. The worker mixes them to 1 or 2."""
    return MediaTrack(Kind.AUDIO, Codec.AAC, timescale, CONFIGS[1 if channels == 1 else 2])
