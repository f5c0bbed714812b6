"""Ad cues of pushes become `onAdCue` on the stream's clock, once. Malformed ones and floods are dropped and counted."""

from __future__ import annotations

import base64
import time
from typing import Any, cast

from structlog.testing import capture_logs

from gateway.formats import amf0
from gateway.formats.flv.tag import ScriptTag
from gateway.formats.scte35 import BreakDuration, SpliceInfo, SpliceInsert, SpliceNull, write_section
from gateway.formats.splices import splice_section
from gateway.live.cue_intake import CueIntake
from gateway.live.program_intake import ProgramIntake
from gateway.media.timed_data import AdCue, CueType
from gateway.media.track import TimedData
from tests.support import builders
from tests.support.builders import Recorder, publish
from tests.support.ts_cues import first_time, with_cues
from tests.unit.formats.ts.test_program_reader import made
from tests.unit.live.test_flv_intake import AUDIO_HEADER, VIDEO_HEADER, Rig, frame

WRAP = 1 << 33


def cues_of(sink: Recorder) -> list[AdCue]:
    values = [item.value for item in sink.items if isinstance(item, TimedData)]
    return [cue for cue in values if isinstance(cue, AdCue)]


def pushing() -> Rig:
    """A push by RTMP whose tracks are announced."""
    rig = Rig()
    rig.video(1000, VIDEO_HEADER)
    rig.audio(1000, AUDIO_HEADER)
    rig.video(1000, frame(key=True))
    return rig


def script(rig: Rig, name: str, at: int = 1000, /, **values: Any) -> None:
    rig.intake.take_script(ScriptTag(at, name, (values,), amf0.encode(values)), time.monotonic())


async def test_cue_points_and_sections_of_amf_become_ad_cues() -> None:
    rig = pushing()
    script(rig, "onCuePoint", name="b1", time=3.0, type="event", parameters={"type": "out", "duration": 30.0})
    section = write_section(SpliceInfo(SpliceInsert(7, False, None, True)))
    script(rig, "onAdCue", scte35=base64.b64encode(section).decode())
    begin, end = cues_of(rig.sink)
    assert (begin.type, begin.id, begin.at, begin.seconds) == (CueType.OUT, "b1", 3000, 30.0)
    assert end == AdCue(CueType.IN, "7", 1000, None, section)
    assert sum(isinstance(item, TimedData) for item in rig.sink.items) == 2
    await rig.close()


async def test_the_time_of_a_push_that_returns_is_that_of_the_stream() -> None:
    rig = pushing()
    first = rig.sink.units[-1].dts
    rig.publisher.close()
    again = Rig.__new__(Rig)
    again.hub, again.sink, again.publisher = rig.hub, rig.sink, publish(rig.hub)
    again.intake = type(rig.intake)(again.publisher)
    again.video(50_000, VIDEO_HEADER)
    again.audio(50_000, AUDIO_HEADER)
    again.video(50_000, frame(1, key=True))
    script(again, "onCuePoint", 50_000, time=52.0, parameters={"type": "out"})
    now = again.sink.units[-1].dts
    assert first < now < 50_000
    assert cues_of(again.sink)[-1].at == now + 2000
    await again.close()


async def test_malformed_cues_are_counted_and_logged_at_most_twice_a_second() -> None:
    rig = pushing()
    with capture_logs() as lines:
        for _ in range(50):
            script(rig, "onAdCue", scte35="nonsense")
            script(rig, "onCuePoint", parameters={"type": "out", "duration": float("nan")})
    assert cues_of(rig.sink) == []
    assert rig.publisher.on_air.dropped["cues"] == 100
    assert 1 <= len([line for line in lines if line["event"] == "ad cue dropped"]) <= 4
    assert not any(isinstance(item, TimedData) for item in rig.sink.items)
    await rig.close()


