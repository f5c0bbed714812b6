"""Requests of a WHIP push: missing packets and key frames are requested as soon as they are known to be missing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gateway.ingest.webrtc.intake import WhipIntake
from gateway.ingest.webrtc.received_track import TrackParameters
from gateway.lib.metric_table import WORKER_RESTARTS
from gateway.lib.metrics import Counter
from gateway.live.publisher import StreamPublisher
from gateway.media.track import Kind
from gateway.protocols.rtp import rtcp
from gateway.protocols.rtp.packetizers.packetizer import MAX_PAYLOAD, packetizer_of
from gateway.protocols.rtp.sender import rtp_packet
from gateway.protocols.sdp.offer import OfferedCodec
from gateway.settings.layers import load
from gateway.workers.worker_pool import WorkerPool
from tests.support import builders
from tests.support.sources import pictures, source
from tests.support.time_outs import at_most

VIDEO = 96
SSRC = 7


class Peer:
    """The connection of a client, which stores the packets."""

    round_trip: float | None = None

    def __init__(self) -> None:
        self.packets: list[bytes] = []
        self.came = asyncio.Event()

    def send_rtcp(self, packet: bytes) -> None:
        self.packets.append(packet)
        self.came.set()

    async def until(self, kind: type[rtcp.Nack] | type[rtcp.Pli]) -> rtcp.Nack | rtcp.Pli:
        """Returns the first packet of this kind."""
        async with asyncio.timeout(at_most(10)):
            while True:
                for item in [item for packet in self.packets for item in rtcp.parse(packet)]:
                    if isinstance(item, kind):
                        return item
                self.came.clear()
                await self.came.wait()


@asynccontextmanager
async def pushing() -> AsyncIterator[tuple[WhipIntake, StreamPublisher, Peer, list[bytes]]]:
    """Yields an intake of H.264, and the packets of a film for it."""
    film = source(*pictures(), "-t", "1", "-c:v", "libx264", "-bf", "0", container="matroska")
    track = film.tracks.video
    assert track is not None
    packetizer = packetizer_of(track)
    assert packetizer is not None
    packets: list[bytes] = []
    for unit in film.of(Kind.VIDEO):
        parts = packetizer.split(unit.payload, MAX_PAYLOAD, unit.key)
        for n, part in enumerate(parts):
            packets.append(rtp_packet(VIDEO, n == len(parts) - 1, len(packets), unit.dts * 90, SSRC, part))
    settings = load(environ={})
    publisher, errors = builders.publish(builders.hub()), list[str]()
    parameters = [TrackParameters(Kind.VIDEO, OfferedCodec(VIDEO, "H264", 90_000, 1, {}, frozenset({"nack"}), None), 0)]
    pool = WorkerPool(settings.workers, Counter(WORKER_RESTARTS))
    intake, peer = WhipIntake(publisher, pool, parameters, errors.append, settings), Peer()
    intake.begin(peer)
    try:
        yield intake, publisher, peer, packets
    finally:
        intake.close()
    assert not errors


async def test_a_missing_packet_is_requested_at_once() -> None:
    async with pushing() as (intake, _, peer, packets):
        timer = intake._timer
        intake.receive_rtp([packets[0]], [time.monotonic()])
        intake.receive_rtp([packets[1]], [time.monotonic()])
        assert intake._timer is timer, "nothing is missing"
        intake.receive_rtp([packets[4]], [time.monotonic()])
        assert intake._timer is not timer
        asked = await peer.until(rtcp.Nack)
        assert isinstance(asked, rtcp.Nack) and list(asked.sequences) == [2, 3]
        intake.receive_rtp([packets[2]], [time.monotonic()])
        intake.receive_rtp([packets[3]], [time.monotonic()])
        receiver = intake.tracks[0].receiver
        assert receiver is not None and not receiver.is_repairing and receiver._missing.repaired == 2


async def test_a_key_frame_for_a_viewer_is_requested_at_once() -> None:
    async with pushing() as (intake, publisher, peer, packets):
        for packet in packets[:10]:
            intake.receive_rtp([packet], [time.monotonic()])
        assert intake.has_media
        timer = intake._timer
        publisher.stream.request_key_frame(time.monotonic())
        assert intake._timer is not timer
        asked = await peer.until(rtcp.Pli)
        assert isinstance(asked, rtcp.Pli) and asked.media == SSRC
