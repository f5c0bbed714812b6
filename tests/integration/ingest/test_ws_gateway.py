"""Push over WebSocket into the real program: what viewers get, kicks, keys, TLS, shutdown, and the original's paths."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
import random
import re
import subprocess
import tempfile
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from gateway.media import nal
from gateway.media.h264 import parse_avcc
from gateway.media.track import Kind
from tests.support.at_night import at_night
from tests.support.clients import probe, pull, take_of, until
from tests.support.gateway import Channel, Gateway, http, running
from tests.support.media import VP8, excerpt, framehash_command, parse_framehash
from tests.support.push_messages import end_text
from tests.support.pushing import camera, close_code, page
from tests.support.rtmp import all_tls_ports, trusting_anyone
from tests.support.rtmp_target import RtmpTarget
from tests.support.sources import X264, Source, pictures, tone
from tests.support.time_outs import at_most
from tests.support.tools import need


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    need("ffmpeg", "ffprobe")
    with running(
        **all_tls_ports(tmp_path_factory.mktemp("tls")),
        MILLRACE_WS__COMPATIBLE="127.0.0.1,rtmp://localhost/never",
        MILLRACE_EGRESS__ALLOW="127.0.0.1",
        MILLRACE_STREAM__LINGER="1",
        MILLRACE_STREAM__END_AT_EXPIRY="true",
        MILLRACE_LOG__LEVEL="debug",
    ) as gateway:
        yield gateway


def address(gateway: Gateway, channel: Channel, *, scheme: str = "ws") -> str:
    return f"{scheme}://127.0.0.1:{gateway.ports[scheme]}/stream/{channel.obs_key}"


def seen_hashes(take: list) -> list[str]:  # type: ignore[type-arg]
    return [frame.digest for frame in take]


def webm(folder: Path, *arguments: str, seconds: float = 6) -> bytes:
    """A recording as a MediaRecorder makes it: a live WebM."""
    path = folder / "recording.webm"
    inputs = [*pictures("320x180"), *tone(48000)]
    command = ["ffmpeg", "-nostdin", "-v", "error", *inputs, "-t", str(seconds), *arguments]
    subprocess.run(
        [*command, "-c:a", "libopus", "-f", "webm", "-live", "1", "-y", str(path)], check=True, timeout=at_most(120)
    )
    return path.read_bytes()


async def send_cut(ws: object, data: bytes, seconds: float) -> None:
    """Sends `data` within `seconds`, in pieces of random size."""
    chance, loop = random.Random(3), asyncio.get_running_loop()
    began, at = loop.time(), 0
    while at < len(data):
        size = chance.choice([1, 7, chance.randint(20, 400), chance.randint(400, 9000)])
        await ws.send(data[at : at + size])  # type: ignore[attr-defined]
        at += size
        await asyncio.sleep(max(0.0, began + at / len(data) * seconds - loop.time()))


# ---- what viewers get ----


async def test_webcodecs_frames_are_forwarded_unchanged(gateway: Gateway) -> None:
    film = camera(seconds=6)
    channel = gateway.channel()
    async with page(address(gateway, channel)) as pushing:
        await pushing.configure(film)
        sending = asyncio.create_task(pushing.film(film, pace=1))  # the first picture announces the tracks
        viewer = pull(channel.url("live.flv"), seconds=None)
        await sending
        await pushing.send(end_text())
        assert await pushing.closed() == 1000
        take = await asyncio.to_thread(take_of, viewer)
    source = await asyncio.to_thread(_hashes, film)
    excerpt(seen_hashes(take.video), source, least=4 * 30)
    assert take.audio, "and sound"
    ends = (take.video[-1].time - take.video[0].time, take.audio[-1].time - take.audio[0].time)
    assert abs(ends[0] - ends[1]) < 0.2


def _hashes(film: Source) -> list[str]:
    """Returns the hashes of the decoded pictures, computed by ffmpeg's framehash."""
    assert film.tracks.video is not None
    avcc = parse_avcc(film.tracks.video.config)
    stream = nal.join_annexb([*avcc.sps, *avcc.pps])
    stream += b"".join(nal.join_annexb(nal.split(unit.payload)) for unit in film.of(Kind.VIDEO))
    with tempfile.NamedTemporaryFile(suffix=".h264") as file:
        file.write(stream)
        file.flush()
        done = subprocess.run(framehash_command(file.name), capture_output=True, check=True, timeout=at_most(60))
    return [frame.digest for frame in parse_framehash(done.stdout.decode()).video]


