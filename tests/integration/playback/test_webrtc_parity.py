"""WHIP and WHEP behave like RTMP pushes and FLV viewers: each case runs with both and is compared."""

from __future__ import annotations

import asyncio
import signal
import time
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, TypeAlias

import pytest

from gateway.channels.stream_key import SignatureUse, SigningSecrets
from gateway.media.track import AccessUnit, Kind
from tests.support.at_night import at_night
from tests.support.clients import Program, push
from tests.support.gateway import Channel, Gateway, Reply, http
from tests.support.media import Film
from tests.support.shared_gateway import shared_gateway
from tests.support.sources import h264
from tests.support.time_outs import at_most
from tests.support.waiting import until_in_thread
from tests.support.webrtc import Client
from tests.support.whip_client import Whip, ask, offer, watching

SECRET = "the-secret-of-these-tests"
FILM = Film("parity-60", seconds=60, audio=None)
ENDS: dict[str, Callable[[Channel], Reply]] = {
    "kick": lambda c: c.gateway.api("DELETE", f"/videostream/{c.id}/session"),
    "deletion": lambda c: c.gateway.api("DELETE", f"/videostream/{c.id}"),
}


gateway = shared_gateway(
    "ffmpeg",
    MILLRACE_SIGNING__SECRET=SECRET,
    MILLRACE_STREAM__LINGER="3",
    MILLRACE_STREAM__TAKEOVER_AFTER="1",
    MILLRACE_LIMITS__REFUSALS_PER_MINUTE="0",
)


def film() -> list[AccessUnit]:
    units = h264(seconds=4, bframes=0, audio=False).of(Kind.VIDEO)
    return [
        AccessUnit(u.track, u.dts + 4000 * turn, u.cts, u.key, u.wall, u.payload) for turn in range(15) for u in units
    ]


class Rtmp:
    """A push by RTMP."""

    protocol = "rtmp"

    def __init__(self, channel: Channel, key: str = "") -> None:
        self._address = f"{channel.obs_server}/{channel.id}?sign={key or channel.key}"
        self._program: Program | None = None

    async def start(self) -> None:
        self._program = push(FILM, self._address)

    async def has_ended(self) -> None:
        assert self._program is not None
        await asyncio.to_thread(self._program.process.wait, 20)

    def be_silent(self) -> None:
        """Stays connected, and sends no more media."""
        assert self._program is not None
        self._program.process.send_signal(signal.SIGSTOP)

    async def close(self) -> None:
        if self._program is not None:
            self._program.kill()


class WhipPush:
    """A push by WHIP."""

    protocol = "whip"

    def __init__(self, channel: Channel, key: str = "") -> None:
        self._address = f"{channel.url('whip')}?sign={key or channel.key}"
        self.whip = Whip(audio=False)
        self._playing: asyncio.Task[None] | None = None

    async def start(self) -> None:
        if (await self.whip.post(self._address)).status == 201:
            await self.whip.connect()
            self._playing = asyncio.create_task(self.whip.play(film()))

    async def has_ended(self) -> None:
        await self.whip.network.until(lambda: self.whip.client.closed)
        assert (await self.whip.delete()).status == 404
        restart = "a=ice-ufrag:fresh\r\na=ice-pwd:a-password-of-24-letters\r\n"
        assert (await self.whip.patch(restart, If_Match="*")).status == 404

    def be_silent(self) -> None:
        """Stays connected, and sends no more media."""
        self.whip.send_unit = lambda unit: None  # type: ignore[method-assign]

    async def close(self) -> None:
        if self._playing is not None:
            self._playing.cancel()
        self.whip.close()


Push: TypeAlias = type[Rtmp] | type[WhipPush]
PUSHES: tuple[Push, ...] = (Rtmp, WhipPush)


@asynccontextmanager
async def pushing(kind: Push, channel: Channel) -> AsyncIterator[Rtmp | WhipPush]:
    """A live push."""
    one = kind(channel)
    try:
        await one.start()
        await until_in_thread(lambda: publisher(channel) == kind.protocol and channel.session()["tracks"], "it is live")
        yield one
    finally:
        await one.close()


def publisher(channel: Channel) -> str | None:
    """Returns the protocol of the push, or None."""
    reply = channel.gateway.api("GET", f"/videostream/{channel.id}/session")
    found = reply.json().get("publisher") if reply.status == 200 else None
    return str(found["protocol"]) if found else None


def events(channel: Channel) -> list[dict[str, Any]]:
    return list(channel.gateway.api("GET", f"/events?channel={channel.id}&limit=50").json())


def told(channel: Channel) -> list[tuple[str, dict[str, Any]]]:
    """The events of a channel with their reasons, oldest first."""
    found = [(e["type"], {k: e["data"].get(k) for k in ("reason", "refusal")}) for e in events(channel)]
    for _, data in found:  # WHIP has a request that stops a push; the test ends RTMP's program
        data["reason"] = "stopped by the encoder" if data["reason"] == "publisher gone" else data["reason"]
    return [row for row in reversed(found) if row[0].partition(".")[0] in ("stream", "publish", "worker")]


async def outcome(kind: Push, channel: Channel, key: str = "") -> str:
    """Returns the result of a new push: "live", or the reason of its refusal."""
    before = len(refusals(channel))
    one = kind(channel, key)

    def decided() -> str:
        found = refusals(channel)
        return found[0] if len(found) > before else "live" if publisher(channel) == kind.protocol else ""

    try:
        await one.start()
        return str(await until_in_thread(decided, "the push is accepted or refused"))
    finally:
        await one.close()
        await until_in_thread(lambda: publisher(channel) is None, "it has left")


