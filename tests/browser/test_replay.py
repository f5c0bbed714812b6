"""The replay of the last session on the watch page, and the pages of sessions, with real pushes."""

import asyncio
import re
import shutil
from pathlib import Path

from playwright.async_api import Browser, expect

from gateway.live.sink import EndReason
from tests.support import films, sources
from tests.support.browser import Watched, axe, opened
from tests.support.clients import probe, push
from tests.support.console import signed_in
from tests.support.gateway import Channel, Gateway
from tests.support.media import SMALL_BFRAMES
from tests.support.recording import RunningArchive, stream_of
from tests.support.recording import push as push_units
from tests.support.shared_gateway import shared_gateway
from tests.support.time_outs import at_most

gateway = shared_gateway("chromium", "ffmpeg", films=[SMALL_BFRAMES], MILLRACE_STREAM__LINGER="1")


def recorded(gateway: Gateway, **fields: object) -> Channel:
    """A new channel whose sessions are recorded."""
    return gateway.channel(videoname="Main stage", isOnDemand=True, isFlv=True, ondemand_time="1", **fields)


async def shows(watched: Watched, *, replay: bool) -> None:
    """Returns once the page plays the last session, or the live stream."""
    await watched.page.wait_for_function(
        "(replay) => { const stage = document.querySelector('#stage');"
        " return stage.dataset.state === 'live' && stage.hasAttribute('data-replay') === replay; }",
        arg=replay,
        timeout=at_most(60_000),
    )
    await watched.plays()


async def test_a_push_is_replayed_from_its_start_and_the_next_push_is_shown_live(
    browser: Browser, gateway: Gateway
) -> None:
    channel = recorded(gateway)
    with push(SMALL_BFRAMES, channel.push, loop=True):
        await asyncio.to_thread(channel.wait_live)
        async with opened(browser, channel.url("")) as watched:
            await shows(watched, replay=False)
            cue = gateway.api("POST", f"/videostream/{channel.id}/cues", {"type": "out", "seconds": 2})
            assert cue.status == 202
            await watched.plays_past(6)
    page_of_live = watched
    assert not page_of_live.complaints
    async with opened(browser, channel.url("")) as watched:
        await shows(watched, replay=True)
        page = watched.page
        assert (await watched.video())["time"] < 5
        await expect(page.locator("#badge")).to_contain_text("Recorded on")
        await expect(page.locator("#replay")).to_contain_text("Recorded on")
        await expect(page.locator(".break-chapters button")).to_have_count(3)
        assert not await axe(page)
        await page.locator("#stage").hover()
        speed = page.get_by_label("Speed")
        await speed.select_option("2×")
        assert await page.evaluate("document.querySelector('video').playbackRate") == 2
        first = await page.locator("#replay a").get_attribute("href")
        with push(SMALL_BFRAMES, channel.push, loop=True):
            await shows(watched, replay=False)
            await expect(page.locator("#replay")).to_be_hidden()
            assert await page.locator(".time-clock").count() == 0
            await expect(speed).to_have_count(0)
            assert await page.evaluate("document.querySelector('video').playbackRate") <= 1.1  # it may catch up
        await shows(watched, replay=True)
        assert await page.locator("#replay a").get_attribute("href") != first  # it is the new session
        assert not watched.complaints


async def test_the_page_of_a_session_plays_shares_and_downloads_it(browser: Browser, gateway: Gateway) -> None:
    channel = recorded(gateway)
    with push(SMALL_BFRAMES, channel.push, loop=True):
        await asyncio.to_thread(channel.wait_live)
        async with opened(browser, channel.url("")) as watched:
            await watched.plays_past(5)
    async with opened(browser, channel.url("")) as watched:
        await shows(watched, replay=True)
        page = watched.page
        await page.get_by_role("link", name="Page of this recording").click()
        await page.get_by_role("button", name="Play").first.click()
        await watched.plays()
        await expect(page.get_by_role("heading", name="Main stage")).to_be_visible()
        picture = await page.locator("meta[property='og:image']").get_attribute("content")
        assert picture == f"{page.url}poster.jpg"
        assert (await page.request.get(picture)).headers["content-type"] == "image/jpeg"
        async with page.expect_download() as downloading:
            await page.get_by_role("link", name="Download as MP4").click()
        file = await (await downloading.value).path()
        assert set(await asyncio.to_thread(probe, file)) == {"video", "audio"}
        assert not await axe(page)
        assert not watched.complaints


