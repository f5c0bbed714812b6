"""Additional tracks of a push become renditions of the stream, with its times and limits."""

import asyncio
import re
import time
from collections.abc import Callable
from typing import cast

import pytest

from gateway.formats import amf0
from gateway.formats.flv.tag import ScriptTag
from gateway.lib.metric_table import DROPPED
from gateway.lib.metrics import Counter
from gateway.live.flv_intake import FlvIntake
from gateway.live.hub import TRACK_GOP_DIVISOR, Hub
from gateway.live.output import OutputSpec
from gateway.live.publisher import PushOrigin, StreamPublisher
from gateway.live.pushed_tracks import MAX_PUSHED, MediaBudget, TrackInfo, track_info
from gateway.live.sink import EndReason
from gateway.live.sound_to_aac import MakeConverter
from gateway.live.stream import Stream
from gateway.live.track_changes import KeepsChanging
from gateway.live.unit_intake import AUDIO_INDEX, VIDEO_INDEX
from gateway.media.track import AccessUnit, AmfValue, Kind
from gateway.outputs.ladder.ladder_output import LadderKind, LadderOutput
from gateway.packaging.cmaf.packager import CmafPackager, SequenceNumbers
from gateway.packaging.packager import SegmentPlan
from gateway.ports.events import Events
from gateway.workers.ladder_plan import COPY, LadderPlan, LadderStep
from gateway.workers.worker_pool import WorkerPool
from tests.support import builders
from tests.support.builders import AVCC, Recorder, publish
from tests.unit.live.test_unusual_bodies import Converter

ASC, OTHER_ASC = b"\x12\x10", b"\x11\x90"


def config(track: int, avcc: bytes = AVCC) -> bytes:
    return b"\x96\x00avc1" + bytes((track,)) + avcc if track else b"\x17\0\0\0\0" + avcc


def frame(track: int, n: int, key: bool = False) -> bytes:
    nal = b"\0\0\0\x02" + bytes((0x65 if key else 0x41, n % 256))
    if not track:
        return (b"\x17" if key else b"\x27") + b"\x01\0\0\0" + nal
    return (b"\x96" if key else b"\xa6") + b"\x03avc1" + bytes((track,)) + nal


def head(track: int, asc: bytes = ASC) -> bytes:
    return b"\x95\x00mp4a" + bytes((track,)) + asc if track else b"\xaf\x00" + asc


def sample(track: int, n: int) -> bytes:
    return b"\x95\x01mp4a" + bytes((track, 1, n % 256)) if track else b"\xaf\x01\x01" + bytes((n % 256,))


def metadata(values: dict[str, AmfValue]) -> ScriptTag:
    return ScriptTag(0, "onMetaData", (values,), amf0.encode(values))


class Push:
    """A push with 25 pictures and sounds per second, on its own clock."""

    def __init__(
        self,
        hub: Hub | None = None,
        publisher: StreamPublisher | None = None,
        make_converter: MakeConverter | None = None,
    ) -> None:
        self.hub = hub or builders.hub()
        self.evicted: list[EndReason] = []
        self.publisher = publisher or publish(self.hub, evicted=self.evicted)
        self.intake = FlvIntake(self.publisher, make_converter)
        self.now = time.monotonic()
        self.ms = 0
        self.count = 0

    @property
    def stream(self) -> Stream:
        return self.publisher.stream

    def video(self, body: bytes) -> None:
        self.intake.take_media(VIDEO_INDEX, self.ms, body, 1.7e9, self.now)

    def audio(self, body: bytes) -> None:
        self.intake.take_media(AUDIO_INDEX, self.ms, body, 1.7e9, self.now)

    def begin(self, video: int, audio: int) -> None:
        for track in range(video):
            self.video(config(track))
        for track in range(audio):
            self.audio(head(track))

    def frames(self, video: int, audio: int, times: int = 1) -> None:
        for _ in range(times):
            for track in range(video):
                self.video(frame(track, self.count, key=self.count % 25 == 0))
            for track in range(audio):
                self.audio(sample(track, self.count))
            self.count += 1
            self.ms += 40
            self.now += 0.04

    async def close(self) -> None:
        self.hub.drain()
        await self.hub.drained()


