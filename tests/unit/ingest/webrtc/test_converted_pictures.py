"""A worker that falls behind costs pictures up to the next key frame, which the sender is asked for, and no sound."""

from __future__ import annotations

import asyncio
import time
from typing import Any, ClassVar, cast

import pytest

from gateway.ingest.webrtc import converted_pictures, intake
from gateway.ingest.webrtc.intake import WhipIntake
from gateway.ingest.webrtc.received_track import TrackParameters
from gateway.media.track import Kind
from gateway.protocols.rtp import rtcp
from gateway.protocols.rtp.sender import rtp_packet
from gateway.protocols.sdp.offer import OfferedCodec
from gateway.settings.layers import load
from tests.support import builders
from tests.support.waiting import until

VIDEO, AUDIO, TRANSPORT_CC = 96, 111, 3
PARAMETERS = [
    TrackParameters(Kind.VIDEO, OfferedCodec(VIDEO, "VP8", 90_000, 1, {}, frozenset({"nack"}), None), TRANSPORT_CC),
    TrackParameters(Kind.AUDIO, OfferedCodec(AUDIO, "OPUS", 48_000, 2, {}, frozenset(), None), TRANSPORT_CC),
]
KEY, DELTA = b"\x10\x10\x02\x00\x9d\x01\x2a\x80\x02\x68\x01", b"\x10\x11"


class Worker:
    """A double of `ContainerIntake` that reads while `reads` is set."""

    last: ClassVar[Worker]

    def __init__(self, publisher: Any, workers: Any, settings: Any) -> None:
        self.data = b""
        self.reads, self._finished = asyncio.Event(), asyncio.Event()
        self.reads.set()
        Worker.last = self

    async def feed(self, data: bytes) -> None:
        await self.reads.wait()
        self.data += data

    async def run(self) -> None:
        await self._finished.wait()

    def finish(self) -> None:
        self._finished.set()


class Peer:
    """The connection, as the intake uses it."""

    round_trip = None

    def __init__(self) -> None:
        self.sent: list[rtcp.RtcpPacket] = []

    def send_rtcp(self, packet: bytes) -> None:
        self.sent += rtcp.parse(packet)

    def count(self, kind: type) -> int:
        return sum(isinstance(packet, kind) for packet in self.sent)


class Push:
    def __init__(self) -> None:
        self.publisher, self.peer = builders.publish(builders.hub()), Peer()
        settings = load(environ={})
        self.intake = WhipIntake(self.publisher, cast(Any, None), PARAMETERS, lambda reason: None, settings)
        self._began, self._frames, self._sequences = time.monotonic(), 0, {VIDEO: 0, AUDIO: 0}

    def send(self, kind: int, payload: bytes) -> None:
        """Sends one frame, 20 ms after the one before."""
        self._frames += 1
        self._sequences[kind] += 1
        timestamp = self._frames * (1_800 if kind == VIDEO else 960)
        packet = rtp_packet(kind, True, self._sequences[kind], timestamp, kind, payload)
        self.intake.receive_rtp([packet], [self._began + self._frames * 0.02])


async def test_after_a_stall_of_the_worker_a_key_frame_is_requested_and_sound_continues(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(converted_pictures, "ContainerIntake", Worker)
    monkeypatch.setattr(converted_pictures, "_MAX_QUEUED", 1_000)
    monkeypatch.setattr(intake, "_REPORT_SECONDS", 0.0)  # so that each report ends a turn of the timer
    monkeypatch.setattr(intake, "_REPEAT_SECONDS", 0.0)
    push = Push()
    peer, worker = push.peer, Worker.last
    push.intake.begin(cast(Any, peer))
    running = asyncio.create_task(push.intake.run())
    push.send(VIDEO, KEY + b"first")
    await until(lambda: b"first" in worker.data)

    async def pass_turns() -> int:
        """Waits for two turns of the timer. Returns how many key frames they requested."""
        reports, requests = peer.count(rtcp.ReceiverReport), peer.count(rtcp.Pli)
        await until(lambda: peer.count(rtcp.ReceiverReport) >= reports + 2)
        return peer.count(rtcp.Pli) - requests

    worker.reads.clear()
    push.send(VIDEO, DELTA + b"read")
    await asyncio.sleep(0)  # the worker gets this picture, and reads no further ones
    push.send(VIDEO, DELTA + b"full" + bytes(1_000))
    for kind, payload in ((VIDEO, DELTA + b"lost"), (AUDIO, b"lost"), (VIDEO, KEY + b"lost")):
        push.send(kind, payload)
    assert push.publisher.on_air.dropped["ingest"] == 3
    assert await pass_turns() == 0, "a key frame would be dropped, too"

    worker.reads.set()
    await until(lambda: b"full" in worker.data)
    push.send(AUDIO, b"sound")
    push.send(VIDEO, DELTA + b"lost")
    await until(lambda: b"sound" in worker.data)
    assert await pass_turns() > 0
    push.send(VIDEO, KEY + b"second")
    push.send(VIDEO, DELTA + b"third")
    await until(lambda: b"third" in worker.data)
    assert await pass_turns() == 0
    assert b"second" in worker.data and b"lost" not in worker.data
    push.intake.close()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
