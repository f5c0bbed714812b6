"""The ways in which a stream is played: one table, read by addresses, API, status and viewer counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from gateway.channels.channel import Channel


@dataclass(frozen=True, slots=True)
class PlayFormat:
    """One way to play a stream.

    name: in `playUrls`, in viewer counts and in metrics. flag: the channel field that switches its output on; empty:
    it is always on. output: the output that makes it. path: below the address of the channel; empty for RTMP.
    scheme: of its address: "http" stands for https, too.
    """

    name: str
    flag: str
    output: str
    path: str
    scheme: str = "http"


# In the order in which clients are shown them.
FORMATS: Final = (
    PlayFormat("flv", "isFlv", "flv", "live.flv"),
    PlayFormat("wsflv", "isFlv", "flv", "live.flv", "ws"),
    PlayFormat("rtmp", "", "rtmp", "", "rtmp"),
    PlayFormat("hls", "isHls", "hls", "live.m3u8"),
    PlayFormat("cmaf", "isCMAF", "cmaf", "master.m3u8"),
    PlayFormat("dash", "isCMAF", "cmaf", "manifest.mpd"),
)
LADDER: Final = "ladder"  # the address of a channel's renditions; they are counted as the format in which they play
# The output of each flag: what a switch of the channel turns on and off.
SWITCHED: Final = {one.flag: one.output for one in FORMATS if one.flag}


def offered(channel: Channel) -> list[str]:
    """Returns the outputs that a channel's fields turn on, by their names in `status.json`."""
    return [output for flag, output in SWITCHED.items() if channel.flag(flag)]
