"""Peers over real sockets: UDP and TCP, IPv4 and IPv6, on both event loops; floods and the end."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.lib.sockets import ListenError
from gateway.listeners.framing import framed
from gateway.webrtc.counters import Dropped
from gateway.webrtc.endpoint import WebRtcEndpoint
from gateway.webrtc.handler import PeerEnd
from gateway.webrtc.peer import Peer
from gateway.webrtc.sockets import open_sockets
from tests.support.time_outs import at_most
from tests.support.waiting import until
from tests.support.webrtc import (
    Client,
    NetworkClient,
    Recorder,
    receiver_report,
    rtp_packet,
    tcp_limits,
    webrtc_settings,
)


@contextlib.asynccontextmanager
async def running(**fields: Any) -> AsyncIterator[WebRtcEndpoint]:
    settings = webrtc_settings(**fields)
    endpoint = WebRtcEndpoint(settings, open_sockets(settings.host, settings.port), tcp_limits())
    await endpoint.start()
    try:
        yield endpoint
    finally:
        await endpoint.close()


async def connect(endpoint: WebRtcEndpoint, protocol: str, host: str) -> tuple[NetworkClient, Peer, Recorder]:
    client, recorder = Client(), Recorder()
    peer = endpoint.open_peer(client.offer, recorder, host)
    client.answer(peer)
    network = NetworkClient(client)
    await (network.over_udp if protocol == "udp" else network.over_tcp)(host, endpoint.port)
    await network.until(lambda: client.connected, checks=True)
    await until(lambda: recorder.was_connected == 1)
    return network, peer, recorder


@pytest.mark.parametrize("protocol", ["udp", "tcp"])
@pytest.mark.parametrize(
    ("bound", "host"), [("127.0.0.1", "127.0.0.1"), ("::1", "::1"), ("::", "127.0.0.1"), ("::", "::1")]
)
async def test_media_are_sent_in_both_directions_and_both_sides_close(protocol: str, bound: str, host: str) -> None:
    async with running(host=bound) as endpoint:
        network, peer, recorder = await connect(endpoint, protocol, host)
        client = network.client
        assert (peer.address, peer.protocol) == (host, protocol)
        frames = [[rtp_packet(20 * f + n, bytes(1188 if n < 19 else 77)) for n in range(20)] for f in range(5)]
        for frame in frames:
            peer.send(frame)
        peer.send_rtcp(receiver_report(3))
        await network.until(lambda: len(client.rtp) == 100 and len(client.rtcp) == 1)
        assert client.rtp == [packet for frame in frames for packet in frame]
        client.send_rtp(rtp_packet(7))
        client.send_rtcp(receiver_report())
        network.flush()
        await until(lambda: recorder.rtp_packets == [rtp_packet(7)] and recorder.rtcp_packets == [receiver_report()])
        await network.until(lambda: peer.round_trip is not None, checks=True)
        client.close()
        network.flush()
        async with asyncio.timeout(at_most(20)):
            await recorder.ended.wait()
        await network.until(lambda: client.closed)
        assert recorder.ends == [PeerEnd.CLOSED_BY_PEER]
        await until(lambda: endpoint.tcp_connections == 0)
        network.close()


async def test_frames_with_more_packets_than_one_segmented_send_arrive() -> None:
    async with running() as endpoint:
        network, peer, _ = await connect(endpoint, "udp", "127.0.0.1")
        sizes = [1188] * 70 + [400] * 40 + [500, 300, 1188]
        packets = [rtp_packet(number, bytes(size)) for number, size in enumerate(sizes)]
        peer.send(packets)
        await network.until(lambda: len(network.client.rtp) == len(packets))
        assert network.client.rtp == packets
        network.close()


async def test_packets_without_segmentation_arrive_too() -> None:
    async with running() as endpoint:
        network, peer, _ = await connect(endpoint, "udp", "127.0.0.1")
        assert endpoint._udp[0].segments, "this kernel has it"
        endpoint._udp[0].segments = False
        packets = [rtp_packet(number, bytes(1000)) for number in range(9)]
        peer.send(packets)
        await network.until(lambda: network.client.rtp == packets)
        network.close()


async def test_media_pass_during_a_flood_of_unknown_datagrams() -> None:
    async with running() as endpoint:
        network, _, recorder = await connect(endpoint, "udp", "127.0.0.1")
        network.client.send_rtcp(receiver_report())
        network.flush()
        flood = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        for number in range(40):
            for _ in range(100):
                flood.sendto(b"\x00\x01\x00\x00\x21\x12\xa4\x42" + bytes(12), ("127.0.0.1", endpoint.port))
            network.client.send_rtp(rtp_packet(number))
            network.flush()
            await asyncio.sleep(0)
        await until(lambda: len(recorder.rtp_packets) == 40)
        assert endpoint.counters.dropped[Dropped.UNAUTHORIZED] > 1000
        assert len(endpoint._udp_routes) == 1
        flood.settimeout(0.1)
        with pytest.raises(TimeoutError):
            flood.recv(100)
        flood.close()
        network.close()


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", framed([rtp_packet(1)]), framed([b"\x16\xfe\xfd" + bytes(50)]),
        framed([b"\x00\x01\x00\x00\x21\x12\xa4\x42" + bytes(12)]), b"\xff\xff",
    ],
)  # fmt: skip
async def test_a_tcp_connection_without_a_right_first_check_is_closed(data: bytes) -> None:
    async with running() as endpoint:
        reader, writer = await asyncio.open_connection("127.0.0.1", endpoint.port)
        writer.write(data)
        async with asyncio.timeout(at_most(20)):
            with contextlib.suppress(ConnectionResetError):
                assert await reader.read() == b""
        writer.close()
        await until(lambda: endpoint.tcp_connections == 0)


async def test_a_silent_tcp_connection_is_closed_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.webrtc.endpoint.TCP_FIRST_CHECK", 0.2)
    async with running() as endpoint:
        reader, writer = await asyncio.open_connection("127.0.0.1", endpoint.port)
        writer.write(b"\0")
        async with asyncio.timeout(at_most(20)):
            with contextlib.suppress(ConnectionResetError):
                assert await reader.read() == b""
        writer.close()


@pytest.mark.parametrize(
    ("bound", "closed"), [({"tcp_connections": 2}, 0), ({"half_open_per_address": 2}, 2)], ids=["oldest", "newest"]
)
async def test_tcp_connections_are_bounded(bound: dict[str, int], closed: int) -> None:
    async with running(**bound) as endpoint:
        opened = [await asyncio.open_connection("127.0.0.1", endpoint.port) for _ in range(3)]
        await until(lambda: endpoint.counters.refused == 1)
        async with asyncio.timeout(at_most(20)):
            with contextlib.suppress(ConnectionResetError):
                assert await opened[closed][0].read() == b""
        await until(lambda: endpoint.tcp_connections == 2)
        for _, writer in opened:
            writer.close()
        await until(lambda: endpoint.tcp_connections == 0)
        _, writer = await asyncio.open_connection("127.0.0.1", endpoint.port)
        await until(lambda: endpoint.tcp_connections == 1)
        writer.close()


async def test_a_tcp_client_that_reads_nothing_loses_packets_and_memory_stays_bounded() -> None:
    async with running() as endpoint:
        network, peer, _ = await connect(endpoint, "tcp", "127.0.0.1")
        network._transport.pause_reading()
        for number in range(3000):
            peer.send([rtp_packet(9 * number + n, bytes(1188)) for n in range(9)])
        assert endpoint.counters.dropped[Dropped.SEND_BUFFER] > 1000
        assert next(iter(endpoint._tcp))._transport.get_write_buffer_size() < 600_000
        network.close()


async def test_a_peer_survives_a_lost_tcp_connection_until_it_reconnects() -> None:
    async with running() as endpoint:
        network, peer, recorder = await connect(endpoint, "tcp", "127.0.0.1")
        network.close()
        await until(lambda: endpoint.tcp_connections == 0)
        peer.send([rtp_packet(1)])
        assert endpoint.counters.dropped[Dropped.NOT_CONNECTED] == 1 and not recorder.ends
        again = NetworkClient(network.client)
        await again.over_tcp("127.0.0.1", endpoint.port)
        await again.until(lambda: peer.address != "", checks=True)
        peer.send([rtp_packet(2)])
        await again.until(lambda: network.client.rtp == [rtp_packet(2)])
        again.close()


async def test_many_simultaneous_handshakes_finish() -> None:
    async with running() as endpoint:
        async with asyncio.timeout(at_most(60)):
            found = await asyncio.gather(*(connect(endpoint, "udp", "127.0.0.1") for _ in range(40)))
        assert endpoint.counters.connected == 40 and endpoint.half_open == 0
        for network, _, _ in found:
            network.close()


async def test_closing_the_endpoint_informs_its_clients_and_frees_the_port() -> None:
    async with running() as endpoint:
        port = endpoint.port
        networks = [await connect(endpoint, protocol, "127.0.0.1") for protocol in ("udp", "tcp")]
    for network, _, recorder in networks:
        await network.until(lambda client=network.client: client.closed)  # type: ignore[misc]
        assert recorder.ends == [PeerEnd.SHUTDOWN]
        network.close()
    open_sockets("127.0.0.1", port).close()


def test_an_error_names_the_port_in_use() -> None:
    with contextlib.closing(open_sockets("127.0.0.1", 0)) as taken:
        with pytest.raises(ListenError, match=f"webrtc.*{taken.port}"):
            open_sockets("127.0.0.1", taken.port)
        for listening in taken.tcp:
            listening.close()  # the port stays in use for UDP only
        with pytest.raises(ListenError, match=f"webrtc: UDP port.*{taken.port}"):
            open_sockets("127.0.0.1", taken.port)
