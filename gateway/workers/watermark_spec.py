"""The watermark of a channel, and its encoding on the link to the worker."""

from __future__ import annotations

import struct
from dataclasses import asdict, dataclass, replace
from enum import IntEnum
from typing import Any, Final

from gateway.channels.channel import Channel
from gateway.media.errors import InvalidData
from gateway.protocols import wire

DEFAULT_COLOR: Final = "red"
_LENGTH: Final = struct.Struct(">I")
_LARGEST: Final = 16_384


class WatermarkMessage(IntEnum):
    """Kinds of frames of the watermark worker, beside those of `wire.StreamMessage`."""

    SETUP = 16  # to the worker, first: JSON {"preset", "threads", "bitrate", "after", "font"}
    MARK = 17  # to the worker, before the first unit and at any change: a WatermarkSpec
    NOTES = 18  # from the worker, when a watermark is drawn: JSON {"notes": [...]}: the parts that could not be drawn
    UNFIT = 19  # from the worker: JSON {"reason"}: this stream cannot be decoded


@dataclass(frozen=True, slots=True)
class WatermarkSpec:
    """A watermark: a text, a picture or both.

    text: "" for none. picture: the image file, b"" for none. color: as the user wrote it.
    size, left, top, width, height: pixels of the video.
    """

    text: str = ""
    size: int = 24
    color: str = DEFAULT_COLOR
    left: int = 0
    top: int = 0
    width: int = 100
    height: int = 50
    picture: bytes = b""

    @classmethod
    def of(cls, channel: Channel) -> WatermarkSpec:
        """Returns the channel's watermark without the picture, which has to be fetched from `picture_url`."""
        return cls(
            channel.text("WaterMarkText") if _shows(channel, "isWaterMark") else "",
            round(channel.number("WaterMarkFontSize")),
            channel.text("WaterMarkFontColor") or DEFAULT_COLOR,
            int(channel.number("WaterMarkLeft")),
            int(channel.number("WaterMarkTop")),
            int(channel.number("ImageWidth")),
            int(channel.number("ImageHeight")),
        )

    def showing(self, picture: bytes) -> WatermarkSpec:
        """Returns a copy with this picture file."""
        return replace(self, picture=picture)

    def encode(self) -> bytes:
        """Returns the body of a MARK frame."""
        said = asdict(self)
        picture: bytes = said.pop("picture")
        body = wire.write_json(said)
        return _LENGTH.pack(len(body)) + body + picture

    @classmethod
    def decode(cls, body: bytes) -> WatermarkSpec:
        """Reads the body of a MARK frame. Raises InvalidData."""
        if len(body) < _LENGTH.size:
            raise InvalidData("a mark without length")
        end = _LENGTH.size + _LENGTH.unpack_from(body)[0]
        if end > len(body):
            raise InvalidData("a mark that is cut")
        said = wire.read_json(body[_LENGTH.size : end])
        return cls(
            _text(said, "text"),
            _number(said, "size", 1),
            _text(said, "color"),
            _number(said, "left", 0),
            _number(said, "top", 0),
            _number(said, "width", 1),
            _number(said, "height", 1),
            body[end:],
        )


def picture_url(channel: Channel) -> str:
    """Returns the URL of the picture of the channel's watermark; "" if it has none."""
    return channel.text("ImageURL") if _shows(channel, "isImageWaterMark") else ""


def wants_watermark(channel: Channel) -> bool:
    """Returns whether a text, a picture or both are switched on."""
    return channel.flag("isWaterMark") or channel.flag("isImageWaterMark")


def _shows(channel: Channel, flag: str) -> bool:
    """Returns whether this part is shown.

    If neither flag is set, the output was switched on by hand: then it shows every part that is configured.
    """
    return channel.flag(flag) or not wants_watermark(channel)


def _text(said: dict[str, Any], name: str) -> str:
    value = said.get(name)
    if not isinstance(value, str):
        raise InvalidData(f"a mark without {name}")
    return value


def _number(said: dict[str, Any], name: str, least: int) -> int:
    value = said.get(name)
    if type(value) is not int or not least <= value <= _LARGEST:
        raise InvalidData(f"a mark without {name}")
    return value
