"""Files over HTTP: whole, in ranges, unchanged, and never from outside their folder."""

import asyncio
import os

import pytest

from gateway.adapters.local.objects import LocalObjects
from gateway.playback.recording_files import RecordingFiles
from tests.support.http import serving
from tests.support.time_outs import at_most

DATA = bytes(range(256)) * 4000
CACHE = "public, max-age=60"


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "media"
    (folder / "c1" / "mp4").mkdir(parents=True)
    (folder / "c1" / "mp4" / "film.mp4").write_bytes(DATA)
    (folder / "c1" / "empty.ts").write_bytes(b"")
    (folder / "c1" / "film 高.m3u8").write_text("#EXTM3U\n")
    (folder / "c1" / ".unfinished.mp4").write_bytes(DATA)
    (folder / "c1" / "out").symlink_to(tmp_path / "secret.txt")
    (folder / "c1" / "in.mp4").symlink_to(folder / "c1" / "mp4" / "film.mp4")
    (folder / "c1" / "loop").symlink_to(folder / "c1" / "loop")
    (tmp_path / "secret.txt").write_text("secret")
    os.mkfifo(folder / "c1" / "pipe")
    return folder


def serve(root):
    files = RecordingFiles(LocalObjects(root))
    return serving(lambda request: files.serve(request, request.path[1:], CACHE))


async def test_a_file_is_sent_whole_with_the_headers_for_caches(root):
    async with serve(root) as listener, listener.connect() as wire:
        reply = await wire.get("/c1/mp4/film.mp4")
        assert (reply.status, reply.body) == (200, DATA)
        assert reply.headers["content-type"] == "video/mp4"
        assert reply.headers["content-length"] == str(len(DATA))
        assert reply.headers["cache-control"] == CACHE
        assert (await wire.get("/c1/mp4/film.mp4", "HEAD")).headers["content-length"] == str(len(DATA))
        assert (await wire.get("/c1/film%20%E9%AB%98.m3u8")).headers["content-type"] == "application/vnd.apple.mpegurl"
        assert (await wire.get("/c1/empty.ts")).body == b""
        assert (await wire.get("/c1/in.mp4")).body == DATA


async def test_a_browser_saves_a_file_instead_of_showing_it_where_the_query_asks_for_that(root):
    async with serve(root) as listener, listener.connect() as wire:
        for query in ("?download", "?sign=1-a&download", "?download="):
            reply = await wire.get(f"/c1/mp4/film.mp4{query}")
            assert (reply.body, reply.headers["content-disposition"]) == (DATA, "attachment")
        assert "content-disposition" not in (await wire.get("/c1/mp4/film.mp4?downloads=1")).headers


async def test_ranges_of_a_file(root):
    async with serve(root) as listener, listener.connect() as wire:
        for value, first, end in (("bytes=1-2", 1, 3), ("bytes=300000-", 300_000, len(DATA)), ("bytes=-5", -5, None)):
            reply = await wire.get("/c1/mp4/film.mp4", Range=value)
            assert (reply.status, reply.body) == (206, DATA[first:end])
        assert (await wire.get("/c1/mp4/film.mp4", Range=f"bytes={len(DATA)}-")).status == 416
        tag = (await wire.get("/c1/mp4/film.mp4", "HEAD")).headers["etag"]
        assert (await wire.get("/c1/mp4/film.mp4", Range="bytes=0-0", If_Range=tag)).status == 206
        assert (await wire.get("/c1/mp4/film.mp4", Range="bytes=0-0", If_Range='"old"')).status == 200


async def test_an_unchanged_file_is_not_sent_again(root):
    async with serve(root) as listener, listener.connect() as wire:
        headers = (await wire.get("/c1/mp4/film.mp4", "HEAD")).headers
        assert (await wire.get("/c1/mp4/film.mp4", If_None_Match=f'"x", {headers["etag"]}')).status == 304
        assert (await wire.get("/c1/mp4/film.mp4", If_Modified_Since=headers["last-modified"])).status == 304
        for since in ("Thu, 01 Jan 1970 00:00:00 GMT", "nonsense", "Thu, 99 Jan 99999 00:00:00 GMT"):
            assert (await wire.get("/c1/mp4/film.mp4", If_Modified_Since=since)).status == 200


@pytest.mark.parametrize(
    "path",
    [
        "/c1/none.mp4",
        "/c1",
        "/c1/mp4",
        "/c1/mp4/",
        "/",
        "/c1/.unfinished.mp4",
        "/c1/out",
        "/c1/loop",
        "/c1/pipe",
        "/" + "a" * 300,
    ],
)
async def test_paths_without_a_finished_file_are_not_found(root, path):
    async with serve(root) as listener:
        assert (await listener.get(path)).status == 404


async def test_descriptors_are_closed_even_when_clients_leave(root):
    (root / "big.ts").write_bytes(b"x" * 30_000_000)
    before = len(os.listdir("/proc/self/fd"))
    async with serve(root) as listener:
        for _ in range(5):
            async with listener.connect() as wire:
                await wire.send("GET /big.ts HTTP/1.1\r\nHost: a\r\n\r\n")
                await wire.head()
            assert (await listener.get("/c1/mp4/film.mp4")).status == 200
            async with listener.connect() as wire:
                await wire.send("GET /big.ts HTTP/1.1\r\nHost: a\r\n\r\n")
    async with asyncio.timeout(at_most(10)):  # the last of them is opened by a thread, which may still be at it
        while len(os.listdir("/proc/self/fd")) > before + 1:
            await asyncio.sleep(0.02)
