"""Reads a film for a slate: its pictures at the slate's rate, and its sound in whole AAC frames."""

from array import array
from collections.abc import Iterator
from contextlib import closing
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any, Final

import av
import av.error
from av.audio.codeccontext import AudioCodecContext

from gateway.media import aac
from gateway.media.clock import VIDEO_CLOCK
from gateway.media.errors import InvalidData
from gateway.media.track import Codec, MediaTrack
from gateway.workers.programs.audio_codec import open_aac
from gateway.workers.programs.continued_video import ContinuedForm, Letterbox
from gateway.workers.programs.vod.film_pictures import FilmPictures
from gateway.workers.programs.vod.media_file import MediaFile
from gateway.workers.vod_bounds import UnusableFilm

_BITS_PER_CHANNEL: Final = 64_000
_MAX_DRIFT: Final = Fraction(1, 25)  # seconds between counted samples and the times of the file
_FADE: Final = Fraction(1, 50)  # seconds at both ends of the sound, so that the loop does not click
_FRAME_SAMPLES: Final = 1_024
_LC: Final = 2  # audio object type AAC LC


def read_film_pictures(path: Path, form: ContinuedForm, seconds: float) -> Iterator[av.VideoFrame | None]:
    """Yields the pictures of a film at the rate of `form`, for at most `seconds`; None repeats the previous picture.

    Raises UnusableFilm.
    """
    with closing(MediaFile(path)) as film:
        if film.video is None:
            raise UnusableFilm("the film has no pictures")
        letterbox, source = Letterbox(form), FilmPictures(film, lambda at: None)
        previous: av.VideoFrame | None = None
        shown: av.VideoFrame | None = None
        first: int | None = None
        count, limit = 0, max(1, int(seconds * form.rate))
        for picture in chain(source.prepared(), (None,)):
            at = source.timeline.end if picture is None else picture.pts
            first = at if first is None else first
            end = max(1, round(Fraction(at - first, VIDEO_CLOCK) * form.rate)) if previous is not None else 0
            due = min(limit, end)
            # A picture is shown until the next one begins.
            while previous is not None and count < due:
                yield previous if previous is not shown else None
                shown = previous
                count += 1
            if picture is None or count >= limit:
                break
            previous = letterbox.convert(picture.frame, picture.aspect)
        if previous is None:
            raise UnusableFilm("no picture of the film can be decoded")


def encode_film_sound(path: Path, track: MediaTrack, seconds: Fraction) -> list[bytes]:
    """Returns the AAC frames of a film's sound for a loop of `seconds`, in the configuration of `track`.

    Returns nothing if the film has no sound, or if only silence can be made in that configuration.
    """
    asc = encodable_aac(track)
    if asc is None:
        return []
    with closing(MediaFile(path)) as film:
        if film.audio is None:
            return []
        video = film.video
        start = 0.0 if video is None or video.start_time is None else float(video.start_time * video.time_base)
        count = int(seconds * asc.core_rate / _FRAME_SAMPLES)
        try:
            sound = _LoopSound(asc.core_rate, asc.channels, count * _FRAME_SAMPLES)
            for packet in film.packets(film.audio):
                for frame in packet.decode():
                    at = frame.pts * frame.time_base if frame.pts is not None else None
                    sound.add(frame, None if at is None else at - Fraction(start))
                if sound.full:
                    break
            return sound.encode()
        except (av.error.FFmpegError, ValueError):
            return []  # a slate without its sound is better than none


def encodable_aac(track: MediaTrack) -> aac.Asc | None:
    """Returns the configuration of `track` if it fits the frames of our encoder; else None.

    A track of HE-AAC gets frames of its AAC LC core.
    """
    if track.codec is not Codec.AAC:
        return None
    try:
        asc = aac.parse_asc(track.config)
    except InvalidData:
        return None
    fits = asc.object_type == _LC and asc.core_samples == _FRAME_SAMPLES and asc.channel_config in (1, 2)
    return asc if fits and asc.core_rate in aac.RATES else None


class _LoopSound:
    """Collects samples at one rate, at the times of the file, and encodes them."""

    def __init__(self, rate: int, channels: int, samples: int) -> None:
        self._rate = rate
        self._layout = "mono" if channels == 1 else "stereo"
        self._channels = channels
        self._samples = samples  # of the whole loop
        self._planes = [array("f") for _ in range(channels)]
        self._resampler = av.AudioResampler("fltp", self._layout, rate)

    @property
    def full(self) -> bool:
        return len(self._planes[0]) >= self._samples

    def add(self, frame: Any, at: Fraction | None) -> None:
        """Adds a decoded frame. at: its time from the first picture, in seconds."""
        length = Fraction(frame.samples, frame.sample_rate or self._rate)
        frame.pts = None
        skip = 0
        if at is not None:
            gap = round((at - Fraction(len(self._planes[0]), self._rate)) * self._rate)
            if gap > _MAX_DRIFT * self._rate or (gap > 0 and not self._planes[0]):
                for plane in self._planes:
                    plane.frombytes(bytes(4 * min(gap, self._samples - len(plane))))
            elif gap < -_MAX_DRIFT * self._rate or not self._planes[0]:
                skip = min(-gap, round(length * self._rate))
        for out in self._resampler.resample(frame):
            for plane, data in zip(self._planes, out.planes, strict=True):
                plane.frombytes(bytes(data)[4 * skip : 4 * out.samples])
            skip = max(0, skip - out.samples)

    def encode(self) -> list[bytes]:
        """Returns the frames of the loop."""
        if not self._planes[0]:
            return []
        fade = max(1, round(_FADE * self._rate))
        for plane in self._planes:
            del plane[self._samples :]
            for n in range(min(fade, len(plane))):
                plane[n] *= n / fade
                plane[-1 - n] *= n / fade
            plane.frombytes(bytes(4 * (self._samples - len(plane))))
        context = open_aac(_BITS_PER_CHANNEL * self._channels, self._channels, self._rate)
        frames: list[bytes] = []
        for at in range(0, self._samples, _FRAME_SAMPLES):
            block = av.AudioFrame("fltp", self._layout, _FRAME_SAMPLES)
            for target, samples in zip(block.planes, self._planes, strict=True):
                target.update(samples[at : at + _FRAME_SAMPLES].tobytes())
            block.sample_rate, block.pts, block.time_base = self._rate, at, Fraction(1, self._rate)
            frames += _coded(context, block)
        return (frames + _coded(context, None))[: self._samples // _FRAME_SAMPLES]


def _coded(context: AudioCodecContext, block: av.AudioFrame | None) -> list[bytes]:
    # The first packet has the encoder's priming samples, before time 0.
    return [bytes(packet) for packet in context.encode(block) if packet.pts is not None and packet.pts >= 0]
