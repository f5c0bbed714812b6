"""Feed, calendar and shared report of a channel: their content, and who gets them."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from xml.etree import ElementTree

import pytest

from gateway.adapters.local.stores import SqliteConsole
from gateway.channels.channel import Channel
from gateway.channels.stream_key import SignatureUse, report_name
from gateway.diagnosis.event_log import EventLog
from gateway.diagnosis.show import Show
from gateway.diagnosis.show_log import KIND, ShowLog
from gateway.formats.atom import NAMESPACE
from gateway.lib.refusals import Refusals
from gateway.lib.tasks import Tasks
from gateway.playback.show_files import PER_MINUTE, ShowFiles
from gateway.ports.errors import StoreUnavailable
from gateway.reports.shared_reports import SharedReports
from tests.support.builders import channel
from tests.support.http import request
from tests.support.playback import SECRETS, Channels, PlaybackServer, playing

START, FAR = 1_800_000_000.123, 4_000_000_000
UPCOMING = {"title": "Final; the <last>", "at": FAR, "text": "Bring friends"}


@pytest.fixture
async def tasks() -> AsyncIterator[Tasks]:
    async with Tasks("test") as tasks:
        yield tasks


async def nothing(query: Any) -> list[Any]:
    return []


async def has_page(channel: str, start: int) -> bool:
    assert start == 1_800_000_000_123
    return channel != "hidden"


@asynccontextmanager
async def showing(folder: Path, *stored: Channel, **options: Any) -> AsyncIterator[PlaybackServer]:
    """Runs a playback server whose channels have had one show each, with a recording."""
    async with SqliteConsole(folder / "console.db") as console:
        for one in stored:
            show = Show(START, "Concert & more", START, end=START + 60, session=1_800_000_000_123)
            show.sample(START + 5, {"hls": 2})
            await console.put(KIND + one.id, show.id, show.stored())
        log = ShowLog(cast(Any, None), console, 1)
        events = cast(EventLog, SimpleNamespace(newest=nothing))
        reports = SharedReports(Channels(*stored), SECRETS, log, events, has_page)
        async with Tasks("shows") as tasks:
            files = ShowFiles(reports.listed, reports.report, Refusals(3), tasks, "https://live.example.com")
            async with playing(*stored, shows=files, **options) as lab:
                yield lab


def link(id: str, show: str = "1800000000123", *, key: str | None = None, expires: int = FAR) -> str:
    key = channel(id).key if key is None else key
    return f"show={show}&sign={SECRETS.sign(report_name(id, key, show), expires, SignatureUse.REPORT)}"


async def test_a_feed_lists_the_shows_with_their_pages(tmp_path: Path):
    async with showing(tmp_path, channel("c1", videoname="Club", slug="club")) as lab:
        reply = await lab.listener.get("/c1/feed.xml")
        root = ElementTree.fromstring(reply.body)
        assert reply.headers["content-type"] == "application/atom+xml; charset=utf-8"
        texts = {name: root.findtext(f"{{{NAMESPACE}}}entry/{{{NAMESPACE}}}{name}") for name in ("title", "published")}
        assert texts == {"title": "Concert & more", "published": "2027-01-15T08:00:00.123Z"}
        found = root.find(f"{{{NAMESPACE}}}entry/{{{NAMESPACE}}}link")
        assert found is not None
        assert found.get("href") == "https://live.example.com/club/vod/1800000000123/"
        assert (await lab.listener.get("/nobody/feed.xml")).status == 404


async def test_the_shows_are_read_once_however_many_viewers_request_the_feed(tasks: Tasks):
    """Each read has two requests to the store of recordings for each show."""
    reads: list[str] = []
    away = True

    async def listed(channel: str) -> Sequence[Mapping[str, Any]]:
        reads.append(channel)
        await asyncio.sleep(0.05)
        if away:
            raise StoreUnavailable("away")
        return []

    files = ShowFiles(listed, cast(Any, None), Refusals(3), tasks)

    async def ask() -> int:
        return (await files.answer(request("/c1/feed.xml"), channel("c1"), "feed.xml")).status

    assert await asyncio.gather(*(ask() for _ in range(100))) == [503] * 100
    assert reads == ["c1"]
    away = False
    assert await asyncio.gather(*(ask() for _ in range(100))) == [200] * 100
    assert await ask() == 200
    assert reads == ["c1", "c1"]


async def test_a_feed_names_no_page_of_a_hidden_session(tmp_path: Path):
    async with showing(tmp_path, channel("hidden")) as lab:
        text = (await lab.listener.get("/hidden/feed.xml")).text
        assert "/hidden/vod/" not in text
        assert text.count('href="https://live.example.com/hidden/"') == 2, "of the feed, and of its show"


async def test_the_calendar_has_the_next_show_only(tmp_path: Path):
    past = {**UPCOMING, "at": 5}
    async with showing(tmp_path, channel("c1", upcoming=UPCOMING), channel("c2", upcoming=past), channel("c3")) as lab:
        reply = await lab.listener.get("/c1/next.ics")
        assert reply.headers["content-type"] == "text/calendar; charset=utf-8"
        assert "SUMMARY:Final\\; the <last>\r\n" in reply.text
        assert "URL:https://live.example.com/c1/\r\n" in reply.text
        assert (await lab.listener.get("/c1/status.json")).text.count("Bring friends") == 1
        for name in ("c2", "c3", "nobody"):
            assert (await lab.listener.get(f"/{name}/next.ics")).status == 404
            assert '"upcoming": null' in (await lab.listener.get(f"/{name}/status.json")).text


PROTECTIONS: dict[str, dict[str, Any]] = {
    "sign": {"playAuth": "sign"},
    "cloudfront": {"playAuth": "cloudfront"},
    "referer": {"refererAllow": ["example.com"]},
    "invalid": {"playAuth": "sing"},
}


FILES = ["feed.xml", "next.ics", "status.json", "report.json", "report.json?show=1800000000123"]


@pytest.mark.parametrize("protection", PROTECTIONS)
@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("live", [False, True])
async def test_viewers_that_the_protection_refuses_get_nothing_of_a_show(
    tmp_path: Path, protection: str, file: str, live: bool
):
    fields = {"upcoming": UPCOMING, "videoname": "Club", **PROTECTIONS[protection]}
    async with showing(tmp_path, channel("c1", **fields)) as lab:
        if live:
            lab.live(**fields)
        reply = await lab.listener.get(f"/c1/{file}", referer="https://evil.example/")
        assert reply.status == 403
        assert not any(word in reply.text for word in ("Final", "Concert", "Club", "1800000000"))


async def test_a_play_sign_opens_feed_and_calendar_and_no_report(tmp_path: Path):
    async with showing(tmp_path, channel("c1", playAuth="sign", upcoming=UPCOMING)) as lab:
        sign = SECRETS.sign("c1", FAR, SignatureUse.PLAY)
        for file in ("feed.xml", "next.ics"):
            reply = await lab.listener.get(f"/c1/{file}?sign={sign}")
            assert reply.status == 200
            assert sign not in reply.text
        assert (await lab.listener.get(f"/c1/report.json?show=1800000000123&sign={sign}")).status == 403


async def test_a_link_shows_its_report_and_nothing_else(tmp_path: Path):
    async with showing(tmp_path, channel("c1", playAuth="sign", upcoming=UPCOMING), channel("c2")) as lab:
        reply = await lab.listener.get(f"/c1/report.json?{link('c1')}")
        assert (reply.status, reply.headers["cache-control"]) == (200, "no-store")
        assert '"peak": 2' in reply.text
        for path in ("feed.xml", "next.ics", "live.m3u8", "status.json", "vod/1800000000123/"):
            assert (await lab.listener.get(f"/c1/{path}?{link('c1')}")).status in (403, 404), path
        for query in (link("c2"), link("c1", "1800000000124"), link("c1", key="9-new"), link("c1", expires=5)):
            assert (await lab.listener.get(f"/c1/report.json?{query}")).status in (403, 429), query
        assert (await lab.listener.get("/c1/report.html")).status == 200


async def test_wrong_links_and_many_reads_of_an_address_are_limited(tmp_path: Path):
    async with showing(tmp_path, channel("c1")) as lab:
        wrong = [(await lab.listener.get(f"/c1/report.json?{link('c2')}")).status for _ in range(5)]
        assert wrong == [403, 403, 403, 429, 429]
        right = [(await lab.listener.get(f"/c1/report.json?{link('c1')}")).status for _ in range(PER_MINUTE)]
        assert set(right[: PER_MINUTE - 5]) == {200}
        assert right[-1] == 429
