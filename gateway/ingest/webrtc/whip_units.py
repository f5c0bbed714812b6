"""WhipUnits: publishes the pictures of a WHIP push, and its sound as Opus and, while a sink needs it, as AAC."""

from collections.abc import Collection
from contextlib import suppress
from typing import Final

from gateway.ingest.webrtc.sound_on_demand import AAC_TRACK, SoundOnDemand
from gateway.live.publisher import StreamPublisher
from gateway.live.sound_gaps import SoundGaps
from gateway.live.unit_intake import AUDIO_INDEX, CONVERTED_SOUND_MS, VIDEO_INDEX, UnitIntake
from gateway.media import opus
from gateway.media.clock import VIDEO_CLOCK, AudioClock
from gateway.media.errors import InvalidData
from gateway.media.track import AccessUnit, Kind, MediaTrack
from gateway.workers.sound_protocol import opus_track

OPUS_TRACK: Final = opus_track(2)


class WhipUnits(UnitIntake):
    """Announces the tracks that the SDP has, see `UnitIntake`. The sound needs no configuration: it is known at once.

    Sound before the first picture is left out: a WebRTC viewer that gets it late plays all later sound with this delay.
    sound: makes AAC of Opus; None: sound comes as AAC, or the push has none.
    """

    def __init__(self, publisher: StreamPublisher, expected: Collection[Kind], sound: SoundOnDemand | None) -> None:
        super().__init__(publisher, expected, rate=VIDEO_CLOCK)
        self._gaps = SoundGaps(publisher.stream.name, self._publish_unit)
        self._publish = self._gaps.push
        self._sound, self._sound_ms = sound, CONVERTED_SOUND_MS
        self._audio = None if sound is None else AAC_TRACK
        self._opus_clock = AudioClock(OPUS_TRACK.timescale, VIDEO_CLOCK)

    def take_unit(self, unit: AccessUnit, now: float) -> None:
        """Publishes a unit with repaired times, or lets it wait. Raises KeepsChanging. Hot path."""
        if unit.track.kind is Kind.AUDIO:
            unit.dts = self._stamp(AUDIO_INDEX, unit.dts)
            if self._sound is None and unit.track != self._audio:
                self.set_track(unit.track, now)
        else:
            unit.dts = self._stamp(VIDEO_INDEX, unit.dts)
            if unit.track is not self._video:
                self.set_track(unit.track, now)
        self.take(0, unit, now)

    def _announce(self, now: float) -> None:
        if self._sound is not None:  # before the tracks, because sinks that want Opus need no worker
            self.publisher.set_opus(OPUS_TRACK, self._sound)
        super()._announce(now)

    def _on_announced(self, now: float) -> None:
        pictures = (unit.dts for _, unit in self._preroll if unit.track.kind is Kind.VIDEO)
        first = next(pictures, self._preroll[-1][1].dts)
        self._preroll = [held for held in self._preroll if held[1].dts >= first]

    def _announce_tracks(self, video: MediaTrack | None, audio: MediaTrack | None, now: float) -> None:
        if self._sound is not None:
            audio = AAC_TRACK  # what waits is Opus
            self._sound.has_video = video is not None
        self.publisher.set_tracks(video, audio, self.metadata, now=now)
        self._gaps.set_tracks(video, audio if self._sound is None else self._sound.source)

    def _publish_unit(self, unit: AccessUnit, now: float) -> None:
        """Publishes a picture, or sound: AAC, or Opus, which the maker of AAC gets too. Hot path.

        The times of the Opus count samples, because players conceal each gap, even one of a millisecond.
        """
        sound = self._sound
        if sound is None or unit.track.kind is Kind.VIDEO:
            if unit.key and sound is not None:
                sound.forget_before(unit.dts)
            self.publisher.push(unit, now)
            return
        with suppress(InvalidData):  # the worker counts it
            at = self._opus_clock.stamp(unit.dts, opus.packet_samples(unit.payload))
            self.publisher.push_opus(type(unit)(OPUS_TRACK, at, 0, True, unit.wall, unit.payload), now)
        sound.take(unit)
