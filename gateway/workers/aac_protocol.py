"""Bitrates, AAC configurations and messages that the gateway and the AAC worker share."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import IntEnum
from typing import Any, Final, Self

from gateway.media.track import Codec, Kind, MediaTrack

BITRATES: Final = {1: 96_000, 2: 128_000}  # bits per second, by number of channels

# AudioSpecificConfig of the worker's AAC LC at 48 kHz, by number of channels (ISO/IEC 14496-3 §1.6.2.1). It is
# constant, so that the gateway need not wait until the worker sends it.
CONFIGS: Final = {1: bytes.fromhex("1188"), 2: bytes.fromhex("1190")}


class AacMessage(IntEnum):
    """Kinds of frames of the AAC worker, in addition to `wire.StreamMessage`."""

    NOTE = 16  # {"damaged": units} or {"unusable": reason}
    FOREIGN = 17  # to the worker, before TRACKS: a ForeignSound


@dataclass(frozen=True, slots=True)
class ForeignSound:
    """Sound of a codec that no track can have. codec: libav's name of the decoder. rate: Hz."""

    codec: str
    rate: int
    channels: int

    def to_json(self) -> dict[str, Any]:
        """Returns the members of the FOREIGN message."""
        return asdict(self)

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Self:
        """Reads a FOREIGN message."""
        return cls(str(fields["codec"]), int(fields["rate"]), int(fields["channels"]))


def aac_track(channels: int, timescale: int) -> MediaTrack:
    """Returns the AAC track for a source with `channels` channels. The worker mixes them to 1 or 2."""
    return MediaTrack(Kind.AUDIO, Codec.AAC, timescale, CONFIGS[1 if channels == 1 else 2])
