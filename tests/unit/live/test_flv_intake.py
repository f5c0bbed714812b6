"""FLV bodies become announced tracks and units."""

import time

import pytest

from gateway.formats import amf0
from gateway.formats.flv.tag import ScriptTag
from gateway.live.flv_intake import FlvIntake
from gateway.live.publisher import StreamPublisher
from gateway.live.unit_intake import AUDIO_INDEX, PREROLL_MS, VIDEO_INDEX
from gateway.live.unusable_media import UnusableMedia
from gateway.media.errors import InvalidData
from gateway.media.track import Kind
from tests.support import builders
from tests.support.builders import AVCC, Recorder, publish
from tests.unit.formats.flv import test_color_info as color_info

VIDEO_HEADER = b"\x17\x00\x00\x00\x00" + AVCC
AUDIO_HEADER = b"\xaf\x00\x12\x10"


def frame(n: int = 0, key: bool = False) -> bytes:
    return (b"\x17" if key else b"\x27") + b"\x01\x00\x00\x00" + b"\0\0\0\x05" + n.to_bytes(5, "big")


def sample(n: int = 0) -> bytes:
    return b"\xaf\x01" + n.to_bytes(4, "big")


def metadata(**values: float) -> ScriptTag:
    return ScriptTag(0, "onMetaData", (dict(values),), amf0.encode(dict(values)))


class Rig:
    def __init__(self) -> None:
        self.hub = builders.hub()
        self.publisher: StreamPublisher = publish(self.hub)
        self.sink = Recorder()
        self.publisher.stream.attach(self.sink)
        self.intake = FlvIntake(self.publisher)

    def video(self, timestamp: int, body: bytes) -> None:
        self.intake.take_media(VIDEO_INDEX, timestamp, body, 1.7e9, time.monotonic())

    def audio(self, timestamp: int, body: bytes) -> None:
        self.intake.take_media(AUDIO_INDEX, timestamp, body, 1.7e9, time.monotonic())

    async def close(self) -> None:
        self.hub.drain()
        await self.hub.drained()


async def test_both_tracks_are_announced_once_before_the_first_unit():
    rig = Rig()
    rig.video(0, VIDEO_HEADER)
    rig.audio(0, AUDIO_HEADER)
    rig.video(0, frame(key=True))
    rig.audio(5, sample())
    assert [type(i).__name__ for i in rig.sink.items] == ["Tracks", "AccessUnit", "AccessUnit"]
    assert rig.sink.tracks[0].video is not None
    assert rig.sink.tracks[0].audio is not None
    await rig.close()


async def test_units_wait_for_a_second_track_that_arrives_slightly_later():
    rig = Rig()
    rig.video(0, VIDEO_HEADER)
    rig.video(0, frame(0, key=True))
    rig.video(33, frame(1))
    assert rig.sink.items == []
    rig.audio(0, AUDIO_HEADER)
    rig.audio(40, sample())
    assert [u.dts for u in rig.sink.units] == [0, 33, 40]
    assert len(rig.sink.tracks) == 1
    await rig.close()


async def test_a_push_with_video_only_metadata_starts_at_once():
    rig = Rig()
    rig.intake.take_script(metadata(videocodecid=7.0), time.monotonic())
    rig.video(0, VIDEO_HEADER)
    rig.video(0, frame(key=True))
    assert len(rig.sink.units) == 1
    await rig.close()


async def test_a_video_only_push_without_metadata_starts_after_the_preroll():
    rig = Rig()
    rig.video(0, VIDEO_HEADER)
    for n in range(0, PREROLL_MS, 100):
        rig.video(n, frame(n, key=n == 0))
    assert rig.sink.items == []
    rig.video(PREROLL_MS, frame(99))
    assert len(rig.sink.units) == PREROLL_MS // 100 + 1
    await rig.close()


async def test_a_returning_push_waits_only_for_the_tracks_that_the_stream_had():
    rig = Rig()
    rig.video(0, VIDEO_HEADER)
    for n in range(0, PREROLL_MS + 1, 100):
        rig.video(n, frame(n, key=n == 0))
    shown = len(rig.sink.units)
    rig.publisher.close()
    rig.intake = FlvIntake(publish(rig.hub))
    rig.intake.take_script(metadata(width=640.0), time.monotonic())
    rig.video(0, VIDEO_HEADER)
    rig.video(0, frame(100, key=True))
    assert len(rig.sink.units) == shown + 1
    await rig.close()


