"""The key frame worker encodes a stream again with a key frame every two seconds.

`python -m gateway.workers.programs.keyframe_reencoder <fd>`
"""

import sys
from fractions import Fraction
from typing import Final

from gateway.media.track import AccessUnit, Codec, Kind, MediaTrack, Tracks
from gateway.workers.programs import program
from gateway.workers.programs.audio_codec import SoundConverter
from gateway.workers.programs.codec import CodecFailed, DecodedPicture, VideoEncoder, VideoRecipe
from gateway.workers.programs.filters import PreparedVideo, Scaler
from gateway.workers.programs.video_reencoder import VideoReencoder

KEY_SECONDS: Final = 2
# The receiver records the stream, so the loss is not visible. The bitrate fits the uplink of a usual camera.
_CRF: Final = 21.0
_MAX_BITS: Final = 8_000_000
_RATE_PICTURES: Final = 8  # number of pictures to measure the frame rate
_AUDIO_BITS: Final = {1: 128_000, 2: 128_000}  # bits per second, by number of channels
_MAX_WAITING_AUDIO: Final = 200  # units before the tracks are announced; older ones are dropped


class KeyframeReencoder(VideoReencoder):
    """Encodes pictures as H.264 of unchanged size without B-frames, and audio other than AAC as AAC. Keeps all times.

    Sends the tracks before the first unit, and again if the picture size changes. Drops units that cannot be decoded.
    """

    def __init__(self, link: program.ParentLink) -> None:
        super().__init__(link)
        self._epoch = 0
        self._scaler: Scaler | None = None
        self._size = (0, 0)
        self._last_key: int | None = None  # time of the last key frame, in ticks
        self._converter: SoundConverter | None = None
        self._audio_track: MediaTrack | None = None
        self._announced = False
        self._waiting_audio: list[AccessUnit] = []  # until the tracks are announced

    def change(self, tracks: Tracks) -> None:
        """Sends the last units of the previous tracks, then starts the new ones."""
        self._flush()
        self._tracks = tracks
        self._video = PreparedVideo(tracks.video) if tracks.video is not None else None
        self._converter, self._audio_track = None, tracks.audio
        if tracks.audio is not None and tracks.audio.codec is not Codec.AAC:
            self._converter = SoundConverter.of_track(tracks.audio, _AUDIO_BITS)
            self._audio_track = self._converter.track
        self._announced = False
        if self._video is None:
            self._announce(None)

    def take(self, unit: AccessUnit) -> None:
        """Encodes the next video or audio unit."""
        if unit.track.kind is Kind.VIDEO:
            self._decode(unit)
            return
        units = [unit] if self._converter is None else self._converter.convert(unit)
        if self._announced:
            self._link.send_units(units)
        else:
            self._waiting_audio = [*self._waiting_audio, *units][-_MAX_WAITING_AUDIO:]

    def _flush(self) -> None:
        super()._flush()
        if self._converter is not None:
            self._link.send_units(self._converter.flush())
        self._waiting_audio.clear()

    def _is_rate_known(self) -> bool:
        return len(self._held) >= _RATE_PICTURES

    def _open(self, picture: DecodedPicture, rate: Fraction) -> None:
        assert self._video is not None
        frame = picture.frame
        width, height = max(2, frame.width & ~1), max(2, frame.height & ~1)
        decoder = self._video.decoder
        recipe = VideoRecipe(
            "libx264", width, height, bitrate=0, maxrate=_MAX_BITS, rate=rate, timescale=decoder.track.timescale,
            crf=_CRF, sample_aspect=decoder.sample_aspect,
        )  # fmt: skip
        self._scaler = Scaler(width, height)
        self._encoder = VideoEncoder(recipe, self._scaler.scale(frame))
        self._size, self._last_key = (frame.width, frame.height), None
        self._announce(self._encoder.track)

    def _encode(self, picture: DecodedPicture) -> None:
        if (picture.frame.width, picture.frame.height) != self._size:
            assert self._encoder is not None
            self._link.send_units(self._encoder.flush())
            self._open(picture, self._rate([]))
        assert self._encoder is not None and self._scaler is not None
        timescale = self._encoder.recipe.timescale
        picture.key = self._last_key is None or picture.pts - self._last_key >= KEY_SECONDS * timescale
        if picture.key:
            self._last_key = picture.pts
        # Without B-frames nothing is reordered, so decode times equal presentation times.
        picture.lead = 0
        self._link.send_units(self._encoder.encode(self._scaler.scale(picture.frame), picture))

    def _announce(self, video: MediaTrack | None) -> None:
        self._epoch += 1
        self._link.send_tracks(Tracks(video, self._audio_track, self._epoch, self._tracks.metadata))
        self._announced = True
        waiting, self._waiting_audio = self._waiting_audio, []
        self._link.send_units(waiting)


def work(link: program.ParentLink) -> None:
    """Encodes one stream, then returns."""
    try:
        program.serve(link, KeyframeReencoder(link), {})
    except CodecFailed as error:
        sys.stderr.write(f"{error}\n")
        program.exit_now(1)


if __name__ == "__main__":
    sys.exit(program.run(work))
