"""Streams pushed by another node: the stream gets the same for any cuts, or the link ends."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from gateway.cluster.streams.unit_receiver import UnitReceiver
from gateway.live.output import OutputSpec
from gateway.live.publisher import PushOrigin
from gateway.live.sink import EndReason
from gateway.live.stream import Stream
from gateway.media.timed_data import PrivateData, Script
from gateway.media.track import AccessUnit, Codec, Kind, MediaTrack, TimedData, Tracks
from gateway.protocols import wire
from gateway.protocols.nodes import LinkMessage
from gateway.protocols.wire import StreamMessage
from tests.support import builders

_VIDEO = MediaTrack(Kind.VIDEO, Codec.H264, 1000, bytes.fromhex("0164001fffe100"))
_AUDIO = MediaTrack(Kind.AUDIO, Codec.AAC, 44100, b"\x12\x10")
_NAMES = {"audioTrackIdInfoMap": {"1": {"language": "fr"}}, "videoTrackIdInfoMap": {"1": {"height": 360.0}}}


def _unit(kind: int, track: MediaTrack, dts: int, to: int = 0) -> bytes:
    return wire.frame(kind, wire.encode_unit(AccessUnit(track, dts, 0, True, 1.7e9, b"\0\0\0\1e"), to))


_FRAMES = [
    wire.frame(StreamMessage.TRACKS, wire.encode_tracks(Tracks(_VIDEO, _AUDIO, 0, cast(Any, _NAMES)))),
    wire.frame(LinkMessage.ADDITIONAL_TRACK, wire.encode_tracks(Tracks(_VIDEO, None), 2)),
    wire.frame(LinkMessage.ADDITIONAL_TRACK, wire.encode_tracks(Tracks(None, _AUDIO), 3)),
    _unit(StreamMessage.UNIT, _VIDEO, 0),
    _unit(LinkMessage.ADDITIONAL_UNIT, _VIDEO, 0, 2),
    _unit(StreamMessage.UNIT, _AUDIO, 0),
    _unit(LinkMessage.ADDITIONAL_UNIT, _AUDIO, 0, 3),
    _unit(LinkMessage.ADDITIONAL_UNIT, _AUDIO, 1024, 2),  # sound for a picture's track
    _unit(LinkMessage.ADDITIONAL_UNIT, _VIDEO, 40, 4),  # not announced
    wire.frame(StreamMessage.TIMED, wire.encode_timed(TimedData(5, Script("onCuePoint", b"\x02\0\1a")))),
    wire.timed_frame(TimedData(5, PrivateData(256, 6, b"", 7, b"klv"), 90_000)),
    wire.frame(LinkMessage.PING, b""),
    wire.frame(99, b"of a later version"),
    wire.frame(LinkMessage.OVER, b"{}"),
]

_LOOP = asyncio.new_event_loop()

SEEDS = [b"".join(_FRAMES), b"".join(_FRAMES[:7]), b"".join(_FRAMES[:8]), *_FRAMES]


class _Transport(asyncio.Transport):
    """A transport that only tells whether it was cut."""

    cut = False

    def abort(self) -> None:
        self.cut = True

    def write(self, data: bytes | bytearray | memoryview) -> None: ...

    def close(self) -> None: ...

    def is_closing(self) -> bool:
        return self.cut


class _Slot:
    def release(self) -> None: ...


class _Recording(builders.Recorder):
    """An output that has all units of its stream from the first one."""

    def begin(self, stream: Stream) -> None:
        stream.attach(self)

    async def run(self, stream: Stream) -> None:
        await stream.over()


def fuzz(data: bytes) -> None:
    """Oracle: the promise of the module, but data before nonsense in one piece may be lost.

    Each stream gets units of its own tracks.
    """
    ended, whole = _LOOP.run_until_complete(_take(data, len(data) or 1))
    ended_in_cuts, cut = _LOOP.run_until_complete(_take(data, 3))
    assert ended == ended_in_cuts
    if ended:
        cut = [items[: len(taken)] for items, taken in zip(cut, whole, strict=False)]
    assert whole == cut


async def _take(data: bytes, size: int) -> tuple[bool, list[list[str]]]:
    recordings: list[_Recording] = []

    def record(stream: Stream) -> _Recording:
        recordings.append(_Recording())
        return recordings[-1]

    hub = builders.hub([OutputSpec("recording", record, lambda stream: True)])
    origin = PushOrigin("node", "", trusted=True)
    publisher = hub.publish_source(builders.channel(), origin, lambda reason: None, input="", first_number=0)
    transport = _Transport()
    receiver = UnitReceiver(transport, cast(Any, _Slot()), "c1")
    receiver.begin(publisher, b"")
    for at in range(0, len(data), size):
        receiver.data_received(data[at : at + size])
    receiver.connection_lost(None)
    hub.end("c1", EndReason.KICKED)
    for recording in recordings:
        assert recording.error is None
        announced: set[MediaTrack | None] = set()
        for item in recording.items:
            if isinstance(item, Tracks):
                announced |= {item.video, item.audio}
            assert not isinstance(item, AccessUnit) or item.track in announced
    taken = [[item for item in recording.items if not isinstance(item, EndReason)] for recording in recordings]
    return transport.cut, [[repr(item) for item in items] for items in taken]
