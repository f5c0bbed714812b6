"""The streams of a process: admits their publishers, finds them for viewers, and ends them."""

import asyncio
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import structlog

from gateway.channels.channel import Channel
from gateway.channels.inputs import InputKind
from gateway.lib.bounded_dict import BoundedDict
from gateway.lib.tasks import Tasks, kept
from gateway.lib.traffic import TrafficCounts
from gateway.live.channel_feed import ChannelFeed
from gateway.live.next_numbers import OutputNumbers
from gateway.live.output import Outputs, OutputSpec
from gateway.live.publisher import Evict, PublishSource, PushOrigin, StreamPublisher
from gateway.live.pushed_tracks import MAX_PUSHED
from gateway.live.sink import EndReason
from gateway.live.start_buffer import StartBuffer, StartBufferBudget
from gateway.live.stream import ActivePublisher, Stream, StreamKind, StreamSpec
from gateway.live.track_publisher import TrackPublisher
from gateway.ports.errors import AtCapacity, BitRateTooHigh, NameInUse, NoSuchStream, NotAuthorized, RefusalReason
from gateway.ports.events import Event, Events, EventType

log = structlog.get_logger(__name__)

KEEP_ENDED = 60.0  # seconds for which an ended stream's playlists stay; public: must not change
TRANSCODE = "transcode"  # protocol of the publishers that workers are
# The GOP cache of an additional track has `gop_bytes` divided by this, so that 14 tracks have less than four streams.
TRACK_GOP_DIVISOR = 4
# Seconds for which a start buffer exists:
WAITERS_SECONDS = 2.0  # for viewers that wait at this node; they join within a few turns of the event loop
NODES_SECONDS = 5.0  # for other nodes, which search a stream every half second in a remote registry
# A push ends if the mean of five seconds stays above its limit times OVER_SHARE for OVER_SECONDS.
OVER_SHARE = 1.1
OVER_SECONDS = 5.0
REFUSED_SECONDS = 30.0  # for which its channel takes no push, because encoders connect again at once
_MAX_TOO_FAST = 1_000


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """Limits of every stream, in seconds and bytes (settings, section `stream`).

    publishers: largest number on this node; 0: no limit.
    end_at_expiry: whether a running push ends at the expiry of its key.
    push_kbps: the largest bit rate of a push whose channel has no `maxKbps`; 0: no limit. None: no push has a limit.
    beginning: seconds for which other nodes can get a stream from its first frame; 0: never.
    tracks_wait: longest time for which the other media of a push wait for its promised pictures.
    """

    takeover_after: float
    linger: float
    gop_seconds: float
    gop_bytes: int
    publishers: int = 0
    beginning: float = 0.0
    end_at_expiry: bool = False
    push_kbps: float | None = 0.0
    tracks_wait: float = 10.0

    def max_kbps(self, channel: Channel) -> float:
        """Returns the largest bit rate of a channel's push; 0: no limit."""
        return 0.0 if self.push_kbps is None else channel.number("maxKbps") or self.push_kbps


