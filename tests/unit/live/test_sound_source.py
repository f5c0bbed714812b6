"""Sinks that need sound wait for it if a stream converts its sound on demand."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from gateway.live.fanout import Fanout
from gateway.live.publisher import StreamPublisher
from gateway.live.sink import EndReason, SinkNeeds
from gateway.live.stream import Stream
from gateway.media.track import AccessUnit, Codec, Kind, MediaTrack
from gateway.workers.sound_protocol import opus_track
from tests.support import builders
from tests.support.builders import Recorder, picture, sound


class Source:
    """A `SoundSource`. makes: whether the units already have sound."""

    def __init__(self) -> None:
        self.asked = 0
        self.makes = False

    def begin(self) -> bool:
        self.asked += 1
        return self.makes


class Push:
    """A push with Opus and on-demand AAC."""

    def __init__(self) -> None:
        self.source = Source()
        self.publisher: StreamPublisher = builders.publish(builders.hub())
        self.publisher.set_opus(opus_track(2), self.source)
        self.publisher.set_tracks(builders.VIDEO, builders.AUDIO, {})
        self.stream: Stream = self.publisher.stream

    def pictures(self, *times: int) -> None:
        for ms in times:
            self.publisher.push(picture(ms, key=ms % 1_000 == 0), 50.0)

    def made(self, *times: int) -> None:
        self.publisher.add_sound([sound(ms) for ms in times], 50.0)


def times(units: Iterable[AccessUnit]) -> list[int]:
    return [unit.dts for unit in units]


@pytest.fixture
async def push() -> Push:
    return Push()


@pytest.mark.parametrize("original", [False, True])
async def test_the_first_sink_gets_the_cache_with_converted_sound(push: Push, original: bool) -> None:
    fanout: Fanout = push.stream.original if original else push.stream
    push.pictures(0, 40)
    listener, replays = Recorder(), [0]
    fanout.attach(listener, SinkNeeds(on_replayed=lambda: replays.append(1)))
    assert push.source.asked == 1 and push.stream.wants_audio
    push.pictures(80)
    assert [tracks.audio for tracks in listener.tracks] == [builders.AUDIO]
    assert not listener.units and replays == [0]
    before = push.stream.received.bytes
    push.made(0, 20, 41, 62, 83)
    assert push.stream.received.bytes == before + 5 * 6
    assert times(listener.units) == [0, 0, 20, 40, 41, 62, 80, 83] and replays == [0, 1]
    push.pictures(120)
    push.publisher.push(sound(104), 50.0)
    assert times(listener.units)[-2:] == [120, 104]


async def test_a_sink_without_replay_starts_after_the_cached_units(push: Push) -> None:
    push.pictures(0, 40)
    listener = Recorder()
    push.stream.attach(listener, SinkNeeds(cache=False))
    push.made(0, 20)
    assert not listener.units
    push.pictures(80)
    assert times(listener.units) == [80]


async def test_a_sink_that_needs_no_sound_does_not_wait(push: Push) -> None:
    push.pictures(0, 40)
    watcher = Recorder()
    push.stream.attach(watcher, SinkNeeds(audio=False))
    assert times(watcher.units) == [0, 40]
    assert not push.source.asked and not push.stream.wants_audio
    push.stream.attach(Recorder())
    assert push.stream.wants_audio
    push.stream.detach(watcher)
    assert push.stream.wants_audio
    push.pictures(80)
    assert times(watcher.units) == [0, 40]


async def test_a_later_sink_gets_the_cache_at_once(push: Push) -> None:
    push.pictures(0)
    push.source.makes = True
    listener = Recorder()
    push.stream.attach(listener)
    assert times(listener.units) == [0]
    push.stream.detach(listener)
    assert not push.stream.wants_audio


async def test_a_sink_detached_while_waiting_gets_no_units(push: Push) -> None:
    push.pictures(0)
    listener = Recorder()
    push.stream.attach(listener)
    push.stream.detach(listener)
    assert not push.stream.wants_audio
    push.made(0)
    push.pictures(40)
    assert not listener.units


async def test_a_waiting_sink_gets_new_tracks_and_an_empty_cache(push: Push) -> None:
    push.pictures(0, 40)
    listener = Recorder()
    push.stream.attach(listener)
    push.stream.set_tracks(builders.VIDEO, None, {}, False)
    assert [tracks.audio for tracks in listener.tracks] == [builders.AUDIO, None]
    push.made(20)
    assert not listener.units
    push.pictures(1_000)
    assert times(listener.units) == [1_000]


@pytest.mark.parametrize("original", [False, True])
async def test_a_waiting_sink_gets_pictures_and_end_when_the_stream_ends(push: Push, original: bool) -> None:
    push.pictures(0, 40)
    listener = Recorder()
    (push.stream.original if original else push.stream).attach(listener)
    push.stream.end(EndReason.KICKED)
    assert times(listener.units) == [0, 40]
    assert listener.ended is EndReason.KICKED and listener.items.count(EndReason.KICKED) == 1


async def test_the_end_of_the_push_releases_waiting_sinks(push: Push) -> None:
    push.pictures(0)
    listener, later = Recorder(), Recorder()
    push.stream.attach(listener)
    push.publisher.close()
    assert times(listener.units) == [0]
    push.stream.attach(later)
    assert times(later.units) == [0] and push.source.asked == 1


async def test_a_push_moved_to_another_stream_keeps_its_sound_source(push: Push) -> None:
    push.pictures(0)
    waiting, listener = Recorder(), Recorder()
    push.stream.attach(waiting)
    other = builders.stream()
    push.publisher.move(other, lambda publisher: None, None)
    assert times(waiting.units) == [0], "the earlier stream gets no more"
    push.publisher.set_tracks(builders.VIDEO, builders.AUDIO, {})
    other.set_tracks(builders.VIDEO, builders.AUDIO, {}, True)
    other.attach(listener)
    assert push.source.asked == 2 and not listener.units
    push.made()
    push.pictures(1_000)
    assert times(listener.units) == [1_000]


async def test_a_failing_sink_does_not_disturb_others(push: Push) -> None:
    class Failing(Recorder):
        def on_unit(self, unit: AccessUnit) -> None:
            raise ValueError("broken")

    push.pictures(0)
    failing, listener, replayed = Failing(), Recorder(), Recorder()
    push.stream.attach(failing, SinkNeeds(on_replayed=lambda: replayed.items.append(EndReason.KICKED)))
    push.stream.attach(listener)
    push.made(0)
    assert isinstance(failing.error, ValueError) and not replayed.items
    assert times(listener.units) == [0, 0]
    push.stream.detach(listener)
    assert not push.stream.wants_audio


async def test_converted_sound_is_dropped_if_tracks_change_too_often(push: Push) -> None:
    push.pictures(0)
    listener = Recorder()
    push.stream.attach(listener)
    other = MediaTrack(Kind.AUDIO, Codec.AAC, 1000, b"\x11\x90")
    for audio in (other, builders.AUDIO) * 5:
        push.publisher.set_tracks(builders.VIDEO, audio, {}, now=50.0)
    push.made(0, 20)
    assert not [unit for unit in listener.units if unit.track.kind is Kind.AUDIO]
