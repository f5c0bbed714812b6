"""Which streams there are, who may publish into them, and when they end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import structlog

from gateway.hub.channel import Channel
from gateway.hub.errors import AtCapacity, NameInUse, NoSuchStream
from gateway.hub.events import Event, Events, EventType
from gateway.hub.output import Outputs, OutputSpec
from gateway.hub.publisher import Publisher
from gateway.hub.stream import EndReason, Stream
from gateway.lib.aio import Tasks

log = structlog.get_logger(__name__)

KEEP_ENDED = 60.0  # contract: an ended stream's playlists stay for this long


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """Seconds and bytes that rule every stream (settings, section `stream`); publishers: on this node, 0 any number."""

    takeover_after: float
    linger: float
    gop_seconds: float
    gop_bytes: int
    publishers: int = 0


class Hub:
    """The streams of this process. Touched by one loop; `run` must run for streams to live."""

    def __init__(self, limits: StreamLimits, specs: Sequence[OutputSpec], events: Events) -> None:
        self._limits = limits
        self._specs = tuple(specs)
        self._events = events
        self._streams: dict[str, Stream] = {}
        self._ended: dict[str, Stream] = {}
        self._waiting: dict[str, set[asyncio.Future[Stream]]] = {}
        self._lingering: dict[str, asyncio.TimerHandle] = {}
        self._draining = False
        self._retiring = False
        self._tasks = Tasks("hub", self._crashed)

    def offer(self, specs: Iterable[OutputSpec]) -> None:
        """Adds outputs, for streams that begin from now on: those that publish renditions need a hub to be made."""
        self._specs = (*self._specs, *specs)

    async def run(self) -> None:
        """Samples bitrates and ends expired pushes, once a second, until cancelled."""
        try:
            while True:
                await asyncio.sleep(1)
                now, wall = time.monotonic(), time.time()
                for stream in list(self._streams.values()):
                    stream.sample(now)
                    if stream.publisher is not None and stream.channel.expires <= wall - 1:
                        self.end(stream.name, EndReason.EXPIRED)
        finally:
            for name in list(self._streams):
                self.end(name, EndReason.SHUTDOWN)
            await self._tasks.close()

    # ---- looking up ----

    def __iter__(self) -> Iterator[Stream]:
        return iter(list(self._streams.values()))

    def holds(self, name: str) -> bool:
        """Whether a stream of this name lives here, though it may have no media yet."""
        return name in self._streams

    @property
    def draining(self) -> bool:
        """Nothing new is taken any more."""
        return self._draining

    def find(self, name: str) -> Stream | None:
        """A stream that can be played now (live or lingering)."""
        stream = self._streams.get(name)
        return stream if stream is not None and stream.playable else None

    def find_recent(self, name: str) -> Stream | None:
        """The same, or one that ended less than KEEP_ENDED ago: its playlists still stand."""
        return self.find(name) or self._ended.get(name)

    async def wait(self, name: str, seconds: float) -> Stream:
        """The stream as soon as it can be played. NoSuchStream after `seconds`, AtCapacity when shutting down."""
        if self._draining:
            raise AtCapacity("shutting down")
        stream = self.find(name)
        if stream is not None:
            return stream
        future: asyncio.Future[Stream] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(name, set()).add(future)
        try:
            async with asyncio.timeout(seconds):
                return await future
        except TimeoutError:
            raise NoSuchStream(name) from None
        finally:
            waiting = self._waiting[name]
            waiting.discard(future)
            if not waiting:
                del self._waiting[name]

    # ---- publishing ----

    def publish(
        self,
        channel: Channel,
        name: str,
        *,
        protocol: str,
        peer: str,
        evict: Callable[[EndReason], None],
        keep_time: bool = False,
        first_number: int = 0,
    ) -> Publisher:
        """The lease on `name`. NameInUse while another publisher sends media; AtCapacity when full or shutting down.

        keep_time: as of Publisher; first_number: of a stream that begins with it, as of Stream.
        """
        now = time.monotonic()
        if self._retiring and name == channel.id:
            self._give_up(name, now)
            raise AtCapacity("another process of this host has taken over")
        if self._draining:
            raise AtCapacity("shutting down")
        stream = self._streams.get(name)
        most = self._limits.publishers
        # Who takes over, or is refused because the name is in use, does not add one.
        adds = name == channel.id and (stream is None or stream.publisher is None)
        if most and adds and self._publishers() >= most:
            raise AtCapacity(f"{most} publishers are on this node")
        if stream is None:
            stream = Stream(
                name, channel, time.time(), self._limits.gop_bytes, self._limits.gop_seconds, self._playable
            )
            stream.first_number = first_number
            self._streams[name] = stream
            stream.outputs = Outputs(stream, self._specs, self._events)
            stream.outputs.open()
            self._tasks.start(stream.outputs.run(), name)
        else:
            holder = stream.publisher
            if holder is not None:
                if now - holder.last_media < self._limits.takeover_after:
                    raise NameInUse(name)
                log.info("publisher taken over", stream=name, old=holder.peer, new=peer)
                stream.publisher = None
                holder.evict(EndReason.PUBLISHER_GONE)
            self._stop_linger(name)
            self.channel_changed(channel)
        stream.publisher = Publisher(self, stream, protocol, peer, now, evict, keep_time)
        return stream.publisher

    async def lease(
        self, channel: Channel, *, protocol: str, peer: str, evict: Callable[[EndReason], None]
    ) -> Publisher:
        """The lease on a channel's source stream, for a node that shares it with no other (a Lease of `hub.lease`)."""
        return self.publish(channel, channel.id, protocol=protocol, peer=peer, evict=evict)

    def _playable(self, stream: Stream) -> None:
        """The tracks of what is shown are known: those who wait are let in."""
        if not stream.announced:
            stream.announced = True
            self._ended.pop(stream.name, None)
            self._emit(EventType.STREAM_STARTED, stream)
        for future in self._waiting.get(stream.name, ()):
            if not future.done():
                future.set_result(stream)

    def publisher_left(self, publisher: Publisher) -> None:
        """The push ended by itself: the stream lingers, or goes at once if it never had media. Called by Publisher."""
        stream = publisher.stream
        if stream.publisher is not publisher:
            return
        stream.publisher = None
        if stream.original.tracks is None:
            self.end(stream.name, EndReason.NO_MEDIA)
        elif self._retiring:
            self.end(stream.name, EndReason.SHUTDOWN)
        elif self._draining or self._limits.linger <= 0:
            self.end(stream.name, EndReason.PUBLISHER_GONE)
        else:
            self._lingering[stream.name] = asyncio.get_running_loop().call_later(
                self._limits.linger, self.end, stream.name, EndReason.PUBLISHER_GONE
            )

    def end(self, name: str, reason: EndReason) -> bool:
        """Ends a stream now, with its publisher and viewers. False where there is none."""
        stream = self._streams.pop(name, None)
        if stream is None:
            return False
        self._stop_linger(name)
        publisher, stream.publisher = stream.publisher, None
        if publisher is not None:
            publisher.evict(reason)
        stream.end(reason)
        if stream.announced:
            self._ended[name] = stream
            asyncio.get_running_loop().call_later(KEEP_ENDED, self._forget, stream)
            seconds = round(time.time() - stream.started, 3)
            self._emit(EventType.STREAM_ENDED, stream, reason=str(reason), seconds=seconds, bytes=stream.bytes_in)
        return True

    def channel_changed(self, channel: Channel) -> None:
        """The stored channel was changed: its live streams follow (expiry, protection, outputs)."""
        for stream in self._streams.values():
            if stream.channel.id == channel.id:
                stream.channel = channel
                if stream.outputs is not None:
                    stream.outputs.channel_changed()

    def retire(self) -> None:
        """No new pushes: where one ends, its stream does, and the next goes on in another process of this host."""
        self._retiring = True

    def _give_up(self, name: str, now: float) -> None:
        """Somebody wants to push: a stream whose publisher is gone or silent is left to another process."""
        stream = self._streams.get(name)
        if stream is None:
            return
        if stream.publisher is None or now - stream.publisher.last_media >= self._limits.takeover_after:
            self.end(name, EndReason.SHUTDOWN)

    def drain(self) -> None:
        """No new publishers; those there are told, viewers ended, those who wait let go; outputs finish themselves."""
        self._draining = True
        for waiting in self._waiting.values():
            for future in waiting:
                if not future.done():
                    future.set_exception(AtCapacity("shutting down"))
        for name in list(self._streams):
            self.end(name, EndReason.SHUTDOWN)

    async def drained(self) -> None:
        """Until every stream's outputs have finished."""
        await self._tasks.idle()

    def _forget(self, stream: Stream) -> None:
        if self._ended.get(stream.name) is stream:
            del self._ended[stream.name]

    def _publishers(self) -> int:
        """Pushes from outside; renditions come from our own workers."""
        return sum(s.publisher is not None and s.name == s.channel.id for s in self._streams.values())

    def _stop_linger(self, name: str) -> None:
        timer = self._lingering.pop(name, None)
        if timer is not None:
            timer.cancel()

    def _emit(self, kind: EventType, stream: Stream, **data: object) -> None:
        self._events.emit(Event(kind, time.time(), stream.channel.id, {"stream": stream.name, **data}))

    def _crashed(self, name: str, error: BaseException) -> None:
        log.error("a stream's task failed", task=name, exc_info=error)
