"""A live stream with a name: one publisher, any number of sinks, and an override of what its viewers get.

The stream has two timelines. Each is a `Fanout`: it has tracks, a GOP cache and sinks.

- `stream.original` is what the publisher sends. Relays, ladders and diagnosis read it.
- The stream itself is what viewers are shown. Packagers, recordings and feeds read it.

While nothing replaces the original, both are the same: they have the same units, and one GOP cache together.

An override (`PictureOverride`) replaces the shown timeline, for example by pictures with a watermark. There is at most
one. The shown timeline is in one of three states:

1. It shows the original. An override may be open, but it is not engaged yet.
2. It shows the override, from `engage` on. The original keeps the common cache; the shown timeline gets a new one.
3. It shows nothing: the override was closed without units to resume from. It lasts until the original's next key frame.

The tracks of the original are announced again when it is shown again. That starts a new epoch for viewers.

After `await_key_frame`, pictures up to the next key frame go only to the sinks of the original.

Each unit goes to the sinks of the original first. The owner of an override is a sink of the original. So it can engage
at a key frame before viewers get that frame.

A sink joins with `attach`. It gets the tracks at once, if they are known. Then it gets units of the past: the GOP
cache, the start buffer, or none (`SinkNeeds`). From then on, it gets every new unit. If the publisher makes audio only
on demand, a sink that wants audio first gets the tracks only. It gets the cache and new units when the audio is made.
The start buffer has the first seconds of the stream, for sinks that waited for the stream.

The stream ends once. The original ends first. The shown timeline ends with it, or when an engaged override has sent its
last units. Then the calls of `when_ended` are made.

Each part of the state has one writer:

- `publisher` is set by the `StreamShelf`, `input` by the channel's `ChannelSwitcher`, `health` once by `HealthMonitor`.
- The stream's `StreamPublisher` calls `set_tracks`, `push` and `push_timed`. It counts in `received`. It announces Opus
  in `pushed_sound`. Captions, cues and metadata from elsewhere come by `push_timed` too.
- `pushed_tracks` belongs to the publisher of additional tracks (`TrackPublisher`). On a shelf that relays these tracks,
  `additional` has them instead.
- `playback` belongs to playback and packaging, `outputs` to itself.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Protocol

import structlog

from gateway.channels.channel import Channel
from gateway.channels.names import channel_of
from gateway.lib.traffic import Tally
from gateway.live.additional_relay import AdditionalRelay
from gateway.live.fanout import Fanout
from gateway.live.gop_cache import GopCache
from gateway.live.health_report import HealthReport
from gateway.live.network_quality import Quality
from gateway.live.next_numbers import OutputNumbers
from gateway.live.on_air import InputOnAir, OnAir
from gateway.live.pushed_tracks import MediaBudget, PushedTracks
from gateway.live.received import ReceivedMedia
from gateway.live.sink import EndReason, SoundSource
from gateway.live.stream_captions import StreamCaptions
from gateway.live.stream_playback import StreamPlayback
from gateway.live.track_changes import ChangeLimiters
from gateway.media.track import AccessUnit, AmfValue, Kind, MediaTrack, TimedData, Tracks

log = structlog.get_logger(__name__)

_KEY_FRAME_WAIT: Final = 10.0  # seconds of pictures; some encoders mark no key frame
# After the end of the original, the owner of an override sends its last pictures: as long as they come, and at most so
# long. A busy machine may be seconds behind.
FINISH_SECONDS: Final = 3.0
_MAX_FINISH_SECONDS: Final = 12.0
_VIDEO: Final = Kind.VIDEO


class StreamState(StrEnum):
    IDLE = "idle"
    LIVE = "live"
    LINGERING = "lingering"


class ActivePublisher(Protocol):
    """`Stream.publisher`; implemented by `StreamPublisher`.

    last_media: monotonic seconds. emits_events: whether its begin and its end are emitted as events.
    network: returns the quality of its connection; None: unknown, or its protocol has no reports.
    rate: of all its tracks, and its limit, in kbit/s; both 0: it has no limit. `Hub` sets it.
    """

    last_media: float
    emits_events: bool
    network: Callable[[], Quality | None]
    rate: tuple[float, float]

    @property
    def on_air(self) -> OnAir:
        """The push as the stream shows it."""

    def request_key_frame(self, now: float) -> None: ...

    def evict(self, reason: EndReason) -> None: ...


class OutputSwitch(Protocol):
    """`Stream.outputs`; implemented by `Outputs`."""

    def names(self) -> list[str]: ...

    def enabled(self, name: str) -> bool: ...

    def get(self, name: str) -> object | None: ...

    def switch(self, name: str, enabled: bool) -> None: ...

    def open(self) -> None: ...

    async def run(self) -> None: ...

    def channel_changed(self) -> None: ...

    def tracks_changed(self) -> None: ...

    def status(self) -> list[dict[str, object]]: ...

    def faults(self) -> dict[str, str]: ...

    def states(self) -> list[tuple[str, str]]: ...


class StreamKind(StrEnum):
    """The origin of a stream's media."""

    SOURCE = "source"  # a publisher outside this process, into a channel or into one of its inputs
    RENDITION = "rendition"  # a worker that encodes the source, on this node or another one
    PUSHED_TRACK = "pushed track"  # the source's publisher, as an additional track: a rendition without a worker

    @classmethod
    def of(cls, name: str) -> StreamKind:
        """Returns the kind of a stream with this name that is no additional track."""
        return cls.SOURCE if name == channel_of(name) else cls.RENDITION


