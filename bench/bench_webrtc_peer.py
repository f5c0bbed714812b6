"""What one WebRTC peer costs: CPU of a frame that is sent, of a packet that arrives, of a handshake; and memory.

.venv/bin/python -m bench.bench_webrtc_peer
"""

from __future__ import annotations

import gc
import resource
import time
from collections.abc import Callable
from pathlib import Path

import uvloop

from gateway.webrtc.endpoint import WebRtcEndpoint
from gateway.webrtc.sockets import open_sockets
from tests.support.webrtc import (
    Client,
    NetworkClient,
    Recorder,
    Wire,
    receiver_report,
    rtp_packet,
    tcp_limits,
    webrtc_settings,
)

PACKETS, PAYLOAD, FRAMES, ROUNDS, PEERS = 9, 1188, 300, 10, 300


def microseconds(work: Callable[[int], None], count: int) -> float:
    """The best of ROUNDS, for one of `count` calls with increasing numbers."""
    best = float("inf")
    for number in range(ROUNDS):
        began = time.process_time()
        for each in range(number * count, (number + 1) * count):
            work(each)
        best = min(best, time.process_time() - began)
    return best / count * 1e6


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


async def cpu() -> None:
    settings = webrtc_settings()
    endpoint = WebRtcEndpoint(settings, open_sockets(settings.host, settings.port), tcp_limits())
    await endpoint.start()
    client, recorder = Client(), Recorder()
    peer = endpoint.open_peer(client.offer, recorder, "127.0.0.1")
    client.answer(peer)
    network = NetworkClient(client)
    await network.over_udp("127.0.0.1", endpoint.port)
    await network.until(lambda: client.connected, checks=True)
    # One frame again and again: as with many viewers, its bytes are in the processor's cache.
    frame = tuple(rtp_packet(n, bytes(PAYLOAD)) for n in range(PACKETS))
    udp, path, sender = endpoint._udp[0], peer.ice.selected, peer._sender
    assert path is not None and sender is not None
    print(f"Peer.send, a frame of {PACKETS} packets of {PAYLOAD + 12} bytes, AES-128-GCM")
    print(f"  with UDP_SEGMENT   {microseconds(lambda _: peer.send(frame), FRAMES):6.1f} µs")
    udp.segments = False
    print(f"  packet by packet   {microseconds(lambda _: peer.send(frame), FRAMES):6.1f} µs")
    udp.segments = True
    run = sender.protect_run(frame)
    assert run is not None
    size = len(frame[0]) + sender.tag
    print(f"  only encryption    {microseconds(lambda _: _ignore(sender.protect_run(frame)), FRAMES):6.1f} µs")
    print(f"  each packet apart  {microseconds(lambda _: _ignore(sender.protect(frame)), FRAMES):6.1f} µs")
    print(f"  only UDP_SEGMENT   {microseconds(lambda _: _ignore(path.send_run(run, size)), FRAMES):6.1f} µs")
    sound = (rtp_packet(70, bytes(240)),)
    print(f"  a packet of sound  {microseconds(lambda _: peer.send(sound), FRAMES):6.1f} µs")
    assert client._outbound is not None
    arriving = [client._outbound.protect(rtp_packet(n, bytes(PAYLOAD))) for n in range(1000 * ROUNDS)]
    key = next(iter(endpoint._udp_routes))
    times = [1.0] * 10
    received = microseconds(
        lambda n: _ignore(endpoint.receive_datagrams(*key, arriving[10 * n : 10 * n + 10], times)), 100
    )
    print(f"ten received packets {received:6.1f} µs")
    assert len(recorder.rtp_packets) == len(arriving) and not endpoint.counters.dropped
    network.close()
    await endpoint.close()


async def memory() -> None:
    wire = Wire(half_open_per_address=0)
    await wire.connect()
    gc.collect()
    before = resident()
    for number in range(PEERS):
        client = Client()
        client.address = (f"10.0.{number >> 8}.{number & 255}", 0)
        await wire.connect(client)
        client.send_rtcp(receiver_report())
        await wire.exchange()
        wire.clients.clear()
        del client
    gc.collect()
    print(f"memory of a peer     {(resident() - before) / PEERS / 1000:6.1f} kB ({wire.endpoint.peers} peers)")
    before = resident()
    waiting = Client()
    for _ in range(PEERS):
        wire.endpoint.open_peer(waiting.offer, Recorder(), "192.0.2.1")
    print(f"of a half-open peer  {(resident() - before) / PEERS / 1000:6.1f} kB")
    await wire.endpoint.close()


def _ignore(value: object) -> None:
    """For calls whose result does not matter."""


if __name__ == "__main__":
    uvloop.run(memory())
    uvloop.run(cpu())
