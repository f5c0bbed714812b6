"""From a peer's FLV bodies (RTMP messages) to a publisher's tracks and units."""

from __future__ import annotations

from typing import Final

import structlog

from gateway.formats.flv.demuxer import MediaDemuxer
from gateway.formats.flv.tag import Script, Start, Unsupported
from gateway.hub.publisher import Publisher
from gateway.media.clock import Timeline
from gateway.media.errors import InvalidData
from gateway.media.track import AmfValue, Kind, Track
from gateway.media.unit import AccessUnit, Timed

log = structlog.get_logger(__name__)

# How long units wait for a second track to announce itself; bounds in time, number and bytes.
PREROLL_MS: Final = 500
PREROLL_UNITS: Final = 120
PREROLL_BYTES: Final = 2_000_000
METADATA_BYTES: Final = 65_536

_VIDEO_LANE, _AUDIO_LANE = 0, 1


class FlvIntake:
    """Demuxes, repairs time, and announces tracks before the first unit.

    A track that comes after the first units (its sequence header late) would open a new epoch, so the first units wait
    until every track that the metadata promises is known, or PREROLL_MS have passed. Bodies that break their format are
    counted and dropped; the publisher is not punished for one bad frame, but is for nothing else
    (`malformed` over `MOST_MALFORMED` in a row raises InvalidData).
    """

    MOST_MALFORMED: Final = 100

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher
        self._demux = MediaDemuxer()
        self._timeline = Timeline()
        self._metadata: dict[str, AmfValue] = {}
        self._expected: set[Kind] | None = None
        self._announced = False
        self._preroll: list[AccessUnit] = []
        self._preroll_bytes = 0
        self._malformed = 0
        self.malformed = 0
        self.units = 0

    # ---- hot ----

    def video(self, timestamp: int, body: bytes, wall: float, now: float) -> None:
        """One RTMP video message. timestamp: its 32 bits of milliseconds; wall, now: arrival, epoch and monotonic."""
        try:
            # The first half tells the frames that nearly everyone sends without a call.
            frame = (body[1:2] > b"\0" and body[0] < 0x80) or not _is_video_header(body)
            time = self._timeline.stamp(_VIDEO_LANE, timestamp) if frame else 0
            found = self._demux.video(time, body, wall)
        except InvalidData as error:
            self._bad(error)
            return
        if isinstance(found, AccessUnit):
            self._unit(found, now)
        elif found is not None:
            self._other(found, now)

    def audio(self, timestamp: int, body: bytes, wall: float, now: float) -> None:
        """One RTMP audio message."""
        try:
            frame = (body[1:2] > b"\0" and body[0] != 0x90) or not _is_audio_header(body)
            time = self._timeline.stamp(_AUDIO_LANE, timestamp) if frame else 0
            found = self._demux.audio(time, body, wall)
        except InvalidData as error:
            self._bad(error)
            return
        if isinstance(found, AccessUnit):
            self._unit(found, now)
        elif found is not None:
            self._other(found, now)

    def _unit(self, unit: AccessUnit, now: float) -> None:
        self._malformed = 0
        self.units += 1
        if self._announced:
            self._publisher.push(unit, now)
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
        """onMetaData (already unwrapped from @setDataFrame) or timed script data."""
        time = self._timeline.near(script.timestamp) if self.units else 0
        if script.name == "onMetaData":
            values = next((v for v in script.values if isinstance(v, dict)), {})
            if len(script.amf) > METADATA_BYTES:
                log.info("metadata too large, ignored", stream=self._publisher.stream.name, size=len(script.amf))
                return
            self._metadata = dict(values)
            self._expected = _promised(values)
            if self._announced:
                self._publisher.set_tracks(self._demux.video_track, self._demux.audio_track, self._metadata)
        elif self._announced:
            self._publisher.push_timed(Timed(time, script.name, script.amf))

    def finish(self, now: float) -> None:
        """The push ends: what still waits is announced and given."""
        if self._preroll and not self._announced:
            self._announce(now)

    def _other(self, found: Track | Start | Unsupported, now: float) -> None:
        if isinstance(found, Unsupported):
            log.warning("not carried", stream=self._publisher.stream.name, kind=str(found.kind), what=found.what)
            return
        if self._announced:
            # A changed or late sequence header: a new epoch for every consumer.
            self._publisher.set_tracks(self._demux.video_track, self._demux.audio_track, self._metadata)
        elif self._preroll and isinstance(found, Track) and any(u.track.kind is found.kind for u in self._preroll):
            # Changed before it was announced: what waits belongs to the old header.
            self._preroll = [u for u in self._preroll if u.track.kind is not found.kind]
        if isinstance(found, Start):
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
        self._publisher.set_tracks(self._demux.video_track, self._demux.audio_track, self._metadata)
        waiting, self._preroll = self._preroll, []
        for unit in waiting:
            self._publisher.push(unit, now)

    def _bad(self, error: InvalidData) -> None:
        self.malformed += 1
        self._publisher.dropped["ingest"] = self.malformed
        self._malformed += 1
        if self._malformed == 1:
            log.info("malformed media dropped", stream=self._publisher.stream.name, reason=str(error))
        if self._malformed >= self.MOST_MALFORMED:
            raise error


# Sequence headers keep no time: some encoders send them with 0 in the middle of a push, which would read as a jump.


def _is_video_header(body: bytes) -> bool:
    first = body[:2]
    return not first or (first[0] & 0x8F == 0x80 if first[0] & 0x80 else first[1:] == b"\0")


def _is_audio_header(body: bytes) -> bool:
    first = body[:2]
    return not first or first[0] == 0x90 or (first[0] >> 4 == 10 and first[1:] == b"\0")


def _promised(metadata: dict[str, AmfValue]) -> set[Kind] | None:
    """The kinds of track that onMetaData announces; None where it names no codec at all."""
    kinds = {kind for kind, key in ((Kind.VIDEO, "videocodecid"), (Kind.AUDIO, "audiocodecid")) if metadata.get(key)}
    return kinds or None
