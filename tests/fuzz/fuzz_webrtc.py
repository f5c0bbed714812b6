"""Datagrams from anywhere at a WebRTC endpoint with a peer in each state: dropped and counted, or handled."""

from __future__ import annotations

import asyncio
from functools import cache

from gateway.webrtc.counters import Dropped
from tests.support.webrtc import Client, Wire, receiver_report, rtp_packet

_UNKNOWN = ("198.51.100.9", 9)
_SHAPES = 4  # the first byte of the input chooses the sender


class Scene:
    """A connected peer, one in its handshake, and one without a client. Their credentials are known to no input."""

    def __init__(self) -> None:
        self.wire = Wire(half_open_per_address=0)
        self.loop = asyncio.new_event_loop()
        self.loop.run_until_complete(self._open())

    async def _open(self) -> None:
        self.client, self.peer, self.recorder = await self.wire.connect()
        self.client.send_rtcp(receiver_report())
        await self.wire.exchange()
        self.shaking = Client()
        self.shaking.starts_dtls = False
        _, self.other = self.wire.open(self.shaking)
        self.wire.open(Client())
        self.shaking.send_check()
        await self.wire.exchange()
        self.recorder.rtcp_packets.clear()

    async def send(self, data: bytes, address: tuple[str, int]) -> None:
        self.wire.deliver(data, address)
        self.wire.deliver_all([data] * 3, address)
        while len(self.wire.endpoint.handshakes):
            await asyncio.sleep(0)


@cache
def scene() -> Scene:
    return Scene()


def seeds() -> list[bytes]:
    client = Client()
    client.remote = ("a", "b")
    known = client.check()
    client.start_dtls()
    parts = [
        known,
        client.out[0],
        rtp_packet(1),
        receiver_report(),
        b"\x15\xfe\xfd\0\1" + bytes(6) + b"\0\x1a" + bytes(26),
    ]
    return [bytes((shape,)) + part for shape in range(_SHAPES) for part in parts]


def fuzz(data: bytes) -> None:
    """Oracle: no exception, no media, no new path or peer, no answer to an unknown address, every packet counted."""
    if not data:
        return
    found = scene()
    if found.other.ends:  # a handshake that was fed with anything may end
        scene.cache_clear()
        found.loop.run_until_complete(found.wire.endpoint.close())
        found.loop.close()
        found = scene()
    wire, endpoint = found.wire, found.wire.endpoint
    addresses = (_UNKNOWN, found.client.address, found.shaking.address, ("::ffff:198.51.100.9", 9))
    before, received = sum(endpoint.counters.dropped.values()), endpoint.counters.datagrams_in
    address = addresses[data[0] % _SHAPES]
    found.loop.run_until_complete(found.send(data[1:], address))
    assert endpoint.counters.datagrams_in == received + 4
    if address in (_UNKNOWN, addresses[3]):
        assert all(to != address for to, _ in wire.udp.sent)  # others may get a check that is due
        assert sum(endpoint.counters.dropped.values()) == before + 4 or data[1:3] == b"\0\x11"
    wire.udp.sent.clear()
    left = 1 - len(found.other.ends)
    assert len(endpoint._udp_routes) == 1 + left and endpoint.peers == 2 + left
    assert len(found.peer.ice.paths) == 1
    assert not found.recorder.rtp_packets and not found.recorder.rtcp_packets and not found.recorder.ends
    assert endpoint.counters.dropped[Dropped.NOT_CONNECTED] == 0
