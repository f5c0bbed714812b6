"""The additional tracks of a push on the time line of a channel with several inputs."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from gateway.inputs.program import Program
from gateway.live.additional_relay import AdditionalRelay
from gateway.live.hub import Hub
from gateway.live.publisher import PushOrigin, StreamPublisher
from gateway.live.pushed_tracks import MAX_PUSHED, NO_INFO, TrackInfo
from gateway.live.sink import SinkNeeds
from gateway.live.stream import Stream
from gateway.media.track import AccessUnit, Codec, Kind, MediaTrack, Tracks
from tests.support import builders
from tests.support.builders import AUDIO, VIDEO, Recorder, picture, sound
from tests.unit.ingest.rtmp.test_multitrack import Push
from tests.unit.inputs.test_switcher import PUSH, SLATE, Studio, channel, send, studio

BOTH = Tracks(VIDEO, AUDIO)
SMALL = MediaTrack(Kind.VIDEO, Codec.H264, 1000, b"small")
FRENCH = MediaTrack(Kind.AUDIO, Codec.AAC, 1000, b"\x12\x08")  # mono
P144, P240 = TrackInfo(width=256, height=144), TrackInfo(width=426, height=240)
FRAME = 40
ORIGIN = PushOrigin("inputs", "", keep_time=True, trusted=True, emits_events=False)


class OneInput:
    """A multitrack input with its own clock: a picture and a sound each 40 ms, of each track."""

    def __init__(self, begin: int, additional: dict[int, tuple[MediaTrack, TrackInfo]], gop: int = 5) -> None:
        self.relay = AdditionalRelay()
        self.relay.tracks |= additional
        self.dts = begin
        self.gop = gop
        self.count = 0

    def is_key(self) -> bool:
        return self.count % self.gop == 0

    def units(self) -> tuple[list[AccessUnit], list[tuple[int, AccessUnit]]]:
        """The next units: of the default tracks, of the additional ones with their numbers."""
        default = [picture(self.dts, self.is_key()), sound(self.dts)]
        additional = [
            (n, picture(self.dts, self.is_key(), track=track) if n % 2 == 0 else sound(self.dts, track=track))
            for n, (track, _) in self.relay.tracks.items()
        ]
        self.dts += FRAME
        self.count += 1
        return default, additional


class OnAir:
    """A program and its clock."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self.program = Program(hub.publish_from(ORIGIN, builders.channel(), "c1", lambda reason: None))
        self.stream = self.program.publisher.stream
        self.now = time.monotonic()
        self.recorder = Recorder()
        self.stream.attach(self.recorder)

    def begin(self, one: OneInput, squeezed: int = 1) -> None:
        """Puts an input on air, with its key frame of this moment or with some earlier units."""
        rounds = [one.units() for _ in range(squeezed)]
        pictures = [default[0] for default, _ in rounds]
        self.program.begin(BOTH, pictures, self.now, pictures[-1].dts, one.relay)
        default, additional = rounds[-1]
        self._push(default[1:], additional)

    def run(self, one: OneInput, frames: int = 1) -> None:
        for _ in range(frames):
            self._push(*one.units())

    def _push(self, default: list[AccessUnit], additional: list[tuple[int, AccessUnit]]) -> None:
        for unit in default:
            self.program.push(unit, self.now)
        for number, unit in additional:
            self.program.push_additional(number, unit, self.now)
        self.now += FRAME / 1000

    def rendition(self, name: str) -> Stream:
        found = self.hub.held(f"c1@{name}")
        assert found is not None
        return found

    def record(self, name: str) -> Recorder:
        recorder = Recorder()
        self.rendition(name).attach(recorder, SinkNeeds(cache=False))
        return recorder


@asynccontextmanager
async def on_air() -> AsyncIterator[OnAir]:
    hub = builders.hub()
    yield OnAir(hub)
    hub.drain()
    await hub.drained()


def times(recorder: Recorder, kind: Kind = Kind.VIDEO, track: MediaTrack | None = None) -> list[int]:
    return [u.dts for u in recorder.units if u.track.kind is kind and track in (None, u.track)]


def grows(values: list[int]) -> bool:
    return all(a < b for a, b in itertools.pairwise(values))


MAIN = {2: (SMALL, P144), 3: (FRENCH, TrackInfo("fr"))}


async def test_additional_tracks_are_moved_like_the_default_ones() -> None:
    async with on_air() as one:
        first, second = OneInput(1_000, MAIN), OneInput(900_000, MAIN)
        one.begin(first)
        small, french = one.record("144p"), one.record("audio1")
        one.run(first, 6)
        one.begin(second)
        one.run(second, 4)
        assert times(small, track=SMALL)[-5:] == times(one.recorder)[-5:]
        assert times(french, Kind.AUDIO)[-5:] == times(one.recorder, Kind.AUDIO)[-5:]
        assert times(small, Kind.AUDIO)[-4:] == times(one.recorder, Kind.AUDIO)[-4:]
        assert grows(times(small)) and grows(times(french, Kind.AUDIO))


