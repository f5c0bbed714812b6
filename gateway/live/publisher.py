"""The right to push into a Stream, which one publisher at a time has, and the interface that acquires it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from gateway.channels.channel import Channel
from gateway.live.network_quality import NetworkQuality
from gateway.live.pushed_tracks import TrackInfo
from gateway.live.sink import EndReason, SoundSource
from gateway.live.stream import Stream
from gateway.live.track_changes import DelayedChange, IntervalLimiter, KeepsChanging, TrackChangeLimit
from gateway.media.clock import PublisherTimeline
from gateway.media.track import AmfValue, Kind, MediaTrack, Tracks
from gateway.media.unit import AccessUnit, Timed

_MIN_GAP_MS = 33  # between the last unit before a reconnection and the first one after it: one frame


class FurtherTracks(Protocol):
    """The further tracks of a push; implemented by `TrackPublisher` and `FurtherRelay`."""

    def set_track(self, track_id: int, track: MediaTrack, info: TrackInfo, now: float) -> None:
        """Announces or changes a track. Raises KeepsChanging."""

    def describe(self, info: Callable[[Kind, int], TrackInfo]) -> None:
        """Applies a changed onMetaData. info(kind, id): returns the info of a track."""

    def push(self, number: int, unit: AccessUnit, now: float) -> None:
        """Pushes one unit of a further track. number: twice its id, and one more for audio."""

    def default(self, unit: AccessUnit, now: float) -> None:
        """Takes each unit of the default tracks, after the stream got it."""

    def close(self) -> None:
        """Ends the push of all further tracks."""


@dataclass(frozen=True, slots=True)
class PushOrigin:
    """The source of a push.

    keep_time: whether its units have the stream's time already.
    trusted: whether its track changes were limited before they came here.
    announced: whether its begin and end are events.
    """

    protocol: str
    peer: str
    keep_time: bool = False
    trusted: bool = False
    announced: bool = True


class StreamPublisher:
    """The publisher of a stream: the lease of an ingest connection, from the accepted key until it closes.

    evict: called when the lease is taken away (kick, take-over, expiry, shutdown). The connection then informs its
    peer and closes.
    keep_time: leaves timestamps unchanged, for renditions, which have the timestamps of their source.
    Otherwise the units of a returning publisher are shifted: the stream's time continues. The gap is as long as the
    time without units.
    trusted: does not limit the changes of its tracks (`gateway.live.track_changes`). Another node has limited them,
    or they come from one of our workers.

    now: monotonic seconds. on_close: called once when the publisher closes without eviction.
    """

    def __init__(
        self,
        stream: Stream,
        origin: PushOrigin,
        now: float,
        evict: Callable[[EndReason], None],
        on_close: Callable[[StreamPublisher], None],
    ) -> None:
        self.stream = stream
        self.protocol = origin.protocol
        self.peer = origin.peer
        self.announced = origin.announced
        self.since = now
        self.last_media = now
        self.network: Callable[[], NetworkQuality] | None = None  # set by its intake, if reports tell it
        self.dropped: Counter[str] = Counter()
        self.timeline: PublisherTimeline | None = None  # set by its intake
        self.ask_key_frame: Callable[[], None] | None = None  # set by its intake
        self.further: FurtherTracks | None = None  # None: this push can only have the default tracks
        self.has_further = False  # a further track was announced
        self._has_opus = False  # Opus was announced beside the tracks
        self._sound_source: SoundSource | None = None
        self._on_close = on_close
        self._evict: Callable[[EndReason], None] | None = evict
        self._shift_ms: int | None = 0 if origin.keep_time else None
        self._is_first = True
        self.fault: EndReason | None = None  # the reason for the end, if the publisher caused it
        self._changes = None if origin.trusted else TrackChangeLimit()
        self._metadata_limiter = IntervalLimiter()  # for changes of the metadata only
        self._requested: tuple[MediaTrack | None, MediaTrack | None] | None = None
        self._delayed: DelayedChange | None = None

    def set_tracks(
        self,
        video: MediaTrack | None,
        audio: MediaTrack | None,
        metadata: dict[str, AmfValue],
        *,
        continuous: bool = True,
        now: float | None = None,
    ) -> Tracks | None:
        """Announces or changes the tracks. It must be called before the first push.

        Returns the tracks that the consumers have afterwards.
        A change that comes too soon is delayed, with the units pushed after it. Raises KeepsChanging.
        continuous: whether the following units continue the earlier units of this publisher.
        now: monotonic seconds.
        """
        first, self._is_first = self._is_first, False
        changed = not first and (not continuous or (video, audio) != self._requested)
        self._requested = video, audio
        stream, continuous = self.stream, continuous and not first
        if self._changes is None:
            return stream.set_tracks(video, audio, dict(metadata), continuous)
        now = time.monotonic() if now is None else now
        if changed:
            self.count_change(now)
        waits, current = self._delayed is not None and self._delayed.media, stream.original.tracks
        if waits or not continuous or changed or current is None:
            self._announce(
                DelayedChange(video, audio, dict(metadata), continuous, media=True), stream.change_limiter, now
            )
        elif metadata != current.metadata:
            self._announce(DelayedChange(video, audio, dict(metadata), True, media=False), self._metadata_limiter, now)
        else:
            self._delayed = None  # a delayed change of the metadata was undone
        return stream.original.tracks

    def _announce(self, change: DelayedChange, limiter: IntervalLimiter, now: float) -> None:
        """Announces a change now, or as soon as the limiter allows it."""
        if self._delayed is not None:
            change.instead_of(self._delayed)
        if limiter.take(now):
            self._delayed = None
            self._apply(change)
        else:
            change.due = limiter.due(now)
            self._delayed = change

    def _apply(self, change: DelayedChange) -> None:
        self.stream.set_tracks(change.video, change.audio, change.metadata, change.continuous)
        for item, at in change.items():
            if isinstance(item, AccessUnit):
                self.push(item, at)
            else:
                self.push_timed(item)
        if change.dropped:
            self.dropped["changes"] += change.dropped

    def push(self, unit: AccessUnit, now: float) -> None:
        """Pushes one unit of an announced track. Hot path. now: monotonic seconds."""
        if self._delayed is not None and self._delays(self._delayed, unit, now):
            return
        scale = unit.track.timescale
        stream = self.stream
        shift = self._shift_ms
        if shift is None:
            shift = self._shift_ms = self._first_shift(unit.dts * 1000 // scale, now)
        if shift:
            unit.dts += shift * scale // 1000
        self.last_media = stream.last_push = now
        dts_ms = unit.dts if scale == 1000 else unit.dts * 1000 // scale
        if dts_ms > stream.last_dts_ms:
            stream.last_dts_ms = dts_ms
        stream.push(unit)
        if self.has_further and self.further is not None:
            self.further.default(unit, now)

    def set_opus(self, track: MediaTrack | None, source: SoundSource | None = None) -> None:
        """Announces the pushed Opus that the tracks have as AAC; None: there is none any more.

        source: makes the AAC on demand, with `push`, and with `add_sound` for what a sink waits for.
        """
        if track is not None or self._has_opus:
            self._has_opus, self._sound_source = track is not None, source
            self.stream.pushed_opus.set_tracks(None, track, {}, False)
            self.stream.set_sound_source(source)

    def push_opus(self, unit: AccessUnit, now: float) -> None:
        """Pushes one unit of the announced Opus. Hot path. now: monotonic seconds."""
        stream = self.stream
        unit.dts += self.shift(unit, now)
        self.last_media = stream.last_push = now
        stream.last_dts_ms = max(stream.last_dts_ms, unit.dts * 1000 // unit.track.timescale)
        stream.pushed_opus.send(unit)

    def add_sound(self, units: Sequence[AccessUnit], now: float) -> None:
        """Gives the AAC of the cached pictures to the stream. now: monotonic seconds."""
        if self._delayed is not None and self._delayed.media:
            units = ()  # the change empties the cache
        for unit in units:
            unit.dts += self.shift(unit, now)
        self.stream.add_sound(units)

    def set_further(self, track_id: int, track: MediaTrack, info: TrackInfo, now: float) -> None:
        """Announces or changes a further track. Raises KeepsChanging. now: monotonic seconds."""
        if self.further is not None:
            self.has_further = True
            self.further.set_track(track_id, track, info, now)

    def describe_further(self, info: Callable[[Kind, int], TrackInfo]) -> None:
        """Applies a changed onMetaData. info(kind, id): returns the info of a track."""
        if self.further is not None:
            self.further.describe(info)

    def push_further(self, number: int, unit: AccessUnit, now: float) -> None:
        """Pushes one unit of a further track. Hot path. number: twice its id, and one more for audio."""
        if self.further is not None:
            self.further.push(number, unit, now)

    def shift(self, unit: AccessUnit, now: float) -> int:
        """Returns what is added to the unit's dts, in its ticks, for the time of the stream."""
        shift = self._shift_ms
        if shift is None:
            shift = self._shift_ms = self._first_shift(unit.dts * 1000 // unit.track.timescale, now)
        return shift * unit.track.timescale // 1000 if shift else 0

    def count_change(self, now: float) -> None:
        """Counts a change of tracks. Raises KeepsChanging if there are too many. now: monotonic seconds."""
        if self._changes is None:
            return
        try:
            self._changes.count(now)
        except KeepsChanging:
            self.fault = EndReason.KEPT_CHANGING
            raise

    def _delays(self, change: DelayedChange, unit: AccessUnit, now: float) -> bool:
        """Whether the unit is delayed with a change. Announces the change if it is due, and pushes its units."""
        if now >= change.due and (self.stream.change_limiter if change.media else self._metadata_limiter).take(now):
            self._delayed = None
            self._apply(change)
        elif change.media:
            self.last_media = now
            change.add(unit, now)
            return True
        return False

    def push_timed(self, timed: Timed) -> None:
        if self._delayed is not None and self._delayed.media:
            self._delayed.add(timed, self.last_media)
            return
        timed.dts += self._shift_ms or 0
        self.stream.push_timed(timed)

    def close(self) -> None:
        """Returns the lease at the end of the push or connection. The stream lingers. It may be called repeatedly."""
        change, self._delayed = self._delayed, None
        if change is not None and change.lost:
            self.dropped["changes"] += change.lost
        if self.active:
            self.set_opus(None)
        if self._evict is not None:
            self._evict = None
            self._on_close(self)
        self._close_further()

    def evict(self, reason: EndReason) -> None:
        """Revokes the lease. Only the hub calls it."""
        self.set_opus(None)
        evict, self._evict = self._evict, None
        if evict is not None:
            evict(reason)
        self._close_further()

    def _close_further(self) -> None:
        further, self.further = self.further, None
        if further is not None:
            further.close()

    @property
    def active(self) -> bool:
        return self._evict is not None

    def replace(self, earlier: StreamPublisher) -> FurtherTracks | None:
        """Takes the further tracks of the stream's earlier publisher, and returns them. Only the hub calls it."""
        self.further, earlier.further = earlier.further, None
        self.has_further = earlier.has_further
        return self.further

    def move(self, stream: Stream, on_close: Callable[[StreamPublisher], None], further: FurtherTracks | None) -> None:
        """Publishes into another stream from now on. further: of that stream. Only the hub calls it."""
        self._close_further()
        opus, source = self.stream.pushed_opus.tracks if self._has_opus else None, self._sound_source
        self.set_opus(None)
        self.stream, self.further = stream, further
        self.set_opus(None if opus is None else opus.audio, source)
        self._on_close = on_close

    def _first_shift(self, first_ms: int, now: float) -> int:
        stream = self.stream
        if not stream.last_push:
            return 0
        gap = max(_MIN_GAP_MS, round((now - stream.last_push) * 1000))
        return stream.last_dts_ms + gap - first_ms


class AcquirePublisher(Protocol):
    """`Hub.lease`, or a function that asks other nodes first. It awaits nothing between the grant and the return."""

    async def __call__(
        self, channel: Channel, *, protocol: str, peer: str, evict: Callable[[EndReason], None], input: str = ""
    ) -> StreamPublisher:
        """Returns the lease on the channel's source stream, on this node or on the node that holds the stream.

        input: the name of the channel's input; "": the push with the channel's own key.
        Raises NameInUse, AtCapacity, StoreUnavailable.
        """
        ...


class PublishSource(Protocol):
    """Publishes into a channel whose stream this node holds, or may hold. See `Hub.publish_source`."""

    def __call__(
        self, channel: Channel, origin: PushOrigin, evict: Callable[[EndReason], None], *, input: str, first_number: int
    ) -> StreamPublisher: ...
