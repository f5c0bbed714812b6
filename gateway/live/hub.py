"""The streams of a gateway's channels: the limits of pushes, the inputs, and the renditions that publishers send."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import structlog

from gateway.channels.channel import Channel
from gateway.channels.inputs import InputKind
from gateway.lib.bounded_dict import BoundedDict
from gateway.lib.traffic import TrafficCounts
from gateway.live.channel_feed import ChannelFeed
from gateway.live.next_numbers import OutputNumbers
from gateway.live.output import OutputSpec
from gateway.live.publisher import Evict, PublishSource, PushOrigin, StreamPublisher
from gateway.live.pushed_tracks import MAX_PUSHED
from gateway.live.shelf import StreamLimits, StreamShelf
from gateway.live.sink import EndReason
from gateway.live.stream import Stream, StreamKind, StreamSpec
from gateway.live.track_publisher import TrackPublisher
from gateway.ports.errors import AtCapacity, BitRateTooHigh
from gateway.ports.events import Events

log = structlog.get_logger(__name__)

TRANSCODE = "transcode"  # protocol of the publishers that workers are
# The GOP cache of an additional track has `gop_bytes` divided by this, so that 14 tracks have less than four streams.
TRACK_GOP_DIVISOR = 4
# A push ends if the mean of five seconds stays above its limit times OVER_SHARE for OVER_SECONDS.
OVER_SHARE = 1.1
OVER_SECONDS = 5.0
REFUSED_SECONDS = 30.0  # for which its channel takes no push, because encoders connect again at once
_MAX_TOO_FAST = 1_000


@dataclass(frozen=True, slots=True)
class HubLimits(StreamLimits):
    """Limits of a gateway's streams and pushes.

    publishers: largest number on this node; 0: no limit.
    end_at_expiry: whether a running push ends at the expiry of its key.
    push_kbps: the largest bit rate of a push whose channel has no `maxKbps`; 0: no limit.
    """

    publishers: int = 0
    end_at_expiry: bool = False
    push_kbps: float = 0.0


class Hub(StreamShelf):
    """A shelf whose streams follow stored channels. Pushes to it are counted, limited, and taken by the inputs.

    The additional tracks of a push are streams of their own. traffic: counts also what pushes send.
    has_successor: whether another node can take the next pushes when this one shuts down; set by `ClusterMember`.
    """

    limits: HubLimits

    def __init__(
        self, limits: HubLimits, specs: Sequence[OutputSpec], events: Events, traffic: TrafficCounts | None = None
    ) -> None:
        super().__init__(limits, specs, events, traffic)
        # By name: the numbers that a stream continues which is made next. Their owner removes them afterwards.
        self.continued: dict[str, OutputNumbers] = {}
        self._over_since: dict[str, float] = {}  # by name: since when a push is above its limit, monotonic seconds
        self._too_fast: BoundedDict[str, float] = BoundedDict(_MAX_TOO_FAST)  # monotonic times, see `check_bit_rate`
        self._retiring = False
        self.has_successor = False
        self.publish_source: PublishSource  # of the inputs
        self.feed = ChannelFeed()

    def use_inputs(self, publish: PublishSource, on_awaited: Callable[[str], None]) -> None:
        """Lets the inputs of channels take their pushes. It must be called before the first push.

        on_awaited: called with the name of each stream that somebody begins to wait for.
        """
        self.publish_source, self._on_awaited = publish, on_awaited

    def sample(self, now: float, wall_clock: float) -> None:
        """Also counts received bytes, and ends pushes that are too fast or have expired."""
        super().sample(now, wall_clock)
        for stream in self:
            self._count_received(stream)
            self._limit_bit_rate(stream, now)
            expired = self.limits.end_at_expiry and stream.channel.expires <= wall_clock - 1
            if expired and stream.publisher is not None:
                self.end(stream.name, EndReason.EXPIRED)

    def _count_received(self, stream: Stream) -> None:
        """Adds the bytes of a push and of its additional tracks to the channel's traffic."""
        if stream.spec.kind is not StreamKind.RENDITION:
            new = stream.received.take_bytes()
            stream.tally.received += 0 if stream.input.kind is InputKind.SLATE else new  # nobody has sent a slate

    def _limit_bit_rate(self, stream: Stream, now: float) -> None:
        """Ends a push that is OVER_SHARE above its limit for OVER_SECONDS. Its channel takes no push for a while.

        The bit rate is that of all its tracks. Pulled inputs, playlists and renditions that workers make have no limit.
        """
        publisher, most = stream.publisher, 0.0
        if publisher is not None and stream.is_source and stream.input.kind in (InputKind.PUSH, InputKind.BACKUP):
            most = stream.channel.number("maxKbps") or self.limits.push_kbps
        tracks = (self._streams.get(f"{stream.name}@{name}") for name in stream.pushed_tracks.by_name)
        bits = stream.received.bitrate + sum(track.received.bitrate for track in tracks if track is not None)
        kbps = bits / 1000 if most else 0.0
        if publisher is not None:
            publisher.rate = kbps, most
        if kbps <= most * OVER_SHARE:
            self._over_since.pop(stream.name, None)
        elif now - self._over_since.setdefault(stream.name, now) >= OVER_SECONDS:
            log.info("push ended", stream=stream.name, reason="bit rate too high", kbps=round(kbps), limit=most)
            self._too_fast[stream.name] = now + REFUSED_SECONDS
            self.end(stream.name, EndReason.BIT_RATE)

    def check_bit_rate(self, channel: Channel) -> None:
        """Raises BitRateTooHigh if a push to the channel has just been ended for its bit rate."""
        most = channel.number("maxKbps") or self.limits.push_kbps
        if most and time.monotonic() < self._too_fast.get(channel.id, 0.0):
            raise BitRateTooHigh(most)

    def _make_spec(self, name: str, first_number: int = 0) -> StreamSpec:
        spec = super()._make_spec(name, first_number)
        return replace(spec, relays=False, continues=self.continued.get(name, spec.continues))

    def _publish(self, origin: PushOrigin, channel: Channel, spec: StreamSpec, evict: Evict) -> StreamPublisher:
        name, stream = spec.name, self._streams.get(spec.name)
        current = None if stream is None else stream.publisher
        if name == channel.id and self._retiring:
            if current is None or time.monotonic() - current.last_media >= self.limits.takeover_after:
                self.end(name, EndReason.SHUTDOWN)  # so that the push can go to the other process
            raise AtCapacity("another process of this host has taken over")
        # A take-over, and a push that is refused because the name is in use, do not add a publisher.
        if name == channel.id and current is None and (limit := self.limits.publishers):
            # Renditions are not counted: they come from our own workers.
            pushes = [s for s in self if s.publisher is not None and s.name == s.channel.id]
            if len(pushes) >= limit:
                raise AtCapacity(f"{limit} publishers are on this node")
        publisher = super()._publish(origin, channel, spec, evict)
        if name == channel.id:
            publisher.use_additional(TrackPublisher(publisher, self._publish_track))
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
        worker = None if current is None else current.publisher
        if current is not None and worker is not None and worker.on_air.protocol == TRANSCODE:
            current.publisher = None
            worker.evict(EndReason.PUBLISHER_GONE)
        if not stream.pushed_tracks:
            stream.when_ended(lambda reason: self._end_tracks(stream, reason))
        elif track not in stream.pushed_tracks.by_name and len(stream.pushed_tracks.by_name) >= MAX_PUSHED:
            for old in list(stream.pushed_tracks.by_name):
                rendition = self._streams.get(f"{stream.name}@{old}")
                if rendition is not None and rendition.publisher is None:
                    self.end(rendition.name, EndReason.PUBLISHER_GONE)
        origin = PushOrigin(source.on_air.protocol, source.on_air.peer, keep_time=True, trusted=True)
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

    async def acquire_publisher(
        self, channel: Channel, origin: PushOrigin, evict: Evict, input: str = ""
    ) -> StreamPublisher:
        return self.publish_source(channel, origin, evict, input, 0)

    def replace_publisher(self, earlier: StreamPublisher, origin: PushOrigin, evict: Evict) -> StreamPublisher:
        """Replaces the publisher of a stream, without an event. The earlier one must move (`adopt`)."""
        stream = earlier.stream
        stream.publisher = publisher = StreamPublisher(stream, origin, time.monotonic(), evict, self.publisher_left)
        publisher.take_additional(earlier)
        return publisher

    def _linger(self, name: str, reason: EndReason) -> None:
        if self._retiring:
            self.end(name, EndReason.SHUTDOWN)
        else:
            super()._linger(name, reason)

    def end(self, name: str, reason: EndReason) -> bool:
        if (stream := self.held(name)) is not None:
            self._count_received(stream)
            stream.playback.next_numbers.has_successor = self._retiring or self.has_successor
        self._over_since.pop(name, None)
        return super().end(name, reason)

    def end_channel(self, id: str, reason: EndReason) -> bool:
        """Ends the streams of a channel, renditions first. Returns whether there was one."""
        names = [stream.name for stream in self._streams.values() if stream.channel.id == id]
        for name in sorted(names, key=len, reverse=True):
            self.end(name, reason)
        return bool(names)

    def channel_changed(self, channel: Channel) -> None:
        """Applies a changed channel to its live streams, and to what follows `feed`."""
        super().channel_changed(channel)
        self.feed.tell({channel.id: channel})

    def retire(self) -> None:
        """Accepts no new pushes. A stream ends with its push. Its next push goes to another process of this host."""
        self._retiring = True
        self.feed.close()
