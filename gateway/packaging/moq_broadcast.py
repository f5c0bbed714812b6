"""One stream as a broadcast of the library: its units in groups, which begin with key frames."""

from collections.abc import Callable
from dataclasses import replace
from typing import Final

import moq
import structlog

from gateway.live.sink import EndReason
from gateway.media.errors import InvalidData
from gateway.media.open_gops import OpenGops
from gateway.media.opus import head_bytes, parse_head
from gateway.media.track import AccessUnit, Codec, Kind, MediaTrack, TimedData, Tracks

log = structlog.get_logger(__name__)

_MICROSECONDS: Final = 1_000_000
# Sound has no groups of its own. A new viewer gets it from the last group on, and each group costs a stream of QUIC.
_SOUND_GROUP: Final = 250_000  # microseconds
_VIDEO: Final = {
    Codec.H264: moq.VideoFormat.AVC1,
    Codec.H265: moq.VideoFormat.HVC1,
    Codec.AV1: moq.VideoFormat.AV01,
    Codec.VP8: moq.VideoFormat.VP8,
    Codec.VP9: moq.VideoFormat.VP9,
}
_AUDIO: Final = {Codec.AAC: moq.AudioFormat.AAC, Codec.OPUS: moq.AudioFormat.OPUS}
CARRIED: Final = frozenset((*_VIDEO, *_AUDIO))


class Broadcast:
    """A sink. Pictures and sound stay as they are, in decode order with their times of presentation.

    Sound that the library cannot carry is left out. So are pictures of open GOPs that decoders of browsers skip.
    After a unit that the library refuses, pictures go on with the next key frame.

    origin: what the sessions of viewers get: this broadcast, and no other one.
    cache_bytes: limit of what the library keeps for new and late viewers; it then drops the oldest groups.
    on_failed: called with an error of the library that ends the broadcast. written: bytes of units.
    """

    def __init__(self, name: str, cache_bytes: int, on_failed: Callable[[Exception], None]) -> None:
        self.origin = moq.OriginProducer(cache_capacity_bytes=cache_bytes)
        self._name = name
        self._broadcast = self.origin.create_broadcast(name)
        self._on_failed = on_failed
        self._tracks: dict[Kind, tuple[MediaTrack, moq.MediaProducer]] = {}
        self._gops: OpenGops | None = None
        self._has_key = False  # whether pictures may be written: the last key frame was
        self._sound_cut = -_SOUND_GROUP  # time of the first sound of its group, microseconds
        self._is_announced = False
        self.written = 0

    def close(self) -> None:
        """Ends the broadcast for its viewers."""
        for kind in list(self._tracks):
            self._finish(kind)
        self._broadcast.close()

    # ---- Sink ----

    def on_tracks(self, tracks: Tracks) -> None:
        for kind, track in ((Kind.VIDEO, tracks.video), (Kind.AUDIO, tracks.audio)):
            known = self._tracks.get(kind)
            if known is not None and track is not None and _is_same(known[0], track):
                self._tracks[kind] = (track, known[1])
                continue
            self._finish(kind)
            if track is not None and track.codec in CARRIED:
                self._publish(track)
        if not self._is_announced:
            self._is_announced = True
            self._broadcast.announce()

    def on_unit(self, unit: AccessUnit) -> None:
        """Writes a unit. Hot path."""
        track = unit.track
        known = self._tracks.get(track.kind)
        if known is None:
            return
        producer = known[1]
        at = max(0, (unit.dts + unit.cts) * _MICROSECONDS // track.timescale)
        if track.kind is Kind.AUDIO:
            if not 0 <= at - self._sound_cut < _SOUND_GROUP:
                self._sound_cut = at
                producer.cut()
            self._write(producer, unit.payload, at)
        elif unit.key or self._has_key:
            payload = self._closed(unit)
            if payload is not None:
                self._has_key = self._write(producer, payload, at)

    def on_timed(self, timed: TimedData) -> None:
        """Does nothing: the library's catalog has no captions and cues that its players show."""

    def on_end(self, reason: EndReason) -> None:
        """Does nothing: the output closes the broadcast."""

    def on_failed(self, error: Exception) -> None:
        self._on_failed(error)

    # ---- tracks ----

    def _publish(self, track: MediaTrack) -> None:
        try:
            if track.kind is Kind.VIDEO:
                self._gops, self._has_key = OpenGops(track), False
                producer = self._broadcast.publish_video(_VIDEO[track.codec], track.config)
            else:
                self._sound_cut = -_SOUND_GROUP
                producer = self._broadcast.publish_audio(_AUDIO[track.codec], _sound_config(track))
        except (moq.Error, InvalidData) as error:
            log.warning("MoQ leaves a track out", stream=self._name, codec=str(track.codec), reason=str(error))
            return
        self._tracks[track.kind] = (track, producer)

    def _finish(self, kind: Kind) -> None:
        known = self._tracks.pop(kind, None)
        if known is not None:
            try:
                known[1].finish()
            except moq.Error as error:  # nobody can read the track any more
                log.debug("a track of MoQ has ended already", stream=self._name, reason=str(error))

    def _closed(self, unit: AccessUnit) -> bytes | None:
        """Returns the picture for players that begin with a key frame; None: it is left out."""
        gops = self._gops
        if gops is None or not (unit.key or gops.is_open):
            return unit.payload
        return gops.add(unit.payload, unit.dts + unit.cts, unit.key)

    def _write(self, producer: moq.MediaProducer, payload: bytes, at: int) -> bool:
        """Returns whether the library took the unit."""
        try:
            producer.write_frame(payload, at)
            self.written += len(payload)
        except moq.Error.Codec as error:
            log.debug("MoQ leaves a unit out", stream=self._name, reason=str(error))
            return False
        return True


def _is_same(one: MediaTrack, other: MediaTrack) -> bool:
    """Whether decoders can go on with the other track."""
    return replace(one, timescale=other.timescale) == other


def _sound_config(track: MediaTrack) -> bytes:
    """Returns the configuration as the library reads it: an OpusHead with its magic. Raises InvalidData."""
    return head_bytes(parse_head(track.config)) if track.codec is Codec.OPUS else track.config
