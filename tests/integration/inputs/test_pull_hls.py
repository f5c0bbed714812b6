"""HLS servers that want a password, ignore byte ranges, or fail now and then: the media come all the same."""

from __future__ import annotations

from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from gateway.inputs.pull import hls_pull
from gateway.inputs.splicer import Splicer
from gateway.media.track import Kind
from tests.integration.inputs.test_pull_http import (
    Handler,
    answering,
    check_media,
    converted,
    fails,
    film,
    origin,
    slices,
)
from tests.support import sources
from tests.support.at_night import at_night
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


@pytest.mark.parametrize("length", [None, *at_night(500)])
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


def failing(folder: Path, failures: dict[str, list[int]]) -> tuple[Handler, list[str]]:
    """Returns a server of files, and the names it was asked for.

    failures: by name, its next answers: a status, 0 for an answer that breaks off, or 200.
    """
    asked: list[str] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        asked.append(name)
        status = failures[name].pop(0) if failures.get(name) else 200
        if status == 200:
            return web.FileResponse(folder / name)
        if status:
            return web.Response(status=status)
        data = (folder / name).read_bytes()
        response = web.StreamResponse(headers={"Content-Length": str(len(data))})
        await response.prepare(request)
        await response.write(data[: len(data) // 3])
        assert request.transport is not None
        request.transport.close()
        return response

    return answer, asked


@pytest.mark.parametrize("how", ["mpegts", *at_night("fmp4")])
async def test_a_request_that_fails_once_is_repeated(tmp_path: Path, how: str) -> None:
    converted(tmp_path, "a.m3u8", *HLS, "-hls_segment_type", how)
    playlist = (tmp_path / "a.m3u8").read_text()
    (tmp_path / "a.m3u8").write_text(playlist.replace("#EXT-X-ENDLIST", ""))
    ends = {"mpegts": ".ts", "fmp4": ".m4s"}[how]
    server, asked = failing(tmp_path, {"a.m3u8": [200, 200, 200, 503], f"a2{ends}": [503], f"a3{ends}": [0]})

    async def live(request: web.Request) -> web.StreamResponse:
        if asked.count("a.m3u8") == 4:
            (tmp_path / "a.m3u8").write_text(playlist)
        return await server(request)

    context = FakeInput()
    async with origin(None, **{"{name}": live}) as base:
        assert await fails(f"{base}/a.m3u8", context=context) == "the stream has ended"
    shown = context.recorder.of(Kind.VIDEO)
    assert [slices(u.payload) for u in shown] == [slices(u.payload) for u in sources.read(film()).of(Kind.VIDEO)[25:]]
    assert len(context.peers) == 1
    assert asked.count(f"a2{ends}") == asked.count(f"a3{ends}") == 2


@pytest.mark.parametrize("how", [*at_night("mpegts"), "fmp4"])
async def test_a_segment_that_fails_twice_leaves_a_gap(tmp_path: Path, how: str) -> None:
    converted(tmp_path, "a.m3u8", *HLS, "-hls_segment_type", how)
    server, _ = failing(tmp_path, {f"a1.{end}": [404, 404] for end in ("ts", "m4s")})
    context = FakeInput()
    async with origin(None, **{"{name}": server}) as base:
        assert await fails(f"{base}/a.m3u8", context=context) == "the stream has ended"
    shown = context.recorder.of(Kind.VIDEO)
    original = [slices(u.payload) for u in sources.read(film()).of(Kind.VIDEO)]
    # In a transport stream, the last pictures before a gap are not complete.
    assert [slices(u.payload) for u in shown] in (original[:23] + original[50:], original[:25] + original[50:])
    assert shown[-50].dts - shown[0].dts == pytest.approx(2 * shown[0].track.timescale, abs=10)
    assert len(context.peers) == len(context.recorder.tracks) == 1


async def test_a_playlist_that_stays_away_ends_the_input_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    converted(tmp_path, "a.m3u8", *HLS)
    (tmp_path / "a.m3u8").write_text((tmp_path / "a.m3u8").read_text().replace("#EXT-X-ENDLIST", ""))
    monkeypatch.setattr(hls_pull, "SILENCE_SECONDS", 0.3)
    monkeypatch.setattr(hls_pull, "Splicer", lambda _: Splicer(30))  # else it may end the pull first
    server, _ = failing(tmp_path, {"a.m3u8": [200, 200, 200, *[404] * 99]})
    async with origin(None, **{"{name}": server}) as base:
        assert await fails(f"{base}/a.m3u8") == "there is no stream at this address (404)"


async def test_segments_that_stay_away_end_the_input_with_their_reason(tmp_path: Path) -> None:
    playlist = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n" + "#EXTINF:1,\nx\n" * 9
    async with origin(a=answering(body=playlist.encode())) as base:
        assert await fails(f"{base}/a") == "there is no stream at this address (404)"


@pytest.mark.parametrize("has_tables", [False, True])
async def test_the_initialization_section_of_mpegts_has_its_tables(tmp_path: Path, has_tables: bool) -> None:
    """RFC 8216 §3.2. has_tables: whether the segments have PAT and PMT as well."""
    playlist = converted(tmp_path, "a.m3u8", *HLS)
    playlist.write_text(playlist.read_text().replace("#EXTINF", '#EXT-X-MAP:URI="init"\n#EXTINF', 1))
    for path in sorted(tmp_path.glob("*.ts")):
        data = path.read_bytes()
        packets = [data[at : at + 188] for at in range(0, len(data), 188)]
        tables = [packet for packet in packets if (packet[1] & 0x1F) << 8 | packet[2] in (0, 0x1000)]
        (tmp_path / "init").write_bytes(b"".join(tables[:2]))
        if not has_tables:
            path.write_bytes(b"".join(packet for packet in packets if packet not in tables))
    context = FakeInput()
    async with origin(tmp_path) as base:
        assert await fails(f"{base}/files/a.m3u8", context=context) == "the stream has ended"
    check_media(context)
