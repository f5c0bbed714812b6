"""Bitrates, tracks and messages that the gateway and the sound worker share.

The gateway sends a SoundSetup as SETUP. A NOTE of the worker is {"damaged": units} or {"unusable": reason}.
"""

from dataclasses import dataclass
from typing import Final

from gateway.media import aac, codecs, opus
from gateway.media.errors import InvalidData
from gateway.media.foreign_sound import ForeignSound
from gateway.media.track import Codec, Kind, MediaTrack

# Bits per second, by number of channels.
BITRATES: Final = {1: 96_000, 2: 128_000}  # of AAC
OPUS_BITRATES: Final = {1: 64_000, 2: 96_000}

# AudioSpecificConfig of the worker's AAC LC at 48 kHz, by number of channels (ISO/IEC 14496-3 §1.6.2.1). It is
# constant, so that the gateway need not wait until the worker sends it.
CONFIGS: Final = {1: bytes.fromhex("1188"), 2: bytes.fromhex("1190")}


@dataclass(frozen=True, slots=True)
class SoundSetup:
    """The work of a sound worker. target: AAC or OPUS. foreign: the codec of all sources, if no track can have it."""

    target: Codec = Codec.AAC
    foreign: ForeignSound | None = None


def channels_of(track: MediaTrack) -> int:
    """Returns the number of channels to encode for this track, 1 or 2; 2 if unknown."""
    try:
        if track.codec is Codec.AAC and aac.parse_asc(track.config).ps:
            return 2
        return max(1, min(2, codecs.audio_channels(track)))
    except InvalidData:
        return 2


def aac_track(channels: int, timescale: int) -> MediaTrack:
    """Returns the AAC track for a source with `channels` channels. The worker mixes them to 1 or 2."""
    return MediaTrack(Kind.AUDIO, Codec.AAC, timescale, CONFIGS[1 if channels == 1 else 2])


def opus_track(channels: int) -> MediaTrack:
    """Returns the Opus track for a source with `channels` channels, with times in samples.

    It has no pre-skip: the time of a unit is that of the first sample that a decoder returns for it, as in RTP.
    """
    head = opus.OpusHead(1 if channels == 1 else 2, 0, opus.RATE, 0, 0, b"")
    return MediaTrack(Kind.AUDIO, Codec.OPUS, opus.RATE, opus.head_bytes(head))