def record(stream: Stream) -> Recorder:
    sink = Recorder()
    stream.attach(sink)
    return sink


async def test_each_additional_track_is_a_rendition_with_the_times_of_its_source() -> None:
    push = Push()
    push.begin(3, 2)
    push.frames(3, 2)
    names = [t.name for t in push.stream.pushed_tracks.by_name.values()]
    assert len(names) == 3
    rendition = push.hub.find(f"c1@{names[0]}")
    sound = push.hub.find("c1@audio1")
    assert rendition is not None and sound is not None and rendition.tracks is not None and sound.tracks is not None
    assert (rendition.tracks.video is not None, rendition.tracks.audio is not None) == (True, True)
    assert (sound.tracks.video, sound.tracks.audio is not None) == (None, True)
    source, seen, heard = record(push.stream), record(rendition), record(sound)
    push.frames(3, 2, 10)
    times = {k: [u.dts for u in source.units if u.track.kind is k] for k in Kind}
    assert [u.dts for u in seen.units if u.track.kind is Kind.VIDEO] == times[Kind.VIDEO]
    assert [u.dts for u in seen.units if u.track.kind is Kind.AUDIO] == times[Kind.AUDIO]
    assert [u.dts for u in heard.units] == times[Kind.AUDIO]
    await push.close()


async def test_a_returning_publisher_continues_all_tracks_at_the_same_time() -> None:
    push = Push()
    push.begin(2, 2)
    push.frames(2, 2, 26)
    name = push.stream.pushed_tracks.video[0].name
    rendition = push.hub.find(f"c1@{name}")
    assert rendition is not None
    seen, source = record(rendition), record(push.stream)
    push.publisher.close()
    again = Push(push.hub)
    again.now = push.now + 3
    again.begin(2, 2)
    again.frames(2, 2, 5)
    assert again.hub.find(f"c1@{name}") is rendition
    after = [u.dts for u in source.units if u.track.kind is Kind.VIDEO][-5:]
    assert [u.dts for u in seen.units if u.track.kind is Kind.VIDEO][-5:] == after
    assert after[0] >= 26 * 40
    await again.close()


async def test_renditions_end_with_their_source() -> None:
    push = Push()
    push.begin(2, 2)
    push.frames(2, 2, 2)
    sinks = [record(s) for s in push.hub]
    assert len(sinks) == 3
    push.hub.end("c1", EndReason.KICKED)
    assert [s.ended for s in sinks] == 3 * [EndReason.KICKED]
    assert not list(push.hub)
    assert all(push.hub.find_recent(f"c1@{n}") is not None for n in ("audio1",))
    await push.close()


async def test_a_pushed_track_replaces_the_rendition_of_a_worker() -> None:
    hub = builders.hub()
    push = Push(hub)
    push.begin(1, 1)
    push.frames(1, 1)
    size = track_name(push)
    lost: list[EndReason] = []
    worker = hub.publish_from(
        PushOrigin("transcode", "worker", keep_time=True), push.stream.channel, f"c1@{size}", lost.append
    )
    worker.set_tracks(builders.VIDEO, builders.AUDIO, {})
    push.begin(2, 1)
    push.frames(2, 1)
    assert lost == [EndReason.PUBLISHER_GONE]
    assert size in push.stream.pushed_tracks.by_name
    assert worker.stream is hub.find(f"c1@{size}")
    assert worker.stream.gop.max_bytes == hub.limits.gop_bytes // TRACK_GOP_DIVISOR, "the bound of a pushed track"
    await push.close()


