"""Relays to servers of Media over QUIC: the library's own server gets every frame."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import moq
import pytest

from gateway.formats.flv.tag import VIDEO
from gateway.outputs.relay.relay_output import RelayFactory
from tests.support.authority import Authority
from tests.support.media import BFRAMES
from tests.support.moq_viewer import PATIENT
from tests.support.relaying import filming, live, play, relays, tags_of
from tests.support.time_outs import at_most
from tests.support.tools import need


@dataclass
class Target:
    """A server that takes broadcasts. Its path `/closed` is refused. queries: of all sessions."""

    port: int
    authority: Authority
    origin: moq.OriginProducer
    queries: list[str | None] = field(default_factory=list)
    sessions: list[moq.Session] = field(default_factory=list)

    def url(self, rest: str, scheme: str = "moq") -> str:
        return f"{scheme}://localhost:{self.port}/{rest}"

    def relays(self, *allow: str) -> RelayFactory:
        """Relays that trust the server's authority."""
        return relays(allow=allow, tls=ssl.create_default_context(cafile=self.authority.file))

    async def broadcast(self, name: str) -> moq.BroadcastConsumer:
        """Waits for the broadcast of this name."""
        async with asyncio.timeout(at_most(20)):
            return await self.origin.consume().announced_broadcast(name)

    async def accept(self, server: moq.Server) -> None:
        async for request in server:
            self.queries.append(request.query)
            if request.path == "/closed":
                await request.reject(401)
            else:
                self.sessions.append(await request.accept())


@asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[Target]:
    authority, origin = Authority(folder), moq.OriginProducer()
    certificate, key = authority.files("localhost")
    server = moq.Server("127.0.0.1:0", tls_cert=[str(certificate)], tls_key=[str(key)], subscribe=origin)
    async with server:
        target = Target(int(server.local_addr.rpartition(":")[2]), authority, origin)
        task = asyncio.create_task(target.accept(server))
        try:
            yield target
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


@pytest.mark.parametrize("scheme", ["moq", "https"])
async def test_every_frame_arrives_unchanged(scheme: str, tmp_path: Path) -> None:
    need("ffmpeg")
    async with serving(tmp_path) as target:
        url = target.url("anon?jwt=s3cret-token#show/one", scheme)
        async with live(url, with_=target.relays("localhost"), tracks=False) as on:
            playing = asyncio.create_task(play(BFRAMES, on, speed=2, until=4))
            broadcast = await target.broadcast("show/one")
            catalog = await broadcast.catalog()
            [(name, track)] = catalog.video.items()
            playing.add_done_callback(lambda _: on.end())
            pictures = await _collect(broadcast, name, track)
            report = on.targets[0]
            assert report["error"] is None and report["sent"] > sum(map(len, pictures)) / 2  # of what is acknowledged
        assert [track.codec for track in catalog.audio.values()] == ["mp4a.40.2"]
        assert target.queries == ["jwt=s3cret-token"]
        assert "s3cret" not in report["url"]
    tags = [tag for tag in tags_of(BFRAMES) if tag.type_id == VIDEO and tag.timestamp <= 4000]
    sent = [tag.payload[5:] for tag in tags if tag.payload[1] == 1]  # no sequence header
    assert pictures == sent


async def _collect(broadcast: moq.BroadcastConsumer, name: str, track: moq.Video) -> list[bytes]:
    """Returns the pictures until the end of the track."""
    async with asyncio.timeout(at_most(20)):
        frames = [frame.payload async for frame in await broadcast.subscribe_media(name, track, PATIENT)]
    return [payload for payload in frames if payload]  # the library ends a track with an empty one


async def test_a_session_that_ends_is_opened_again(tmp_path: Path) -> None:
    async with (
        serving(tmp_path) as target,
        live(target.url("anon"), with_=target.relays("localhost")) as on,
        filming(on),
    ):
        await on.state("live")
        await target.broadcast(on.stream.name)
        target.sessions[0].shutdown()
        await on.until(lambda: len(target.sessions) == 2, "it connects again")
        await on.until(lambda: on.targets[0]["attempts"] == 2 and on.targets[0]["state"] == "live", "it is live again")


@pytest.mark.parametrize(
    ("allow", "rest", "state", "words"),
    [
        ("127.0.0.0/8", "anon", "failed", "localhost: servers of Media over QUIC must be listed in egress.allow"),
        ("localhost", "closed?jwt=s3cret-token", "retrying", "the server refuses: unauthorized"),
    ],
)
async def test_a_refusal_has_its_reason_without_secrets(
    allow: str, rest: str, state: str, words: str, tmp_path: Path
) -> None:
    async with serving(tmp_path) as target, live(target.url(rest), with_=target.relays(allow)) as on, filming(on):
        report = await on.state(state)
        assert report["error"] == words
        assert "s3cret" not in str(report)


async def test_a_certificate_of_a_stranger_is_refused(tmp_path: Path) -> None:
    strangers = relays(allow=("localhost",))
    async with serving(tmp_path) as target, live(target.url("anon"), with_=strangers) as on, filming(on):
        assert "invalid peer certificate" in (await on.state("retrying"))["error"]
