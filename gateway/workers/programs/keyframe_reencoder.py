"""The key frame worker encodes a stream again with a key frame every two seconds.

`python -m gateway.workers.programs.keyframe_reencoder <fd>`
"""

from __future__ import annotations

import sys
from typing import Final

import av.logging

from gateway.media.track import Codec, Kind, MediaTrack, Tracks
from gateway.media.unit import AccessUnit
from gateway.workers.programs import program
from gateway.workers.programs.audio_codec import AacConverter
from gateway.workers.programs.codec import (
    CodecFailed,
    DecodedPicture,
    VideoEncoder,
    VideoRecipe,
    frame_rate,
)
from gateway.workers.programs.filters import PreparedVideo, Scaler

KEY_SECONDS: Final = 2
# For a receiver that records: no visible loss, within the bit rate of a usual camera uplink.
_CRF: Final = 21.0
_MAX_BITS: Final = 8_000_000
_MEASURED: Final = 8  # number of pictures for the measurement of the frame rate
_AUDIO_BITS: Final = {1: 128_000, 2: 128_000}  # bits per second, by number of channels


class KeyframeReencoder:
    """Encodes pictures as H.264 of the same size without B-frames, and other audio than AAC as AAC. Times stay.

    Sends the tracks before the first unit, and again when the picture size changes. Leaves out units that cannot be
    decoded.
    """

    def __init__(self, link: program.ParentLink) -> None:
        self._link = link
        self._tracks: Tracks | None = None
        self._epoch = 0
        self._video: PreparedVideo | None = None
        self._held: list[DecodedPicture] = []
        self._encoder: VideoEncoder | None = None
        self._scaler: Scaler | None = None
        self._size = (0, 0)
        self._key_at: int | None = None
        self._converter: AacConverter | None = None
        self._audio_track: MediaTrack | None = None
        self._announced = False
        self._waiting: list[AccessUnit] = []  # audio that came before the tracks were announced

    def change(self, tracks: Tracks) -> None:
        """Begins with other tracks, after the last units of the earlier ones."""
        self._flush()
        self._tracks = tracks
        self._video = PreparedVideo(tracks.video) if tracks.video is not None else None
        self._converter, self._audio_track = None, tracks.audio
        if tracks.audio is not None and tracks.audio.codec is not Codec.AAC:
            self._converter = AacConverter.of_track(tracks.audio, _AUDIO_BITS)
            self._audio_track = self._converter.track
        self._announced = False
        if self._video is None:
            self._announce(None)

    def take(self, unit: AccessUnit) -> None:
        """Encodes the next picture or piece of sound."""
        if unit.track.kind is not Kind.VIDEO:
            self._heard(unit)
            return
        assert self._video is not None, "units come after their tracks"
        for picture in self._video.decode(unit):
            self._show(picture)

    def finish(self) -> None:
        """Sends the last units and the end."""
        self._flush()
        self._link.send_end()

    def _flush(self) -> None:
        """Sends everything that was held back."""
        if self._video is not None:
            for picture in self._video.flush():
                self._show(picture)
            self._measured()
        if self._encoder is not None:
            self._link.send_units(self._encoder.flush())
            self._encoder = None
        if self._converter is not None:
            self._link.send_units(self._converter.flush())
        self._waiting.clear()

    # ---- pictures ----

    def _show(self, picture: DecodedPicture) -> None:
        if self._encoder is not None:
            self._encode(picture)
            return
        self._held.append(picture)
        if len(self._held) >= _MEASURED:
            self._measured()

    def _measured(self) -> None:
        """Encodes the held pictures: there are enough of them to know the frame rate, or no more come."""
        held, self._held = self._held, []
        for picture in held:
            if self._encoder is None:
                self._open(picture, [p.pts for p in held])
            self._encode(picture)

    def _open(self, picture: DecodedPicture, times: list[int]) -> None:
        assert self._video is not None
        frame = picture.frame
        width, height = max(2, frame.width & ~1), max(2, frame.height & ~1)
        rate = frame_rate(times, self._video.decoder.track.timescale, self._video.decoder.claimed_rate)
        recipe = VideoRecipe(
            "libx264",
            width,
            height,
            bitrate=0,
            maxrate=_MAX_BITS,
            rate=rate,
            timescale=self._video.decoder.track.timescale,
            crf=_CRF,
            sample_aspect=self._video.decoder.sample_aspect,
        )
        self._encoder, self._scaler = VideoEncoder(recipe, frame), Scaler(width, height)
        self._size, self._key_at = (frame.width, frame.height), None
        self._announce(self._encoder.track)

    def _encode(self, picture: DecodedPicture) -> None:
        if (picture.frame.width, picture.frame.height) != self._size:
            assert self._encoder is not None
            self._link.send_units(self._encoder.flush())
            self._open(picture, [])
        assert self._encoder is not None and self._scaler is not None
        timescale = self._encoder.recipe.timescale
        picture.key = self._key_at is None or picture.pts - self._key_at >= KEY_SECONDS * timescale
        if picture.key:
            self._key_at = picture.pts
        # Without B-frames nothing is reordered, so decode times equal presentation times.
        picture.lead = 0
        self._link.send_units(self._encoder.encode(self._scaler.scale(picture.frame), picture))

    # ---- sound ----

    def _heard(self, unit: AccessUnit) -> None:
        units = [unit] if self._converter is None else self._converter.convert(unit)
        if self._announced:
            self._link.send_units(units)
        else:
            self._waiting = [*self._waiting, *units][-200:]

    # ---- out ----

    def _announce(self, video: MediaTrack | None) -> None:
        self._epoch += 1
        metadata = self._tracks.metadata if self._tracks is not None else {}
        self._link.send_tracks(Tracks(video, self._audio_track, self._epoch, metadata))
        self._announced = True
        waiting, self._waiting = self._waiting, []
        self._link.send_units(waiting)


def work(link: program.ParentLink) -> None:
    """Encodes one stream, then returns."""
    av.logging.set_level(av.logging.PANIC)
    try:
        program.serve(link, KeyframeReencoder(link), {})
    except CodecFailed as error:
        sys.stderr.write(f"{error}\n")
        program.exit_now(1)


if __name__ == "__main__":
    sys.exit(program.run(work))
