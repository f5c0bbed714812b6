"""What a relay costs: CPU of a core for each stream and target, in real time, to servers in another process.

    python -m bench.bench_relay [--streams 10] [--targets 2] [--seconds 10] [--bitrate 2500000] [--tls]

Each stream is 30 pictures and 43 sounds a second, given to the hub one by one as they would come from a publisher. The
same streams without a relay are measured first and taken off.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import multiprocessing
import ssl
import tempfile
import time
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import uvloop

from bench.bench_packaging import AUDIO, FPS, VIDEO, pictures
from gateway.lib.egress import Egress
from gateway.media.track import AccessUnit
from gateway.outputs.relay.relay_output import RelayFactory
from gateway.settings import load
from tests.support import builders
from tests.support.authority import Authority

_SOUNDS = 43
_SOUND = b"\x21" * 340


def serve(ports: Any, certificate: tuple[Path, Path] | None, stop: Event) -> None:
    """The servers' process: takes pushes and throws away what comes."""
    from gateway.protocols.rtmp.events import PublishRequested
    from gateway.protocols.rtmp.server import ServerConnection

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server, accepted = ServerConnection(apps={"live"}), False
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(1 << 18):
                if not accepted:  # media is not looked at: the machine's time is the relay's
                    for event in server.receive(data):
                        if isinstance(event, PublishRequested):
                            server.accept_publish()
                            accepted = True
                    writer.write(server.data_to_send())
        writer.close()

    async def main() -> None:
        tls = None
        if certificate is not None:
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            tls.load_cert_chain(*certificate)
        listener = await asyncio.start_server(one, "127.0.0.1", 0, ssl=tls)
        ports.put(listener.sockets[0].getsockname()[1])
        while not stop.is_set():
            await asyncio.sleep(0.1)

    uvloop.run(main())


async def cost(relays: RelayFactory, urls: list[list[str]], seconds: int, bitrate: int) -> tuple[float, int]:
    """CPU seconds of so many real seconds of these streams, each with its targets; and the bytes that left."""
    from gateway.live.output import OutputSpec

    hub = builders.hub([OutputSpec("relay", relays.make, lambda s: s.channel.flag("isRelay"))], gop_bytes=16_000_000)
    running = asyncio.create_task(hub.run())
    publishers = [
        builders.publish(hub, f"c{n}", isRelay=bool(targets), relayURL=targets) for n, targets in enumerate(urls)
    ]
    for publisher in publishers:
        publisher.set_tracks(VIDEO, AUDIO, {})
    frames = pictures(seconds + 2, bitrate)
    steps = sorted(
        [(n / FPS, n) for n in range(len(frames))] + [(n / _SOUNDS, -1) for n in range((seconds + 2) * _SOUNDS)]
    )
    began, used, sent = time.monotonic(), 0.0, 0.0
    measuring = False
    for at, number in steps:
        ahead = at - (time.monotonic() - began)
        if ahead > 0:
            await asyncio.sleep(ahead)
        if not measuring and at >= 2:  # connected by now
            measuring, used, sent = True, time.process_time(), leaving(relays)
        now, wall, dts = time.monotonic(), time.time(), round(at * 1000)
        for publisher in publishers:
            if number < 0:
                publisher.push(AccessUnit(AUDIO, dts, 0, True, wall, _SOUND), now)
            else:
                key, payload = frames[number]
                publisher.push(AccessUnit(VIDEO, dts, 0, key, wall, payload), now)
    await asyncio.sleep(0.05)
    result = time.process_time() - used, int(leaving(relays) - sent)
    hub.drain()
    await hub.drained()
    running.cancel()
    return result


def leaving(relays: RelayFactory) -> float:
    """Bytes given to the network so far."""
    return next(s.value for s in relays.samples() if s.labels == ("relay",))


def main() -> None:
    """Prints the figures."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--streams", type=int, default=10)
    options.add_argument("--targets", type=int, default=2, help="of each stream")
    options.add_argument("--seconds", type=int, default=10)
    options.add_argument("--bitrate", type=int, default=2_500_000)
    options.add_argument("--tls", action="store_true", help="push by RTMPS")
    given = options.parse_args()
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        authority = Authority(Path(folder))
        certificate = authority.files("127.0.0.1") if given.tls else None
        ports, stop = context.Queue(), context.Event()
        servers = context.Process(target=serve, args=(ports, certificate, stop))
        servers.start()
        try:
            port = ports.get(timeout=20)
            made = RelayFactory(load(environ={}).relay, Egress(["127.0.0.0/8"]), authority.client())
            scheme = "rtmps" if given.tls else "rtmp"
            targets = [
                [f"{scheme}://127.0.0.1:{port}/live/s{n}t{t}" for t in range(given.targets)]
                for n in range(given.streams)
            ]
            bare, _ = uvloop.run(cost(made, [[] for _ in targets], given.seconds, given.bitrate))
            full, sent = uvloop.run(cost(made, targets, given.seconds, given.bitrate))
        finally:
            stop.set()
            servers.join()
    each = (full - bare) / given.seconds / given.streams / given.targets
    print(
        f"{given.streams} streams of {given.bitrate / 1e6:g} Mbit/s to {given.targets} targets each by {scheme}: "
        f"{each:.2%} of a core for each stream and target ({sent * 8 / given.seconds / 1e6:.0f} Mbit/s left; "
        f"without relay {bare / given.seconds / given.streams:.2%} a stream)"
    )


if __name__ == "__main__":
    main()
