"""The console's views beside channels, in Chromium against the real gateway with real pushes: what they show and do."""

import asyncio
import contextlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from PIL import Image
from playwright.async_api import Browser, Locator, Page, Request, Response, Route, expect

from tests.support.at_night import at_night
from tests.support.browser import Watched, axe, opened
from tests.support.clients import Program, pull, push
from tests.support.films import plain
from tests.support.gateway import Channel, Gateway, http, running
from tests.support.ivs import KEY, ivs_api
from tests.support.media import Film
from tests.support.shared_gateway import shared_gateway
from tests.support.time_outs import at_most
from tests.support.tools import need

VIEWS = [
    "live",
    "recordings",
    "recordings?kind=image",
    "films",
    "events",
    "alarms",
    "domains",
    "ivs",
    "users",
    "system",
]
WIDE = {"width": 1360, "height": 900}
NARROW = {"width": 360, "height": 740}
# Endless animations would take half of the CPU of a page.
SIMPLE: dict[str, Any] = {"viewport": WIDE, "locale": "en-US", "reduced_motion": "reduce"}
FILM = Film("console", seconds=20, size="640x360")
# A word that was asked for by a key that does not exist is shown as that key.
KEYS = re.compile(
    r"\b(?:alarms|bin|chart|domains|events?|films|ivs|player|recordings|system|trouble|users|views)\.[a-z]\w+\b"
)
SECRET = "a long password"


def looping(url: str) -> Program:
    """The film pushed over and over, in real time."""
    return push(FILM, url, loop=True)


gateway = shared_gateway(
    "chromium", "ffmpeg", films=[FILM], MILLRACE_EGRESS__ALLOW="127.0.0.0/8", MILLRACE_STREAM__LINGER="2", AWS_REGION=""
)


@pytest.fixture(scope="module")
def stage(gateway: Gateway) -> Iterator[Channel]:
    """A channel that is live throughout and records everything it can."""
    channel = gateway.channel(
        videoname="Main stage", isVideo=True, video_time="10", isOnDemand=True, ondemand_time="10", isImage=True,
        image_time="5",
    )  # fmt: skip
    with looping(channel.push):
        channel.wait_live()
        yield channel


@contextlib.asynccontextmanager
async def signed_in(
    browser: Browser, gateway: Gateway, view: str = "live", name: str = "", password: str = "", **options: Any
) -> AsyncIterator[Watched]:
    """Opens the console at a view, signed in with the token or as a user."""
    at = f"http://127.0.0.1:{gateway.ports['admin']}/#/{view}"
    async with opened(browser, at, **{**SIMPLE, **options}) as watched:
        page = watched.page
        state = json.loads(await (await page.request.get(at.partition("#")[0] + "login")).text())
        headers = {"Origin": at.partition("/#")[0]}
        body = {"name": name, "password": password or gateway.token}
        reply = await page.request.post(at.partition("#")[0] + "login", data=body, headers=headers)
        assert reply.ok and state["user"] is None, await reply.text()
        await page.reload()
        await title(page).wait_for()
        yield watched


def title(page: Page) -> Locator:
    return page.locator("main h1")


async def go(page: Page, view: str) -> None:
    """Opens a view by its address, like a link."""
    await page.evaluate("(to) => { location.hash = to; }", f"#/{view}")


def button(page: Page | Locator, name: str | re.Pattern[str]) -> Locator:
    return (
        page.get_by_role("button", name=name, exact=True)
        if isinstance(name, str)
        else page.get_by_role("button", name=name)
    )


async def photo(page: Page, name: str) -> None:
    if folder := os.environ.get("SCREENSHOTS"):
        await page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)


async def painted(chart: Locator, share: float = 1.0) -> bool:
    """Returns whether the chart has a line: its canvas has pixels that are neither empty nor grey.

    share: of the width, from the left, in which they are.
    """
    return bool(
        await chart.locator("canvas").evaluate(
            """(canvas, share) => {
              const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width * share, canvas.height);
              for (let i = 0; i < data.length; i += 4) {
                const colour = [data[i], data[i + 1], data[i + 2]];
                if (data[i + 3] > 200 && Math.max(...colour) - Math.min(...colour) > 60) return true;
              }
              return false;
            }""",
            share,
        )
    )


async def comes(condition: Callable[[], Any], what: str, within: float = 20.0) -> None:
    """Returns once `condition()`, awaited, is true."""
    end = asyncio.get_running_loop().time() + within
    while not await condition():
        assert asyncio.get_running_loop().time() < end, f"not within {within:.0f} s: {what}"
        await asyncio.sleep(0.1)


async def test_numbers_and_times_are_formatted_for_readers(browser: Browser, gateway: Gateway) -> None:
    async with signed_in(browser, gateway, timezone_id="Asia/Shanghai") as watched:
        found = await watched.page.evaluate("""async () => {
          const f = await import("/console/app/format.js");
          const { setLanguage } = await import("/console/app/i18n.js");
          const then = "2030-01-31T18:00:05Z";
          const english = [
            ...[0, 999, 1000, 123456, 2.5e9, null].map(f.bytes), ...[2.5e6, 999.96].map(f.bitrate),
            ...[7, 754.4, 3723, NaN].map(f.duration), ...[59, 3725, 90061].map(f.span),
            ...[0.00034, 0.0123, 2.5].map(f.brief), f.percent(0.256), f.moment(then), f.moment("no time"),
            f.timeOfDay(then), f.relative(Date.now() - 125000), f.relative(Date.now() + 2 * 86400e3 + 5000)];
          await setLanguage("zh", false);
          return [english, [f.bytes(123456), f.span(3725), f.moment(then), f.relative(Date.now() - 125000)], f.zone()];
        }""")
        plain = [[text.replace("\u00a0", " ").replace("\u202f", " ") for text in part] for part in found[:2]]
        assert plain[0] == [
            "0 B", "999 B", "1 kB", "123 kB", "2.5 GB", "–", "2.5 Mbit/s", "1 kbit/s",
            "0:07", "12:34", "1:02:03", "–", "59 sec", "1 hr 2 min", "1 day 1 hr",
            "340 µs", "12.3 ms", "2.5 s", "26%", "Feb 1, 2030, 2:00 AM", "–",
            "2:00:05 AM", "2 minutes ago", "in 2 days",
        ]  # fmt: skip
        assert plain[1] == ["123 kB", "1小时 2分钟", "2030年2月1日 02:00", "2分钟前"]
        assert found[2] == "Asia/Shanghai"


