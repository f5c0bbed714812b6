"""A live stream with a name: one publisher, any number of sinks, and an override of what its viewers get."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Final, Protocol

import structlog

from gateway.channels.channel import Channel
from gateway.channels.inputs import MAIN
from gateway.channels.names import channel_of
from gateway.live.fanout import Fanout
from gateway.live.further_relay import FurtherRelay
from gateway.live.gop_cache import GopCache
from gateway.live.health_report import HealthReport
from gateway.live.network_quality import NetworkQuality
from gateway.live.pushed_tracks import MAX_PUSHED, MediaBudget, PushedTracks
from gateway.live.sink import EndReason, SoundSource
from gateway.live.track_changes import IntervalLimiter
from gateway.media.clock import PublisherTimeline
from gateway.media.track import AmfValue, Kind, MediaTrack, Tracks
from gateway.media.unit import AccessUnit, Timed

log = structlog.get_logger(__name__)

KEY_FRAME_SECONDS: Final = 1.0  # between two requests for a key frame
FINISH_SECONDS: Final = 3.0  # time for an override to send its last pictures after the end of the original
_VIDEO: Final = Kind.VIDEO


class StreamState(StrEnum):
    IDLE = "idle"
    LIVE = "live"
    LINGERING = "lingering"


class ActivePublisher(Protocol):
    """`Stream.publisher`; implemented by `StreamPublisher`.

    since, last_media: monotonic seconds. dropped: units by reason.
    timeline: the clock that repairs its timestamps, and counts their jumps; None if they were repaired elsewhere.
    announced: whether its begin and end are events.
    ask_key_frame: asks the client for a key frame; None: its protocol cannot.
    network: returns the quality of its connection; None: unknown.
    """

    protocol: str
    peer: str
    since: float
    last_media: float
    dropped: Counter[str]
    timeline: PublisherTimeline | None
    announced: bool
    ask_key_frame: Callable[[], None] | None
    network: Callable[[], NetworkQuality] | None

    def evict(self, reason: EndReason) -> None:
        """Takes the stream away from the publisher. Only the hub calls it."""


class OutputSwitch(Protocol):
    """`Stream.outputs`; implemented by `Outputs`."""

    def names(self) -> list[str]: ...

    def enabled(self, name: str) -> bool: ...

    def get(self, name: str) -> object | None:
        """Returns the output of this name if it is enabled. Starts an output that waits for its first request."""

    def switch(self, name: str, enabled: bool) -> None:
        """Switches an output on or off. Raises KeyError for an unknown name."""

    def channel_changed(self) -> None:
        """Called when the stored channel was changed: the outputs follow its flags."""

    def status(self) -> list[dict[str, object]]:
        """Returns `[{"name", "enabled", "state", "error", and the output's report}]` for the API."""
        ...

    def states(self) -> list[tuple[str, str]]:
        """Returns names and states only."""
        ...


class Stream(Fanout):
    """The stream that viewers get. `original` is what the publisher sends.

    Both are equal, unless an override is engaged (PictureOverride).
    The stream also has the counters.
    It exists from the first publisher's media until the linger time after the last publisher.
    """

    def __init__(
        self,
        name: str,
        channel: Channel,
        started: float,
        gop_bytes: int,
        gop_seconds: float,
        on_playable: Callable[[Stream], None] = lambda stream: None,
    ) -> None:
        super().__init__(GopCache(gop_bytes, gop_seconds))
        self.name = name
        self.channel = channel
        self.started = started
        self.original = Fanout(self.gop)  # one cache for both while they are equal
        # The sound of a push by WebRTC as it came; the tracks have it as AAC. Its tracks are None without such a push.
        self.pushed_opus = Fanout(GopCache(0, 0))
        self.publisher: ActivePublisher | None = None
        self.change_limiter = IntervalLimiter()  # limits track changes, also across publishers
        self.input: str | None = MAIN  # the name of the channel's input that is on air
        # The same for its further tracks together: a push, and two reconnections of it, change all of them at once.
        self.rendition_limiter = IntervalLimiter(3 * MAX_PUSHED)
        self.pushed_tracks = PushedTracks()
        self.further: FurtherRelay | None = None  # in hubs where further tracks are no renditions
        self.budget: MediaBudget | None = None  # the memory that its playlists share with those of other streams
        self.is_aligned = True  # whether its segments begin with those of the channel's other streams
        self.outputs: OutputSwitch | None = None
        self.health: HealthReport | None = None  # of a source stream
        self.first_number = 0  # of its playlists: higher than on the node that held the stream before
        self.announced = False  # whether the hub sent the event for its start
        self.viewers: Counter[str] = Counter()
        self.bytes_in = 0
        self.last_dts_ms = 0
        self.last_push = 0.0
        self._key_frame_asked = -KEY_FRAME_SECONDS
        self._gop_bounds = (gop_bytes, gop_seconds)
        self._on_playable = on_playable
        self._override: PictureOverride | None = None
        self._original_hidden = False  # the original is replaced, or viewers wait for its next key frame
        self._ending: EndReason | None = None
        self._rates: deque[tuple[float, int]] = deque(maxlen=6)
        self._on_end: list[Callable[[EndReason], None]] = []

    @property
    def is_source(self) -> bool:
        """Whether the stream is pushed from outside; false for a rendition."""
        return self.name == channel_of(self.name)

    @property
    def is_pushed_track(self) -> bool:
        """Whether the stream is a rendition that the channel's publisher sends as a further track."""
        return self.budget is not None

    @property
    def is_awaited(self) -> bool:
        """Whether any sink, also of the original, needs units as soon as they arrive."""
        return super().is_awaited or self.original.is_awaited

    @property
    def is_heard(self) -> bool:
        """Whether any sink, also of the original, needs the sound."""
        return super().is_heard or self.original.is_heard

    def output(self, name: str) -> object | None:
        """Returns the output of this name if it is enabled. Starts an output that waits for its first request."""
        return self.outputs.get(name) if self.outputs is not None else None

    def has_output(self, name: str) -> bool:
        """Whether the output of this name is enabled."""
        return self.outputs is not None and self.outputs.enabled(name)

    def request_key_frame(self, now: float) -> None:
        """Asks the publisher for a key frame, at most once a second. now: monotonic seconds."""
        ask = self.publisher.ask_key_frame if self.publisher is not None else None
        if ask is not None and now - self._key_frame_asked >= KEY_FRAME_SECONDS:
            self._key_frame_asked = now
            ask()

    # ---- called by the publisher ----

    def set_tracks(
        self, video: MediaTrack | None, audio: MediaTrack | None, metadata: dict[str, AmfValue], continuous: bool
    ) -> Tracks:
        """Announces tracks. A changed track, or `continuous` false, starts a new epoch."""
        tracks = self.original.set_tracks(video, audio, metadata, continuous)
        if not self._original_hidden:
            self._show_tracks(video, audio, metadata, continuous)
        return tracks

    def push(self, unit: AccessUnit) -> None:
        """Adds a unit to the caches and sends it to every sink, first to those of the original. Hot path."""
        self.bytes_in += len(unit.payload)
        original = self.original
        original.gop.add(unit)
        if original._sinks:
            original.send(unit)
        if not self._original_hidden:
            if self._sinks:
                self.send(unit)
        elif self._override is None and unit.key and (unit.track.kind is _VIDEO or not original.gop.has_video):
            self._show_original([unit])

    def set_sound_source(self, source: SoundSource | None) -> None:
        """Sets who makes the sound while a sink needs it; None: the units have their sound always."""
        self.sound = self.original.sound = source
        if source is None:
            self._admit_all()

    def add_sound(self, units: Sequence[AccessUnit]) -> None:
        """Puts sound that was made later into the cache, and sends the cache to the sinks that wait for it."""
        self.bytes_in += sum([len(unit.payload) for unit in units])
        self.original.gop.replace_sound(units)
        self._admit_all()

    def _admit_all(self) -> None:
        self.original.admit()
        self.admit()

    def push_timed(self, timed: Timed) -> None:
        self.original.push_timed(timed)
        if not self._original_hidden:
            super().push_timed(timed)

    # ---- what viewers get ----

    def override(self) -> PictureOverride:
        """Returns an object that can replace what viewers get. Raises RuntimeError while another one is open."""
        if self._override is not None:
            raise RuntimeError(f"{self.name} has an override already")
        override = PictureOverride(self)
        if self.ended is not None or self._ending is not None:
            override.close()
        else:
            self._override = override
        return override

    def _show_tracks(
        self, video: MediaTrack | None, audio: MediaTrack | None, metadata: dict[str, AmfValue], continuous: bool
    ) -> Tracks:
        tracks = super().set_tracks(video, audio, metadata, continuous)
        self._on_playable(self)
        return tracks

    def _show(self, unit: AccessUnit) -> None:
        super().push(unit)

    def _show_timed(self, timed: Timed) -> None:
        super().push_timed(timed)

    def _hide_original(self) -> None:
        """Called when an override engages. The current cache stays with the original; viewers get a new one."""
        if not self._original_hidden:
            self._original_hidden = True
            self.gop = GopCache(*self._gop_bounds)
            if self.tracks is not None:
                self.gop.has_video = self.tracks.video is not None

    def _show_original(self, units: Sequence[AccessUnit]) -> None:
        """Shows the original again, beginning with these units."""
        tracks = self.original.tracks
        if tracks is None:
            return
        self._show_tracks(tracks.video, tracks.audio, tracks.metadata, False)
        self._original_hidden = False
        for unit in units:
            self.send(unit)
        self.gop = self.original.gop

    def _override_closed(self, override: PictureOverride, resume: Sequence[AccessUnit]) -> None:
        if self._override is override:
            self._override = None
        if self._ending is not None:
            self._end_view(self._ending)
        elif self._original_hidden and resume:
            self._show_original(resume)

    # ---- state and end ----

    @property
    def state(self) -> StreamState:
        if self.ended is not None or self.tracks is None:
            return StreamState.IDLE
        return StreamState.LIVE if self.publisher is not None else StreamState.LINGERING

    @property
    def playable(self) -> bool:
        """Whether viewers can join: the tracks are known, and the stream has not ended."""
        return self.tracks is not None and self.ended is None

    def when_ended(self, call: Callable[[EndReason], None]) -> None:
        """Calls `call` once, after the end was reported to the sinks."""
        if self.ended is not None:
            call(self.ended)
        else:
            self._on_end.append(call)

    async def over(self) -> EndReason:
        """Waits for the end and returns its reason."""
        done: asyncio.Future[EndReason] = asyncio.get_running_loop().create_future()
        self.when_ended(lambda reason: None if done.done() else done.set_result(reason))
        return await done

    def end(self, reason: EndReason) -> None:
        """Ends the stream for good.

        The sinks of the original are informed at once. The other sinks are informed when the override has sent its
        last units, or after FINISH_SECONDS.
        """
        if self.ended is not None or self._ending is not None:
            return
        self._ending = reason
        override = self._override
        self._admit_all()
        self.original.end(reason)
        if override is None or not override.engaged or not override.open:
            self._end_view(reason)
        else:
            asyncio.get_running_loop().call_later(FINISH_SECONDS, self._end_view, reason)

    def _end_view(self, reason: EndReason) -> None:
        if self.ended is not None:
            return
        super().end(reason)
        if self._override is not None:
            self._override.close()
        calls, self._on_end = self._on_end, []
        for call in calls:
            try:
                call(reason)
            except Exception as error:  # an error of one callback must not stop the others
                log.error("the end of a stream was not taken", stream=self.name, exc_info=error)

    # ---- counters ----

    def sample(self, now: float) -> None:
        """Records the number of bytes received so far. The hub calls it once a second."""
        self._rates.append((now, self.bytes_in))

    @property
    def bitrate(self) -> int:
        """Bits of media payload per second, averaged over the last seconds."""
        if len(self._rates) < 2:
            return 0
        (t0, b0), (t1, b1) = self._rates[0], self._rates[-1]
        return round((b1 - b0) * 8 / (t1 - t0)) if t1 > t0 else 0


