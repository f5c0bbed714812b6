"""Slates that real workers encode: in the form of the publisher's stream, once for all channels."""

import asyncio
import hashlib
import struct
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import av
import pytest
from PIL import Image, ImageChops

from gateway.inputs.slate.slate_library import SlateLibrary
from gateway.inputs.slate.slate_loop import SlateLoop
from gateway.lib.metric_table import WORKER_RESTARTS
from gateway.lib.metrics import Counter
from gateway.media.silence import is_silent
from gateway.media.track import Codec, Kind, MediaTrack, Tracks
from gateway.ports.errors import OutputError
from gateway.settings import load
from gateway.workers.slate_protocol import SlateRequest
from gateway.workers.stream_form import DEFAULT_AUDIO, StreamForm
from gateway.workers.worker_pool import WorkerPool, WorkerProcess
from tests.support import films, sources

TEXT = "We will be right back"


class Workers(WorkerPool):
    """Real workers, of which the first ones die. `started` is their number."""

    def __init__(self, deaths: int = 0) -> None:
        super().__init__(load(environ={}).workers, Counter(WORKER_RESTARTS))
        self.started = 0
        self._deaths = deaths

    @asynccontextmanager
    async def start(self, *args: Any, **options: Any) -> AsyncIterator[WorkerProcess]:
        async with super().start(*args, **options) as worker:
            self.started += 1
            if self.started <= self._deaths:
                worker.kill("a test")
            yield worker


def library(workers: Workers, **changes: Any) -> SlateLibrary:
    values = {"seconds": 60.0, "max_bytes": 16_000_000, "font": "sans", "preset": "ultrafast"} | changes
    return SlateLibrary(workers, SlateRequest(**values))


def form_of(source: sources.Source, **metadata: float) -> StreamForm:
    return StreamForm.of(Tracks(source.tracks.video, source.tracks.audio, 0, dict(metadata)))


def pictures(loop: SlateLoop) -> list[Image.Image]:
    assert loop.video is not None
    decoder = av.CodecContext.create("hevc" if loop.video.codec is Codec.H265 else "h264", "r")
    decoder.extradata = loop.video.config
    decoder.options = {"err_detect": "explode"}
    frames = []
    for number, payload in enumerate([*loop.pictures, None]):
        packet = None if payload is None else av.Packet(payload)
        if packet is not None:
            packet.pts = packet.dts = number
        frames += decoder.decode(packet)  # type: ignore[attr-defined]
    return [frame.to_image() for frame in frames]


async def file_loop(path: Path, form: StreamForm, workers: Workers | None = None, **limits: Any) -> SlateLoop:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return await library(workers or Workers(), **limits).encode_file(path, digest, form)


async def test_a_card_has_the_form_of_the_publishers_stream() -> None:
    source = sources.h264("322x178", 1, bframes=2)
    workers = Workers()
    slates = library(workers)
    form = form_of(source, framerate=25.0)
    loop, same = await asyncio.gather(slates.make_card("Show", TEXT, form), slates.make_card("Show", TEXT, form))
    assert same is loop
    assert workers.started == 1, "equal slates are encoded once"
    assert (loop.video, loop.audio) == (source.tracks.video, source.tracks.audio)
    assert (len(loop.pictures), loop.gop, loop.rate) == (50, 50, 25)
    assert loop.audio is not None
    assert len(loop.sounds) == 1
    assert is_silent(loop.audio, loop.sounds[0])
    shown = pictures(loop)
    assert len(shown) == 50
    assert {image.size for image in shown} == {(322, 178)}
    assert max(shown[0].convert("L").tobytes()) > 200, "light letters"
    assert shown[0].getpixel((5, 5))[2] < 50  # type: ignore[index]
    assert shown[0].tobytes() != shown[25].tobytes(), "the line moves"
    assert shown[1].tobytes() == shown[0].tobytes(), "between its steps, the picture is repeated exactly"
    assert sum(map(len, loop.pictures)) < 30_000


async def test_cards_with_a_clock_differ_only_in_the_clock() -> None:
    slates = library(Workers())
    form = StreamForm.of(None)
    base = await slates.make_card("Show", TEXT, form)
    first, second = await slates.make_clocked_cards("Show", TEXT, ["14:05 UTC", "14:06 UTC"], form)
    assert base.video == first.video == second.video
    assert base.audio == first.audio == DEFAULT_AUDIO
    images = [pictures(loop)[0].convert("L") for loop in (base, first, second)]
    for image in images[1:]:
        box = ImageChops.difference(images[0], image).point(lambda v: 255 if v > 100 else 0).getbbox()
        assert box is not None
        assert box[1] > 430, "below the text"
    assert images[1].tobytes() != images[2].tobytes()


