"""Pictures of inputs: one for all clients, made seldom, with a reason if there is none."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from gateway.channels.inputs import InputKind
from gateway.inputs.channel_inputs import ChannelInputs
from gateway.inputs.descriptor import InputContext, InputDescriptor
from gateway.inputs.previews import INTERVAL_SECONDS, LONGEST_SIDE, InputPreviews
from gateway.live.hub import Hub
from gateway.live.publisher import PushOrigin, StreamPublisher
from gateway.media.track import AccessUnit
from gateway.ports.errors import NoSuchStream
from gateway.workers.jpeg_service import JpegUnavailable
from tests.support import builders
from tests.support.builders import AUDIO, VIDEO, picture, sound
from tests.support.playback import Channels

LIST = [{"name": "main", "kind": "push"}, {"name": "spare", "kind": "backup"}]


@dataclass
class Jpegs:
    """The picture of a key frame is its decode time. fault: why none can be made."""

    asked: list[int] = field(default_factory=list)
    fault: str = ""
    made: asyncio.Event = field(default_factory=asyncio.Event)

    def start_picture(self, units: Sequence[AccessUnit], longest: int) -> asyncio.Task[bytes]:
        assert longest == LONGEST_SIDE
        self.asked.append(units[0].dts)
        return asyncio.create_task(self._make(units[0].dts))

    async def _make(self, dts: int) -> bytes:
        await self.made.wait()
        if self.fault:
            raise JpegUnavailable(self.fault)
        return str(dts).encode()


@dataclass
class Studio:
    hub: Hub
    inputs: ChannelInputs
    jpegs: Jpegs
    previews: InputPreviews
    now: float = 100.0

    def push(self, name: str = "", **fields: Any) -> StreamPublisher:
        channel = builders.channel(**fields)
        origin = PushOrigin("rtmp", "192.0.2.7")
        publisher = self.hub.publish_source(channel, origin, lambda reason: None, name, 0)
        publisher.set_tracks(VIDEO, AUDIO, {})
        return publisher

    async def picture(self, name: str) -> bytes:
        return await self.previews.make_picture("c1", name)


@pytest.fixture
async def studio() -> AsyncIterator[Studio]:
    hub, jpegs = builders.hub(), Jpegs()
    jpegs.made.set()
    inputs = ChannelInputs(hub, builders.inputs_settings(), cast(Any, None), lambda _: 0, Channels())
    running = asyncio.create_task(inputs.run())
    studio = Studio(hub, inputs, jpegs, cast(Any, None))
    studio.previews = InputPreviews(hub, inputs, cast(Any, jpegs), lambda: studio.now)
    yield studio
    running.cancel()
    await asyncio.wait([running])


async def test_each_input_has_the_picture_of_its_own_key_frame(studio: Studio):
    main, spare = studio.push(inputs=LIST), studio.push("spare", inputs=LIST)
    main.push(picture(0, key=True), 1.0)
    spare.push(picture(40, key=True), 1.0)
    pictures = [await studio.picture(name) for name in ("main", "spare")]
    assert pictures == [str(dts).encode() for dts in studio.jpegs.asked]
    assert len(set(pictures)) == 2


async def test_the_only_push_of_a_channel_has_a_picture_too(studio: Studio):
    publisher = studio.push()
    publisher.push(picture(0, key=True), 1.0)
    assert await studio.picture("main") == b"0"
    with pytest.raises(NoSuchStream, match="spare delivers no media"):
        await studio.picture("spare")


async def test_all_clients_share_a_picture_that_is_made_at_most_every_two_seconds(studio: Studio):
    publisher = studio.push()
    publisher.push(picture(0, key=True), 1.0)
    studio.jpegs.made.clear()
    first = [asyncio.create_task(studio.picture("main")) for _ in range(20)]
    await asyncio.sleep(0)
    first[0].cancel()  # a client that disconnects takes the picture from nobody
    studio.jpegs.made.set()
    assert set(await asyncio.gather(*first[1:])) == {b"0"}
    publisher.push(picture(40, key=True), 1.0)
    studio.now += INTERVAL_SECONDS - 0.1
    assert await studio.picture("main") == b"0"
    studio.now += 0.2
    assert await studio.picture("main") == b"40"
    studio.now += 60
    assert await studio.picture("main") == b"40"
    assert studio.jpegs.asked == [0, 40], "the same key frame is not decoded twice"


async def test_a_missing_picture_has_a_reason(studio: Studio):
    with pytest.raises(NoSuchStream, match="main delivers no media"):
        await studio.picture("main")
    publisher = studio.push()
    publisher.push(sound(0), 1.0)
    with pytest.raises(NoSuchStream, match="no key frame"):
        await studio.picture("main")
    publisher.push(picture(40, key=True), 1.0)
    studio.jpegs.fault = "no picture could be decoded"
    for _ in range(2):
        with pytest.raises(NoSuchStream, match="main has no picture: no picture could be decoded"):
            await studio.picture("main")
    assert studio.jpegs.asked == [40], "a failure counts as a try"
    studio.jpegs.fault = ""
    studio.now += INTERVAL_SECONDS
    assert await studio.picture("main") == b"40"


async def test_a_slate_off_air_shows_the_picture_that_it_would_begin_with(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
):
    class Source:
        is_ready = True
        key_frame: AccessUnit | None = None

        async def run(self, context: InputContext) -> None:
            await asyncio.Event().wait()

    source = Source()
    descriptor = InputDescriptor(kind=InputKind.SLATE, make=lambda services, spec: source, on_demand=True)
    studio.inputs._parts.descriptors[InputKind.SLATE] = descriptor
    main = studio.push(inputs=[*LIST, {"name": "slate", "kind": "slate"}])
    main.push(picture(0, key=True), 1.0)
    with pytest.raises(NoSuchStream, match="slate delivers no media"):
        await studio.picture("slate")
    source.key_frame = picture(7, key=True)
    assert await studio.picture("slate") == b"7"
    source.key_frame = picture(8, key=True)
    assert await studio.picture("slate") == b"7", "at most every two seconds"
    studio.now += INTERVAL_SECONDS
    assert await studio.picture("slate") == b"8"
    main.close()


async def test_an_input_that_has_left_has_no_picture(studio: Studio):
    main, spare = studio.push(inputs=LIST), studio.push("spare", inputs=LIST)
    for publisher in (main, spare):
        publisher.push(picture(0, key=True), 1.0)
    await studio.picture("spare")
    spare.close()
    with pytest.raises(NoSuchStream, match="spare delivers no media"):
        await studio.picture("spare")
