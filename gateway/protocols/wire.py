"""The frames between the gateway and a media worker or another node: their kind and body, and streams as frames."""

import json
import struct
from collections.abc import Callable
from enum import IntEnum
from typing import Any, Final, TypeVar

from gateway.formats.flv.color_info import color_info, read_color_info
from gateway.formats.script_data import read_timed, write_timed
from gateway.lib import bounded_json
from gateway.lib.records import read_record
from gateway.media.clock import MILLISECONDS, VIDEO_CLOCK
from gateway.media.colors import NO_COLORS
from gateway.media.errors import InvalidData
from gateway.media.track import AccessUnit, AmfValue, Codec, Kind, MadeSilence, MediaTrack, TimedData, Tracks

T = TypeVar("T")

# bytes. The largest body is a picture of 4096 x 4096 as RGBA; an access unit has at most 8 MB.
MAX_FRAME: Final = 80_000_000

_LENGTH: Final = struct.Struct(">IB")
# `to`, flags, dts, cts (both in ticks), wall clock (seconds). `to` has one bit for each stream of the link.
_UNIT: Final = struct.Struct(">HBqid")
# `to`, dts, length of the name
_TIMED: Final = struct.Struct(">HqH")
_TO: Final = struct.Struct(">H")

_KEY: Final = 1
_AUDIO: Final = 2
_MADE: Final = 4  # silence that the gateway made; earlier versions take it for sound of the encoder
_MAX_CONFIG: Final = 1 << 20
_MAX_TIME: Final = 1 << 53  # ticks of a unit's timescale
# Seconds since 1970. Python's calendar begins at -6.2e10 and ends at 2.5e11. Times may be negative: an encoder's first
# sound precedes its input, and some clocks begin at 0.
MIN_WALL: Final = -6e10
MAX_WALL: Final = 1e11

SOURCE: Final = 1  # `to` of a link that carries one stream


class StreamMessage(IntEnum):
    """Kinds of frames of a stream. `gateway.workers.messages` and the workers define other kinds from 16 up."""

    TRACKS = 1
    UNIT = 2
    TIMED = 3  # script data of FLV, with its time
    END = 4
    TICKS = 5  # TIMED of a transport stream, in ticks of 90 kHz; earlier versions ignore it


def frame(kind: int, body: bytes) -> bytes:
    """Returns one frame: 4 bytes length of the rest (big-endian), 1 byte `kind`, `body`.

    Raises ValueError if `kind` is not 0 to 255 or the body has MAX_FRAME bytes or more.
    """
    return header(kind, len(body)) + body


def header(kind: int, size: int) -> bytes:
    """Returns the first five bytes of a frame. size: bytes of its body. Raises ValueError like `frame`."""
    if not 0 <= kind <= 255 or size >= MAX_FRAME:
        raise ValueError(f"a frame of kind {kind} and {size} bytes")
    return _LENGTH.pack(size + 1, kind)


class Framer:
    """Reads frames from a byte stream in pieces of any size.

    Holds at most one unfinished frame of `max_frame` bytes.
    """

    __slots__ = ("_buffer", "_max_frame")

    def __init__(self, max_frame: int = MAX_FRAME) -> None:
        self._buffer = bytearray()
        self._max_frame = max_frame

    def receive(self, data: bytes) -> list[tuple[int, bytes]]:
        """Returns the frames that `data` completes, as (kind, body).

        Raises InvalidData if a length is 0 or exceeds `max_frame`.
        """
        buffer = self._buffer
        buffer += data
        frames: list[tuple[int, bytes]] = []
        at, end = 0, len(buffer)
        while end - at >= 5:
            length, kind = _LENGTH.unpack_from(buffer, at)
            if not 1 <= length <= self._max_frame:
                raise InvalidData(f"a frame of {length} bytes")
            if end - at < 4 + length:
                break
            frames.append((kind, bytes(buffer[at + 5 : at + 4 + length])))
            at += 4 + length
        if at:
            del buffer[:at]
        return frames

    @property
    def pending(self) -> int:
        """Bytes of the unfinished frame."""
        return len(self._buffer)