async def test_a_csv_file_contains_no_formulas(browser: Browser, gateway: Gateway) -> None:
    async with signed_in(browser, gateway) as watched:
        text = await watched.page.evaluate("""async () => {
          const { csv } = await import("/console/app/csv.js");
          const values = ["plain", 'say "hi", you', "two\\nlines", "=1+1", "+49 30", "-2", "@sum", "\\t=x", " =x",
            "\\uff1dx", -2, 1.5, true, null, undefined, ["a", "b"], { a: 1 }];
          return csv([{ title: "a, b", value: (row) => row }], values);
        }""")
        assert text.split("\r\n") == [
            '"a, b"', "plain", '"say ""hi"", you"', '"two\nlines"', "\"'=1+1\"", "\"'+49 30\"", "\"'-2\"", "\"'@sum\"",
            "\"'\t=x\"", "\"' =x\"", "\"'\uff1dx\"", "-2", "1.5", "true", "", "", "a b", '"{""a"":1}"', "",
        ]  # fmt: skip


async def test_the_live_view_shows_live_channels_and_ends_pushes(
    browser: Browser, gateway: Gateway, stage: Channel
) -> None:
    receiver = gateway.channel(videoname="Receiver")
    hall = gateway.channel(
        videoname="大厅 <b>hall</b>", isRelay=True, relayURL=[receiver.push, "rtmp://127.0.0.1:9/live/secret-key"]
    )
    with looping(hall.push) as encoder:
        hall.wait_live()
        receiver.wait_live()
        async with signed_in(browser, gateway, "live") as watched:
            page = watched.page
            card = page.get_by_role("article", name="Main stage")
            await expect(page.get_by_text("3 channels")).to_be_visible()
            await expect(card).to_contain_text("H.264 · 640\u00a0×\u00a0360 · 30\u00a0fps")
            await expect(card).to_contain_text("AAC · 48\u00a0kHz · stereo")
            await expect(card).to_contain_text("RTMP · 127.0.0.1")
            for output in ("HTTP-FLV", "LL-HLS and DASH", "Recording", "On-demand recording", "Snapshots"):
                await expect(card.get_by_role("list", name="Outputs")).to_contain_text(output)
            relay = page.get_by_role("article", name="大厅 <b>hall</b>")
            await expect(relay).to_contain_text("rtmp://127.0.0.1:9/live/********")
            await expect(relay).to_contain_text("connection refused")
            assert "secret-key" not in await page.content()

            # Charts say in words what they show.
            await comes(lambda: painted(card.locator(".spark")), "a line in the bitrate's chart")
            incoming = page.get_by_role("img", name=re.compile(r"^Incoming: [\d.]+\sMbit.s now$"))
            await incoming.wait_for()
            await comes(lambda: painted(incoming), "a line in the chart of what comes in")
            with pull(stage.url("live.flv"), seconds=None):
                await expect(card.locator("dd", has_text="HTTP-FLV 1")).to_be_visible(timeout=at_most(10_000))
            assert not await axe(page)

            await page.get_by_role("searchbox", name="Search").fill("hall")
            await expect(page.get_by_role("article")).to_have_count(1)
            async with page.expect_download() as download:
                await button(page, "Export CSV").click()
            rows = Path(await (await download.value).path()).read_text("utf-8-sig").splitlines()
            assert len(rows) == 2 and rows[1].startswith(f"{hall.id},大厅 <b>hall</b>,live,")

            await button(page, "End push: 大厅 <b>hall</b>").click()
            question = page.get_by_role("alertdialog")
            await page.keyboard.press("Escape")
            await expect(question).to_have_count(0)
            assert hall.session()["state"] == "live" and encoder.process.poll() is None
            await button(page, "End push: 大厅 <b>hall</b>").click()
            await button(question, "End push").click()
            await expect(page.get_by_text("No live channel matches.")).to_be_visible()
            assert hall.session()["state"] == "idle"
            # Its picture may have been requested while it ended.
            assert [text for text in watched.complaints if "/preview" not in text] == []


@pytest.mark.nightly
async def test_a_young_stream_has_a_picture_and_a_line_over_the_whole_width(
    browser: Browser, gateway: Gateway, stage: Channel
) -> None:
    young = gateway.channel(videoname="Young")
    async with signed_in(browser, gateway, "live") as watched:
        page = watched.page
        older = page.get_by_role("article", name="Main stage")
        await comes(lambda: painted(older.locator(".spark")), "a line of the other stream")
        with looping(young.push):
            card = page.get_by_role("article", name="Young")
            await expect(card.get_by_role("img", name="Picture of main")).to_be_visible(timeout=at_most(20_000))
            await comes(lambda: painted(card.locator(".spark"), 0.2), "a line that begins at the left")
            for width in (390, 1280):
                await page.set_viewport_size({"width": width, "height": 900})
                assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth"), width
                await photo(page, f"live-{width}")
            assert not await axe(page)


@pytest.mark.nightly
async def test_a_fault_of_a_push_is_shown_with_advice(browser: Browser, gateway: Gateway) -> None:
    channel = gateway.channel(videoname="Long GOP")
    source = ("-f", "lavfi", "-i", "testsrc2=s=160x90:r=25", "-f", "lavfi", "-i", "sine=f=440:r=44100")
    coded = ("-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-g", "250", "-c:a", "aac")
    with Program(["ffmpeg", "-nostdin", "-v", "error", "-re", *source, *coded, "-f", "flv", channel.push]):
        async with signed_in(browser, gateway, "live") as watched:
            page = watched.page
            card = page.get_by_role("article", name="Long GOP")
            await expect(card).to_contain_text("set 2 s in OBS, Output, Keyframe Interval.", timeout=at_most(25_000))
            await go(page, f"channels/{channel.id}")
            # The picture is as old as its key frame.
            await expect(page.locator(".is-preview")).to_contain_text("because key frames come that seldom")
            await photo(page, "old-picture")
            health = page.locator(".is-health")
            await expect(health).to_contain_text("Key frame every")
            await expect(health).to_contain_text("of 25")
            await expect(health.locator("dt")).to_contain_text(
                [
                    "Frames a second",
                    "Bitrate in a minute",
                    "Key frame interval",
                    "B-frames",
                    "Sound against",
                ]
            )
            assert not await axe(page)