async def test_a_ladder_makes_a_rendition_again_after_the_pushed_track_of_this_name_has_ended() -> None:
    hub = builders.hub()
    size = track_name(Push())
    steps = LadderPlan((LadderStep(size, 1280, 720, 2_000_000, COPY, 1.0),))

    def make(stream: Stream) -> LadderOutput:
        return LadderOutput(stream, hub, cast(WorkerPool, None), LadderKind(lambda channel: steps, 6), Counter(DROPPED))

    hub.add_outputs([OutputSpec("codec", make, lambda stream: stream.is_source)])
    push = Push(hub)
    push.begin(2, 1)
    push.frames(2, 1)
    ladder = push.stream.output("codec")
    assert isinstance(ladder, LadderOutput) and ladder._plan is not None
    assert not ladder._plan.rungs, "the publisher sends it"
    push.publisher.close()
    push = Push(hub)
    push.begin(1, 1)
    push.frames(1, 1)
    hub.end(f"c1@{size}", EndReason.PUBLISHER_GONE)
    assert [step.name for step in ladder._plan.rungs] == [size]
    await push.close()


def track_name(push: Push) -> str:
    """The rendition name for an additional track with the picture size of the builders."""
    probe = Push()
    probe.begin(2, 1)
    probe.frames(2, 1)
    (track,) = probe.stream.pushed_tracks.video
    return track.name


