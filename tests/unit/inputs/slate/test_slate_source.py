"""A slate's source: it follows the publisher's tracks, shows its card instead of a broken picture, and keeps time."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

from gateway.channels.channel import Channel
from gateway.channels.inputs import InputKind, InputSpec
from gateway.inputs.slate.slate_files import SlateFiles
from gateway.inputs.slate.slate_library import SlateLibrary
from gateway.inputs.slate.slate_loop import LoopTimer, SlateLoop
from gateway.inputs.slate.slate_source import SlateSource, clock_text
from gateway.lib.tasks import Tasks
from gateway.live.publisher import StreamPublisher
from gateway.media.track import AccessUnit, Codec, Kind, MediaTrack, Tracks
from gateway.ports.errors import OutputError
from gateway.workers.stream_form import DEFAULT_AUDIO, StreamForm
from tests.support import builders
from tests.support.clock import Clock
from tests.support.time_outs import at_most
from tests.support.waiting import until

OTHER = MediaTrack(Kind.VIDEO, Codec.H264, 1000, builders.AVCC + b"\x00")


class Library:
    """Makes loops at once. asked: the requested loops."""

    def __init__(self) -> None:
        self.timer = LoopTimer()
        self.asked: list[str] = []
        self.fails: set[str] = set()

    def _make(self, what: str, form: StreamForm, *, is_card: bool) -> SlateLoop:
        self.asked.append(what)
        if what.split()[0] in self.fails:
            raise OutputError(f"{what} failed")
        video = form.video or builders.VIDEO
        pictures = tuple(f"{what} {n}".encode() for n in range(form.gop))
        return SlateLoop(video, pictures, form.gop, form.rate, form.audio, (b"s",), Fraction(1024, 48_000), is_card)

    async def make_card(self, name: str, text: str, form: StreamForm) -> SlateLoop:
        return self._make(f"card {name}: {text}", form, is_card=True)

    async def encode_file(self, path: Path, digest: str, form: StreamForm) -> SlateLoop:
        return self._make(f"file {digest}", form, is_card=False)

    async def make_clocked_cards(
        self, name: str, text: str, labels: Sequence[str], form: StreamForm
    ) -> list[SlateLoop]:
        loop = self._make("clock", form, is_card=True)
        return [replace(loop, pictures=tuple(f"{label}".encode() for _ in loop.pictures)) for label in labels]


class Files:
    def __init__(self) -> None:
        self.error: str | None = None

    @asynccontextmanager
    async def fetch(self, picture: str) -> AsyncIterator[tuple[Path, str]]:
        if self.error is not None:
            raise OutputError(self.error)
        yield Path("/nonexistent"), picture


class Context:
    """The gateway's side of the input, as the switcher gives it."""

    def __init__(self) -> None:
        self.channel: Channel = builders.channel(videoname="Show")
        self.expected_tracks: Tracks | None = None
        self.hub = builders.hub()
        self.seen = builders.Recorder()
        self._changed = asyncio.Event()
        self._on, self._off = asyncio.Event(), asyncio.Event()
        self._off.set()

    @property
    def on_air(self) -> bool:
        return self._on.is_set()

    async def until_on_air(self) -> None:
        await self._on.wait()

    async def until_off_air(self) -> None:
        await self._off.wait()

    async def until_expected_tracks_change(self, known: Tracks | None) -> None:
        while self.expected_tracks is known:
            await self._changed.wait()
            self._changed.clear()

    def silence(self, track: MediaTrack) -> bytes:
        return b""

    def publish(self, peer: str = "") -> StreamPublisher:
        publisher = builders.publish(self.hub)
        publisher.stream.attach(self.seen)
        return publisher

    # ---- for tests ----

    def refer_to(self, video: MediaTrack, **metadata: float) -> None:
        self.expected_tracks = Tracks(video, builders.AUDIO, 0, dict(metadata))
        self._changed.set()

    def go(self, on_air: bool) -> None:
        (self._off if on_air else self._on).clear()
        (self._on if on_air else self._off).set()

    @property
    def pictures(self) -> list[AccessUnit]:
        return [u for u in self.seen.units if u.track.kind is Kind.VIDEO]