async def test_the_values_of_faults_are_rounded_like_in_the_gateway(browser: Browser, gateway: Gateway) -> None:
    async with signed_in(browser, gateway) as watched:
        texts = await watched.page.evaluate("""async () => {
          const { faultText } = await import("/console/app/views/parts/health.js");
          return [["timestamps_jump", -1.44], ["arrivals_late", 2.34], ["arrivals_late", 12.34], ["gop_long", 9.6],
                  ["fps_low", 12.2]]
            .map(([code, value]) => faultText({ code, text: "12 of 25 frames arrive", value }).split(":")[0]);
        }""")
        assert texts == [
            "The timestamps jumped by 1.4 s",
            "Media fell 2.3 s behind in 10 s",
            "Nothing has arrived for 12 s",
            "Key frame every 10 s",
            "12 of 25 frames arrive",
        ]


async def stop_the_clock(page: Page) -> None:
    """Stop the time of a page, one minute later than it is: a time that has passed already is an error."""
    await page.clock.pause_at(await page.evaluate("Date.now()") / 1000 + 60)  # seconds


async def test_a_hidden_page_sends_no_requests(browser: Browser, gateway: Gateway, stage: Channel) -> None:
    async with signed_in(browser, gateway, "live") as watched:
        page = watched.page
        await page.clock.install()
        async with page.expect_response("**/videostreams/online"), page.expect_response("**/history?*"):
            await page.reload()
        await page.get_by_role("article", name="Main stage").wait_for()
        await stop_the_clock(page)
        hide = """(is) => { Object.defineProperty(document, "hidden", { value: is, configurable: true });
          document.dispatchEvent(new Event("visibilitychange")); }"""
        await page.evaluate(hide, True)
        await page.wait_for_load_state("networkidle")
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        await page.clock.run_for(60_000)
        assert asked == []
        async with page.expect_request("**/videostreams/online"):
            await page.evaluate(hide, False)
        assert not watched.complaints


@pytest.mark.nightly
async def test_the_page_shows_an_outage_of_the_gateway_and_recovers(browser: Browser, gateway: Gateway) -> None:
    async with signed_in(browser, gateway, "system") as watched:
        page = watched.page
        await expect(page.get_by_text("Ready", exact=True)).to_be_visible()

        async def away(route: Route) -> None:
            await route.fulfill(status=503, json={"error": "the store is away"}, headers={"Retry-After": "1"})

        await page.route("**/status", away)
        await expect(page.get_by_role("alert")).to_contain_text("the store is away", timeout=at_most(10_000))
        await expect(page.get_by_text("Version")).to_be_visible()  # what was known stays
        await page.unroute("**/status")
        await expect(page.get_by_role("alert")).to_have_count(0, timeout=at_most(15_000))


async def test_after_an_outage_nothing_is_called_out_of_date_any_more(browser: Browser, gateway: Gateway) -> None:
    channel = gateway.channel(videoname="After a restart")
    async with signed_in(browser, gateway, f"channels/{channel.id}") as watched:
        page = watched.page
        await page.clock.install()
        await page.reload()
        await title(page).wait_for()
        await stop_the_clock(page)
        stale, banner = (
            page.get_by_text("This page may be out of date"),
            page.get_by_text("The gateway does not answer. T"),
        )

        failed: list[str] = []

        async def dead(route: Route) -> None:
            await route.abort()
            failed.append(route.request.url)

        await page.route("**/*", dead)
        # Each failure makes the pause before the next request longer; it also takes time that is not the page's.
        while len(failed) < 5 or not await banner.is_visible():
            await page.clock.run_for(4_000)
        await page.unroute("**/*", dead)
        # The first answer, to any request, also repeats the others, although the time stands still.
        await page.evaluate("""() => import("/console/players/api.js").then(({ api }) => api.get("/login"))""")
        await expect(banner).to_have_count(0)
        await expect(stale).to_have_count(0)


async def abort(route: Route) -> None:
    await route.abort()


async def fulfill(answer: dict[str, Any], route: Route) -> None:
    await route.fulfill(**answer)


async def test_a_proxy_that_answers_in_place_of_the_gateway_is_named(browser: Browser, gateway: Gateway) -> None:
    lost, asked = "Trying again", "Load this page again"
    answers: dict[str, tuple[dict[str, Any], str]] = {
        "nginx": ({"status": 502, "body": "<h1>502 Bad Gateway</h1>", "content_type": "text/html"}, lost),
        "Authelia": ({"status": 302, "headers": {"Location": "https://sign-in.invalid/"}}, asked),
        "Caddy": ({"status": 502, "body": ""}, lost),
        "a page": ({"status": 200, "body": "<form>Sign in</form>", "content_type": "text/html"}, asked),
    }
    ask = """() => import("/console/players/api.js")
        .then(({ api }) => api.get("/login")).catch((error) => error.status)"""
    async with signed_in(browser, gateway, "system") as watched:
        page = watched.page
        for name, (answer, words) in answers.items():
            await page.route(re.compile(r"/(status|login)$"), partial(fulfill, answer))
            assert await page.evaluate(ask) == 0, name
            await expect(page.get_by_role("alert"), name).to_contain_text([words])
            await page.unroute_all()
        await page.evaluate(ask)
        await expect(page.get_by_role("alert")).to_have_count(0)


