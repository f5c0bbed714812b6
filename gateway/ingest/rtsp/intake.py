"""RtspIntake: publishes the tracks of a push over RTSP, from RTP packets to units."""

from __future__ import annotations

import time
from collections.abc import Sequence

from gateway.live.publisher import StreamPublisher
from gateway.live.sound_to_aac import MakeConverter, SoundToAac, becomes_aac
from gateway.live.unit_intake import AUDIO_INDEX, CONVERTED_SOUND_MS, VIDEO_INDEX, UnitIntake
from gateway.media.clock import VIDEO_CLOCK
from gateway.media.framed_units import NO_START, NONE_CAME
from gateway.media.track import AccessUnit, Kind
from gateway.protocols.rtp.packets import parse_packet
from gateway.protocols.rtsp.received_track import RtspTrack, SenderReports


class RtspIntake(UnitIntake):
    """Takes packets of the tracks that the client has announced. A worker converts sound that players do not play.

    Sender reports relate the times of sound and pictures. Until both tracks have one, packets have the time of arrival.
    """

    def __init__(self, publisher: StreamPublisher, tracks: Sequence[RtspTrack], make_converter: MakeConverter) -> None:
        super().__init__(publisher, {track.kind for track in tracks}, rate=VIDEO_CLOCK)
        self._tracks, self.reports = tracks, SenderReports(tracks)
        self._began = time.monotonic()
        self._has_pictures = False
        self._converter: SoundToAac | None = None
        self._make_converter = make_converter
        for track in tracks:
            if track.kind is Kind.AUDIO and track.tells_late:
                self._sound_ms = CONVERTED_SOUND_MS
            elif track.kind is Kind.AUDIO:
                self._begin_sound(track, self._began)

    def _begin_sound(self, track: RtspTrack, now: float) -> None:
        """Begins to publish or to convert a track, whose codec is known now."""
        sound = track.samples.track
        assert sound is not None, "only pictures tell their track later"
        if becomes_aac(sound, track.foreign, self.publisher.stream.channel):
            self._sound_ms = CONVERTED_SOUND_MS
            self._converter = self._make_converter(self._converted)
            self._converter.change(sound, track.foreign)
        else:
            self.set_track(sound, now)

    def explain(self) -> str:
        video = next((track for track in self._tracks if track.kind is Kind.VIDEO), None)
        if video is None:
            return ""
        if video.other_type is not None and not video.has_begun:
            wanted = video.medium.payload_type
            return f"their packets have the payload type {video.other_type}, and the description says {wanted}"
        return NO_START if self._has_pictures else NONE_CAME

    def take_packet(self, track: RtspTrack, data: bytes, now: float) -> None:
        """Takes an RTP packet. Raises KeepsChanging. Hot path. now: monotonic seconds."""
        packet = parse_packet(data, empty=True)
        if packet is None:
            return
        self.reports.use()
        damaged = track.damaged
        units = track.receive(packet, (now - self._began) * VIDEO_CLOCK)
        if track.damaged != damaged:
            self.publisher.on_air.dropped["ingest"] = sum(each.damaged for each in self._tracks)
        is_video = track.kind is Kind.VIDEO
        self._has_pictures |= is_video and bool(packet.payload)
        for unit in units:
            if is_video:
                self._take_picture(unit, now)
                continue
            if self._converter is None and self._audio is None:
                self._begin_sound(track, now)
            if self._converter is not None:
                self._converter.give(unit)
            else:
                self._take_sound(unit, now)

    def finish(self, now: float) -> None:
        converter, self._converter = self._converter, None
        if converter is not None:
            converter.close()
        super().finish(now)

    def _take_picture(self, unit: AccessUnit, now: float) -> None:
        unit.dts, unit.wall = self._stamp(VIDEO_INDEX, unit.dts), time.time()
        if unit.track is not self._video:
            self.set_track(unit.track, now)
        self.take(0, unit, now)

    def _take_sound(self, unit: AccessUnit, now: float) -> None:
        unit.dts, unit.wall = self._stamp(AUDIO_INDEX, unit.dts), time.time()
        self.take(0, unit, now)

    def _converted(self, unit: AccessUnit) -> None:
        """Publishes a unit of the converter, which may come after the end of the push."""
        if self._converter is None or not self.publisher.active:
            return
        now = time.monotonic()
        if unit.track != self._audio:
            self.set_track(unit.track, now)
        self._take_sound(unit, now)
