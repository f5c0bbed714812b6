"""Our client and server against ffmpeg, rtmpdump, GStreamer and pyrtmp, over real sockets."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.formats.flv import muxer
from gateway.formats.flv.tag import AUDIO, SCRIPT, VIDEO
from gateway.protocols.rtmp.chunk_writer import shared_message
from gateway.protocols.rtmp.client import ClientConnection, ClientRole
from gateway.protocols.rtmp.events import Accepted, Ended, PlayRequested, PublishRequested, Rejected
from gateway.protocols.rtmp.message import CSID, Message
from gateway.protocols.rtmp.server import ServerConnection
from gateway.protocols.rtmp.url import parse_url
from tests.support.flv_reader import FlvReader, Tag
from tests.support.free_ports import free_port
from tests.support.time_outs import at_most
from tests.support.tools import need

Answer = Callable[[ServerConnection, asyncio.StreamWriter, Any], None]


@contextlib.asynccontextmanager
async def serving(answer: Answer) -> AsyncIterator[tuple[int, asyncio.Future[None]]]:
    """A server on a free port; the future is done when its first connection has ended."""
    ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server = ServerConnection()
        try:
            while not server.closing and (data := await reader.read(65536)):
                events = list(server.receive(data))
                while events:
                    event = events.pop(0)
                    if isinstance(event, PublishRequested):
                        events += server.accept_publish()
                    elif isinstance(event, PlayRequested):
                        server.accept_play()
                    answer(server, writer, event)
                writer.write(server.data_to_send())
                await writer.drain()
            if server.closing:  # players want to see the end before the socket's
                writer.write_eof()
                while await reader.read(65536):
                    pass
        except ConnectionError:
            pass
        finally:
            writer.close()
            if not ended.done():
                ended.set_result(None)

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield listener.sockets[0].getsockname()[1], ended
    finally:
        listener.close()


async def run(*command: str, codes: tuple[int, ...] = (0,)) -> str:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, stdin=asyncio.subprocess.DEVNULL
    )
    try:
        async with asyncio.timeout(at_most(60)):
            out, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode in codes, out.decode()[-2000:]
    return out.decode()


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    need("ffmpeg")
    path = tmp_path_factory.mktemp("film") / "film.flv"

    async def make() -> None:
        await run(
            *[
                "ffmpeg",
                "-v",
                "error",
                "-f",
                "lavfi",
                "-i",
                "testsrc=s=160x90:r=25",
                "-f",
                "lavfi",
                "-i",
                "sine=sample_rate=44100",
                "-t",
                "3",
            ],
            *[
                "-c:v",
                "libx264",
                "-preset",
                "veryfast",
                "-bf",
                "2",
                "-g",
                "25",
                "-c:a",
                "aac",
                "-f",
                "flv",
                "-flvflags",
                "no_duration_filesize",
            ],
            str(path),
        )

    asyncio.run(make())
    return path


def media(data: bytes) -> list[Tag]:
    """The audio and video tags of a file, in a canonical order, without ffmpeg's end-of-sequence tag."""
    tags = [t for t in FlvReader().receive(data) if t.type_id != SCRIPT and t.payload[:2] != b"\x17\x02"]
    return sorted(tags, key=lambda t: (t.timestamp, t.type_id, t.payload))


async def test_media_pushed_by_ffmpeg_arrives_unchanged(film: Path) -> None:
    got: list[Tag] = []

    def answer(server: ServerConnection, writer: asyncio.StreamWriter, event: Any) -> None:
        if isinstance(event, Message):
            got.append(Tag(event.type_id, event.timestamp, event.payload))

    async with serving(answer) as (port, ended):
        url = f"rtmp://127.0.0.1:{port}/stream/id?sign=1-a"
        await run("ffmpeg", "-v", "error", "-i", str(film), "-c", "copy", "-f", "flv", url)
        await ended
    flv = muxer.file_header(True, True) + b"".join(muxer.tag(t.type_id, t.timestamp, t.payload) for t in got)
    assert media(flv) == media(film.read_bytes())


def play(port: int, to: Path) -> dict[str, tuple[str, ...]]:
    url = f"rtmp://127.0.0.1:{port}/stream/id?sign=1-a"
    return {
        "ffmpeg": ("ffmpeg", "-v", "error", "-i", url, "-c", "copy", "-f", "flv", str(to)),
        "rtmpdump": (
            "rtmpdump",
            "-v",
            "-q",
            "-r",
            f"rtmp://127.0.0.1:{port}/stream",
            "-y",
            "id?sign=1-a",
            "-o",
            str(to),
        ),
        "gst-launch-1.0": ("gst-launch-1.0", "-q", "rtmp2src", f"location={url}", "!", "filesink", f"location={to}"),
    }