async def test_a_device_without_a_network_is_named_instead_of_the_gateway(browser: Browser, gateway: Gateway) -> None:
    async with signed_in(browser, gateway, "wall") as watched:
        page = watched.page
        await page.context.set_offline(True)
        for view in ("wall", "live"):
            await go(page, view)
            await expect(page.get_by_role("alert").filter(has_text="Your device is offline.")).to_be_visible()
        await expect(page.get_by_text("The gateway does not answer")).to_have_count(0)
        # The browser says that there is a network before the first requests arrive.
        await page.route("**/status", abort)
        async with page.expect_event("requestfailed"):
            await page.context.set_offline(False)
        await page.unroute("**/status", abort)
        await expect(page.get_by_role("alert")).to_have_count(0)
        await expect(page.get_by_role("heading", name="Live", exact=True)).to_be_visible()
    home = f"http://127.0.0.1:{gateway.ports['http']}/"
    async with opened(browser, home, **SIMPLE) as watched:
        page = watched.page
        await page.clock.install()
        await page.reload()
        await expect(page.locator("h1")).to_be_visible()
        await page.context.set_offline(True)
        await (await page.context.new_cdp_session(page)).send("Network.clearBrowserCache")  # it may have the list
        await page.clock.run_for(60_000)
        await expect(page.get_by_text("Your device is offline")).to_be_visible()


async def test_recordings_can_be_played_downloaded_and_deleted(
    browser: Browser, gateway: Gateway, stage: Channel
) -> None:
    async def recorded(kind: str, least: int) -> bool:
        return len(gateway.api("GET", f"/videostream/{stage.id}/recordings?kind={kind}").json()) >= least

    for kind, least in (("video", 2), ("ondemand", 1), ("image", 2)):
        await comes(partial(recorded, kind, least), f"{least} of {kind}", 60)
    async with signed_in(browser, gateway, "recordings?kind=video") as watched:
        page = watched.page
        videos = button(page, re.compile("^Play: Video, Main stage"))
        await videos.first.wait_for()
        assert not await axe(page)
        await videos.first.click()
        viewer = page.get_by_role("dialog", name="Main stage")
        await plays(viewer.locator("video"))
        assert not await axe(page)
        url = await viewer.locator("code").inner_text()
        file = gateway.data / "media" / url.partition(f":{gateway.ports['http']}/")[2].replace("/vod/", "/")
        async with page.expect_download() as download:
            await viewer.get_by_role("link", name="Download").click()
        saved = await download.value
        assert saved.suggested_filename == file.name
        assert Path(await saved.path()).read_bytes() == file.read_bytes()
        await button(viewer, "Delete").click()
        question = page.get_by_role("alertdialog")
        await button(question, "Cancel").click()
        assert file.exists()
        await button(viewer, "Delete").click()
        await button(question, "Delete").click()
        await expect(viewer).to_have_count(0)
        assert not file.exists()

        await page.get_by_role("tab", name="On demand").click()
        session = button(page, re.compile("^Play: On-demand session"))
        await session.click()
        await plays(viewer.locator("video"))
        await expect(viewer).to_contain_text("still being recorded")
        await expect(button(viewer, "Delete")).to_have_count(0)  # refused while it grows
        await page.keyboard.press("Escape")

        await page.get_by_role("tab", name="Snapshots").click()
        await button(page, re.compile("^Show: Snapshot")).first.click()
        picture = viewer.get_by_role("img")
        await comes(lambda: picture.evaluate("(e) => e.naturalWidth === 640"), "the snapshot's picture")
        shown = str(await picture.get_attribute("src"))
        await page.keyboard.press("ArrowRight")
        await expect(picture).not_to_have_attribute("src", shown)
        await page.keyboard.press("Escape")

        quiet = gateway.channel(videoname="Quiet")
        await page.reload()
        await page.get_by_role("combobox", name="Channel").select_option(label="Quiet")
        await expect(page.get_by_text("No snapshots yet")).to_be_visible()
        assert quiet.id in page.url
        assert not watched.complaints


async def test_media_of_a_deleted_channel_stay_listed_until_they_are_deleted(
    browser: Browser, gateway: Gateway
) -> None:
    channel, other = gateway.channel(videoname="Finale", playAuth="sign"), gateway.channel(videoname="Encore")
    folders = [gateway.data / "media" / id / "images/2026/1/2" for id in (channel.id, channel.id, other.id)]
    files = [folder / f"capture-2026-01-02_03-04-0{n}.jpg" for n, folder in enumerate(folders)]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(file)

    async def delete(name: str, id: str, choice: str | None) -> None:
        await page.goto(page.url.partition("#")[0] + f"#/channels/{id}")
        await button(page, "Delete").click()
        question = page.get_by_role("alertdialog", name=f"Delete “{name}”?")
        await expect(question.get_by_role("radio", name=re.compile("Keep them"))).to_be_checked()
        if choice is not None:
            await question.get_by_role("radio", name=re.compile(choice)).check()
        assert not await axe(page)
        await button(question, "Delete channel").click()
        await page.get_by_text(f"Deleted: {name}").wait_for()

    async with signed_in(browser, gateway) as watched:
        page = watched.page
        await delete("Finale", channel.id, None)
        await delete("Encore", other.id, "Delete them too")
        assert [file.exists() for file in files] == [True, True, False]
        await page.goto(page.url.partition("#")[0] + "#/recordings?kind=image")
        await page.reload()  # the list of channels that the page has may be the one from before
        shown = button(page, re.compile(r"^Show: Snapshot, Finale \(deleted\)"))
        await expect(shown).to_have_count(2)
        assert not await axe(page)
        await shown.first.click()
        viewer = page.get_by_role("dialog", name="Finale (deleted)")
        await comes(lambda: viewer.get_by_role("img").evaluate("(e) => e.naturalWidth === 8"), "the picture")
        await button(viewer, "Delete").click()
        await button(page.get_by_role("alertdialog"), "Delete").click()
        await expect(viewer).to_have_count(0)
        await expect(shown).to_have_count(1)
        assert [file.exists() for file in files] == [True, False, False]
        await page.get_by_role("combobox", name="Channel").select_option(label="Finale (deleted)")
        await expect(page.get_by_text("This channel was deleted")).to_be_visible()
        assert not await axe(page)
        await button(page, "Delete all media").click()
        await button(page.get_by_role("alertdialog", name="Delete all media of Finale?"), "Delete").click()
        await page.get_by_text("The media of Finale are deleted.").wait_for()
        await expect(shown).to_have_count(0)
        assert not files[0].exists()
        assert not watched.complaints


async def plays(video: Locator) -> None:
    """Returns once its picture moves."""
    await comes(lambda: video.evaluate("(v) => v.videoWidth > 0 && v.currentTime > 0.5"), "a picture that moves")


