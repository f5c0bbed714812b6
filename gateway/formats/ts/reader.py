"""Reads a segment that Millrace wrote as access units, with the decoder configuration of each."""

from collections.abc import Iterator
from typing import Final

from gateway.formats.ts.demuxer import Pes, TsDemuxer
from gateway.formats.ts.packets import unwrapped
from gateway.formats.ts.sound_frames import read_frame
from gateway.media.clock import VIDEO_CLOCK
from gateway.media.errors import InvalidData
from gateway.media.nal_samples import NalSamples
from gateway.media.track import AccessUnit, Codec, Kind, MediaTrack

_MAX_FRAMES: Final = 4_096  # audio frames of one PES packet


class TsReader:
    """Returns the units of one segment. Times continue beyond 33 bits.

    near: a time near the segment's first one, for a segment that continues another one; None: times begin as written.
    has_video: whether the segment announces video; known after the first packets.
    A unit's track has the parameter sets of the last key frame. Its `wall` is 0. Pictures before a key frame are left
    out. Raises InvalidData for all that Millrace does not write.
    """

    def __init__(self, near: int | None = None) -> None:
        self._demuxer = TsDemuxer()
        self._near = near
        self._pictures: NalSamples | None = None
        self._video_track: MediaTrack | None = None
        self._audio_track: MediaTrack | None = None

    @property
    def has_video(self) -> bool:
        return self._demuxer.video is not None

    def receive(self, data: bytes) -> list[AccessUnit]:
        """Reads bytes, cut anywhere. Returns the units that they complete, in decode order of each track."""
        return [unit for pes in self._demuxer.receive(data) for unit in self._units(pes)]

    def jump(self) -> None:
        """Continues at another packet, later in the segment."""
        self._demuxer.jump()

    def finish(self) -> list[AccessUnit]:
        """Returns the last units, after the end of the segment."""
        return [unit for pes in self._demuxer.finish() for unit in self._units(pes)]

    def _units(self, pes: Pes) -> Iterator[AccessUnit]:
        near = self._near
        dts = pes.dts if near is None else unwrapped(pes.dts, near)
        self._near = dts
        cts = unwrapped(pes.pts, dts) - dts
        if not pes.video:
            assert self._demuxer.audio is not None  # else the demuxer refuses its PID
            yield from self._audio(self._demuxer.audio, dts + cts, pes.payload)
            return
        codec = self._demuxer.video
        assert codec is not None  # as above
        if self._pictures is None:
            self._pictures = NalSamples(codec, b"")
        sample = self._pictures.take(pes.payload, pes.key, adopt_sets=pes.key)
        if sample is not None:
            if self._video_track is None or self._video_track.config != sample.config:
                self._video_track = MediaTrack(Kind.VIDEO, codec, VIDEO_CLOCK, sample.config)
            yield AccessUnit(self._video_track, dts, cts, pes.key, 0.0, sample.payload)

    def _audio(self, codec: Codec, time: int, payload: bytes) -> Iterator[AccessUnit]:
        """Yields the frames of a PES packet. They are as long as their headers say."""
        at = samples = count = 0
        while at < len(payload):
            count += 1
            start, end, config, rate, length = read_frame(codec, payload, at)
            if not at < end <= len(payload) or count > _MAX_FRAMES:
                raise InvalidData(f"MPEG-TS: an {codec} frame that exceeds its PES packet")
            if self._audio_track is None or self._audio_track.config != config:
                self._audio_track = MediaTrack(Kind.AUDIO, codec, VIDEO_CLOCK, config)
            yield AccessUnit(self._audio_track, time + samples * VIDEO_CLOCK // rate, 0, True, 0.0, payload[start:end])
            at, samples = end, samples + length