def segment_seconds(mpd: str) -> float:
    """The duration of the pictures' segments of an MPD."""
    found = re.search(r'contentType="video".*?<SegmentTemplate timescale="(\d+)"[^>]* duration="(\d+)"', mpd, re.DOTALL)
    assert found, mpd
    return int(found[2]) / int(found[1])


@pytest.mark.nightly
async def test_every_format_plays_a_push_of_frames(gateway: Gateway) -> None:
    film = camera(seconds=12)
    channel = gateway.channel()
    async with page(address(gateway, channel)) as pushing:
        await pushing.configure(film)
        playing = asyncio.create_task(pushing.film(film, pace=1))
        await asyncio.to_thread(channel.wait_playable, "live.m3u8", "master.m3u8", "manifest.mpd")
        for path in ("live.m3u8", "master.m3u8", "manifest.mpd", "live.flv"):
            # From the first segment on, which changes less often than the last one.
            options = ("-live_start_index", "0") if path.endswith(".m3u8") else ()
            found = await asyncio.to_thread(probe, channel.url(path), *options)
            assert (found["video"]["codec_name"], found["audio"]["codec_name"]) == ("h264", "aac"), path
            assert found["audio"]["sample_rate"] == "48000"
            apart = float(found["video"]["start_time"]) - float(found["audio"]["start_time"])
            if path != "live.flv":  # ffmpeg reads the list of the pictures before that of the sound, which may go on
                apart = math.remainder(apart, segment_seconds(http("GET", channel.url("manifest.mpd")).text))
            assert abs(apart) < 0.15, path
        session = channel.session()
        assert session["state"] == "live" and session["publisher"]["protocol"] == "ws"
        metrics = gateway.api("GET", "/metrics").text
        assert 'millrace_publishers{protocol="ws"} 1.0' in metrics
        await playing


@pytest.mark.parametrize(
    ("arguments", "video"),
    [
        ((*VP8, "-b:v", "400k", "-g", "60"), "transcode"),
        *at_night(((*X264, "-tune", "zerolatency", "-g", "30", "-pix_fmt", "yuv420p"), "copy")),
    ],
    ids=["VP8", "H.264"],
)
async def test_a_recording_in_random_pieces_becomes_h264_and_aac(
    gateway: Gateway, tmp_path: Path, arguments: tuple[str, ...], video: str
) -> None:
    container = "webm" if video == "transcode" else "matroska"
    data = await asyncio.to_thread(webm, tmp_path, *arguments) if container == "webm" else _matroska(tmp_path)
    channel = gateway.channel()
    async with page(address(gateway, channel), frames=False) as pushing:
        assert (await pushing.wait("accepted"))["protocol"] == "container"
        sending = asyncio.create_task(send_cut(pushing.ws, data, 4))
        found = await asyncio.to_thread(probe, channel.url("live.flv"))
        assert (found["video"]["codec_name"], found["audio"]["codec_name"]) == ("h264", "aac")
        await sending
        await asyncio.to_thread(until, lambda: pushing.of("stats")[-1]["frames"] > 60, "pictures come out", 30)
        stats = pushing.of("stats")[-1]
        assert (stats["video"], stats["audio"]) == (video, "transcode")


def _matroska(folder: Path) -> bytes:
    """Chromium writes H.264 into what it calls WebM, which ffmpeg's muxer of that name refuses."""
    path = folder / "h264.mkv"
    command = ["ffmpeg", "-nostdin", "-v", "error", *pictures("320x180"), *tone(48000), "-t", "6"]
    command += [*X264, "-tune", "zerolatency", "-g", "30", "-pix_fmt", "yuv420p", "-c:a", "libopus"]
    subprocess.run([*command, "-f", "matroska", "-live", "1", "-y", str(path)], check=True, timeout=at_most(120))
    return path.read_bytes()


@pytest.mark.parametrize("size", [1, 100, 200_000])
async def test_bytes_that_are_not_a_recording_close_the_push_with_a_code(gateway: Gateway, size: int) -> None:
    async with page(address(gateway, gateway.channel()), frames=False) as pushing:
        await pushing.wait("accepted")
        with contextlib.suppress(ConnectionClosed):
            await pushing.send(random.Random(size).randbytes(size))
            if size == 1:
                await pushing.send("and text")
        assert await pushing.closed() in (1003, 4408)
        assert pushing.error["reason"]