async def test_recordings_of_many_channels_are_paged_newest_first(browser: Browser, gateway: Gateway) -> None:
    async with signed_in(browser, gateway) as watched:
        found = await watched.page.evaluate("""async () => {
          const { Feed } = await import("/console/app/views/recordings/feed.js");
          const asked = [];
          // Seven channels; channel n has a recording every n seconds.
          window.fetch = async (path) => {
            asked.push(path);
            const url = new URL(path, location.href), [, , id] = url.pathname.split("/"), step = Number(id);
            const all = Array.from({ length: 20 }, (_, i) => ({
              key: `${id}/vod-${i}.m3u8`, kind: "ondemand", seconds: 1, size: 1, url: "", poster: null,
              start: new Date(1e12 - i * step * 1000).toISOString() }));
            const at = all.findIndex((one) => one.key === url.searchParams.get("before")) + 1;
            return Response.json(all.slice(at, at + Number(url.searchParams.get("limit"))));
          };
          const feed = new Feed(["1", "2", "3", "4", "5", "6", "7"], ["ondemand"], 24);
          const pages = [];
          while (feed.more && pages.length < 20) pages.push((await feed.next()).map((one) => [one.start, one.path]));
          return { pages, asked: asked.length };
        }""")
        pages = found["pages"]
        starts = [start for page in pages for start, _ in page]
        assert [len(page) for page in pages] == [24] * 5 + [20]
        assert starts == sorted(starts, reverse=True) and len(starts) == 7 * 20
        assert pages[0][0][1] == "vod-0.m3u8"


async def test_a_film_can_be_uploaded_converted_and_played(browser: Browser, gateway: Gateway, tmp_path: Path) -> None:
    film = tmp_path / "Holiday, the film.mp4"
    shutil.copy(plain(), film)
    notes = tmp_path / "notes.txt"
    notes.write_text("no film")
    async with signed_in(browser, gateway, "films") as watched:
        page = watched.page
        await expect(page.get_by_text("No videos yet")).to_be_visible()
        await page.get_by_label("Choose videos").last.set_input_files([film, notes])
        await expect(page.get_by_role("alert")).to_contain_text("notes.txt")
        uploads = page.get_by_role("list", name="Uploads")
        await expect(uploads).to_contain_text("Uploaded, ", timeout=at_most(15_000))
        row = page.get_by_role("row").filter(has_text="Holiday, the film.mp4")
        await expect(row).to_contain_text("Complete", timeout=at_most(90_000))
        await expect(uploads).to_contain_text("The video is ready.")
        poster = page.locator(".shelf-picture img")
        await comes(lambda: poster.evaluate("(e) => e.naturalWidth > 0"), "the film's poster")
        assert not await axe(page)
        await button(page, "Open Holiday, the film").click()
        viewer = page.get_by_role("dialog", name="Holiday, the film")
        await plays(viewer.locator("video"))
        await page.set_viewport_size({"width": 1280, "height": 800})
        frame, video = await viewer.locator(".film").bounding_box(), await viewer.locator("video").bounding_box()
        assert frame and video and frame["height"] >= video["height"], "the whole player is shown, with its controls"
        (stored,) = gateway.api("GET", "/films").json()
        await expect(viewer).to_contain_text(stored["hls"])
        await expect(button(viewer, "Copy Player page address")).to_be_visible()
        qr = viewer.get_by_role("img", name=re.compile("QR"))
        await comes(lambda: qr.evaluate("(e) => e.naturalWidth > 0"), "the QR code")
        captions = tmp_path / "captions.srt"
        captions.write_text("1\n00:00:00,000 --> 00:00:02,000\nGrüezi\n")
        await viewer.get_by_role("textbox", name="Language").fill("de-CH")
        await viewer.get_by_role("textbox", name="Name for viewers").fill("Mundart")
        await viewer.get_by_label("WebVTT or SubRip file").set_input_files(captions)
        await button(viewer, "Add").click()
        await expect(button(viewer, "Remove the captions Mundart")).to_be_visible()
        assert [each["language"] for each in gateway.api("GET", "/films").json()[0]["captions"]] == ["de-CH"]
        assert not await axe(page)
        await button(viewer, "Remove the captions Mundart").click()
        await expect(button(viewer, "Remove the captions Mundart")).to_have_count(0)
        await button(viewer, "Edit title").click()
        await page.get_by_role("textbox", name="Title").fill("Ferien <b>am See</b>")
        await page.get_by_role("textbox", name="Description").fill("Erster Tag")
        await button(page, "Save").click()
        await expect(page.get_by_role("dialog", name="Ferien <b>am See</b>")).to_contain_text("Erster Tag")
        await page.keyboard.press("Escape")
        await page.get_by_label("Search videos").fill("nothing like it")
        await expect(page.get_by_text("No video contains")).to_be_visible()
        await page.get_by_label("Search videos").fill("AM SEE")
        await expect(button(page, "Open Ferien <b>am See</b>")).to_be_visible()
        assert not watched.complaints
        await film_page_plays(browser, stored["page"])
        await button(page, "Open Ferien <b>am See</b>").click()
        await button(page.get_by_role("dialog"), "Delete").click()
        await button(page.get_by_role("alertdialog"), "Delete").click()
        await expect(button(page, "Open Ferien <b>am See</b>")).to_have_count(0)
    assert gateway.api("GET", "/films").json() == []


async def test_new_films_do_not_remove_older_ones_from_the_list(browser: Browser, gateway: Gateway) -> None:
    absent = dict.fromkeys(("duration", "size", "error", "hls", "poster"))
    rest = {"description": "", "state": "READY", "created": "2026-01-02T03:04:05Z", "source": "", "page": "", **absent}
    films: list[dict[str, Any]] = [{"key": f"film{n}", "title": f"Film {n}", **rest} for n in range(62, 0, -1)]

    async def serve(handled: Route) -> None:
        before = parse_qs(urlsplit(handled.request.url).query).get("before", [""])[0]
        begin = next((n + 1 for n, film in enumerate(films) if film["key"] == before), 0)
        await handled.fulfill(json=films[begin : begin + 60])

    async with signed_in(browser, gateway) as watched:
        page = watched.page
        await page.route("**/films?*", serve)
        await go(page, "films")
        shown = page.locator(".shelf > li")
        await expect(shown).to_have_count(60)
        await button(page, "Older videos").click()
        await expect(shown).to_have_count(62)
        films.insert(0, films[0] | {"key": "new", "title": "New"})
        await page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")  # back from another tab
        await expect(button(page, "Open New")).to_be_visible(timeout=at_most(20_000))
        await expect(shown).to_have_count(63)
        await expect(button(page, "Older videos")).to_have_count(0)
        assert not watched.complaints


