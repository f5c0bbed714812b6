"""The lease to push into a Stream. A stream has at most one."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from gateway.live.sink import EndReason
from gateway.live.stream import Stream
from gateway.live.track_changes import DelayedChange, IntervalLimiter, KeepsChanging, TrackChangeLimit
from gateway.media.track import AmfValue, MediaTrack, Tracks
from gateway.media.unit import AccessUnit, Timed

_FRAME_MS = 33  # at least, between the last unit before a reconnection and the first one after it


@dataclass(frozen=True, slots=True)
class PushOrigin:
    """Where a push comes from, and how far it is to be trusted.

    keep_time: its units have the stream's time already. trusted: its track changes were bounded where it came in.
    """

    protocol: str
    peer: str
    keep_time: bool = False
    trusted: bool = False


class StreamPublisher:
    """The lease of an ingest connection, from the accepted key until it closes or is evicted.

    evict: called when the lease is taken away (kick, take-over, expiry, shutdown). The connection then tells its peer
    and closes.
    keep_time: leaves timestamps unchanged, for renditions, which have those of their source. Otherwise the units of a
    publisher that came back are shifted: the stream's time continues, after a gap equal to the wall time without
    units.
    trusted: does not bound the changes of its tracks (`gateway.live.track_changes`). They were bounded at another
    node, or before one of our workers.
    """

    def __init__(
        self,
        stream: Stream,
        origin: PushOrigin,
        now: float,
        evict: Callable[[EndReason], None],
        left: Callable[[StreamPublisher], None],
    ) -> None:
        """now: monotonic seconds. left: called once when the publisher closes by itself."""
        self.stream = stream
        self.protocol = origin.protocol
        self.peer = origin.peer
        self.since = now
        self.last_media = now
        self.dropped: Counter[str] = Counter()
        self._left = left
        self._evict: Callable[[EndReason], None] | None = evict
        self._shift_ms: int | None = 0 if origin.keep_time else None
        self._fresh = True
        self.fault: EndReason | None = None  # the reason for the end, if the publisher caused it
        self._changes = None if origin.trusted else TrackChangeLimit()
        self._words = IntervalLimiter()  # for changes of metadata alone
        self._asked: tuple[MediaTrack | None, MediaTrack | None] | None = None
        self._held: DelayedChange | None = None

    def set_tracks(
        self,
        video: MediaTrack | None,
        audio: MediaTrack | None,
        metadata: dict[str, AmfValue],
        *,
        continuous: bool = True,
        now: float | None = None,
    ) -> Tracks | None:
        """Announces or changes the tracks. It must be called before the first push. Returns the tracks that the
        consumers have then.

        continuous: false if what follows does not continue what this publisher pushed before.
        now: monotonic seconds.
        A change that comes too soon is delayed, with the units pushed after it. Raises KeepsChanging.
        """
        fresh, self._fresh = self._fresh, False
        changed = not fresh and (not continuous or (video, audio) != self._asked)
        self._asked = video, audio
        stream, continuous = self.stream, continuous and not fresh
        if self._changes is None:
            return stream.set_tracks(video, audio, dict(metadata), continuous)
        now = time.monotonic() if now is None else now
        if changed:
            try:
                self._changes.count(now)
            except KeepsChanging:
                self.fault = EndReason.KEPT_CHANGING
                raise
        waits, shown = self._held is not None and self._held.media, stream.original.tracks
        if waits or not continuous or changed or shown is None:
            self._announce(DelayedChange(video, audio, dict(metadata), continuous, media=True), stream.pace, now)
        elif metadata != shown.metadata:
            self._announce(DelayedChange(video, audio, dict(metadata), True, media=False), self._words, now)
        else:
            self._held = None  # the delayed metadata were changed back
        return stream.original.tracks

    def _announce(self, held: DelayedChange, pace: IntervalLimiter, now: float) -> None:
        """Announces a change now, or as soon as the limiter allows it."""
        if self._held is not None:
            held.instead_of(self._held)
        if pace.take(now):
            self._held = None
            self._give(held)
        else:
            held.due = pace.due(now)
            self._held = held

    def _give(self, held: DelayedChange) -> None:
        self.stream.set_tracks(held.video, held.audio, held.metadata, held.continuous)
        for item, at in held.items():
            if isinstance(item, AccessUnit):
                self.push(item, at)
            else:
                self.push_timed(item)
        if held.dropped:
            self.dropped["changes"] += held.dropped

    def push(self, unit: AccessUnit, now: float) -> None:
        """Pushes one unit of an announced track. Hot path. now: monotonic seconds."""
        if self._held is not None and self._holds(self._held, unit, now):
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

    def _holds(self, held: DelayedChange, unit: AccessUnit, now: float) -> bool:
        """Whether the unit is delayed with a change. Announces a change that is due, and pushes the delayed units."""
        if now >= held.due and (self.stream.pace if held.media else self._words).take(now):
            self._held = None
            self._give(held)
        elif held.media:
            self.last_media = now
            held.add(unit, now)
            return True
        return False

    def push_timed(self, timed: Timed) -> None:
        if self._held is not None and self._held.media:
            self._held.add(timed, self.last_media)
            return
        timed.dts += self._shift_ms or 0
        self.stream.push_timed(timed)

    def close(self) -> None:
        """Gives the lease back at the end of the push or connection. The stream lingers. It may be called more than
        once.
        """
        held, self._held = self._held, None
        if held is not None and held.lost:
            self.dropped["changes"] += held.lost
        if self._evict is not None:
            self._evict = None
            self._left(self)

    def evict(self, reason: EndReason) -> None:
        """Takes the lease away. Only the hub calls it."""
        evict, self._evict = self._evict, None
        if evict is not None:
            evict(reason)

    @property
    def active(self) -> bool:
        return self._evict is not None

    def _first_shift(self, first_ms: int, now: float) -> int:
        stream = self.stream
        if not stream.last_push:
            return 0
        gap = max(_FRAME_MS, round((now - stream.last_push) * 1000))
        return stream.last_dts_ms + gap - first_ms
