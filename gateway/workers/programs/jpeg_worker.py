"""The JPEG worker: makes JPEG pictures from access units, and measures how much two pictures of a stream differ."""

from __future__ import annotations

import io
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import av
from av.video.reformatter import Colorspace, Interpolation
from PIL import Image, ImageChops

from gateway.media.errors import InvalidData
from gateway.media.track import MediaTrack
from gateway.media.unit import AccessUnit
from gateway.workers.jpeg_protocol import GRID, JpegAction, JpegMessage, JpegReply, JpegRequest, PictureDifference
from gateway.workers.programs import program
from gateway.workers.programs.codec import CodecFailed, DecodedPicture, VideoDecoder

_SIDE: Final = 6  # the original system detects motion at a sixth of the width and height
_MAX_SESSIONS: Final = 256
_WIDEST: Final = 16_384
_UNSPECIFIED: Final = 2
_HD: Final = 720


class NoPicture(Exception):
    """The given units contain no picture. The message is one line."""


@dataclass(slots=True)
class _Session:
    """The state of repeated looks at one stream.

    seen: its last picture, small and gray. shot: that picture in full size.
    """

    track: MediaTrack
    decoder: VideoDecoder
    seen: Image.Image | None = None
    shot: DecodedPicture | None = None


def last_picture(track: MediaTrack, units: Sequence[AccessUnit]) -> DecodedPicture:
    """Returns the last picture, in presentation order, of units that begin with a key frame. Raises NoPicture."""
    decoder = VideoDecoder(track)
    last = _newest(decoder, units)
    for picture in decoder.flush():
        last = picture
    if last is None:
        raise NoPicture("no picture could be decoded")
    return last


def _newest(decoder: VideoDecoder, units: Sequence[AccessUnit]) -> DecodedPicture | None:
    last: DecodedPicture | None = None
    for unit in units:
        for picture in decoder.decode(unit):
            last = picture
    return last


def jpeg(shot: DecodedPicture, quality: int) -> bytes:
    """Returns the picture as JPEG, in its own height with square pixels."""
    frame, aspect = shot.frame, shot.aspect
    width = frame.width
    if Fraction(1, 8) <= aspect <= 8:  # another value is an error of the encoder
        width = min(_WIDEST, max(1, round(width * aspect)))
    unsaid = int(frame.colorspace) == _UNSPECIFIED
    matrix = (Colorspace.ITU709 if frame.height >= _HD else Colorspace.ITU601) if unsaid else None
    shown = frame.reformat(width=width, format="rgb24", src_colorspace=matrix, interpolation=Interpolation.BICUBIC)
    out = io.BytesIO()
    _image(shown, "RGB").save(out, "JPEG", quality=quality, optimize=True)
    return out.getvalue()


def difference(before: Image.Image, now: Image.Image, least: int) -> PictureDifference:
    """Compares two small gray pictures of the same size. A pixel has changed if it differs by more than `least`."""
    changed = ImageChops.difference(before, now).point([0] * (least + 1) + [255] * (255 - least))
    share = changed.histogram()[255] / (now.width * now.height)
    regions = changed.resize((GRID, GRID), Image.Resampling.BOX).tobytes()
    return PictureDifference(round(share * 100, 2), regions.index(max(regions)) + 1)


def _small(frame: av.VideoFrame) -> Image.Image:
    width, height = max(1, frame.width // _SIDE), max(1, frame.height // _SIDE)
    return _image(frame.reformat(width, height, "gray", interpolation=Interpolation.AREA), "L")


def _image(frame: av.VideoFrame, mode: str) -> Image.Image:
    plane = frame.planes[0]
    return Image.frombytes(mode, (frame.width, frame.height), bytes(plane), "raw", mode, plane.line_size, 1)


class JpegWorker:
    """Answers requests one by one, and keeps the sessions."""

    def __init__(self) -> None:
        self._sessions: OrderedDict[int, _Session] = OrderedDict()

    def answer(self, ask: JpegRequest) -> bytes:
        """Returns the body of the reply. Raises NoPicture, CodecFailed."""
        match ask.doing:
            case JpegAction.PICTURE:
                if ask.track is None:
                    raise NoPicture("a picture of a stream without one")
                return jpeg(last_picture(ask.track, ask.units), ask.quality)
            case JpegAction.LOOK:
                return self._look(ask).encode()
            case JpegAction.SHOT:
                session = self._sessions.get(ask.session)
                if session is None or session.shot is None:
                    raise NoPicture("the picture is gone")
                return jpeg(session.shot, ask.quality)
        raise NoPicture(f"{ask.doing} has no answer")

    def forget(self, session: int) -> None:
        """Deletes the session."""
        self._sessions.pop(session, None)

    def _look(self, ask: JpegRequest) -> PictureDifference:
        session = self._sessions.get(ask.session)
        if ask.track is None or (session is None and not ask.fresh):
            return PictureDifference(lost=True)
        if session is None or ask.fresh or session.track != ask.track:
            seen = session.seen if session is not None and session.track == ask.track else None
            session = self._sessions[ask.session] = _Session(ask.track, VideoDecoder(ask.track), seen)
            while len(self._sessions) > _MAX_SESSIONS:
                self._sessions.popitem(last=False)
        self._sessions.move_to_end(ask.session)
        shot = _newest(session.decoder, ask.units)
        if shot is None and ask.fresh:
            # The decoder still holds the picture back for reordering. A second decoder, which is flushed, returns it.
            shot = last_picture(ask.track, ask.units)
        if shot is None:
            raise NoPicture("no picture could be decoded")
        small = _small(shot.frame)
        before, session.seen, session.shot = session.seen, small, shot
        if before is None or before.size != small.size:
            return PictureDifference(first=True)
        return difference(before, small, ask.difference)


def work(link: program.ParentLink) -> None:
    """Runs until the gateway closes the link."""
    worker = JpegWorker()
    while (message := link.receive()) is not None:
        if message[0] != JpegMessage.ASK:
            continue
        ask = JpegRequest.decode(message[1])
        if ask.doing is JpegAction.FORGET:
            worker.forget(ask.session)
            continue
        try:
            answer = JpegReply(ask.number, True, worker.answer(ask))
        except (NoPicture, CodecFailed, InvalidData, av.FFmpegError, ValueError, OSError, MemoryError) as error:
            answer = JpegReply(ask.number, False, str(error).encode() or type(error).__name__.encode())
        link.send(JpegMessage.ANSWER, answer.encode())


if __name__ == "__main__":
    program.exit_now(program.run(work))
