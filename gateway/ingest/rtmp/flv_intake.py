"""Turns a peer's FLV bodies (RTMP messages) into a publisher's tracks and units."""

from __future__ import annotations

from typing import Final

import structlog

from gateway.formats.flv.demuxer import MediaDemuxer
from gateway.formats.flv.tag import Script, TrackStart, Unsupported
from gateway.live.publisher import StreamPublisher
from gateway.media.clock import PublisherTimeline
from gateway.media.errors import InvalidData
from gateway.media.track import AmfValue, Kind, MediaTrack
from gateway.media.unit import AccessUnit, Timed

log = structlog.get_logger(__name__)

# Units wait for a second track within these bounds of time, number and bytes.
PREROLL_MS: Final = 500
PREROLL_UNITS: Final = 120
PREROLL_BYTES: Final = 2_000_000
METADATA_BYTES: Final = 65_536

VIDEO_LANE, AUDIO_LANE = 0, 1


class FlvIntake:
    """Demuxes, repairs times, and announces tracks before the first unit.

    A track that comes after the first units (a late sequence header) would open a new epoch.
    So the first units wait until all tracks in the metadata are known, or PREROLL_MS have passed.
    Malformed bodies are counted and dropped, so one bad frame does not end the push.
    `MAX_MALFORMED` in a row raise InvalidData.
    """

    MAX_MALFORMED: Final = 100

    def __init__(self, publisher: StreamPublisher) -> None:
        self._publisher = publisher
        self._demux = MediaDemuxer()
        self._demuxers = (self._demux.video, self._demux.audio)  # by lane
        self._timeline = PublisherTimeline()
        self._stamp = self._timeline.stamp
        self._push = publisher.push
        self._metadata: dict[str, AmfValue] = {}
        self._expected: set[Kind] | None = None
        self._announced = False
        self._preroll: list[AccessUnit] = []
        self._preroll_bytes = 0
        self._malformed = 0
        self.malformed = 0
        self.units = 0

    # ---- hot ----

    def media(self, lane: int, timestamp: int, body: bytes, wall: float, now: float) -> None:
        """Takes one RTMP audio or video message.

        lane: VIDEO_LANE or AUDIO_LANE.
        timestamp: its 32 bits of milliseconds; wall, now: arrival, epoch and monotonic.
        """
        try:
            found = self._demuxers[lane](0, body, wall)
        except InvalidData as error:
            self._bad(error)
            return
        if isinstance(found, AccessUnit):
            found.dts = self._stamp(lane, timestamp)
            if self._announced:
                self._malformed = 0
                self.units += 1
                self._push(found, now)
            else:
                self._unit(found, now)
        elif found is not None:
            self._other(found, lane, timestamp, now)

    def _unit(self, unit: AccessUnit, now: float) -> None:
        self._malformed = 0
        self.units += 1
        if self._announced:
            self._push(unit, now)
            return
        self._preroll.append(unit)
        self._preroll_bytes += len(unit.payload)
        waited = unit.dts - self._preroll[0].dts
        if (
            self._complete()
            or waited >= PREROLL_MS
            or len(self._preroll) >= PREROLL_UNITS
            or self._preroll_bytes >= PREROLL_BYTES
        ):
            self._announce(now)

    # ---- the rest ----

    def script(self, script: Script, now: float) -> None:
        """Takes onMetaData (already unwrapped from @setDataFrame) or timed script data."""
        time = self._timeline.near(script.timestamp) if self.units else 0
        if script.name == "onMetaData":
            values = next((v for v in script.values if isinstance(v, dict)), {})
            if len(script.amf) > METADATA_BYTES:
                log.info("metadata too large, ignored", stream=self._publisher.stream.name, size=len(script.amf))
                return
            self._metadata = dict(values)
            self._expected = _promised(values)
            if self._announced:
                self._set_tracks(now)
        elif self._announced:
            self._publisher.push_timed(Timed(time, script.name, script.amf))

    def finish(self, now: float) -> None:
        """Ends the push: announces and publishes the units that still wait."""
        if self._preroll and not self._announced:
            self._announce(now)

    def _other(self, found: MediaTrack | TrackStart | Unsupported, lane: int, timestamp: int, now: float) -> None:
        if isinstance(found, Unsupported):
            log.warning("not carried", stream=self._publisher.stream.name, kind=str(found.kind), what=found.what)
            return
        if self._announced:
            # A changed or late sequence header: a new epoch for every consumer.
            self._set_tracks(now)
        elif self._preroll and isinstance(found, MediaTrack) and any(u.track.kind is found.kind for u in self._preroll):
            # It changed before it was announced: the waiting units belong to the old header.
            self._preroll = [u for u in self._preroll if u.track.kind is not found.kind]
        if isinstance(found, TrackStart):
            found.unit.dts = self._stamp(lane, timestamp)
            self._unit(found.unit, now)

    def _complete(self) -> bool:
        video, audio = self._demux.video_track, self._demux.audio_track
        if video is not None and audio is not None:
            return True
        if self._expected is None:
            return False
        known = {kind for kind, track in ((Kind.VIDEO, video), (Kind.AUDIO, audio)) if track is not None}
        return known >= self._expected

    def _announce(self, now: float) -> None:
        self._announced = True
        self._set_tracks(now)
        waiting, self._preroll = self._preroll, []
        for unit in waiting:
            self._publisher.push(unit, now)

    def _set_tracks(self, now: float) -> None:
        video, audio = self._demux.video_track, self._demux.audio_track
        self._publisher.set_tracks(video, audio, self._metadata, now=now)

    def _bad(self, error: InvalidData) -> None:
        self.malformed += 1
        self._publisher.dropped["ingest"] = self.malformed
        self._malformed += 1
        if self._malformed == 1:
            log.info("malformed media dropped", stream=self._publisher.stream.name, reason=str(error))
        if self._malformed >= self.MAX_MALFORMED:
            raise error


def _promised(metadata: dict[str, AmfValue]) -> set[Kind] | None:
    """Returns the kinds of track that onMetaData announces; None if it names no codec at all."""
    kinds = {kind for kind, key in ((Kind.VIDEO, "videocodecid"), (Kind.AUDIO, "audiocodecid")) if metadata.get(key)}
    return kinds or None