class Lab:
    def __init__(self, picture: str = "", text: str = "", clock: Any = time.time) -> None:
        self.context, self.library, self.files = Context(), Library(), Files()
        self.source = SlateSource(
            cast(SlateLibrary, self.library),
            cast(SlateFiles, self.files),
            InputSpec("slate", InputKind.SLATE, picture=picture, text=text),
            clock,
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[asyncio.Task[None]]:
        async with Tasks("lab") as tasks:
            yield tasks.start(self.source.run(self.context), "source")


async def test_the_slate_is_ready_before_a_publisher_and_follows_its_tracks() -> None:
    lab = Lab()
    async with lab.running():
        await until(lambda: lab.source.is_ready)
        assert lab.library.asked == ["card Show: We will be right back"]
        lab.context.refer_to(OTHER, framerate=25.0)
        await until(lambda: len(lab.library.asked) == 2)
        lab.context.go(True)
        await until(lambda: len(lab.context.pictures) >= 2)
    tracks = next(item for item in lab.context.seen.items if isinstance(item, Tracks))
    assert (tracks.video, tracks.audio, tracks.metadata) == (OTHER, builders.AUDIO, {"framerate": 25.0})
    assert [(u.dts, u.key) for u in lab.context.pictures[:2]] == [(0, True), (40, False)]


async def test_the_slate_goes_on_and_off_air_repeatedly() -> None:
    lab = Lab(text="Soon")
    async with lab.running():
        await until(lambda: lab.source.is_ready)
        for _ in range(3):
            before = len(lab.context.pictures)
            lab.context.go(True)
            await until(lambda before=before: len(lab.context.pictures) > before)
            assert lab.context.pictures[before].key, "from a key frame on"
            stream = next(iter(lab.context.hub))
            lab.context.go(False)
            await until(lambda stream=stream: stream.publisher is None)
    assert lab.library.asked[0] == "card Show: Soon"


async def test_a_picture_replaces_the_card_at_a_key_frame_while_it_is_on_air() -> None:
    lab = Lab("films/slate.mp4")
    lab.files.error = "the store has no films/slate.mp4"
    async with lab.running():
        await until(lambda: lab.source.problem is not None)
        assert lab.source.is_ready
        assert lab.source.problem == "the store has no films/slate.mp4"
        lab.context.go(True)
        await until(lambda: lab.context.pictures)
        lab.files.error = None
        lab.context.refer_to(builders.VIDEO)  # the fetch is tried again at once
        await until(lambda: lab.source.problem is None)
        await until(lambda: lab.context.pictures[-1].payload.startswith(b"file"))
    payloads = [u.payload for u in lab.context.pictures]
    first = next(n for n, p in enumerate(payloads) if p.startswith(b"file"))
    assert lab.context.pictures[first].key
    assert payloads[0].startswith(b"card")


async def test_a_file_that_cannot_be_encoded_leaves_the_card() -> None:
    lab = Lab("text.txt")
    lab.library.fails = {"file"}
    async with lab.running():
        await until(lambda: lab.source.problem is not None)
        assert lab.source.is_ready
    assert lab.source.problem == "file text.txt failed"


async def test_new_tracks_do_not_wait_for_a_film_in_the_old_form() -> None:
    lab = Lab("long.mp4")
    never, cancelled = asyncio.Event(), []

    async def file(path: Path, digest: str, form: StreamForm) -> SlateLoop:
        if form.video is None:
            try:
                await never.wait()
            except asyncio.CancelledError:
                cancelled.append(digest)
                raise
        return lab.library._make(f"file {digest}", form, is_card=False)

    lab.library.encode_file = file  # type: ignore[method-assign]
    async with lab.running():
        await until(lambda: lab.source.is_ready)
        lab.context.refer_to(OTHER)
        await until(lambda: cancelled and "file long.mp4" in lab.library.asked)
        lab.context.go(True)
        await until(lambda: lab.context.pictures)
    assert lab.context.pictures[0].track == OTHER


async def test_the_slate_fails_if_its_card_cannot_be_made() -> None:
    lab = Lab()
    lab.library.fails = {"card"}
    async with lab.running() as task:
        await asyncio.wait((task,), timeout=at_most(10))
        assert isinstance(task.exception(), OutputError)
    assert not lab.source.is_ready


async def test_the_clock_never_shows_a_wrong_minute() -> None:
    clock = Clock(1_800_000_000.0 + 59.97)
    minute = int(clock.now // 60)
    lab = Lab(clock=clock)
    async with lab.running():
        await until(lambda: lab.source.is_ready)
        lab.context.go(True)
        await until(lambda: lab.library.asked.count("clock") == 1)
        playback = lab.source._playback
        assert playback is not None
        await until(lambda: playback._next_loop is not None)
        assert playback._next_loop is not None
        assert playback._next_loop.pictures[0] == clock_text(minute).encode()
        clock.now += 60
        await until(lambda: playback._next_loop.pictures[0] == clock_text(minute + 1).encode())
        assert lab.library.asked.count("clock") == 1, "five minutes are lettered at a time"
        lab.library.fails = {"clock"}
        clock.now += 600
        await until(lambda: playback._next_loop is None)
    assert lab.context.pictures[0].payload.startswith(b"card"), "without a clock until it is lettered"


async def test_an_audio_channel_has_silence() -> None:
    lab = Lab("picture.png")
    lab.context.expected_tracks = Tracks(None, DEFAULT_AUDIO)
    async with lab.running():
        await until(lambda: lab.source.is_ready)
    assert lab.source.problem is None
    assert not any(what.startswith("file") for what in lab.library.asked)
