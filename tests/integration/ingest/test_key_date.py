"""A push that runs at the date of its key goes on; it cannot connect again. The date is announced before."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from gateway.lib.rfc3339 import rfc3339
from gateway.media.track import Kind
from tests.support.at_night import at_night
from tests.support.clients import push, until
from tests.support.gateway import Channel, Gateway
from tests.support.media import Film
from tests.support.pushing import camera, page
from tests.support.shared_gateway import shared_gateway
from tests.support.sources import h264
from tests.support.waiting import until_in_thread
from tests.support.whip_client import publishing

FILM = Film("key date", seconds=20)
SECONDS = 4

gateway = shared_gateway("ffmpeg", films=[FILM], MILLRACE_LIMITS__REFUSALS_PER_MINUTE="0")


def expiring(gateway: Gateway) -> Channel:
    return gateway.channel(outdate=rfc3339(time.time() + SECONDS, "seconds"))


@contextlib.asynccontextmanager
async def by_rtmp(channel: Channel) -> AsyncIterator[Callable[[], bool]]:
    with push(FILM, channel.push, loop=True) as encoder:
        yield lambda: encoder.running


@contextlib.asynccontextmanager
async def by_websocket(channel: Channel) -> AsyncIterator[Callable[[], bool]]:
    film = camera(seconds=4, sound=False)
    async with page(f"ws://127.0.0.1:{channel.gateway.ports['ws']}/stream/{channel.obs_key}") as pushing:
        await pushing.configure(film)

        async def send() -> None:
            for turn in range(5):
                await pushing.film(film, pace=1, shift=4000 * turn)

        sending = asyncio.create_task(send())
        yield lambda: pushing.code is None
        sending.cancel()


@contextlib.asynccontextmanager
async def by_whip(channel: Channel) -> AsyncIterator[Callable[[], bool]]:
    units = h264(seconds=20, bframes=0, audio=False).of(Kind.VIDEO)
    async with publishing(f"{channel.url('whip')}?sign={channel.key}", units, audio=False) as whip:
        yield lambda: not whip.client.closed


@pytest.mark.parametrize("pushing", [by_rtmp, *at_night(by_websocket, by_whip)])
async def test_a_push_goes_on_after_the_date_of_its_key(gateway: Gateway, pushing: Callable[..., object]) -> None:
    channel = expiring(gateway)
    async with pushing(channel) as runs:  # type: ignore[attr-defined]
        await until_in_thread(lambda: channel.session()["state"] == "live", "the push is live")
        after = int(channel.key.partition("-")[0]) + 2  # the gateway looks once a second
        await until_in_thread(lambda: time.time() > after, "the date has passed")
        await until_in_thread(lambda: "key_expires" in codes(channel), "the health names the date")
        session = channel.session()
        assert (session["state"], runs()) == ("live", True) and session["publisher"] is not None
        shown = gateway.api("GET", f"/videostream/{channel.id}").json()
        assert shown["expired"] is True
    with push(FILM, channel.push) as again:
        await asyncio.to_thread(again.process.wait, 20)
        assert "The key expired on " in again.errors


def codes(channel: Channel) -> list[str]:
    return [finding["code"] for finding in channel.session()["health"]]


def test_never_is_signed_as_the_last_year(gateway: Gateway) -> None:
    channel = gateway.channel(outdate="never")
    assert channel.item["outdate"] == "9999-12-31" and channel.key.startswith("253402214400-")
    with push(FILM, channel.push):
        channel.wait_live()
        assert "key_expires" not in codes(channel)


def test_the_date_of_an_idle_channel_is_one_event_also_after_restarts(tmp_path: Path) -> None:
    """The gateway announces dates at its start, then hourly."""
    date = rfc3339(time.time() + 3 * 86_400, "seconds")
    with run_on(tmp_path, "first") as gateway:
        channel = gateway.channel(outdate=date, videoname="soon")
    for name in ("second", "third"):
        with run_on(tmp_path, name) as gateway:
            found = until(lambda: gateway.api("GET", "/events?type=key.expires").json(), "it is announced")
            assert [(event["channel"], event["data"]) for event in found] == [
                (channel.id, {"name": "soon", "expires": date})
            ]


@contextlib.contextmanager
def run_on(folder: Path, name: str) -> Iterator[Gateway]:
    """Runs a gateway whose data folder stays for the next one."""
    (folder / "ports.json").unlink(missing_ok=True)
    (folder / name).mkdir()
    gateway = Gateway(folder / name, MILLRACE_DATA=str(folder))
    gateway.data = folder
    try:
        gateway.wait_ready()
        yield gateway
    finally:
        assert gateway.stop() == 0
