"""Requests to the still worker, and its answers."""

from __future__ import annotations

from contextlib import suppress

from gateway.media.errors import InvalidData
from gateway.transcode.still import Answer, Ask, Doing, Look
from tests.support.builders import VIDEO, picture

SEEDS = [
    Ask(1, Doing.PICTURE, track=VIDEO, units=[picture(0, key=True), picture(40, cts=80)]).encode(),
    Ask(2, Doing.LOOK, 9, False, 85, 30, VIDEO, [picture(0)]).encode(),
    Ask(3, Doing.SHOT, 9).encode(),
    Ask(4, Doing.FORGET, 9).encode(),
    Answer(1, True, b"\xff\xd8\xff").encode(),
    Look(12.5, 9).encode(),
]


def fuzz(data: bytes) -> None:
    """Oracle: InvalidData, or what was read can be written and read again."""
    with suppress(InvalidData):
        ask = Ask.decode(data)
        assert len(ask.units) <= len(data)
        assert Ask.decode(ask.encode()).doing is ask.doing
    with suppress(InvalidData):
        answer = Answer.decode(data)
        assert Answer.decode(answer.encode()) == answer
    with suppress(InvalidData):
        Look.decode(data)
