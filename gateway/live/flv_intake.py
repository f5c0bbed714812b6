"""Turns a peer's FLV bodies (RTMP messages) into a publisher's tracks and units."""

from __future__ import annotations

from typing import Final

import structlog

from gateway.formats.flv.demuxer import MediaDemuxer, track_number
from gateway.formats.flv.tag import Script, TrackMedia, TrackStart, Unsupported
from gateway.live.publisher import StreamPublisher
from gateway.live.pushed_tracks import TrackInfo, track_info
from gateway.live.track_changes import IntervalLimiter
from gateway.media.clock import PublisherTimeline
from gateway.media.errors import InvalidData
from gateway.media.track import AmfValue, Kind, MediaTrack
from gateway.media.unit import AccessUnit, Timed

log = structlog.get_logger(__name__)

# Limits for the units that wait for a second track: time, number and bytes.
PREROLL_MS: Final = 500
PREROLL_UNITS: Final = 120
PREROLL_BYTES: Final = 2_000_000
METADATA_BYTES: Final = 65_536

VIDEO_INDEX, AUDIO_INDEX = 0, 1  # of the timeline; a further track adds 2 times its id


class FlvIntake:
    """Demuxes bodies, repairs times, and announces tracks before the first unit.

    A track that comes after the first units (a late sequence header) would start a new epoch.
    So the first units wait until all tracks in the metadata are known, or PREROLL_MS have passed.
    Further tracks (Enhanced RTMP multitrack) go to `publisher.set_further` and `push_further`, with the same clock.
    Malformed bodies are counted and dropped, so one bad frame does not end the push.
    `MAX_MALFORMED` in a row raise InvalidData.
    """

    MAX_MALFORMED: Final = 100

    def __init__(self, publisher: StreamPublisher) -> None:
        self._publisher = publisher
        self._demux = MediaDemuxer()
        self._demuxers = (self._demux.video, self._demux.audio)  # by index
        self._timeline = publisher.timeline = PublisherTimeline()
        self._stamp = self._timeline.stamp
        self._push = publisher.push
        self._push_further = publisher.push_further
        self._metadata: dict[str, AmfValue] = {}
        self._expected: set[Kind] | None = None
        self._announced = False
        self._preroll: list[tuple[int, AccessUnit]] = []  # with the id of the track
        self._preroll_bytes = 0
        self._infos: tuple[TrackInfo, ...] = ()
        self._info_limiter = IntervalLimiter()
        self._malformed_in_row = 0
        self.malformed = 0
        self.units = 0

    # ---- hot ----

    def media(self, index: int, timestamp: int, body: bytes, wall_clock: float, now: float) -> None:
        """Processes one RTMP audio or video message. Raises InvalidData.

        index: VIDEO_INDEX or AUDIO_INDEX. timestamp: milliseconds, 32 bits.
        wall_clock, now: arrival time, in seconds since the epoch and monotonic.
        """
        try:
            item = self._demuxers[index](0, body, wall_clock)
        except InvalidData as error:
            self._count_malformed(error)
            return
        if isinstance(item, AccessUnit):
            item.dts = self._stamp(index, timestamp)
            if self._announced:
                self._malformed_in_row = 0
                self.units += 1
                self._push(item, now)
            else:
                self._unit(0, item, now)
        elif isinstance(item, list):
            self._tracks(item, index, timestamp, now)
        elif item is not None:
            self._on_track_change(item, index, timestamp, now)

    def _tracks(self, items: list[tuple[int, TrackMedia]], index: int, timestamp: int, now: float) -> None:
        """Processes the media of a multitrack message. Hot path."""
        for track_id, item in items:
            if isinstance(item, AccessUnit):
                number = index + 2 * track_id
                item.dts = self._stamp(number, timestamp)
                if self._announced and track_id:
                    self._malformed_in_row = 0
                    self.units += 1
                    self._push_further(number, item, now)
                else:
                    self._unit(track_id, item, now)
            elif not track_id:
                self._on_track_change(item, index, timestamp, now)
            else:
                self._on_further_change(track_id, item, index, timestamp, now)

    def _unit(self, track_id: int, unit: AccessUnit, now: float) -> None:
        self._malformed_in_row = 0
        self.units += 1
        if self._announced:
            if track_id:
                self._push_further(track_number(unit.track.kind, track_id), unit, now)
            else:
                self._push(unit, now)
            return
        self._preroll.append((track_id, unit))
        self._preroll_bytes += len(unit.payload)
        waited = unit.dts - self._preroll[0][1].dts
        if (
            self._complete()
            or waited >= PREROLL_MS
            or len(self._preroll) >= PREROLL_UNITS
            or self._preroll_bytes >= PREROLL_BYTES
        ):
            self._announce(now)

    # ---- cold ----

    def script(self, script: Script, now: float) -> None:
        """Processes onMetaData (without its @setDataFrame) or timed script data."""
        time = self._timeline.near(script.timestamp) if self.units else 0
        if script.name == "onMetaData":
            values = next((v for v in script.values if isinstance(v, dict)), {})
            if len(script.amf) > METADATA_BYTES:
                log.info("metadata too large, ignored", stream=self._publisher.stream.name, size=len(script.amf))
                return
            self._metadata = dict(values)
            self._expected = _announced_kinds(values)
            if self._announced:
                self._set_tracks(now)
                self._describe_tracks(now)
        elif self._announced:
            self._publisher.push_timed(Timed(time, script.name, script.amf))

    def finish(self, now: float) -> None:
        """Ends the push: announces the tracks and publishes the waiting units."""
        if self._preroll and not self._announced:
            self._announce(now)

    def _on_track_change(
        self, item: MediaTrack | TrackStart | Unsupported, index: int, timestamp: int, now: float
    ) -> None:
        if isinstance(item, Unsupported):
            log.warning("not carried", stream=self._publisher.stream.name, kind=str(item.kind), what=item.what)
            return
        self._announce_before(0, item.track if isinstance(item, TrackStart) else item, now)
        if self._announced:
            # A changed or late sequence header: a new epoch for every consumer.
            self._set_tracks(now)
        if isinstance(item, TrackStart):
            item.unit.dts = self._stamp(index, timestamp)
            self._unit(0, item.unit, now)

    def _on_further_change(
        self, track_id: int, item: MediaTrack | TrackStart | Unsupported, index: int, timestamp: int, now: float
    ) -> None:
        if isinstance(item, Unsupported):
            log.warning("not carried", stream=self._publisher.stream.name, kind=str(item.kind), track=track_id,
                        what=item.what)  # fmt: skip
            return
        track = item.track if isinstance(item, TrackStart) else item
        self._announce_before(track_id, track, now)
        if self._announced:
            self._publisher.set_further(track_id, track, track_info(self._metadata, track.kind, track_id), now)
            self._describe_tracks(now)
        if isinstance(item, TrackStart):
            item.unit.dts = self._stamp(index + 2 * track_id, timestamp)
            self._unit(track_id, item.unit, now)

    def _complete(self) -> bool:
        video, audio = self._demux.video_track, self._demux.audio_track
        if video is not None and audio is not None:
            return True
        if self._expected is None:
            return False
        known = {kind for kind, track in ((Kind.VIDEO, video), (Kind.AUDIO, audio)) if track is not None}
        return known >= self._expected

    def _announce_before(self, track_id: int, changed: MediaTrack, now: float) -> None:
        """Announces the tracks before one of them changes, if units of its earlier header wait."""
        if not self._announced and any(i == track_id and u.track.kind is changed.kind for i, u in self._preroll):
            self._announce(now)

    def _announce(self, now: float) -> None:
        """Announces the tracks of the waiting units, and of the other headers. Publishes the units."""
        self._announced = True
        tracks = {track_number(unit.track.kind, i): unit.track for i, unit in self._preroll}
        video = tracks.get(VIDEO_INDEX, self._demux.video_track)
        audio = tracks.get(AUDIO_INDEX, self._demux.audio_track)
        self._publisher.set_tracks(video, audio, self._metadata, now=now)
        for number, demux in self._demux.others.items():
            track = tracks.get(number) or demux.video_track or demux.audio_track
            if track is not None:
                info = track_info(self._metadata, track.kind, number // 2)
                self._publisher.set_further(number // 2, track, info, now)
        self._describe_tracks(now)
        waiting, self._preroll = self._preroll, []
        for track_id, unit in waiting:
            if track_id:
                self._push_further(track_number(unit.track.kind, track_id), unit, now)
            else:
                self._publisher.push(unit, now)

    def _describe_tracks(self, now: float) -> None:
        """Applies what onMetaData says about each track. Changes that come too soon come with the next one."""
        further, metadata = self._publisher.further, self._metadata
        if further is None or not self._demux.others:
            return
        numbers = [*self._demux.others, AUDIO_INDEX]
        infos = tuple(track_info(metadata, (Kind.VIDEO, Kind.AUDIO)[n % 2], n // 2) for n in numbers)
        if infos != self._infos and self._info_limiter.take(now):
            self._infos = infos
            further.describe(lambda kind, track_id: track_info(metadata, kind, track_id))

    def _set_tracks(self, now: float) -> None:
        video, audio = self._demux.video_track, self._demux.audio_track
        self._publisher.set_tracks(video, audio, self._metadata, now=now)

    def _count_malformed(self, error: InvalidData) -> None:
        self.malformed += 1
        self._publisher.dropped["ingest"] = self.malformed
        self._malformed_in_row += 1
        if self._malformed_in_row == 1:
            log.info("malformed media dropped", stream=self._publisher.stream.name, reason=str(error))
        if self._malformed_in_row >= self.MAX_MALFORMED:
            raise error


def _announced_kinds(metadata: dict[str, AmfValue]) -> set[Kind] | None:
    """Returns the kinds of track that onMetaData announces; None if it names no codec."""
    kinds = {kind for kind, key in ((Kind.VIDEO, "videocodecid"), (Kind.AUDIO, "audiocodecid")) if metadata.get(key)}
    return kinds or None
