"""The player pages while a publisher's connection breaks and comes back: what they say, and how far behind they are."""

import asyncio
import contextlib
import re
import subprocess
from functools import partial
from pathlib import Path

import pytest
from playwright.async_api import Browser, BrowserContext, Route

from tests.support.at_night import at_night
from tests.support.browser import Watched, opened
from tests.support.clients import push
from tests.support.clock_picture import clock_push, longest_still, sampled
from tests.support.foreign_page import foreign_page
from tests.support.gateway import Channel, Gateway, http
from tests.support.media import SMALL_BFRAMES, Film
from tests.support.shared_gateway import shared_gateway
from tests.support.tabs import window
from tests.support.time_outs import at_most

SOUND = Film("sound", video=None)
SHORT = Film("short", seconds=3, rate=15, gop=45)
KEY_AT_END = Film("key-at-end", seconds=3, rate=15, gop=44)  # 45 pictures
LESS = Film("less", size="160x90", rate=15, gop=15)
PAGES = ["flv.html", "index.html", "hls.html", "dash.html"]
BROKEN = "The broadcaster's connection broke, waiting"

# Everything that the page says from now on, and every delay it shows beside "Live".
LISTEN = """() => { window.said = []; window.delays = [];
  new MutationObserver(() => { window.said.push(document.querySelector("#state").textContent);
    window.delays.push(document.querySelector("#delay").textContent); })
    .observe(document.querySelector("main"), { subtree: true, childList: true, characterData: true }); }"""
AHEAD = """(() => { const v = document.querySelector("video"), n = v.buffered.length;
  return n ? v.buffered.end(n - 1) - v.currentTime : NaN; })()"""


gateway = shared_gateway(
    "chromium", "ffmpeg", films=[SMALL_BFRAMES, SOUND, SHORT, KEY_AT_END, LESS], MILLRACE_STREAM__LINGER="60"
)


async def shows_what_is_new(watched: Watched) -> None:
    """Returns once the page plays media that arrived after the call."""
    end = await watched.page.evaluate("document.querySelector('video').buffered.end(0)")
    await watched.page.wait_for_function(
        f"() => document.querySelector('video').currentTime > {end} && "
        "document.querySelector('#state').textContent === 'Live'",
        timeout=at_most(60_000),
    )


@pytest.mark.parametrize("names", [PAGES[::3], *at_night(PAGES[1:3])], ids=" ".join)
async def test_a_break_of_the_publisher_is_shown_without_other_messages(
    names: list[str], gateway: Gateway, browser: Browser
) -> None:
    channel = gateway.channel("said")
    async with contextlib.AsyncExitStack() as stack:
        with push(SMALL_BFRAMES, channel.push, loop=True):
            channel.wait_live()
            pages = [await stack.enter_async_context(opened(browser, channel.url(name))) for name in names]
            await asyncio.gather(*(watched.plays(40) for watched in pages))
            for watched in pages:
                await watched.page.evaluate(LISTEN)
        for watched in pages:
            await watched.comes_to_say(BROKEN, 40)
            assert await watched.page.locator("#headline").inner_text() == BROKEN
            veil = "getComputedStyle(document.querySelector('.veil')).backgroundColor"
            assert (await watched.page.evaluate(veil)).startswith("rgba("), "the last picture shines through"
            assert await watched.page.locator("video").is_visible()
        with push(SMALL_BFRAMES, channel.push, loop=True):
            await asyncio.gather(*map(shows_what_is_new, pages))
            for name, watched in zip(names, pages, strict=True):
                said = set(await watched.page.evaluate("window.said"))
                assert BROKEN in said, name
                assert said <= {"Live", BROKEN, "Waiting for new pictures"}, (name, said)
                assert "0.0 s" not in await watched.page.evaluate("window.delays"), name
                assert not watched.complaints, name