async def test_track_changes_of_all_tracks_count_together() -> None:
    push = Push()
    push.begin(1, 8)
    push.frames(1, 8)
    with pytest.raises(KeepsChanging):
        for n in range(100):
            push.audio(head(1 + n % 7, (OTHER_ASC, ASC)[n // 7 % 2]))
            push.now += 1.01
    assert push.publisher.end_reason is EndReason.KEPT_CHANGING
    await push.close()


async def test_too_frequent_track_changes_are_dropped() -> None:
    push = Push()
    push.begin(1, 3)
    push.frames(1, 3)
    before = push.publisher.on_air.dropped["tracks"]
    for n in range(200):  # all within one second, so they count as one change
        push.audio(head(1, (OTHER_ASC, ASC)[n % 2]))
        push.audio(sample(1, n))
    assert push.publisher.on_air.dropped["tracks"] > before + 100
    rendition = push.hub.find("c1@audio1")
    assert rendition is not None and rendition.tracks is not None
    assert rendition.tracks.epoch <= 3 * MAX_PUSHED
    await push.close()


async def test_a_publisher_returning_with_other_tracks_does_not_accumulate_renditions() -> None:
    hub = builders.hub(linger=100)
    now = 0.0
    for turn in range(20):
        push = Push(hub)
        push.now += now
        push.begin(1, 1)
        for track in range(1, 8):
            push.audio(head(10 * turn + track))
        push.frames(1, 1)
        push.publisher.close()
        now += 5
    assert len(push.stream.pushed_tracks.by_name) <= MAX_PUSHED
    await asyncio.sleep(0)  # ended ones are forgotten
    assert len(list(hub)) <= MAX_PUSHED + 1
    await push.close()


async def test_a_rendition_has_a_smaller_cache_and_a_shared_budget() -> None:
    push = Push()
    push.begin(2, 2)
    push.frames(2, 2)
    renditions = [s for s in push.hub if not s.is_source]
    assert {s.gop.max_bytes for s in renditions} == {250_000}
    assert {id(s.spec.budget) for s in renditions} == {id(push.stream.pushed_tracks.budget)}
    assert push.stream.spec.budget is None
    await push.close()


def test_a_budget_counts_only_users_that_still_exist() -> None:
    class User:
        pass

    budget, one, two = MediaBudget(100), User(), User()
    budget.add(one, 60)
    budget.add(two, 60)
    assert budget.exceeded
    del two
    assert not budget.exceeded


async def test_track_names_and_languages_come_from_the_metadata() -> None:
    push = Push()
    values: dict[str, AmfValue] = {
        "videocodecid": 7.0,
        "audiocodecid": 10.0,
        "audiolanguage": "en",
        "audioTrackIdInfoMap": {"1": {"language": "fr", "name": 'Le "français"\n', "audiodatarate": 96.0}},
    }
    push.intake.take_script(metadata(values), push.now)
    push.begin(1, 2)
    push.frames(1, 2)
    tracks = push.stream.pushed_tracks
    assert tracks.default.language == "en"
    (french,) = tracks.audio
    assert french.info == TrackInfo("fr", "Le 'français'", 0, 0, 96_000)
    values["audioTrackIdInfoMap"] = {"1": {"language": "fr-CA"}}
    push.intake.take_script(metadata(values), push.now)
    assert french.info.language == "fr-CA"
    await push.close()


@pytest.mark.parametrize(
    "entry",
    [
        {"language": "<script>", "name": 5.0, "width": -1.0, "height": 1e9, "videodatarate": float("nan")},
        {"language": "und"},
        {"language": ["fr"]},
        "text",
        None,
    ],
)
def test_invalid_track_metadata_is_ignored(entry: AmfValue) -> None:
    assert track_info({"videoTrackIdInfoMap": {"1": entry}}, Kind.VIDEO, 1) == TrackInfo()
    assert track_info({"videoTrackIdInfoMap": entry}, Kind.VIDEO, 1) == TrackInfo()


async def test_frames_of_tracks_above_the_limit_are_ignored() -> None:
    push = Push()
    push.begin(1, 1)
    push.frames(1, 1)
    for track in range(1, 10):
        push.audio(head(track))
    push.audio(sample(9, 0))
    assert len(push.stream.pushed_tracks.audio) == 7
    await push.close()


async def test_additional_tracks_send_no_events() -> None:
    seen: list[str] = []
    events = Events()
    events.listen(lambda event: seen.append(str(event.type)))
    push = Push(builders.hub(events=events))
    push.begin(2, 3)
    push.frames(2, 3)
    push.hub.end("c1", EndReason.KICKED)
    assert seen == ["publish.started", "stream.started", "publish.ended", "stream.ended"]
    await push.close()


@pytest.mark.parametrize(
    ("header", "frame_of_sound"),
    [
        (b"", b"\x95\x01ac-3\x01" + bytes.fromhex("0b770000144043e1") + bytes(760)),
        (b"", b"\x95\x01ec-3\x01" + bytes.fromhex("0b7700ff3f8600ff") + bytes(504)),
        (b"", b"\x95\x01.mp3\x01" + bytes.fromhex("fffb9064") + bytes(413)),
        (head(1, b"\x0a\x10"), sample(1, 0)),  # AAC Main
    ],
)
@pytest.mark.parametrize("comes_late", [False, True])
async def test_additional_sound_that_browsers_refuse_is_converted(
    header: bytes, frame_of_sound: bytes, comes_late: bool
) -> None:
    hub = builders.hub()
    made: list[Converter] = []

    def make(deliver: Callable[[AccessUnit], None]) -> Converter:
        made.append(Converter(deliver))
        return made[-1]

    push = Push(hub, publish(hub, isCMAF=True), make)
    push.begin(1, 1)
    if comes_late:
        push.frames(1, 1, 5)
    if header:
        push.audio(header)
    packager = CmafPackager("c1", SegmentPlan(2.0, 5, 0.5), 1.7e9, SequenceNumbers())
    for _ in range(300):
        push.frames(1, 0)
        push.audio(sample(0, push.count))
        push.audio(frame_of_sound)
        if push.count == 10:
            packager.begin(push.stream)
    packager.catch_up()
    text = packager.manifests.master()
    assert 'NAME="Audio 2"' in text
    assert re.findall('CODECS="[^,]*,(.*?)"', text) == ["mp4a.40.2"]
    push.audio(head(1))  # plain AAC needs no conversion
    push.audio(sample(1, 0))
    assert [converter.closed for converter in made] == [1]
    assert push.stream.pushed_tracks.by_name["audio1"].track.config == ASC
    push.intake.finish(push.now)
    await push.close()


async def test_all_sound_of_a_push_may_be_converted() -> None:
    hub = builders.hub()
    push = Push(hub, publish(hub, isCMAF=True), Converter)
    push.video(config(0))
    for track in range(8):
        push.audio(head(track, b"\x0a\x10"))
    for _ in range(3):
        push.frames(1, 8)
    assert {t.track.config for t in push.stream.pushed_tracks.audio} == {OTHER_ASC}
    assert len(push.stream.pushed_tracks.audio) == 7
    await push.close()