@dataclass(frozen=True, slots=True)
class StreamSpec:
    """The fixed properties of a stream.

    started: seconds since 1970.
    gop_bytes, gop_seconds: limits of the GOP cache.
    first_number: first segment number of its playlists, higher than on the node that held the stream before.
    is_aligned: whether its segments begin with those of the channel's other streams.
    budget: the memory that its playlists share with other streams; None: they share none.
    relays: whether additional tracks are relayed, because the hub has no renditions.
    continues: the numbers with which its outputs continue those of another node; {}: they are unknown.
    tracks_wait: seconds in which the promised pictures of a push may begin.
    """

    name: str
    started: float
    gop_bytes: int
    gop_seconds: float
    kind: StreamKind = StreamKind.SOURCE
    first_number: int = 0
    is_aligned: bool = True
    budget: MediaBudget | None = None
    relays: bool = False
    continues: OutputNumbers = field(default_factory=dict)
    tracks_wait: float = 10.0


class Stream(Fanout):
    """The stream that viewers get; see the top of this file.

    limiters: of the earlier stream with this name. on_playable: called whenever tracks are shown.
    outputs: makes the outputs. The caller opens and runs them.
    It exists from the first publisher's media until the linger time after the last publisher.
    """

    def __init__(
        self,
        spec: StreamSpec,
        channel: Channel,
        limiters: ChangeLimiters | None = None,
        on_playable: Callable[[Stream], None] = lambda stream: None,
        outputs: Callable[[Stream], OutputSwitch] | None = None,
    ) -> None:
        self.pushed_sound = PushedSound(self._admit_all)
        super().__init__(GopCache(spec.gop_bytes, spec.gop_seconds), self.pushed_sound)
        self.original = Fanout(self.gop, self.pushed_sound)
        self.spec = spec
        self.channel = channel
        self.publisher: ActivePublisher | None = None
        self.input = InputOnAir()
        self.received = ReceivedMedia(StreamCaptions(lambda: self.channel.captions), limiters or ChangeLimiters())
        self.pushed_tracks = PushedTracks()
        self.additional = AdditionalRelay() if spec.relays else None
        self.playback = StreamPlayback()
        self.health: HealthReport | None = None  # of a source stream
        self._on_playable = on_playable
        self._on_end: list[Callable[[EndReason], None]] = []
        self._override: PictureOverride | None = None
        self._original_hidden = False  # an override replaces the original, or viewers wait for its next key frame
        self.outputs = outputs(self) if outputs is not None else None

    @property
    def bitrate(self) -> int:
        """Bits per second of the received media."""
        return self.received.bitrate

    @property
    def captions(self) -> StreamCaptions:
        """The captions in the pictures and in timed data."""
        return self.received.captions

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def viewers(self) -> Counter[str]:
        """The viewers of this node by protocol."""
        return self.playback.viewers

    @property
    def tally(self) -> Tally:
        """Counts the bytes of the channel."""
        return self.playback.tally

    @property
    def is_source(self) -> bool:
        """Whether the stream is pushed from outside; false for a rendition."""
        return self.spec.kind is StreamKind.SOURCE

    @property
    def is_awaited(self) -> bool:
        """Whether any sink, also of the original, needs units as soon as they arrive."""
        return super().is_awaited or self.original.is_awaited

    @property
    def wants_audio(self) -> bool:
        """Whether any sink, also of the original, wants audio."""
        return super().wants_audio or self.original.wants_audio

    def change_channel(self, channel: Channel) -> None:
        """Applies a changed channel: expiry, protection, outputs. Only the hub calls it."""
        self.channel = channel
        if self.outputs is not None:
            self.outputs.channel_changed()

    def output(self, name: str) -> object | None:
        """Returns the output of this name if it is enabled. Starts an output that waits for its first request."""
        return self.outputs.get(name) if self.outputs is not None else None

    def has_output(self, name: str) -> bool:
        """Whether the output of this name is enabled."""
        return self.outputs is not None and self.outputs.enabled(name)

    def request_key_frame(self, now: float) -> None:
        """Asks the publisher for a key frame, at most once a second. now: monotonic seconds."""
        if self.publisher is not None:
            self.publisher.request_key_frame(now)

    # ---- called by the publisher ----

    def set_tracks(
        self, video: MediaTrack | None, audio: MediaTrack | None, metadata: dict[str, AmfValue], continuous: bool
    ) -> Tracks:
        """Announces tracks. A changed track, or `continuous` false, starts a new epoch."""
        before = self.original.tracks
        tracks = self.original.set_tracks(video, audio, metadata, continuous)
        if before is not None and before.epoch != tracks.epoch:
            self.captions.restart()
        if not self._original_hidden:
            self._show_tracks(video, audio, metadata, continuous)
        elif self.outputs is not None:
            self.outputs.tracks_changed()
        return tracks

    def await_key_frame(self) -> None:
        """Shows no picture before the next key frame: viewers lack the pictures to which it would refer.

        Without a key frame, pictures are shown again after _KEY_FRAME_WAIT.
        """
        self.playback.key_due = math.inf

    def push(self, unit: AccessUnit) -> None:
        """Adds a unit to the caches and sends it to every sink, first to those of the original. Hot path."""
        is_shown, video = True, unit.track.kind is _VIDEO
        if video:
            self.received.captions.look(unit)
            if (due := self.playback.key_due) is not None:
                is_shown = self._ends_wait(unit, due)
        original = self.original
        if is_shown:
            original.gop.add(unit)
        if original._sinks:
            original.send(unit)
        if not self._original_hidden:
            if is_shown and self._sinks:
                self.send(unit)
        elif self._override is None and unit.key and (video or not original.gop.has_video):
            self._show_original([unit])

    def _ends_wait(self, picture: AccessUnit, due: float) -> bool:
        """Whether the wait for a key frame ends with this picture. due: seconds of the stream."""
        seconds = picture.dts / picture.track.timescale
        is_over = picture.key or seconds >= due
        self.playback.key_due = None if is_over else min(due, seconds + _KEY_FRAME_WAIT)
        return is_over

    def add_sound(self, units: Sequence[AccessUnit]) -> None:
        """Puts sound that was made later into the cache, and sends the cache to the sinks that wait for it."""
        self.original.gop.replace_sound(units)
        self._admit_all()

    def _admit_all(self) -> None:
        self.original.admit()
        self.admit()

    def push_timed(self, timed: TimedData) -> None:
        received = self.received
        received.captions.take(timed)
        if received.on_script is not None:
            received.on_script(timed)
        self.original.push_timed(timed)
        if not self._original_hidden:
            super().push_timed(timed)

    # ---- what viewers get ----

    def override(self) -> PictureOverride:
        """Returns an object that can replace what viewers get. Raises RuntimeError while another one is open."""
        if self._override is not None:
            raise RuntimeError(f"{self.name} has an override already")
        override = PictureOverride(self)
        if self.original.ended is not None:
            override.close()
        else:
            self._override = override
        return override

    def _show_tracks(
        self, video: MediaTrack | None, audio: MediaTrack | None, metadata: dict[str, AmfValue], continuous: bool
    ) -> Tracks:
        tracks = super().set_tracks(video, audio, metadata, continuous)
        if self.outputs is not None:
            self.outputs.tracks_changed()
        self._on_playable(self)
        return tracks

    def _hide_original(self) -> None:
        """Called when an override engages. The current cache stays with the original; viewers get a new one."""
        if not self._original_hidden:
            self._original_hidden = True
            self.gop = GopCache(self.spec.gop_bytes, self.spec.gop_seconds)
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
        if self.original.ended is not None:
            self._end_shown(self.original.ended)
        elif self._original_hidden and resume:
            self._show_original(resume)

    # ---- state and end ----

    @property
    def state(self) -> StreamState:
        if self.ended is not None or self.tracks is None:
            return StreamState.IDLE
        return StreamState.LIVE if self.publisher is not None else StreamState.LINGERING

    @property
    def is_paused(self) -> bool:
        """Whether the stream lingers because its publisher said that it stops. Otherwise its connection broke."""
        return self.received.was_stopped and self.state is StreamState.LINGERING

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
        last units, or none for FINISH_SECONDS.
        """
        if self.original.ended is not None:
            return
        override = self._override
        self._admit_all()
        self.original.end(reason)
        if override is None or not override.engaged or not override.open:
            self._end_shown(reason)
        else:
            self._wait_for_override(override, reason, time.monotonic() + _MAX_FINISH_SECONDS)

    def _wait_for_override(self, override: PictureOverride, reason: EndReason, until: float) -> None:
        """Ends the shown timeline when no unit of the override comes any more, or at this monotonic time."""
        before = override.pushed

        def look() -> None:
            if self.ended is None and override.pushed != before and time.monotonic() < until:
                self._wait_for_override(override, reason, until)
            else:
                self._end_shown(reason)

        asyncio.get_running_loop().call_later(FINISH_SECONDS, look)

    def _end_shown(self, reason: EndReason) -> None:
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
                log.error("a callback at the end of a stream failed", stream=self.name, exc_info=error)


class PushedSound:
    """Passes the pushed Opus on, and knows the maker of the AAC. Only the stream's publisher announces it.

    opus: passes the Opus as it came, without a cache. Its tracks are None until a push has Opus.
    complete: called when every unit has its AAC again.
    """

    def __init__(self, complete: Callable[[], None]) -> None:
        self.opus: Final = Fanout(GopCache(0, 0))
        self._complete = complete
        self._source: SoundSource | None = None  # None: the units always have their AAC

    def announce(self, track: MediaTrack | None, source: SoundSource | None) -> None:
        """Announces the Opus; None: the push no longer has any. source: makes the AAC while a sink wants audio."""
        self.opus.set_tracks(None, track, {}, False)
        self._source = source
        if source is None:
            self._complete()

    def begin(self) -> bool:
        """Implements SoundSource."""
        return self._source is None or self._source.begin()


class PictureOverride:
    """Replaces what viewers of a stream get, for example with a watermark. Made by `Stream.override`.

    A stream has at most one override. Viewers notice nothing before `engage`.
    A sink of `stream.original` calls `engage` while it gets a video key frame, or before the very first unit.
    Sinks of the original come first, so this unit and the following ones are not shown.

    From then on, viewers get the items of `set_tracks`, `push` and `push_timed`, in decode order.
    These must begin with the picture of that key frame, and contain all other media since then.
    No unit of the original is shown: if the owner pauses, viewers wait.
    `close` shows the original again.

    When the stream ends, the owner may send its last units, with pauses below FINISH_SECONDS; `close` ends it sooner.

    pushed: number of units.
    """

    def __init__(self, stream: Stream) -> None:
        self._stream: Stream | None = stream
        self.engaged = False
        self.pushed = 0

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
            self.pushed += 1
            Fanout.push(self._stream, unit)  # to viewers alone

    def push_timed(self, timed: TimedData) -> None:
        if self._stream is not None:
            Fanout.push_timed(self._stream, timed)

    def close(self, resume: Sequence[AccessUnit] = ()) -> None:
        """Ends the override. It may be called more than once.

        resume: units of the original, from one of its key frames to the newest unit. Viewers get them at once.
        Without them, the original is shown from its next key frame.
        """
        stream, self._stream = self._stream, None
        if stream is not None:
            stream._override_closed(self, resume)
