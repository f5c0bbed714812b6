"""RTSP to N players over TCP beside HTTP-FLV, in turn: CPU of the server per delivered GB.

    bench_rtsp -n 300 --seconds 20

One stream of 2.5 Mbit/s, 720p30. The players read and throw away what comes. CPU is that of the gateway only.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
from contextlib import ExitStack

from tests.support.clients import Program, until
from tests.support.gateway import Channel, Gateway, running
from tests.support.rtsp import OPEN, RtspClient

_SOURCE = "testsrc2=size=1280x720:rate=30,noise=alls=20:allf=t"
_ENCODE = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-g", "60", "-b:v", "2.4M", "-maxrate")


def encoder(channel: Channel) -> Program:
    """ffmpeg that pushes the stream."""
    command = ["ffmpeg", "-nostdin", "-v", "error", "-re", "-f", "lavfi", "-i", _SOURCE, "-f", "lavfi", "-i", "sine"]
    options = (*_ENCODE, "2.4M", "-bufsize", "2.4M", "-c:a", "aac", "-b:a", "96k", "-f", "flv")
    return Program([*command, *options, channel.push])


async def opened(gateway: Gateway, channel: Channel, kind: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Returns the connection of a player of this kind: flv or rtsp."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.ports["http" if kind == "flv" else "rtsp"])
    if kind == "flv":
        writer.write(f"GET /{channel.id}/live.flv HTTP/1.1\r\nHost: bench\r\n\r\n".encode())
    else:
        client = RtspClient(reader, writer, f"rtsp://127.0.0.1:{gateway.ports['rtsp']}/{channel.id}")
        assert (await client.play(0, 1)).status == 200
    return reader, writer


async def drained(reader: asyncio.StreamReader) -> None:
    while await reader.read(1 << 20):
        pass


async def measured(gateway: Gateway, channel: Channel, kind: str, count: int, seconds: float) -> tuple[float, float]:
    """Returns CPU-seconds and gigabytes of these players for some seconds."""
    players = [await opened(gateway, channel, kind) for _ in range(count)]
    tasks = [asyncio.ensure_future(drained(reader)) for reader, _ in players]
    for _, writer in players:
        sock: socket.socket = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    await asyncio.sleep(5)
    cpu, sent = cpu_seconds(gateway), sent_bytes(gateway, kind)
    await asyncio.sleep(seconds)
    used, bytes_ = cpu_seconds(gateway) - cpu, sent_bytes(gateway, kind) - sent
    for task in tasks:
        task.cancel()
    for _, writer in players:
        writer.transport.abort()
    await asyncio.to_thread(until, lambda: not channel.session()["viewers"][kind], "all have left")
    return used, bytes_ / 1e9


def cpu_seconds(gateway: Gateway) -> float:
    with open(f"/proc/{gateway.process.pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def sent_bytes(gateway: Gateway, kind: str) -> float:
    lines = gateway.api("GET", "/metrics").text.splitlines()
    name = f'millrace_sent_bytes_total{{protocol="{kind}"}} '
    return float(next(line for line in lines if line.startswith(name)).split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser("bench_rtsp", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("-n", type=int, default=300, help="players")
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--rounds", type=int, default=2)
    asked = parser.parse_args()
    with ExitStack() as stack:
        gateway = stack.enter_context(running(MILLRACE_LIMITS__PLAYBACK_PER_ADDRESS="0", **OPEN))
        channel = gateway.channel("bench", isHls=False, isCMAF=False)
        stack.enter_context(encoder(channel))
        channel.wait_live()
        until(lambda: channel.session()["bitrate"] > 2_000, "the bit rate is known", 30)
        for _ in range(asked.rounds):
            for kind in ("flv", "rtsp"):
                cpu, size = asyncio.run(measured(gateway, channel, kind, asked.n, asked.seconds))
                print(f"{kind:5} {asked.n} players: {cpu:.2f} s of CPU, {size:.2f} GB, {cpu / size:.2f} s per GB")


if __name__ == "__main__":
    main()
