"""The match worker encodes a stream in the form of another stream, so that players of that stream can continue.

`python -m gateway.workers.programs.match_worker <fd>`

Pictures get the other stream's size (with black bars) and parameter sets. Sound gets its AAC configuration. A kind of
media that the source lacks becomes black or silent; a kind that the other stream lacks is left out.

The gateway sends SETUP (the members of a StreamForm, "preset" and "threads"), the tracks to match, and then the source.
The worker sends the matched stream, or FAILED.
"""

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from typing import Any, Final

import av

from gateway.media.clock import MILLISECONDS
from gateway.media.silent_frames import silent_frame
from gateway.media.track import AccessUnit, Kind, MediaTrack, Tracks
from gateway.protocols import wire
from gateway.workers.messages import WorkerMessage
from gateway.workers.programs import program
from gateway.workers.programs.audio_codec import AudioDecoder, AudioEncoder, SampleForm, SoundConverter
from gateway.workers.programs.codec import CodecFailed, DecodedPicture
from gateway.workers.programs.continued_video import ContinuedEncoder, ContinuedForm, Letterbox
from gateway.workers.programs.filters import PreparedVideo
from gateway.workers.programs.slate.film_loop import encodable_aac
from gateway.workers.stream_form import GOP_SECONDS, StreamForm

_BITS_PER_CHANNEL: Final = 80_000
_GOP_MS: Final = GOP_SECONDS * 1000


class MatchWorker:
    """Implements StreamWorker. All times are those of the source, in milliseconds."""

    def __init__(self, link: program.ParentLink, form: StreamForm, setup: dict[str, Any]) -> None:
        self._link = link
        self._form = form
        self._preset = str(setup["preset"])
        self._threads = int(setup["threads"])
        self._pictures: _VideoMatcher | None = None
        self._sound: _AudioMatcher | None = None
        self._sent: Tracks | None = None

    def change(self, tracks: Tracks) -> None:
        """Sets the tracks of the next units. Raises CodecFailed."""
        self._flush()
        form = self._form
        rate = StreamForm.of(tracks).rate if tracks.video is not None else form.rate
        target = ContinuedForm.of(form.video, form.size, rate)
        self._pictures = None
        if form.video is not None:
            self._pictures = _VideoMatcher(tracks.video, target, form.bitrate, self._preset, self._threads)
        self._sound = None if form.audio is None else _AudioMatcher(tracks.audio, form.audio)
        self._sent = None

    def take(self, unit: AccessUnit) -> None:
        """Encodes the next unit of the source. Raises CodecFailed."""
        pictures, sound = self._pictures, self._sound
        if unit.track.kind is Kind.VIDEO:
            if pictures is not None:
                self._send(pictures.take(unit))
            if sound is not None and sound.missing:
                self._send(sound.fill_until(unit.dts, unit.wall))
        else:
            if pictures is not None and pictures.missing:
                self._send(pictures.fill_until(unit.dts, unit.wall))
            if sound is not None and not sound.missing:
                self._send(sound.take(unit))

    def finish(self) -> None:
        """Sends all delayed units, and the end."""
        self._flush()
        self._link.send_end()

    def _flush(self) -> None:
        for part in (self._pictures, self._sound):
            if part is not None:
                self._send(part.flush())

    def _send(self, units: list[AccessUnit]) -> None:
        if not units:
            return
        video = None if self._pictures is None else self._pictures.track
        if self._pictures is not None and video is None:
            return  # sound before the first picture
        tracks = Tracks(video, None if self._sound is None else self._sound.track)
        if tracks != self._sent:
            self._sent = tracks
            self._link.send_tracks(tracks)
        self._link.send_units(units)


