"""RTMP servers that refuse, hang or end: each case has its text. Playback is tested on a running gateway."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.channels.inputs import InputKind, InputSpec
from gateway.formats.flv import muxer
from gateway.inputs.pull import rtmp_pull
from gateway.inputs.pull.pull_source import PullSource
from gateway.lib.egress import Egress
from gateway.media.track import Codec, Kind, MediaTrack, Tracks
from gateway.ports.errors import OutputError
from gateway.protocols.rtmp.chunk_writer import shared_message
from gateway.protocols.rtmp.events import Connected, PlayRequested
from gateway.protocols.rtmp.message import AUDIO, CSID, DATA
from gateway.protocols.rtmp.server import ServerConnection
from tests.support.authority import Authority
from tests.support.builders import AUDIO as AAC
from tests.support.builders import sound
from tests.support.inputs import FakeInput, running_source, worker_pool
from tests.support.rtmp_password import PasswordServer
from tests.support.rtmp_target import refused_connect
from tests.support.time_outs import at_most

KEY = "geheimer-schluessel"
Play = Callable[[ServerConnection], None]
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def server(serve: Serve, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """Yields the address of a stream."""
    running: set[asyncio.Task[Any]] = set()

    async def guarded(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        running.add(task)
        with contextlib.suppress(ConnectionError, asyncio.CancelledError):
            await serve(reader, writer)
        writer.close()

    listener = await asyncio.start_server(guarded, "127.0.0.1", 0, ssl=tls)
    try:
        scheme = "rtmps" if tls else "rtmp"
        yield f"{scheme}://127.0.0.1:{listener.sockets[0].getsockname()[1]}/live/{KEY}?sign=auch-geheim"
    finally:
        listener.close()
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


def rtmp(answer: Play) -> Serve:
    """Returns a server that answers play requests by `answer`."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = ServerConnection(apps={"live"})
        while data := await reader.read(65_536):
            for event in connection.receive(data):
                if isinstance(event, PlayRequested):
                    assert event.name == KEY
                    answer(connection)
            writer.write(connection.data_to_send())
            if connection.closing:
                return

    return serve


def pull(url: str, allow: tuple[str, ...] = ("127.0.0.0/8",), tls: ssl.SSLContext | None = None) -> PullSource:
    services: Any = SimpleNamespace(egress=Egress(allow), tls=tls, workers=worker_pool())
    return PullSource(services, InputSpec("p", InputKind.PULL, url=url))


async def fails(url: str, allow: tuple[str, ...] = ("127.0.0.0/8",), tls: ssl.SSLContext | None = None) -> str:
    source = pull(url, allow, tls)
    with pytest.raises(OutputError) as caught:
        async with asyncio.timeout(at_most(30)):
            await source.run(FakeInput())
    assert "geheim" not in str(caught.value)
    return str(caught.value)


async def test_a_refusal_is_shown_without_the_key() -> None:
    text = f"no stream {KEY} here"
    async with server(rtmp(lambda c: c.reject_play("NetStream.Play.StreamNotFound", text))) as url:
        assert await fails(url) == "refused: NetStream.Play.StreamNotFound: no stream *** here"


async def test_the_end_of_the_stream_is_reported() -> None:
    def end(connection: ServerConnection) -> None:
        connection.accept_play()
        connection.end_play("over")

    async with server(rtmp(end)) as url:
        assert await fails(url) == "the stream has ended"


@pytest.mark.parametrize(
    ("answer", "words"), [(lambda c: None, "no answer to play"), (lambda c: c.accept_play(), "no media for 0 s")]
)
async def test_a_silent_server_fails_after_a_timeout(answer: Play, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rtmp_pull, "SILENCE_SECONDS", 0.5)
    async with server(rtmp(answer)) as url:
        assert await fails(url) == words


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        (b"", "the server closed the connection during the handshake"),
        (b"HTTP/1.1 400 Bad\r\n" * 300, "the server does not speak RTMP"),
    ],
)
async def test_a_server_of_another_protocol_gives_a_specific_error(sent: bytes, words: str) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(sent)
        await writer.drain()

    async with server(serve) as url:
        assert (await fails(url)).startswith(words)


