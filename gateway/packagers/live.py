"""The outputs that are played from their feeds, alike on a stream's holder and on every node that pulls it."""

from __future__ import annotations

from gateway.hub.output import OutputSpec
from gateway.packagers.feed import FeedCounts
from gateway.packagers.flv import FlvOutput
from gateway.packagers.rtmp import RtmpOutput


def live_outputs(flush: float, stall: float, chunk: int, counts: FeedCounts) -> list[OutputSpec]:
    """`flv` and `rtmp`. flush: seconds that frames are gathered at most; stall: after which a viewer that takes nothing
    is cut, 0: never; chunk: bytes of an RTMP chunk."""
    return [
        OutputSpec("flv", lambda s: FlvOutput(s, flush, stall, counts), lambda s: s.channel.is_flv),
        OutputSpec("rtmp", lambda s: RtmpOutput(s, chunk, flush, stall, counts), lambda s: True, listed=False),
    ]