async def film_page_plays(browser: Browser, address: str) -> None:
    """The player page of a film: title, pictures on the time bar, chapters, keys, the dialog to share, the frame."""
    async with opened(browser, address, locale="en-US", viewport=WIDE) as watched:
        page = watched.page
        await expect(page.get_by_role("heading", name="Ferien <b>am See</b>")).to_be_visible()
        await expect(page.get_by_text("Erster Tag")).to_be_visible()
        chapters = page.get_by_role("button", name=re.compile("^Play from"))
        await expect(chapters).to_have_count(3)
        assert not await axe(page)
        await page.locator("#start").click()
        await watched.plays()
        slider = page.get_by_role("slider", name="Position")
        box = await slider.bounding_box()
        assert box is not None
        for share in (0.5, 0.9):  # the first move wakes the controls
            await page.mouse.move(box["x"] + box["width"] * share, box["y"] + box["height"] / 2)
        picture = page.locator(".rewind-tip .preview-picture")
        await expect(picture).to_be_visible()
        assert "thumbnails.jpg" in await picture.evaluate("(e) => e.style.backgroundImage")
        await page.keyboard.press("k")
        await page.keyboard.press("0")
        await comes(lambda: page.locator("video").evaluate("(v) => v.paused && v.currentTime < 0.1"), "the beginning")
        await page.get_by_role("button", name="Share").click()
        await expect(page.get_by_role("dialog", name="Share this video")).to_contain_text("Embed in a web page")
        await page.keyboard.press("Escape")
        assert not watched.complaints
    async with opened(browser, f"{address}?embed=1", locale="en-US") as watched:
        await expect(watched.page.locator("#start")).to_be_visible()
        await expect(watched.page.get_by_role("heading")).to_have_count(0)
        assert not watched.complaints
    async with opened(browser, address.replace("/vod/", "/vod/no-"), locale="en-US") as watched:
        await expect(watched.page.locator("#headline")).to_have_text("No such video")


async def test_a_film_in_the_store_becomes_a_job_which_can_be_canceled(browser: Browser, gateway: Gateway) -> None:
    source = gateway.data / "media" / "long.mp4"
    picture = ["-f", "lavfi", "-i", "testsrc2=size=1280x720:rate=30", "-t", "12", "-preset", "ultrafast"]
    subprocess.run(["ffmpeg", "-nostdin", "-v", "error", *picture, source], check=True, timeout=at_most(120))
    async with signed_in(browser, gateway, "films") as watched:
        page = watched.page
        where = page.get_by_label("Key, path or s3:// address")
        await button(page, "Prepare").click()
        await expect(page.get_by_text("Enter the location of the video.")).to_be_visible()
        await where.fill("long.mp4")
        await button(page, "Prepare").click()
        await expect(where).to_have_value("")
        row = page.get_by_role("row").filter(has_text="long.mp4")
        await button(row, "Cancel long.mp4").click()
        await button(page.get_by_role("alertdialog"), "Cancel the job").click()
        await expect(row).to_contain_text("Canceled", timeout=at_most(15_000))
        assert not watched.complaints
        await where.fill("missing.mp4")
        await button(page, "Prepare").click()
        await expect(where).to_have_attribute("aria-invalid", "true")
        await expect(page.get_by_text("there is no such object")).to_be_visible()


async def test_a_failed_upload_shows_its_reason_and_can_be_retried(
    browser: Browser, gateway: Gateway, tmp_path: Path
) -> None:
    film = tmp_path / "second.mp4"
    shutil.copy(plain(), film)
    async with signed_in(browser, gateway, "films") as watched:
        page = watched.page

        async def full(route: Route) -> None:
            await route.fulfill(status=507, json={"error": "there is no room for this film"})

        await page.route("**/uploads/*", full)
        await page.get_by_label("Choose videos").last.set_input_files(film)
        uploads = page.get_by_role("list", name="Uploads")
        await expect(uploads.get_by_role("alert")).to_have_text("there is no room for this film")
        await page.unroute("**/uploads/*")
        await button(uploads, "Try again").click()
        await expect(uploads).to_contain_text("Uploaded, ", timeout=at_most(15_000))
        await button(uploads, "Remove second.mp4 from this list").click()
        await expect(uploads).to_have_count(0)


async def test_an_uploaded_file_that_is_no_film_is_shown_as_failed(
    browser: Browser, gateway: Gateway, tmp_path: Path
) -> None:
    film = tmp_path / "broken.mp4"
    film.write_text("no film")
    async with signed_in(browser, gateway, "films") as watched:
        await watched.page.get_by_label("Choose videos").last.set_input_files(film)
        row = watched.page.get_by_role("list", name="Uploads").get_by_role("listitem")
        await expect(row.get_by_role("alert")).to_contain_text("the job failed: ", timeout=at_most(60_000))
        await expect(row).to_have_class("upload is-failed")
        assert not await axe(watched.page)
        assert not watched.complaints


async def test_an_upload_shows_its_progress_and_can_be_canceled(browser: Browser, gateway: Gateway) -> None:
    known = len(gateway.api("GET", "/jobs").json())
    async with signed_in(browser, gateway, "films") as watched:
        page = watched.page
        network = await page.context.new_cdp_session(page)
        slow = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": 100_000}
        await network.send("Network.enable")
        await network.send("Network.emulateNetworkConditions", slow)
        await page.get_by_label("Choose videos").last.set_input_files(FILM.path())
        uploads = page.get_by_role("list", name="Uploads")
        progress = uploads.get_by_role("progressbar")
        await comes(lambda: progress.evaluate("(e) => e.value > 0 && e.value < 1"), "progress")
        await expect(uploads).to_contain_text(re.compile(r"\d+%.* of .*/s"))
        await button(uploads, f"Cancel {FILM.path().name}").click()
        await expect(uploads).to_contain_text("Canceled.")
        assert not watched.complaints
    assert len(gateway.api("GET", "/jobs").json()) == known


