"""Mark: what a channel wants laid over its pictures, and how that crosses to the worker."""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any, Final

from gateway.hub.channel import Channel
from gateway.media.errors import InvalidData
from gateway.protocols import wire

DEFAULT_COLOR: Final = "red"
_LENGTH: Final = struct.Struct(">I")
_LARGEST: Final = 16_384


class WatermarkMessage(IntEnum):
    """Frames of the watermark worker beside wire.Message."""

    SETUP = 16  # to the worker, first: JSON (Setup)
    MARK = 17  # to the worker, before the first unit and at any change: a Mark
    NOTES = 18  # from it, once a mark is drawn: JSON {"notes": [...]}: what of it could not be had
    UNFIT = 19  # from it: JSON {"reason"}: this stream cannot be decoded


@dataclass(frozen=True, slots=True)
class Mark:
    """text "": none; picture b"": none. Sizes and places in pixels of the video; color as people write it."""

    text: str = ""
    size: int = 24
    color: str = DEFAULT_COLOR
    left: int = 0
    top: int = 0
    width: int = 100
    height: int = 50
    picture: bytes = b""

    @classmethod
    def of(cls, channel: Channel) -> Mark:
        """What the channel says, the picture itself left out: that has to be fetched from `picture_url`."""
        return cls(
            channel.text("WaterMarkText") if _shows(channel, "isWaterMark") else "",
            round(channel.number("WaterMarkFontSize")),
            channel.text("WaterMarkFontColor") or DEFAULT_COLOR,
            int(channel.number("WaterMarkLeft")),
            int(channel.number("WaterMarkTop")),
            int(channel.number("ImageWidth")),
            int(channel.number("ImageHeight")),
        )

    def showing(self, picture: bytes) -> Mark:
        """The same with this picture file."""
        return replace(self, picture=picture)

    def encode(self) -> bytes:
        """The body of a MARK frame."""
        said = wire.write_json(
            {
                "text": self.text,
                "size": self.size,
                "color": self.color,
                "left": self.left,
                "top": self.top,
                "width": self.width,
                "height": self.height,
            }
        )
        return _LENGTH.pack(len(said)) + said + self.picture

    @classmethod
    def decode(cls, body: bytes) -> Mark:
        """The Mark of a MARK body. Raises InvalidData."""
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
    """Where the picture of the channel's watermark is; "" where it has none."""
    return channel.text("ImageURL") if _shows(channel, "isImageWaterMark") else ""


def wants_mark(channel: Channel) -> bool:
    """Whether a text, a picture or both are switched on."""
    return channel.flag("isWaterMark") or channel.flag("isImageWaterMark")


def _shows(channel: Channel, flag: str) -> bool:
    """Switched on live while neither flag is set, the output shows whatever is written down."""
    return channel.flag(flag) or not wants_mark(channel)


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