# ---- keys and ends ----


@pytest.mark.nightly
async def test_a_kick_a_deletion_or_an_expiry_ends_a_push(gateway: Gateway) -> None:
    film = camera(seconds=4, sound=False)

    async def pushed(channel: Channel, end: object) -> int | None:
        async with page(address(gateway, channel)) as pushing:
            await pushing.configure(film)
            await pushing.film(film)
            await asyncio.to_thread(channel.wait_live)
            if callable(end):
                end()
            else:
                for shift in itertools.count(4000, 4000):
                    with contextlib.suppress(Exception):
                        await pushing.film(film, pace=4, shift=shift)
                    if pushing.code is not None:
                        break
            code = await pushing.closed()
            assert pushing.error["code"] == code
            return code

    kicked, deleted = gateway.channel(), gateway.channel()
    soon = datetime.now(UTC) + timedelta(seconds=4)
    expiring = gateway.channel(outdate=soon.isoformat(timespec="seconds"))
    assert await pushed(kicked, lambda: gateway.api("DELETE", f"/videostream/{kicked.id}/session")) == 4410
    assert await pushed(deleted, lambda: gateway.api("DELETE", f"/videostream/{deleted.id}")) == 4410
    assert await pushed(expiring, None) == 4410
    assert await close_code(address(gateway, expiring)) == 4401
    assert await close_code(address(gateway, deleted)) == 4401


async def test_rtmp_and_websocket_cannot_push_to_one_channel_at_once(gateway: Gateway) -> None:
    from tests.support.rtmp import connected

    film = camera(seconds=2, sound=False)
    channel = gateway.channel()
    async with page(address(gateway, channel)) as pushing:
        await pushing.configure(film)
        await pushing.film(film)
        async with connected(gateway.ports["rtmp"]) as peer:
            said = await peer.publish(channel.obs_key)
            assert said.code == "NetStream.Publish.BadName"


async def test_a_push_can_use_tls(gateway: Gateway) -> None:
    film = camera(seconds=2)
    channel = gateway.channel()
    async with page(address(gateway, channel, scheme="wss"), ssl=trusting_anyone()) as pushing:
        await pushing.configure(film)
        await pushing.film(film, pace=2)
        assert channel.session()["publisher"]["protocol"] == "wss"
        await pushing.send(end_text())
        assert await pushing.closed() == 1000
    code = await close_code(address(gateway, gateway.channel(), scheme="wss") + "0", ssl=trusting_anyone())
    assert code == 4401


async def test_no_key_is_in_the_log(gateway: Gateway) -> None:
    channel = gateway.channel()
    async with page(address(gateway, channel)) as pushing:
        await pushing.wait("accepted")
    assert await close_code(address(gateway, channel) + "0") == 4401
    secret = channel.key.partition("-")[2]
    assert secret not in gateway.log


async def test_a_signal_closes_pushes_with_1001_and_ends_the_program(tmp_path: Path) -> None:
    film = camera(seconds=2)
    with running() as own:
        channel = own.channel()
        async with page(address(own, channel)) as pushing:
            await pushing.configure(film)
            await pushing.film(film, pace=2)
            own.process.terminate()
            assert await pushing.closed() == 1001
            assert pushing.error["reason"] == "The server is shutting down."
        assert await asyncio.to_thread(own.process.wait, 20) == 0


# ---- the original browser client ----


def original(gateway: Gateway, target: str, codec: str | None = "h264") -> str:
    return f"ws://127.0.0.1:{gateway.ports['ws']}/rtmps/" + (f"{codec}/" if codec else "") + target


@pytest.mark.parametrize("codec", ["h264", *at_night("vp8o", None)])
async def test_the_original_client_pushes_to_a_listed_target(
    gateway: Gateway, tmp_path: Path, codec: str | None
) -> None:
    data = await asyncio.to_thread(_matroska, tmp_path)
    async with RtmpTarget(app="app") as target:
        async with page(original(gateway, target.url("sk_secret_1"), codec), frames=False) as pushing:
            await send_cut(pushing.ws, data, 3)
            session = await target.session(media=60)
            assert session.name == "sk_secret_1"
            assert pushing.texts[0] == "MSG: Connected to server"
            assert pushing.texts[1].startswith("frame=")
            await pushing.ws.close()
        await target.until(lambda: session.finished, "the push ends at the target")
        path = tmp_path / "seen.flv"
        path.write_bytes(session.flv())
        found = await asyncio.to_thread(probe, path)
        assert (found["video"]["codec_name"], found["audio"]["codec_name"]) == ("h264", "aac")
    assert "sk_secret_1" not in gateway.log


