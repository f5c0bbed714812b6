"""Sound that players do not play becomes AAC in a worker: what an intake needs of it."""

from collections.abc import Callable
from typing import Protocol

from gateway.channels.channel import Channel
from gateway.media.codecs import SILENT_IN_FRAGMENTS
from gateway.media.foreign_sound import ForeignSound
from gateway.media.track import AccessUnit, MediaTrack


def is_silent_in_browsers(track: MediaTrack, channel: Channel) -> bool:
    """Whether the channel has LL-HLS and DASH, in which browsers would hear nothing of this sound."""
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