async def test_a_private_address_and_a_closed_port_give_a_specific_error() -> None:
    assert await fails("rtmp://127.0.0.1:1/live/x") == "connection refused"
    assert "is a loopback address" in await fails("rtmp://127.0.0.1:1/live/x", allow=())


async def test_over_tls_only_a_trusted_certificate_is_accepted(tmp_path: Path) -> None:
    authority = Authority(tmp_path)

    def refuse(connection: ServerConnection) -> None:
        connection.reject_play("NetStream.Play.Failed", "")

    async with server(rtmp(refuse), authority.server("127.0.0.1")) as url:
        assert await fails(url, tls=authority.client()) == "refused: NetStream.Play.Failed"
        assert (await fails(url)).startswith("the server's certificate is not trusted")


@pytest.mark.parametrize(("password", "code"), [("p%40ss%3Aword", "Play.Failed"), ("geheim", "Connect.Rejected")])
async def test_a_server_gets_the_user_and_password_of_the_address(password: str, code: str) -> None:
    guard = PasswordServer("llnw")

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = ServerConnection(apps={"live"})
        while data := await reader.read(65_536):
            for event in connection.receive(data):
                if isinstance(event, Connected) and (refusal := guard.refusal(event.tc_url)):
                    writer.write(refused_connect(refusal))
                    return
                if isinstance(event, PlayRequested):
                    connection.reject_play("NetStream.Play.Failed", "")
            writer.write(connection.data_to_send())

    async with server(serve) as url:
        assert code in await fails(url.replace("//", f"//me:{password}@"))


@pytest.mark.parametrize("step", [None, "connect", "play", "header"])
async def test_a_server_sends_codecs_of_the_list_and_may_fail_with_it(step: str | None) -> None:
    """step: where the server fails with a list; None: it does not, and sends Opus."""
    opus = MediaTrack(Kind.AUDIO, Codec.OPUS, 1_000, b"OpusHead\x01\x02\x38\x01\x80\xbb\0\0\0\0\0")
    context = FakeInput()
    lists: list[tuple[str, ...]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = ServerConnection(apps={"live"})
        listed: tuple[str, ...] = ()
        while data := await reader.read(65_536):
            for event in connection.receive(data):
                if isinstance(event, Connected):
                    lists.append(listed := event.fourccs)
                    context.peers.clear()  # then the recorder gets the media of this connection
                    if listed and step == "connect":
                        return
                elif isinstance(event, PlayRequested):
                    if listed and step == "play":
                        return
                    connection.accept_play()
                    track = opus if "Opus" in listed else AAC
                    bodies = [muxer.track_body(track), *(muxer.unit_body(sound(at, track=track)) for at in range(99))]
                    if listed and step == "header":
                        bodies = bodies[:1]
                    writer.write(connection.data_to_send())
                    metadata = muxer.metadata_body(Tracks(None, track))
                    writer.write(shared_message(CSID[DATA], DATA, 0, metadata, stream_id=connection.stream_id))
                    for at, body in enumerate(bodies):
                        writer.write(shared_message(CSID[AUDIO], AUDIO, 20 * at, body, stream_id=connection.stream_id))
                    if listed and step == "header":
                        return
            writer.write(connection.data_to_send())

    async with server(serve) as url, running_source(pull(url), context):
        await context.recorder.until(lambda: context.recorder.of(Kind.AUDIO))
    assert {"hvc1", "av01", "vp09", "Opus"} <= set(lists[0])
    assert lists[1:] == ([()] if step else [])
    (tracks,) = context.recorder.tracks
    assert tracks.audio is not None
    assert tracks.audio.codec is (Codec.AAC if step else Codec.OPUS)
