"""Recordings over HTTP, with ranges, and queries copied."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.adapters.local.objects import LocalObjects
from gateway.playback.recording_files import RecordingFiles, with_query
from gateway.ports.errors import StoreUnavailable
from gateway.ports.stores import Object
from tests.support.http import serving

DATA = bytes(range(256)) * 4000
INDEX = "#EXTM3U\n#EXT-X-VERSION:3\n#EXTINF:4.00000,\n720p/1700000000000.ts\n#EXT-X-ENDLIST\n"


@pytest.fixture
def root(tmp_path):
    (tmp_path / "c1/720p").mkdir(parents=True)
    (tmp_path / "c1/720p/1700000000000.ts").write_bytes(DATA)
    (tmp_path / "c1/vod-1700000000000.m3u8").write_text(INDEX)
    (tmp_path / "c1/.hidden.mp4").write_bytes(DATA)
    (tmp_path / ".unfinished/c1").mkdir(parents=True)
    (tmp_path / ".unfinished/c1/x.mp4").write_bytes(DATA)
    return tmp_path


@pytest.fixture
def serve(root):
    recordings = RecordingFiles(LocalObjects(root))
    return lambda: serving(lambda request: recordings(request, "c1", request.path[1:]))


async def test_media_is_sent_whole_and_marked_as_immutable(serve):
    async with serve() as listener, listener.connect() as wire:
        reply = await wire.get("/720p/1700000000000.ts")
        assert (reply.status, reply.body) == (200, DATA)
        assert reply.headers["content-type"] == "video/mp2t"
        assert "immutable" in reply.headers["cache-control"]
        head = await wire.get("/720p/1700000000000.ts", "HEAD")
        assert (head.status, head.headers["content-length"]) == (200, str(len(DATA)))
        assert (await wire.get("/720p/1700000000000.ts")).body == DATA


async def test_ranges_and_validators(serve):
    async with serve() as listener, listener.connect() as wire:
        for value, first, end in (("bytes=1-2", 1, 3), ("bytes=300000-", 300_000, len(DATA)), ("bytes=-5", -5, None)):
            reply = await wire.get("/720p/1700000000000.ts", Range=value)
            assert (reply.status, reply.body) == (206, DATA[first:end])
        assert reply.headers["content-range"] == f"bytes {len(DATA) - 5}-{len(DATA) - 1}/{len(DATA)}"
        assert (await wire.get("/720p/1700000000000.ts", Range=f"bytes={len(DATA)}-")).status == 416
        tag = reply.headers["etag"]
        assert (await wire.get("/720p/1700000000000.ts", If_None_Match=tag)).status == 304
        assert (await wire.get("/720p/1700000000000.ts", Range="bytes=0-0", If_Range='"old"')).status == 200
        changed = reply.headers["last-modified"]
        assert (await wire.get("/720p/1700000000000.ts", If_Modified_Since=changed)).status == 304
        assert (await wire.get("/720p/1700000000000.ts", If_Modified_Since="nonsense")).status == 200


async def test_a_playlist_is_cached_briefly_and_passes_its_query_to_segments(serve):
    async with serve() as listener, listener.connect() as wire:
        plain = await wire.get("/vod-1700000000000.m3u8")
        assert (plain.status, plain.text) == (200, INDEX)
        assert plain.headers["content-type"] == "application/vnd.apple.mpegurl"
        assert "max-age=2" in plain.headers["cache-control"]
        unchanged = await wire.get("/vod-1700000000000.m3u8", If_None_Match=plain.headers["etag"])
        assert (unchanged.status, unchanged.headers["vary"]) == (304, "Accept-Encoding")
        signed = await wire.get("/vod-1700000000000.m3u8?sign=1-ab&_HLS_msn=3")
        assert "\n720p/1700000000000.ts?sign=1-ab\n" in signed.text
        assert (await wire.get("/vod-1700000000000.m3u8?x=" + "y" * 3000)).status == 414


async def test_a_long_playlist_takes_only_a_query_whose_copies_are_small(root, serve):
    lines = INDEX.split("\n")
    index = "\n".join([*lines[:2], *(lines[2:4] * 10_000), *lines[4:]])
    (root / "c1/vod-1700000000001.m3u8").write_text(index)
    async with serve() as listener, listener.connect() as wire:
        signed = await wire.get("/vod-1700000000001.m3u8?sign=" + "1" * 1_000)
        assert (signed.status, signed.text.count("?sign=")) == (200, 10_000)
        assert (await wire.get("/vod-1700000000001.m3u8?x=" + "y" * 2_000)).status == 414
        assert (await wire.get("/vod-1700000000001.m3u8?x=" + "|" * 1_000)).status == 414
        assert (await wire.get("/vod-1700000000000.m3u8?x=" + "|" * 2_000)).status == 200


@pytest.mark.parametrize(
    "path", ["/none.ts", "/", "/720p", "/720p/", "/.hidden.mp4", "/../.unfinished/c1/x.mp4", "/none.m3u8", "/a%00b.ts"]
)
async def test_paths_without_a_recording_are_not_found(serve, path):
    async with serve() as listener:
        assert (await listener.get(path)).status in (400, 404)


async def test_an_unavailable_store_is_answered_with_503(root):
    class Away(LocalObjects):
        async def head(self, key: str) -> Object:
            raise StoreUnavailable("the bucket does not answer")

    recordings = RecordingFiles(Away(root))
    async with serving(lambda request: recordings(request, "c1", request.path[1:])) as listener:
        for path in ("/720p/1700000000000.ts", "/vod-1700000000000.m3u8"):
            reply = await listener.get(path)
            assert reply.status == 503
            assert "retry-after" in reply.headers


def test_the_query_is_added_to_every_relative_uri():
    text = (
        '#EXTM3U\r\n#EXT-X-MAP:URI="init.mp4",BYTERANGE="1@0"\r\n#EXT-X-MEDIA:TYPE=AUDIO,URI="a/index.m3u8"\n'
        "a.ts\r\nb.ts?x=1\nhttps://elsewhere.example/c.ts\n//elsewhere.example/d.ts\n\n# a comment\n"
    )
    assert with_query(text, "?s=1") == (
        '#EXTM3U\r\n#EXT-X-MAP:URI="init.mp4?s=1",BYTERANGE="1@0"\r\n#EXT-X-MEDIA:TYPE=AUDIO,URI="a/index.m3u8?s=1"\n'
        "a.ts?s=1\r\nb.ts?x=1&s=1\nhttps://elsewhere.example/c.ts\n//elsewhere.example/d.ts\n\n# a comment\n"
    )


@given(st.text(max_size=300))
def test_a_query_changes_nothing_but_uris(text):
    got = with_query(text, "?s=1")
    assert got.count("\n") == text.count("\n")
    assert got.replace("?s=1", "").replace("&s=1", "") == text.replace("?s=1", "").replace("&s=1", "")


async def test_subtitles_have_the_segments_of_their_session(root, serve):
    (root / "c1/vod-1700000000000.master.m3u8").write_text('URI="vod-1700000000000.cc1.m3u8"')
    (root / "c1/720p/1700000000000.text.vtt").write_text("WEBVTT\n\n00:01.000 --> 00:02.000\nx\n")
    async with serve() as listener, listener.connect() as wire:
        reply = await wire.get("/vod-1700000000000.cc1.m3u8?sign=a")
        assert reply.status == 200 and reply.headers["content-type"] == "application/vnd.apple.mpegurl"
        assert reply.body == INDEX.replace(".ts", ".cc1.vtt?sign=a").encode()
        reply = await wire.get("/720p/1700000000000.cc1.vtt")  # this segment has no captions
        assert reply.status == 200 and reply.headers["content-type"].startswith("text/vtt")
        assert reply.body == b"WEBVTT\nX-TIMESTAMP-MAP=MPEGTS:153000,LOCAL:00:00:01.000\n"
        assert (await wire.get("/720p/1700000000000.text.vtt")).body.endswith(b"x\n")
        for path in ("vod-1700000000000.text", "vod-1700000000001.cc1", "vod-1700000000001.master"):
            assert (await wire.get(f"/{path}.m3u8")).status == 404
        for path in ("720p/1700000000001.cc1.vtt", "vod-1700000000000.cc1.vtt", "720p/1700000000000.cc1.m3u8"):
            assert (await wire.get(f"/{path}")).status == 404