async def test_a_rendition_shows_the_default_pictures_while_its_track_is_missing() -> None:
    async with on_air() as one:
        main, slate = OneInput(0, MAIN), OneInput(50_000, {}, gop=3)
        one.begin(main)
        small, french = one.record("144p"), one.record("audio1")
        one.run(main, 6)
        before = len(times(one.recorder))
        one.begin(slate)
        one.run(slate, 8)
        shown = [u for u in small.units if u.track.kind is Kind.VIDEO and u.track is not SMALL]
        assert [u.dts for u in shown] == times(one.recorder)[before:-1], "one picture is held"
        assert shown[0].key and {u.track for u in shown} == {VIDEO}
        assert (
            times(french, Kind.AUDIO, AUDIO)
            == times(one.recorder, Kind.AUDIO)[-len(times(french, Kind.AUDIO, AUDIO)) :]
        )
        one.begin(main := OneInput(80_000, MAIN))
        one.run(main, 5)
        assert small.units[-1].track == SMALL and french.units[-1].track == FRENCH
        assert times(small, track=SMALL)[-6:] == times(one.recorder)[-6:]
        assert times(small)[-15:] == times(one.recorder)[-15:], "no picture is missing or shown twice"
        assert grows(times(small)) and grows(times(french, Kind.AUDIO))


async def test_a_discontinuity_is_in_all_renditions_at_one_time() -> None:
    async with on_air() as one:
        main, slate = OneInput(0, MAIN), OneInput(50_000, {}, gop=3)
        one.begin(main)
        one.run(main, 6)
        source, small = one.stream.original, one.rendition("144p").original
        for number, other in enumerate([slate, OneInput(80_000, MAIN)], start=1):
            one.begin(other)
            one.run(other, 2)
            assert source.tracks is not None and small.tracks is not None
            assert (source.tracks.epoch, small.tracks.epoch) == (number, number)


async def test_equal_sound_goes_on_without_an_announcement() -> None:
    async with on_air() as one:
        main, slate = OneInput(0, {3: (AUDIO, NO_INFO)}), OneInput(50_000, {})
        one.begin(main)
        one.run(main, 5)
        sounds = one.record("audio1")
        for other in (slate, OneInput(80_000, {3: (AUDIO, NO_INFO)})):
            one.begin(other)
            one.run(other, 5)
        assert {t.epoch for t in sounds.tracks} == {0} == {t.epoch for t in one.recorder.tracks}
        assert times(sounds, Kind.AUDIO) == times(one.recorder, Kind.AUDIO)[-len(times(sounds, Kind.AUDIO)) :]


async def test_an_input_that_begins_with_its_cache_shows_its_tracks_from_its_next_key_frame() -> None:
    async with on_air() as one:
        main, backup = OneInput(0, MAIN), OneInput(70_000, MAIN)
        one.begin(main)
        one.run(main, 7)
        small = one.record("144p")
        one.begin(backup, squeezed=3)
        one.run(backup, 2)
        assert times(small, track=VIDEO) == times(one.recorder)[-5:-1]
        one.run(backup, 3)
        assert times(small, track=SMALL)[-3:] == times(one.recorder)[-3:]
        assert times(small) == times(one.recorder)[-8:]
        source, rendition = one.stream.original.tracks, one.rendition("144p").original.tracks
        assert source is not None and rendition is not None and source.epoch == rendition.epoch == 2


async def test_a_key_frame_that_comes_too_late_waits_for_the_next_one() -> None:
    async with on_air() as one:
        slate, main = OneInput(50_000, {}), OneInput(0, MAIN)
        one.begin(main)
        one.run(main, 6)
        one.begin(slate)
        one.run(slate, 5)
        small = one.record("144p")
        late = OneInput(90_000, MAIN)
        default, additional = late.units()
        one.program.begin(BOTH, default[:1], one.now, None, late.relay)
        after, _ = late.units()
        one._push(after, additional)  # its first key frame comes after the second default picture
        one.run(late, 3)
        assert not times(small, track=SMALL)
        one.run(late, 2)
        assert times(small, track=SMALL) == times(one.recorder)[-2:]
        assert grows(times(small))


async def test_changed_default_tracks_are_announced_in_renditions_without_their_track() -> None:
    other = MediaTrack(Kind.VIDEO, Codec.H264, 1000, builders.AVCC + b"\0")
    async with on_air() as one:
        main, slate = OneInput(0, MAIN), OneInput(50_000, {})
        one.begin(main)
        one.run(main, 2)
        one.begin(slate)
        one.run(slate, 4)
        one.program.change(Tracks(other, AUDIO))
        one.run(slate, 3)
        tracks = one.rendition("144p").original.tracks
        assert tracks is not None and tracks.video == other


