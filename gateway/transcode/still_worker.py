"""The still worker: JPEG pictures out of access units, and how much two pictures of a stream differ."""

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
from gateway.media.track import Track
from gateway.media.unit import AccessUnit
from gateway.transcode import child
from gateway.transcode.codec import CodecFailed, Picture, VideoDecoder
from gateway.transcode.still import GRID, Answer, Ask, Doing, Look, StillMessage

_SIDE: Final = 6  # the original system looks for motion at a sixth of each side
_MOST_SESSIONS: Final = 256
_WIDEST: Final = 16_384
_UNSPECIFIED: Final = 2
_HD: Final = 720


class NoPicture(Exception):
    """There is none in what was given; one line."""


@dataclass(frozen=True, slots=True)
class Shot:
    """A decoded picture. aspect: width of a sample by its height."""

    frame: av.VideoFrame
    aspect: Fraction


@dataclass(slots=True)
class _Session:
    """A stream that is looked at again and again. seen: its last picture, small and gray; shot: the same, whole."""

    track: Track
    decoder: VideoDecoder
    seen: Image.Image | None = None
    shot: Shot | None = None


def last_picture(track: Track, units: Sequence[AccessUnit]) -> Shot:
    """The latest picture, in the order of showing, that these units hold from a key frame on. Raises NoPicture."""
    decoder = VideoDecoder(track)
    last: Picture | None = None
    for unit in units:
        for picture in decoder.decode(unit):
            last = picture
    aspect = decoder.sample_aspect
    for picture in decoder.flush():
        last = picture
    if last is None:
        raise NoPicture("no picture could be decoded")
    return Shot(last.frame, aspect)


def jpeg(shot: Shot, quality: int) -> bytes:
    """The picture as JPEG, in its own size with square pixels."""
    frame, aspect = shot.frame, shot.aspect
    width = frame.width
    if Fraction(1, 8) <= aspect <= 8:  # what lies beyond is a slip of the encoder
        width = min(_WIDEST, max(1, round(width * aspect)))
    unsaid = int(frame.colorspace) == _UNSPECIFIED
    matrix = (Colorspace.ITU709 if frame.height >= _HD else Colorspace.ITU601) if unsaid else None
    shown = frame.reformat(width=width, format="rgb24", src_colorspace=matrix, interpolation=Interpolation.BICUBIC)
    out = io.BytesIO()
    _image(shown, "RGB").save(out, "JPEG", quality=quality, optimize=True)
    return out.getvalue()


def difference(before: Image.Image, now: Image.Image, least: int) -> Look:
    """How much two small gray pictures of one size differ: pixels by more than `least`."""
    changed = ImageChops.difference(before, now).point([0] * (least + 1) + [255] * (255 - least))
    share = changed.histogram()[255] / (now.width * now.height)
    regions = changed.resize((GRID, GRID), Image.Resampling.BOX).tobytes()
    return Look(round(share * 100, 2), regions.index(max(regions)) + 1)


def _small(frame: av.VideoFrame) -> Image.Image:
    width, height = max(1, frame.width // _SIDE), max(1, frame.height // _SIDE)
    return _image(frame.reformat(width, height, "gray", interpolation=Interpolation.AREA), "L")


def _image(frame: av.VideoFrame, mode: str) -> Image.Image:
    plane = frame.planes[0]
    return Image.frombytes(mode, (frame.width, frame.height), bytes(plane), "raw", mode, plane.line_size, 1)


class StillWorker:
    """Answers requests, one after the other."""

    def __init__(self) -> None:
        self._sessions: OrderedDict[int, _Session] = OrderedDict()

    def answer(self, ask: Ask) -> bytes:
        """What was asked for. Raises NoPicture, CodecFailed."""
        match ask.doing:
            case Doing.PICTURE:
                if ask.track is None:
                    raise NoPicture("a picture of a stream without one")
                return jpeg(last_picture(ask.track, ask.units), ask.quality)
            case Doing.LOOK:
                return self._look(ask).encode()
            case Doing.SHOT:
                session = self._sessions.get(ask.session)
                if session is None or session.shot is None:
                    raise NoPicture("the picture is gone")
                return jpeg(session.shot, ask.quality)
        raise NoPicture(f"{ask.doing} has no answer")

    def forget(self, session: int) -> None:
        """Lets go of what was kept for it."""
        self._sessions.pop(session, None)

    def _look(self, ask: Ask) -> Look:
        session = self._sessions.get(ask.session)
        if ask.track is None or (session is None and not ask.fresh):
            return Look(lost=True)
        if session is None or ask.fresh or session.track != ask.track:
            seen = session.seen if session is not None and session.track == ask.track else None
            session = self._sessions[ask.session] = _Session(ask.track, VideoDecoder(ask.track), seen)
            while len(self._sessions) > _MOST_SESSIONS:
                self._sessions.popitem(last=False)
        self._sessions.move_to_end(ask.session)
        last: Picture | None = None
        for unit in ask.units:
            for picture in session.decoder.decode(unit):
                last = picture
        shot = Shot(last.frame, session.decoder.sample_aspect) if last is not None else None
        if shot is None and ask.fresh:
            # The decoder holds pictures back to put them in order: another one, which is emptied, shows this one now.
            shot = last_picture(ask.track, ask.units)
        if shot is None:
            raise NoPicture("no picture could be decoded")
        small = _small(shot.frame)
        before, session.seen, session.shot = session.seen, small, shot
        if before is None or before.size != small.size:
            return Look(first=True)
        return difference(before, small, ask.difference)


def work(link: child.Link) -> None:
    """Until the gateway closes the link."""
    worker = StillWorker()
    while (message := link.receive()) is not None:
        if message[0] != StillMessage.ASK:
            continue
        ask = Ask.decode(message[1])
        if ask.doing is Doing.FORGET:
            worker.forget(ask.session)
            continue
        try:
            answer = Answer(ask.number, True, worker.answer(ask))
        except (NoPicture, CodecFailed, InvalidData, av.FFmpegError, ValueError, OSError, MemoryError) as error:
            answer = Answer(ask.number, False, str(error).encode() or type(error).__name__.encode())
        link.send(StillMessage.ANSWER, answer.encode())


if __name__ == "__main__":
    child.leave(child.run(work))
