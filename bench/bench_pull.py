"""A pulled RTSP camera, 1080p25 with AAC, copied: CPU of the gateway with its workers, and the delay it adds.

    python -m bench.bench_pull --seconds 30

The camera is GStreamer's RTSP server (bench/peers/gst_camera.py). The delay of a picture is the time from the
passing of its last RTP packet, at a proxy before the gateway, to the arrival of its tag at an HTTP-FLV viewer.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import subprocess
import sys
import time
from pathlib import Path

from bench.harness import procs
from gateway.formats.flv.reader import FlvReader
from gateway.formats.flv.tag import VIDEO
from gateway.media import nal
from gateway.protocols.errors import RemoteProtocolError
from gateway.protocols.rtp.depacketizers import NalDepacketizer
from gateway.protocols.rtp.packets import parse_packet
from gateway.protocols.rtsp.messages import Interleaved, RtspReader
from tests.support import films
from tests.support.gateway import Channel, Gateway, running

PEER = Path(__file__).parent / "peers/gst_camera.py"


def slices(units: list[bytes]) -> bytes:
    """What identifies a picture, however it is framed."""
    return b"".join(u[:64] for u in units if u[0] & 0x1F in (1, 5))


class Proxy:
    """Passes one RTSP connection and notes when each picture has passed."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.passed: dict[bytes, float] = {}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._port)
        await asyncio.gather(self._requests(reader, up_writer), self._media(up_reader, writer))

    @staticmethod
    async def _requests(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            writer.write(data)
        writer.close()

    async def _media(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        messages, pictures = RtspReader(), NalDepacketizer(h265=False)
        while data := await reader.read(65_536):
            writer.write(data)
            now = time.monotonic()
            try:
                for item in messages.receive(data):
                    if isinstance(item, Interleaved) and item.channel == 0:
                        packet = parse_packet(item.payload)
                        for unit in pictures.push(packet) if packet is not None else ():
                            self.passed[slices(nal.split_annexb(unit.payload))] = now
            except RemoteProtocolError as error:
                sys.exit(f"the camera: {error}")


async def watch(channel: Channel, seconds: float) -> dict[bytes, float]:
    """Plays HTTP-FLV; returns when each picture came."""
    port = channel.gateway.ports["http"]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET /{channel.id}/live.flv HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n".encode())
    await reader.readuntil(b"\r\n\r\n")
    tags, arrived, end = FlvReader(), {}, time.monotonic() + seconds
    while time.monotonic() < end and (data := await reader.read(65_536)):
        now = time.monotonic()
        for kind, _, body in tags.receive(data):
            if kind == VIDEO and body[1] == 1:
                arrived[slices(nal.split(body[5:]))] = now
    writer.close()
    return arrived


async def measured(gateway: Gateway, seconds: float) -> float:
    """CPU seconds a second."""
    before, began = procs.usage(gateway.process.pid).cpu, time.monotonic()
    await asyncio.sleep(seconds)
    return (procs.usage(gateway.process.pid).cpu - before) / (time.monotonic() - began)


async def run(film: Path, seconds: float) -> None:
    camera = await asyncio.create_subprocess_exec(
        "/usr/bin/python3", str(PEER), str(film), "18554", stdout=subprocess.PIPE
    )
    assert camera.stdout is not None
    try:
        assert await camera.stdout.readline() == b"ready\n"
        proxy = Proxy(18554)
        server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
        with running(MILLRACE_EGRESS__ALLOW="127.0.0.0/8") as gateway:
            idle = await measured(gateway, seconds / 2)
            channel = gateway.channel(isHls=False, isCMAF=False)
            item = {"kind": "pull", "url": f"rtsp://127.0.0.1:{server.sockets[0].getsockname()[1]}/cam", "always": True}
            reply = gateway.api("PUT", f"/videostream/{channel.id}/inputs", [item])
            assert reply.status == 200, reply.text
            await asyncio.to_thread(channel.wait_live)
            await asyncio.sleep(8)  # streams without viewers are then read less often
            busy = await measured(gateway, seconds)
            print(f"CPU: {100 * (busy - idle):.2f} % of a core (idle {100 * idle:.2f} %)", flush=True)
            began = time.monotonic()
            arrived = await watch(channel, 15)
            # Older pictures come at once from the cache.
            pairs = ((proxy.passed[key], at) for key, at in arrived.items() if proxy.passed.get(key, 0) > began)
            delays = sorted(1000 * (at - passed) for passed, at in pairs)
            text = f"median {statistics.median(delays):.1f} ms, p99 {delays[int(len(delays) * 0.99)]:.1f} ms"
            print(f"delay of {len(delays)} pictures: {text}")
        server.close()
    finally:
        camera.terminate()
        await camera.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--bitrate", default="4M")
    options = parser.parse_args()
    film = films.film(
        "camera.mp4", "-f", "lavfi", "-i", "testsrc2=size=1920x1080:rate=25,noise=alls=10:allf=t", "-f", "lavfi", "-i",
        "sine=440:sample_rate=48000", "-t", str(options.seconds * 2 + 40), "-c:v", "libx264", "-preset", "ultrafast",
        "-tune", "zerolatency", "-g", "50", "-b:v", options.bitrate, "-maxrate", options.bitrate, "-bufsize", "2M",
        "-pix_fmt", "yuv420p", "-c:a", "aac",
    )  # fmt: skip
    asyncio.run(run(film, options.seconds))


if __name__ == "__main__":
    main()
