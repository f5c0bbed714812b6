"""The key frame worker encodes a stream again with a key frame every two seconds.

`python -m gateway.workers.programs.keyframe_reencoder <fd>`
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from fractions import Fraction
from typing import Final

import av.logging

from gateway.media.track import Codec, Kind, MediaTrack, Tracks
from gateway.media.unit import AccessUnit
from gateway.protocols import wire
from gateway.protocols.wire import StreamMessage
from gateway.workers.programs import program
from gateway.workers.programs.audio_codec import AudioDecoder, AudioEncoder, channels_of
from gateway.workers.programs.codec import (
    CodecFailed,
    DecodedPicture,
    VideoDecoder,
    VideoEncoder,
    VideoRecipe,
    frame_rate,
)
from gateway.workers.programs.filters import Preparation, Scaler

KEY_SECONDS: Final = 2
# For a receiver that records: no visible loss, within the bit rate of a usual camera uplink.
_CRF: Final = 21.0
_MOST_BITS: Final = 8_000_000
_MEASURED: Final = 8  # number of pictures for the measurement of the frame rate
_AUDIO_BITS: Final = 128_000


class KeyframeReencoder:
    """Encodes pictures as H.264 of the same size without B-frames, and other audio than AAC as AAC. Times stay.

    Sends the tracks before the first unit, and again when the picture size changes. Leaves out units that cannot be
    decoded.
    """

    def __init__(self, link: program.ParentLink) -> None:
        self._link = link
        self._tracks: Tracks | None = None
        self._epoch = 0
        self._video: VideoDecoder | None = None
        self._preparation: Preparation | None = None
        self._held: list[DecodedPicture] = []
        self._encoder: VideoEncoder | None = None
        self._scaler: Scaler | None = None
        self._size = (0, 0)
        self._key_at: int | None = None
        self._sound: AudioDecoder | None = None
        self._voice: AudioEncoder | None = None
        self._voice_track: MediaTrack | None = None
        self._announced = False
        self._waiting: list[AccessUnit] = []  # audio that came before the tracks were announced

    def work(self) -> None:
        """Runs until END or until the gateway closes the link. Raises InvalidData for an invalid frame."""
        while (received := self._link.receive()) is not None:
            kind, body = received
            if kind == StreamMessage.UNIT:
                unit = wire.decode_unit(body, self._tracks)
                if unit.track.kind is Kind.VIDEO:
                    self._picture(unit)
                else:
                    self._heard(unit)
            elif kind == StreamMessage.TRACKS:
                self._finish()
                self._start(wire.decode_tracks(body))
            elif kind == StreamMessage.END:
                self._finish()
                self._link.send(StreamMessage.END, wire.encode_end())
                return

    def _start(self, tracks: Tracks) -> None:
        self._tracks = tracks
        self._video = VideoDecoder(tracks.video) if tracks.video is not None else None
        self._preparation = Preparation(tracks.video.timescale) if tracks.video is not None else None
        self._sound = self._voice = self._voice_track = None
        audio = tracks.audio
        if audio is not None and audio.codec is not Codec.AAC:
            channels = channels_of(audio)
            self._sound = AudioDecoder(audio, channels)
            self._voice = AudioEncoder(_AUDIO_BITS, channels, audio.timescale)
            self._voice_track = self._voice.track
        else:
            self._voice_track = audio
        self._announced = False
        if self._video is None:
            self._announce(None)

    def _finish(self) -> None:
        """Sends everything that was held back."""
        if self._video is not None and self._preparation is not None:
            for picture in self._video.flush():
                self._prepared(self._preparation.push(picture))
            self._prepared(self._preparation.flush())
            self._measured()
        if self._encoder is not None:
            self._send(self._encoder.flush())
            self._encoder = None
        if self._voice is not None:
            self._send(self._voice.flush())
        self._waiting.clear()

    # ---- pictures ----

    def _picture(self, unit: AccessUnit) -> None:
        assert self._video is not None and self._preparation is not None, "units come after their tracks"
        for picture in self._video.decode(unit):
            self._prepared(self._preparation.push(picture))

    def _prepared(self, pictures: Iterable[DecodedPicture]) -> None:
        for picture in pictures:
            if self._encoder is None:
                self._held.append(picture)
                if len(self._held) >= _MEASURED:
                    self._measured()
            else:
                self._encode(picture)

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
        rate = frame_rate(times, self._video.track.timescale, self._video.claimed_rate)
        recipe = VideoRecipe(
            "libx264",
            width,
            height,
            bitrate=0,
            maxrate=_MOST_BITS,
            bufsize=_MOST_BITS,
            rate=Fraction(rate),
            timescale=self._video.track.timescale,
            crf=_CRF,
            sample_aspect=self._video.sample_aspect,
        )
        self._encoder, self._scaler = VideoEncoder(recipe, frame), Scaler(width, height)
        self._size, self._key_at = (frame.width, frame.height), None
        self._announce(self._encoder.track)

    def _encode(self, picture: DecodedPicture) -> None:
        if (picture.frame.width, picture.frame.height) != self._size:
            assert self._encoder is not None
            self._send(self._encoder.flush())
            self._open(picture, [])
        assert self._encoder is not None and self._scaler is not None
        timescale = self._encoder.recipe.timescale
        picture.key = self._key_at is None or picture.pts - self._key_at >= KEY_SECONDS * timescale
        if picture.key:
            self._key_at = picture.pts
        # Without B-frames nothing is reordered, so decode times equal presentation times.
        picture.lead = 0
        self._send(self._encoder.encode(self._scaler.scale(picture.frame), picture))

    # ---- sound ----

    def _heard(self, unit: AccessUnit) -> None:
        units = [unit]
        if self._sound is not None and self._voice is not None:
            units = [u for sound in self._sound.decode(unit) for u in self._voice.encode(sound)]
        if self._announced:
            self._send(units)
        else:
            self._waiting = [*self._waiting, *units][-200:]

    # ---- out ----

    def _announce(self, video: MediaTrack | None) -> None:
        self._epoch += 1
        metadata = self._tracks.metadata if self._tracks is not None else {}
        self._link.send(
            StreamMessage.TRACKS, wire.encode_tracks(Tracks(video, self._voice_track, self._epoch, metadata))
        )
        self._announced = True
        waiting, self._waiting = self._waiting, []
        self._send(waiting)

    def _send(self, units: Iterable[AccessUnit]) -> None:
        for unit in units:
            self._link.send(StreamMessage.UNIT, wire.encode_unit(unit))


def work(link: program.ParentLink) -> None:
    """Encodes one stream, then returns."""
    av.logging.set_level(av.logging.PANIC)
    try:
        KeyframeReencoder(link).work()
    except CodecFailed as error:
        sys.stderr.write(f"{error}\n")
        program.exit_now(1)


if __name__ == "__main__":
    sys.exit(program.run(work))
