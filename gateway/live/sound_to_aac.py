"""Sound that players do not play becomes AAC in a worker: what an intake needs of it."""

from collections.abc import Callable
from typing import Protocol

from gateway.channels.channel import Channel
from gateway.media import aac
from gateway.media.codecs import SILENT_IN_FRAGMENTS
from gateway.media.track import AccessUnit, Codec, ForeignSound, MediaTrack


def becomes_aac(track: MediaTrack, foreign: ForeignSound | None, channel: Channel) -> bool:
    """Whether sound has to be converted. foreign: its format, if no track can describe it.

    Browsers refuse unusual AAC, and in LL-HLS and DASH of the channel also other codecs.
    """
    if foreign is not None:
        return True
    if track.codec is Codec.AAC:
        return aac.is_unusual(track.config)
    return track.codec in SILENT_IN_FRAGMENTS and channel.flag("isCMAF")


class SoundToAac(Protocol):
    """Converts the sound of one stream in a worker."""

    def change(self, track: MediaTrack, foreign: ForeignSound | None) -> None:
        """Begins with another source. foreign: its format, if no track can describe it."""

    def give(self, unit: AccessUnit) -> None:
        """Takes a unit of the source. Hot path."""

    def close(self) -> None: ...


# Returns a converter, which gives its units of AAC to the function.
MakeConverter = Callable[[Callable[[AccessUnit], None]], SoundToAac]