async def test_an_hevc_slate_has_its_own_configuration() -> None:
    source = sources.source(
        *sources.pictures("320x180"),
        "-t",
        "0.5",
        "-c:v",
        "libx265",
        "-x265-params",
        "log-level=none",
        *("-preset", "ultrafast"),
    )
    loop = await library(Workers()).make_card("Show", TEXT, form_of(source))
    assert loop.video is not None
    assert loop.video.codec is Codec.H265
    assert len(pictures(loop)) == len(loop.pictures) == 60
    assert loop.audio is None


async def test_a_picture_with_another_aspect_ratio_gets_bars(tmp_path: Path) -> None:
    Image.new("RGBA", (300, 600), (255, 0, 0, 255)).save(tmp_path / "red.png")
    source = sources.h264("320x180", 1)
    loop = await file_loop(tmp_path / "red.png", form_of(source))
    image = pictures(loop)[-1]
    red, black = image.getpixel((160, 90)), image.getpixel((40, 90))
    assert red[0] > 230  # type: ignore[index]
    assert red[1] < 25  # type: ignore[index]
    assert max(black) < 20  # type: ignore[arg-type, type-var]
    assert loop.video == source.tracks.video
    assert not loop.is_card


async def test_a_large_film_is_scaled_and_its_sound_has_the_publishers_codec() -> None:
    film = films.plain("slate-4k.mp4", 1, "-s", "3840x2160")
    source = sources.h264("320x180", 1)
    loop = await file_loop(film, form_of(source))
    assert (loop.video, loop.audio) == (source.tracks.video, source.tracks.audio)
    assert len(loop.pictures) == 30
    assert len(loop.sounds) == 44_100 // 1024
    assert loop.audio is not None
    assert not any(is_silent(loop.audio, sound) for sound in loop.sounds[2:-2])
    assert {image.size for image in pictures(loop)} == {(320, 180)}


async def test_a_long_film_is_shortened_and_a_film_without_sound_is_silent() -> None:
    film = films.silent("mute.mp4", films.PICTURE)
    loop = await file_loop(film, form_of(sources.h264("320x180", 1)), seconds=2.0)
    assert len(loop.pictures) == 60
    assert loop.audio is not None
    assert [is_silent(loop.audio, sound) for sound in loop.sounds] == [True]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"<html>not a picture</html>", "it is text, not media"),
        (b"", "the file is empty"),
        (b"\x89PNG\r\n\x1a\n" + b"x" * 100, "a damaged or incomplete picture"),
        (b"\x00\x00\x00\x18ftypmp42" + bytes(200), "it has no index"),
    ],
)
async def test_a_file_that_is_not_a_picture_gives_a_specific_error(content: bytes, reason: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(OutputError, match=reason):
        await file_loop(tmp_path / "file", StreamForm.of(None))


def zero_pictures() -> bytes:
    return films.film("none.mp4", "-f", "lavfi", "-i", films.PICTURE, "-t", "0", *films.H264).read_bytes()


def sound_file() -> bytes:
    return films.film("sound.wav", "-f", "lavfi", "-i", films.SOUND, "-t", "1").read_bytes()


def bomb() -> bytes:
    """A small PNG that declares 30,000 x 30,000 pixels."""
    chunks = ((b"IHDR", struct.pack(">IIBBBBB", 30_000, 30_000, 1, 0, 0, 0, 0)), (b"IDAT", zlib.compress(b"")))
    body = (struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(body)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (zero_pictures, "the file has no video or audio that can be decoded"),
        (sound_file, "the film has no pictures"),
        (bomb, "a picture that is too large"),
    ],
)
async def test_a_file_without_usable_pictures_gives_a_specific_error(
    make: Callable[[], bytes], reason: str, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(make())
    with pytest.raises(OutputError, match=reason):
        await file_loop(tmp_path / "file", StreamForm.of(None))


async def test_a_slate_may_not_exceed_its_memory_limit() -> None:
    film = films.plain("slate.mp4", 3, "-s", "1280x720")
    with pytest.raises(OutputError, match="the slate has more than 20000 bytes"):
        await file_loop(film, StreamForm.of(None), max_bytes=20_000)


async def test_a_dead_worker_is_replaced_a_limited_number_of_times() -> None:
    form = StreamForm.of(None)
    workers = Workers(deaths=2)
    assert await library(workers).make_card("Show", TEXT, form)
    assert workers.started == 3
    with pytest.raises(OutputError, match="a test"):
        await library(Workers(deaths=3)).make_card("Show", TEXT, form)


async def test_an_audio_channel_needs_no_worker() -> None:
    workers = Workers()
    opus = MediaTrack(Kind.AUDIO, Codec.OPUS, 1000, b"")
    loop = await library(workers).make_card("Radio", TEXT, StreamForm.of(Tracks(None, opus)))
    assert (workers.started, loop.video, loop.audio, len(loop.sounds)) == (0, None, opus, 1)
