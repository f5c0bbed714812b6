"""Converts the audio of a recording to AAC. AAC frames are copied; other audio is decoded and encoded."""

from __future__ import annotations

import av
from av.audio.codeccontext import AudioCodecContext

from gateway.formats.recording import ForeignCodec, RecordedTrack
from gateway.media.track import Codec, Kind, MediaTrack
from gateway.media.unit import AccessUnit
from gateway.workers.programs.audio_codec import AudioDecoder, AudioEncoder, SoundConverter
from gateway.workers.programs.codec import CodecFailed
from gateway.workers.sound_protocol import BITRATES


class AacTranscoder:
    """Converts the samples of one track to AAC units, with its times and timescale.

    track: of the output. copied: True if the AAC frames of the recording are copied.
    """

    def __init__(self, lane: RecordedTrack) -> None:
        """Raises CodecFailed."""
        self.copied = lane.coding is Codec.AAC
        self._converter: SoundConverter | None = None
        if isinstance(lane.coding, ForeignCodec):
            self._converter = _foreign_converter(lane, lane.coding)
        else:
            self.track = MediaTrack(Kind.AUDIO, lane.coding, lane.timescale, lane.config)
            if not self.copied:
                self._converter = SoundConverter.of_track(self.track)
        if self._converter is not None:
            self.track = self._converter.track

    @property
    def damaged(self) -> int:
        """Number of samples that could not be decoded."""
        return 0 if self._converter is None else self._converter.damaged

    def take(self, dts: int, wall: float, payload: bytes) -> list[AccessUnit]:
        """Returns the units that this sample completes. dts: in the track's timescale. wall: time of arrival."""
        unit = AccessUnit(self.track, dts, 0, True, wall, payload)
        return [unit] if self._converter is None else self._converter.convert(unit)

    def flush(self) -> list[AccessUnit]:
        """Returns the last units. `take` cannot be called afterwards."""
        return [] if self._converter is None else self._converter.flush()


def _foreign_converter(lane: RecordedTrack, coding: ForeignCodec) -> SoundConverter:
    """Opens a converter for a codec that `MediaTrack` does not support."""
    try:
        context = av.CodecContext.create(str(coding), "r")
        assert isinstance(context, AudioCodecContext)
        if lane.config:
            context.extradata = lane.config
        context.sample_rate = lane.rate
        context.layout = {1: "mono", 2: "stereo"}.get(lane.channels, f"{lane.channels}C")
        context.open()
    except (av.FFmpegError, ValueError) as error:
        raise CodecFailed(f"{coding} cannot be decoded: {error}") from error
    channels = min(2, lane.channels)
    encoder = AudioEncoder(BITRATES[channels], channels, lane.timescale)
    return SoundConverter(AudioDecoder(encoder.track, channels, context), encoder)
