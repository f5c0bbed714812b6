"""Media that comes in unusual ways over RTMP, seen by players of RTMP, FLV and HLS."""

import asyncio
import contextlib
import itertools
import re
from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any, NamedTuple

import pytest

from gateway.formats import amf0
from tests.support.clients import found, until
from tests.support.gateway import Channel, Gateway, http
from tests.support.hls_rules import changes_of_media
from tests.support.rtmp import (
    AAC_HEADER,
    AGGREGATE,
    AUDIO,
    AVC_HEADER,
    DATA,
    VIDEO,
    Peer,
    connected,
    message,
    metadata,
    picture,
    sound,
)
from tests.support.shared_gateway import shared_gateway
from tests.support.time_outs import at_most
from tests.unit.media.test_picture_colors import HVCC

STARTED = "NetStream.Publish.Start"
# Another resolution's record: a different SPS makes a different track.
OTHER_AVC_HEADER = AVC_HEADER[:-1] + b"\x23"


gateway = shared_gateway(MILLRACE_STREAM__LINGER="0", MILLRACE_STREAM__WAIT_FOR_PUBLISHER="8")


class Tag(NamedTuple):
    kind: int
    time: int
    body: bytes


class FlvViewer:
    """An HTTP/1.0 viewer of live.flv, which gets the raw bytes."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader
        self.tags: list[Tag] = []

    async def read(self) -> Tag:
        """The next tag. IncompleteReadError at the end."""
        head = await self._reader.readexactly(11)
        time = int.from_bytes(head[7:8] + head[4:7], "big")
        body = await self._reader.readexactly(int.from_bytes(head[1:4], "big"))
        assert int.from_bytes(await self._reader.readexactly(4), "big") == 11 + len(body)
        self.tags.append(Tag(head[0], time, body))
        return self.tags[-1]

    async def until(self, body: bytes) -> list[Tag]:
        """All tags up to the one with this body."""
        async with asyncio.timeout(at_most(10)):
            while (await self.read()).body != body:
                pass
        return self.tags

    async def to_end(self) -> list[Tag]:
        with contextlib.suppress(asyncio.IncompleteReadError):
            async with asyncio.timeout(at_most(10)):
                while True:
                    await self.read()
        return self.tags


@contextlib.asynccontextmanager
async def flv(channel: Channel) -> AsyncIterator[FlvViewer]:
    """A viewer that may come before its publisher."""
    reader, writer = await asyncio.open_connection("127.0.0.1", channel.gateway.ports["http"])
    try:
        writer.write(f"GET /{channel.id}/live.flv HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
        viewer = FlvViewer(reader)

        async def begin() -> None:
            assert b" 200 " in (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")[0]
            assert (await reader.readexactly(13))[:3] == b"FLV"

        beginning = asyncio.ensure_future(begin())
        original = viewer.read

        async def read() -> Tag:
            await beginning
            return await original()

        viewer.read = read  # type: ignore[method-assign]
        yield viewer
        beginning.cancel()
    finally:
        writer.transport.abort()


@contextlib.asynccontextmanager
async def publishing(gateway: Gateway, **fields: Any) -> AsyncIterator[tuple[Channel, Peer]]:
    channel = gateway.channel(**fields)
    async with connected(gateway.ports["rtmp"]) as peer:
        assert (await peer.publish(channel.obs_key)).code == STARTED
        await peer.chunk_size(65536)
        await peer.settle(3)  # the packagers have begun: a burst of many GOPs finds them attached
        yield channel, peer


def playlist(channel: Channel, name: str = "live.m3u8") -> str:
    until(lambda: http("GET", channel.url(name)).status == 200, f"{name} is served", 5)
    return http("GET", channel.url(name)).text


def times(tags: list[Tag], kind: int) -> list[int]:
    return [t.time for t in tags if t.kind == kind]


# ---- reads ----


async def test_a_stream_without_viewers_is_complete_for_its_first_viewer(gateway: Gateway) -> None:
    """Until then the publisher is read five times a second, once it has published for five seconds."""
    async with publishing(gateway, isHls=False, isCMAF=False) as (channel, peer):
        await peer.headers()
        async with asyncio.timeout(at_most(30)):
            for n in range(130):
                await peer.body(VIDEO, picture(n, n % 25 == 0), n * 50)
                await asyncio.sleep(0.05)
            async with flv(channel) as viewer:
                for n in range(130, 145):
                    await peer.body(VIDEO, picture(n), n * 50)
                    await asyncio.sleep(0.05)
                tags = await viewer.until(picture(144))
        seen = [t.body for t in tags if t.kind == VIDEO and t.body != AVC_HEADER]
        assert seen == [picture(n, n == 125) for n in range(125, 145)]


# ---- time ----


@pytest.mark.nightly
async def test_timestamps_continue_after_the_32_bit_wrap(gateway: Gateway) -> None:
    """32-bit milliseconds end after 49.7 days; FLV and HLS go on without a jump."""
    async with publishing(gateway, hls_list_size="20") as (channel, peer):
        start = 2**32 - 4000
        async with flv(channel) as viewer:
            await peer.headers(start)
            await peer.film(range(start, start + 6000, 40), gop=25, paced=True)
            tags = await viewer.until(picture(149))
            for kind in (VIDEO, AUDIO):
                shown = times(tags, kind)[2:]
                assert {(b - a) % 2**32 for a, b in pairwise(shown)} <= {40}
        text = playlist(channel)
        assert not changes_of_media(text)
        assert all(float(d) < 1.3 for d in re.findall(r"EXTINF:([0-9.]+)", text))


@pytest.mark.parametrize("back", [150, 5_000, 3_000_000])
async def test_timestamps_that_jump_back_are_repaired(gateway: Gateway, back: int) -> None:
    async with publishing(gateway) as (channel, peer), flv(channel) as viewer:
        await peer.headers(4_000_000)
        await peer.film(range(4_000_000, 4_002_000, 40))
        await peer.film(range(4_002_000 - back, 4_004_000 - back, 40), number=50)
        tags = await viewer.until(picture(99))
        for kind in (VIDEO, AUDIO):
            shown = times(tags, kind)[2:]
            assert all(0 <= b - a <= 200 for a, b in pairwise(shown)), "grows, and without a hole"


async def test_a_gap_in_the_encoders_clock_is_removed_for_viewers(gateway: Gateway) -> None:
    async with publishing(gateway) as (channel, peer), flv(channel) as viewer:
        await peer.headers()
        await peer.film(range(0, 2000, 40))
        await peer.film(range(3_600_000, 3_602_000, 40), number=50)
        shown = times(await viewer.until(picture(99)), VIDEO)
        assert max(b - a for a, b in pairwise(shown)) < 200


async def test_tracks_that_begin_at_different_times_stay_in_sync(gateway: Gateway) -> None:
    """Sound that begins 400 ms after the picture stays 400 ms behind it."""
    async with publishing(gateway) as (channel, peer), flv(channel) as viewer:
        await peer.body(VIDEO, AVC_HEADER)
        for n in range(10):
            await peer.body(VIDEO, picture(n, n == 0), n * 40)
        await peer.body(AUDIO, AAC_HEADER, 400)
        for n in range(10, 20):
            await peer.body(VIDEO, picture(n), n * 40)
            await peer.body(AUDIO, sound(n), n * 40)
        tags = await viewer.until(sound(19))
        by_body = {t.body: t.time for t in tags}
        assert all(by_body[picture(n)] == by_body[sound(n)] for n in range(10, 20))


# ---- order and headers ----


async def test_aggregate_messages_are_split(gateway: Gateway) -> None:
    async with publishing(gateway) as (channel, peer), flv(channel) as viewer:
        await peer.headers()
        await peer.film([0])
        bodies = [(VIDEO, picture(n), 7000 + n * 40) for n in range(1, 6)]
        packed = b""
        for kind, body, time in bodies:
            head = bytes([kind]) + len(body).to_bytes(3, "big") + (time & 0xFFFFFF).to_bytes(3, "big") + b"\0\0\0\0"
            packed += head + body + (11 + len(body)).to_bytes(4, "big")
        await peer.send(message(AGGREGATE, packed, time=40, csid=6, stream=1, size=65536))
        tags = await viewer.until(picture(5))
        assert times(tags, VIDEO)[-5:] == [40, 80, 120, 160, 200], "moved to the aggregate's own time"


async def test_frames_before_their_sequence_header_are_dropped(gateway: Gateway) -> None:
    async with publishing(gateway) as (channel, peer), flv(channel) as viewer:
        for n in range(5):
            await peer.body(VIDEO, picture(n, n == 0), n * 40)
            await peer.body(AUDIO, sound(n), n * 40)
        await peer.headers(200)
        await peer.film(range(200, 1000, 40), number=100, gop=100)
        tags = await viewer.until(picture(119))
        bodies = [t.body for t in tags if t.kind == VIDEO]
        assert bodies[:2] == [AVC_HEADER, picture(100, key=True)]


@pytest.mark.parametrize("kind", [VIDEO, AUDIO])
async def test_a_stream_of_only_video_or_only_audio_plays(gateway: Gateway, kind: int) -> None:
    async with publishing(gateway) as (channel, peer), flv(channel) as viewer:
        header = AVC_HEADER if kind == VIDEO else AAC_HEADER
        await peer.body(kind, header)
        last = b""
        for n in range(150):
            last = picture(n, n % 25 == 0) if kind == VIDEO else sound(n)
            await peer.body(kind, last, n * 40)
        tags = await viewer.until(last)
        assert {t.kind for t in tags} == {kind, DATA}
        assert playlist(channel).count("#EXTINF") >= 3
        assert http("GET", channel.url("master.m3u8")).status == 200


async def test_changed_headers_reach_every_kind_of_viewer(gateway: Gateway) -> None:
    """Another resolution in the middle: new sequence headers, one discontinuity, and the time goes on."""
    async with publishing(gateway, hls_list_size="20") as (channel, peer), flv(channel) as viewer:
        await peer.headers()
        await peer.film(range(0, 3000, 40), gop=25, paced=True)
        async with connected(gateway.ports["rtmp"]) as player:
            await player.play(channel.id)
            await peer.body(VIDEO, OTHER_AVC_HEADER, 3000)
            await peer.film(range(3000, 6000, 40), gop=25, number=75, paced=True)
            tags = await viewer.until(picture(149))
            while (await player.read()).payload != picture(149):
                pass
        assert [t.body for t in tags if t.kind == VIDEO and t.body[1] == 0][-1] == OTHER_AVC_HEADER
        assert OTHER_AVC_HEADER in [m.payload for m in player.heard]
        assert {b - a for a, b in pairwise(times(tags, VIDEO))} <= {0, 40}
        assert playlist(channel).count("#EXT-X-DISCONTINUITY\n") == 1
        media = re.search(r"^video.*$", playlist(channel, "master.m3u8"), re.MULTILINE)
        assert media is not None, playlist(channel, "master.m3u8")
        assert playlist(channel, media[0]).count("#EXT-X-DISCONTINUITY\n") == 1


@pytest.mark.nightly
async def test_repeated_metadata_cause_no_discontinuity(gateway: Gateway) -> None:
    async with publishing(gateway, hls_list_size="20") as (channel, peer), flv(channel) as viewer:
        await peer.headers()
        await peer.film([0], number=1000, gop=1000)
        await viewer.until(sound(1000))
        for second in range(4):
            await peer.body(DATA, metadata(videocodecid=7.0, audiocodecid=10.0, second=float(second)), second * 1000)
            times = range(second * 1000 + 40, second * 1000 + 1040, 40)
            await peer.film(times, gop=25, number=second * 25, paced=True)
        tags = await viewer.until(picture(99))
        assert sum(b"onMetaData" in t.body for t in tags) >= 3
        assert [t.time for t in tags] == sorted(t.time for t in tags)
        assert not changes_of_media(playlist(channel))


@pytest.mark.nightly
async def test_repeated_headers_cause_no_discontinuity(gateway: Gateway) -> None:
    async with publishing(gateway, hls_list_size="20") as (channel, peer):
        for second in range(4):
            await peer.headers(0 if second % 2 else second * 1000)
            await peer.film(range(second * 1000, second * 1000 + 1000, 40), gop=25, number=second * 25, paced=True)
        assert not changes_of_media(playlist(channel))


async def test_timed_data_reaches_viewers(gateway: Gateway) -> None:
    async with publishing(gateway) as (channel, peer), flv(channel) as viewer:
        await peer.headers()
        await peer.film(range(0, 400, 40))
        await viewer.until(sound(9))
        text = amf0.encode("onTextData", {"text": "hello"})
        await peer.body(DATA, text, 390)
        await peer.film(range(400, 800, 40), number=10)
        assert text in [t.body for t in await viewer.until(picture(19))]


# ---- codecs ----

EX_VIDEO = {
    b"hvc1": (HVCC, True),
    b"av01": (
        bytes.fromhex("81050c000a0b00000024cf7f0dbffcff8000"[:8]) + b"\x0a\x0b\0\0\0\x24\xcf\x7f\x0d\xbf\xfc\xff\x80",
        False,
    ),
    b"vp09": (bytes.fromhex("000a820202020000"), False),
}


def hevc(n: int) -> bytes:
    """A picture of one slice: the first one is IDR_W_RADL, the others are TRAIL_R."""
    return b"\0\0\0\x08" + (b"\x02\x01" if n else b"\x26\x01") + (1 << 47 | n).to_bytes(6, "big")


@pytest.mark.parametrize("fourcc", list(EX_VIDEO))
async def test_enhanced_rtmp_video_is_forwarded_unchanged(gateway: Gateway, fourcc: bytes) -> None:
    config, has_cts = EX_VIDEO[fourcc]
    async with publishing(gateway) as (channel, peer), flv(channel) as viewer:
        header = b"\x90" + fourcc + config
        await peer.body(VIDEO, header)
        await peer.body(AUDIO, AAC_HEADER)
        bodies = []
        for n in range(30):
            payload = hevc(n) if has_cts else b"\x12\0" + n.to_bytes(6, "big")
            # 1: CodedFrames (with a composition time for HEVC), 3: CodedFramesX
            bodies.append(bytes([0x93 if n == 0 else 0xA3]) + fourcc + payload)
            await peer.body(VIDEO, bodies[-1], n * 40)
            await peer.body(AUDIO, sound(n), n * 40)
        tags = await viewer.until(sound(29))
        seen = [t.body for t in tags if t.kind == VIDEO]
        # Its record is written back the way ffmpeg writes it, with the box's version and flags.
        assert seen[0] == (header if fourcc != b"vp09" else header[:5] + b"\x01\0\0\0" + config)
        assert len(seen) == 31
        assert all(fourcc in body[:5] for body in seen)


async def test_legacy_hevc_is_forwarded(gateway: Gateway) -> None:
    async with publishing(gateway) as (channel, peer), flv(channel) as viewer:
        await peer.body(VIDEO, b"\x1c\x00\x00\x00\x00" + HVCC)
        for n in range(30):
            body = (b"\x1c" if n == 0 else b"\x2c") + b"\x01\0\0\0" + hevc(n)
            await peer.body(VIDEO, body, n * 40)
        tags: list[Tag] = []
        async with asyncio.timeout(at_most(10)):
            while len([t for t in tags if t.kind == VIDEO]) < 31:
                await viewer.read()
                tags = viewer.tags
        assert channel.session()["tracks"][0]["codec"].startswith(("hvc1", "h265", "hevc"))


async def test_enhanced_rtmp_opus_is_forwarded(gateway: Gateway) -> None:
    head = b"OpusHead\x01\x02\x38\x01\x80\xbb\0\0\0\0\0"
    async with publishing(gateway) as (channel, peer), flv(channel) as viewer:
        await peer.body(AUDIO, b"\x90Opus" + head)
        await peer.body(VIDEO, AVC_HEADER)
        for n in range(30):
            await peer.body(VIDEO, picture(n, n == 0), n * 40)
            await peer.body(AUDIO, b"\x91Opus\xfc" + n.to_bytes(4, "big"), n * 40)
        tags = await viewer.until(b"\x91Opus\xfc" + (29).to_bytes(4, "big"))
        assert next(t.body for t in tags if t.kind == AUDIO) == b"\x90Opus" + head


async def test_an_unsupported_track_is_dropped_with_one_log_line(gateway: Gateway) -> None:
    """Device-specific sound comes beside H.264. The video continues alone."""
    async with publishing(gateway) as (channel, peer), flv(channel) as viewer:
        await peer.body(VIDEO, AVC_HEADER)
        for n in range(30):
            await peer.body(VIDEO, picture(n, n == 0), n * 40)
            await peer.body(AUDIO, b"\xf6" + bytes(30), n * 40)
        tags = await viewer.until(picture(29))
        assert {t.kind for t in tags} == {VIDEO, DATA}
        lines = [line for line in gateway.log.splitlines() if channel.id in line and "a track is not published" in line]
        assert len(lines) == 1


async def test_a_push_of_only_unsupported_tracks_ends_cleanly(gateway: Gateway) -> None:
    async with publishing(gateway) as (channel, peer):
        for n in range(30):
            await peer.body(VIDEO, b"\x22" + bytes(100), n * 40)  # Sorenson H.263
        assert channel.session()["state"] == "idle"
        await peer.command("FCUnpublish", 6, None, channel.id)
        assert (await peer.until("NetStream.Unpublish.Success")).level == "status"
        lines = [line for line in gateway.log.splitlines() if channel.id in line and "a track is not published" in line]
        assert len(lines) == 1


async def test_the_log_contains_no_internal_error(gateway: Gateway) -> None:
    assert "Traceback" not in gateway.log
    assert '"level":"error"' not in gateway.log, re.findall(r".*\"level\":\"error\".*", gateway.log)[:3]


@pytest.mark.nightly
async def test_a_publisher_with_constant_track_changes_is_ended_with_a_reason(gateway: Gateway) -> None:
    async with publishing(gateway, isVideo=True, isOnDemand=True) as (channel, peer):
        await peer.headers()

        async def change() -> None:
            for number in itertools.count():
                await peer.body(VIDEO, AVC_HEADER if number % 2 else OTHER_AVC_HEADER, number * 40)
                await peer.film([number * 40], gop=1, number=number)
                await asyncio.sleep(0.05)

        changing = asyncio.ensure_future(change())
        said = None
        async with asyncio.timeout(at_most(30)):
            while said is None:
                with contextlib.suppress(TimeoutError):  # the time-out of one read: the server sends nothing
                    said = await peer.until("onStatus")
        changing.cancel()
        assert (said.code, said.level) == ("NetStream.Publish.Failed", "error")
        assert said.info["description"] == "The tracks keep changing: more than 12 times in 30 s."
        assert await peer.closed()
    until(lambda: gateway.api("GET", f"/videostream/{channel.id}/session").json()["state"] == "idle", "the end")
    folder = gateway.data / "media" / channel.id
    until(lambda: list(folder.glob("mp4/**/*.mp4")), "recordings are there")
    until(lambda: not found(gateway.data / "media/.unfinished", "*.part"), "the recordings are finished")
    assert 1 <= len(list(folder.glob("mp4/**/*.mp4"))) <= 20
    assert 1 <= len(list(folder.glob("720p/*.ts"))) <= 20
    assert '"The tracks keep changing: more than 12 times in 30 s."' in gateway.log


async def test_a_stream_may_change_its_size_a_few_times_a_minute(gateway: Gateway) -> None:
    async with publishing(gateway) as (channel, peer), flv(channel) as viewer:
        await peer.headers()
        for number in range(4):
            await peer.body(VIDEO, AVC_HEADER if number % 2 else OTHER_AVC_HEADER, number * 4000)
            await peer.film(range(number * 4000, number * 4000 + 4000, 40), gop=25, number=number * 100)
            tags = await viewer.until(picture(number * 100 + 99))
        assert sum(t.kind == VIDEO and t.body[1] == 0 for t in tags) == 4  # the very first was replaced at once
