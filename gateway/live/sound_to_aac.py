"""Sound that players do not play becomes AAC in a worker: what an intake needs of it."""

from collections.abc import Callable
from typing import Protocol

from gateway.media.foreign_sound import ForeignSound
from gateway.media.track import AccessUnit, MediaTrack


class SoundToAac(Protocol):
    """Converts the sound of one stream in a worker."""

    def change(self, track: MediaTrack, foreign: ForeignSound | None) -> None:
        """Begins with another source. foreign: its format, if no track can describe it."""

    def give(self, unit: AccessUnit) -> None:
        """Takes a unit of the source. Hot path."""

    def close(self) -> None: ...


# Returns a converter, which gives its units of AAC to the function.
MakeConverter = Callable[[Callable[[AccessUnit], None]], SoundToAac]