async def test_the_original_client_may_push_into_a_channel_of_this_gateway(gateway: Gateway, tmp_path: Path) -> None:
    data = await asyncio.to_thread(_matroska, tmp_path)
    channel = gateway.channel()
    async with page(original(gateway, channel.push), frames=False) as pushing:
        sending = asyncio.create_task(send_cut(pushing.ws, data, 3))
        await asyncio.to_thread(channel.wait_live)
        assert channel.session()["publisher"]["protocol"] == "ws"
        await sending
        gateway.api("DELETE", f"/videostream/{channel.id}/session")
        assert await pushing.closed() == 4410
        assert pushing.texts[0] == "MSG: Connected to server"
        assert pushing.texts[-2:] == ["Ended by an administrator.", "Closing Socket"]


async def test_the_original_client_also_needs_the_key_of_an_own_channel(gateway: Gateway) -> None:
    channel = gateway.channel()
    async with page(original(gateway, channel.push + "0"), frames=False) as pushing:
        assert await pushing.closed() == 4401
        assert pushing.texts[-1] == "Closing Socket"


@pytest.mark.parametrize(
    "target", ["rtmp://192.0.2.1/app/key", "rtmps://evil.example:443/app/sk_1", "rtmp://localhost/app/k"]
)
async def test_a_push_to_an_unlisted_target_is_refused(gateway: Gateway, target: str) -> None:
    with pytest.raises(InvalidStatus) as refused:
        async with page(original(gateway, target), frames=False):
            pass
    assert refused.value.response.status_code == 403


async def test_a_refusal_by_the_target_is_reported_without_the_key(gateway: Gateway, tmp_path: Path) -> None:
    data = await asyncio.to_thread(_matroska, tmp_path)
    no = ("NetStream.Publish.BadName", "sk_secret_2 is in use")
    async with (
        RtmpTarget(app="app", judge=lambda session: no) as target,
        page(original(gateway, target.url("sk_secret_2")), frames=False) as pushing,
    ):
        await send_cut(pushing.ws, data, 3)
        await asyncio.to_thread(until, lambda: "BadName" in "\n".join(pushing.texts), "the trouble is told")
        assert "sk_secret_2" not in "\n".join(pushing.texts)
    assert "sk_secret_2" not in gateway.log


async def test_pushes_to_targets_cannot_be_played_here(gateway: Gateway, tmp_path: Path) -> None:
    data = await asyncio.to_thread(_matroska, tmp_path)
    async with (
        RtmpTarget(app="app") as target,
        page(original(gateway, target.url("sk_secret_3")), frames=False) as pushing,
    ):
        await send_cut(pushing.ws, data, 2)
        await target.session(media=10)
        assert gateway.api("GET", "/videostreams/online").json() == []


# ---- latency ----


async def test_a_picture_reaches_a_viewer_in_less_than_half_a_second(gateway: Gateway) -> None:
    """Half of the pictures arrive before 10 more, of 30 a second, are sent. A busy machine sends more slowly, too."""
    film = camera(seconds=5)
    channel = gateway.channel()
    sent: dict[bytes, int] = {}  # with the number of pictures sent before each
    lags: list[int] = []
    count = 0

    def watch() -> None:
        with urllib.request.urlopen(channel.url("live.flv"), timeout=at_most(30)) as reply:
            tail = b""
            while data := reply.read1(65536):
                now, tail = count, (tail + data)[-200_000:]
                for payload in [p for p in list(sent) if p in tail]:
                    lags.append(now - sent.pop(payload))

    async with page(address(gateway, channel)) as pushing:
        await pushing.configure(film)
        viewer = asyncio.create_task(asyncio.to_thread(watch))
        before = 0
        for unit in film.units:
            await asyncio.sleep((unit.dts - before) / 1000)  # not faster after a delay
            before = unit.dts
            if unit.track.kind is Kind.VIDEO and unit.dts > 2000:
                count += 1
                sent[unit.payload[:64]] = count
            await pushing.film(film, units=[unit])
        await pushing.send(end_text())
        await viewer
    assert len(lags) > 60
    assert sorted(lags)[len(lags) // 2] <= 10
