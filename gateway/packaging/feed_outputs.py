"""The outputs that are played from feeds: the same on a stream's holder and on every node that pulls the stream."""

from __future__ import annotations

from gateway.live.output import OutputSpec
from gateway.packaging.backlog import Backlogs
from gateway.packaging.feed import FeedCounts
from gateway.packaging.flv_output import FlvOutput
from gateway.packaging.rtmp_output import RtmpOutput


def feed_outputs(flush: float, stall: float, chunk: int, counts: FeedCounts, backlogs: Backlogs) -> list[OutputSpec]:
    """Returns the specifications of `flv` and `rtmp`.

    flush: seconds for which frames are batched at most.
    stall: seconds after which a viewer that takes nothing is cut; 0: never.
    chunk: size of an RTMP chunk in bytes.
    backlogs: counts the bytes that wait for all viewers of this process.
    """
    return [
        OutputSpec("flv", lambda s: FlvOutput(s, flush, stall, counts, backlogs), lambda s: s.channel.is_flv),
        OutputSpec(
            "rtmp", lambda s: RtmpOutput(s, chunk, flush, stall, counts, backlogs), lambda s: True, listed=False
        ),
    ]
