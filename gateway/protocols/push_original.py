"""The original browser client's form of the push: its paths, and the lines of text that it shows to people."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

from gateway.protocols.push import Stats

PREFIX: Final = "/rtmps/"
CONNECTED: Final = "MSG: Connected to server"
CLOSING: Final = "Closing Socket"

_SCHEMES: Final = ("rtmp://", "rtmps://")
_TOKEN_CHARACTERS: Final = 16
_TARGET_CHARACTERS: Final = 2_048


@dataclass(frozen=True, slots=True)
class OriginalPath:
    """`/rtmps/<codec>/<rtmpURL><streamKey>`, or without codec (the client's first version).

    codec: what the client says of its video (h264, vp8o, mp4a); "" where it says nothing. target: address and key.
    """

    codec: str
    target: str

    def __repr__(self) -> str:
        return f"OriginalPath({self.codec!r}, <target>)"  # the key stays out of logs and tracebacks


def parse_path(path: str) -> OriginalPath | None:
    """What a request's path, with its query, asks for; None where it is not of this form."""
    if not path.startswith(PREFIX) or len(path) > _TARGET_CHARACTERS:
        return None
    rest = path.removeprefix(PREFIX)
    target = _target(rest)
    if target:
        return OriginalPath("", target)
    codec, _, rest = rest.partition("/")
    target = _target(rest)
    return OriginalPath(codec, target) if target and len(codec) <= _TOKEN_CHARACTERS else None


def _target(text: str) -> str:
    """The address, which the client puts into the path as it is; some escape it as a whole."""
    for form in (text, unquote(text)):
        if form.lower().startswith(_SCHEMES) and form.isprintable():
            return form
    return ""


def stats_line(stats: Stats) -> str:
    """A line like those of ffmpeg, which the original passed on."""
    return (
        f"frame={stats.frames:5d} fps={stats.fps:4.1f} bitrate={stats.bitrate / 1000:7.1f}kbits/s "
        f"drop={stats.dropped} behind={stats.behind:.1f}s"
    )
