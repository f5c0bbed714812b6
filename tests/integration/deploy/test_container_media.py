"""Media in a real container: every way to push and to play, and the outputs that need workers, fonts or libraries."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image

from gateway.media.track import Kind
from tests.support import films
from tests.support.clients import Program, pull, push, take_of, until
from tests.support.containers import DATA, Container, container, host_address, need_containers, plays, podman, volume
from tests.support.gateway import Channel
from tests.support.media import Film, judge, made_once, quick_ffmpeg
from tests.support.pushing import camera, page
from tests.support.rtmp import self_signed, trusting_anyone
from tests.support.served_folder import served_folder
from tests.support.sources import h264
from tests.support.srt import PATIENT, srt_push
from tests.support.srtla_sender import SrtlaSender
from tests.support.tools import need
from tests.support.whip_client import pictures_of, publishing, watching

# The image takes minutes where no other test has built it.
pytestmark = pytest.mark.nightly

FILM = Film("contained-media", seconds=60)
SECRET_FOLDER = "/run/tls"
GRAY = ("ffmpeg", "-f", "lavfi", "-i", "color=0x808080:s=640x360:r=15", "-t", "60", "-c:v", "libx264", "-g", "15")


@pytest.fixture(scope="module")
def gateway() -> Iterator[Container]:
    need_containers()
    need("ffmpeg")
    with tempfile.TemporaryDirectory() as name, volume() as data:
        files = self_signed(Path(name))
        for path in (Path(name), *files):  # the user of the container must be able to read them
            path.chmod(0o755)
        certificate, key = (f"{SECRET_FOLDER}/{path.name}" for path in files)
        with container(
            data,
            f"--volume={name}:{SECRET_FOLDER}:ro",
            MILLRACE_TLS__CERT=certificate,
            MILLRACE_TLS__KEY=key,
            MILLRACE_EGRESS__ALLOW=host_address(),
            MILLRACE_STREAM__LINGER="1",
            **PATIENT,
        ) as gateway:
            yield gateway


# ---- ways to push ----


def test_rtmp_is_received(gateway: Container) -> None:
    channel = gateway.channel()
    with push(FILM, channel.push):
        plays(channel, FILM)


def test_rtmps_is_received(gateway: Container) -> None:
    channel = gateway.channel()
    with push(FILM, f"rtmps://127.0.0.1:{gateway.ports['rtmps']}/stream/{channel.obs_key}"):
        plays(channel, FILM)


def test_srt_is_received(gateway: Container) -> None:
    channel = gateway.channel()
    with srt_push(FILM, channel.srt_push):
        plays(channel, FILM)


def test_srtla_is_received(gateway: Container) -> None:
    channel = gateway.channel()
    with (
        SrtlaSender(gateway.ports["srtla"], "127.0.0.1") as sender,
        srt_push(FILM, f"srt://127.0.0.1:{sender.port}?streamid=publish:{channel.id}?sign={channel.key}"),
    ):
        plays(channel, FILM)


@pytest.mark.parametrize("scheme", ["ws", "wss"])
async def test_a_push_of_a_page_over_websocket_is_received(scheme: str, gateway: Container) -> None:
    channel, film = gateway.channel(), camera(seconds=12)
    address = f"{scheme}://127.0.0.1:{gateway.ports[scheme]}/stream/{channel.obs_key}"
    async with page(address, **({"ssl": trusting_anyone()} if scheme == "wss" else {})) as pushing:
        await pushing.wait("accepted")
        await pushing.configure(film)
        sending = asyncio.create_task(pushing.film(film, pace=1))
        await asyncio.to_thread(channel.wait_playable, "live.m3u8", timeout=40)
        assert len(await asyncio.to_thread(pictures_of, channel.url("live.m3u8"), 30)) == 30
        sending.cancel()


@pytest.mark.parametrize("tcp", [False, True])
async def test_whip_and_whep_use_the_published_ports(tcp: bool, gateway: Container) -> None:
    channel = gateway.channel()
    units = h264(seconds=20, bframes=0, audio=False).of(Kind.VIDEO)
    async with (
        publishing(f"{channel.url('whip')}?sign={channel.key}", units, audio=False),
        watching(channel.url("whep"), tcp=tcp) as viewer,
    ):
        await viewer.watch(lambda: len(viewer.pictures) >= 60)
        assert len(await asyncio.to_thread(pictures_of, channel.url("live.m3u8"), 30)) == 30


# ---- ways to play ----


def test_every_protocol_plays_the_film(gateway: Container) -> None:
    channel = gateway.channel()
    secure = f"https://127.0.0.1:{gateway.ports['https']}/{channel.id}/live.m3u8"
    urls = [*map(channel.url, ("live.flv", "live.m3u8", "master.m3u8", "manifest.mpd")), secure, channel.rtmp]
    with push(FILM, channel.push):
        channel.wait_playable("live.m3u8", "master.m3u8", "manifest.mpd")
        for url in (*urls, channel.srt):
            with pull(url, seconds=3) as player:
                judge(take_of(player), FILM)


# ---- outputs ----


def output(channel: Channel, name: str) -> dict[str, object]:
    """The state of an output from the API."""
    return next(entry for entry in channel.session()["outputs"] if entry["name"] == name)


def test_a_ladder_is_encoded(gateway: Container) -> None:
    film = Film("contained-720p", seconds=40, size="1280x720", rate=15, gop=15)
    channel = gateway.channel(isCodec=True, codec="libx264", ld=True, sd=True)
    with push(film, channel.push):
        channel.wait_playable("index.m3u8", "360p/index.m3u8", "480p/index.m3u8", timeout=60)
        with pull(channel.url("360p/index.m3u8"), seconds=3) as player:
            assert len(take_of(player).video) >= 30, gateway.log[-2000:]


def area(image: Image.Image, chosen: Callable[[int, int, int], bool]) -> tuple[int, int, int, int]:
    """The box of all pixels that are `chosen` by their colours. Fails if there is none."""
    mask = Image.new("L", image.size)
    mask.putdata([255 * chosen(*pixel) for pixel in image.convert("RGB").get_flattened_data()])
    box = mask.getbbox()
    assert box is not None
    return box


def test_a_watermark_has_chinese_and_arabic_letters_and_a_picture(gateway: Container, tmp_path: Path) -> None:
    Image.new("RGB", (60, 40), (0, 0, 255)).save(tmp_path / "标志 شعار.png")
    with served_folder(tmp_path, "0.0.0.0") as port:
        channel = gateway.channel(
            isWaterMark=True,
            WaterMarkText="直播中\nبث مباشر",
            WaterMarkFontSize=48,
            WaterMarkFontColor="#00ff00",
            WaterMarkLeft=300,
            WaterMarkTop=40,
            isImageWaterMark=True,
            ImageURL=f"http://{host_address()}:{port}/%E6%A0%87%E5%BF%97%20%D8%B4%D8%B9%D8%A7%D8%B1.png",
            ImageWidth=60,
            ImageHeight=40,
        )
        command = [quick_ffmpeg(), "-nostdin", "-v", "error"]
        film = made_once("flv", [*GRAY, "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-f", "flv"])
        with Program([*command, "-re", "-i", str(film), "-c", "copy", "-f", "flv", channel.push]):
            until(
                lambda: channel.session()["state"] == "live" and output(channel, "watermark").get("shown"), "shown", 40
            )
            channel.wait_playable("live.m3u8", timeout=40)
            picture = tmp_path / "picture.png"
            with Program([*command, "-y", "-i", channel.url("live.m3u8"), "-frames:v", "1", str(picture)]) as player:
                player.wait()
    image = Image.open(picture)
    letters = area(image, lambda red, green, blue: green > 170 and red < 110 and blue < 110)
    assert letters[2] - letters[0] > 100, letters
    assert letters[3] - letters[1] > 80, letters
    blue_box = area(image, lambda red, green, blue: blue > 180 and red < 90 and green < 90)
    assert blue_box[2] - blue_box[0] >= 56, blue_box
    assert "no font has" not in gateway.log


def test_a_recording_is_finished_and_stays_for_the_next_container() -> None:
    need_containers()
    film = Film("contained-recording", seconds=8)
    with volume() as data:
        with container(data, MILLRACE_STREAM__LINGER="1") as first:
            channel = first.channel(isVideo=True, video_time="3600", isOnDemand=True)
            with push(film, channel.push) as pushing:
                pushing.wait()
            find = ("find", f"{DATA}/media/{channel.id}", "-name", "*.mp4")
            until(lambda: first.run(*find, expected=None).strip().endswith(".mp4"), "the recording is finished", 40)
            (recording,) = first.run(*find).split()
        with container(data) as second:
            listed = json.loads(second.run("millrace", "channel", "list", "--json"))
            assert [one["id"] for one in listed] == [channel.id]
            again = Channel(second, second.api("GET", f"/videostream/{channel.id}").json())
            assert again.key == channel.key
            path = recording.removeprefix(f"{DATA}/media/{channel.id}/")
            with pull(again.url(f"vod/{path}"), seconds=None) as player:
                judge(take_of(player), film, least=7)
            with push(FILM, again.push):
                plays(again)


def test_the_command_vod_makes_playlists_and_captions(gateway: Container) -> None:
    text = films.scratch_file("contained.srt", "1\n00:00:00,500 --> 00:00:01,500\n你好 مرحبا\n".encode())
    film = films.film(
        "contained.mkv",
        *("-f", "lavfi", "-i", films.PICTURE, "-i", str(text), "-map", "0", "-map", "1", "-c:s", "srt"),
        *("-metadata:s:s:0", "language=chi", "-t", "3", *films.H264),
    )
    podman("cp", str(film), f"{gateway.name}:{DATA}/contained.mkv")
    said = gateway.run("millrace", "vod", f"{DATA}/contained.mkv", "--out", f"{DATA}/films", seconds=120)
    assert "contained.m3u8" in said
    captions = gateway.run("sh", "-c", f"cat {DATA}/films/contained/*.vtt")
    assert "你好 مرحبا" in captions


def test_captions_from_speech_say_that_there_is_no_engine(gateway: Container) -> None:
    channel = gateway.channel(isCaption=True, captionLanguage="en")
    with push(FILM, channel.push):
        channel.wait_live()
        error = until(lambda: output(channel, "captions").get("error"), "an error")
        assert "captions.engine" in str(error)
        plays(channel, FILM)


def test_the_doctor_finds_nothing_missing(gateway: Container) -> None:
    said = gateway.run("millrace", "doctor")
    assert "0 missing" in said, said
    assert "fonts for every script" in said, said