# In place of dash.js: it only tells its events, and counts how often it is sent to the live pictures.
DASH_EVENTS = """
const named = new Proxy({}, { get: (_, name) => name });
const player = new Proxy({}, { get: (_, name) => name === "on" ? (event, run) => { window.heard[event] = run; }
  : name === "seekToOriginalLive" ? () => { window.seeks++; window.video.currentTime = 16.8; } : () => undefined });
export const MediaPlayer = Object.assign(() => ({ create: () => player }), { events: named, errors: named });
"""
OPEN_DASH = """async () => {
  const { dashEngine } = await import("/_player/dash-engine.js");
  const buffered = { length: 1, start: () => 0, end: () => 9.98 };
  Object.assign(window, { heard: {}, seeks: 0,
    video: { played: [1], paused: false, readyState: 1, currentTime: 9.98, buffered, pause() {} } });
  dashEngine(window.video, location.href, "", async () => null); }"""
NEW_MANIFEST = """(readyState) => { window.video.readyState = readyState;
  window.heard.MANIFEST_LOADED({ data: { Period: [{ start: 0 }, { start: 16.6 }] } }); return window.seeks; }"""


async def test_dash_leaves_a_place_of_a_new_period_where_it_loads_nothing(gateway: Gateway, browser: Browser) -> None:
    """dash.js 5.2.1 may stay where it goes before it has set up the Period of that time."""

    async def prepare(context: BrowserContext) -> None:
        await context.route(
            "**/dash.min.js", lambda route: route.fulfill(body=DASH_EVENTS, content_type="text/javascript")
        )

    async with opened(browser, gateway.channel("left").url("dash.html"), prepare=prepare) as watched:
        await watched.page.evaluate(OPEN_DASH)
        assert [await watched.page.evaluate(NEW_MANIFEST, state) for state in (1, 1, 4)] == [1, 2, 2]
        await watched.page.evaluate("() => { window.video.buffered.end = () => 20; }")
        assert await watched.page.evaluate(NEW_MANIFEST, 1) == 2, "its media are there, and it waits for more"


@pytest.mark.nightly
async def test_hls_js_holds_its_requests_during_a_break(gateway: Gateway, browser: Browser) -> None:
    """A page that asks again and again learns of the publisher's return late."""
    channel = gateway.channel("held", isCMAF=True, isHls=True)
    async with contextlib.AsyncExitStack() as stack:
        with push(SMALL_BFRAMES, channel.push, loop=True):
            channel.wait_live()
            watched = await stack.enter_async_context(opened(browser, channel.url("hls.html")))
            await watched.plays(40)
        await watched.comes_to_say(BROKEN, 40)
        asked = list[str]()
        watched.page.on("request", lambda request: asked.append(request.url) if ".m3u8" in request.url else None)
        await watched.page.wait_for_timeout(5000)
        with push(SMALL_BFRAMES, channel.push, loop=True):
            await shows_what_is_new(watched)
        assert asked and not [url for url in asked if "_HLS_part" not in url]


async def test_mpegts_js_in_another_page_goes_on_when_the_publisher_returns_with_another_size(
    gateway: Gateway, browser: Browser
) -> None:
    """Its buffer had a hole as long as the break."""
    channel = gateway.channel("mpegts", isHls=False, isCMAF=False)
    player = f"""const video = document.querySelector("video");
      const player = mpegts.createPlayer({{ type: "flv", isLive: true, url: "{channel.url("live.flv")}" }});
      player.attachMediaElement(video); player.load(); video.play();"""
    library = channel.url("").replace(f"{channel.id}/", "_player/mpegts.min.js")
    html = f'<video muted></video><script src="{library}"></script><script src="page.js"></script>'
    async with contextlib.AsyncExitStack() as stack:
        address = await stack.enter_async_context(foreign_page(html, player))
        page = (await stack.enter_async_context(opened(browser, address))).page
        with push(SHORT, channel.push) as ended:  # its last picture is no key frame: those would be decoded as new ones
            await asyncio.to_thread(ended.wait)
        await page.wait_for_function("() => document.querySelector('video').currentTime > 2")
        await page.wait_for_timeout(2000)
        with push(LESS, channel.push, loop=True):
            await page.wait_for_function("() => document.querySelector('video').videoWidth === 160")


