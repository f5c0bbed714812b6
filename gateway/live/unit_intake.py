"""UnitIntake: repairs the times of the units of a push, and publishes them."""

from collections.abc import Collection
from typing import Final

import structlog

from gateway.live.publisher import StreamPublisher
from gateway.live.sound_gaps import SoundGaps
from gateway.media.clock import MILLISECONDS, PublisherTimeline
from gateway.media.track import AccessUnit, AmfValue, Kind, MediaTrack

log = structlog.get_logger(__name__)

# How long units wait for a track that nobody promised (metadata, a program, the tracks before a return) …
PREROLL_MS: Final = 500
PICTURES_MS: Final = 5_000  # … if it is pictures: cameras that send no metadata begin with sound
# … and for sound that was promised. For promised pictures it is the setting `stream.tracks_wait`.
SOUND_MS: Final = 2_000
CONVERTED_SOUND_MS: Final = 5_000  # the start of a worker, on a machine that has much to do
# Limits for the units that wait.
PREROLL_UNITS: Final = 4_000
PREROLL_BYTES: Final = 8_000_000

VIDEO_INDEX, AUDIO_INDEX = 0, 1  # of the timeline; an additional track adds 2 times its id


class IntakeFailed(Exception):
    """The push cannot continue: unusable media, or workers that die repeatedly. The publisher gets the message.

    again: whether another try may succeed, because the media was not the reason (for example, no worker was free).
    """

    def __init__(self, reason: str, *, again: bool = False) -> None:
        super().__init__(reason)
        self.again = again


