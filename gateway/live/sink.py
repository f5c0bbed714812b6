"""The interface of a stream's consumer, the items that it gets, and the reasons for the end of a stream."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol, TypeAlias

from gateway.media.track import AccessUnit, TimedData, Tracks

Item: TypeAlias = Tracks | AccessUnit | TimedData


class EndReason(StrEnum):
    """The reason why a stream ended. Logs and webhooks contain the value."""

    PUBLISHER_GONE = "publisher gone"
    STOPPED = "stopped by the encoder"  # it said that it stops, in contrast to a connection that broke
    NO_MEDIA = "no media"
    KEPT_CHANGING = "its publisher kept changing its tracks"
    KICKED = "kicked"
    DELETED = "channel deleted"
    EXPIRED = "key expired"
    BIT_RATE = "bit rate too high"
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

    def on_timed(self, timed: TimedData) -> None: ...

    def on_end(self, reason: EndReason) -> None:
        """Called last, when the sink is already detached."""

    def on_failed(self, error: Exception) -> None:
        """Called with the error that another method of the sink raised. The sink is already detached."""


class PartialSink:
    """The base of a Sink that needs only some of the items. It ignores the others."""

    def on_tracks(self, tracks: Tracks) -> None:
        """Does nothing."""

    def on_timed(self, timed: TimedData) -> None:
        """Does nothing."""

    def on_end(self, reason: EndReason) -> None:
        """Does nothing."""


@dataclass(frozen=True, slots=True)
class SinkNeeds:
    """The needs of one sink, fixed while it is attached.

    cache: whether it first gets the units of the GOP cache.
    from_start: whether it waited for the stream. It then gets the start buffer, if there is one, not the GOP cache.
    audio: whether it wants audio. If the audio must be made first, the cache and new units wait for it.
    is_urgent: returns whether it needs its next units without delay; None: always.
    on_replayed: called when it has got the cache.
    """

    cache: bool = True
    from_start: bool = False
    audio: bool = True
    is_urgent: Callable[[], bool] | None = None
    on_replayed: Callable[[], None] | None = None


ALL_MEDIA: Final = SinkNeeds()


class SoundSource(Protocol):
    """Makes the audio of a stream only while a sink wants it; implemented by `SoundOnDemand`."""

    def begin(self) -> bool:
        """Returns whether the units have audio now. If not, it is made, and then `Stream.add_sound` is called."""