@pytest.mark.parametrize("player", ["ffmpeg", "rtmpdump", "gst-launch-1.0"])
async def test_other_players_can_play_shared_messages(player: str, film: Path, tmp_path: Path) -> None:
    need(player)
    tags = FlvReader().receive(film.read_bytes())

    def answer(server: ServerConnection, writer: asyncio.StreamWriter, event: Any) -> None:
        if isinstance(event, PlayRequested):
            writer.write(server.data_to_send())
            for t in tags:
                writer.write(shared_message(CSID[t.type_id], t.type_id, t.timestamp, t.payload, server.chunk_size))
            server.end_play("the film is over")

    async with serving(answer) as (port, ended):
        # rtmpdump says 2, incomplete, at the end of anything live
        await run(*play(port, tmp_path / "out.flv")[player], codes=(0, 2) if player == "rtmpdump" else (0,))
        await ended
    wanted = await frames(film)
    assert await frames(tmp_path / "out.flv") == wanted
    assert len(wanted) > 150


async def frames(path: Path) -> list[str]:
    """Time and checksum of every packet; the last of each stream left out, for players cut it off at the end."""
    out = await run(
        "ffmpeg", "-v", "error", "-i", str(path), "-map", "0:v", "-map", "0:a", "-c", "copy", "-f", "framemd5", "-"
    )
    rows = [[cell.strip() for cell in line.split(",")] for line in out.splitlines() if line[:1].isdigit()]
    return sorted(" ".join((row[0], row[1], row[2], row[5])) for row in rows if int(row[2]) < 2900)


async def converse(client: ClientConnection, port: int, act: Callable[[Any], Awaitable[None] | None]) -> None:
    """The shell around a client: until it is closing or the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        async with asyncio.timeout(at_most(60)):
            writer.write(client.data_to_send())
            while not client.closing:
                data = await reader.read(65536)
                if not data:
                    return
                for event in client.receive(data):
                    act(event)
                writer.write(client.data_to_send())
                await writer.drain()
    finally:
        writer.close()


def publish_film(client: ClientConnection, tags: list[Tag], failed: list[Any]) -> Callable[[Any], None]:
    def act(event: Any) -> None:
        if isinstance(event, Accepted):
            for t in tags:
                client.send_media(t.type_id, t.timestamp, t.payload)
            client.finish()
        elif isinstance(event, Rejected | Ended):
            failed.append(event)

    return act


@pytest.mark.parametrize("chunk_size", [128, 65536])
async def test_ffmpeg_as_a_server_accepts_media_of_our_client(chunk_size: int, film: Path, tmp_path: Path) -> None:
    port, out = free_port(), tmp_path / "out.flv"
    server = asyncio.ensure_future(
        run("ffmpeg", "-v", "error", "-listen", "1", "-i", f"rtmp://127.0.0.1:{port}/stream/id", "-c", "copy", str(out))
    )
    await listening(port, server)
    client = ClientConnection(
        parse_url(f"rtmp://127.0.0.1:{port}/stream/id"), ClientRole.PUBLISH, chunk_size=chunk_size
    )
    failed: list[Any] = []
    await converse(client, port, publish_film(client, FlvReader().receive(film.read_bytes()), failed))
    await server
    assert failed == []
    assert await frames(out) == await frames(film)


async def test_pyrtmp_accepts_media_of_our_client(film: Path) -> None:
    rtmp = pytest.importorskip("pyrtmp.rtmp")
    got: list[tuple[int, bytes]] = []
    over = asyncio.Event()

    class Controller(rtmp.SimpleRTMPController):  # type: ignore[misc,name-defined]
        async def on_video_message(self, session: Any, message: Any) -> None:
            got.append((VIDEO, message.payload))

        async def on_audio_message(self, session: Any, message: Any) -> None:
            got.append((AUDIO, message.payload))

        async def cleanup(self, session: Any) -> None:
            over.set()

    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: rtmp.RTMPProtocol(controller=Controller()), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    tags = [t for t in FlvReader().receive(film.read_bytes()) if t.type_id != SCRIPT][:60]
    client = ClientConnection(parse_url(f"rtmp://127.0.0.1:{port}/stream/id"), ClientRole.PUBLISH)
    failed: list[Any] = []
    await converse(client, port, publish_film(client, tags, failed))
    async with asyncio.timeout(at_most(30)):
        await over.wait()
    server.close()
    assert failed == []
    assert got == [(t.type_id, t.payload) for t in tags]


async def listening(port: int, process: asyncio.Future[str]) -> None:
    """Waits until something listens, without connecting: ffmpeg serves the first connection only."""
    wanted = f"0100007F:{port:04X} 00000000:0000 0A"
    while not process.done() and wanted not in await asyncio.to_thread(Path("/proc/net/tcp").read_text):
        await asyncio.sleep(0.02)
