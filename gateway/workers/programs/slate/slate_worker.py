"""The slate worker encodes one slate in the form of a publisher's stream.

`python -m gateway.workers.programs.slate.slate_worker <fd>`
"""

import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Final

import av

from gateway.media.silent_frames import can_be_silent
from gateway.media.track import AccessUnit, Tracks
from gateway.protocols import wire
from gateway.workers.messages import WorkerMessage
from gateway.workers.programs import program
from gateway.workers.programs.codec import DecodedPicture
from gateway.workers.programs.continued_video import ContinuedEncoder, ContinuedForm, Letterbox
from gateway.workers.programs.slate.card import CardPainter, CardTexts
from gateway.workers.programs.slate.film_loop import encode_film_sound, read_film_pictures
from gateway.workers.programs.vod.media_file import failure_text
from gateway.workers.programs.watermark.fonts import FontCatalog
from gateway.workers.programs.watermark.overlay_blender import to_frame
from gateway.workers.programs.watermark.overlay_image import PictureUnusable, read_picture
from gateway.workers.slate_protocol import SlateRequest
from gateway.workers.stream_form import DEFAULT_AUDIO, StreamForm
from gateway.workers.vod_bounds import UnusableFilm

_CRF: Final = 20.0  # a quality without visible faults in letters
_PICTURE_SIGNATURES: Final = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8")  # first bytes of PNG, JPEG and GIF
_MAX_PICTURE_BYTES: Final = 32_000_000
_BACKGROUND: Final = (0, 0, 0, 255)  # behind transparent parts of a picture
_PICTURE_SHARE: Final = 0.9  # of the bytes of a loop; the rest is for the sound and the encoder's inaccuracy


class SlateWorker:
    """Encodes one slate, and sends it."""

    def __init__(self, link: program.ParentLink, request: SlateRequest, form: StreamForm) -> None:
        self._link = link
        self._request = request
        self._form = form
        self._video = ContinuedForm.of(form.video, form.size, form.rate)
        self._encoder: ContinuedEncoder | None = None
        self._audio = form.audio
        if form.audio is not None and not can_be_silent(form.audio):
            self._audio = DEFAULT_AUDIO
        self._sent = 0  # bytes
        self._pictures = 0

    def work(self) -> None:
        """Makes the slate. Raises UnusableFilm, CodecFailed, av.FFmpegError, OSError."""
        request = self._request
        if not request.path:
            painter = CardPainter(self._video, self._form.gop, FontCatalog(request.font))
            for label in request.labels:
                self._encode(painter.draw_pictures(CardTexts(request.name, request.text, label)), self._form.bitrate)
            self._finish([])
            return
        path = Path(request.path)
        with path.open("rb") as file:
            head = file.read(12)
        if head.startswith(_PICTURE_SIGNATURES) or (head.startswith(b"RIFF") and head.endswith(b"WEBP")):
            self._encode(self._repeat_picture(path), self._form.bitrate)
            self._finish([])
        else:
            self._encode_film(path)

    def _repeat_picture(self, path: Path) -> Iterator[av.VideoFrame | None]:
        """Yields a picture, and its repetitions in one GOP."""
        if path.stat().st_size > _MAX_PICTURE_BYTES:
            raise UnusableFilm(f"a picture of more than {_MAX_PICTURE_BYTES} bytes")
        try:
            picture = read_picture(path.read_bytes(), self._video.display_size)
        except PictureUnusable as error:
            raise UnusableFilm(str(error)) from None
        opaque = picture.copy()
        opaque.paste(_BACKGROUND, (0, 0, *picture.size))
        opaque.alpha_composite(picture)
        yield Letterbox(self._video).convert(to_frame(opaque))
        for _ in range(self._form.gop - 1):
            yield None

    def _encode_film(self, path: Path) -> None:
        request, rate = self._request, self._form.rate
        # At this bitrate, a film of the maximum length has the maximum number of bytes.
        bitrate = min(self._form.bitrate, round(request.max_bytes * 8 * _PICTURE_SHARE / max(1.0, request.seconds)))
        count = self._encode(read_film_pictures(path, self._video, request.seconds), bitrate)
        sound = [] if self._audio is None else encode_film_sound(path, self._audio, Fraction(count) / rate)
        self._finish(sound)

    def _encode(self, frames: Iterator[av.VideoFrame | None], bitrate: int) -> int:
        """Encodes and sends pictures; None repeats the previous one. Returns their number.

        Each call begins with a key frame.
        """
        count = 0
        last: av.VideoFrame | None = None
        for count, frame in enumerate(frames, 1):
            last = frame or last
            assert last is not None, "there is a picture before its repetition"
            if self._encoder is None:
                self._encoder = ContinuedEncoder(self._video, last, bitrate, self._request.preset, _CRF)
                self._link.send_tracks(Tracks(self._encoder.track, self._audio))
            pts = round(self._pictures * 1_000 / self._form.rate)
            key = (count - 1) % self._form.gop == 0
            self._pictures += 1
            if frame is None and not key:
                self._send(self._encoder.repeat(pts))
            else:
                self._send(self._encoder.encode(last, DecodedPicture(last, pts, key, 0, 0.0)))
        return count

    def _send(self, units: list[AccessUnit]) -> None:
        self._sent += sum(len(unit.payload) for unit in units)
        if self._sent > self._request.max_bytes:
            raise UnusableFilm(f"the slate has more than {self._request.max_bytes} bytes")
        self._link.send_units(units)

    def _finish(self, sound: list[bytes]) -> None:
        if self._encoder is not None:
            self._send(self._encoder.flush())
        if self._audio is not None:
            self._send([AccessUnit(self._audio, n, 0, True, 0.0, payload) for n, payload in enumerate(sound)])
        self._link.send_end()


def work(link: program.ParentLink) -> None:
    """Executes one request, then returns."""
    setup = link.receive_setup()
    reference = link.receive_tracks()
    if setup is None or reference is None:
        return
    request = wire.decode_record(SlateRequest, setup)
    form = StreamForm.from_json(wire.read_json(setup), reference)
    try:
        SlateWorker(link, request, form).work()
    except Exception as error:
        if (text := failure_text(error, "workers.memory")) is None:
            raise
        link.send(WorkerMessage.FAILED, text.encode())


if __name__ == "__main__":
    sys.exit(program.run(work))
