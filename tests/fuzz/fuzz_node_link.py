"""Data of another node on a link: a replica reads the same for any cuts, or ends the link."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gateway.cluster.members.peers import _parse
from gateway.cluster.streams.pull import PullLink
from gateway.live.sink import EndReason
from gateway.media.timed_data import PrivateData, Script
from gateway.media.track import AccessUnit, Codec, Kind, MediaTrack, TimedData, Tracks
from gateway.protocols import nodes, wire
from gateway.protocols.nodes import Hello, LinkMessage
from gateway.protocols.wire import StreamMessage

_VIDEO = MediaTrack(Kind.VIDEO, Codec.H264, 1000, bytes.fromhex("0164001fffe100"))
_AUDIO = MediaTrack(Kind.AUDIO, Codec.AAC, 44100, b"\x12\x10")
_FRAMES = [
    wire.frame(LinkMessage.HELLO, Hello("claim/1.5", 1.5, {"isFlv": True, "refererAllow": ["a"]}).encode()),
    wire.frame(StreamMessage.TRACKS, wire.encode_tracks(Tracks(_VIDEO, _AUDIO, 0, {"width": 1280.0}))),
    wire.frame(StreamMessage.UNIT, wire.encode_unit(AccessUnit(_VIDEO, 40, 40, True, 1.7e9, b"\0\0\0\1e"))),
    wire.frame(StreamMessage.UNIT, wire.encode_unit(AccessUnit(_AUDIO, 0, 0, True, 1.7e9, b"a"))),
    wire.frame(StreamMessage.TIMED, wire.encode_timed(TimedData(5, Script("onCuePoint", b"\x02\0\1a")))),
    wire.timed_frame(TimedData(5, PrivateData(256, 6, b"", 7, b"klv"), 90_000)),
    wire.frame(LinkMessage.PING, b""),
    wire.frame(LinkMessage.CHANNEL, wire.write_json({"isFlv": False})),
    wire.frame(99, b"of a later version"),
    wire.frame(LinkMessage.OVER, wire.write_json({"reason": str(EndReason.KICKED)})),
]
_HEAD = b"HTTP/1.1 200 OK\r\nDate: Fri, 20 Nov 2026 19:00:00 GMT\r\nContent-Length: 5"

_LOOP = asyncio.new_event_loop()

SEEDS = [b"".join(_FRAMES), b"".join(_FRAMES[:4]), *_FRAMES, _HEAD]


class _Taken:
    """A Receiver that writes down what it gets."""

    def __init__(self) -> None:
        self.items: list[str] = []

    def hello(self, hello: Hello) -> None:
        self.items.append(repr(hello))

    def channel(self, told: Mapping[str, Any]) -> None:
        self.items.append(repr(told))

    def tracks(self, tracks: Tracks) -> None:
        self.items.append(repr(tracks))

    def unit(self, unit: AccessUnit) -> None:
        self.items.append(repr(unit))

    def timed(self, timed: TimedData) -> None:
        self.items.append(repr(timed))


class _Closed(asyncio.Transport):
    """A transport that only tells whether it was cut."""

    cut = False

    def abort(self) -> None:
        self.cut = True


def fuzz(data: bytes) -> None:
    """Oracle: the promise of the module, but data before nonsense in one piece may be lost.

    Heads parse or raise ValueError.
    """
    whole, cut = _LOOP.run_until_complete(_take(data, len(data) or 1)), _LOOP.run_until_complete(_take(data, 3))
    if whole.cut:
        assert whole.items == cut.items[: len(whole.items)]
    else:
        assert whole == cut
    head = data.partition(b"\r\n\r\n")[0]
    try:
        status, headers = _parse(head)
    except ValueError:
        return
    assert isinstance(status, int)
    assert all(isinstance(v, str) for v in headers.values())
    assert nodes.verify("s", "GET", "/", headers.get(nodes.HEADER, ""), 0) in ("wrong", "skew")


@dataclass(frozen=True)
class _Outcome:
    items: list[str]
    cut: bool
    over: EndReason | None


async def _take(data: bytes, size: int) -> _Outcome:
    taken, transport = _Taken(), _Closed()
    link = PullLink(taken, "c1")
    link.opened(transport, b"")
    for at in range(0, len(data), size):
        link.data_received(data[at : at + size])
    link.connection_lost(None)
    return _Outcome(taken.items, transport.cut, link.ended.result())