async def test_units_of_a_short_push_are_published_at_its_end():
    rig = Rig()
    rig.video(0, VIDEO_HEADER)
    rig.video(0, frame(key=True))
    rig.intake.finish(time.monotonic())
    assert len(rig.sink.units) == 1
    await rig.close()


async def test_a_changed_sequence_header_starts_an_epoch_and_its_timestamp_is_ignored():
    rig = Rig()
    rig.video(0, VIDEO_HEADER)
    rig.audio(0, AUDIO_HEADER)
    rig.video(50_000, frame(0, key=True))
    rig.video(0, VIDEO_HEADER[:-1] + b"\x23")
    rig.video(50_033, frame(1, key=True))
    assert [t.epoch for t in rig.sink.tracks] == [0, 1]
    assert [u.dts for u in rig.sink.units] == [1_000, 1_033]
    await rig.close()


async def test_malformed_bodies_are_dropped_and_too_many_end_the_push():
    rig = Rig()
    rig.video(0, VIDEO_HEADER)
    rig.audio(0, AUDIO_HEADER)
    rig.video(0, frame(key=True))
    rig.video(10, b"\x27\x01")
    rig.video(33, frame(1))
    assert [u.dts for u in rig.sink.units] == [0, 33]
    assert rig.intake.unusable.broken == 1
    assert rig.publisher.on_air.dropped == {"ingest": 1}
    with pytest.raises(InvalidData):
        for _ in range(UnusableMedia.IN_ROW):
            rig.video(40, b"\x27\x01")
    await rig.close()


@pytest.mark.parametrize("changes", ["video", "audio"])
async def test_units_of_a_header_that_changes_before_the_announcement_are_published(changes):
    """A burst waits for the second track, which may come late or never. No unit is lost."""
    rig = Rig()
    if changes == "video":
        rig.video(0, VIDEO_HEADER)
        rig.video(0, frame(1, key=True))
        rig.video(40, VIDEO_HEADER + b"\0")
        rig.video(40, frame(2, key=True))
    else:
        rig.audio(0, AUDIO_HEADER)
        rig.audio(0, sample(1))
        rig.audio(40, b"\xaf\x00\x11\x90")
        rig.audio(40, sample(2))
    rig.intake.finish(time.monotonic())
    assert [unit.dts for unit in rig.sink.units] == [0, 40]
    assert [getattr(tracks, changes) for tracks in rig.sink.tracks] == [unit.track for unit in rig.sink.units]
    await rig.close()


async def test_timed_data_is_forwarded_and_metadata_changes_are_announced():
    rig = Rig()
    rig.video(0, VIDEO_HEADER)
    rig.audio(0, AUDIO_HEADER)
    rig.video(0, frame(key=True))
    rig.intake.take_script(ScriptTag(20, "onCuePoint", ("x",), amf0.encode("x")), time.monotonic())
    rig.intake.take_script(metadata(width=1.0), time.monotonic())
    assert [type(i).__name__ for i in rig.sink.items] == ["Tracks", "AccessUnit", "TimedData", "Tracks"]
    assert rig.sink.tracks[1].metadata == {"width": 1.0}
    assert rig.sink.tracks[1].epoch == 0
    await rig.close()


async def test_colors_before_the_first_picture_begin_no_epoch_after_sound():
    """ffmpeg 9 sends `colorInfo` with the first picture, after the first sound."""
    rig = Rig()
    rig.video(0, color_info.header())
    rig.audio(0, AUDIO_HEADER)
    rig.audio(0, sample())
    rig.video(0, color_info.metadata())
    rig.video(0, b"\x93hvc1" + b"\0\0\0\x02\x26\x01")
    (tracks,) = rig.sink.tracks
    assert tracks.video is not None
    assert tracks.video.colors == color_info.WHOLE
    assert [u.track.kind for u in rig.sink.units] == [Kind.AUDIO, Kind.VIDEO]
    await rig.close()


async def test_sound_does_not_wait_long_for_pictures_that_may_have_colors():
    rig = Rig()
    rig.video(0, color_info.header())
    rig.audio(0, AUDIO_HEADER)
    for at in range(0, PREROLL_MS + 100, 100):
        rig.audio(at, sample())
    assert rig.sink.units
    await rig.close()