@pytest.fixture
def domains(gateway: Gateway) -> Iterator[None]:
    """Restores the node's own addresses after the test."""
    yield
    gateway.api("PUT", "/domains", {"pushDNS": "", "pullDNS": ""})


@pytest.mark.usefixtures("domains")
async def test_what_is_typed_during_a_save_stays(browser: Browser, gateway: Gateway) -> None:
    async with signed_in(browser, gateway, "domains") as watched:
        page, answered = watched.page, asyncio.Event()

        async def late(route: Route) -> None:
            if route.request.method == "PUT":
                await answered.wait()
            await route.continue_()

        def stored(response: Response) -> bool:
            return response.request.method == "PUT"

        await page.route("**/domains", late)
        push, watch = page.get_by_label("Push domain"), page.get_by_label("Pull domain")
        await push.fill("push.example.com")
        await button(page, "Save").click()
        await watch.fill("https://live.example.com")
        async with page.expect_response(stored):
            answered.set()
        async with page.expect_response(stored):
            await button(page, "Save").click()
        await expect(button(page, "Save")).to_be_disabled()
        assert gateway.api("GET", "/domains").json() == {
            "pushDNS": "push.example.com",
            "pullDNS": "https://live.example.com",
        }
        assert not watched.complaints


@pytest.mark.usefixtures("domains")
async def test_all_addresses_follow_a_change_of_the_domains(browser: Browser, gateway: Gateway, stage: Channel) -> None:
    async with signed_in(browser, gateway, "domains") as watched:
        page = watched.page
        push, watch = page.get_by_label("Push domain"), page.get_by_label("Pull domain")
        await page.get_by_label("Example channel").select_option(label="Main stage")
        await push.fill("http://push.example.com")
        await watch.fill("no domain at all")
        await button(page, "Save").click()
        for field in (push, watch):
            await expect(field).to_have_attribute("aria-invalid", "true")
        await push.fill("push.example.com")
        await watch.fill("https://live.example.com")
        await button(page, "Save").click()
        server = page.get_by_text("rtmp://push.example.com:1935/stream", exact=True)
        await expect(server).to_be_visible()
        await expect(page.get_by_text(f"https://live.example.com/{stage.id}/live.m3u8")).to_be_visible()
        assert gateway.api("GET", "/domains").json() == {
            "pushDNS": "push.example.com",
            "pullDNS": "https://live.example.com",
        }
        assert not await axe(page)
        await button(page, "Copy Push server (RTMP)").click()
        await expect(page.get_by_text("Copied: Push server (RTMP)")).to_be_visible()
        await push.fill("")
        await watch.fill("")
        await button(page, "Save").click()
        await expect(server).to_have_count(0)
        row = page.get_by_role("table", name="Servers").get_by_role("row").nth(1)
        await expect(row).to_contain_text(f"RTMP {gateway.ports['rtmp']}")
        # A single machine is neither primary nor secondary.
        await expect(page.get_by_role("table", name="Servers").get_by_role("columnheader")).to_have_text(["Open ports"])
        await photo(page, "domains")
        assert not watched.complaints


async def test_users_are_added_changed_and_deleted(browser: Browser, gateway: Gateway) -> None:
    async with signed_in(browser, gateway, "users") as watched:
        page = watched.page
        await expect(page.get_by_text("No users yet")).to_be_visible()
        await button(page, "Add a user").click()
        form = page.get_by_role("dialog", name="Add a user")
        await form.get_by_label("User name").fill("eva/1")
        await form.get_by_label("Password", exact=False).first.fill("short")
        await button(form, "Add").click()
        await expect(form.get_by_role("alert")).to_have_count(2)
        await form.get_by_label("User name").fill("eva")
        await form.locator("input[type=password]").fill(SECRET)
        # Nobody becomes an administrator by accident.
        await expect(form.get_by_role("radio", name=re.compile("^Broadcaster"))).to_be_checked()
        await form.get_by_role("radio", name=re.compile("^Administrator")).check()
        await button(form, "Add").click()
        row = page.get_by_role("row").filter(has_text="eva")
        await expect(row).to_be_visible()
        assert not await axe(page)

        async with signed_in(browser, gateway, "users", "eva", SECRET) as hers:
            await expect(hers.page.get_by_text("You are signed in as eva.")).to_be_visible()
            await button(page, "Change the password of eva").click()
            form = page.get_by_role("dialog", name="New password for eva")
            await form.locator("input[type=password]").fill(SECRET + "!")
            await button(form, "Change the password").click()
            await expect(form).to_have_count(0)
            # The old password's session is over: she is asked for the new one.
            await hers.page.reload()
            await expect(hers.page.get_by_label(re.compile("token or password|password", re.I)).first).to_be_visible()

        await button(page, "Delete eva").click()
        await button(page.get_by_role("alertdialog"), "Delete").click()
        await expect(page.get_by_text("No users yet")).to_be_visible()
        assert not watched.complaints


async def test_the_system_view_shows_the_node_and_sets_the_log_level(
    browser: Browser, gateway: Gateway, stage: Channel
) -> None:
    status = gateway.api("GET", "/status").json()
    async with signed_in(browser, gateway, "system") as watched:
        page = watched.page
        for words in ("Ready", status["version"], "Kept in sqlite", f"{gateway.ports['http']}"):
            await expect(page.locator("main").get_by_text(words, exact=True).first).to_be_visible()
        await expect(page.get_by_text("sqlite", exact=True)).to_have_count(0)
        kept = page.locator(".facts > div", has_text="Kept in sqlite")
        await expect(kept).to_contain_text("channels, ")
        await photo(page, "system")
        disk = page.get_by_role("meter", name="Disk")
        await expect(disk).to_have_attribute("aria-valuetext", re.compile(r"free of"))
        traffic = page.get_by_role("img", name=re.compile(r"^Traffic: In [\d.]+\s[kM]bit.s, Out"))
        await traffic.wait_for(timeout=at_most(15_000))
        await comes(lambda: painted(traffic), "a line in the chart of the traffic")
        await page.get_by_label("Level").select_option("debug")
        await expect(page.get_by_text("Log level: Debug")).to_be_visible()
        assert gateway.api("GET", "/log").json() == {"level": "debug"}
        await page.get_by_label("Level").select_option("info")
        await expect(page.get_by_text("Log level: Info")).to_be_visible()
        assert not await axe(page)
        assert not watched.complaints