class Hub:
    """The streams of this process. Only one event loop may use it. `run` must run for the streams to work.

    renditions: whether the additional tracks of a push are streams of their own; else they are relayed.
    traffic: counts the bytes of its streams. pulls: whether other nodes hold these, and count what they received.
    """

    def __init__(
        self, limits: StreamLimits, specs: Sequence[OutputSpec], events: Events, *, renditions: bool = True
    ) -> None:
        self._renditions = renditions
        self.limits = limits
        self.events = events
        self.traffic = TrafficCounts()
        self.pulls = False
        self._output_specs = tuple(specs)
        # By name: the numbers that a stream continues which is made next. Their owner removes them afterwards.
        self.continued: dict[str, OutputNumbers] = {}
        self._streams: dict[str, Stream] = {}
        self._ended: dict[str, Stream] = {}
        self._too_fast: BoundedDict[str, float] = BoundedDict(_MAX_TOO_FAST)  # monotonic times, see `check_bit_rate`
        self._waiting: dict[str, set[asyncio.Future[Stream]]] = {}
        self._lingering: dict[str, asyncio.TimerHandle] = {}
        self._started: set[str] = set()  # names of streams that viewers could join
        self._draining = False
        self._retiring = False
        self._start_budget = StartBufferBudget()
        self._tasks = Tasks("hub")
        self.publish_source: PublishSource = self._publish_directly
        self._on_awaited: Callable[[str], None] = lambda name: None
        self.feed = ChannelFeed()

    def add_outputs(self, specs: Iterable[OutputSpec]) -> None:
        """Adds outputs for future streams. Outputs that publish renditions cannot be created before the hub."""
        self._output_specs = (*self._output_specs, *specs)

    def use_inputs(self, publish: PublishSource, on_awaited: Callable[[str], None]) -> None:
        """Lets the inputs of channels take their pushes: `publish_source` is `publish` from now on.

        on_awaited: called with the name of each stream that somebody begins to wait for.
        """
        self.publish_source, self._on_awaited = publish, on_awaited

    async def run(self) -> None:
        """Samples bitrates once a second, until it is cancelled. Ends pushes that are too fast or have expired."""
        try:
            await kept(self._sample_regularly, "hub")
        finally:
            for name in list(self._streams):
                self.end(name, EndReason.SHUTDOWN)
            await self._tasks.close()

    async def _sample_regularly(self) -> None:
        while True:
            await asyncio.sleep(1)
            self.sample(time.monotonic(), time.time())

    def sample(self, now: float, wall_clock: float) -> None:
        """Does the work of one second. now: monotonic seconds. wall_clock: seconds since 1970."""
        for stream in list(self._streams.values()):
            stream.received.sample(now)
            self._count_received(stream)
            self._limit_bit_rate(stream, now)
            expired = self.limits.end_at_expiry and stream.channel.expires <= wall_clock - 1
            if expired and stream.publisher is not None:
                self.end(stream.name, EndReason.EXPIRED)

    def _count_received(self, stream: Stream) -> None:
        """Adds the bytes of a push and of its additional tracks to the channel's traffic."""
        if not self.pulls and stream.kind is not StreamKind.RENDITION:
            stream.tally.received += stream.received.take_bytes()

    def _limit_bit_rate(self, stream: Stream, now: float) -> None:
        """Ends a push that is OVER_SHARE above its limit for OVER_SECONDS. Its channel takes no push for a while.

        The bit rate is that of all its tracks. Pulled inputs, playlists and renditions that workers make have no limit.
        """
        received = stream.received
        is_push = stream.is_source and received.kind in (InputKind.PUSH, InputKind.BACKUP)
        has_limit = is_push and stream.publisher is not None
        received.max_kbps = self.limits.max_kbps(stream.channel) if has_limit else 0.0
        received.kbps = self._bit_rate(stream) / 1000 if received.max_kbps else 0.0
        if received.kbps <= received.max_kbps * OVER_SHARE:
            received.over_since = None
        elif received.over_since is None:
            received.over_since = now
        elif now - received.over_since >= OVER_SECONDS:
            rates = {"kbps": round(received.kbps), "limit": received.max_kbps}
            log.info("push ended", stream=stream.name, reason="bit rate too high", **rates)
            self._too_fast[stream.name] = now + REFUSED_SECONDS
            self.end(stream.name, EndReason.BIT_RATE)

    def _bit_rate(self, source: Stream) -> int:
        """Returns the bit rate of a push with its additional tracks, in bits per second."""
        tracks = (self._streams.get(f"{source.name}@{name}") for name in source.pushed_tracks.by_name)
        return source.received.bitrate + sum(track.received.bitrate for track in tracks if track is not None)

    def check_bit_rate(self, channel: Channel) -> None:
        """Raises BitRateTooHigh if a push to the channel has just been ended for its bit rate."""
        until = self._too_fast.get(channel.id)
        if until is None:
            return
        if time.monotonic() < until and (most := self.limits.max_kbps(channel)):
            raise BitRateTooHigh(most)
        del self._too_fast[channel.id]

    # ---- finding streams ----

    def __iter__(self) -> Iterator[Stream]:
        return iter(list(self._streams.values()))

    def holds(self, name: str) -> bool:
        """Whether a stream of this name is in this hub, even if it has no media yet."""
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

    # ---- publishing ----

    def publish_from(
        self, origin: PushOrigin, channel: Channel, name: str, evict: Evict, first_number: int = 0
    ) -> StreamPublisher:
        """Returns a publisher of the stream `name`. first_number: first segment number of a new stream.

        Raises NameInUse while another publisher sends media, AtCapacity at the limit or during shutdown.
        """
        return self._publish(origin, channel, self._make_spec(name, first_number), evict)

    def _make_spec(self, name: str, first_number: int = 0) -> StreamSpec:
        """Describes a new stream."""
        size, seconds, kind = self.limits.gop_bytes, self.limits.gop_seconds, StreamKind.of(name)
        spec = StreamSpec(name, time.time(), size, seconds, kind, first_number, relays=not self._renditions)
        continues = self.continued.get(name)
        return spec if continues is None else replace(spec, continues=continues)

    def _publish(self, origin: PushOrigin, channel: Channel, spec: StreamSpec, evict: Evict) -> StreamPublisher:
        """Returns a publisher of a stream. spec: of the stream, if it does not exist yet."""
        name = spec.name
        now = time.monotonic()
        if self._retiring and name == channel.id:
            self._end_if_inactive(name, now)
            raise AtCapacity("another process of this host has taken over")
        if self._draining:
            raise AtCapacity("shutting down")
        stream = self._streams.get(name)
        limit = self.limits.publishers
        # A take-over, and a push that is refused because the name is in use, do not add a publisher.
        adds = name == channel.id and (stream is None or stream.publisher is None)
        if limit and adds and self._count_publishers() >= limit:
            raise AtCapacity(f"{limit} publishers are on this node")
        if stream is None:
            stream = self._make_stream(channel, spec)
        else:
            current = stream.publisher
            if current is not None:
                if now - current.last_media < self.limits.takeover_after:
                    raise NameInUse(name)
                log.info("publisher taken over", stream=name, old=current.peer, new=origin.peer)
                stream.publisher = None
                self._emit_publish_ended(stream, current, EndReason.PUBLISHER_GONE)
                current.evict(EndReason.PUBLISHER_GONE)
            self._stop_linger(name)
            self.channel_changed(channel)
            stream.await_key_frame()
        stream.publisher = publisher = StreamPublisher(stream, origin, now, evict, self.publisher_left)
        publisher.tracks_wait = self.limits.tracks_wait
        if stream.additional is not None:
            stream.additional.begin(publisher)
            publisher.additional = stream.additional
        elif name == channel.id:
            publisher.additional = TrackPublisher(publisher, self._publish_track)
        if stream.is_source and origin.emits_events:
            self._emit(EventType.PUBLISH_STARTED, stream, protocol=origin.protocol, peer=origin.peer)
        return publisher

    def _publish_track(self, source: StreamPublisher, track: str, aligned: bool) -> StreamPublisher:
        """Returns a publisher of the rendition `<id>@<track>`, which the source's publisher sends itself.

        aligned: whether its segments begin with those of the channel's other streams.
        It takes the name from a worker's rendition. Renditions of earlier pushes end first if there are too many.
        Raises NameInUse, AtCapacity.
        """
        stream = source.stream
        name = f"{stream.name}@{track}"
        current = self._streams.get(name)
        if current is not None and current.publisher is not None and current.publisher.protocol == TRANSCODE:
            current.publisher.last_media = -math.inf
        if not stream.pushed_tracks:
            stream.when_ended(lambda reason: self._end_tracks(stream, reason))
        elif track not in stream.pushed_tracks.by_name and len(stream.pushed_tracks.by_name) >= MAX_PUSHED:
            for old in list(stream.pushed_tracks.by_name):
                rendition = self._streams.get(f"{stream.name}@{old}")
                if rendition is not None and rendition.publisher is None:
                    self.end(rendition.name, EndReason.PUBLISHER_GONE)
        origin = PushOrigin(source.protocol, source.peer, keep_time=True, trusted=True)
        gop_bytes, budget = self.limits.gop_bytes // TRACK_GOP_DIVISOR, stream.pushed_tracks.budget
        spec = replace(
            self._make_spec(name), kind=StreamKind.PUSHED_TRACK, gop_bytes=gop_bytes, budget=budget, is_aligned=aligned
        )
        publisher = self._publish(origin, stream.channel, spec, lambda reason: None)
        rendition = publisher.stream
        rendition.gop.max_bytes = spec.gop_bytes  # a rendition that it took from a worker had more
        if rendition is not current:
            rendition.when_ended(lambda reason: self._forget_soon(stream, rendition))
        return publisher

    def _end_tracks(self, stream: Stream, reason: EndReason) -> None:
        for track in list(stream.pushed_tracks.by_name):
            self.end(f"{stream.name}@{track}", reason)

    def _forget_soon(self, source: Stream, rendition: Stream) -> None:
        """Forgets the playlists of a rendition that ended before its source, to free their memory."""
        if source.ended is None:
            asyncio.get_running_loop().call_soon(self._forget, rendition)

    def _publish_directly(
        self, channel: Channel, origin: PushOrigin, evict: Evict, *, input: str, first_number: int
    ) -> StreamPublisher:
        """Implements PublishSource for a hub without inputs."""
        if input:
            raise NotAuthorized("there are no inputs", RefusalReason.WRONG)
        return self.publish_from(origin, channel, channel.id, evict, first_number)

    async def acquire_publisher(
        self, channel: Channel, origin: PushOrigin, evict: Evict, input: str = ""
    ) -> StreamPublisher:
        """Implements AcquirePublisher for a node without a cluster."""
        return self.publish_source(channel, origin, evict, input=input, first_number=0)

    def replace_publisher(self, earlier: StreamPublisher, origin: PushOrigin, evict: Evict) -> StreamPublisher:
        """Replaces the publisher of a stream, without an event. The earlier one must move (`adopt`)."""
        stream = earlier.stream
        stream.publisher = publisher = StreamPublisher(stream, origin, time.monotonic(), evict, self.publisher_left)
        additional = publisher.take_additional(earlier)
        if additional is not None:
            additional.begin(publisher)
        return publisher

    def adopt(self, channel: Channel, name: str, publisher: StreamPublisher) -> Stream:
        """Makes a stream for a publisher of another hub, which publishes into it from now on. Returns the stream."""
        stream = self._make_stream(channel, self._make_spec(name))
        if stream.additional is not None:
            stream.additional.begin(publisher)
        publisher.move(stream, self.publisher_left, stream.additional)
        stream.publisher = publisher
        return stream

    def _make_stream(self, channel: Channel, spec: StreamSpec) -> Stream:
        name = spec.name
        ended = self._ended.get(name)
        limiters = ended.limiters if ended is not None else None
        stream = Stream(spec, channel, limiters, self._on_playable, self._make_outputs)
        stream.playback.tally = self.traffic.of(channel.id)
        self._streams[name] = stream
        outputs = stream.outputs
        assert outputs is not None
        outputs.open()
        self._tasks.start(outputs.run(), name)
        return stream

    def _make_outputs(self, stream: Stream) -> Outputs:
        return Outputs(stream, self._output_specs, self.events)

    def _on_playable(self, stream: Stream) -> None:
        """Called when the tracks of the stream are known: resumes waiting viewers."""
        if stream.name not in self._started:
            self._started.add(stream.name)
            # Before the first unit: viewers that wait join later, perhaps after a whole burst.
            wait_seconds = WAITERS_SECONDS if self._waiting.get(stream.name) else 0.0
            if seconds := max(wait_seconds, self.limits.beginning):
                StartBuffer(stream, seconds, self.limits.gop_bytes, self._start_budget)
            self._ended.pop(stream.name, None)
            if stream.kind is not StreamKind.PUSHED_TRACK:  # it is a part of its source's push
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
        stream.received.was_stopped = reason is EndReason.STOPPED
        self._emit_publish_ended(stream, publisher, reason)
        if stream.original.tracks is None:
            self.end(stream.name, EndReason.NO_MEDIA)
        elif self._retiring:
            self.end(stream.name, EndReason.SHUTDOWN)
        elif self._draining or self.limits.linger <= 0:
            self.end(stream.name, reason)
        else:
            loop, seconds = asyncio.get_running_loop(), self.limits.linger
            self._lingering[stream.name] = loop.call_later(seconds, self.end, stream.name, reason)

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
        self._count_received(stream)
        if name in self._started:
            self._started.discard(name)
            self._ended[name] = stream
            asyncio.get_running_loop().call_later(KEEP_ENDED, self._forget, stream)
            seconds = round(time.time() - stream.spec.started, 3)
            if stream.kind is not StreamKind.PUSHED_TRACK:
                size = stream.received.bytes
                self._emit(EventType.STREAM_ENDED, stream, reason=str(reason), seconds=seconds, bytes=size)
        return True

    def end_channel(self, id: str, reason: EndReason) -> bool:
        """Ends the streams of a channel, renditions first. Returns whether there was one."""
        names = [stream.name for stream in self._streams.values() if stream.channel.id == id]
        for name in sorted(names, key=len, reverse=True):
            self.end(name, reason)
        return bool(names)

    def channel_changed(self, channel: Channel) -> None:
        """Applies a changed channel to its live streams (expiry, protection, outputs), and to what follows `feed`."""
        for stream in self._streams.values():
            if stream.channel.id == channel.id:
                stream.change_channel(channel)
        self.feed.tell({channel.id: channel})

    def retire(self) -> None:
        """Accepts no new pushes. A stream ends with its push. Its next push goes to another process of this host."""
        self._retiring = True
        self.feed.close()

    def _end_if_inactive(self, name: str, now: float) -> None:
        """Ends a stream without an active publisher, so that a new push can go to another process."""
        stream = self._streams.get(name)
        if stream is None:
            return
        if stream.publisher is None or now - stream.publisher.last_media >= self.limits.takeover_after:
            self.end(name, EndReason.SHUTDOWN)

    def drain(self) -> None:
        """Ends all streams and accepts no new ones. Informs publishers, viewers and waiting callers.

        Outputs finish by themselves.
        """
        self._draining = True
        for waiting in self._waiting.values():
            for future in waiting:
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

    def _count_publishers(self) -> int:
        """Returns the number of pushes from outside. Renditions are not counted: they come from our own workers."""
        return sum(s.publisher is not None and s.name == s.channel.id for s in self._streams.values())

    def _stop_linger(self, name: str) -> None:
        timer = self._lingering.pop(name, None)
        if timer is not None:
            timer.cancel()

    def _emit(self, kind: EventType, stream: Stream, **data: object) -> None:
        self.events.emit(Event(kind, time.time(), stream.channel.id, {"stream": stream.name, **data}))

    def _emit_publish_ended(self, stream: Stream, publisher: ActivePublisher, reason: EndReason) -> None:
        if stream.is_source and publisher.emits_events:
            origin = {"protocol": publisher.protocol, "peer": publisher.peer}
            seconds = round(time.monotonic() - publisher.since, 1)
            self._emit(EventType.PUBLISH_ENDED, stream, **origin, reason=str(reason), seconds=seconds)
