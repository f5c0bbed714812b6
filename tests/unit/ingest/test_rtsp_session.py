"""A connection of RTSP: what it ends in time, and that nothing of a play or a push is left when it ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from gateway.ingest.rtsp import session as session_module
from gateway.ingest.rtsp.session import MAX_IDLE_SECONDS, RtspSession
from gateway.lib.scheduled_reads import ReadScheduler
from gateway.lib.tasks import Tasks
from gateway.listeners.pending_connections import PendingConnections
from gateway.live.sink import EndReason
from gateway.packaging.rtsp_output import Described
from gateway.protocols.rtsp.description import SentTrack
from gateway.protocols.rtsp.messages import request
from gateway.protocols.rtsp.session import TIMEOUT
from gateway.settings import load
from tests.support.builders import AUDIO
from tests.support.waiting import until

URL = "rtsp://h/c1?sign=1-a"
SDP = b"v=0\r\ns=x\r\nt=0 0\r\nm=audio 0 RTP/AVP 97\r\na=rtpmap:97 opus/48000/2\r\na=control:streamid=0\r\n"
RECORD = {"Transport": "RTP/AVP/TCP;unicast;interleaved=0-1;mode=record"}


class Wire(asyncio.Transport):
    """The connection of a client."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.is_ended = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += bytes(data)

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return self.is_ended

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.is_ended = True

    def abort(self) -> None:
        self.is_ended = True

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("192.0.2.1", 5) if name in ("peername", "sockname") else default


class SlowPush:
    """A push whose publisher comes after `answer`."""

    def __init__(self) -> None:
        self.answer = asyncio.Event()
        self.id = "c1"
        self.is_asked = self.has_publisher = self.has_ended = False

    async def check_key(self) -> None:
        pass

    async def begin(self, evict: Callable[[EndReason], None]) -> object:
        self.is_asked = True
        await self.answer.wait()
        self.has_publisher = True
        raise AssertionError("a client that has gone gets no publisher")

    def end(self, reason: str, **more: Any) -> None:
        self.has_ended = True


class LivePlay:
    """A play of a stream with one track."""

    name, count = "c1", 1
    ended: EndReason | None = None
    described = Described((SentTrack(AUDIO, 44_100, 2),), 1)

    def __init__(self, *services: object) -> None:
        self.is_sent = False

    async def open(self) -> None:
        pass

    async def begin(self) -> None:
        pass

    def start(self, *ways: object) -> None:
        self.is_sent = True

    def pause(self) -> None:
        self.is_sent = False

    end = pause


class Lab:
    def __init__(self, tasks: Tasks) -> None:
        self.push, self.wire = SlowPush(), Wire()
        self.sessions: set[RtspSession] = set()
        services: Any = SimpleNamespace(
            reads=ReadScheduler(),
            pending=PendingConnections(),
            settings=load(environ={}),
            tasks=tasks,
            admission=SimpleNamespace(hook=None),
            make_push=lambda wanted: self.push,
            make_play=lambda wanted: None,
        )
        self.session = RtspSession(services, None, "rtsp", "", self.sessions, exempt=False)
        self.session.connection_made(self.wire)
        self.number = 0

    def send(self, method: str, url: str = URL, headers: dict[str, str] | None = None, body: bytes = b"") -> None:
        self.number += 1
        more = {**(headers or {}), "Content-Length": str(len(body))}
        self.session.bytes_received(request(method, url, self.number, more) + body)

    async def ask(self, method: str, url: str = URL, headers: dict[str, str] | None = None, body: bytes = b"") -> None:
        """Sends a request, and waits until it is answered with 200."""
        self.send(method, url, headers, body)
        await until(lambda: f"200 OK\r\nCSeq: {self.number}\r\n".encode() in self.wire.written, method)

    async def record(self) -> None:
        """Asks for the publisher, which does not come yet."""
        await self.ask("ANNOUNCE", body=SDP)
        await self.ask("SETUP", f"{URL}/streamid=0", RECORD)
        self.send("RECORD")
        await until(lambda: self.push.is_asked, "it waits")