# ---- streams ----


def destination(body: bytes) -> int:
    """Returns `to` of a TRACKS, UNIT, TIMED or END body: one bit for each stream of the link. Raises InvalidData."""
    if len(body) < 2:
        raise InvalidData("a frame without destination")
    to: int = _TO.unpack_from(body)[0]
    return to


def encode_tracks(tracks: Tracks, to: int = SOURCE) -> bytes:
    """Returns the body of a TRACKS frame."""
    video, audio = _track_as_json(tracks.video), _track_as_json(tracks.audio)
    fields = {"epoch": tracks.epoch, "video": video, "audio": audio, "metadata": tracks.metadata}
    return _TO.pack(to) + write_json(fields)


def decode_tracks(body: bytes) -> Tracks:
    """Reads a TRACKS body. Raises InvalidData."""
    destination(body)
    fields = _read_object(body[2:], json.loads)  # metadata of a publisher may have any numbers
    epoch, metadata = fields.get("epoch"), fields.get("metadata")
    if type(epoch) is not int or not isinstance(metadata, dict):
        raise InvalidData("tracks without epoch or metadata")
    video, audio = _track(fields.get("video"), Kind.VIDEO), _track(fields.get("audio"), Kind.AUDIO)
    return Tracks(video, audio, epoch, _amf(metadata))


def encode_unit(unit: AccessUnit, to: int = SOURCE) -> bytes:
    """Returns the body of a UNIT frame. Raises ValueError if its times do not fit 64 and 32 bits."""
    return unit_head(unit, to)[_LENGTH.size :] + unit.payload


def unit_head(unit: AccessUnit, to: int = SOURCE, kind: int = StreamMessage.UNIT) -> bytes:
    """Returns a frame with a unit, but without the payload, so that the payload is not copied. kind: of the frame.

    Raises ValueError like `encode_unit`.
    """
    flags = _KEY if unit.key else 0
    if unit.track.kind is Kind.AUDIO:
        flags |= _AUDIO | _MADE if type(unit) is MadeSilence else _AUDIO
    try:
        head = _UNIT.pack(to, flags, unit.dts, unit.cts, unit.wall)
    except struct.error as error:
        raise ValueError(f"a unit at {unit.dts}, {unit.cts} does not fit a frame: {error}") from None
    return header(kind, len(head) + len(unit.payload)) + head


def decode_unit(body: bytes, tracks: Tracks | None) -> AccessUnit:
    """Reads a UNIT body. Its track must be one of `tracks`. Raises InvalidData, also for times that no stream has."""
    if len(body) < _UNIT.size:
        raise InvalidData(f"a unit of {len(body)} bytes")
    _, flags, dts, cts, wall = _UNIT.unpack_from(body)
    track = None if tracks is None else tracks.audio if flags & _AUDIO else tracks.video
    if track is None:
        raise InvalidData("a unit of a track that was not announced")
    if not (-_MAX_TIME < dts < _MAX_TIME and MIN_WALL < wall < MAX_WALL):
        raise InvalidData(f"a unit at {dts}, {wall}")
    made = MadeSilence if flags & _MADE else AccessUnit
    return made(track, dts, cts, bool(flags & _KEY), wall, body[_UNIT.size :])


def timed_frame(timed: TimedData) -> bytes:
    """Returns a TIMED or TICKS frame. Raises ValueError like `encode_timed`."""
    if timed.timescale == MILLISECONDS:
        return frame(StreamMessage.TIMED, encode_timed(timed))
    return frame(StreamMessage.TICKS, encode_timed(timed.counted(VIDEO_CLOCK)))


def encode_timed(timed: TimedData, to: int = SOURCE) -> bytes:
    """Returns the body of a TIMED or TICKS frame. Raises ValueError if the name or the time does not fit."""
    text, amf = write_timed(timed)
    name = text.encode("utf-8", "surrogatepass")
    try:
        return _TIMED.pack(to, timed.dts, len(name)) + name + amf
    except struct.error as error:
        raise ValueError(f"script data at {timed.dts} does not fit a frame: {error}") from None