class PictureOverride:
    """Replaces what viewers of a stream get, for example with a watermark. Made by `Stream.override`.

    A stream has at most one override. Viewers notice nothing before `engage`.
    A sink of `stream.original` calls `engage` while it gets a video key frame, or before the very first unit.
    Sinks of the original come first, so this unit and the following ones are not shown.

    From then on, viewers get the items of `set_tracks`, `push` and `push_timed`, in decode order.
    These must begin with the picture of that key frame, and contain all other media since then.
    No unit of the original is shown: if the owner pauses, viewers wait.
    `close` shows the original again.

    When the stream ends, the owner has FINISH_SECONDS to send its last units; `close` ends it sooner.
    """

    def __init__(self, stream: Stream) -> None:
        self._stream: Stream | None = stream
        self.engaged = False

    @property
    def open(self) -> bool:
        """Whether neither the owner nor the end of the stream has closed it."""
        return self._stream is not None

    def engage(self) -> None:
        """Shows viewers the units of this override from now on. It may be called more than once."""
        if self._stream is not None and not self.engaged:
            self.engaged = True
            self._stream._hide_original()

    def set_tracks(
        self, video: MediaTrack | None, audio: MediaTrack | None, metadata: dict[str, AmfValue], continuous: bool
    ) -> Tracks | None:
        """Sets the tracks, before the first push and on any change. `continuous` false starts a new epoch.

        Returns None if the override is closed.
        """
        stream = self._stream
        assert self.engaged or stream is None, "an override shows nothing before it is engaged"
        return None if stream is None else stream._show_tracks(video, audio, metadata, continuous)

    def push(self, unit: AccessUnit) -> None:
        """Shows a unit of the current tracks. Its dts must not be before that of an earlier unit of its track."""
        if self._stream is not None:
            self._stream._show(unit)

    def push_timed(self, timed: Timed) -> None:
        if self._stream is not None:
            self._stream._show_timed(timed)

    def close(self, resume: Sequence[AccessUnit] = ()) -> None:
        """Ends the override. It may be called more than once.

        resume: units of the original, from one of its key frames to the newest unit. Viewers get them at once.
        Without them, the original is shown from its next key frame.
        """
        stream, self._stream = self._stream, None
        if stream is not None:
            stream._override_closed(self, resume)
