"""Passes the units of one timeline to its sinks; it also has the timeline's tracks and GOP cache."""

from collections.abc import Iterable
from dataclasses import dataclass

import structlog

from gateway.live.gop_cache import GopCache
from gateway.live.sink import ALL_MEDIA, EndReason, Item, Sink, SinkNeeds, SoundSource
from gateway.live.start_buffer import StartBuffer
from gateway.media.track import AccessUnit, AmfValue, MediaTrack, TimedData, Tracks

log = structlog.get_logger(__name__)

_MAX_NAMES = 16


@dataclass(slots=True, eq=False)
class _Attachment:
    """One attached sink. waits: whether it gets only tracks until the audio of the cache is made."""

    sink: Sink
    needs: SinkNeeds
    waits: bool = False


class Fanout:
    """Passes each unit to the GOP cache and to every sink. It runs on one event loop; `push` is the hot path.

    A sink that raises is detached and gets `on_failed`. Other sinks and the publisher are not affected.
    audio: makes the audio of the units while a sink wants it; None: the units have it always.
    """

    def __init__(self, gop: GopCache, audio: SoundSource | None = None) -> None:
        self.tracks: Tracks | None = None
        self.ended: EndReason | None = None
        self.gop = gop
        self.start_buffer: StartBuffer | None = None  # the first seconds of the stream, for a limited time
        self.latest_timed: dict[str, TimedData] = {}  # by kind: the last timed data, of the first _MAX_NAMES kinds
        self._audio = audio
        self._epoch = -1
        self._attached: tuple[_Attachment, ...] = ()
        self._sinks: tuple[Sink, ...] = ()  # those that do not wait

    @property
    def is_awaited(self) -> bool:
        """Whether any sink needs units as soon as they arrive."""
        for entry in self._attached:
            if not entry.waits and (entry.needs.is_urgent is None or entry.needs.is_urgent()):
                return True
        return False

    @property
    def wants_audio(self) -> bool:
        """Whether any sink wants audio."""
        return any(entry.needs.audio for entry in self._attached)

    def attach(self, sink: Sink, needs: SinkNeeds = ALL_MEDIA) -> None:
        """Adds a sink. It gets the tracks now (if known), then what it needs of the past, then new units."""
        entry = _Attachment(sink, needs)
        tracks = self.tracks
        if needs.audio and tracks is not None and self._audio is not None and not self._audio.begin():
            entry.waits = True
            self._attached = (*self._attached, entry)
            self._send_tracks(tracks, sink)
            return
        self._attached = (*self._attached, entry)
        items: Iterable[Item] = ()
        if needs.from_start and self.start_buffer is not None:
            items = self.start_buffer
        elif tracks is not None:
            items = (tracks, *(self.gop.units() if needs.cache else ()))
        self._replay(entry, items)

    def admit(self) -> None:
        """Sends the cache to the sinks that wait for its audio. They get new units from now on."""
        for entry in self._attached:
            if entry.waits:
                entry.waits = False
                self._replay(entry, self.gop.units() if entry.needs.cache else ())

    def _replay(self, entry: _Attachment, items: Iterable[Item]) -> None:
        """Sends items to a sink. From now on it also gets each new item."""
        sink = entry.sink
        self._sinks = (*self._sinks, sink)
        try:
            _send_items(items, sink)
        except Exception as error:  # an error of the sink must not stop the stream
            self._fail(sink, error)
            return
        if entry.needs.on_replayed is not None:
            entry.needs.on_replayed()
        if self.ended is not None:
            self.detach(sink)
            sink.on_end(self.ended)

    def detach(self, sink: Sink) -> None:
        self._attached = tuple(entry for entry in self._attached if entry.sink is not sink)
        self._sinks = tuple(s for s in self._sinks if s is not sink)

    def keep_start(self, buffer: StartBuffer) -> None:
        """Stores everything from now on in this buffer, for the sinks that waited for the stream."""
        self.start_buffer = buffer
        self.attach(buffer)

    def drop_start(self, buffer: StartBuffer) -> None:
        """Forgets the buffer. It may be called more than once."""
        self.detach(buffer)
        if self.start_buffer is buffer:
            self.start_buffer = None

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
        for entry in self._attached:
            self._send_tracks(tracks, entry.sink)
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

    def push_timed(self, timed: TimedData) -> None:
        if timed.kind in self.latest_timed or len(self.latest_timed) < _MAX_NAMES:
            self.latest_timed[timed.kind] = timed
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
        sinks, self._sinks, self._attached = self._sinks, (), ()
        for sink in sinks:
            try:
                sink.on_end(reason)
            except Exception as error:
                self._fail(sink, error)
        self.gop.clear()

    def _fail(self, sink: Sink, error: Exception) -> None:
        self.detach(sink)
        try:
            sink.on_failed(error)
        except Exception as second:  # the sink of an installed output may have any fault
            log.error("a sink failed", sink=type(sink).__name__, reason=repr(error), exc_info=second)


def _send_items(items: Iterable[Item], sink: Sink) -> None:
    for item in items:
        if isinstance(item, AccessUnit):
            sink.on_unit(item)
        elif isinstance(item, TimedData):
            sink.on_timed(item)
        else:
            sink.on_tracks(item)
