"""Requests to the still worker, and its answers."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict

from gateway.media.errors import InvalidData
from gateway.protocols import wire
from gateway.workers.jpeg_protocol import JpegAction, JpegReply, JpegRequest, PictureDifference
from tests.support.builders import VIDEO, picture

SEEDS = [
    JpegRequest(1, JpegAction.PICTURE, track=VIDEO, units=[picture(0, key=True), picture(40, cts=80)]).encode(),
    JpegRequest(2, JpegAction.COMPARE, 9, False, 85, 30, VIDEO, [picture(0)]).encode(),
    JpegRequest(3, JpegAction.LAST_PICTURE, 9).encode(),
    JpegRequest(4, JpegAction.CLOSE, 9).encode(),
    JpegReply(1, True, b"\xff\xd8\xff").encode(),
    wire.write_json(asdict(PictureDifference(12.5, 9))),
]


def fuzz(data: bytes) -> None:
    """Oracle: InvalidData, or what was read can be written and read again."""
    with suppress(InvalidData):
        ask = JpegRequest.decode(data)
        assert len(ask.units) <= len(data)
        assert JpegRequest.decode(ask.encode()).action is ask.action
    with suppress(InvalidData):
        answer = JpegReply.decode(data)
        assert JpegReply.decode(answer.encode()) == answer
    with suppress(InvalidData):
        wire.decode_record(PictureDifference, data)
