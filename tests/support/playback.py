"""A playback listener with a real hub, FLV, and minimal HLS and CMAF responders."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from gateway.channels.channel import Channel
from gateway.channels.stream_key import SigningSecrets
from gateway.http.request import Request
from gateway.http.response import Response
from gateway.live.hub import Hub
from gateway.live.output import OutputSpec, StreamOutput
from gateway.live.publisher import StreamPublisher
from gateway.live.stream import Stream
from gateway.packaging.feed import Feed
from gateway.packaging.flv_output import FlvOutput
from gateway.playback.flv import FlvViewers
from gateway.playback.health import Health
from gateway.playback.http_viewers import HttpViewers
from gateway.playback.pages import Pages
from gateway.playback.play import PlayAdmission
from gateway.playback.play_format import AnswerOrAwaitable, PlayFormat, Responder
from gateway.playback.posters import Posters
from gateway.playback.protection import PlaybackProtection
from gateway.playback.reports import ViewerReports
from gateway.playback.router import (
    OTHER_METHODS,
    LivePlayback,
    MediaRoutes,
    PlaybackAccess,
    PlaybackRouter,
    PublisherRoutes,
    RemoteFiles,
    StoredPlayback,
    StoredResponder,
)
from gateway.playback.show_files import ShowFiles
from gateway.ports.errors import NoSuchChannel, StoreUnavailable
from tests.support import builders
from tests.support.builders import AUDIO, VIDEO, picture, publish, sound
from tests.support.http import Listener, limits, serving
from tests.support.waiting import until

SECRETS = SigningSecrets("a-secret")


class Idle:
    """An output that does nothing until its stream ends."""

    async def run(self, stream: Stream) -> None:
        await stream.over()


class Channels:
    """A `ChannelReader` over a dict."""

    def __init__(self, *stored: Channel) -> None:
        self.stored = {c.id: c for c in stored}
        self.away = False

    async def get(self, id: str) -> Channel:
        await asyncio.sleep(0)
        if self.away:
            raise StoreUnavailable("the table is locked")
        if id not in self.stored:
            raise NoSuchChannel(id)
        return self.stored[id]


class PlaybackServer:
    """The parts of a playback test. Push pictures with `push`."""

    def __init__(
        self, hub: Hub, channels: Channels, audience: HttpViewers, listener: Listener, flv: FlvViewers
    ) -> None:
        self.hub, self.channels, self.audience, self.listener, self.flv = hub, channels, audience, listener, flv
        self.missing: list[str] = []
        self._dts = 0

    def live(self, name: str = "c1", **fields: Any) -> StreamPublisher:
        """A publisher that has already sent a key frame."""
        publisher = publish(self.hub, name, **fields)
        publisher.set_tracks(VIDEO, AUDIO, {})
        self.push(publisher, key=True)
        return publisher

    def push(self, publisher: StreamPublisher, *, key: bool = False, size: int = 100) -> None:
        publisher.push(picture(self._dts, key=key, size=size), time.monotonic())
        publisher.push(sound(self._dts), time.monotonic())
        self._dts += 40


def _served(request: Request, stream: Stream, rest: str) -> Response:
    return Response(200, f"{stream.name} {rest}".encode(), "video/mp2t", cache="public, max-age=600, immutable")


class SameResponder:
    """Answers in the same way for all formats and renditions."""

    def __init__(self, respond: Responder) -> None:
        self.index = self.rendition = respond

    def responder(self, format: PlayFormat) -> Responder | None:
        return self.index if format.files else None


@asynccontextmanager
async def playing(
    *stored: Channel,
    wait: float = 10.0,
    auth: str = "none",
    backlog: int = 524_288,
    stall: float = 60.0,
    posters: Posters | None = None,
    reports: ViewerReports | None = None,
    public_channels: Callable[[Request], AnswerOrAwaitable] | None = None,
    publishers: PublisherRoutes | None = None,
    remote_files: RemoteFiles | None = None,
    shows: ShowFiles | None = None,
    recordings: StoredResponder | None = None,
    hls: Callable[[Stream], StreamOutput] = lambda stream: Idle(),
    **server: Any,
) -> AsyncIterator[PlaybackServer]:
    specs = [
        OutputSpec(
            "flv", lambda s: FlvOutput(lambda r: Feed(s, r, 0.0, stall), s.captions), lambda s: s.channel.flag("isFlv")
        ),
        OutputSpec("hls", hls, lambda s: s.channel.flag("isHls")),
        OutputSpec("cmaf", lambda s: Idle(), lambda s: s.channel.flag("isCMAF")),
    ]
    hub = builders.hub(specs)
    channels, audience, flv = Channels(*stored), HttpViewers(), FlvViewers(backlog)
    labs: list[PlaybackServer] = []

    async def missing() -> list[str]:
        return labs[0].missing

    protection = PlaybackProtection(auth=auth, referers=(), secrets=SECRETS, cloudfront=None, refusals_per_minute=100)
    routes = MediaRoutes.of(SameResponder(_served), _served)
    handler = PlaybackRouter(
        PlaybackAccess(PlayAdmission(channels=channels, protection=protection, wait=wait)),
        LivePlayback(hub, routes, flv, audience, reports=reports, remote_files=remote_files),
        Pages(),
        Health(missing),
        StoredPlayback(recordings, posters, public_channels, publishers, shows=shows),
    )
    async with serving(handler, hidden=OTHER_METHODS, **server) as listener:
        labs.append(PlaybackServer(hub, channels, audience, listener, flv))
        try:
            yield labs[0]
        finally:
            hub.drain()
            await hub.drained()
            audience.close()


__all__ = ["AUDIO", "SECRETS", "VIDEO", "PlaybackServer", "limits", "playing", "until"]