async def test_a_session_is_renamed_hidden_and_trimmed_in_the_console(browser: Browser, gateway: Gateway) -> None:
    channel = recorded(gateway)
    with push(SMALL_BFRAMES, channel.push, loop=True):
        await asyncio.to_thread(channel.wait_live)
        async with opened(browser, channel.url("")) as watched:
            await watched.plays_past(8)
    async with (
        opened(browser, channel.url("")) as viewer,
        signed_in(browser, gateway, f"#/recordings?channel={channel.id}") as watched,
    ):
        await shows(viewer, replay=True)
        page = watched.page
        await page.get_by_role("button", name="Play: On-demand session").click()
        dialog = page.get_by_role("dialog")
        await expect(dialog.locator("dt", has_text="Most viewers at a time")).to_be_visible()
        report = dialog.get_by_role("link", name="Report of the show")
        assert re.search(rf"#/channels/{channel.id}/shows/\d{{13}}$", await report.get_attribute("href") or "")
        await dialog.get_by_role("button", name="Edit").click()
        await dialog.get_by_label("Title").fill("Opening <night>")
        await dialog.get_by_role("button", name="Save").click()
        await expect(dialog.get_by_role("heading", name="Opening <night>")).to_be_visible()
        await expect(viewer.page.locator("#replay")).to_contain_text("Opening <night>", timeout=at_most(40_000))
        assert not await axe(page)

        await dialog.get_by_role("button", name="Trim").click()
        await dialog.get_by_label("From").fill("0:01")
        await dialog.get_by_label("To", exact=True).fill("0:05.5")
        await dialog.get_by_label("Title of the video").fill("The first minute")
        await dialog.get_by_role("button", name="Make a video").click()
        await dialog.get_by_role("link", name="To the videos").wait_for()
        assert not await axe(page)

        await dialog.get_by_role("button", name="Edit").click()
        await dialog.get_by_role("switch", name="Hidden").click()
        await expect(dialog.get_by_role("switch", name="Hidden")).to_be_checked()
        await expect(dialog.get_by_role("link", name="Open its page")).to_be_hidden()
        await viewer.page.wait_for_function(
            "() => !document.querySelector('#stage').hasAttribute('data-replay')", timeout=at_most(40_000)
        )
        assert not watched.complaints
    job = gateway.api("GET", "/jobs").json()[0]
    while job["state"] in ("SUBMITTED", "PROGRESSING"):
        await asyncio.sleep(0.3)
        job = gateway.api("GET", f"/jobs/{job['id']}").json()
    assert job["state"] == "COMPLETE", job
    (film,) = gateway.api("GET", "/films").json()
    assert film["title"] == "The first minute"
    assert 4.4 <= film["duration"] <= 6.5


async def test_a_session_whose_sound_stops_plays_to_its_end(browser: Browser, gateway: Gateway, tmp_path: Path) -> None:
    """A call interrupts the microphone of a phone, while its pictures go on."""
    film = sources.read(films.uneven("stopped.flv", (0, 60), (0, 12), "-c:a", "aac", "-g", "10"))
    async with RunningArchive(tmp_path).open() as archive:
        stream = stream_of(ondemand_time=1)
        output = archive.on_demand(stream)
        output.begin(stream)
        running = asyncio.ensure_future(output.run(stream))
        stream.set_tracks(film.tracks.video, film.tracks.audio, {}, False)
        await push_units(stream, film.units)
        stream.end(EndReason.PUBLISHER_GONE)
        await running
        (session,) = archive.files("c1/vod-*.m3u8")
    channel = recorded(gateway)
    shutil.copytree(session.parent, gateway.data / "media" / channel.id)
    start = session.stem.removeprefix("vod-")
    async with opened(browser, channel.url(f"vod/{start}/")) as watched:
        await watched.page.locator("#start").click()
        await watched.page.locator("video").evaluate("(video) => { video.playbackRate = 4; }")
        await watched.page.wait_for_function("() => document.querySelector('video').ended", timeout=at_most(40_000))
        assert not watched.complaints
