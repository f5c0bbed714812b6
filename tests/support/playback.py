"""A playback listener over a real hub, with FLV and the simplest HLS and CMAF responders."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from gateway.hub.access import Secrets
from gateway.hub.channel import Channel
from gateway.hub.errors import NoSuchChannel, StoreAway
from gateway.hub.hub import Hub
from gateway.hub.output import OutputSpec
from gateway.hub.publisher import Publisher
from gateway.hub.stream import Stream
from gateway.packagers.flv import FlvOutput
from gateway.servers.audience import Audience
from gateway.servers.flv import FlvViewers
from gateway.servers.health import Health
from gateway.servers.pages import Pages
from gateway.servers.playback import Playback, Routes
from gateway.servers.posters import Posters
from gateway.servers.protection import Protection
from gateway.servers.request import Request
from gateway.servers.response import Response
from tests.support import builders
from tests.support.builders import AUDIO, VIDEO, picture, publish, sound
from tests.support.http import Listener, limits, serving, until

SECRETS = Secrets("a-secret")


class Idle:
    """An output that does nothing until its stream ends."""

    async def run(self, stream: Stream) -> None:
        await stream.over()


class Channels:
    """A ChannelReader over a dict."""

    def __init__(self, *stored: Channel) -> None:
        self.stored = {c.id: c for c in stored}
        self.away = False

    async def get(self, id: str) -> Channel:
        await asyncio.sleep(0)
        if self.away:
            raise StoreAway("the table is locked")
        if id not in self.stored:
            raise NoSuchChannel(id)
        return self.stored[id]


class Lab:
    """What a test of playback holds. Pictures go in with `push`."""

    def __init__(self, hub: Hub, channels: Channels, audience: Audience, listener: Listener, flv: FlvViewers) -> None:
        self.hub, self.channels, self.audience, self.listener, self.flv = hub, channels, audience, listener, flv
        self.missing: list[str] = []
        self._dts = 0

    def live(self, name: str = "c1", **fields: Any) -> Publisher:
        """A publisher that has sent a key frame."""
        publisher = publish(self.hub, name, **fields)
        publisher.set_tracks(VIDEO, AUDIO, {})
        self.push(publisher, key=True)
        return publisher

    def push(self, publisher: Publisher, *, key: bool = False, size: int = 100) -> None:
        publisher.push(picture(self._dts, key=key, size=size), time.monotonic())
        publisher.push(sound(self._dts), time.monotonic())
        self._dts += 40


def _served(request: Request, stream: Stream, rest: str) -> Response:
    return Response(200, f"{stream.name} {rest}".encode(), "video/mp2t", cache="public, max-age=600, immutable")


@asynccontextmanager
async def playing(
    *stored: Channel,
    wait: float = 10.0,
    auth: str = "none",
    backlog: int = 524_288,
    stall: float = 60.0,
    posters: Posters | None = None,
    **server: Any,
) -> AsyncIterator[Lab]:
    specs = [
        OutputSpec("flv", lambda s: FlvOutput(s, 0.0, stall), lambda s: s.channel.is_flv),
        OutputSpec("hls", lambda s: Idle(), lambda s: s.channel.is_hls),
        OutputSpec("cmaf", lambda s: Idle(), lambda s: s.channel.is_cmaf),
    ]
    hub = builders.hub(specs)
    channels, audience, flv = Channels(*stored), Audience(), FlvViewers(backlog)
    labs: list[Lab] = []

    async def missing() -> list[str]:
        return labs[0].missing

    handler = Playback(
        hub=hub,
        channels=channels,
        protection=Protection(
            auth=auth, referers=(), verify_play=SECRETS.verify_play, cloudfront=None, refusals_per_minute=100
        ),
        routes=Routes.of(_served, _served, _served, _served, _served),
        flv=flv,
        audience=audience,
        pages=Pages(),
        health=Health(missing),
        wait_for_publisher=wait,
        posters=posters,
    )
    async with serving(handler, **server) as listener:
        labs.append(Lab(hub, channels, audience, listener, flv))
        try:
            yield labs[0]
        finally:
            hub.drain()
            await hub.drained()
            audience.close()


__all__ = ["AUDIO", "SECRETS", "VIDEO", "Lab", "limits", "playing", "until"]