async def test_another_size_follows_a_key_frame_at_the_end_of_a_push(gateway: Gateway, browser: Browser) -> None:
    """mpegts.js keeps the last picture, and gave it to the decoder of the next size, which failed."""
    channel = gateway.channel("key-at-end", isHls=False, isCMAF=False)
    async with opened(browser, channel.url("flv.html")) as watched:
        with push(KEY_AT_END, channel.push) as ended:
            await watched.plays_past(0.5)
            note = "document.querySelector('video').addEventListener('emptied', () => { window.began = true; })"
            await watched.page.evaluate(note)
            await asyncio.to_thread(ended.wait)
        with push(LESS, channel.push, loop=True):
            shown = "() => document.querySelector('video').videoWidth === 160"
            await watched.page.wait_for_function(shown, timeout=at_most(20_000))
            await watched.plays(10)
        assert not await watched.page.evaluate("window.began === true"), "its player began anew"
        assert not watched.complaints


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("pictures", "sound"), [("5.4", "5.1"), ("5.9", "5.9")], ids=["sound ends before", "one picture behind a key frame"]
)
async def test_hls_js_goes_on_behind_a_push_that_breaks_anywhere(
    pictures: str, sound: str, gateway: Gateway, browser: Browser, tmp_path: Path
) -> None:
    """It found no sound where the pictures of the next push begin. The page began anew after nine seconds."""
    channel, broken, film = gateway.channel("cut", isCMAF=True, isHls=True), tmp_path / "cut.flv", SMALL_BFRAMES.path()
    cut = ["ffmpeg", "-v", "error", "-t", pictures, "-i", film, "-t", sound, "-i", film, "-map", "0:v", "-map", "1:a"]
    subprocess.run([*cut, "-c", "copy", broken], check=True, timeout=at_most(30))
    with push(broken, channel.push) as ended:
        channel.wait_live()
        async with opened(browser, channel.url("hls.html")) as watched:
            await watched.plays(40)
            await asyncio.to_thread(ended.wait)
            await watched.comes_to_say("The broadcast has paused", 40)
            await watched.page.evaluate(LISTEN)
            before = await watched.page.evaluate("document.querySelector('video').currentTime")
            with push(SMALL_BFRAMES, channel.push, loop=True):
                await watched.plays_past(before + 3, within=7)
                said = set(await watched.page.evaluate("window.said"))
                assert said <= {"Live", "The broadcast has paused", "Waiting for new pictures"}, said
            assert not watched.complaints


@pytest.mark.nightly
async def test_hls_js_keeps_the_sound_if_pictures_come_later_after_a_return(gateway: Gateway, browser: Browser) -> None:
    """The page begins a little before the return, and knows media after it. One of three such pages stood still."""
    channel = gateway.channel("later", isCMAF=True, isHls=True, hls_time="1")
    with push(SHORT, channel.push) as ended:
        ended.wait(30)
    with push(SHORT, channel.push, loop=True):
        lists = await two_parts_after_return(channel)

        async def as_it_was(route: Route) -> None:
            track = route.request.url.split("/")[-2]
            text = lists.pop(track) if track in lists else await (await route.fetch()).text()
            if track == "audio":
                # Dates have milliseconds, so the sound may end a little before the place where hls.js expects its end.
                text = re.sub(
                    r"(\d{3})Z$", lambda found: f"{min(999, int(found[1]) + 1):03}Z", text, flags=re.MULTILINE
                )
            await route.fulfill(body=text)

        async def late(route: Route) -> None:
            await asyncio.sleep(2)
            await route.continue_()

        async def prepare(context: BrowserContext) -> None:
            await context.route("**/*o/index.m3u8*", as_it_was)
            for name in re.findall(r'#EXT-X-PART:.*URI="(.*?)"', returned(lists["video"])):
                await context.route(f"**/video/{name}", late)

        async with opened(browser, channel.url("hls.html"), prepare=prepare) as watched:
            await watched.comes_to_say("Live", 40)
            start = await watched.page.evaluate("document.querySelector('video').currentTime")
            moves = f"() => document.querySelector('video').currentTime > {start + 4}"
            await watched.page.wait_for_function(moves, timeout=at_most(7000))
            assert await watched.page.evaluate("document.querySelector('video').buffered.length") == 1
            await watched.page.context.unroute_all(behavior="ignoreErrors")


