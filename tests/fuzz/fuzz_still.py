"""Requests to the still worker, and its answers."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict

from gateway.media.errors import InvalidData
from gateway.protocols import wire
from gateway.workers.jpeg_protocol import JpegAction, JpegReply, JpegRequest, PictureDifference

SEEDS = [
    wire.write_json(asdict(JpegRequest(JpegAction.PICTURE, longest=640))),
    wire.write_json(asdict(JpegRequest(JpegAction.COMPARE, 9, 2, False, 85, 30))),
    wire.write_json(asdict(JpegRequest(JpegAction.CLOSE, 9))),
    JpegReply(1, True, b"\xff\xd8\xff").encode(),
    wire.write_json(asdict(PictureDifference(12.5, 9))),
]


def fuzz(data: bytes) -> None:
    """Oracle: InvalidData, or what was read can be written and read again."""
    with suppress(InvalidData):
        ask = wire.decode_record(JpegRequest, data)
        assert wire.decode_record(JpegRequest, wire.write_json(asdict(ask))) == ask
    with suppress(InvalidData):
        answer = JpegReply.decode(data)
        assert JpegReply.decode(answer.encode()) == answer
    with suppress(InvalidData):
        wire.decode_record(PictureDifference, data)
