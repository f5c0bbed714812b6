"""The JPEG worker: makes JPEG pictures from access units, and measures how much two pictures of a stream differ."""

import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Final

import av
from av.video.reformatter import Interpolation
from PIL import Image, ImageChops

from gateway.diagnosis.picture_overview import HEIGHT, WIDTH
from gateway.lib.bounded_dict import BoundedDict
from gateway.media.errors import InvalidData
from gateway.media.track import AccessUnit, MediaTrack, Tracks
from gateway.protocols import wire
from gateway.protocols.wire import StreamMessage
from gateway.workers.jpeg_protocol import GRID, JpegAction, JpegMessage, JpegReply, JpegRequest, PictureDifference
from gateway.workers.programs import program
from gateway.workers.programs.codec import CodecFailed, DecodedPicture, VideoDecoder
from gateway.workers.programs.filters import Chain, Scaler, shown_matrix
from gateway.workers.programs.hdr import to_sdr

_MOTION_SCALE: Final = 6  # the old system detects motion at a sixth of the width and height
_MAX_SESSIONS: Final = 256
_MAX_WIDTH: Final = 16_384


class NoPicture(Exception):
    """The units contain no picture. The message is one line."""


@dataclass(slots=True)
class _Comparison:
    """The state of comparisons of one stream. picture: its last picture. small: this picture, small and gray."""

    track: MediaTrack
    decoder: VideoDecoder
    small: Image.Image | None = None
    picture: DecodedPicture | None = None


def decode_last_picture(track: MediaTrack, units: Sequence[AccessUnit]) -> DecodedPicture:
    """Returns the last picture, in presentation order, of units that begin with a key frame. Raises NoPicture."""
    decoder = VideoDecoder(track)
    last = _decode_units(decoder, units)
    for picture in decoder.flush():
        last = picture
    if last is None:
        raise NoPicture("no picture could be decoded")
    return last


def _decode_units(decoder: VideoDecoder, units: Sequence[AccessUnit]) -> DecodedPicture | None:
    last: DecodedPicture | None = None
    for unit in units:
        for picture in decoder.decode(unit):
            last = picture
    return last


def encode_jpeg(picture: DecodedPicture, quality: int, longest: int = 0) -> bytes:
    """Returns the picture as JPEG with square pixels, progressive.

    longest: maximum pixels of the longer side; a larger picture is scaled down. 0: the height is unchanged.
    """
    frame, aspect = _progressive(picture.frame), picture.aspect
    width, height = frame.width, frame.height
    if Fraction(1, 8) <= aspect <= 8:  # another value is an error of the encoder
        width = min(_MAX_WIDTH, max(1, round(width * aspect)))
    if longest and max(width, height) > longest:
        scale = Fraction(longest, max(width, height))
        width, height = max(1, round(width * scale)), max(1, round(height * scale))
    if to_sdr(int(frame.color_trc), False)[0]:
        frame = Scaler(width, height).scale(frame)
    out = io.BytesIO()
    _image(_convert(frame, width, height, "rgb24", Interpolation.BICUBIC), "RGB").save(
        out, "JPEG", quality=quality, optimize=True
    )
    return out.getvalue()


def _progressive(frame: av.VideoFrame) -> av.VideoFrame:
    """Returns an interlaced picture made of one of its fields: what moves is elsewhere in the other one."""
    if not frame.interlaced_frame:
        return frame
    chain = Chain(("estdif=mode=frame",))
    made: av.VideoFrame = [*chain.push(frame), *chain.flush()][0]
    return made


def convert_file(data: bytes, request: JpegRequest) -> bytes:
    """Returns a PNG, JPEG or WebP file as a new JPEG, with alpha as WebP. Raises NoPicture."""
    from gateway.workers.programs.watermark.overlay_image import PictureUnusable, read_picture  # only this needs it

    try:
        picture = read_picture(data, (request.longest, request.longest))
    except PictureUnusable as error:
        raise NoPicture(str(error)) from None
    picture.thumbnail((request.longest, request.longest), Image.Resampling.LANCZOS)
    shown = picture if request.alpha else Image.alpha_composite(Image.new("RGBA", picture.size, "black"), picture)
    shown.info.clear()  # otherwise Pillow writes comments and profiles of the file
    out = io.BytesIO()
    if request.alpha:
        shown.save(out, "WEBP", quality=90, method=4)
    else:
        shown.convert("RGB").save(out, "JPEG", quality=request.quality, optimize=True)
    return out.getvalue()


def compare_pictures(before: Image.Image, now: Image.Image, threshold: int) -> PictureDifference:
    """Compares two gray pictures of equal size. A pixel has changed if it differs by more than `threshold`."""
    changed = ImageChops.difference(before, now).point([0] * (threshold + 1) + [255] * (255 - threshold))
    fraction = changed.histogram()[255] / (now.width * now.height)
    regions = changed.resize((GRID, GRID), Image.Resampling.BOX).tobytes()
    return PictureDifference(round(fraction * 100, 2), regions.index(max(regions)) + 1)


