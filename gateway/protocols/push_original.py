"""The push protocol of the old browser client: its paths, and the lines of text that it shows to users."""

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

    codec: the client's name of its video codec (h264, vp8o, mp4a); "" if it is missing.
    target: the address with the key.
    """

    codec: str
    target: str

    def __repr__(self) -> str:
        return f"OriginalPath({self.codec!r}, <target>)"  # keeps the key out of logs and tracebacks


def parse_path(path: str) -> OriginalPath | None:
    """Reads the path of a request, including its query. Returns None if it does not have this form."""
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
    """Returns the target address; "" if it is not valid. The client sends it unchanged or fully escaped."""
    for form in (text, unquote(text)):
        if form.lower().startswith(_SCHEMES) and form.isprintable():
            return form
    return ""


def stats_line(stats: Stats) -> str:
    """Returns a line like those of ffmpeg. The old server passed such lines on."""
    return (
        f"frame={stats.frames:5d} fps={stats.fps:4.1f} bitrate={stats.bitrate / 1000:7.1f}kbits/s "
        f"drop={stats.dropped} behind={stats.behind:.1f}s"
    )
