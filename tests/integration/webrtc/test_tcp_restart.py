"""Sessions over ICE-TCP during a rolling restart: their connections stay in the old process."""

from __future__ import annotations

import asyncio
import itertools
import signal
import sys
from pathlib import Path

import pytest

from tests.integration.webrtc.test_several_nodes import gateway_of
from tests.support.clients import until
from tests.support.cores import Cores, alive
from tests.support.time_outs import at_most
from tests.support.tools import need
from tests.support.webrtc import NetworkClient
from tests.support.webrtc_session import PICTURES, Publisher, WebRtcSession

pytestmark = [
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="several workers need Linux"),
    pytest.mark.asyncio(loop_factories=["uvloop"]),  # of the clients alone: processes of the gateway have their own
]


async def over_tcp(gateway: Cores, url: str) -> WebRtcSession:
    session = WebRtcSession(url, "recvonly")
    assert await session.post() == 201, session.answer
    await session.network.over_tcp("127.0.0.1", session.port)
    await session.network.until(lambda: session.client.connected, checks=True)
    return session


@pytest.mark.nightly
async def test_a_rolling_restart_interrupts_no_session_over_tcp(tmp_path: Path) -> None:
    need("ffmpeg")
    with gateway_of(tmp_path / "gateway") as gateway:
        channel = gateway.channel()
        publisher = Publisher(channel.url(f"whip?sign={channel.key}"))
        await publisher.start()
        await asyncio.to_thread(channel.wait_live)
        viewers = [await over_tcp(gateway, channel.url("whep")) for _ in range(4)]
        for viewer in viewers:
            await viewer.until(lambda v=viewer: len(v.packets(PICTURES)) > 30)
        old = gateway.workers()
        gateway.process.send_signal(signal.SIGHUP)
        await asyncio.to_thread(until, lambda: '"event":"reloaded"' in gateway.log, "reloaded", 60)
        for viewer in viewers:
            count = len(viewer.packets(PICTURES))
            await viewer.until(lambda v=viewer, c=count: len(v.packets(PICTURES)) > c + 60)
            assert not viewer.client.closed
            numbers = [int.from_bytes(p[2:4], "big") for p in viewer.packets(PICTURES)]
            steps = {(b - a) & 0xFFFF for a, b in itertools.pairwise(numbers)}
            assert steps == {1}, "TCP loses and reorders nothing"
        # New connections are those of the new processes, also on the same port.
        fresh = await over_tcp(gateway, channel.url("whep"))
        await fresh.until(lambda: len(fresh.packets(PICTURES)) > 30)
        # A new connection of an old session is refused at once: its client opens a new session.
        lost = viewers.pop()
        lost.network.close()
        lost.network = NetworkClient(lost.client)
        await lost.network.over_tcp("127.0.0.1", lost.port)
        answered = len(lost.client.responses)
        lost.client.send_check()
        lost.network.flush()
        async with asyncio.timeout(at_most(10)):
            while not lost.network._transport.is_closing():
                await asyncio.sleep(0.05)
        assert len(lost.client.responses) == answered
        again = await over_tcp(gateway, channel.url("whep"))
        await again.until(lambda: len(again.packets(PICTURES)) > 30)
        # The session may also continue by UDP, whose datagrams reach the old process.
        lost.network = NetworkClient(lost.client)
        await lost.network.over_udp("127.0.0.1", lost.port)
        count = len(lost.packets(PICTURES))
        await lost.until(lambda: len(lost.packets(PICTURES)) > count + 30)
        for viewer in (*viewers, lost, fresh, again):
            assert await viewer.delete() == 200
        publisher.close()
        await asyncio.to_thread(until, lambda: not any(map(alive, old.values())), "the old workers end", 40)
        for viewer in (*viewers, lost, fresh, again):
            viewer.network.close()