class _VideoMatcher:
    """Decodes and encodes pictures. missing: whether the source has none; then they are black."""

    def __init__(self, source: MediaTrack | None, form: ContinuedForm, bitrate: int, preset: str, threads: int) -> None:
        self.missing = source is None
        self._video = None if source is None else PreparedVideo(source, threads, lambda error: None)
        self._form = form
        self._bitrate = bitrate
        self._preset = preset
        self._letterbox = Letterbox(form)
        self._encoder: ContinuedEncoder | None = None
        self._key_at = 0  # decode time from which the next picture is a key frame
        self._lead = 0  # of the last key picture
        self._times = _EvenTimes(1 / form.rate)

    @property
    def track(self) -> MediaTrack | None:
        """The track; None before the first picture."""
        return None if self._encoder is None else self._encoder.track

    def take(self, unit: AccessUnit) -> list[AccessUnit]:
        """Returns the units that this one completes."""
        assert self._video is not None, "the source has pictures"
        return [coded for picture in self._video.decode(unit) for coded in self._encode(picture)]

    def _encode(self, picture: DecodedPicture) -> list[AccessUnit]:
        frame = self._letterbox.convert(picture.frame, picture.aspect)
        if picture.key:
            self._lead = picture.lead
        elif self._encoder is None or picture.pts >= self._key_at:
            picture = replace(picture, key=True, lead=self._lead)
        last: list[AccessUnit] = []
        if picture.key:
            self._key_at = picture.pts + _GOP_MS
            if self._encoder is not None and self._encoder.outrun:  # its bit rate is too high: it counts pictures
                last, self._encoder = self._encoder.flush(), None
                self._form = replace(self._form, rate=2 * self._form.rate)
        return last + self._open(frame).encode(frame, picture)

    def fill_until(self, dts: int, wall: float) -> list[AccessUnit]:
        """Returns black pictures up to a time."""
        units: list[AccessUnit] = []
        for at in self._times.until(dts):
            if self._encoder is not None and at < self._key_at:
                units += self._encoder.repeat(at)
                continue
            black = _black(self._form)
            self._key_at = at + _GOP_MS
            units += self._open(black).encode(black, DecodedPicture(black, at, True, 0, wall))
        return units

    def flush(self) -> list[AccessUnit]:
        """Returns the delayed units."""
        pictures = [] if self._video is None else list(self._video.flush())
        units = [coded for picture in pictures for coded in self._encode(picture)]
        encoder, self._encoder = self._encoder, None
        return units if encoder is None else units + encoder.flush()

    def _open(self, frame: av.VideoFrame) -> ContinuedEncoder:
        if self._encoder is None:
            self._encoder = ContinuedEncoder(self._form, frame, self._bitrate, self._preset)
        return self._encoder


class _AudioMatcher:
    """Copies or converts sound. missing: whether the source has none; then it is silent."""

    def __init__(self, source: MediaTrack | None, target: MediaTrack) -> None:
        self.track = target
        self._silence = silent_frame(target)
        self._times = _EvenTimes(Fraction(0) if self._silence is None else self._silence.seconds)
        self._converter: SoundConverter | None = None
        asc = encodable_aac(target)
        is_equal = source is not None and (source.codec, source.config) == (target.codec, target.config)
        self.missing = source is None
        if source is not None and asc is None:
            self.track = source  # nothing encodes sound like the target's, so players get another track
        elif source is not None and asc is not None and not is_equal:
            decoder = AudioDecoder(source, asc.channels, form=SampleForm(asc.core_rate))
            bitrate = _BITS_PER_CHANNEL * asc.channels
            encoder = AudioEncoder(bitrate, asc.channels, MILLISECONDS, rate=asc.core_rate)
            self._converter = SoundConverter(decoder, encoder)

    def take(self, unit: AccessUnit) -> list[AccessUnit]:
        """Returns the units that this one completes."""
        coded = [unit] if self._converter is None else self._converter.convert(unit)
        return [replace(c, track=self.track) for c in coded]

    def fill_until(self, dts: int, wall: float) -> list[AccessUnit]:
        """Returns silence up to a time."""
        if self._silence is None:
            return []
        times = self._times.until(dts)
        return [AccessUnit(self.track, at, 0, True, wall, self._silence.payload) for at in times]

    def flush(self) -> list[AccessUnit]:
        """Returns the delayed units."""
        coded = [] if self._converter is None else self._converter.flush()
        return [replace(c, track=self.track) for c in coded]


class _EvenTimes:
    """Times in milliseconds at equal distances. seconds: between two of them."""

    def __init__(self, seconds: Fraction) -> None:
        self._seconds = seconds
        self._begin: int | None = None
        self._count = 0

    def until(self, last: int) -> Iterator[int]:
        """Yields the next times up to `last`. The first call yields only `last`."""
        self._begin = last if self._begin is None else self._begin
        while (at := self._begin + int(self._count * 1000 * self._seconds)) <= last:
            self._count += 1
            yield at


def _black(form: ContinuedForm) -> av.VideoFrame:
    """Returns a black picture of a form."""
    rgb = av.VideoFrame(form.width, form.height, "rgb24")
    rgb.planes[0].update(bytes(rgb.planes[0].buffer_size))
    return Letterbox(form).convert(rgb, Fraction(form.aspect))


def work(link: program.ParentLink) -> None:
    """Runs until END or until the gateway closes the link. The first frames must be SETUP and the tracks to match."""
    setup, reference = link.receive_setup(), link.receive_tracks()
    if setup is None or reference is None:
        return
    fields = wire.read_json(setup)
    form = StreamForm.from_json(fields, reference)
    try:
        program.serve(link, MatchWorker(link, form, fields), {})
    except CodecFailed as error:
        link.send(WorkerMessage.FAILED, str(error).encode())


if __name__ == "__main__":
    program.exit_now(program.run(work))
