"""Adds the additional tracks of a stream to the subscription of an output."""

from collections.abc import Callable

from gateway.live.pushed_tracks import PushedTrack
from gateway.live.sink import PartialSink
from gateway.live.stream import Stream
from gateway.live.subscription import Subscription
from gateway.media.track import AccessUnit, Kind


class AdditionalSinks:
    """Attaches `subscription` to the chosen additional tracks of a stream, also to those that come later."""

    def __init__(self, stream: Stream, subscription: Subscription, chosen: Callable[[PushedTrack], bool]) -> None:
        self._tracks = stream.pushed_tracks
        self._subscription = subscription
        self._chosen = chosen
        self._sinks: dict[str, tuple[PushedTrack, _Sink]] = {}
        self._tracks.watch(self.update)
        self.update()

    def update(self) -> None:
        """Follows a change of the tracks or of the choice."""
        wanted = {name: track for name, track in self._tracks.by_name.items() if self._chosen(track)}
        for name, (track, sink) in list(self._sinks.items()):
            current = wanted.get(name)
            if current is None or current.stream is not track.stream:
                track.stream.detach(sink)
                del self._sinks[name]
        for name, track in wanted.items():
            if name not in self._sinks:
                sink = _Sink(name, track.kind, self._subscription)
                self._sinks[name] = track, sink
                track.stream.attach(sink)

    def close(self) -> None:
        self._tracks.unwatch(self.update)
        for track, sink in self._sinks.values():
            track.stream.detach(sink)
        self._sinks = {}


class _Sink(PartialSink):
    """Forwards the units of one additional track. A video rendition also has the default sound, which is left out.

    Each unit has its track. The stream itself has the same timed data and the same end.
    """

    def __init__(self, name: str, kind: Kind, subscription: Subscription) -> None:
        self._name = name
        self._kind = kind
        self._subscription = subscription

    def on_unit(self, unit: AccessUnit) -> None:
        if unit.track.kind is self._kind:
            self._subscription.on_additional(self._name, unit)

    def on_failed(self, error: Exception) -> None:
        self._subscription.on_failed(error)
