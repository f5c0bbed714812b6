"""HLS servers that want a password, ignore byte ranges, or fail now and then: the media come all the same."""

from __future__ import annotations

from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from tests.integration.inputs.test_pull_http import Handler, answering, check_media, converted, fails, origin
from tests.support.inputs import FakeInput

HLS = ("-c", "copy", "-f", "hls", "-hls_time", "1", "-hls_list_size", "0")


def guarded(folder: Path, seen: list[str]) -> Handler:
    """Gives files to those who know the password. seen: gets what others send."""
    known = aiohttp.encode_basic_auth("me", "p@ss:wörd", "latin1")

    async def answer(request: web.Request) -> web.StreamResponse:
        if (sent := request.headers.get("Authorization", "")) != known:
            seen.append(sent)
            return web.Response(status=401)
        return web.FileResponse(folder / request.match_info["name"])

    return answer


async def test_the_password_of_the_address_goes_to_all_files_of_its_origin(tmp_path: Path) -> None:
    converted(tmp_path, "a.m3u8", *HLS)
    context = FakeInput()
    seen: list[str] = []
    strange: list[str] = []
    async with origin(None, **{"files/{name}": guarded(tmp_path, seen)}) as base:
        playlist = (tmp_path / "a.m3u8").read_text()
        (tmp_path / "a.m3u8").write_text(playlist.replace("a1.ts", f"{base}/files/a1.ts"))
        (tmp_path / "m.m3u8").write_text(f"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{base}/files/a.m3u8\n")
        url = base.replace("//", "//me:p%40ss%3Aw%C3%B6rd@")
        assert await fails(f"{url}/files/m.m3u8", context=context) == "the stream has ended"
        check_media(context)
        assert seen == []
        async with origin(None, **{"{name}": guarded(tmp_path, strange)}) as other:
            (tmp_path / "m.m3u8").write_text(f"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{other}/a.m3u8\n")
            assert "(401)" in await fails(f"{url}/files/m.m3u8")
            assert strange == [""]


@pytest.mark.parametrize("length", [None, 500])
async def test_a_server_without_byte_ranges_is_read_from_the_offset_on(tmp_path: Path, length: int | None) -> None:
    """length: the server has ranges, but each has so many bytes more than it should; None: it has no ranges."""
    converted(tmp_path, "a.m3u8", *HLS, "-hls_segment_type", "fmp4", "-hls_flags", "single_file")
    data = (tmp_path / "a.m4s").read_bytes()

    async def answer(request: web.Request) -> web.Response:
        if length is None:
            return web.Response(body=data)
        assert request.http_range.stop is not None
        return web.Response(status=206, body=data[request.http_range.start : request.http_range.stop + length])

    playlist = (tmp_path / "a.m3u8").read_text().replace("a.m4s", "/media")
    context = FakeInput()
    async with origin(a=answering(body=playlist.encode()), media=answer) as base:
        assert await fails(f"{base}/a", context=context) == "the stream has ended"
    check_media(context)
