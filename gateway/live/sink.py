"""The interface of a stream's consumer, the items that it gets, and the reasons for the end of a stream."""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol, TypeAlias

from gateway.media.track import Tracks
from gateway.media.unit import AccessUnit, Timed

Item: TypeAlias = Tracks | AccessUnit | Timed


class EndReason(StrEnum):
    """The reason why a stream ended. Logs and webhooks contain the value."""

    PUBLISHER_GONE = "publisher gone"
    NO_MEDIA = "no media"
    KEPT_CHANGING = "its publisher kept changing its tracks"
    KICKED = "kicked"
    DELETED = "channel deleted"
    EXPIRED = "key expired"
    OUTPUT_OFF = "output switched off"
    SHUTDOWN = "shutting down"
    MOVED = "held by another node"


class Sink(Protocol):
    """A consumer. It is called on the event loop, in order, for every item. It must not block: use a queue if the work
    is slow.
    """

    def on_tracks(self, tracks: Tracks) -> None:
        """Called first, and after every change of tracks, metadata or continuity (`tracks.epoch`)."""

    def on_unit(self, unit: AccessUnit) -> None: ...

    def on_timed(self, timed: Timed) -> None: ...

    def on_end(self, reason: EndReason) -> None:
        """Called last, when the sink is already detached."""

    def on_failed(self, error: Exception) -> None:
        """Called with the error that another method of the sink raised. The sink is already detached."""


class SoundSource(Protocol):
    """Makes the sound of a stream only while a sink needs it; implemented by `SoundOnDemand`."""

    def begin(self) -> bool:
        """Returns whether the units have sound now. If not, it is made, and then `Stream.add_sound` is called."""
