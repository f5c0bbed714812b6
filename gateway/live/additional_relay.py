"""The additional tracks of a push whose own stream has no renditions: they are relayed to another stream or node."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from gateway.live.pushed_tracks import MAX_PUSHED, NO_INFO, TrackInfo
from gateway.media.track import AccessUnit, Kind, MediaTrack

_KINDS: Final = (Kind.VIDEO, Kind.AUDIO)  # by the lowest bit of a track's number


class AdditionalSource(Protocol):
    """The publisher of the tracks; implemented by `StreamPublisher`."""

    def shift(self, unit: AccessUnit, now: float) -> int: ...

    def count_change(self, now: float) -> None: ...


class AdditionalTaker(Protocol):
    """Takes the additional tracks of a relay. Their units have the times of the relay's stream."""

    def set_additional(self, track_id: int, track: MediaTrack, info: TrackInfo, now: float) -> None:
        """Announces or changes a track."""

    def describe_additional(self, info: Callable[[Kind, int], TrackInfo]) -> None:
        """Applies changed infos. info(kind, id): returns the info of a track."""

    def push_additional(self, number: int, unit: AccessUnit, now: float) -> None:
        """Takes one unit, which it may change. number: twice its id, and one more for audio."""


class AdditionalRelay:
    """Passes the additional tracks of one stream, at most MAX_PUSHED, to one taker. It keeps no media.

    A publisher of the stream uses it as its additional tracks (`AdditionalTracks`).
    """

    def __init__(self) -> None:
        self.tracks: dict[int, tuple[MediaTrack, TrackInfo]] = {}  # by number
        self._default = NO_INFO  # info of the default audio track
        self._source: AdditionalSource | None = None
        self._taker: AdditionalTaker | None = None

    def begin(self, source: AdditionalSource) -> None:
        """Takes the tracks of another publisher from now on."""
        self._source = source

    def attach(self, taker: AdditionalTaker, now: float) -> None:
        """Announces all known tracks to `taker`, and sends it the units from now on. now: monotonic seconds."""
        self._taker = taker
        self.announce(taker, now)

    def detach(self) -> None:
        self._taker = None

    def announce(self, taker: AdditionalTaker, now: float) -> None:
        """Announces all known tracks to `taker`. now: monotonic seconds."""
        for number, (track, info) in self.tracks.items():
            taker.set_additional(number // 2, track, info, now)
        if self.tracks:
            taker.describe_additional(self._info)

    # ---- AdditionalTracks ----

    def set_track(self, track_id: int, track: MediaTrack, info: TrackInfo, now: float) -> None:
        number = 2 * track_id + (track.kind is Kind.AUDIO)
        known = self.tracks.get(number)
        if known is None and len(self.tracks) >= MAX_PUSHED:
            return
        if known is not None and known[0] != track and self._source is not None:
            self._source.count_change(now)
        self.tracks[number] = track, info
        if self._taker is not None:
            self._taker.set_additional(track_id, track, info, now)

    def describe(self, info: Callable[[Kind, int], TrackInfo]) -> None:
        self._default = info(Kind.AUDIO, 0)
        self.tracks = {n: (track, info(_KINDS[n % 2], n // 2)) for n, (track, _) in self.tracks.items()}
        if self._taker is not None:
            self._taker.describe_additional(self._info)

    def push(self, number: int, unit: AccessUnit, now: float) -> None:
        """Passes one unit on, in the time of the stream. Hot path."""
        taker = self._taker
        if taker is None or self._source is None:
            return
        if shift := self._source.shift(unit, now):
            unit.dts += shift
        taker.push_additional(number, unit, now)

    def take_default(self, unit: AccessUnit, now: float) -> None:
        """Does nothing: the default tracks are in the stream itself."""

    def close(self) -> None:
        """Forgets the tracks of a push that has ended."""
        self.tracks.clear()
        self._source = None

    def _info(self, kind: Kind, track_id: int) -> TrackInfo:
        if not track_id:
            return self._default if kind is Kind.AUDIO else NO_INFO
        known = self.tracks.get(2 * track_id + (kind is Kind.AUDIO))
        return NO_INFO if known is None else known[1]
