"""Another node pulls a stream in the form for WebRTC viewers: its tracks, its units and its end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from gateway.cluster.streams.browser_form import BrowserForms
from gateway.cluster.streams.pull import UnitSource
from gateway.lib.tasks import Tasks
from gateway.live.fanout import Fanout
from gateway.live.gop_cache import GopCache
from gateway.live.output import OutputSpec
from gateway.live.publisher import StreamPublisher
from gateway.live.sink import ALL_MEDIA, EndReason, Sink, SinkNeeds
from gateway.media import opus
from gateway.media.track import AccessUnit, Codec, Kind, MediaTrack
from gateway.outputs.browser import browser_pictures as pictures_module
from gateway.outputs.browser import opus_sound as sound_module
from gateway.outputs.browser.opus_sound import OpusSound
from gateway.ports.errors import NoSuchStream
from gateway.workers.sound_protocol import opus_track
from tests.support import builders
from tests.support.builders import AUDIO, VIDEO, Recorder
from tests.support.time_outs import at_most

OPUS = opus_track(2)


class Sound(OpusSound):
    """Opus that the test pushes."""

    def __init__(self) -> None:
        self.fanout = Fanout(GopCache(1000, 0))
        self.users = 0

    def acquire(self, sink: Sink) -> None:
        self.users += 1
        self.fanout.attach(sink, SinkNeeds(cache=False))

    def release(self, sink: Sink) -> None:
        self.users -= 1
        self.fanout.detach(sink)

    async def run(self, stream: Any) -> None:
        await stream.over()


class Node:
    """A holder of one stream."""

    def __init__(self, publisher: StreamPublisher, sound: Sound, forms: BrowserForms) -> None:
        self.publisher, self.sound, self.forms = publisher, sound, forms
        self.stream = publisher.stream

    async def pull(self, form: str) -> tuple[UnitSource, Recorder]:
        source, recorder = self.forms(self.stream, "session", form), Recorder()
        source.attach(recorder, ALL_MEDIA)
        async with asyncio.timeout(at_most(5)):
            while not recorder.tracks:
                await asyncio.sleep(0)
        return source, recorder


@asynccontextmanager
async def node(audio: MediaTrack | None = AUDIO) -> AsyncIterator[Node]:
    sound = Sound()
    hub = builders.hub([OutputSpec(sound_module.OUTPUT, lambda s: sound, lambda s: True, listed=False)])
    async with Tasks("pulls") as tasks:
        publisher = builders.publish(hub)
        publisher.set_tracks(VIDEO, audio, {"encoder": "test"})
        publisher.push(builders.picture(0, key=True), 1.0)
        yield Node(publisher, sound, BrowserForms(tasks))
        hub.drain()
        await hub.drained()


async def test_a_node_gets_pictures_and_opus_with_their_tracks_first() -> None:
    async with node() as one:
        source, recorder = await one.pull("webrtc")
        (tracks,) = recorder.tracks
        assert (tracks.video, tracks.audio) == (VIDEO, OPUS)
        assert tracks.metadata["encoder"] == "test"
        one.sound.fanout.set_tracks(None, OPUS, {}, True)
        one.publisher.push(builders.sound(10), 1.0)
        one.sound.fanout.push(AccessUnit(OPUS, 480, 0, True, 0.0, b"opus"))
        one.publisher.push(builders.picture(33), 1.0)
        assert [(u.track.codec, u.dts) for u in recorder.units] == [
            (Codec.H264, 0),
            (Codec.OPUS, 480),
            (Codec.H264, 33),
        ], "no AAC"
        assert len(recorder.tracks) == 1, "the tracks were complete"
        assert one.sound.users == 1
        source.detach(recorder)
        assert one.sound.users == 0


async def test_opus_of_the_publisher_keeps_its_track() -> None:
    head = opus.head_bytes(opus.OpusHead(2, 312, opus.RATE, 0, 0, b""))
    own = MediaTrack(Kind.AUDIO, Codec.OPUS, 1000, head)
    async with node(own) as one:
        _, recorder = await one.pull("webrtc")
        assert recorder.tracks[0].audio == own
        one.sound.fanout.set_tracks(None, own, {}, True)
        one.sound.fanout.push(AccessUnit(OPUS, 480, 0, True, 0.0, b"late, of another scale"))
        one.sound.fanout.push(AccessUnit(own, 20, 0, True, 0.0, b"opus"))
        assert [u.payload for u in recorder.units if u.track.kind is Kind.AUDIO] == [b"opus"]


async def test_the_form_with_h264_has_no_sound() -> None:
    async with node() as one:
        _, recorder = await one.pull("webrtc-h264")
        assert recorder.tracks[0].audio is None
        assert one.sound.users == 0


async def test_an_unknown_form_is_not_found() -> None:
    async with node() as one:
        with pytest.raises(NoSuchStream):
            one.forms(one.stream, "session", "vhs")


async def test_the_end_of_the_stream_ends_the_pull() -> None:
    async with node() as one:
        source, recorder = await one.pull("webrtc")
        one.stream.end(EndReason.KICKED)
        assert recorder.ended is EndReason.KICKED
        source.detach(recorder)


async def test_the_end_of_the_stream_counts_for_pictures_that_a_worker_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their end may have a reason of its own, and another node would not look for the stream again."""
    made = builders.publish(builders.hub(), "c1@webrtc")
    made.set_tracks(VIDEO, None, {})

    async def acquire(self: object, stream: object, playable: object) -> Any:
        return made.stream

    monkeypatch.setattr(pictures_module.PicturesOnDemand, "acquire", acquire)
    async with node() as one:
        source, recorder = await one.pull("webrtc")
        one.stream.end(EndReason.SHUTDOWN)
        made.stream.end(EndReason.OUTPUT_OFF)
        assert recorder.ended is EndReason.SHUTDOWN
        source.detach(recorder)


async def test_reordered_pictures_end_the_pull_and_the_next_one_gets_converted_pictures() -> None:
    async with node() as one:
        source, recorder = await one.pull("webrtc")
        for n, cts in enumerate((40, 120), 1):
            one.publisher.push(builders.picture(n * 40, cts=cts), 1.0)
        assert recorder.ended is None
        one.publisher.push(builders.picture(120), 1.0)
        assert recorder.ended is EndReason.OUTPUT_OFF
        sent = len(recorder.items)
        one.publisher.push(builders.picture(160), 1.0)
        one.sound.fanout.push(AccessUnit(OPUS, 480, 0, True, 0.0, b"opus"))
        one.stream.end(EndReason.KICKED)
        assert (len(recorder.items), recorder.ended) == (sent, EndReason.OUTPUT_OFF)
        source.detach(recorder)


async def test_a_pull_that_ends_before_its_pictures_exist_frees_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[Callable[[], None]] = []

    async def acquire(self: object, stream: object, playable: object) -> Any:
        future = asyncio.get_running_loop().create_future()
        waits.append(cast(Callable[[], None], future.cancel))
        return await future

    monkeypatch.setattr(pictures_module.PicturesOnDemand, "acquire", acquire)
    async with node() as one:
        source, recorder = one.forms(one.stream, "session", "webrtc"), Recorder()
        source.attach(recorder, ALL_MEDIA)
        await asyncio.sleep(0)
        source.detach(recorder)
        await asyncio.sleep(0)
        assert waits
        assert (recorder.items, one.sound.users) == ([], 0)
