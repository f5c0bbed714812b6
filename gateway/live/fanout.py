"""Passes the units of one timeline to its sinks; it also has the timeline's tracks and GOP cache."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from gateway.live.gop_cache import GopCache
from gateway.live.sink import EndReason, Item, Sink, SoundSource
from gateway.live.start_buffer import StartBuffer
from gateway.media.track import AmfValue, MediaTrack, Tracks
from gateway.media.unit import AccessUnit, Timed


class Fanout:
    """Passes each unit to the GOP cache and to every sink. It runs on one event loop; `push` is the hot path.

    A sink that raises is detached and gets `on_failed`. Other sinks and the publisher are not affected.
    """

    def __init__(self, gop: GopCache) -> None:
        self.tracks: Tracks | None = None
        self.ended: EndReason | None = None
        self.gop = gop
        self.beginning: StartBuffer | None = None  # the first seconds of the stream, for a limited time
        self._epoch = -1
        self._sinks: tuple[Sink, ...] = ()
        self._waits: dict[int, Callable[[], bool]] = {}  # by id of the sink
        # Sinks that wait for the sound of the cache: whether they get the cache, and what is called then.
        self._joining: tuple[tuple[Sink, bool, Callable[[], None]], ...] = ()
        self._deaf: set[int] = set()  # ids of the sinks that need no sound
        self.sound: SoundSource | None = None  # None: the units have their sound always

    @property
    def is_awaited(self) -> bool:
        """Whether any sink needs units as soon as they arrive."""
        waits = self._waits
        for sink in self._sinks:
            is_waiting = waits.get(id(sink))
            if is_waiting is None or is_waiting():
                return True
        return False

    @property
    def is_heard(self) -> bool:
        """Whether any sink needs the sound."""
        return len(self._sinks) + len(self._joining) > len(self._deaf)

    def attach(
        self,
        sink: Sink,
        *,
        replay: bool = True,
        early: bool = False,
        waits: Callable[[], bool] | None = None,
        hears: bool = True,
        replayed: Callable[[], None] = lambda: None,
    ) -> None:
        """Adds a sink. It gets the tracks now (if known), then the GOP cache if `replay` is set, then new units.

        early: whether the sink waited for the stream. It then gets `beginning`, if that exists, not the GOP cache.
        waits: returns whether the sink needs its next units without delay; None: always.
        hears: whether it needs the sound. If the sound has to be made first, the cache and new units come after that.
        replayed: called when it has got the cache.
        """
        if waits is not None:
            self._waits[id(sink)] = waits
        if not hears:
            self._deaf.add(id(sink))
        if hears and self.sound is not None and self.tracks is not None and not self.sound.begin():
            self._joining = (*self._joining, (sink, replay, replayed))
            self._send_tracks(self.tracks, sink)
            return
        items: Iterable[Item] = ()
        if early and self.beginning is not None:
            items = self.beginning
        elif self.tracks is not None:
            items = (self.tracks, *(self.gop.units() if replay else ()))
        self._admit(sink, items, replayed)

    def admit(self) -> None:
        """Sends the cache to the sinks that wait for its sound. They get new units from now on."""
        joining, self._joining = self._joining, ()
        for sink, replay, replayed in joining:
            self._admit(sink, self.gop.units() if replay else (), replayed)

    def _admit(self, sink: Sink, items: Iterable[Item], replayed: Callable[[], None]) -> None:
        """Sends items to a sink, which gets everything new from now on."""
        self._sinks = (*self._sinks, sink)
        try:
            _replay(items, sink)
        except Exception as error:  # an error of the sink must not stop the stream
            self._fail(sink, error)
            return
        replayed()
        if self.ended is not None:
            self.detach(sink)
            sink.on_end(self.ended)

    def detach(self, sink: Sink) -> None:
        self._sinks = tuple(s for s in self._sinks if s is not sink)
        self._joining = tuple(entry for entry in self._joining if entry[0] is not sink)
        self._waits.pop(id(sink), None)
        self._deaf.discard(id(sink))

    def set_tracks(
        self, video: MediaTrack | None, audio: MediaTrack | None, metadata: dict[str, AmfValue], continuous: bool
    ) -> Tracks:
        """Announces tracks. A changed track, or `continuous` false, starts a new epoch."""
        old = self.tracks
        if old is None or not continuous or (old.video, old.audio) != (video, audio):
            self._epoch += 1
            self.gop.clear()
        self.gop.has_video = video is not None
        self.tracks = tracks = Tracks(video, audio, self._epoch, metadata)
        for sink in (*self._sinks, *(entry[0] for entry in self._joining)):
            self._send_tracks(tracks, sink)
        return tracks

    def _send_tracks(self, tracks: Tracks, sink: Sink) -> None:
        try:
            sink.on_tracks(tracks)
        except Exception as error:
            self._fail(sink, error)

    def push(self, unit: AccessUnit) -> None:
        """Adds a unit to the cache and sends it to every sink. Hot path."""
        self.gop.add(unit)
        self.send(unit)

    def send(self, unit: AccessUnit) -> None:
        """Sends a unit to every sink, but does not add it to the cache. Hot path."""
        for sink in self._sinks:
            try:
                sink.on_unit(unit)
            except Exception as error:
                self._fail(sink, error)

    def push_timed(self, timed: Timed) -> None:
        for sink in self._sinks:
            try:
                sink.on_timed(timed)
            except Exception as error:
                self._fail(sink, error)

    def end(self, reason: EndReason) -> None:
        """Ends the timeline for good. Calls `on_end` of each sink once, in order."""
        if self.ended is not None:
            return
        self.admit()
        self.ended = reason
        sinks, self._sinks = self._sinks, ()
        self._waits.clear()
        self._deaf.clear()
        for sink in sinks:
            try:
                sink.on_end(reason)
            except Exception as error:
                sink.on_failed(error)
        self.gop.clear()

    def _fail(self, sink: Sink, error: Exception) -> None:
        self.detach(sink)
        sink.on_failed(error)


def _replay(items: Iterable[Item], sink: Sink) -> None:
    for item in items:
        if isinstance(item, AccessUnit):
            sink.on_unit(item)
        elif isinstance(item, Timed):
            sink.on_timed(item)
        else:
            sink.on_tracks(item)
