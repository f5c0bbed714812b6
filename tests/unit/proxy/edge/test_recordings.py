"""Recordings at an edge: small files are cached, large files are forwarded with ranges, without viewer signatures."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from gateway.cluster.files.request_coalescer import TruncatedBody
from gateway.cluster.members.peers import Peers
from gateway.http.response import Response
from proxy.edge import gateways as asking
from proxy.edge import recordings as keeping
from proxy.edge.gateways import Gateways
from proxy.edge.recordings import EdgeRecordings
from tests.support.edge import storing
from tests.support.holder import Holder, Where, answer, holding
from tests.support.http import request
from tests.support.waiting import until

SEGMENT = "720p/1700000000001.ts"
SESSION = "vod-1700000000000.m3u8"
MOVIE = "mp4/2026/1/2/capture-2026-01-02_03-04-05-1767323045678.mp4"
M3U8 = "application/vnd.apple.mpegurl"
FOR_EVER = {
    "Cache_Control": "public, max-age=31536000, immutable",
    "ETag": '"1-2"',
    "Last_Modified": "Thu, 01 Jan 2026 00:00:00 GMT",
}
GROWING = {**FOR_EVER, "Cache_Control": "public, max-age=2"}


@asynccontextmanager
async def keeping_of(most: int = 64_000_000) -> AsyncIterator[tuple[EdgeRecordings, Holder]]:
    async with holding() as holder, Peers("cluster") as peers:
        gateways = Gateways(asking.configured_gateways([holder.place.address]))
        async with storing(gateways, Where(), peers) as store, EdgeRecordings(store, most) as recordings:
            yield recordings, holder


async def read(response: Response) -> bytes:
    if response.body is None or isinstance(response.body, bytes):
        return response.body or b""
    try:
        return b"".join([piece async for piece in response.body])
    finally:
        await response.body.aclose()  # type: ignore[attr-defined]


async def test_many_viewers_of_a_segment_cause_one_upstream_request() -> None:
    async with keeping_of() as (recordings, holder):
        holder.says[f"c1/vod/{SEGMENT}"] = answer(b"segment", **FOR_EVER)
        found = await asyncio.gather(*(recordings(request("/c1/vod/x"), "c1", SEGMENT) for _ in range(200)))
        assert {(r.status, r.body, r.cache) for r in found} == {(200, b"segment", FOR_EVER["Cache_Control"])}
        await recordings(request("/c1/vod/x"), "c1", SEGMENT)
        assert holder.asked == [f"c1/vod/{SEGMENT}"]


async def test_playlist_urls_get_the_viewers_query_which_is_not_sent_upstream() -> None:
    async with keeping_of() as (recordings, holder):
        text = '#EXTM3U\n#EXT-X-MAP:URI="i.mp4"\n720p/1.ts\nhttps://elsewhere/2.ts\n'
        holder.says[f"c1/vod/{SESSION}"] = answer(text, M3U8, **GROWING)
        plain = await recordings(request(f"/c1/vod/{SESSION}"), "c1", SESSION)
        signed = await recordings(request(f"/c1/vod/{SESSION}?sign=1-a"), "c1", SESSION)
        assert plain.body == text.encode()
        assert signed.body == (
            b'#EXTM3U\n#EXT-X-MAP:URI="i.mp4?sign=1-a"\n720p/1.ts?sign=1-a\nhttps://elsewhere/2.ts\n'
        )
        assert "ETag" in plain.headers and "ETag" not in signed.headers
        assert holder.asked == [f"c1/vod/{SESSION}"]


async def test_conditional_requests_get_304_from_the_cache() -> None:
    async with keeping_of() as (recordings, holder):
        holder.says[f"c1/vod/{SEGMENT}"] = answer(b"segment", **FOR_EVER)
        await recordings(request("/x"), "c1", SEGMENT)
        by_tag = await recordings(request("/x", If_None_Match='"1-2"'), "c1", SEGMENT)
        by_date = await recordings(request("/x", If_Modified_Since=FOR_EVER["Last_Modified"]), "c1", SEGMENT)
        other = await recordings(request("/x", If_None_Match='"other"'), "c1", SEGMENT)
        assert (by_tag.status, by_tag.body, by_date.status, other.status) == (304, None, 304, 200)
        assert len(holder.asked) == 1


async def test_a_range_of_a_large_file_is_forwarded() -> None:
    async with keeping_of() as (recordings, holder):
        said = {**FOR_EVER, "Content_Range": "bytes 5-9/100"}
        holder.says[f"c1/vod/{MOVIE}"] = answer(b"fghij", "video/mp4", "206 Partial Content", **said)
        found = await recordings(request("/x", Range="bytes=5-9", Cookie="a=b"), "c1", MOVIE)
        assert (found.status, found.length, found.headers["Content-Range"]) == (206, 5, "bytes 5-9/100")
        assert found.headers["Accept-Ranges"] == "bytes"
        assert await read(found) == b"fghij"
        assert "range: bytes=5-9" in holder.headers[0].lower() and "cookie" not in holder.headers[0].lower()


async def test_a_head_request_for_a_large_file_is_forwarded() -> None:
    async with keeping_of() as (recordings, holder):
        holder.says[f"c1/vod/{MOVIE}"] = (
            answer(b"12345", "video/mp4", **FOR_EVER).partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
        )
        found = await recordings(request("/x", "HEAD"), "c1", MOVIE)
        assert (found.status, found.body, found.length) == (200, None, 5)
        assert holder.headers[0].startswith("HEAD ")


async def test_a_download_keeps_its_content_disposition() -> None:
    async with keeping_of() as (recordings, holder):
        holder.says[f"c1/vod/{SEGMENT}"] = answer(b"segment", Content_Disposition="attachment", **FOR_EVER)
        found = await recordings(request("/x?download&sign=1-a"), "c1", SEGMENT)
        assert found.headers["Content-Disposition"] == "attachment"
        assert await read(found) == b"segment"
        assert holder.asked == [f"c1/vod/{SEGMENT}?download"]


async def test_a_segment_above_the_cache_limit_is_forwarded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "_MAX_FILE", 1_000)
    async with keeping_of() as (recordings, holder):
        holder.says[f"c1/vod/{SEGMENT}"] = answer(b"x" * 2_000, **FOR_EVER)
        for _ in range(2):
            assert await read(await recordings(request("/x"), "c1", SEGMENT)) == b"x" * 2_000
        assert len(holder.asked) == 3  # the first time it was not known how large it is


async def test_an_interrupted_large_file_is_truncated() -> None:
    async with keeping_of() as (recordings, holder):

        async def say(writer: asyncio.StreamWriter) -> None:
            writer.write(answer(b"x" * 1_000, "video/mp4", **FOR_EVER)[:-10])
            await writer.drain()
            writer.close()

        holder.says[f"c1/vod/{MOVIE}"] = say
        with pytest.raises(TruncatedBody):
            await read(await recordings(request("/x"), "c1", MOVIE))


async def test_a_disconnected_player_ends_the_upstream_request() -> None:
    async with keeping_of() as (recordings, holder):

        async def say(writer: asyncio.StreamWriter) -> None:
            writer.write(answer(b"x" * 1_000, "video/mp4", **FOR_EVER)[:-500])
            await asyncio.Event().wait()

        holder.says[f"c1/vod/{MOVIE}"] = say
        found = await recordings(request("/x"), "c1", MOVIE)
        assert holder.open == 1
        await found.body.aclose()  # type: ignore[union-attr]
        await until(lambda: holder.asked and recordings._files._requests.free == asking._MAX_FILES)


@pytest.mark.parametrize(
    "path", [".hidden.ts", "a/.b/c.mp4", "a//b.ts", "../c2/x.mp4", "a\x00.ts", "film.mp4", "2026.csv", "720p/1.ts"]
)
async def test_paths_that_are_not_recordings_cause_no_upstream_requests(path: str) -> None:
    async with keeping_of() as (recordings, holder):
        found = await recordings(request("/x"), "c1", path)
        assert (found.status, found.body) == (404, b"no such recording\n")
        assert holder.asked == []


async def test_a_missing_recording_is_cached_for_a_moment() -> None:
    async with keeping_of() as (recordings, holder):
        for _ in range(3):
            assert (await recordings(request("/x"), "c1", SEGMENT)).status == 404
        assert len(holder.asked) == 1


async def test_without_an_answering_gateway_recordings_are_503() -> None:
    async with keeping_of() as (recordings, holder):
        await holder.close()
        for path in (SEGMENT, MOVIE):
            found = await recordings(request("/x"), "c1", path)
            assert (found.status, found.headers["Retry-After"]) == (503, "2")


async def test_a_film_is_requested_from_the_film_route() -> None:
    async with keeping_of() as (recordings, holder):
        holder.says[".node/film/films/one/onestream.m3u8"] = answer("#EXTM3U\n", M3U8, **GROWING)
        found = await recordings.serve(request("/vod/films/one/onestream.m3u8"), "films/one/onestream.m3u8", "")
        assert found.status == 200
        assert holder.asked == [".node/film/films/one/onestream.m3u8"]
