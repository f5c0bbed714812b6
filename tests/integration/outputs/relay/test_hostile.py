"""Targets that lie, hang, flood or disappear affect only themselves."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.media.track import AccessUnit, Codec, Kind, MediaTrack
from tests.support import builders
from tests.support.authority import Authority
from tests.support.relaying import live, relays
from tests.support.rtmp import command
from tests.support.rtmp_target import RtmpTarget, Session

SHAKEN = b"\x03" + bytes(3072)
CONNECTED = command("_result", 1, None, {"code": "NetConnection.Connect.Success", "level": "status"})
REFUSAL = {"code": "NetConnection.Connect.Rejected", "level": "error", "description": "no"}


@contextlib.asynccontextmanager
async def hostile(say: bytes, *, after: int = 0, then: str = "wait") -> AsyncIterator[int]:
    """A server that reads `after` bytes, sends `say`, and then waits, closes or repeats it. Yields its port."""
    servers: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        servers.add(task)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await reader.readexactly(after)
            writer.write(say)
            await writer.drain()
            while then == "again":
                writer.write(say)
                await writer.drain()
            while then == "wait" and await reader.read(65536):
                pass
        writer.close()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield listener.sockets[0].getsockname()[1]
    finally:
        listener.close()
        for task in servers:
            task.cancel()


@pytest.mark.parametrize(
    ("say", "after", "then", "words"),
    [
        (b"", 0, "wait", "no answer to the handshake within 0.5 s"),
        (b"", 0, "close", "during the handshake"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n" * 300, 1537, "wait", "does not speak RTMP"),
        (b"\x03" + bytes(3072), 1537, "wait", "no answer to connect within 0.5 s"),
        (b"\x03" + bytes(3072), 1537, "close", "during connect"),
        (b"\x03" + bytes(3072) + b"\xff" * 4096, 1537, "wait", "does not speak RTMP"),
        (SHAKEN + CONNECTED, 1537, "wait", "no answer to createStream within 0.5 s"),
        (SHAKEN + CONNECTED, 1537, "close", "during createStream"),
        (SHAKEN + command("_error", 1, None, REFUSAL), 1537, "wait", "refused: NetConnection.Connect.Rejected: no"),
        (SHAKEN + command("_result", 1, *[{}] * 3), 1537, "wait", "no answer to createStream"),
        (b"\x03" + bytes(3072) + b"\x02\0\0\0\0\0\4\3\0\0\0\0\0\0\0\1", 1537, "again", ""),
    ],
)
async def test_a_hostile_target_is_disconnected_within_limits(say: bytes, after: int, then: str, words: str) -> None:
    async with (
        hostile(say, after=after, then=then) as port,
        RtmpTarget() as good,
        live(f"rtmp://127.0.0.1:{port}/app/key-key-key", good.url(), with_=relays(timeout=0.5)) as on,
    ):
        on.film(range(0, 400, 40))
        report = await on.state("retrying")
        assert words in report["error"]
        await good.session(media=20)


async def test_a_target_with_endless_answers_is_disconnected() -> None:
    async with RtmpTarget() as target, live(target.url()) as on:
        on.film(range(0, 400, 40))
        session = await target.session(media=20)
        acknowledgement = b"\x02\0\0\0\0\0\4\3\0\0\0\0\0\0\0\1"
        with contextlib.suppress(ConnectionError):
            while not session.closed:
                session.writer.write(acknowledgement * 4096)
                await session.writer.drain()
        await on.until(lambda: "more bytes than it receives" in str(on.targets[0]["error"]), "cut off")


async def test_a_target_that_sends_endless_pings_uses_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.outputs.relay.rtmp_push.STALL_SECONDS", 1.0)
    async with RtmpTarget() as target, live(target.url()) as on:
        on.film(range(0, 400, 40))
        session = await target.session(media=20)
        target.reading.clear()
        ping = b"\x02\0\0\0\0\0\6\4\0\0\0\0\0\6\0\0\0\1"
        with contextlib.suppress(ConnectionError):
            while not session.closed and on.targets[0]["state"] == "live":
                session.writer.write(ping * 4096)
                await session.writer.drain()
                await asyncio.sleep(0)
        assert on.targets[0]["sent"] < 30_000_000
        await on.state("retrying")


async def test_a_missing_answer_to_publish_and_a_disconnection_give_different_errors() -> None:
    def vanish(session: Session) -> tuple[str, str]:
        raise ConnectionError

    async with RtmpTarget() as mute, RtmpTarget(judge=vanish) as closing:
        mute.mute = True
        async with live(mute.url(), closing.url(), with_=relays(timeout=0.5)) as on:
            assert (await on.state("retrying", 0))["error"] == "no answer to publish within 0.5 s"
            words = (await on.state("retrying", 1))["error"]
            assert words == "the server closed the connection when asked to publish (is the key right?)"


@pytest.mark.parametrize("soon", [10.0, 0.0])
async def test_a_target_that_closes_soon_after_the_publish_has_an_error_about_the_key(
    soon: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.outputs.relay.rtmp_push._SOON_SECONDS", soon)
    async with RtmpTarget(watch=lambda session, message: False) as target, live(target.url()) as on:
        on.film(range(0, 400, 40))
        error = (await on.state("retrying"))["error"]
        # A close becomes a reset if the other side has unread bytes.
        reason = error.removesuffix(" soon after the publish (is the key right?)")
        assert reason in ("the connection was reset", "the server closed the connection")
        assert (error != reason) is bool(soon)


async def test_a_target_that_closes_when_it_gets_a_codec_of_enhanced_rtmp_has_an_error_about_the_codec() -> None:
    video = MediaTrack(Kind.VIDEO, Codec.AV1, 1000, b"\x81\0\x0c\0")
    async with RtmpTarget(watch=lambda session, message: False) as target, live(target.url(), tracks=False) as on:
        on.publisher.set_tracks(video, builders.AUDIO, {})
        on.publisher.push(AccessUnit(video, 0, 0, True, 1.7e9, b"\x12\0"), time.monotonic())
        error = (await on.state("retrying"))["error"]
        assert error.endswith(" soon after the publish (does it take av1?)")


async def test_a_target_over_tls_that_reads_nothing_is_detected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.outputs.relay.rtmp_push.STALL_SECONDS", 0.3)
    authority = Authority(tmp_path)
    made = relays(tls=authority.client())
    async with RtmpTarget(tls=authority.server("127.0.0.1")) as target, live(target.url(), with_=made) as on:
        on.film(range(0, 400, 40))
        await target.session(media=10)
        target.reading.clear()
        await on.film_on(range(400, 20_000, 40), size=60_000)
        await on.until(lambda: "read nothing" in str(on.targets[0]["error"]), "stalled")