def returned(playlist: str) -> str:
    """The end of a playlist, after the publisher's return."""
    return playlist.rpartition("#EXT-X-DISCONTINUITY\n")[2] if "#EXT-X-DISCONTINUITY\n" in playlist else ""


async def two_parts_after_return(channel: Channel) -> dict[str, str]:
    """Returns the playlists of both tracks as they are when each has two parts of the second push."""
    async with asyncio.timeout(at_most(20)):
        while True:
            texts = {track: http("GET", channel.url(f"{track}/index.m3u8")).text for track in ("video", "audio")}
            if all(returned(text).count("#EXT-X-PART:") == 2 for text in texts.values()):
                return texts
            await asyncio.sleep(0.05)


@pytest.mark.nightly
async def test_chinese_viewers_get_the_message_in_chinese(gateway: Gateway, browser: Browser) -> None:
    channel = gateway.channel("chinese")
    async with contextlib.AsyncExitStack() as stack:
        with push(SMALL_BFRAMES, channel.push, loop=True):
            channel.wait_live()
            watched = await stack.enter_async_context(opened(browser, channel.url("flv.html"), locale="zh-CN"))
            await watched.plays()
        await watched.comes_to_say("主播的连接已中断，正在等待恢复")


@pytest.mark.nightly
async def test_a_page_opened_during_a_break_shows_it_and_then_plays(gateway: Gateway, browser: Browser) -> None:
    channel = gateway.channel("joined")
    with push(SMALL_BFRAMES, channel.push, loop=True):
        channel.wait_live()
        async with opened(browser, channel.url("flv.html")) as watched:
            await watched.plays()
    async with opened(browser, channel.url("flv.html")) as watched:
        await watched.comes_to_say(BROKEN)
        await watched.page.evaluate(LISTEN)
        with push(SMALL_BFRAMES, channel.push, loop=True):
            await watched.comes_to_say("Live")
            await watched.plays()
        assert set(await watched.page.evaluate("window.said")) <= {"Live", BROKEN, "Waiting for new pictures"}
        assert not watched.complaints


async def broken_off(channel: Channel, watched: Watched, film: Film) -> float:
    """Plays the film, lets it break off, and returns by how much the page was ahead before."""
    with push(film, channel.push, loop=True):
        await watched.comes_to_say("Live")
        # On a busy machine the picture may have stopped, and each stop lets the page keep 0.4 s more.
        await watched.page.wait_for_function(f"() => document.querySelector('video').currentTime > 3 && {AHEAD} < 2")
        before = float(await watched.page.evaluate(AHEAD))
    await watched.comes_to_say(BROKEN)
    await watched.page.wait_for_timeout(2500)  # the longer the break, the farther behind a page would stay
    return before


@pytest.mark.parametrize("film", [SMALL_BFRAMES, *at_night(SOUND)], ids=["picture", "sound only"])
async def test_flv_playback_is_as_close_to_live_after_a_break_as_before(
    film: Film, gateway: Gateway, browser: Browser
) -> None:
    channel = gateway.channel("near")
    async with opened(browser, channel.url("flv.html")) as watched:
        before = await broken_off(channel, watched, film)
        with push(film, channel.push, loop=True):
            await watched.comes_to_say("Live")
            # Playing 8 % faster, as for a delay that grew, would take half a minute.
            await watched.page.wait_for_function(f"() => {AHEAD} < {before + 0.6}", timeout=at_most(8000))
            await watched.page.wait_for_timeout(1500)
            assert await watched.page.evaluate(AHEAD) < before + 0.8
            assert await watched.says() == "Live"
        assert not watched.complaints