async def test_without_aws_the_ivs_view_explains_it_and_sends_no_requests(browser: Browser, gateway: Gateway) -> None:
    async with signed_in(browser, gateway, "users") as watched:
        page = watched.page
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        await go(page, "ivs")
        await expect(page.get_by_text("Amazon IVS is not configured on this node")).to_be_visible()
        await expect(button(page, "New IVS channel")).to_be_disabled()
        assert not [url for url in asked if "/ivs/channels" in url]
        assert not watched.complaints


async def test_ivs_channels_can_be_created_used_by_relays_and_deleted(browser: Browser, moto_url: str) -> None:
    need("chromium")
    aws = {
        "AWS_REGION": "eu-central-1", "AWS_ACCESS_KEY_ID": "AKIATEST", "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_EC2_METADATA_DISABLED": "true",
    }  # fmt: skip
    with ivs_api(moto_url) as api, running(**aws, AWS_ENDPOINT_URL=moto_url, AWS_ENDPOINT_URL_IVS=api.url) as gateway:
        channel = gateway.channel(videoname="Main stage", relayURL=["rtmp://relay.example.com/live/hidden-key"])
        async with signed_in(browser, gateway, "ivs") as watched:
            page = watched.page
            await expect(page.get_by_text("No IVS channels yet")).to_be_visible(timeout=at_most(15_000))
            await button(page, "New IVS channel").click()
            form = page.get_by_role("dialog", name="New IVS channel")
            await form.get_by_label("Name").fill("not a name")
            await button(form, "Create").click()
            await expect(form.get_by_role("alert")).to_be_visible()
            await form.get_by_label("Name").fill("world-feed")
            await form.get_by_label("Type").select_option("BASIC")
            await button(form, "Create").click()
            made = page.get_by_role("dialog", name="world-feed was created")
            await expect(made).to_contain_text(KEY)
            await expect(made).to_contain_text("rtmps://")
            assert not await axe(page)
            await button(made, "I have copied the key").click()
            row = page.get_by_role("row").filter(has_text="world-feed")
            await expect(row).to_contain_text("BASIC")
            assert KEY not in await page.content()

            await button(row, "Send a channel to world-feed").click()
            await button(page.get_by_role("dialog", name="Send a channel to world-feed"), "Send it").click()
            await expect(page.get_by_text("The channel is now sent to IVS.")).to_be_visible()
            stored = gateway.api("GET", f"/videostream/{channel.id}").json()
            assert stored["isRelay"] is True
            assert len(stored["relayURL"]) == 2 and stored["relayURL"][1].startswith("arn:aws:ivs:eu-central-1:")

            await button(row, "Delete world-feed").click()
            await button(page.get_by_role("alertdialog"), "Delete").click()
            await expect(page.get_by_text("No IVS channels yet")).to_be_visible()
            assert not watched.complaints


async def test_the_ivs_player_plays_ivs_addresses_and_refuses_others(
    browser: Browser, gateway: Gateway, stage: Channel
) -> None:
    base = f"http://127.0.0.1:{gateway.ports['http']}/{stage.id}/"
    stage.wait_playable("live.m3u8")

    async def serve(route: Route, request: Request) -> None:
        # Amazon's address, with our own live playlist and segments behind it.
        reply = await asyncio.to_thread(http, "GET", base + request.url.rpartition("/")[2])
        headers = {"Access-Control-Allow-Origin": "*", "Content-Type": reply.headers.get("content-type", "")}
        await route.fulfill(status=reply.status, body=reply.body, headers=headers)

    async with signed_in(browser, gateway, "ivs") as watched:
        page = watched.page
        await page.route("https://abc.eu-central-1.playback.live-video.net/**", serve)
        url = page.get_by_label("Playback URL")
        for address, words in (
            ("live.m3u8", "Enter the address of a playlist"),
            ("http://abc.eu-central-1.playback.live-video.net/live.m3u8", "begins with https://"),
            ("https://live-video.net.example.com/live.m3u8", "addresses of Amazon IVS"),
            ("javascript:alert(1)", "begins with https://"),
        ):
            await url.fill(address)
            await button(page, "Play").click()
            await expect(page.get_by_role("alert").filter(has_text=words)).to_be_visible()
            await expect(page.locator("video")).to_have_count(0)
        await url.fill("https://abc.eu-central-1.playback.live-video.net/live.m3u8")
        await button(page, "Play").click()
        await plays(page.locator("video"))
        assert "play=" in page.url
        await button(page, "Close the player").click()
        await expect(page.locator("video")).to_have_count(0)
        await go(page, "ivs?play=https%3A%2F%2Fevil.example.com%2Fx.m3u8")
        await expect(page.get_by_role("alert").filter(has_text="addresses of Amazon IVS")).to_be_visible()
        assert not watched.complaints


@pytest.mark.parametrize(("theme", "language"), [("dark", "zh-CN"), *at_night(("light", "en-US"))])
async def test_every_view_fits_a_phone_and_passes_axe(
    browser: Browser, gateway: Gateway, stage: Channel, theme: str, language: str
) -> None:
    async with (
        signed_in(browser, gateway, "live", viewport=NARROW, color_scheme=theme, locale=language) as watched,
    ):
        page = watched.page
        for view in VIEWS:
            await go(page, view)
            await expect(page.locator("main h1")).not_to_be_empty()
            await expect(page.locator("main .skeleton")).to_have_count(0)
            text = await page.inner_text("main")
            assert not KEYS.findall(re.sub(r"\blive\.\w+", "", text)), view
            assert ("直播" in await page.inner_text("body")) == (language == "zh-CN") or view != "live"
            assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{view} is too wide"
            assert not await axe(page), view
        assert not watched.complaints