def decode_timed(body: bytes, kind: int = StreamMessage.TIMED) -> TimedData:
    """Reads a TIMED or TICKS body. Raises InvalidData."""
    if len(body) < _TIMED.size:
        raise InvalidData(f"script data of {len(body)} bytes")
    _, dts, length = _TIMED.unpack_from(body)
    end = _TIMED.size + length
    if end > len(body):
        raise InvalidData("script data is cut inside its name")
    try:
        name = body[_TIMED.size : end].decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        raise InvalidData("script data with a name that is not UTF-8") from None
    return read_timed(dts, name, body[end:], VIDEO_CLOCK if kind == StreamMessage.TICKS else MILLISECONDS)


def encode_end(to: int = SOURCE) -> bytes:
    """Returns the body of an END frame."""
    return _TO.pack(to)


# ---- JSON bodies ----


def write_json(value: dict[str, Any]) -> bytes:
    """Returns a JSON body, for rare messages such as settings."""
    return json.dumps(value, separators=(",", ":")).encode()


def read_json(body: bytes) -> dict[str, Any]:
    """Reads the object of a JSON body. Its numbers are bounded. Raises InvalidData."""
    return _read_object(body, bounded_json.loads)


def decode_record(kind: type[T], body: bytes) -> T:
    """Reads a dataclass from a JSON body with all of its fields. Raises InvalidData."""
    fields = read_json(body)
    try:
        return read_record(kind, fields)
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidData(f"invalid {kind.__name__}: {error}") from None


def _read_object(body: bytes, parse: Callable[[bytes], Any]) -> dict[str, Any]:
    try:
        value = parse(body)
    except (ValueError, RecursionError):
        raise InvalidData("a body that is not JSON") from None
    if not isinstance(value, dict):
        raise InvalidData("a JSON body that is not an object")
    return value


def _track_as_json(track: MediaTrack | None) -> dict[str, Any] | None:
    if track is None:
        return None
    fields = {"codec": str(track.codec), "timescale": track.timescale, "config": track.config.hex()}
    # Nodes of an earlier version do not read the colors.
    return fields | ({"colors": color_info(track.colors).hex()} if track.colors != NO_COLORS else {})


def _track(fields: Any, kind: Kind) -> MediaTrack | None:
    if fields is None:
        return None
    if not isinstance(fields, dict):
        raise InvalidData(f"a {kind} track that is not an object")
    timescale, config, colors = fields.get("timescale"), fields.get("config"), fields.get("colors", "")
    if type(timescale) is not int or not 0 < timescale < 1 << 32:
        raise InvalidData(f"a {kind} track without timescale")
    if not isinstance(config, str) or len(config) > 2 * _MAX_CONFIG or not isinstance(colors, str):
        raise InvalidData(f"a {kind} track without configuration")
    try:
        declared = read_color_info(bytes.fromhex(colors)) or NO_COLORS
        return MediaTrack(kind, Codec(str(fields.get("codec"))), timescale, bytes.fromhex(config), declared)
    except ValueError:
        raise InvalidData(f"a {kind} track of an unknown codec or with a configuration that is not hex") from None


def _amf(value: dict[str, Any]) -> dict[str, AmfValue]:
    """Converts integers to floats, because AMF has only floats. Raises InvalidData for too deep nesting."""

    def convert(inner: Any) -> AmfValue:
        if isinstance(inner, dict):
            return {k: convert(v) for k, v in inner.items()}
        if isinstance(inner, list):
            return [convert(v) for v in inner]
        if isinstance(inner, int) and not isinstance(inner, bool):
            return float(inner) if abs(inner) < 1 << 1000 else 0.0
        assert inner is None or isinstance(inner, bool | float | str), "JSON has no other values"
        return inner

    try:
        return {k: convert(v) for k, v in value.items()}
    except RecursionError:
        raise InvalidData("metadata nested too deeply") from None
