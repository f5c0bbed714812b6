"""A live stream with a relay, without the rest of the gateway: the publisher's media goes to the targets."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.channels.channel import Channel
from gateway.formats.flv.tag import AUDIO, VIDEO
from gateway.lib.egress import Egress
from gateway.live.flv_intake import FlvIntake
from gateway.live.hub import Hub
from gateway.live.output import OutputSpec
from gateway.live.publisher import StreamPublisher
from gateway.live.sink import EndReason
from gateway.live.stream import Stream
from gateway.live.unit_intake import AUDIO_INDEX, VIDEO_INDEX
from gateway.outputs.relay.relay_output import RelayFactory
from gateway.ports.events import Events
from gateway.ports.stores import IvsDirectory
from gateway.settings import load
from tests.support import builders
from tests.support.flv_reader import FlvReader, Tag
from tests.support.media import Film
from tests.support.time_outs import at_most

LOOPBACK = ("127.0.0.0/8", "::1")
SECONDS = 20.0


def relays(
    *,
    allow: Sequence[str] = LOOPBACK,
    tls: ssl.SSLContext | None = None,
    ivs: IvsDirectory | None = None,
    events: Events | None = None,
    **options: float,
) -> RelayFactory:
    """Relays with the default options and these changes."""
    environ = {f"MILLRACE_RELAY__{name.upper()}": str(value) for name, value in options.items()}
    return RelayFactory(load(environ=environ).relay, Egress(allow), events or Events(), tls, ivs)


@dataclass
class Live:
    """A stream with the output `relay`."""

    hub: Hub
    publisher: StreamPublisher
    relays: RelayFactory

    @property
    def stream(self) -> Stream:
        return self.publisher.stream

    @property
    def status(self) -> dict[str, Any]:
        """The entry of the relay in the session."""
        assert self.stream.outputs is not None
        return dict(next(o for o in self.stream.outputs.status() if o["name"] == "relay"))  # type: ignore[arg-type]

    @property
    def targets(self) -> list[dict[str, Any]]:
        return list(self.status["targets"])

    async def until(self, condition: Callable[[], Any], what: str) -> None:
        """Waits until `condition()` is true, checked every few milliseconds."""
        try:
            async with asyncio.timeout(at_most(SECONDS)):
                while not condition():
                    await asyncio.sleep(0.005)
        except TimeoutError:
            raise AssertionError(f"not within {SECONDS:.0f} s: {what}; {self.status}") from None

    async def state(self, state: str, target: int = 0) -> dict[str, Any]:
        """Waits until the target has this state and returns its report."""
        await self.until(lambda: len(self.targets) > target and self.targets[target]["state"] == state, state)
        return self.targets[target]

    def change(self, *urls: str, **fields: Any) -> None:
        """Changes the targets of the stored channel."""
        item = {**self.stream.channel.item, "relayURL": list(urls), **fields}
        self.hub.channel_changed(Channel(item))

    def film(self, times: range, *, gop: int = 10, size: int = 40) -> None:
        """Publishes a picture and a sound at each of these milliseconds, with a key frame every `gop` pictures."""
        now = time.monotonic()
        for n, at in enumerate(times):
            self.publisher.push(builders.picture(at, key=n % gop == 0, size=size), now)
            self.publisher.push(builders.sound(at), now)

    async def film_on(self, times: range, *, gop: int = 10, size: int = 40) -> None:
        """Publishes like `film`, with pauses for the targets."""
        for first in range(times.start, times.stop, gop * times.step):
            self.film(range(first, min(first + gop * times.step, times.stop), times.step), gop=gop, size=size)
            await asyncio.sleep(0.01)

    async def keep_filming(self, start: int = 0, *, step: int = 40, gop: int = 10) -> None:
        """Publishes until cancelled, many times faster than real time."""
        at = start
        while True:
            self.film(range(at, at + gop * step, step), gop=gop)
            at += gop * step
            await asyncio.sleep(0.02)

    def end(self) -> None:
        self.hub.end(self.stream.name, EndReason.PUBLISHER_GONE)


@contextlib.asynccontextmanager
async def filming(on: Live, start: int = 0) -> AsyncIterator[None]:
    """Keeps publishing during the block."""
    task = asyncio.create_task(on.keep_filming(start))
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@contextlib.asynccontextmanager
async def live(
    *urls: str, with_: RelayFactory | None = None, tracks: bool = True, **fields: Any
) -> AsyncIterator[Live]:
    """A stream with a relay to `urls`, in H.264 and AAC. tracks: false announces no tracks yet."""
    made = with_ or relays()
    hub = builders.hub([OutputSpec("relay", made.make, lambda s: s.channel.flag("isRelay"))])
    running = asyncio.create_task(hub.run())
    try:
        publisher = builders.publish(hub, isRelay=True, relayURL=list(urls), **fields)
        if tracks:
            publisher.set_tracks(builders.VIDEO, builders.AUDIO, {"encoder": "test", "duration": 9.0})
        yield Live(hub, publisher, made)
    finally:
        hub.drain()
        await hub.drained()
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running


def tags_of(film: Film) -> list[Tag]:
    """The audio and video tags of the film, as a publisher would send them."""
    tags = FlvReader().receive(film.path().read_bytes())
    return [t for t in tags if t.type_id in (AUDIO, VIDEO) and t.payload[:2] != b"\x17\x02"]


async def play(film: Film, into: Live, *, speed: float = 20.0, until: float | None = None) -> None:
    """Publishes the film `speed` times faster than real time. until: stops after these seconds of it."""
    intake, tags = FlvIntake(into.publisher), tags_of(film)
    began = time.monotonic()
    for tag in tags:
        if until is not None and tag.timestamp > until * 1000:
            break
        ahead = tag.timestamp / 1000 / speed - (time.monotonic() - began)
        if ahead > 0.01:
            await asyncio.sleep(ahead)
        lane = VIDEO_INDEX if tag.type_id == VIDEO else AUDIO_INDEX
        intake.take_media(lane, tag.timestamp, tag.payload, time.time(), time.monotonic())
    intake.finish(time.monotonic())