@pytest.fixture
async def lab() -> AsyncIterator[Lab]:
    crashes: list[str] = []
    async with Tasks("test", lambda name, error: crashes.append(f"{name}: {error!r}")) as tasks:
        made = Lab(tasks)
        yield made
        made.session.connection_lost(None)
        await asyncio.sleep(0)
    assert not crashes


async def test_a_client_that_is_ended_while_it_waits_for_its_publisher_gets_none(lab: Lab) -> None:
    await lab.record()
    for _ in range(20):
        lab.send("GET_PARAMETER")
    assert lab.wire.is_ended and lab.push.has_ended
    lab.push.answer.set()
    await until(lambda: lab.session._task is None, "it waits no longer")
    assert not lab.push.has_publisher


async def test_a_client_that_disconnects_while_it_waits_for_its_publisher_gets_none(lab: Lab) -> None:
    await lab.record()
    lab.session.connection_lost(None)
    lab.push.answer.set()
    await until(lambda: lab.session._task is None, "it waits no longer")
    assert lab.push.has_ended and not lab.push.has_publisher and not lab.sessions


async def test_a_connection_without_a_request_ends_after_the_limit_of_handshakes(lab: Lab) -> None:
    began = time.monotonic()
    lab.session.tick(began + 9)
    assert not lab.wire.is_ended
    lab.session.tick(began + 11)
    assert lab.wire.is_ended


async def test_a_connection_that_neither_plays_nor_pushes_ends(lab: Lab) -> None:
    await lab.ask("ANNOUNCE", body=SDP)
    now = time.monotonic()
    lab.session.tick(now + MAX_IDLE_SECONDS - 1)
    assert not lab.wire.is_ended
    lab.session.tick(now + MAX_IDLE_SECONDS + 1)
    assert lab.wire.is_ended and lab.push.has_ended


async def test_signs_of_life_do_not_keep_an_idle_connection(lab: Lab) -> None:
    await lab.ask("OPTIONS", "*")
    later = time.monotonic() + MAX_IDLE_SECONDS + 1
    await lab.ask("GET_PARAMETER")
    lab.session.tick(later)
    assert lab.wire.is_ended


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_rtsp_over_http_is_refused_in_words(lab: Lab, method: str) -> None:
    """`ffmpeg -rtsp_transport http`, and VLC with `--rtsp-http`."""
    head = f"{method} /c1?sign=1-a HTTP/1.1\r\nAccept: application/x-rtsp-tunnelled\r\nX-Sessioncookie: 1\r\n\r\n"
    lab.session.bytes_received(head.encode())
    assert lab.wire.written.startswith(b"HTTP/1.1 501 RTSP over HTTP is not offered")
    assert lab.wire.written.endswith(b": choose TCP\n") and lab.wire.is_ended


async def paused(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> LivePlay:
    """The play of a client that has played, and pauses."""
    monkeypatch.setattr(session_module, "RtspPlay", LivePlay)
    await lab.ask("DESCRIBE")
    await lab.ask("SETUP", f"{URL}/trackID=0", {"Transport": "RTP/AVP/TCP;unicast;interleaved=0-1"})
    await lab.ask("PLAY")
    play: Any = lab.session._media
    assert play.is_sent
    await lab.ask("PAUSE")
    assert not play.is_sent
    return cast(LivePlay, play)


async def test_a_paused_player_ends_with_its_stream(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    play = await paused(lab, monkeypatch)
    lab.session.tick(time.monotonic())
    assert not lab.wire.is_ended
    play.ended = EndReason.DELETED
    lab.session.tick(time.monotonic())
    assert lab.wire.is_ended and lab.session._media is None, "it keeps no stream that has ended"


async def test_a_paused_player_ends_two_minutes_after_its_last_sign_of_life(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    await paused(lab, monkeypatch)
    now = time.monotonic()
    lab.session.tick(now + 2 * TIMEOUT - 5)
    assert not lab.wire.is_ended
    lab.session.tick(now + 2 * TIMEOUT + 1)
    assert lab.wire.is_ended