async def test_a_flood_is_cut_to_a_bound() -> None:
    rig = pushing()
    intake = CueIntake(rig.publisher)
    for number in range(100):
        section = write_section(SpliceInfo(SpliceInsert(number, True, None, True)))
        intake.take_section(section, 1000, lambda ticks: ticks // 90, 5.0)
    assert len(cues_of(rig.sink)) == 10
    assert rig.publisher.on_air.dropped["cues"] == 90
    await rig.close()


async def test_a_repeated_section_is_published_once() -> None:
    rig = pushing()
    intake = CueIntake(rig.publisher)
    section = splice_section(CueType.OUT, "7", 9_000, 30.0)
    for dts in (1000, 3000, 5000):
        intake.take_section(section, dts, lambda ticks: ticks // 90, dts / 1000)
    heartbeat = write_section(SpliceInfo(SpliceNull()))
    intake.take_section(heartbeat, 5000, lambda ticks: ticks // 90, 5.0)
    assert [(cue.at, cue.seconds) for cue in cues_of(rig.sink)] == [(9000, 30.0)]
    at_once = write_section(SpliceInfo(SpliceInsert(8, True, None, True)))
    for dts in (5000, 6000, 30_000):
        intake.take_section(at_once, dts, lambda ticks: ticks // 90, dts / 1000)
    assert [cue.at for cue in cues_of(rig.sink)] == [9000, 5000, 30_000]
    assert rig.publisher.on_air.dropped["cues"] == 0
    await rig.close()


async def test_a_repeated_section_of_amf_is_published_once() -> None:
    rig = pushing()
    section = base64.b64encode(write_section(SpliceInfo(SpliceInsert(7, True, 900)))).decode()
    for at in (1000, 1500, 2000):
        script(rig, "onAdCue", at, cue=section, type="scte35", id="1", time=5.0)
    assert [cue.at for cue in cues_of(rig.sink)] == [5000]
    await rig.close()


# ---- transport streams ----


class TsRig:
    """A push of a transport stream."""

    def __init__(self) -> None:
        self.hub = builders.hub()
        self.publisher = publish(self.hub)
        self.sink = Recorder()
        self.publisher.stream.attach(self.sink)
        self.intake = ProgramIntake(self.publisher, cast(Any, None))

    async def play(self, data: bytes) -> list[AdCue]:
        for at in range(0, len(data), 1316):
            self.intake.receive(data[at : at + 1316], time.monotonic())
        self.intake.finish(time.monotonic())
        found = cues_of(self.sink)
        self.hub.drain()
        await self.hub.drained()
        return found

    @property
    def first_shown(self) -> int:
        unit = next(u for u in self.sink.units if u.track.kind == "video")
        return unit.dts + unit.cts


async def cued(name: str, ahead: float, adjustment: int = 0) -> int:
    """Returns how many ticks after the first picture the cue of a stream is. ahead: seconds after it."""
    stream = made(name).read_bytes()
    pts = first_time(stream) + round(ahead * 90_000) - adjustment
    insert = SpliceInsert(7, True, pts % WRAP, duration=BreakDuration(900_000))
    section = write_section(SpliceInfo(insert, pts_adjustment=adjustment % WRAP))
    rig = TsRig()
    (cue,) = await rig.play(with_cues(stream, {0.5: section}))
    assert (cue.type, cue.id, cue.seconds, cue.section) == (CueType.OUT, "7", 10.0, section)
    return cue.at - rig.first_shown


async def test_the_time_of_a_section_is_that_of_its_picture() -> None:
    assert await cued("h264", 2.0) == 180_000
    assert await cued("h264", 2.0001) == 180_009
    assert await cued("h264", 62.5) == 5_625_000
    assert await cued("later", 2.0, adjustment=12_345) == 180_000
    assert await cued("h264", 2.0, adjustment=WRAP - 50) == 180_000


async def test_the_time_of_a_section_wraps_as_that_of_the_pictures() -> None:
    # The times of this stream wrap after two seconds.
    assert await cued("wrap", 0.5) == 45_000
    assert await cued("wrap", 8.0) == 720_000


async def test_a_section_without_a_time_is_at_its_place() -> None:
    section = write_section(SpliceInfo(SpliceInsert(7, False, None, True)))
    rig = TsRig()
    (cue,) = await rig.play(with_cues(made("h264").read_bytes(), {0.5: section}))
    assert 90_000 < cue.at - rig.first_shown < 180_000


async def test_a_damaged_section_stops_nothing() -> None:
    section = bytearray(write_section(SpliceInfo(SpliceInsert(7, True, 0))))
    section[12] ^= 0xFF
    rig = TsRig()
    assert await rig.play(with_cues(made("h264").read_bytes(), {0.3: bytes(section)})) == []
    assert len(rig.sink.units) > 100
