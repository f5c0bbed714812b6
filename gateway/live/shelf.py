"""The streams of a process by name: their publishers, the viewers that wait for them, and their linger times."""

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain

import structlog

from gateway.channels.channel import Channel
from gateway.lib.tasks import Tasks, kept
from gateway.lib.traffic import TrafficCounts
from gateway.live.output import Outputs, OutputSpec
from gateway.live.publisher import Evict, PushOrigin, StreamPublisher
from gateway.live.sink import EndReason
from gateway.live.start_buffer import StartBuffer, StartBufferBudget
from gateway.live.stream import ActivePublisher, Stream, StreamKind, StreamSpec
from gateway.ports.errors import AtCapacity, NameInUse, NoSuchStream
from gateway.ports.events import Event, Events, EventType

log = structlog.get_logger(__name__)

KEEP_ENDED = 60.0  # seconds for which an ended stream's playlists stay; public: must not change
# Seconds for which a start buffer exists:
WAITERS_SECONDS = 2.0  # for viewers that wait at this node; they join within a few turns of the event loop
NODES_SECONDS = 5.0  # for other nodes, which search a stream every half second in a remote registry


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """Limits of every stream, in seconds and bytes (settings, section `stream`).

    beginning: seconds for which other nodes can get a stream from its first frame; 0: never.
    tracks_wait: longest time for which the other media of a push wait for its promised pictures.
    """

    takeover_after: float
    linger: float
    gop_seconds: float
    gop_bytes: int
    beginning: float = 0.0
    tracks_wait: float = 10.0