async def test_tracks_of_inputs_are_the_same_if_they_have_the_same_name() -> None:
    async with on_air() as one:
        main, backup = OneInput(0, MAIN), OneInput(70_000, {2: (SMALL, P240), 4: (SMALL, P144)})
        one.begin(main)
        one.run(main, 6)
        small = one.rendition("144p")
        one.begin(backup)
        one.run(backup, 6)
        assert one.rendition("144p") is small
        tracks = one.stream.pushed_tracks
        assert {t.name: t.id for t in tracks.by_name.values()} == {"144p": 2, "240p": 1, "audio1": 1}
        assert small.original.tracks is not None and small.original.tracks.video == SMALL


async def test_renditions_that_linger_go_on_with_the_next_input() -> None:
    async with on_air() as one:
        main, slate = OneInput(0, MAIN), OneInput(50_000, {}, gop=3)
        one.begin(main)
        one.run(main, 6)
        small, french = one.record("144p"), one.record("audio1")
        one.program.publisher.close()
        one.now += 2
        one.program = Program(one.hub.publish_from(ORIGIN, builders.channel(), "c1", lambda reason: None))
        one.begin(slate)
        one.run(slate, 4)
        assert times(small, track=VIDEO) == times(one.recorder)[-5:-1]
        assert times(french, Kind.AUDIO, AUDIO) == times(one.recorder, Kind.AUDIO)[-5:]
        one.begin(main := OneInput(90_000, MAIN))
        one.run(main, 3)
        assert times(small, track=SMALL) == times(one.recorder)[-4:]


async def test_the_number_of_renditions_is_bounded() -> None:
    async with on_air() as one:
        for turn in range(30):
            additional = {2 * n + 1: (FRENCH, NO_INFO) for n in range(7 * turn + 1, 7 * turn + 8)}
            one.begin(made := OneInput(turn * 10_000, additional))
            one.run(made, 3)
        assert len(one.stream.pushed_tracks.by_name) <= MAX_PUSHED
        assert len(list(one.hub)) <= MAX_PUSHED + 1


# ---- the switcher ----


def additional_push(one: Studio, publisher: StreamPublisher) -> Push:
    return Push(one.hub, publisher)


def seen(one: Studio, name: str) -> Recorder:
    stream = one.hub.find(f"c1@{name}")
    assert stream is not None
    recorder = Recorder()
    stream.attach(recorder)
    return recorder


async def test_a_push_that_broke_off_returns_with_its_tracks(monkeypatch: pytest.MonkeyPatch) -> None:
    async with studio(monkeypatch) as one:
        kept = channel(PUSH, SLATE)
        push = additional_push(one, one.push(kept))
        push.begin(2, 2)
        push.frames(2, 2, 5)
        await one.until_on_air("main")
        assert [t.name for t in one.hub.held("c1").pushed_tracks.by_name.values()] == ["720p", "audio1"]  # type: ignore[union-attr]
        small, sounds = seen(one, "720p"), seen(one, "audio1")
        push.publisher.close()
        await one.until_on_air("slate")
        count = len(small.units)
        await one.until(lambda: len(small.units) > count + 5)
        assert small.ended is None
        again = additional_push(one, one.push(kept))
        again.begin(2, 2)
        while one.on_air() != "main":
            again.now = time.monotonic()
            again.frames(2, 2)
            await asyncio.sleep(0.01)
        count = len(sounds.units)
        again.frames(2, 2, 30)
        assert len(sounds.units) == count + 30
        assert grows([u.dts for u in small.units if u.track.kind is Kind.VIDEO])
        assert grows([u.dts for u in sounds.units])


async def test_inputs_that_are_added_take_a_push_over_with_its_tracks(monkeypatch: pytest.MonkeyPatch) -> None:
    async with studio(monkeypatch) as one:
        push = additional_push(one, one.push(builders.channel("c1")))
        push.begin(2, 2)
        push.frames(2, 2, 5)
        renditions = {s.name: s for s in one.hub}
        small, sounds = seen(one, "720p"), seen(one, "audio1")
        one.hub.channel_changed(channel(PUSH, SLATE))
        await one.until_on_air("main")
        push.frames(2, 2, 5)
        assert {s.name: s for s in one.hub} == renditions
        assert [u.dts for u in small.units if u.track.kind is Kind.VIDEO] == [n * 40 for n in range(10)]
        assert [u.dts for u in sounds.units] == [n * 40 for n in range(10)]
        assert {t.epoch for t in small.tracks} == {0}
        push.begin(2, 3)
        push.frames(2, 3, 2)
        assert one.hub.find("c1@audio2") is not None
        push.publisher.close()
        await one.until_on_air("slate")
        count = len(small.units)
        await one.until(lambda: len(small.units) > count + 3)
        send(one.push(channel(PUSH, SLATE)))
