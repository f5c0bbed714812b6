"""A ladder without a transcoder: a source and its renditions in a real hub behind a real playback listener."""

from __future__ import annotations

import asyncio
import functools
import heapq
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

from gateway.live.hub import Hub
from gateway.live.output import OutputSpec
from gateway.live.publisher import PushOrigin, StreamPublisher
from gateway.live.sink import EndReason
from gateway.live.stream import Stream
from gateway.media.track import AccessUnit, Kind, Tracks
from gateway.packaging.feed import Feed
from gateway.packaging.flv_output import FlvOutput
from gateway.packaging.packager_sequence import CmafPackagerFactory, TsPackagerFactory
from gateway.playback.flv import FlvViewers
from gateway.playback.health import Health
from gateway.playback.hls import hls
from gateway.playback.http_viewers import HttpViewers
from gateway.playback.ladder import LadderPlayback
from gateway.playback.pages import Pages
from gateway.playback.play import PlayAdmission
from gateway.playback.playlist_response import start_output
from gateway.playback.protection import PlaybackProtection
from gateway.playback.router import LivePlayback, MediaRoutes, PlaybackAccess, PlaybackRouter
from gateway.ports.errors import OutputUnsupported
from gateway.ports.events import Events
from gateway.workers.ladder_plan import LadderStep
from tests.support import builders
from tests.support.flv_reader import FlvFileDemuxer
from tests.support.http import Listener, serving
from tests.support.media import Film
from tests.support.playback import SECRETS, Channels
from tests.support.segmented import WALL, Timetable
from tests.support.time_outs import at_most

RUNGS = (
    LadderStep("360p", 640, 360, 400_000, 64_000, 1.5),
    LadderStep("480p", 854, 480, 600_000, 64_000, 1.5),
    LadderStep("720p", 1280, 720, 1_000_000, 128_000, 1.5),
)


class StandIn:
    """Replaces the output `codec` and announces the rungs. fails: the reason if there will be none."""

    def __init__(self, rungs: Sequence[LadderStep], fails: str = "") -> None:
        self.active_steps = rungs
        self._fails = fails

    async def run(self, stream: Stream) -> None:
        if self._fails:
            raise OutputUnsupported(self._fails)
        await stream.over()


@dataclass(frozen=True)
class Media:
    """The content of one stream: tracks, and units whose `wall` counts seconds from the start."""

    tracks: Tracks
    units: Sequence[AccessUnit]

    @property
    def begins(self) -> int:
        """The presentation time of the first picture, in ticks of its track."""
        first = next(u for u in self.units if u.track.kind is Kind.VIDEO)
        return first.dts + first.cts

    def at(self, begins: int) -> Media:
        """Shifts all times, because a rendition has its source's times and encoders with B-frames shift them."""
        by = begins - self.begins
        return Media(self.tracks, [replace(u, dts=u.dts + by) for u in self.units])

    @classmethod
    def of(cls, source: Film | Timetable) -> Media:
        if isinstance(source, Film):
            return _film(source)
        units = [replace(u, wall=u.wall - WALL) for u in source.units()]
        return cls(Tracks(source.video, source.audio), units)


@functools.cache
def _film(film: Film) -> Media:
    demux = FlvFileDemuxer()
    found = [e for e in demux.receive(film.path().read_bytes()) if isinstance(e, AccessUnit)]
    units = [replace(u, wall=u.dts / 1000) for u in found]
    return Media(Tracks(demux.media.video_track, demux.media.audio_track), units)


class LadderStream:
    """A source "c1" and its rungs; nothing is published before `begin`.

    Units of each rung arrive `lag` seconds after those of the source. `play` sends the units up to a time of the film.
    """

    def __init__(
        self, hub: Hub, ladders: LadderPlayback, listener: Listener, media: dict[str, Media], **fields: Any
    ) -> None:
        self.hub, self.ladders, self.listener = hub, ladders, listener
        self.channel = builders.channel("c1", **fields)
        self.media = media
        self.wall = WALL  # of the film's start
        self.lag = 0.3
        self.publishers: dict[str, StreamPublisher] = {}
        self.reached = 0.0
        self._due: Iterator[tuple[float, str, AccessUnit]] = iter(())
        self._next: tuple[float, str, AccessUnit] | None = None

    @property
    def rungs(self) -> list[str]:
        return [name for name in self.media if name]

    def begin(self, *names: str) -> LadderStream:
        """Publishes the source ("") and the rungs, or only the named ones."""
        for name in names or tuple(self.media):
            self.publish(name)
        merged = heapq.merge(*(self._timed(name) for name in self.media), key=lambda x: x[0])
        self._due = merged
        self._next = next(merged, None)
        return self

    def publish(self, name: str) -> None:
        """Publishes the stream of one rung or the source ("")."""
        stream = f"c1@{name}" if name else "c1"
        told: list[EndReason] = []
        publisher = self.publishers[name] = self.hub.publish_from(
            PushOrigin("test", "worker", keep_time=True), self.channel, stream, told.append
        )
        tracks = self.media[name].tracks
        publisher.set_tracks(tracks.video, tracks.audio, {})

    def leave(self, *names: str) -> None:
        """Closes these publishers; their streams linger."""
        for name in names:
            self.publishers.pop(name).close()

    def play(self, until: float) -> LadderStream:
        """Sends the units before `until` seconds. Streams without a publisher miss them."""
        while self._next is not None and self._next[0] < until:
            _, name, unit = self._next
            publisher = self.publishers.get(name)
            if publisher is not None:
                publisher.push(replace(unit, wall=self.wall + unit.wall), time.monotonic())
            self._next = next(self._due, None)
        self.reached = max(self.reached, until)
        return self

    async def broadcast(self) -> None:
        """Sends the whole film in real time."""
        began = time.monotonic()
        self.wall = time.time()
        while self._next is not None:
            self.play(time.monotonic() - began)
            await asyncio.sleep(0.02)

    def stream(self, name: str = "") -> Stream:
        found = self.hub.find_recent(f"c1@{name}" if name else "c1")
        assert found is not None
        return found

    def _timed(self, name: str) -> Iterator[tuple[float, str, AccessUnit]]:
        lag = self.lag if name else 0.0
        return ((unit.wall + lag, name, unit) for unit in self.media[name].units)

    async def get(self, path: str, **headers: str) -> Any:
        return await self.listener.get(f"/c1/{path}", **headers)

    async def text(self, path: str) -> str:
        reply = await self.get(path)
        assert reply.status == 200, (path, reply.status, reply.body)
        return str(reply.body.decode())

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.listener.port}/c1"


