"""Streams over HTTP: FLV, MPEG-TS and HLS, detected by their bytes; and a text for each error."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import web

from gateway.channels.inputs import InputKind, InputSpec
from gateway.formats.flv.reader import FlvReader
from gateway.formats.hls.playlist_reader import Playlist, parse_playlist
from gateway.inputs.pull import hls_pull, http_pull
from gateway.inputs.pull.pull_source import PullSource
from gateway.inputs.splicer import Splicer
from gateway.lib.egress import Egress
from gateway.lib.http_download import DownloadFailed, HttpDownloader
from gateway.media import nal
from gateway.media.track import Codec, Kind
from gateway.ports.errors import OutputError
from tests.support import films, sources
from tests.support.at_night import at_night
from tests.support.inputs import FakeInput, growing, running_source, worker_pool
from tests.support.served_app import served_app
from tests.support.time_outs import at_most

LOOPBACK = ("127.0.0.0/8",)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def film() -> Path:
    return films.film(
        "pulled.mp4", *sources.pictures("320x180", "25"), *sources.tone(), "-t", "4", *sources.X264, "-g", "25", "-bf",
        "2", "-pix_fmt", "yuv420p", *sources.AAC,
    )  # fmt: skip


def converted(folder: Path, name: str, *how: str, loop: tuple[str, ...] = ()) -> Path:
    target = folder / name
    subprocess.run(
        ["ffmpeg", "-v", "error", "-y", *loop, "-i", str(film()), *how, str(target)], check=True, timeout=at_most(60)
    )
    return target


@contextlib.asynccontextmanager
async def origin(folder: Path | None = None, **handlers: Handler) -> AsyncIterator[str]:
    """A web server with the files of a folder below /files/, and handlers by name."""
    app = web.Application()
    for name, handler in handlers.items():
        app.router.add_get(f"/{name}", handler)
    if folder is not None:
        app.router.add_static("/files", folder)
    async with served_app(app) as port:
        yield f"http://127.0.0.1:{port}"


def pull(url: str, allow: tuple[str, ...] = LOOPBACK) -> PullSource:
    services: Any = SimpleNamespace(egress=Egress(allow), tls=None, workers=worker_pool())
    return PullSource(services, InputSpec("p", InputKind.PULL, url=url))


async def fails(url: str, allow: tuple[str, ...] = LOOPBACK, context: FakeInput | None = None) -> str:
    """Returns the error text of a pull that fails."""
    with pytest.raises(OutputError) as caught:
        async with asyncio.timeout(at_most(60)):
            await pull(url, allow).run(context or FakeInput())
    return str(caught.value)


SIGNED = "/exp=1~acl=%2f*~hmac=%28a%29/live.m3u8?Policy=a%2Fb%7E%3D&s=%2b"


@pytest.mark.parametrize("redirects", [False, True])
@pytest.mark.parametrize("kind", ["pull", "picture"])
async def test_signed_addresses_are_requested_as_they_are_written(kind: str, redirects: bool) -> None:
    asked: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.raw_path)
        if request.path == "/begin":
            return web.Response(status=302, headers={"Location": SIGNED})
        return web.Response(status=403)

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    async with served_app(app) as port:
        url = f"http://127.0.0.1:{port}{'/begin' if redirects else SIGNED}"
        if kind == "pull":
            assert await fails(url) == "the server refuses (403)"
        else:
            with pytest.raises(DownloadFailed, match="403"):
                await anext(HttpDownloader(Egress(LOOPBACK), 10.0, 1_000).chunks(url))
    assert asked[-1] == SIGNED


async def test_addresses_with_other_characters_are_quoted() -> None:
    async def answer(request: web.Request) -> web.Response:
        if request.path == "/begin":
            return web.Response(status=302, headers={"Location": "/ä b"})
        return web.Response(status=403 if request.path == "/ä b" else 404)

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    async with served_app(app) as port:
        for path in ("ä b", "begin"):
            assert await fails(f"http://127.0.0.1:{port}/{path}") == "the server refuses (403)", path


def slices(payload: bytes) -> list[bytes]:
    return [u for u in nal.split(payload) if u[0] & 0x1F in (1, 5)]


def check_media(context: FakeInput) -> None:
    """Checks that all frames of the film came, unchanged and in order."""
    original, played = sources.read(film()), context.recorder
    assert [slices(u.payload) for u in played.of(Kind.VIDEO)] == [slices(u.payload) for u in original.of(Kind.VIDEO)]
    heard, expected = [u.payload for u in played.of(Kind.AUDIO)], [u.payload for u in original.of(Kind.AUDIO)]
    assert heard == expected
    for kind in Kind:
        assert all(0 < step < 100 for step in growing(played.of(kind)))
    assert len(played.tracks) == 1


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("a.flv", ("-c", "copy", "-f", "flv")),
        ("a.ts", ("-c", "copy", "-f", "mpegts")),
        ("a.m2ts", ("-c", "copy", "-f", "mpegts", "-mpegts_m2ts_mode", "1")),
    ],
)
async def test_a_stream_is_pulled_unchanged(tmp_path: Path, name: str, how: tuple[str, ...]) -> None:
    converted(tmp_path, name, *how)
    context = FakeInput()
    async with origin(tmp_path) as base:
        assert await fails(f"{base}/files/{name}", context=context) == "the stream has ended"
    check_media(context)


@pytest.mark.parametrize("mode", ["0", "1"])
async def test_an_mpegts_response_may_begin_inside_of_a_packet(tmp_path: Path, mode: str) -> None:
    """As from a server that forwards what it receives. mode: 1: packets of 192 bytes."""
    data = converted(tmp_path, "a.ts", "-c", "copy", "-f", "mpegts", "-mpegts_m2ts_mode", mode).read_bytes()
    context = FakeInput()
    async with origin(a=answering(body=data[-100:] + data, content_type="video/mp2t")) as base:
        assert await fails(f"{base}/a", context=context) == "the stream has ended"
    check_media(context)


@pytest.mark.parametrize(
    ("name", "how", "says"),
    [
        ("a.ts", ("-c:v", "copy", "-c:a", "dca", "-strict", "-2", "-f", "mpegts"), "DTS"),
        ("a.m3u8", ("-c", "copy", "-f", "hls", "-hls_segment_type", "fmp4"), "sound of an unknown codec"),
    ],
)
async def test_sound_that_cannot_be_used_is_named(tmp_path: Path, name: str, how: tuple[str, ...], says: str) -> None:
    converted(tmp_path, name, *how)
    for init in tmp_path.glob("init*"):
        init.write_bytes(init.read_bytes().replace(b"mp4a", b"xxxx").replace(b"esds", b"free"))
    context = FakeInput()
    async with origin(tmp_path) as base, running_source(pull(f"{base}/files/{name}"), context):
        await context.recorder.until(lambda: len(context.recorder.of(Kind.VIDEO)) >= 5)
        stream = context.hub.find("c1")
        assert stream is not None and stream.publisher is not None
        assert stream.publisher.on_air.unusable.left_out_text == f"The encoder sends {says}: choose AAC."


@pytest.mark.parametrize("kind", ["mpegts", *at_night("fmp4")])
async def test_hls_is_pulled_unchanged(tmp_path: Path, kind: str) -> None:
    how = ("-hls_segment_type", kind)
    converted(tmp_path, "a.m3u8", "-c", "copy", "-f", "hls", "-hls_time", "1", "-hls_list_size", "0", *how)
    (tmp_path / "m.m3u8").write_text("#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1,RESOLUTION=320x180\na.m3u8\n")
    context = FakeInput()
    async with origin(tmp_path) as base:
        assert await fails(f"{base}/files/m.m3u8", context=context) == "the stream has ended"
    check_media(context)


async def test_hls_with_separate_sound_is_joined(tmp_path: Path) -> None:
    for name, kind in (("v", "-an"), ("a", "-vn")):
        converted(tmp_path, f"{name}.m3u8", kind, "-c", "copy", "-f", "hls", "-hls_time", "1", "-hls_list_size", "0",
                  "-hls_segment_type", "fmp4", "-hls_fmp4_init_filename", f"{name}.mp4")  # fmt: skip
    (tmp_path / "m.m3u8").write_text(
        '#EXTM3U\n#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="s",NAME="x",DEFAULT=YES,URI="a.m3u8"\n'
        '#EXT-X-STREAM-INF:BANDWIDTH=1,AUDIO="s"\nv.m3u8\n'
    )
    context = FakeInput()
    async with origin(tmp_path) as base:
        assert await fails(f"{base}/files/m.m3u8", context=context) == "the stream has ended"
    check_media(context)


async def test_a_live_playlist_is_followed_over_a_discontinuity(tmp_path: Path) -> None:
    converted(tmp_path, "a.m3u8", "-c", "copy", "-f", "hls", "-hls_time", "1", "-hls_list_size", "0")
    names = [line for line in (tmp_path / "a.m3u8").read_text().splitlines() if line.endswith(".ts")][:2]
    lines = [f"#EXTINF:1,\nfiles/{name}" for name in names]
    known = 1

    async def live(request: web.Request) -> web.Response:
        nonlocal known
        # The first half of the film plays twice: its times jump back.
        shown = [*lines, "#EXT-X-DISCONTINUITY", *lines][:known]
        known += 1
        end = "#EXT-X-ENDLIST\n" if known > 2 * len(lines) + 1 else ""
        text = "\n".join(["#EXTM3U", "#EXT-X-TARGETDURATION:1", "#EXT-X-MEDIA-SEQUENCE:7", *shown, end])
        return web.Response(text=text, content_type="application/vnd.apple.mpegurl")

    context = FakeInput()
    async with origin(tmp_path, live=live) as base:
        assert await fails(f"{base}/live", context=context) == "the stream has ended"
    pictures = context.recorder.of(Kind.VIDEO)
    expected = [slices(u.payload) for u in sources.read(film()).of(Kind.VIDEO)][:50]
    assert [slices(u.payload) for u in pictures] == expected * 2
    assert all(0 < step < 200 for step in growing(pictures)), list(growing(pictures))
    assert len(context.recorder.tracks) == 1


async def test_sound_in_an_unsupported_codec_is_encoded(tmp_path: Path) -> None:
    converted(tmp_path, "a.ts", "-c:v", "copy", "-c:a", "mp2", "-f", "mpegts")
    context = FakeInput()
    async with origin(tmp_path) as base:
        await fails(f"{base}/files/a.ts", context=context)
    tracks = context.recorder.tracks[0]
    assert tracks.audio is not None
    assert tracks.audio.codec is Codec.AAC
    assert len(context.recorder.of(Kind.VIDEO)) == 100
    assert len(context.recorder.of(Kind.AUDIO)) > 170


def answering(status: int = 200, body: bytes = b"", **headers: str) -> Handler:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(status=status, body=body, headers={k.replace("_", "-"): v for k, v in headers.items()})

    return answer


@pytest.mark.parametrize(
    ("handler", "words"),
    [
        (answering(401), "the server wants a user name and a password, or they are wrong (401)"),
        (answering(404), "there is no stream at this address (404)"),
        (answering(418), "the server answers 418"),
        (answering(), "the server sends nothing"),
        (
            answering(body=b"<html>hello" * 40, Content_Type="text/html"),
            "the answer is no FLV, HLS or MPEG-TS but text/html",
        ),
        (answering(body=b"<html>hello" * 40, Content_Type=""), "the answer is no FLV, HLS or MPEG-TS"),
        (answering(302, Location="http://169.254.169.254/latest/meta-data"), "169.254.169.254 is a link-local address"),
        (answering(302, Location="ftp://127.0.0.1/x"), "the server cannot be reached: NonHttpUrlRedirectClientError"),
        (answering(302, Location="/bad"), "the server redirects more than 5 times"),
        (answering(body=b"FLV\1\5\0\0\0\x09\0\0\0\0" + b"\x09\xff\xff\xff" + bytes(600)), "its media are damaged"),
        (answering(body=(b"\x47" + bytes(187)) * 400), "it is not readable media"),
        (answering(body=b"#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI=x\n#EXTINF:1,\na.ts\n"), "its segments are encrypted"),
        (
            answering(body=b"#EXTM3U\n#EXTINF:1,\nhttp://169.254.169.254/a.ts\n#EXT-X-ENDLIST\n"),
            "169.254.169.254 is a link-local address",
        ),
        (answering(body=b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n"), "another protocol"),
        (
            answering(body=b'#EXTM3U\n#EXT-X-MAP:URI="http://169.254.169.254/i"\n#EXTINF:1,\na.m4s\n#EXT-X-ENDLIST\n'),
            "169.254.169.254 is a link-local address",
        ),
        (
            answering(body=b"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nhttp://169.254.169.254/v.m3u8\n"),
            "169.254.169.254 is a link-local address",
        ),
        (
            answering(body=b"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nfile:///etc/passwd\n"),
            "the server cannot be reached: NonHttpUrl",
        ),
        (answering(body=b"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n/bad\n"), "has variants again"),
    ],
)
async def test_a_bad_answer_gives_a_specific_error(handler: Handler, words: str) -> None:
    async with origin(bad=handler) as base:
        text = await fails(f"{base}/bad?token=geheim-geheim")
    assert words in text
    assert "geheim" not in text
    assert text == text.strip()


async def test_a_transport_stream_with_parity_is_pulled_unchanged(tmp_path: Path) -> None:
    data = converted(tmp_path, "a.ts", "-c", "copy", "-f", "mpegts").read_bytes()
    packets = (data[at : at + 188] + bytes(16) for at in range(0, len(data), 188))
    (tmp_path / "parity.ts").write_bytes(b"".join(packets))
    context = FakeInput()
    async with origin(tmp_path) as base:
        assert await fails(f"{base}/files/parity.ts", context=context) == "the stream has ended"
    check_media(context)


async def test_an_unsupported_video_codec_is_named(tmp_path: Path) -> None:
    converted(tmp_path, "a.ts", "-c:v", "mpeg2video", "-c:a", "copy", "-f", "mpegts")
    async with origin(tmp_path) as base:
        words = await fails(f"{base}/files/a.ts")
    assert words == "video codec mpeg2video cannot be carried without decoding"


async def test_flv_of_an_unsupported_codec_is_named(tmp_path: Path) -> None:
    converted(tmp_path, "a.flv", "-c:v", "flv1", "-an")
    async with origin(tmp_path) as base:
        assert await fails(f"{base}/files/a.flv") == "The encoder sends Sorenson H.263: choose H.264 or HEVC."


async def test_old_sound_of_flv_becomes_aac(tmp_path: Path) -> None:
    how = ("-c:v", "copy", "-c:a", "pcm_alaw", "-ar", "8000", "-ac", "1")
    converted(tmp_path, "a.flv", *how, loop=("-stream_loop", "7"))
    context = FakeInput()
    async with origin(tmp_path) as base, running_source(pull(f"{base}/files/a.flv"), context):
        await context.recorder.until(lambda: len(context.recorder.of(Kind.AUDIO)) >= 20)
    audio = context.recorder.tracks[-1].audio
    assert audio is not None and audio.codec is Codec.AAC


async def test_a_transport_stream_with_other_pids_goes_on(tmp_path: Path) -> None:
    first = converted(tmp_path, "a.ts", "-c", "copy", "-f", "mpegts")
    moved = ("-mpegts_start_pid", "0x300", "-output_ts_offset", "4")
    second = converted(tmp_path, "b.ts", "-c", "copy", "-f", "mpegts", *moved)
    (tmp_path / "both.ts").write_bytes(first.read_bytes() + second.read_bytes())
    context = FakeInput()
    async with origin(tmp_path) as base:
        assert await fails(f"{base}/files/both.ts", context=context) == "the stream has ended"
    assert len(context.recorder.of(Kind.VIDEO)) == 200


async def test_a_playlist_that_grows_without_bound_fails() -> None:
    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            await response.write(b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n")
            while True:
                await response.write(b"#EXTINF:1,\nsegment.ts\n" * 10_000)
        return response

    async with origin(endless=endless) as base:
        assert await fails(f"{base}/endless") == "its playlist has more than 4000000 bytes"


async def test_a_server_that_has_started_again_is_followed_from_its_newest_segments(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read: list[int] = []

    async def live(request: web.Request) -> web.Response:
        numbers = range(1, 8) if 104 in read else range(100, 105)
        entries = "".join(f"#EXTINF:1,\nempty?{number}\n" for number in numbers)
        head = f"#EXTM3U\n#EXT-X-TARGETDURATION:0.1\n#EXT-X-MEDIA-SEQUENCE:{numbers[0]}\n"
        return web.Response(text=head + entries)

    async def empty(request: web.Request) -> web.Response:
        read.append(int(request.query_string))
        return web.Response()

    monkeypatch.setattr(hls_pull, "SILENCE_SECONDS", 0.3)
    monkeypatch.setattr(hls_pull, "Splicer", lambda _: Splicer(30))  # else it may end the pull first
    async with origin(live=live, empty=empty) as base:
        assert "no new segment" in await fails(f"{base}/live")
    assert read == [102, 103, 104, 5, 6, 7]


@pytest.mark.parametrize("grows", [False, True])
async def test_an_expensive_playlist_is_read_in_a_thread_and_rarely(
    grows: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads, slept, seconds, sleep = set(), [], itertools.count(0, 1_000), asyncio.sleep

    def parse(text: bytes) -> Playlist:
        threads.add(threading.current_thread())
        return parse_playlist(text)

    async def shorter(delay: float) -> None:
        slept.append(delay)
        await sleep(min(delay, 0.01))

    monkeypatch.setattr(hls_pull, "parse_playlist", parse)
    monkeypatch.setattr(hls_pull, "SILENCE_SECONDS", 0.3)
    monkeypatch.setattr(hls_pull, "Splicer", lambda _: Splicer(30))  # else it may end the pull first
    monkeypatch.setattr(time, "thread_time", lambda: next(seconds))
    monkeypatch.setattr(asyncio, "sleep", shorter)
    known = itertools.count(1)

    async def live(request: web.Request) -> web.Response:
        number = next(known)
        shown = f"#EXT-X-MEDIA-SEQUENCE:{number}\n#EXTINF:1,\nempty\n" if grows and number < 9 else ""
        return web.Response(text=f"#EXTM3U\n#EXT-X-TARGETDURATION:0.1\n{shown}")

    async with origin(live=live, empty=answering()) as base:
        assert "no new segment" in await fails(f"{base}/live")
    assert threads
    assert threading.main_thread() not in threads
    # The pause is twenty times the cost of the last request. Only the first two requests follow at once.
    assert sum(delay > 10_000 for delay in slept) >= next(known) - 4


async def test_endless_tags_do_not_block_other_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    turn, reads = 0, []

    class Reader(FlvReader):
        def receive(self, data: bytes) -> list[tuple[int, int, bytes]]:
            reads.append((turn, len(data)))
            return super().receive(data)

    async def count() -> None:
        nonlocal turn
        while True:
            turn += 1
            await asyncio.sleep(0)

    monkeypatch.setattr(http_pull, "FlvReader", Reader)
    tag = b"\x12\0\0\x01" + bytes(7) + b"\x05\0\0\0\x0c"
    async with origin(tags=answering(body=b"FLV\1\5\0\0\0\x09\0\0\0\0" + tag * 60_000)) as base:
        others = asyncio.create_task(count())
        assert await fails(f"{base}/tags") == "the stream has ended"
        others.cancel()
    assert max(size for _, size in reads) <= 16_384
    assert all(before < after for (before, _), (after, _) in itertools.pairwise(reads))


async def test_a_connection_to_a_private_address_is_refused(tmp_path: Path) -> None:
    async with origin(tmp_path) as base:
        assert "is a loopback address" in await fails(f"{base}/x", allow=())


@pytest.mark.parametrize("begin", [b"", b"FLV\1\5\0\0\0\x09\0\0\0\0", (b"\x47" + bytes(187)) * 3])
async def test_a_hanging_server_fails_after_a_timeout(begin: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    from gateway.inputs.pull import http_client

    monkeypatch.setattr(http_client, "SILENCE_SECONDS", 0.5)

    async def hang(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(begin)
        await asyncio.Event().wait()
        return response

    async with origin(hang=hang) as base:
        assert (await fails(f"{base}/hang")).startswith("no media for ")


async def test_a_file_is_not_published_faster_than_it_plays(tmp_path: Path) -> None:
    converted(tmp_path, "long.ts", "-c", "copy", "-f", "mpegts", loop=("-stream_loop", "9"))
    context = FakeInput()
    async with origin(tmp_path) as base, running_source(pull(f"{base}/files/long.ts"), context):
        await context.recorder.until(lambda: len(context.recorder.of(Kind.VIDEO)) > 300)
        await asyncio.sleep(1)
    assert len(context.recorder.of(Kind.VIDEO)) < 500
