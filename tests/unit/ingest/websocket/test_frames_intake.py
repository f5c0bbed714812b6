"""Frames of a web page become stream units: times, order, epochs and invalid pictures."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.ingest.websocket.frames_intake import DecodeOrder, FramesIntake
from gateway.lib.metric_table import WORKER_RESTARTS
from gateway.lib.metrics import Counter
from gateway.live.publisher import StreamPublisher
from gateway.live.unit_intake import IntakeFailed
from gateway.media import aac, h264, nal
from gateway.media.errors import InvalidData
from gateway.media.track import Codec, Kind, Tracks
from gateway.protocols.errors import RemoteProtocolError
from gateway.protocols.push import AudioConfig, Chunk, Configured, VideoConfig
from gateway.settings.layers import load
from gateway.workers.worker_pool import WorkerPool
from tests.support import builders
from tests.support.builders import AVCC, Recorder
from tests.support.push_messages import chunk_bytes, config_text, end_text
from tests.support.time_outs import at_most

VIDEO = VideoConfig("avc1.64001F", AVCC, 1280, 720, 30.0)
AAC = AudioConfig("mp4a.40.2", 44100, 2, b"\x12\x10")
OPUS = AudioConfig("opus", 48000, 1)
BOTH = Configured(VIDEO, AAC)
NAL, INTER = b"\0\0\0\x02\x65\xb8", b"\0\0\0\x02\x41\xe0"  # slices of an IDR picture, and of another one


class Rig:
    """An intake with a viewer that keeps everything, without any worker."""

    def __init__(self, most_workers: int = 1) -> None:
        self.hub = builders.hub()
        self.seen = Recorder()
        self.publisher: StreamPublisher = builders.publish(self.hub)
        self.publisher.stream.attach(self.seen)
        settings = load(environ={}, overrides=[f"workers.most={most_workers}"])
        self.workers = WorkerPool(settings.workers, Counter(WORKER_RESTARTS))
        self.intake = FramesIntake(self.publisher, self.workers)

    async def configure(self, configured: Configured = BOTH) -> None:
        await self.intake.feed(config_text(configured))

    async def picture(self, ms: float, *, key: bool = False, payload: bytes = b"") -> None:
        payload = payload or (NAL if key else INTER)
        await self.intake.feed(chunk_bytes(Chunk(Kind.VIDEO, key, round(ms * 1000), 33_333, payload)))

    async def sound(self, ms: float, payload: bytes = b"\x21sound") -> None:
        await self.intake.feed(chunk_bytes(Chunk(Kind.AUDIO, False, round(ms * 1000), 23_000, payload)))

    @property
    def times(self) -> list[tuple[str, int, int]]:
        return [(str(u.track.kind), u.dts, u.cts) for u in self.seen.units]


@pytest.fixture
async def rig() -> Rig:
    return Rig()


async def test_tracks_are_announced_before_the_first_picture(rig: Rig) -> None:
    await rig.configure()
    await rig.picture(0, key=True)
    assert isinstance(rig.seen.items[0], Tracks)
    tracks = rig.seen.items[0]
    assert tracks.video is not None and (tracks.video.codec, tracks.video.config) == (Codec.H264, AVCC)
    assert tracks.audio is not None and tracks.audio.config == b"\x12\x10"
    assert tracks.metadata == {"encoder": "WebCodecs", "width": 1280.0, "height": 720.0, "framerate": 30.0}


async def test_pictures_are_unchanged_and_key_frames_are_marked(rig: Rig) -> None:
    await rig.configure()
    await rig.picture(0, key=True, payload=NAL + NAL)
    await rig.picture(33.333)
    assert [(u.payload, u.key) for u in rig.seen.units] == [(NAL + NAL, True), (INTER, False)]
    assert rig.intake.stats.frames == 2
    assert (rig.intake.stats.video, rig.intake.stats.audio) == ("copy", "copy")


async def test_sound_and_pictures_share_one_clock_with_any_start(rig: Rig) -> None:
    await rig.configure()
    await rig.picture(9e9, key=True)
    await rig.sound(9e9 - 120)
    await rig.picture(9e9 + 40)
    await rig.sound(9e9 - 97)
    assert rig.times == [("video", 1000, 0), ("audio", 880, 0), ("video", 1040, 0), ("audio", 903, 0)]


async def test_negative_timestamps_are_accepted(rig: Rig) -> None:
    await rig.configure()
    await rig.picture(-50_000, key=True)
    await rig.picture(-49_960.5)
    assert [t for _, t, _ in rig.times] == [1000, 1039]


async def test_times_continue_after_a_jump_of_the_page_clock(rig: Rig) -> None:
    await rig.configure()
    await rig.picture(0, key=True)
    await rig.picture(40)
    await rig.picture(5e6, key=True)
    await rig.sound(5e6 + 10)
    times = [t for _, t, _ in rig.times]
    assert times[0:2] == [1000, 1040]
    assert 1040 < times[2] <= 1100
    assert abs(times[3] - times[2]) <= 10


async def test_pictures_before_the_first_key_frame_are_dropped(rig: Rig) -> None:
    await rig.configure()
    await rig.picture(0)
    await rig.picture(33)
    await rig.picture(66, key=True)
    assert len(rig.seen.units) == 1
    assert rig.intake.stats.dropped == 2


async def test_a_new_video_configuration_starts_an_epoch_with_a_key_frame(rig: Rig) -> None:
    await rig.configure()
    await rig.picture(0, key=True)
    other = AVCC[:-1] + bytes([AVCC[-1] ^ 1])
    await rig.configure(Configured(replace(VIDEO, description=other), AAC))
    await rig.picture(33)
    await rig.picture(66, key=True)
    tracks = rig.seen.tracks
    assert [t.epoch for t in tracks] == [0, 1]
    assert tracks[1].video is not None and tracks[1].video.config == other
    assert [t for _, t, _ in rig.times] == [1000, 1066]


async def test_the_same_configuration_again_changes_nothing(rig: Rig) -> None:
    await rig.configure()
    await rig.picture(0, key=True)
    await rig.configure()
    await rig.picture(33)
    assert len(rig.seen.tracks) == 1
    assert len(rig.seen.units) == 2


async def test_tracks_may_be_added_and_removed_during_a_push(rig: Rig) -> None:
    await rig.configure(Configured(VIDEO, None))
    await rig.picture(0, key=True)
    await rig.configure(BOTH)
    await rig.picture(33)
    await rig.sound(33)
    await rig.configure(Configured(None, AAC))
    await rig.sound(66)
    assert [(t.video is not None, t.audio is not None) for t in rig.seen.tracks] == [
        (True, False),
        (True, True),
        (False, True),
    ]
    assert rig.times == [("video", 1000, 0), ("video", 1033, 0), ("audio", 1033, 0), ("audio", 1066, 0)]


@pytest.mark.parametrize(
    "payload",
    [b"\0\0\0\x09\x65x", b"\0\0", b"\0\0\0\2e" * 5000, b"\0\0\0\2\x65\xb8" * 5000],
)
async def test_invalid_pictures_are_counted_and_dropped(rig: Rig, payload: bytes) -> None:
    await rig.configure()
    await rig.picture(0, key=True)
    await rig.picture(33, payload=payload)
    await rig.picture(66)
    assert len(rig.seen.units) == 2
    assert rig.intake.stats.dropped == 1
    assert rig.publisher.on_air.dropped == {"ingest": 1}


async def test_a_push_of_only_invalid_pictures_ends_with_a_hint(rig: Rig) -> None:
    await rig.configure()
    with pytest.raises(InvalidData, match=r'avc: \{format: "avc"\}'):
        for n in range(101):
            await rig.picture(n * 33, key=True, payload=b"\xff\0\0\1\x65garbage")
    assert rig.seen.units == []
    assert "avc" in rig.publisher.unusable.unreadable


async def test_start_codes_become_lengths_and_empty_units_go(rig: Rig) -> None:
    await rig.configure()
    await rig.picture(0, key=True, payload=b"\0\0\0\1\x65\xb8")
    await rig.picture(33, payload=bytes(4) + INTER)
    await rig.picture(66, payload=bytes(4))
    assert [u.payload for u in rig.seen.units] == [NAL, INTER]


async def test_other_parameter_sets_in_the_pictures_are_announced(rig: Rig) -> None:
    other = h264.parse_avcc(AVCC).sps[0] + b"\x80"
    await rig.configure()
    await rig.picture(0, key=True)
    await rig.picture(33, key=True, payload=nal.join([other, b"\x65\xb8"]))
    tracks = rig.seen.tracks[-1]
    assert tracks.video is not None and h264.parse_avcc(tracks.video.config).sps == (other,)
    assert tracks.metadata == rig.seen.tracks[0].metadata


async def test_described_pictures_are_awaited_for_ten_seconds(rig: Rig) -> None:
    await rig.configure()
    for ms in range(0, 10_000, 500):
        await rig.sound(ms)
    assert rig.seen.items == []
    await rig.sound(10_000)
    assert [(t.video is not None, t.audio is not None) for t in rig.seen.tracks] == [(False, True)]
    assert "none came" in rig.publisher.unusable.explain()
    await rig.picture(10_040, key=True)
    assert [(t.video is not None, t.audio is not None) for t in rig.seen.tracks] == [(False, True), (True, True)]
    assert rig.publisher.unusable.explain() == ""


async def test_a_push_of_aac_with_adts_headers_ends_with_a_hint(rig: Rig) -> None:
    await rig.configure()
    with pytest.raises(InvalidData, match=r'aac: \{format: "aac"\}'):
        for n in range(101):
            await rig.sound(n * 21, b"\xff\xf1\x50\x80")


async def test_good_pictures_do_not_hide_that_no_sound_can_be_read(rig: Rig) -> None:
    await rig.configure()
    with pytest.raises(InvalidData, match=r'aac: \{format: "aac"\}'):
        for n in range(101):
            await rig.picture(n * 21, key=n == 0)
            await rig.sound(n * 21, b"\xff\xf1\x50\x80")


@pytest.mark.parametrize(
    "configured",
    [
        Configured(replace(VIDEO, description=b"\1\2\3"), None),
        Configured(replace(VIDEO, description=b"\1\x64\0\x1f\xff\xe0\0"), None),
        Configured(replace(VIDEO, description=AVCC[:20]), None),
        Configured(None, replace(AAC, description=b"\x12")),
        Configured(None, replace(OPUS, channels=6)),
        Configured(None, replace(OPUS, description=b"OpusHead")),
        Configured(None, replace(AAC, description=b"", rate=44_000)),
        Configured(None, replace(AAC, description=b"", codec="mp4a.40.5")),
    ],
)
async def test_an_unusable_configuration_ends_the_push(rig: Rig, configured: Configured) -> None:
    with pytest.raises(RemoteProtocolError, match="a configuration that cannot be used"):
        await rig.configure(configured)
    assert rig.seen.items == []


@pytest.mark.parametrize("rate", aac.RATES[:12])
@pytest.mark.parametrize("channels", [1, 2, 6])
async def test_aac_without_a_description_gets_one_from_rate_and_channels(rig: Rig, rate: int, channels: int) -> None:
    await rig.configure(Configured(None, AudioConfig("mp4a.40.2", rate, channels)))
    track = rig.seen.tracks[0].audio
    assert track is not None
    asc = aac.parse_asc(track.config)
    assert (asc.object_type, asc.rate, asc.channels) == (2, rate, channels)


async def test_a_push_without_sound_to_encode_needs_no_worker(rig: Rig) -> None:
    async with asyncio.timeout(at_most(5)):
        work = asyncio.create_task(rig.intake.run())
        await rig.configure()
        await rig.picture(0, key=True)
        rig.intake.finish()
        await work
    assert rig.workers.running == 0


async def test_an_end_message_ends_the_push(rig: Rig) -> None:
    async with asyncio.timeout(at_most(5)):
        work = asyncio.create_task(rig.intake.run())
        await rig.configure()
        await rig.intake.feed(end_text())
        await work
    await rig.picture(0, key=True)  # what comes behind is not heard
    assert rig.seen.units == []


async def test_opus_is_refused_at_once_if_all_workers_are_busy() -> None:
    rig = Rig(most_workers=1)
    async with asyncio.timeout(at_most(10)), rig.workers.start("tests.support.echo_worker", "other"):
        work = asyncio.create_task(rig.intake.run())
        with pytest.raises(IntakeFailed, match="workers are busy") as refused:
            await rig.configure(Configured(VIDEO, OPUS))
        assert refused.value.again
        with pytest.raises(IntakeFailed, match="workers are busy"):
            await work
    assert rig.seen.items == [], "nobody was promised a stream"


async def test_an_evicted_publisher_announces_no_tracks(rig: Rig) -> None:
    rig.publisher.close()
    await rig.configure()
    assert rig.seen.tracks == []


# ---- decode times ----


def test_pictures_in_order_have_equal_decode_and_presentation_times() -> None:
    order = DecodeOrder()
    assert [order.dts(t) for t in (0, 33, 66, 100)] == [0, 33, 66, 100]


def test_reordered_pictures_get_decode_times_before_presentation_times() -> None:
    order = DecodeOrder()
    shown = [0, 99, 33, 66, 198, 132, 165, 297, 231, 264, 396, 330, 363]
    decoded = [order.dts(t) for t in shown]
    assert decoded == sorted(set(decoded))
    assert all(d <= t for d, t in zip(decoded[4:], shown[4:], strict=True))


@given(st.lists(st.integers(0, 5_000), min_size=1, max_size=200))
def test_decode_times_always_increase(times: list[int]) -> None:
    order = DecodeOrder()
    decoded = [order.dts(t) for t in times]
    assert all(a < b for a, b in pairwise(decoded))