@asynccontextmanager
async def ladder(
    source: Film | Timetable,
    rungs: dict[str, Film | Timetable],
    *,
    auth: str = "none",
    expected: Sequence[LadderStep] = RUNGS,
    linger: float = 10.0,
    fails: str = "",
    clock: Callable[[], float] = time.monotonic,
    **fields: Any,
) -> AsyncIterator[LadderStream]:
    """Runs a ladder.

    rungs: content by name. expected: rungs of the transcoder, of which the named ones are kept. fails: the reason why
    it makes none. clock: for the time-out of rungs. fields: of the channel.
    """
    fields = {"isCodec": True, "ld": True, "sd": True, "hd": True, "isCMAF": True, "isHls": True} | fields
    ts, cmaf = TsPackagerFactory(), CmafPackagerFactory(0.5)
    promised = [r for r in expected if r.name in rungs]

    def makes(form: str) -> Any:
        return lambda s: s.channel.codec == form and s.channel.flag("isCodec") and not s.is_source

    for_ts, for_cmaf = makes("libx264"), makes("libx265")
    specs = [
        OutputSpec(
            "flv", lambda s: FlvOutput(lambda r: Feed(s, r, 0.05, 60.0), s.captions), lambda s: s.channel.flag("isFlv")
        ),
        OutputSpec(
            "hls",
            ts,
            lambda s: s.channel.flag("isHls") or for_ts(s),
        ),
        OutputSpec(
            "cmaf",
            cmaf,
            lambda s: s.channel.flag("isCMAF") or for_cmaf(s),
        ),
        OutputSpec(
            "codec",
            lambda s: StandIn(() if fails else promised, fails),
            lambda s: s.is_source and s.channel.flag("isCodec"),
        ),
    ]
    hub = builders.hub(specs, events=Events(), linger=linger, gop_bytes=8_000_000)
    audience = HttpViewers()
    ladders = LadderPlayback(hub, audience, clock)

    async def missing() -> list[str]:
        return []

    protection = PlaybackProtection(auth=auth, referers=(), secrets=SECRETS, cloudfront=None, refusals_per_minute=100)
    routes = MediaRoutes.of(ladders, hls)
    live = LivePlayback(hub, routes, FlvViewers(8_000_000), audience, start_output)
    handler = PlaybackRouter(
        PlaybackAccess(PlayAdmission(channels=Channels(), protection=protection, wait=10.0)),
        live,
        Pages(),
        Health(missing),
    )
    original = Media.of(source)
    media = {"": original, **{name: Media.of(film).at(original.begins) for name, film in rungs.items()}}
    async with serving(handler) as listener:
        try:
            yield LadderStream(hub, ladders, listener, media, **fields)
        finally:
            hub.drain()
            await hub.drained()
            audience.close()


@contextmanager
def broadcasting(source: Film, rungs: dict[str, Film | Timetable], **fields: Any) -> Iterator[str]:
    """Runs a live ladder in its own thread, for blocking clients. Yields its URL without a final slash."""
    loop = asyncio.new_event_loop()
    ready: Future[str] = Future()

    async def serve() -> None:
        async with ladder(source, rungs, **fields) as lab:
            lab.begin()
            ready.set_result(lab.base)
            await lab.broadcast()

    def run() -> None:
        asyncio.set_event_loop(loop)
        with suppress(asyncio.CancelledError):
            loop.run_until_complete(task)
        loop.close()

    task = loop.create_task(serve())
    task.add_done_callback(lambda t: None if ready.done() else ready.set_exception(RuntimeError("it did not begin")))
    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield ready.result(at_most(20))
    finally:
        loop.call_soon_threadsafe(task.cancel)
        thread.join()