async def refusal(kind: Push, channel: Channel, key: str = "") -> str:
    """The reason of the refusal of a push, while another one is live."""
    before = len(refusals(channel))
    one = kind(channel, key)
    try:
        await one.start()
        await until_in_thread(lambda: len(refusals(channel)) > before, "the push is refused")
        return refusals(channel)[0]
    finally:
        await one.close()


def refusals(channel: Channel) -> list[str]:
    """The reasons of the refused pushes, newest first."""
    return [
        str(e["data"].get("refusal", e["data"]["reason"])) for e in events(channel) if e["type"] == "publish.refused"
    ]


@pytest.mark.parametrize("how", list(ENDS))
async def test_an_ended_push_has_the_same_outcome_by_whip_and_rtmp(gateway: Gateway, how: str) -> None:
    fates = []
    for kind in PUSHES:
        channel = gateway.channel()
        async with pushing(kind, channel) as one, watching(channel.url("whep"), audio=False) as viewer:
            await viewer.watch(lambda viewer=viewer: len(viewer.pictures) > 5)  # type: ignore[misc]
            reply = await asyncio.to_thread(ENDS[how], channel)
            assert reply.status in (200, 204), reply.text
            await one.has_ended()
            await viewer.network.until(lambda viewer=viewer: viewer.client.closed)  # type: ignore[misc]
            assert (await viewer.delete()).status == 404
        await until_in_thread(lambda c=channel: publisher(c) is None, "the push has left")  # type: ignore[misc]
        fates.append((await outcome(kind, channel), *told(channel)))
    by_rtmp, by_whip = fates
    assert by_whip == by_rtmp
    assert by_whip[0] == {"kick": "live", "deletion": "wrong"}[how]


async def test_a_new_key_keeps_the_push_and_refuses_the_old_key(gateway: Gateway) -> None:
    fates = []
    for kind in PUSHES:
        channel = gateway.channel()
        async with pushing(kind, channel):
            reply = await asyncio.to_thread(gateway.api, "PUT", f"/videostream/{channel.id}", {"outdate": "2036-01-01"})
            fate = [await refusal(kind, channel)]
            assert publisher(channel) == kind.protocol, "the push goes on"
            fate.append(await refusal(kind, channel, str(reply.json()["key"])))
        await until_in_thread(lambda c=channel: publisher(c) is None, "the push has left")  # type: ignore[misc]
        fates.append((fate, await outcome(kind, channel, str(reply.json()["key"]))))
    assert fates == [(["revoked", "in_use"], "live")] * 2


@pytest.mark.parametrize(("first", "second"), [*at_night((Rtmp, WhipPush)), (WhipPush, Rtmp)])
async def test_a_silent_push_is_taken_over_by_another_protocol(gateway: Gateway, first: Push, second: Push) -> None:
    channel = gateway.channel()
    async with pushing(first, channel) as one, AsyncExitStack() as stack:
        assert await refusal(second, channel) == "in_use"
        one.be_silent()
        async with asyncio.timeout(at_most(30)):
            while publisher(channel) != second.protocol:
                later = second(channel)
                stack.push_async_callback(later.close)
                await later.start()
                await asyncio.sleep(0.5)
        if isinstance(one, WhipPush):
            await one.has_ended()
        since = channel.session()["since"]
        assert publisher(channel) == second.protocol
    assert [type for type, _ in told(channel)].count("stream.started") == 1, f"one stream since {since}"


def value(gateway: Gateway, metric: str) -> float:
    lines = gateway.api("GET", "/metrics").text.splitlines()
    return next((float(line.rpartition(" ")[2]) for line in lines if line.startswith(metric + " ")), 0.0)


async def test_viewers_are_counted_while_they_watch(gateway: Gateway) -> None:
    channel = gateway.channel()
    async with pushing(WhipPush, channel):
        async with watching(channel.url("whep"), audio=False) as viewer:
            await viewer.watch(lambda: len(viewer.pictures) > 5)
            assert channel.session()["viewers"]["whep"] == 1
            assert value(gateway, 'millrace_viewers{protocol="whep"}') == 1
            assert await until_in_thread(
                lambda: value(gateway, 'millrace_sent_bytes_total{protocol="whep"}') > 1000, "sent bytes are counted"
            )
        await until_in_thread(lambda: channel.session()["viewers"]["whep"] == 0, "the viewer has left")
        assert value(gateway, 'millrace_viewers{protocol="whep"}') == 0


async def test_an_expired_signature_ends_no_viewer_but_refuses_new_ones(gateway: Gateway) -> None:
    """As with FLV, the signature is checked when a viewer connects."""
    channel = gateway.channel(playAuth="sign")
    async with pushing(Rtmp, channel):
        expires = int(time.time()) + 4
        query = f"?sign={SigningSecrets(SECRET).sign(channel.id, expires, SignatureUse.PLAY)}"
        flv = await asyncio.to_thread(urllib.request.urlopen, channel.url("live.flv") + query, timeout=20)
        with flv:
            async with watching(channel.url("whep") + query, audio=False) as viewer:
                await viewer.watch(lambda: time.time() > expires + 1)
                late = await ask("POST", channel.url("whep") + query, offer(Client(), "recvonly"))
                assert (late.status, "expired" in late.text) == (401, True)
                assert http("GET", channel.url("live.flv") + query).status == 403
                seen = len(viewer.pictures)
                await viewer.watch(lambda: len(viewer.pictures) > seen + 30)
            assert len(await asyncio.to_thread(flv.read, 200_000)) == 200_000