def _convert(frame: av.VideoFrame, width: int, height: int, pixels: str, interpolation: Interpolation) -> av.VideoFrame:
    """Returns a converted picture. Sets the matrix of `frame`, because FFmpeg cannot convert every declared one."""
    frame.colorspace = shown_matrix(frame.colorspace, frame.height)
    return frame.reformat(width, height, pixels, interpolation=interpolation)


def _gray(frame: av.VideoFrame, width: int, height: int) -> Image.Image:
    return _image(_convert(frame, width, height, "gray", Interpolation.AREA), "L")


def _shrink(frame: av.VideoFrame) -> Image.Image:
    return _gray(frame, max(1, frame.width // _MOTION_SCALE), max(1, frame.height // _MOTION_SCALE))


def _overview(frame: av.VideoFrame) -> bytes:
    """Returns the pixels of a PictureOverview."""
    return _gray(frame, WIDTH, HEIGHT).tobytes()


def _image(frame: av.VideoFrame, mode: str) -> Image.Image:
    plane = frame.planes[0]
    return Image.frombytes(mode, (frame.width, frame.height), bytes(plane), "raw", mode, plane.line_size, 1)


class JpegWorker:
    """Answers requests one after the other, and keeps the sessions."""

    def __init__(self) -> None:
        self._sessions: BoundedDict[int, _Comparison] = BoundedDict(_MAX_SESSIONS)

    def answer(
        self, request: JpegRequest, track: MediaTrack | None, units: Sequence[AccessUnit], file: bytes
    ) -> JpegReply:
        """Returns the reply. track, units, file: of the request. Raises NoPicture, CodecFailed."""
        number = request.number
        match request.action:
            case JpegAction.PICTURE:
                if track is None:
                    raise NoPicture("the stream has no video")
                picture = decode_last_picture(track, units)
                made = encode_jpeg(picture, request.quality, request.longest)
                return JpegReply(number, True, made, _overview(picture.frame))
            case JpegAction.COMPARE:
                difference, overview = self._compare(request, track, units)
                return JpegReply(number, True, wire.write_json(asdict(difference)), overview)
            case JpegAction.LAST_PICTURE:
                session = self._sessions.get(request.session)
                if session is None or session.picture is None:
                    raise NoPicture("the picture is no longer available")
                return JpegReply(number, True, encode_jpeg(session.picture, request.quality))
            case JpegAction.CONVERT:
                return JpegReply(number, True, convert_file(file, request))
        raise NoPicture(f"{request.action} has no reply")

    def close(self, session: int) -> None:
        """Deletes the session."""
        self._sessions.pop(session, None)

    def _compare(
        self, request: JpegRequest, track: MediaTrack | None, units: Sequence[AccessUnit]
    ) -> tuple[PictureDifference, bytes]:
        """Returns the difference, and the pixels of a PictureOverview."""
        session = self._sessions.get(request.session)
        if track is None or (session is None and not request.fresh):
            return PictureDifference(lost=True), b""
        if session is None or request.fresh or session.track != track:
            small = session.small if session is not None and session.track == track else None
            session = _Comparison(track, VideoDecoder(track), small)
        self._sessions[request.session] = session
        picture = _decode_units(session.decoder, units)
        if picture is None and request.fresh:
            # The decoder delays the picture for reordering. A second decoder, which is flushed, returns it.
            picture = decode_last_picture(track, units)
        if picture is None:
            raise NoPicture("no picture could be decoded")
        before, now = session.small, _shrink(picture.frame)
        session.small, session.picture = now, picture
        if before is None or before.size != now.size:
            found = PictureDifference(first=True)
        else:
            found = compare_pictures(before, now, request.difference)
        return found, _overview(picture.frame)


def work(link: program.ParentLink) -> None:
    """Runs until the gateway closes the link."""
    worker, tracks = JpegWorker(), Tracks(None, None)
    units: list[AccessUnit] = []
    file = b""
    while (message := link.receive()) is not None:
        kind, body = message
        if kind == StreamMessage.TRACKS:
            tracks, units = wire.decode_tracks(body), []
        elif kind == StreamMessage.UNIT:
            units.append(wire.decode_unit(body, tracks))
        elif kind == JpegMessage.FILE:
            file = body
        elif kind == JpegMessage.REQUEST:
            request = wire.decode_record(JpegRequest, body)
            if request.action is JpegAction.CLOSE:
                worker.close(request.session)
                continue
            try:
                reply = worker.answer(request, tracks.video, units, file)
            except (NoPicture, CodecFailed, InvalidData) as error:
                reply = JpegReply(request.number, False, str(error).encode())
            except (av.FFmpegError, ValueError, OSError, MemoryError) as error:
                what = "not enough memory" if isinstance(error, MemoryError) else "the picture is damaged"
                reply = JpegReply(request.number, False, what.encode())
            link.send(JpegMessage.REPLY, reply.encode())
            units, file = [], b""


if __name__ == "__main__":
    program.exit_now(program.run(work))
