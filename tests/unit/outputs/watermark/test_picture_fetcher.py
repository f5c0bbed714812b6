"""Pictures of watermarks from the web: bounds, redirects, reasons, and the copy that is kept."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from gateway.lib.egress import Egress
from gateway.outputs.watermark.picture_fetcher import FetchedPicture, PictureFetcher, PictureUnavailable
from gateway.outputs.watermark.watermark_assets import WatermarkAssets
from tests.support.builders import channel
from tests.support.served_app import served_app
from tests.support.time_outs import at_most


class Server:
    """A server with a set answer."""

    def __init__(self) -> None:
        self.body = b"picture"
        self.status = 200
        self.asked: list[str] = []
        self.url = ""
        self.hangs = False

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request.path_qs)
        if request.path == "/away":
            raise web.HTTPFound("http://10.1.2.3/secret")
        if request.path == "/file":
            raise web.HTTPFound("file:///etc/passwd")
        if request.path == "/round":
            raise web.HTTPFound("/round")
        if request.path == "/there":
            raise web.HTTPFound("/a.png")
        if request.path == "/endless":
            response = web.StreamResponse()
            await response.prepare(request)
            while True:
                await response.write(bytes(65_536))
        if self.hangs:
            await asyncio.sleep(60)
        return web.Response(body=self.body, status=self.status)


@asynccontextmanager
async def serving() -> AsyncIterator[Server]:
    server = Server()
    app = web.Application()
    app.router.add_get("/{path:.*}", server.answer)
    async with served_app(app) as port:
        server.url = f"http://127.0.0.1:{port}"
        yield server


def pictures(*allow: str) -> PictureFetcher:
    return PictureFetcher(Egress(allow or ("127.0.0.0/8",)))


async def away(from_: PictureFetcher, url: str) -> str:
    with pytest.raises(PictureUnavailable) as caught:
        await from_.fetch(url)
    assert "\n" not in str(caught.value)
    return str(caught.value)


async def test_a_picture_is_fetched_also_by_a_redirect() -> None:
    async with serving() as server:
        assert await pictures().fetch(f"{server.url}/a.png") == FetchedPicture(b"picture")
        assert await pictures().fetch(f"{server.url}/there") == FetchedPicture(b"picture")


async def test_addresses_that_are_not_public_are_refused_before_and_behind_a_redirect() -> None:
    async with serving() as server:
        assert "egress.allow" in await away(pictures("192.0.2.0/24"), f"{server.url}/a.png")
        assert server.asked == []
        assert "10.1.2.3 is a private address" in await away(pictures(), f"{server.url}/away")
        assert await away(pictures(), f"{server.url}/file")


async def test_reasons_name_the_host_and_never_the_rest_of_the_address() -> None:
    async with serving() as server:
        server.status = 404
        said = await away(pictures(), f"{server.url}/a.png?token=secret")
        assert said == "127.0.0.1 answers 404"
        assert "redirects" in await away(pictures(), f"{server.url}/round?token=secret")
    said = await away(pictures(), f"{server.url}/a.png?token=secret")
    assert "127.0.0.1 cannot be reached" in said
    assert "secret" not in said


async def test_the_download_of_a_picture_that_is_too_large_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.outputs.watermark.picture_fetcher._MAX_BYTES", 100_000)
    async with serving() as server:
        async with asyncio.timeout(at_most(20)):
            assert "more than 100000 bytes" in await away(pictures(), f"{server.url}/endless")


async def test_the_download_from_a_silent_server_times_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.outputs.watermark.picture_fetcher._TIMEOUT", 0.2)
    async with serving() as server:
        server.hangs = True
        assert "does not answer within 0.2 s" in await away(pictures(), f"{server.url}/a.png")


async def test_the_last_good_copy_is_shown_while_the_picture_is_unavailable() -> None:
    async with serving() as server:
        kept = pictures()
        await kept.fetch(f"{server.url}/a.png")
        server.status = 500
        assert await kept.fetch(f"{server.url}/a.png") == FetchedPicture(b"picture", "127.0.0.1 answers 500")
        assert await away(kept, f"{server.url}/b.png")


async def test_copies_are_bounded() -> None:
    async with serving() as server:
        server.body = bytes(3_000_000)
        kept = pictures()
        for n in range(15):
            await kept.fetch(f"{server.url}/{n}.png")
        assert kept._cache_bytes == sum(map(len, kept._cache.values())) <= 32_000_000
        server.status = 500
        assert (await kept.fetch(f"{server.url}/14.png")).stale
        assert await away(kept, f"{server.url}/0.png")


async def dressed(dresser: WatermarkAssets) -> None:
    await dresser.wait_for_first_fetch(10)


async def test_the_watermark_keeps_its_picture_when_the_text_changes() -> None:
    async with serving() as server:
        fields = {"isWaterMark": True, "isImageWaterMark": True, "ImageURL": f"{server.url}/a.png"}
        dresser = WatermarkAssets(pictures(), channel(**fields, WaterMarkText="one"))
        assert (dresser.mark.text, dresser.mark.picture) == ("one", b"")
        running = asyncio.ensure_future(dresser.run())
        await dressed(dresser)
        assert dresser.mark.picture == b"picture"
        dresser.changed = False
        dresser.channel_changed(channel(**fields, WaterMarkText="two"))
        assert (dresser.mark.text, dresser.mark.picture, dresser.changed) == ("two", b"picture", True)
        dresser.channel_changed(channel(isWaterMark=True, WaterMarkText="two"))
        assert dresser.mark.picture == b""
        running.cancel()
        await asyncio.wait([running])
    assert server.asked == ["/a.png"]


async def test_without_its_picture_the_watermark_shows_the_text_and_has_a_note() -> None:
    async with serving() as server:
        server.status = 404
        fields = {"isWaterMark": True, "isImageWaterMark": True, "ImageURL": f"{server.url}/a.png"}
        dresser = WatermarkAssets(pictures(), channel(**fields, WaterMarkText="one"))
        running = asyncio.ensure_future(dresser.run())
        await dressed(dresser)
        assert dresser.notes == ["the watermark's picture is not available: 127.0.0.1 answers 404"]
        assert (dresser.mark.text, dresser.mark.picture) == ("one", b"")
        server.status = 200
        dresser.channel_changed(channel(**{**fields, "ImageURL": f"{server.url}/b.png"}, WaterMarkText="one"))
        async with asyncio.timeout(at_most(10)):
            while not dresser.mark.picture:
                await asyncio.sleep(0.01)
        assert dresser.notes == []
        assert dresser.mark.text == "one"
        running.cancel()
        await asyncio.wait([running])


async def test_the_old_watermark_is_shown_until_the_new_picture_loads_or_times_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gateway.outputs.watermark.watermark_assets._MAX_HOLD_SECONDS", 0.05)
    async with serving() as server:
        dresser = WatermarkAssets(pictures(), channel(isWaterMark=True, WaterMarkText="one"))
        running = asyncio.ensure_future(dresser.run())
        await dressed(dresser)
        server.hangs = True
        fields = {"isWaterMark": True, "isImageWaterMark": True, "ImageURL": f"{server.url}/a.png"}
        dresser.channel_changed(channel(**fields, WaterMarkText="two"))
        assert dresser.mark.text == "one"
        async with asyncio.timeout(at_most(10)):
            while dresser.mark.text == "one":
                await asyncio.sleep(0.01)
        assert dresser.mark.picture == b""
        running.cancel()
        await asyncio.wait([running])
