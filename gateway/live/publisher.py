"""The right to push into a Stream, and the interface that acquires it. One publisher at a time has this right."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final, Protocol, TypeAlias

from gateway.channels.channel import Channel
from gateway.channels.inputs import InputKind
from gateway.live.network_quality import Quality, unknown_quality
from gateway.live.on_air import OnAir
from gateway.live.pushed_tracks import TrackInfo
from gateway.live.silent_sound import SilentSound
from gateway.live.sink import EndReason, SoundSource
from gateway.live.stream import ActivePublisher, Stream
from gateway.live.track_changes import DelayedChange, IntervalLimiter, KeepsChanging, TrackChangeLimit
from gateway.live.unusable_media import UnusableMedia
from gateway.media.clock import MILLISECONDS, PublisherTimeline
from gateway.media.codecs import frame_seconds
from gateway.media.errors import InvalidData
from gateway.media.silent_frames import silent_frame
from gateway.media.track import AccessUnit, AmfValue, Kind, MediaTrack, TimedData, Tracks

# Called when the hub takes the right to push away.
Evict: TypeAlias = Callable[[EndReason], None]

KEY_FRAME_SECONDS: Final = 1.0  # between two requests for a key frame
# An encoder that begins with its uptime begins near zero: mpegts.js (1.8) freezes at 2^31 milliseconds, and relays are
# disliked with such times. Later units of another track may be a little earlier than the first one.
_LATEST_START_MS, _START_MS = 10_000, 1_000
# Units in a second of the stream's time. Encoders send at most 500; queues are bounded in seconds and bytes of payload.
_MAX_RATE: Final = 2_000
_MAX_BACK: Final = 60  # seconds; a larger step back is another clock
_VIDEO: Final = Kind.VIDEO
_MIN_GAP_MS = 33  # between the last unit before a reconnection and the first one after it: one frame


class AdditionalTracks(Protocol):
    """The additional tracks of a push; implemented by `TrackPublisher` and `AdditionalRelay`."""

    def set_track(self, track_id: int, track: MediaTrack, info: TrackInfo, now: float) -> None: ...

    def describe(self, info: Callable[[Kind, int], TrackInfo]) -> None: ...

    def push(self, number: int, unit: AccessUnit, now: float) -> None: ...

    def take_default(self, unit: AccessUnit, now: float) -> None: ...

    def begin(self, source: StreamPublisher) -> None: ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class PushOrigin:
    """The source of a push.

    keep_time: whether its units already have the stream's times, so that they are not shifted.
    trusted: whether its track changes were limited before they came here.
    emits_events: whether its begin and its end are emitted as events.
    """

    protocol: str
    peer: str
    keep_time: bool = False
    trusted: bool = False
    emits_events: bool = True


class StreamPublisher:
    """The publisher of a stream: the right of a connection to push, from the accepted key until it closes.

    evict: called when the hub takes this right away (kick, take-over, expiry, shutdown). The connection then informs
    its peer and closes.
    keep_time: leaves timestamps unchanged, for renditions, which have the timestamps of their source.
    Otherwise the units of a returning publisher are shifted: the stream's time continues. The gap is as long as the
    time without units. The first publisher is shifted only if its times begin late (_LATEST_START_MS).
    Of more than 2,000 units in a second of their times, the others are dropped.
    A publisher that returns without sound gets silence: players that are open stop otherwise.
    trusted: does not limit the changes of its tracks (`gateway.live.track_changes`). Another node has limited the
    changes, or the units come from one of our workers.

    now: monotonic seconds. on_close: called once when the publisher closes without eviction.

    last_media: monotonic seconds. `PushSession` also sets it, while its media wait for a worker. emits_events: see
    PushOrigin. rate: set by `Hub`.
    network: returns the quality of its connection; None: unknown, or its protocol has no reports. ask_key_frame: asks
    the client for a key frame; None: its protocol cannot ask. Who acquires the publisher may set both: `SrtPush`,
    `WhipIntake`, `UnitReceiver`, `ChannelSwitcher`.
    has_additional: an additional track was announced, or `Program` shows the default media in its place.
    """

    def __init__(
        self, stream: Stream, origin: PushOrigin, now: float, evict: Evict, on_close: Callable[[StreamPublisher], None]
    ) -> None:
        self.stream = stream
        dropped = Counter[str]()
        self._on_air = OnAir(origin.protocol, origin.peer, now, dropped, UnusableMedia(stream.name, dropped))
        self._shown: ActivePublisher | None = None  # another one, which is shown instead
        self.emits_events = origin.emits_events
        self.last_media = now
        self.rate = 0.0, 0.0
        self.network: Callable[[], Quality | None] = unknown_quality
        self.ask_key_frame: Callable[[], None] | None = None
        self._key_frame_asked = -math.inf  # monotonic time of the last request
        self.additional: AdditionalTracks | None
        self.use_additional(stream.additional)
        self.has_additional = False
        self._has_opus = False  # Opus was announced beside the tracks
        self._sound_source: SoundSource | None = None
        self._on_close = on_close
        self._evict: Evict | None = evict
        self._shift_ms: int | None = 0 if origin.keep_time else None  # None: unknown before the first unit
        self._is_first = True
        self._picture = -1  # decode time of the last picture, on the time of the stream
        self._sound = -1  # the last time with which sound came, on the time of the stream
        self._repeated = 0.0  # length of all frames with that time but the last, in ticks of the track
        self._left, self._second = 0, -1  # units that may still come, in this second of the stream's time
        self.end_reason: EndReason | None = None  # the publisher's own reason for its end
        self._changes = None if origin.trusted else TrackChangeLimit()
        self._metadata_limiter = IntervalLimiter()  # for changes of the metadata only
        self._requested: tuple[MediaTrack | None, MediaTrack | None] | None = None  # by the last `set_tracks`
        self._silence: SilentSound | None = None  # beside pictures without sound
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
        is_mute, self._silence = first or self._silence is not None, None
        if is_mute and audio is None and video is not None:
            audio = self._earlier_sound(video.timescale)
        if self._changes is None:
            return stream.set_tracks(video, audio, dict(metadata), continuous)
        now = time.monotonic() if now is None else now
        if changed:
            self.count_change(now)
        waits, current = self._delayed is not None and self._delayed.media, stream.original.tracks
        if waits or not continuous or changed or current is None:
            change = DelayedChange(video, audio, dict(metadata), continuous, media=True)
            self._announce(change, stream.received.limiters.tracks, now)
        elif metadata != current.metadata:
            self._announce(DelayedChange(video, audio, dict(metadata), True, media=False), self._metadata_limiter, now)
        else:
            self._delayed = None  # a delayed change of the metadata was undone
        return stream.original.tracks

    def _earlier_sound(self, timescale: int) -> MediaTrack | None:
        """Returns the sound that the stream has had, which is silent from now on; None: it had none."""
        earlier = self.stream.original.tracks
        if earlier is None or earlier.audio is None or not self.stream.is_source:
            return None
        if (frame := silent_frame(earlier.audio)) is None:
            return None
        track = replace(earlier.audio, timescale=timescale)
        self._silence = SilentSound(track, frame)
        return track

    def _announce(self, change: DelayedChange, limiter: IntervalLimiter, now: float) -> None:
        """Announces a change now, or as soon as the limiter allows it."""
        if self._delayed is not None:
            change.replace_earlier(self._delayed)
        if limiter.take(now):
            self._delayed = None
            self._apply(change)
        else:
            change.due = limiter.due(now)
            self._delayed = change

    def _apply(self, change: DelayedChange) -> None:
        self.stream.set_tracks(change.video, change.audio, change.metadata, change.continuous)
        for item, at in change.take_items():
            if isinstance(item, AccessUnit):
                self.push(item, at)
            else:
                self.push_timed(item)
        if change.dropped:
            self.on_air.dropped["changes"] += change.dropped

    def push(self, unit: AccessUnit, now: float) -> None:
        """Pushes one unit of an announced track. Hot path. now: monotonic seconds."""
        if self._delayed is not None and self._delay(self._delayed, unit, now):
            return
        if self._shift_ms != 0:  # None: unknown before the first unit
            unit.dts += self.shift(unit, now)
        if not self._admit(unit):
            self.on_air.dropped["ingest"] += 1
            return
        if self._silence is not None and unit.track.kind is _VIDEO:
            self._push_silence(self._silence.until(unit.dts, unit.wall, now), now)
        self.last_media = now
        self.stream.received.add(unit, now)
        self.stream.push(unit)
        if self.has_additional and self.additional is not None:
            self.additional.take_default(unit, now)

    def _push_silence(self, frames: Iterable[AccessUnit], now: float) -> None:
        for frame in frames:
            self.push_shifted(frame, now)
            if self.has_additional and self.additional is not None:
                self.additional.take_default(frame, now)

    def _admit(self, unit: AccessUnit) -> bool:
        """Puts a unit in the order of its track. Returns false if it is dropped: there are too many in a second."""
        if unit.track.kind is _VIDEO:
            # Some encoders stamp a picture when they have it, and so before the last one. Browsers then show no more.
            # A larger step back is another clock.
            if 0 <= self._picture - unit.dts <= unit.track.timescale:
                unit.dts = self._picture + max(1, unit.track.timescale // MILLISECONDS)
            self._picture = unit.dts
        elif unit.dts != self._sound:
            self._sound, self._repeated = unit.dts, 0.0
        else:
            unit.dts += self._repeat(unit)
        self._left -= 1
        return self._left >= 0 or self._is_in_next_second(unit)

    def _repeat(self, unit: AccessUnit) -> int:
        """Returns by how many ticks a frame begins after its time, which is that of the frame before.

        Some encoders send a second of sound with one time, or all of it. Its samples are then its clock.
        """
        with suppress(InvalidData):
            self._repeated += frame_seconds(unit.track, unit.payload) * unit.track.timescale
        return round(self._repeated)

    def _is_in_next_second(self, unit: AccessUnit) -> bool:
        """Whether a unit begins another second of at most _MAX_RATE units."""
        second = unit.dts // unit.track.timescale
        if -_MAX_BACK <= second - self._second <= 0:
            return False
        self._second, self._left = second, _MAX_RATE - 1
        return True

    def push_own(self, unit: AccessUnit, now: float) -> bool:
        """Pushes one unit of a rendition's own track, which has the time of the stream already. Hot path.

        Returns false if it is dropped.
        """
        if not self._admit(unit):
            return False
        self.push_shifted(unit, now)
        return True

    def push_shifted(self, unit: AccessUnit, now: float) -> None:
        """Pushes one unit that was pushed into another stream, with its time. Tracks are never delayed. Hot path."""
        self.last_media = now
        self.stream.received.add(unit, now)
        self.stream.push(unit)

    def set_opus(self, track: MediaTrack | None, source: SoundSource | None = None) -> None:
        """Announces the Opus of the push; None: it no longer has Opus. The tracks of `set_tracks` have its AAC.

        source: makes the AAC while a sink wants it. It gives new AAC to `push`, and that of the cached pictures to
        `add_sound`.
        """
        if track is not None or self._has_opus:
            self._has_opus, self._sound_source = track is not None, source
            self.stream.pushed_sound.announce(track, source)

    def push_opus(self, unit: AccessUnit, now: float) -> None:
        """Pushes one unit of the announced Opus. Hot path. now: monotonic seconds."""
        stream = self.stream
        unit.dts += self.shift(unit, now)
        self.last_media = now
        stream.received.add_time(unit, now)
        stream.pushed_sound.opus.send(unit)

    def count_unused(self, unit: AccessUnit) -> None:
        """Counts a unit of the announced Opus that becomes no AAC."""
        self.stream.received.bytes += len(unit.payload)

    def add_sound(self, units: Sequence[AccessUnit], now: float) -> None:
        """Adds AAC to the GOP cache, for the time of the cached pictures. now: monotonic seconds."""
        if self._delayed is not None and self._delayed.media:
            units = ()  # the change empties the cache
        for unit in units:
            unit.dts += self.shift(unit, now)
            self.stream.received.bytes += len(unit.payload)
        self.stream.add_sound(units)

    def request_key_frame(self, now: float) -> None:
        """Asks the client for a key frame, at most once a second. now: monotonic seconds."""
        if self.ask_key_frame is not None and now - self._key_frame_asked >= KEY_FRAME_SECONDS:
            self._key_frame_asked = now
            self.ask_key_frame()

    @property
    def on_air(self) -> OnAir:
        return self._on_air if self._shown is None else self._shown.on_air

    @property
    def unusable(self) -> UnusableMedia:
        return self.on_air.unusable

    def use_timeline(self, timeline: PublisherTimeline) -> None:
        """Shows the clock of its intake."""
        self._on_air = replace(self._on_air, timeline=timeline)

    def show(self, other: ActivePublisher | None, kind: InputKind, ask_key_frame: Callable[[], None]) -> None:
        """Shows the push of the input on air instead of its own.

        other: the publisher of the input; None: its kind is shown as the protocol.
        ask_key_frame: asks the publisher of the input for a key frame.
        """
        self._shown, self.ask_key_frame = other, ask_key_frame
        if other is None:
            dropped = Counter[str]()
            self._on_air = OnAir(str(kind), "", time.monotonic(), dropped, UnusableMedia(self.stream.name, dropped))

    def set_additional(self, track_id: int, track: MediaTrack, info: TrackInfo, now: float) -> None:
        """Announces or changes an additional track. Raises KeepsChanging. now: monotonic seconds."""
        if self.additional is not None:
            self.has_additional = True
            self.additional.set_track(track_id, track, info, now)

    def describe_additional(self, info: Callable[[Kind, int], TrackInfo]) -> None:
        """Applies a changed onMetaData. info(kind, id): returns the info of a track."""
        if self.additional is not None:
            self.additional.describe(info)

    def push_additional(self, number: int, unit: AccessUnit, now: float) -> None:
        """Pushes one unit of an additional track. Hot path. number: twice its id, and one more for audio."""
        if self.additional is not None:
            self.additional.push(number, unit, now)

    def shift(self, unit: AccessUnit, now: float) -> int:
        """Returns the ticks that turn the unit's dts into the time of the stream. The first unit decides the shift."""
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
            self.end_reason = EndReason.KEPT_CHANGING
            raise

    def _delay(self, change: DelayedChange, unit: AccessUnit, now: float) -> bool:
        """Announces the change if it is due, and pushes its units. Until then, delays the unit if the tracks change.

        Returns whether the unit was delayed.
        """
        limiter = self.stream.received.limiters.tracks if change.media else self._metadata_limiter
        if now >= change.due and limiter.take(now):
            self._delayed = None
            self._apply(change)
        elif change.media:
            self.last_media = now
            change.add(unit, now)
            return True
        return False

    def push_timed(self, timed: TimedData) -> None:
        if self._delayed is not None and self._delayed.media:
            self._delayed.add(timed, self.last_media)
            return
        self.stream.push_timed(timed.moved((self._shift_ms or 0) * timed.timescale // MILLISECONDS))

    def close(self, reason: EndReason = EndReason.PUBLISHER_GONE) -> None:
        """Ends the push. The stream lingers. It may be called repeatedly.

        reason: of the publisher, such as STOPPED. An earlier fault stays the reason.
        """
        self.end_reason = self.end_reason or reason
        change, self._delayed = self._delayed, None
        if change is not None and change.lost:
            self.on_air.dropped["changes"] += change.lost
        if self.active:
            self.set_opus(None)
        if self._evict is not None:
            self._evict = None
            self.stream.received.was_stopped = self.end_reason is EndReason.STOPPED
            self._on_close(self)
        self._close_additional()

    def evict(self, reason: EndReason) -> None:
        """Takes the right to push away. Only the hub calls it."""
        self.set_opus(None)
        evict, self._evict = self._evict, None
        if evict is not None:
            evict(reason)
        self._close_additional()

    def _close_additional(self) -> None:
        additional, self.additional = self.additional, None
        if additional is not None:
            additional.close()

    @property
    def has_begun(self) -> bool:
        """Whether tracks were announced."""
        return not self._is_first

    @property
    def active(self) -> bool:
        return self._evict is not None

    def use_additional(self, additional: AdditionalTracks | None) -> None:
        """Passes its additional tracks on to `additional`; None: it can only have the default tracks."""
        self.additional = additional
        if additional is not None:
            additional.begin(self)

    def take_additional(self, earlier: StreamPublisher) -> None:
        """Takes the additional tracks of the stream's earlier publisher. Only the hub calls it."""
        self.use_additional(earlier.additional)
        earlier.additional, self.has_additional = None, earlier.has_additional

    def move(
        self, stream: Stream, on_close: Callable[[StreamPublisher], None], additional: AdditionalTracks | None
    ) -> None:
        """Publishes into another stream from now on. additional: of that stream. Only the shelf calls it."""
        self._close_additional()
        opus, source = self.stream.pushed_sound.opus.tracks if self._has_opus else None, self._sound_source
        self.set_opus(None)
        self.stream = stream
        self.use_additional(additional)
        self.set_opus(None if opus is None else opus.audio, source)
        self._on_close = on_close

    def replace(self, other: StreamPublisher, now: float) -> None:
        """Publishes in place of `other`, which is new, into its stream. Begins with the cached media of the old stream.

        Not for publishers with `keep_time`. now: monotonic seconds. Only the shelf calls it.
        """
        old = self.stream
        tracks, units = old.original.tracks, old.original.gop.units()
        known = {} if old.additional is None else dict(old.additional.tracks)
        additional, other.additional, other._evict = other.additional, None, None
        self.move(other.stream, other._on_close, additional)
        self._shift_ms = None
        if tracks is not None:
            self.stream.set_tracks(tracks.video, tracks.audio, tracks.metadata, False)
        for number, (track, info) in known.items():
            self.set_additional(number // 2, track, info, now)
        for unit in units:
            unit.dts += self.shift(unit, now)
            self.push_shifted(unit, now)

    def _first_shift(self, first_ms: int, now: float) -> int:
        received = self.stream.received
        if not received.last_push:
            return 0 if first_ms <= _LATEST_START_MS else _START_MS - first_ms
        gap = max(_MIN_GAP_MS, round((now - received.last_push) * 1000))
        return received.last_dts_ms + gap - first_ms


# `Hub.publish_source`(channel, origin, evict, input, first_number): publishes into a channel whose stream this node
# holds, or may hold. input: the name of the channel's input; "": the push with the channel's own key.
# Raises NameInUse, AtCapacity; NotAuthorized for an input that takes no pushes.
PublishSource: TypeAlias = Callable[[Channel, PushOrigin, Evict, str, int], StreamPublisher]
# acquire(channel, origin, evict, input): the same at the node that holds the stream. Raises also StoreUnavailable.
# It awaits nothing after the publisher exists, so that a cancelled caller leaves none behind.
AcquirePublisher: TypeAlias = Callable[[Channel, PushOrigin, Evict, str], Awaitable[StreamPublisher]]
