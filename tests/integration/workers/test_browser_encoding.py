"""Encoding the pictures of a browser push, with a slow, hanging or failing encoder."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import av
import pytest

from gateway.media.track import AccessUnit, Codec, Kind, MediaTrack, Tracks
from gateway.workers.browser_protocol import BrowserPlan
from gateway.workers.programs.browser.browser_video import BrowserVideoEncoder, output_size
from gateway.workers.programs.codec import CodecFailed, DecodedPicture, VideoDecoder, VideoEncoder, VideoRecipe
from gateway.workers.programs.unit_writer import UnitWriter
from tests.support.builders import AUDIO, sound
from tests.support.clock import Clock
from tests.support.media import VP8
from tests.support.sources import Source, pictures, source
from tests.support.time_outs import at_most

PLAN = BrowserPlan(preset="ultrafast", max_lag=0.5, backlog=2.0)


def film(seconds: float = 6, *, rate: str = "25", gop: int = 25, size: str = "64x48") -> Source:
    coded = (*VP8, "-auto-alt-ref", "0", "-b:v", "200k")
    return source(*pictures(size, rate), "-t", str(seconds), *coded, "-g", str(gop), container="matroska")


class Given:
    """The units and tracks sent to the gateway."""

    def __init__(self) -> None:
        self.units: list[AccessUnit] = []
        self.tracks: list[Tracks] = []

    def writer(self) -> UnitWriter:
        return UnitWriter(self.tracks.append, self.units.extend)

    @property
    def pictures(self) -> list[AccessUnit]:
        return [u for u in self.units if u.track.kind is Kind.VIDEO]

    def decoded(self) -> int:
        decoder = VideoDecoder(self.pictures[0].track)
        count = sum(len(decoder.decode(u)) for u in self.pictures) + len(decoder.flush())
        assert decoder.damaged == 0
        return count


def encoding(
    film: Source,
    given: Given,
    *,
    plan: BrowserPlan = PLAN,
    encoder: Callable[[VideoRecipe, av.VideoFrame], VideoEncoder] = VideoEncoder,
    clock: Callable[[], float] = time.monotonic,
) -> BrowserVideoEncoder:
    outlet = given.writer()
    outlet.open((Kind.VIDEO,))
    assert film.tracks.video is not None
    return BrowserVideoEncoder(film.tracks.video, plan, outlet, encoder=encoder, clock=clock)


class Gate:
    """An encoder that waits at its `at`th picture until it is opened."""

    def __init__(self, at: int = 0) -> None:
        self.reached, self.open = threading.Event(), threading.Event()
        self._left = at

    def __call__(self, recipe: VideoRecipe, like: av.VideoFrame) -> VideoEncoder:
        gate = self

        class Gated(VideoEncoder):
            def encode(self, frame: av.VideoFrame, picture: DecodedPicture) -> list[AccessUnit]:
                gate._left -= 1
                if gate._left < 0:
                    gate.reached.set()
                    assert gate.open.wait(at_most(30))
                return super().encode(frame, picture)

        return Gated(recipe, like)


def test_a_slow_encoder_drops_pictures_and_keeps_a_small_delay() -> None:
    """Pictures of 20 ms take 30 ms each, in real time."""

    class Slow(VideoEncoder):
        def encode(self, frame: av.VideoFrame, picture: DecodedPicture) -> list[AccessUnit]:
            time.sleep(0.03)
            return super().encode(frame, picture)

    movie, given = film(4, rate="50"), Given()
    coder = encoding(movie, given, encoder=Slow, plan=replace(PLAN, max_lag=0.2))
    began = time.monotonic()
    late = []
    for unit in movie.units:
        time.sleep(max(0.0, began + unit.dts / 1000 - time.monotonic()))
        coder.put(unit)
        late.append(coder.behind)
    coder.finish()
    assert coder.dropped > 20
    assert len(given.pictures) + coder.dropped == len(movie.units)
    assert given.decoded() == len(given.pictures)
    # It neither stops nor falls behind for good: pictures of the last second are there.
    assert given.pictures[-1].dts > movie.units[-1].dts - 1000
    assert late[-1] < 1.5
    assert all(b.dts - a.dts <= 2050 for a, b in pairwise([u for u in given.pictures if u.key]))


def test_pictures_beyond_the_backlog_are_dropped_up_to_a_key_frame() -> None:
    movie, given, clock, gate = film(8), Given(), Clock(100.0), Gate(at=30)
    coder = encoding(movie, given, encoder=gate, clock=clock, plan=replace(PLAN, max_lag=1000))
    for unit in movie.units:
        clock.now = 100 + unit.dts / 1000
        coder.put(unit)
        if unit.dts == 1280:
            assert gate.reached.wait(at_most(30))  # the encoder hangs from here on
        assert len(coder._items) <= 25 * (PLAN.backlog + 1) + 2
    assert coder.dropped >= 25
    assert not coder.hangs
    gate.open.set()
    coder.finish()
    times = [u.dts for u in given.pictures]
    assert len(times) + coder.dropped == len(movie.units)
    gaps = [(a, b) for a, b in pairwise(times) if b - a > 100]
    assert gaps
    assert all(b % 1000 < 40 for _, b in gaps)  # where the source has a key frame
    assert times[-1] == movie.units[-1].dts
    assert given.decoded() == len(times)


def test_pictures_beyond_the_byte_limit_are_dropped_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.workers.programs.browser.browser_video._MAX_BYTES", 30_000)
    movie, given, gate = film(4), Given(), Gate()
    coder = encoding(movie, given, encoder=gate)
    for unit in movie.units:
        coder.put(replace(unit, payload=unit.payload + bytes(1000)))
        assert coder._bytes <= 30_000
    gate.open.set()
    coder.finish()
    assert coder.dropped > 0


def test_sound_is_not_dropped_with_neighbouring_pictures() -> None:
    movie, given, clock, gate = film(8), Given(), Clock(100.0), Gate(at=30)
    coder = encoding(movie, given, encoder=gate, clock=clock)
    coder._unit_writer.set_track(AUDIO)
    count = 0
    for unit in movie.units:
        clock.now = 100 + unit.dts / 1000
        coder.put(unit)
        coder.put(sound(unit.dts + 1))
        count += 1
    gate.open.set()
    coder.finish()
    assert coder.dropped > 0
    heard = [u.dts for u in given.units if u.track.kind is Kind.AUDIO]
    assert len(heard) == count
    assert heard == sorted(heard)


def test_a_hanging_codec_is_detected() -> None:
    movie, given, clock, gate = film(1), Given(), Clock(100.0), Gate()
    coder = encoding(movie, given, encoder=gate, clock=clock)
    for unit in movie.units:
        coder.put(unit)
    assert gate.reached.wait(at_most(30))
    assert not coder.hangs
    clock.now += 30
    assert coder.hangs
    coder.finish()  # does not wait for it
    gate.open.set()


def test_pictures_that_cannot_be_encoded_are_counted() -> None:
    def refuses(recipe: VideoRecipe, like: av.VideoFrame) -> VideoEncoder:
        raise CodecFailed("no encoder")

    movie, given = film(1), Given()
    coder = encoding(movie, given, encoder=refuses)
    for unit in movie.units:
        coder.put(unit)
    coder.finish()
    assert given.pictures == []
    assert coder.damaged == len(movie.units)


def test_the_frame_rate_is_limited_to_sixty() -> None:
    movie, given = film(2, rate="90"), Given()
    coder = encoding(movie, given, plan=replace(PLAN, max_lag=1000))
    for unit in movie.units:
        coder.put(unit)
    coder.finish()
    assert 115 <= len(given.pictures) <= 122
    assert coder.dropped == 0


def test_a_camera_with_a_higher_frame_rate_gets_a_new_encoder_once() -> None:
    slow, fast = film(1, rate="15"), film(12, rate="60")
    given = Given()
    coder = encoding(slow, given, plan=replace(PLAN, max_lag=1000))
    for unit in slow.units:
        coder.put(unit)
    for unit in fast.units:
        coder.put(replace(unit, dts=unit.dts + 1000))
    coder.finish()
    assert len(given.pictures) == len(slow.units) + len(fast.units)
    assert 1 < len(given.tracks) <= 3
    times = [u.dts for u in given.pictures]
    assert times == sorted(set(times))


def test_a_single_first_picture_is_encoded_soon() -> None:
    movie, given = film(1), Given()
    coder = encoding(movie, given)
    coder.put(movie.units[0])
    deadline = time.monotonic() + at_most(20)
    while not given.pictures and time.monotonic() < deadline:
        time.sleep(0.01)
    assert [u.key for u in given.pictures] == [True]
    coder.finish()


def test_an_undecodable_track_is_refused_with_a_reason() -> None:
    with pytest.raises(CodecFailed, match="h265 cannot be decoded"):
        BrowserVideoEncoder(MediaTrack(Kind.VIDEO, Codec.H265, 1000, b"\x01" + b"\xff" * 30), PLAN, Given().writer())


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((1280, 720, Fraction(1)), (1280, 720)),
        ((3840, 2160, Fraction(1)), (1920, 1080)),
        ((2160, 3840, Fraction(1)), (1080, 1920)),
        ((1920, 1440, Fraction(1)), (1440, 1080)),
        ((321, 181, Fraction(1)), (320, 180)),
        ((720, 576, Fraction(16, 15)), (768, 576)),
        ((1, 1, Fraction(1)), (2, 2)),
        ((8000, 2, Fraction(1)), (1920, 2)),
    ],
)
def test_pictures_are_scaled_into_1080p_horizontal_or_vertical(
    shape: tuple[int, int, Fraction], size: tuple[int, int]
) -> None:
    assert output_size(*shape) == size