class StreamShelf:
    """Streams by name. Only one event loop may use it. `run` must run for the streams to work.

    The additional tracks of a push are relayed. specs: of the streams' outputs. events: gets begin and end of streams
    and pushes. traffic: counts the bytes to viewers.
    """

    def __init__(
        self,
        limits: StreamLimits,
        specs: Sequence[OutputSpec] = (),
        events: Events | None = None,
        traffic: TrafficCounts | None = None,
    ) -> None:
        self.limits = limits
        self.events = events or Events()
        self.traffic = traffic or TrafficCounts()
        self._output_specs = tuple(specs)
        self._streams: dict[str, Stream] = {}
        self._ended: dict[str, Stream] = {}
        self._waiting: dict[str, set[asyncio.Future[Stream]]] = {}
        self._lingering: dict[str, asyncio.TimerHandle] = {}
        self._started: dict[str, float] = {}  # names of streams that viewers could join, with their monotonic begin
        self._draining = False
        self._start_budget = StartBufferBudget()
        self._tasks = Tasks("streams")
        self._on_awaited: Callable[[str], None] = lambda name: None

    def add_outputs(self, specs: Iterable[OutputSpec]) -> None:
        """Adds outputs for future streams. Outputs that publish renditions cannot be created before their shelf."""
        self._output_specs = (*self._output_specs, *specs)

    async def run(self) -> None:
        """Does the work of each second, until it is cancelled. Then ends all streams."""
        try:
            await kept(self._sample_regularly, "streams")
        finally:
            for name in list(self._streams):
                self.end(name, EndReason.SHUTDOWN)
            await self._tasks.close()

    async def _sample_regularly(self) -> None:
        while True:
            await asyncio.sleep(1)
            self.sample(time.monotonic(), time.time())

    def sample(self, now: float, wall_clock: float) -> None:
        """Samples bit rates, once a second. now: monotonic seconds. wall_clock: seconds since 1970."""
        for stream in self:
            stream.received.sample(now)

    def __iter__(self) -> Iterator[Stream]:
        return iter(list(self._streams.values()))

    def holds(self, name: str) -> bool:
        """Whether there is a stream of this name, even if it has no media yet."""
        return name in self._streams

    def find(self, name: str) -> Stream | None:
        """Returns a stream that can be played now (live or lingering)."""
        stream = self._streams.get(name)
        return stream if stream is not None and stream.playable else None

    def held(self, name: str) -> Stream | None:
        """Returns the stream of this name, even if it has no media yet."""
        return self._streams.get(name)

    def find_recent(self, name: str) -> Stream | None:
        """Returns a stream like `find`, or one that ended less than KEEP_ENDED ago. Its playlists still exist."""
        return self.find(name) or self._ended.get(name)

    async def wait(self, name: str, seconds: float) -> Stream:
        """Waits until the stream can be played. Raises NoSuchStream after `seconds`, AtCapacity during shutdown."""
        if self._draining:
            raise AtCapacity("shutting down")
        stream = self.find(name)
        if stream is not None:
            return stream
        self._on_awaited(name)
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

    def publish_from(
        self, origin: PushOrigin, channel: Channel, name: str, evict: Evict, first_number: int = 0
    ) -> StreamPublisher:
        """Returns a publisher of the stream `name`. first_number: first segment number of a new stream.

        Raises NameInUse while another publisher sends media, AtCapacity at the limit or during shutdown.
        """
        return self._publish(origin, channel, self._make_spec(name, first_number), evict)

    async def acquire_publisher(
        self, channel: Channel, origin: PushOrigin, evict: Evict, input: str = ""
    ) -> StreamPublisher:
        """Implements AcquirePublisher without a cluster."""
        return self.publish_from(origin, channel, channel.id, evict)

    def _make_spec(self, name: str, first_number: int = 0) -> StreamSpec:
        """Describes a new stream."""
        size, seconds, kind = self.limits.gop_bytes, self.limits.gop_seconds, StreamKind.of(name)
        return StreamSpec(
            name, time.time(), size, seconds, kind, first_number, relays=True, tracks_wait=self.limits.tracks_wait
        )

    def _publish(self, origin: PushOrigin, channel: Channel, spec: StreamSpec, evict: Evict) -> StreamPublisher:
        """Returns a publisher of a stream. spec: of the stream, if it does not exist yet."""
        name, now = spec.name, time.monotonic()
        if self._draining:
            raise AtCapacity("shutting down")
        stream = self._streams.get(name)
        if stream is None:
            stream = self._make_stream(channel, spec)
        else:
            current = stream.publisher
            if current is not None:
                if now - current.last_media < self.limits.takeover_after:
                    raise NameInUse(name)
                log.info("publisher taken over", stream=name, old=current.on_air.peer, new=origin.peer)
                stream.publisher = None
                self._emit_publish_ended(stream, current, EndReason.PUBLISHER_GONE)
                current.evict(EndReason.PUBLISHER_GONE)
            self._stop_linger(name)
            self.channel_changed(channel)
            stream.await_key_frame()
        stream.publisher = publisher = StreamPublisher(stream, origin, now, evict, self.publisher_left)
        if stream.is_source and origin.emits_events:
            self._emit(EventType.PUBLISH_STARTED, stream, protocol=origin.protocol, peer=origin.peer)
        return publisher

    def adopt(self, channel: Channel, name: str, publisher: StreamPublisher) -> Stream:
        """Makes a stream for a publisher of another shelf, which publishes into it from now on. Returns the stream."""
        stream = self._make_stream(channel, self._make_spec(name))
        publisher.move(stream, self.publisher_left, stream.additional)
        stream.publisher = publisher
        return stream

    def hand_over(self, publisher: StreamPublisher, other: StreamPublisher) -> None:
        """Lets a publisher of this shelf publish in place of `other`, which is new on another one. Its stream ends."""
        stream = publisher.stream
        stream.publisher, other.stream.publisher = None, publisher
        publisher.replace(other, time.monotonic())
        self.end(stream.name, EndReason.MOVED)

    def _make_stream(self, channel: Channel, spec: StreamSpec) -> Stream:
        name = spec.name
        ended = self._ended.get(name)
        limiters = ended.received.limiters if ended is not None else None
        make_outputs = partial(Outputs, specs=self._output_specs, events=self.events)
        stream = Stream(spec, channel, limiters, self._on_playable, make_outputs)
        stream.playback.tally = self.traffic.of(channel.id)
        self._streams[name] = stream
        outputs = stream.outputs
        assert outputs is not None
        outputs.open()
        self._tasks.start(outputs.run(), name)
        return stream

    def _on_playable(self, stream: Stream) -> None:
        """Called when the tracks of the stream are known: resumes waiting viewers."""
        if stream.name not in self._started:
            self._started[stream.name] = time.monotonic() - (time.time() - stream.spec.started)
            # Before the first unit: viewers that wait join later, perhaps after a whole burst.
            wait_seconds = WAITERS_SECONDS if self._waiting.get(stream.name) else 0.0
            if seconds := max(wait_seconds, self.limits.beginning):
                stream.keep_start(StartBuffer(stream.drop_start, seconds, self.limits.gop_bytes, self._start_budget))
            self._ended.pop(stream.name, None)
            if stream.spec.kind is not StreamKind.PUSHED_TRACK:  # it is a part of its source's push
                self._emit(EventType.STREAM_STARTED, stream)
        for future in self._waiting.get(stream.name, ()):
            if not future.done():
                future.set_result(stream)

    def publisher_left(self, publisher: StreamPublisher) -> None:
        """Called by StreamPublisher when the push ends. The stream lingers, or ends at once if it never had media."""
        stream = publisher.stream
        if stream.publisher is not publisher:
            return
        stream.publisher = None
        reason = publisher.end_reason or EndReason.PUBLISHER_GONE
        self._emit_publish_ended(stream, publisher, reason)
        if stream.original.tracks is None:
            self.end(stream.name, EndReason.NO_MEDIA)
        else:
            self._linger(stream.name, reason)

    def _linger(self, name: str, reason: EndReason) -> None:
        """Lets a stream linger. It ends for this reason, at once during shutdown."""
        seconds = self.limits.linger
        if self._draining or seconds <= 0:
            self.end(name, reason)
        else:
            self._lingering[name] = asyncio.get_running_loop().call_later(seconds, self.end, name, reason)

    def end(self, name: str, reason: EndReason) -> bool:
        """Ends a stream now, with its publisher and viewers. Returns False if it does not exist."""
        stream = self._streams.pop(name, None)
        if stream is None:
            return False
        self._stop_linger(name)
        publisher, stream.publisher = stream.publisher, None
        if publisher is not None:
            self._emit_publish_ended(stream, publisher, reason)
            publisher.evict(reason)
        stream.end(reason)
        if name in self._started:
            seconds = round(time.monotonic() - self._started.pop(name), 3)
            self._ended[name] = stream
            asyncio.get_running_loop().call_later(KEEP_ENDED, self._forget, stream)
            if stream.spec.kind is not StreamKind.PUSHED_TRACK:
                size = stream.received.bytes
                self._emit(EventType.STREAM_ENDED, stream, reason=str(reason), seconds=seconds, bytes=size)
        return True

    def channel_changed(self, channel: Channel) -> None:
        """Applies a changed channel to its live streams: expiry, protection, outputs."""
        for stream in self._streams.values():
            if stream.channel.id == channel.id:
                stream.change_channel(channel)

    def drain(self) -> None:
        """Ends all streams and accepts no new ones. Informs publishers, viewers and waiting callers.

        Outputs finish by themselves.
        """
        self._draining = True
        for future in chain.from_iterable(self._waiting.values()):
            if not future.done():
                future.set_exception(AtCapacity("shutting down"))
        for name in list(self._streams):
            self.end(name, EndReason.SHUTDOWN)

    async def drained(self) -> None:
        """Waits until the outputs of every stream have finished."""
        await self._tasks.idle()

    def _forget(self, stream: Stream) -> None:
        if self._ended.get(stream.name) is stream:
            del self._ended[stream.name]

    def _stop_linger(self, name: str) -> None:
        timer = self._lingering.pop(name, None)
        if timer is not None:
            timer.cancel()

    def _emit(self, kind: EventType, stream: Stream, **data: object) -> None:
        self.events.emit(Event(kind, time.time(), stream.channel.id, {"stream": stream.name, **data}))

    def _emit_publish_ended(self, stream: Stream, publisher: ActivePublisher, reason: EndReason) -> None:
        if stream.is_source and publisher.emits_events:
            push = publisher.on_air
            seconds, origin = round(time.monotonic() - push.since, 1), {"protocol": push.protocol, "peer": push.peer}
            self._emit(EventType.PUBLISH_ENDED, stream, **origin, reason=str(reason), seconds=seconds)
