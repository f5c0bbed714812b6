"""`<millrace-player>` in a page of another origin with a strict policy: it plays, and is used like a media element."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Browser

from tests.browser.test_player_quality import RUNGS, SOURCE
from tests.support.browser import Watched, axe, opened
from tests.support.clients import push, until
from tests.support.foreign_page import foreign_page
from tests.support.gateway import Channel, Gateway
from tests.support.ladder import ladder
from tests.support.media import SMALL
from tests.support.shared_gateway import shared_gateway
from tests.support.tools import need

DOCUMENTATION = Path(__file__).parents[2] / "docs" / "start" / "embed.md"

gateway = shared_gateway("chromium", "ffmpeg", films=[SMALL])

# The events of each player with their order, and what `play` and `pause` did.
SCRIPT = """
window.seen = {};
for (const player of document.querySelectorAll("millrace-player")) {
  const list = window.seen[player.id] = [];
  for (const name of ["play", "playing", "pause", "timeupdate", "loadedmetadata", "canplay", "statechange"]) {
    player.addEventListener(name, () => list.push(name === "statechange" ? `state ${player.state}` : name));
  }
}
"""
PLAYS = """id => { const player = document.getElementById(id);
  return player.state === "live" && !player.paused && player.currentTime > 0.5 && player.videoWidth > 0; }"""


@contextlib.asynccontextmanager
async def elsewhere(host: str, body: str) -> AsyncIterator[str]:
    """The address of a page of another origin than the gateway at `host`. Its policy is that of the documentation."""
    # The policy of the documentation, with the address and the schemes of this gateway.
    stated = re.findall(r"```text\n(script-src .*?)```", DOCUMENTATION.read_text(), re.S)[0].replace("\n", " ")
    stated = stated.replace("https://live.example.com", f"http://{host}").replace(
        "wss://live.example.com", f"ws://{host}"
    )
    own = "default-src 'none'; base-uri 'none'; form-action 'none'; "
    policy = own + stated.replace("script-src", "script-src 'self'")

    html = (
        f'<html lang="en"><title>elsewhere</title><script type="module" src="http://{host}/player.js"></script>'
        f'<script type="module" src="/page.js"></script><main><h1>elsewhere</h1>{body}</main>'
    )
    async with foreign_page(html, SCRIPT, policy) as address:
        yield address


def host_of(gateway: Gateway) -> str:
    return f"127.0.0.1:{gateway.ports['http']}"


def player(channel: Channel, id: str = "one", attributes: str = "autoplay muted controls") -> str:
    return f'<millrace-player id="{id}" channel="{channel.id}" {attributes}></millrace-player>'


async def plays(watched: Watched, id: str = "one") -> None:
    await watched.comes_true(f"async id => ({PLAYS})(id)", id)


async def state(watched: Watched, wanted: str, id: str = "one") -> None:
    await watched.comes_true("async ([id, wanted]) => document.getElementById(id).state === wanted", [id, wanted])


@pytest.mark.parametrize(
    "outputs",
    [
        {"isFlv": True},
        {"isFlv": False, "isCMAF": True},
        pytest.param({"isFlv": False, "isHls": True}, marks=pytest.mark.nightly),
    ],
)
async def test_it_plays_in_a_page_of_another_origin_with_a_strict_policy(
    browser: Browser, gateway: Gateway, outputs: dict[str, bool]
) -> None:
    channel = gateway.channel("element", **{"isHls": False, "isCMAF": False, **outputs})
    async with elsewhere(host_of(gateway), player(channel)) as url, opened(browser, url) as watched:
        await state(watched, "waiting")
        assert await watched.page.get_by_text("Waiting for the stream").is_visible()
        assert await axe(watched.page) == []
        with push(SMALL, channel.push, loop=True):
            await plays(watched)
            seen = await watched.page.evaluate("seen.one")
            assert {"loadedmetadata", "canplay", "play", "playing", "timeupdate", "state live"} <= set(seen)
            assert not await watched.page.get_by_text("Waiting for the stream").is_visible()
        await state(watched, "ended")
        with push(SMALL, channel.push, loop=True):  # it waits for the next one
            await plays(watched)
        assert not watched.complaints


async def test_methods_and_properties_are_those_of_a_media_element(browser: Browser, gateway: Gateway) -> None:
    channel = gateway.channel("methods", isFlv=True)
    with push(SMALL, channel.push, loop=True):
        channel.wait_live()
        async with elsewhere(host_of(gateway), player(channel, attributes="")) as url, opened(browser, url) as watched:
            page = watched.page
            await state(watched, "blocked")  # nothing is loaded before somebody wants it
            assert await page.evaluate("[one.paused, one.readyState, one.muted, one.controls, one.autoplay]") == [
                *(True, 0, False, False, False)
            ]
            await page.evaluate("one.muted = true")
            await page.evaluate("one.play()")  # the promise is settled when it plays
            assert await page.evaluate("[one.paused, one.readyState > 2]") == [False, True]
            await plays(watched)
            delay = await page.evaluate("one.delay")
            assert 0 < delay < 10
            await page.evaluate("one.pause()")
            await state(watched, "paused")
            at = await page.evaluate("one.currentTime")
            await page.evaluate("one.volume = 0.5")
            assert await page.evaluate("[one.paused, one.volume, one.currentTime]") == [True, 0.5, at]
            await page.evaluate("one.play()")
            await plays(watched)
            await page.evaluate("window.kept = one; one.remove()")
            until(lambda: sum(channel.session()["viewers"].values()) == 0, "the connection is closed with the element")
            assert await page.evaluate("kept.play().catch((error) => error.name)") == "NotSupportedError"
            await page.evaluate("document.querySelector('main').append(kept)")
            await state(watched, "blocked")
            await page.get_by_role("button", name="Play").click()
            await plays(watched)
            assert not watched.complaints


async def test_several_players_of_one_page_play_several_channels(browser: Browser, gateway: Gateway) -> None:
    first, second = gateway.channel("first", isFlv=True), gateway.channel("second", isFlv=True, slug="second-player")
    body = player(first) + player(second, "two").replace(second.id, "second-player")
    with push(SMALL, first.push, loop=True), push(SMALL, second.push, loop=True):
        async with elsewhere(host_of(gateway), body) as url, opened(browser, url) as watched:
            await plays(watched, "one")
            await plays(watched, "two")
            await watched.page.evaluate("one.channel = 'second-player'")
            until(lambda: sum(first.session()["viewers"].values()) == 0, "the first channel is left")
            await plays(watched, "one")
            assert not watched.complaints


async def test_states_are_shown_in_words_where_nothing_plays(browser: Browser, gateway: Gateway) -> None:
    signed = gateway.channel("signed", isFlv=True, playAuth="sign")
    sign = gateway.api("GET", f"/videostream/{signed.id}").json()["playUrls"]["flv"].partition("sign=")[2]
    body = player(signed) + '<millrace-player id="two" channel="nobody"></millrace-player>'
    body += f'<millrace-player id="three" channel="{signed.id}" sign="{sign}" autoplay muted></millrace-player>'
    body += '<millrace-player id="four"></millrace-player>'
    with push(SMALL, signed.push, loop=True):
        signed.wait_live()
        async with elsewhere(host_of(gateway), body) as url, opened(browser, url) as watched:
            await state(watched, "denied")
            await state(watched, "unknown", "two")
            await plays(watched, "three")
            assert await watched.page.evaluate("four.state") == "unknown"
            for words in ("Not allowed", "There is no channel with this address"):
                assert await watched.page.get_by_text(words).first.is_visible()
            stopped = "() => { const played = two.play(); two.pause(); return played.catch((error) => error.name); }"
            assert await watched.page.evaluate(stopped) == "AbortError"
            await watched.page.evaluate(f"one.sign = '{sign}'")
            await plays(watched)


async def test_the_quality_is_chosen_by_attribute_and_property(browser: Browser) -> None:
    need("chromium", "ffmpeg")
    async with ladder(SOURCE, dict(RUNGS)) as lab:
        lab.begin()
        broadcast = asyncio.create_task(lab.broadcast())
        base = urlsplit(lab.base)
        id = base.path.strip("/")
        body = f'<millrace-player id="one" channel="{id}" quality="360p" autoplay muted></millrace-player>'
        try:
            async with elsewhere(base.netloc, body) as url, opened(browser, url) as watched:
                await watched.comes_true("async () => one.videoWidth === 160")
                await plays(watched)
                assert await watched.page.evaluate("one.qualities") == ["auto", "source", "720p", "480p", "360p"]
                await watched.page.evaluate("one.quality = 'source'")
                await watched.comes_true("async () => one.videoWidth === 640")
                await plays(watched)
                assert not watched.complaints
        finally:
            broadcast.cancel()


async def test_the_element_names_the_break_of_a_publisher_and_plays_its_return(
    browser: Browser, gateway: Gateway
) -> None:
    channel = gateway.channel("break", isFlv=True)
    async with elsewhere(host_of(gateway), player(channel)) as url, opened(browser, url) as watched:
        with push(SMALL, channel.push, loop=True) as encoder:
            await plays(watched)
            encoder.process.kill()
            await state(watched, "broken")
            assert await watched.page.get_by_text("The broadcaster's connection broke, waiting").is_visible()
        with push(SMALL, channel.push, loop=True):
            await plays(watched)
        states = await watched.page.evaluate("seen.one.filter((name) => name.startsWith('state'))")
        assert states[-1] == "state live" and "state ended" not in states
        assert not watched.complaints
