"""Recordings at an edge: small files once for all, large ones passed on with their ranges, nobody's signature."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from gateway.nodes.flights import Cut
from gateway.nodes.peers import Peers
from gateway.servers.response import Response
from proxy import gateways as asking
from proxy import recordings as keeping
from proxy.gateways import Gateways
from proxy.recordings import Recordings
from tests.support.edge import storing
from tests.support.holder import Holder, Where, answer, holding
from tests.support.http import request, until

M3U8 = "application/vnd.apple.mpegurl"
FOR_EVER = {
    "Cache_Control": "public, max-age=31536000, immutable",
    "ETag": '"1-2"',
    "Last_Modified": "Thu, 01 Jan 2026 00:00:00 GMT",
}
GROWING = {**FOR_EVER, "Cache_Control": "public, max-age=2"}


@asynccontextmanager
async def keeping_of(most: int = 64_000_000) -> AsyncIterator[tuple[Recordings, Holder]]:
    async with holding() as holder, Peers("cluster") as peers:
        gateways = Gateways(asking.upstream([holder.place.address]))
        async with storing(gateways, Where(), peers) as store, Recordings(store, most) as recordings:
            yield recordings, holder


async def read(response: Response) -> bytes:
    if response.body is None or isinstance(response.body, bytes):
        return response.body or b""
    try:
        return b"".join([piece async for piece in response.body])
    finally:
        await response.body.aclose()  # type: ignore[attr-defined]


async def test_a_crowd_for_a_segment_is_one_request_and_the_next_is_none() -> None:
    async with keeping_of() as (recordings, holder):
        holder.says["c1/vod/720p/1.ts"] = answer(b"segment", **FOR_EVER)
        found = await asyncio.gather(*(recordings(request("/c1/vod/x"), "c1", "720p/1.ts") for _ in range(200)))
        assert {(r.status, r.body, r.cache) for r in found} == {(200, b"segment", FOR_EVER["Cache_Control"])}
        await recordings(request("/c1/vod/x"), "c1", "720p/1.ts")
        assert holder.asked == ["c1/vod/720p/1.ts"]


async def test_a_playlist_gets_each_viewers_query_and_its_gateway_none() -> None:
    async with keeping_of() as (recordings, holder):
        text = '#EXTM3U\n#EXT-X-MAP:URI="i.mp4"\n720p/1.ts\nhttps://elsewhere/2.ts\n'
        holder.says["c1/vod/vod-1.m3u8"] = answer(text, M3U8, **GROWING)
        plain = await recordings(request("/c1/vod/vod-1.m3u8"), "c1", "vod-1.m3u8")
        signed = await recordings(request("/c1/vod/vod-1.m3u8?sign=1-a"), "c1", "vod-1.m3u8")
        assert plain.body == text.encode()
        assert signed.body == (
            b'#EXTM3U\n#EXT-X-MAP:URI="i.mp4?sign=1-a"\n720p/1.ts?sign=1-a\nhttps://elsewhere/2.ts\n'
        )
        assert "ETag" in plain.headers and "ETag" not in signed.headers
        assert holder.asked == ["c1/vod/vod-1.m3u8"]


async def test_who_has_it_already_is_told_so_from_memory() -> None:
    async with keeping_of() as (recordings, holder):
        holder.says["c1/vod/1.ts"] = answer(b"segment", **FOR_EVER)
        await recordings(request("/x"), "c1", "1.ts")
        by_tag = await recordings(request("/x", If_None_Match='"1-2"'), "c1", "1.ts")
        by_date = await recordings(request("/x", If_Modified_Since=FOR_EVER["Last_Modified"]), "c1", "1.ts")
        other = await recordings(request("/x", If_None_Match='"other"'), "c1", "1.ts")
        assert (by_tag.status, by_tag.body, by_date.status, other.status) == (304, None, 304, 200)
        assert len(holder.asked) == 1


async def test_a_large_file_is_passed_on_with_its_range() -> None:
    async with keeping_of() as (recordings, holder):
        said = {**FOR_EVER, "Content_Range": "bytes 5-9/100"}
        holder.says["c1/vod/a b.mp4"] = holder.says["c1/vod/a%20b.mp4"] = answer(
            b"fghij", "video/mp4", "206 Partial Content", **said
        )
        found = await recordings(request("/x", Range="bytes=5-9", Cookie="a=b"), "c1", "a b.mp4")
        assert (found.status, found.length, found.headers["Content-Range"]) == (206, 5, "bytes 5-9/100")
        assert found.headers["Accept-Ranges"] == "bytes"
        assert await read(found) == b"fghij"
        assert "range: bytes=5-9" in holder.headers[0].lower() and "cookie" not in holder.headers[0].lower()


async def test_the_head_of_a_large_file_is_its_heads() -> None:
    async with keeping_of() as (recordings, holder):
        holder.says["c1/vod/a.mp4"] = answer(b"12345", "video/mp4", **FOR_EVER).partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
        found = await recordings(request("/x", "HEAD"), "c1", "a.mp4")
        assert (found.status, found.body, found.length) == (200, None, 5)
        assert holder.headers[0].startswith("HEAD ")


async def test_a_download_is_a_download() -> None:
    async with keeping_of() as (recordings, holder):
        holder.says["c1/vod/1.ts"] = answer(b"segment", Content_Disposition="attachment", **FOR_EVER)
        found = await recordings(request("/x?download&sign=1-a"), "c1", "1.ts")
        assert found.headers["Content-Disposition"] == "attachment"
        assert await read(found) == b"segment"
        assert holder.asked == ["c1/vod/1.ts?download"]


async def test_a_small_name_with_a_large_file_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "_MOST", 1_000)
    async with keeping_of() as (recordings, holder):
        holder.says["c1/vod/1.ts"] = answer(b"x" * 2_000, **FOR_EVER)
        for _ in range(2):
            assert await read(await recordings(request("/x"), "c1", "1.ts")) == b"x" * 2_000
        assert len(holder.asked) == 3  # the first time it was not known how large it is


async def test_a_large_file_that_breaks_off_is_cut() -> None:
    async with keeping_of() as (recordings, holder):

        async def say(writer: asyncio.StreamWriter) -> None:
            writer.write(answer(b"x" * 1_000, "video/mp4", **FOR_EVER)[:-10])
            await writer.drain()
            writer.close()

        holder.says["c1/vod/a.mp4"] = say
        with pytest.raises(Cut):
            await read(await recordings(request("/x"), "c1", "a.mp4"))


async def test_a_player_that_leaves_lets_the_gateway_go() -> None:
    async with keeping_of() as (recordings, holder):

        async def say(writer: asyncio.StreamWriter) -> None:
            writer.write(answer(b"x" * 1_000, "video/mp4", **FOR_EVER)[:-500])
            await asyncio.Event().wait()

        holder.says["c1/vod/a.mp4"] = say
        found = await recordings(request("/x"), "c1", "a.mp4")
        assert holder.open == 1
        await found.body.aclose()  # type: ignore[union-attr]
        await until(lambda: holder.asked and not recordings._store._at_once)


@pytest.mark.parametrize("path", [".hidden.ts", "a/.b/c.mp4", "a//b.ts", "../c2/x.mp4", "a\x00.ts"])
async def test_what_is_no_recording_is_not_asked_for(path: str) -> None:
    async with keeping_of() as (recordings, holder):
        found = await recordings(request("/x"), "c1", path)
        assert (found.status, found.body) == (404, b"no such recording\n")
        assert holder.asked == []


async def test_what_is_not_there_is_asked_for_once_in_a_moment() -> None:
    async with keeping_of() as (recordings, holder):
        for _ in range(3):
            assert (await recordings(request("/x"), "c1", "1.ts")).status == 404
        assert len(holder.asked) == 1


async def test_while_no_gateway_answers_nothing_is_called_absent() -> None:
    async with keeping_of() as (recordings, holder):
        await holder.close()
        for path in ("1.ts", "a.mp4"):
            found = await recordings(request("/x"), "c1", path)
            assert (found.status, found.headers["Retry-After"]) == (503, "2")


async def test_a_film_is_asked_for_as_a_film() -> None:
    async with keeping_of() as (recordings, holder):
        holder.says[".node/film/films/one/onestream.m3u8"] = answer("#EXTM3U\n", M3U8, **GROWING)
        found = await recordings.serve(request("/vod/films/one/onestream.m3u8"), "films/one/onestream.m3u8", "")
        assert found.status == 200
        assert holder.asked == [".node/film/films/one/onestream.m3u8"]
