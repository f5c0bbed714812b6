"""The watermark of a channel, and its encoding in messages to the worker.

SETUP has {"preset", "threads", "bitrate", "after", "font"}. `after` is a decode time in milliseconds: viewers already
have the pictures up to it. DATA is a WatermarkSpec, before the first unit and at each
change. A NOTE of the worker, after each drawing, is {"notes": [...]}: the parts that could not be drawn. FAILED: this
stream cannot be decoded.
"""

from __future__ import annotations

import struct
from dataclasses import asdict, dataclass
from typing import Final

from gateway.channels.channel import Channel
from gateway.lib.records import read_record
from gateway.media.errors import InvalidData
from gateway.protocols import wire

DEFAULT_COLOR: Final = "red"
_LENGTH: Final = struct.Struct(">I")
_MAX_PIXELS: Final = 16_384  # of a size or a position


@dataclass(frozen=True, slots=True)
class WatermarkSpec:
    """A watermark: a text, a picture or both.

    text: "": no text. size: of the font. color: the text that the user entered. width, height: of the picture.
    left, top: position of text and picture. All sizes are pixels of the video. picture: an image file; b"": no picture.
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
        """Returns the channel's watermark without its picture. The caller gets the picture from `picture_url`."""
        return cls(
            channel.text("WaterMarkText") if _shows(channel, "isWaterMark") else "",
            round(channel.number("WaterMarkFontSize")),
            channel.text("WaterMarkFontColor") or DEFAULT_COLOR,
            int(channel.number("WaterMarkLeft")),
            int(channel.number("WaterMarkTop")),
            int(channel.number("ImageWidth")),
            int(channel.number("ImageHeight")),
        )

    def encode(self) -> bytes:
        """Returns the body of a DATA frame."""
        fields = asdict(self)
        picture: bytes = fields.pop("picture")
        body = wire.write_json(fields)
        return _LENGTH.pack(len(body)) + body + picture

    @classmethod
    def decode(cls, body: bytes) -> WatermarkSpec:
        """Reads the body of a DATA frame. Raises InvalidData."""
        if len(body) < _LENGTH.size:
            raise InvalidData("a watermark without length")
        end = _LENGTH.size + _LENGTH.unpack_from(body)[0]
        if end > len(body):
            raise InvalidData("the watermark is truncated")
        fields = wire.read_json(body[_LENGTH.size : end])
        try:
            spec = read_record(cls, {**fields, "picture": body[end:]})
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidData(f"invalid watermark: {error}") from None
        sizes, positions = (spec.size, spec.width, spec.height), (spec.left, spec.top)
        if min(sizes) < 1 or min(positions) < 0 or max(*sizes, *positions) > _MAX_PIXELS:
            raise InvalidData(f"a watermark with sizes {sizes} at {positions}")
        return spec


def picture_url(channel: Channel) -> str:
    """Returns the URL of the picture in the channel's watermark; "" if it has no picture."""
    return channel.text("ImageURL") if _shows(channel, "isImageWaterMark") else ""


def wants_watermark(channel: Channel) -> bool:
    """Returns whether the channel has a text, a picture or both in its watermark."""
    return channel.flag("isWaterMark") or channel.flag("isImageWaterMark")


def _shows(channel: Channel, flag: str) -> bool:
    """Returns whether this part is shown.

    If neither flag is set, the output was switched on manually. Then it shows every part that is configured.
    """
    return channel.flag(flag) or not wants_watermark(channel)
