"""The one lease that may push into a Stream."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from gateway.media.track import AmfValue, Track, Tracks
from gateway.media.unit import AccessUnit, Timed

if TYPE_CHECKING:
    from gateway.hub.hub import Hub
    from gateway.hub.stream import EndReason, Stream

_FRAME_MS = 33  # a returning publisher's first unit stands at least this far behind the last of its forerunner


class Publisher:
    """Held by an ingest connection from the accepted key until it closes or is evicted.

    Units of a publisher that came back are moved so that the stream's time goes on: by the wall time that passed
    since the last unit; keep_time leaves them alone, for renditions, which have their source's time. `evict` is called
    when the lease is taken away (kick, take-over, expiry, shutdown); the connection then tells its peer and closes.
    """

    def __init__(
        self,
        hub: Hub,
        stream: Stream,
        protocol: str,
        peer: str,
        now: float,
        evict: Callable[[EndReason], None],
        keep_time: bool = False,
    ) -> None:
        self._hub = hub
        self.stream = stream
        self.protocol = protocol
        self.peer = peer
        self.since = now
        self.last_media = now
        self.dropped: dict[str, int] = {}
        self._evict: Callable[[EndReason], None] | None = evict
        self._shift_ms: int | None = 0 if keep_time else None
        self._fresh = True

    def set_tracks(
        self, video: Track | None, audio: Track | None, metadata: dict[str, AmfValue], *, continuous: bool = True
    ) -> Tracks:
        """Announces (or changes) what follows; must come before the first push. Returns what the consumers got.

        continuous: false where what follows does not continue what this publisher pushed before.
        """
        continuous = continuous and not self._fresh
        self._fresh = False
        return self.stream.set_tracks(video, audio, dict(metadata), continuous)

    def push(self, unit: AccessUnit, now: float) -> None:
        """Hot. Gives one unit, whose track is one of those announced; `now` is monotonic seconds."""
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

    def push_timed(self, timed: Timed) -> None:
        timed.dts += self._shift_ms or 0
        self.stream.push_timed(timed)

    def close(self) -> None:
        """Gives the lease back (end of the push, lost connection); the stream lingers. Idempotent."""
        if self._evict is not None:
            self._evict = None
            self._hub.publisher_left(self)

    def evict(self, reason: EndReason) -> None:
        """Takes the lease away; the hub's call."""
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