@pytest.mark.nightly
async def test_a_hidden_tab_with_sound_returns_to_the_live_edge(gateway: Gateway) -> None:
    channel = gateway.channel("hidden")
    video = "document.querySelector('video')"
    async with window("--autoplay-policy=no-user-gesture-required") as shown:
        with push(SMALL_BFRAMES, channel.push, loop=True):
            channel.wait_live()
            page = await shown.tab("about:blank")
            # Chromium pauses what is muted and not seen.
            await page.start("localStorage.setItem('millrace.muted', 'no')", channel.url("flv.html"))
            await page.until(f"{video}?.currentTime > 3 && !{video}.muted")
            await shown.tab("about:blank")
            await page.until("document.hidden")
        await page.until(f"{video}.readyState < 3")
        await asyncio.sleep(3)
        with push(SMALL_BFRAMES, channel.push, loop=True):
            await page.until(f"{AHEAD} > 0.1 && {AHEAD} < 1.2")
            await page.to_front()
            await page.until(f"{AHEAD} < 1.2 && document.querySelector('#state').textContent === 'Live'")


async def test_a_muted_hidden_tab_returns_to_the_live_edge_after_a_break(gateway: Gateway) -> None:
    channel = gateway.channel("unseen")
    async with window("--autoplay-policy=no-user-gesture-required") as shown:
        with push(SMALL_BFRAMES, channel.push, loop=True):
            channel.wait_live()
            page = await shown.tab(channel.url("flv.html"))
            await page.until("document.querySelector('video')?.currentTime > 3")
            await shown.tab("about:blank")
            await page.until("document.hidden && document.querySelector('video').paused")
        await asyncio.sleep(3)
        end = await page.evaluate("document.querySelector('video').buffered.end(0)")
        with push(SMALL_BFRAMES, channel.push, loop=True):
            await page.until(f"document.querySelector('video').buffered.end(0) > {end + 1}")
            await page.to_front()
            await page.until(f"{AHEAD} < 1.2 && document.querySelector('#state').textContent === 'Live'")


LOG = """() => { window.said = []; new MutationObserver(() => {
  const [badge, { dataset }] = ["#badge", "#stage"].map((one) => document.querySelector(one));
  const offered = document.querySelector("#golive").hidden ? "" : "Go live";
  const said = [dataset.state, badge.textContent, offered].join("|");
  if (window.said.at(-1) !== said) window.said.push(said); })
  .observe(document.body, { subtree: true, childList: true, characterData: true, attributes: true }); }"""


async def test_webrtc_pages_say_live_only_while_pictures_move(gateway: Gateway, browser: Browser) -> None:
    channel = gateway.channel("moves")
    async with contextlib.AsyncExitStack() as stack:
        with clock_push(channel.push):
            await asyncio.to_thread(channel.wait_live)
            pages = []
            for page, way in (("whep.html", ""), ("", "instant"), ("", "auto")):
                context = opened(browser, channel.url(page), prepare=partial(prefers, way=way))
                pages.append(await stack.enter_async_context(context))
            await asyncio.gather(*(watched.plays() for watched in pages))
        for watched in pages:
            await watched.page.locator("#stage[data-state=broken]").wait_for(timeout=at_most(30_000))
            await watched.page.evaluate(LOG)
        await asyncio.sleep(9)  # whatever the gateway, the browser or the page repeats in this time
        for watched in pages:
            said = set(await watched.page.evaluate("window.said"))
            assert said <= {f"broken|{BROKEN}|"}, (watched.page.url, said)
        with clock_push(channel.push):
            for watched in pages:
                await watched.page.locator("#stage[data-state=live]").wait_for(timeout=at_most(30_000))
            for samples in await asyncio.gather(*(sampled(watched.page, 3) for watched in pages)):
                assert longest_still(samples) < 1, samples
        assert not any(watched.complaints for watched in pages), [watched.complaints for watched in pages]


async def prefers(context: BrowserContext, way: str) -> None:
    await context.add_init_script(f"localStorage.setItem('millrace.way', '{way}')")
