"""The cues of a stream: what the API puts in, what the publisher sends, events, key frames, and bounds."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

import pytest

from gateway.diagnosis import cue_log
from gateway.diagnosis.cue_log import Cue, CueLog, StreamCues
from gateway.formats.script_data import read_timed, write_timed
from gateway.formats.scte35 import SpliceInfo, TimeSignal, read_section, write_section
from gateway.formats.splices import Splice, read_splice
from gateway.live.hub import Hub
from gateway.live.publisher import StreamPublisher
from gateway.media.timed_data import AdCue, CueType, Metadata
from gateway.media.track import TimedData
from gateway.ports.errors import TooManyRequests
from gateway.ports.events import Event, Events, EventType
from tests.support import builders
from tests.support.builders import AUDIO, VIDEO, Recorder, picture, publish
from tests.support.waiting import until


def seconds_of(cue: Cue) -> float:
    """Returns the time of a cue, seconds since 1970."""
    return datetime.fromisoformat(cue.at).timestamp()


@dataclass
class Rig:
    hub: Hub
    publisher: StreamPublisher
    cues: StreamCues
    sink: Recorder
    events: list[Event]
    asked: list[float]

    @property
    def timed(self) -> list[TimedData]:
        return [item for item in cast(Any, self.sink.items) if isinstance(item, TimedData)]

    @property
    def sent(self) -> list[AdCue]:
        return [item.value for item in self.timed if isinstance(item.value, AdCue)]


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    events, told, asked = Events(), [], []
    hub = builders.hub(events=events)
    cues = CueLog(hub, events)
    events.listen(lambda event: told.append(event) if event.type is EventType.CUE else None)
    publisher = publish(hub)
    publisher.ask_key_frame = lambda: asked.append(time.monotonic())
    publisher.set_tracks(VIDEO, AUDIO, {})
    publisher.push(picture(5000, key=True), time.monotonic())
    sink = Recorder()
    publisher.stream.attach(sink)
    found = cues.of(publisher.stream)
    assert found is not None
    yield Rig(hub, publisher, found, sink, told, asked)
    hub.drain()
    await hub.drained()
    assert cues.of(publisher.stream) is None


def out(id: str = "", seconds: float | None = None) -> Splice:
    return Splice(CueType.OUT, id, None, seconds, b"")


def end(id: str = "") -> Splice:
    return Splice(CueType.IN, id, None, None, b"")


async def test_a_cue_of_the_api_is_at_the_newest_media(rig: Rig) -> None:
    assert rig.cues.plan(out("b1", 30.0), None) == "b1"
    (cue,) = rig.sent
    assert (cue.type, cue.id, cue.at, cue.seconds) == (CueType.OUT, "b1", 5000, 30.0)
    made = read_splice(cue.section)
    assert made is not None
    assert (made.type, made.pts, made.seconds) == (CueType.OUT, 450_000, 30.0)
    (entry,) = rig.cues.cues
    assert (entry.id, entry.type, entry.seconds, entry.origin) == ("b1", CueType.OUT, 30.0, "api")
    (event,) = rig.events
    assert event.data.keys() == {"stream", "id", "type", "seconds", "at"}
    assert (event.data["id"], event.data["type"], event.data["seconds"]) == ("b1", "out", 30.0)
    assert len(rig.asked) == 1


async def test_an_end_without_an_id_ends_the_last_break(rig: Rig) -> None:
    id = rig.cues.plan(out(), None)
    assert rig.cues.plan(end(), None) == id
    assert rig.cues.plan(end(), None) != id
    assert [cue.type for cue in rig.cues.cues] == ["in", "in", "out"]


async def test_a_section_is_passed_on_unchanged(rig: Rig) -> None:
    section = write_section(SpliceInfo(TimeSignal(77)))
    rig.cues.plan(Splice(CueType.OTHER, "", 77, None, section), None)
    (cue,) = rig.sent
    assert (cue.section, cue.at, cue.type) == (section, 5000, CueType.OTHER)
    assert rig.events == [], "only breaks have events"
    assert rig.asked == []


async def test_a_cue_soon_is_sent_now_with_its_time(rig: Rig) -> None:
    rig.cues.plan(out("b1"), time.time() + 4)
    (cue,) = rig.sent
    assert 8900 <= cue.at <= 9200
    section = read_section(cue.section).command
    assert section is not None
    assert rig.timed[0].dts == 5000
    assert rig.asked == [], "the key frame is due at the splice"


async def test_a_cue_later_waits_until_its_lead(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cue_log, "LEAD_SECONDS", 0.2)
    began = time.monotonic()
    rig.cues.plan(out("b1"), time.time() + 0.4)
    rig.cues.plan(end("b1"), time.time() + 3000)
    assert rig.sent == []
    assert [(cue.id, cue.type) for cue in rig.cues.cues] == [("b1", "in"), ("b1", "out")]
    await until(lambda: rig.sent)
    assert [cue.type for cue in rig.sent] == [CueType.OUT]
    assert [cue.type for cue in rig.cues.cues] == ["in", "out"]
    await until(lambda: rig.asked)
    assert rig.asked[0] >= began + 0.35, "the key frame is due at the splice"


async def test_a_key_frame_is_asked_for_at_the_planned_end_too(rig: Rig) -> None:
    rig.cues.plan(out("b1", 1.2), None)
    assert len(rig.asked) == 1
    await until(lambda: len(rig.asked) == 2)


async def test_planned_cues_end_with_the_stream(rig: Rig) -> None:
    rig.cues.plan(out("b1"), time.time() + 3000)
    rig.hub.drain()
    rig.publisher.close()
    await rig.hub.drained()
    assert rig.cues.cues == []


async def test_cues_of_the_publisher_are_listed_and_told(rig: Rig) -> None:
    section = write_section(SpliceInfo(TimeSignal(77)))
    rig.publisher.push_timed(TimedData(5000, AdCue(CueType.OUT, "7", 7000, None, section)))
    rig.publisher.push_timed(TimedData(5000, AdCue(CueType.OTHER, "8", 7000, None, section)))
    before = time.time()
    assert [(cue.id, cue.origin) for cue in rig.cues.cues] == [("8", "rtmp"), ("7", "rtmp")]
    assert all(before + 1.5 < seconds_of(cue) < before + 2.5 for cue in rig.cues.cues)
    assert [event.data["id"] for event in rig.events] == ["7"]


async def test_the_list_has_a_bound(rig: Rig) -> None:
    for number in range(150):
        rig.publisher.push_timed(TimedData(5000, AdCue(CueType.OUT, str(number), 5000 + number, 5.0, b"")))
    assert [cue.id for cue in rig.cues.cues] == [str(number) for number in range(149, 49, -1)]


async def test_too_many_cues_and_metadata_are_refused(rig: Rig) -> None:
    for _ in range(10):
        rig.cues.plan(out(), None)
    with pytest.raises(TooManyRequests):
        rig.cues.plan(out(), None)
    for _ in range(5):
        rig.cues.push_metadata("x")
    with pytest.raises(TooManyRequests):
        rig.cues.push_metadata("x")


async def test_metadata_are_at_the_newest_media(rig: Rig) -> None:
    rig.cues.push_metadata("Tor für ⚽")
    (timed,) = rig.timed
    assert timed == TimedData(5000, Metadata("Tor für ⚽"))


async def test_times_and_ids_of_another_node_have_bounds(rig: Rig) -> None:
    for dts in (-(10**15), 10**15):
        for id in ("x" * 128, "x" * 129):
            name, amf = write_timed(TimedData(dts, AdCue(CueType.OUT, id, dts, None, b"")))
            rig.publisher.stream.push_timed(read_timed(dts, name, amf))
    assert [len(cue.id) for cue in rig.cues.cues] == [128, 128], "a longer one is no cue"
    assert [abs(seconds_of(cue) - time.time()) < 7300 for cue in rig.cues.cues] == [True, True]
    assert len(rig.events) == 2


async def test_a_cue_before_the_first_media_is_at_their_start() -> None:
    events = Events()
    hub = builders.hub(events=events)
    log = CueLog(hub, events)
    publisher = publish(hub)
    publisher.set_tracks(VIDEO, AUDIO, {})
    cues = log.of(publisher.stream)
    assert cues is not None
    cues.plan(out("b1"), time.time() + 2)
    (cue,) = cues.cues
    assert abs(seconds_of(cue) - time.time() - 2) < 1
    hub.drain()
    await hub.drained()


async def test_renditions_have_no_list_of_their_own() -> None:
    events = Events()
    hub = builders.hub(events=events)
    cues = CueLog(hub, events)
    publisher = publish(hub, "c1@720p")
    publisher.set_tracks(VIDEO, AUDIO, {})
    assert cues.of(publisher.stream) is None
    hub.drain()
    await asyncio.gather(hub.drained())