class UnitIntake:
    """Repairs the times of units, and announces tracks before the first unit.

    A track that comes after the first units would start a new epoch. So the first units wait until all expected tracks
    are known. They wait longer for tracks that were promised, and longer for pictures than for sound. Beyond the limits
    of memory, sound that waits for pictures is dropped, and pictures wait no longer for sound.

    expected: the kinds of tracks that will come; None: unknown. A push to a stream that had tracks is expected to have
    the same kinds: when an encoder returns, its viewers do not wait for a track that it never had.
    `FramesIntake` sets the metadata and the expected kinds.
    rate: of the times of all units, ticks a second. reorder: milliseconds that a timestamp may be behind its track.
    """

    def __init__(
        self,
        publisher: StreamPublisher,
        expected: Collection[Kind] | None = None,
        *,
        rate: int = MILLISECONDS,
        reorder: int = 100,
    ) -> None:
        self.publisher = publisher
        self.timeline = PublisherTimeline(rate, reorder=reorder)
        publisher.use_timeline(self.timeline)
        self.unusable = publisher.unusable
        self.unusable.explain = self.explain
        self.read = self.unusable.read
        self.metadata: dict[str, AmfValue] = {}
        self.expected = expected
        if expected is None and (earlier := publisher.stream.original.tracks) is not None:
            self.expected = {track.kind for track in (earlier.video, earlier.audio) if track is not None}
        self.is_announced = False
        self._sound_ms = SOUND_MS
        self._stamp = self.timeline.stamp
        self._gaps = SoundGaps(publisher.stream.name, publisher.push)
        self._publish = self._gaps.push
        self._video: MediaTrack | None = None
        self._audio: MediaTrack | None = None
        self._preroll: list[tuple[int, AccessUnit]] = []  # with the id of the track
        self._preroll_bytes = 0

    @property
    def tracks(self) -> tuple[MediaTrack | None, MediaTrack | None]:
        """The current tracks: video and audio."""
        return self._video, self._audio

    @property
    def units(self) -> int:
        """Number of units so far."""
        return sum(self.read)

    def explain(self) -> str:
        """Returns why no picture was read although pictures come or are promised; "": no reason is known."""
        return ""

    def set_track(self, track: MediaTrack, now: float) -> None:
        """Sets or changes a track. Later changes start a new epoch. Raises KeepsChanging. now: monotonic seconds."""
        self._announce_before(0, track, now)
        if track.kind is Kind.VIDEO:
            self._video = track
        else:
            self._audio = track
        if self.is_announced:
            self._set_tracks(now)

    def change_track(self, track_id: int, track: MediaTrack, now: float) -> None:
        """Sets or changes a default track, or an additional one. Raises KeepsChanging. track_id: 0: a default track."""
        if not track_id:
            self.set_track(track, now)
            return
        self._announce_before(track_id, track, now)
        if self.is_announced:
            self._set_additional(track_id, track, now)

    def set_all(self, video: MediaTrack | None, audio: MediaTrack | None, now: float) -> None:
        """Replaces both tracks, which a client describes together. Raises KeepsChanging. None: it is not known yet.

        They are announced if none is missing, or if earlier tracks were.
        """
        if self._preroll:
            self.finish(now)
        self._video, self._audio = video, audio
        if self.is_announced:
            self._set_tracks(now)
        elif self._has_expected():
            self._announce(now)

    def begin_again(self) -> None:
        """Waits for the expected tracks as at the beginning, because all of them are others."""
        self._video, self._audio, self.is_announced = None, None, False

    def finish(self, now: float) -> None:
        """Ends the push: announces the tracks and publishes the waiting units; after an eviction, only cleans up."""
        if self._preroll and not self.is_announced and self.publisher.active:
            self._announce(now)

    def take(self, track_id: int, unit: AccessUnit, now: float) -> None:
        """Publishes a unit with its repaired time, or lets it wait. track_id: 0: of a default track."""
        self.read[VIDEO_INDEX if unit.track.kind is Kind.VIDEO else AUDIO_INDEX] += 1
        if self.is_announced:
            self._push_track(track_id, unit, now)
            return
        self._preroll.append((track_id, unit))
        self._preroll_bytes += len(unit.payload)
        waited = (unit.dts - self._preroll[0][1].dts) * MILLISECONDS // self.timeline.rate
        if self._has_expected() or waited >= self._longest_wait():
            self._announce(now)
        elif len(self._preroll) >= PREROLL_UNITS or self._preroll_bytes >= PREROLL_BYTES:
            if any(waiting.track.kind is Kind.VIDEO for _, waiting in self._preroll):
                self._announce(now)
            else:
                self._drop_oldest()

    def _longest_wait(self) -> float:
        """Returns how long the first unit may wait for tracks that are not known yet, in milliseconds."""
        video, _ = self.tracks
        missing = Kind.VIDEO if video is None else Kind.AUDIO
        if self.expected is None:
            return PICTURES_MS if video is None else PREROLL_MS
        if missing not in self.expected:
            return PREROLL_MS
        return max(PREROLL_MS, 1000 * self.publisher.stream.spec.tracks_wait) if video is None else self._sound_ms

    def _drop_oldest(self) -> None:
        """Drops the older half of the waiting units."""
        half = (len(self._preroll) + 1) // 2
        dropped, self._preroll = self._preroll[:half], self._preroll[half:]
        self._preroll_bytes -= sum(len(unit.payload) for _, unit in dropped)

    def _push_track(self, track_id: int, unit: AccessUnit, now: float) -> None:
        self._publish(unit, now)

    def _set_additional(self, track_id: int, track: MediaTrack, now: float) -> None:
        """Called for an additional track that begins or changes after the announcement."""

    def _has_expected(self) -> bool:
        known = {track.kind for track in self.tracks if track is not None}
        return len(known) == len(Kind) or (self.expected is not None and known >= set(self.expected))

    def _announce_before(self, track_id: int, changed: MediaTrack, now: float) -> None:
        """Announces the tracks before one of them changes, if units of its earlier header wait."""
        if not self.is_announced and any(i == track_id and u.track.kind is changed.kind for i, u in self._preroll):
            self._announce(now)

    def _announce(self, now: float) -> None:
        """Announces the tracks of the waiting units, and publishes the units."""
        self.is_announced = True
        pictures = [unit.dts for _, unit in self._preroll if unit.track.kind is Kind.VIDEO]
        if pictures:  # players stand still where there is only sound at the beginning
            first = min(pictures) - PREROLL_MS * self.timeline.rate // MILLISECONDS
            self._preroll = [held for held in self._preroll if held[1].dts >= first]
        found = {unit.track.kind: unit.track for track_id, unit in self._preroll if not track_id}
        video, audio = self.tracks
        video, audio = found.get(Kind.VIDEO, video), found.get(Kind.AUDIO, audio)
        self._announce_tracks(video, audio, now)
        self._on_announced(now)
        waiting, self._preroll = self._preroll, []
        for track_id, unit in waiting:
            self._push_track(track_id, unit, now)

    def _on_announced(self, now: float) -> None:
        """Called after the default tracks were announced, before the first unit."""

    def _set_tracks(self, now: float) -> None:
        self._announce_tracks(*self.tracks, now)

    def _announce_tracks(self, video: MediaTrack | None, audio: MediaTrack | None, now: float) -> None:
        self.publisher.set_tracks(video, audio, self.metadata, now=now)
        self._gaps.set_tracks(video, audio)
