"""The inputs of all channels of a process. Every push goes through `ChannelInputs`.

A channel has a list of inputs, best first: the push, backups, pulls, playlists, slates. One at a time is on air. These
objects do the work, from the publisher to the channel's stream:

- Each input publishes into a hidden stream `<id>/<name>` of a shelf of its own. Viewers cannot reach this shelf. It
  has no outputs, and it relays additional tracks.
- `ChannelInput` is a sink of that stream. It knows whether the input delivers media from a key frame on.
- `Matching` encodes an input in the form of the push, if the channel wants it. Then `ChannelInput` takes its stream.
- `ChannelSwitcher` has the inputs of one channel. It chooses the input on air (`selection.choose`), and starts and
  stops the sources.
- `Program` is the only publisher of the channel's stream. It writes the input on air, with continuous times.

An input goes on air when it is the best one that delivers, or when it is taken by hand. A better input replaces one
that delivers only after it was steady for some seconds. This happens at one of its key frames, so nothing is missing.
If the input on air falls silent, the next one goes on air at once. If no input delivers, the last one stays on air
while it is connected.

A slate or playlist without `always` does not start a channel. It goes on air only when no better input delivers:
while a push is connected but silent, until `inputs.hold` after its end, or while a pull is wanted. With `always` it has
no such limits. A pull is wanted while somebody watches, or with `always`.

A channel has a switcher while one of its inputs is connected or on air. A channel whose only input is the push has
none: the push goes straight into the hub. If such a channel gets inputs while it is live, the switcher adopts the push.
The channel's stream goes on without a gap.

Each part of the state has one writer:

- `ChannelInputs` makes and removes switchers, and claims channels that start without a push.
- A switcher decides who is on air. Inputs report to it (`InputListener`), and it checks them twice a second.
- An input counts its own media. The source of an input (`SourceRunner`) connects, and reports its faults.

Events of the hidden shelf are not events of the gateway. The begin and end of pushes are emitted again for the channel.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from typing import Any, Final, TypeAlias

import structlog

from gateway.channels.channel import Channel
from gateway.channels.inputs import MAIN, ONLY_MAIN, InputKind, InputSpec, stored_inputs
from gateway.channels.names import channel_of
from gateway.channels.stores import ChannelReader, find_channel
from gateway.inputs.channel_input import InputState
from gateway.inputs.descriptor import InputServices
from gateway.inputs.registry import all_inputs
from gateway.inputs.selection import SwitchReason
from gateway.inputs.switcher import ChannelSwitcher, SwitcherParts
from gateway.lib.metric_table import INPUT_SWITCHES, INPUTS, MetricSample, by_label
from gateway.lib.tasks import Tasks, kept
from gateway.live.hub import Hub
from gateway.live.publisher import PushOrigin, StreamPublisher
from gateway.live.shelf import StreamLimits, StreamShelf
from gateway.live.sink import EndReason
from gateway.live.stream import Stream
from gateway.ports.errors import AtCapacity, GatewayError, NoSuchStream
from gateway.ports.events import Event, Events, EventType
from gateway.settings.models import InputsSettings

log = structlog.get_logger(__name__)

TICK_SECONDS: Final = 0.5
_MAX_WAITING: Final = 1_000  # streams for which viewers begin to wait between two ticks
# A source's publisher has the kind of its input as protocol, for example pull or slate; a push has rtmp, ws, ….
_SOURCES: Final = frozenset(map(str, InputKind))
Claim: TypeAlias = Callable[[Channel, Callable[[int], Stream]], Awaitable[bool]]


class ChannelInputs:
    """The switchers of this process. `run` must be running. Its `publish` is for `Hub.use_inputs`.

    hub: of the channels' streams. viewers: returns the viewers of a stream on all nodes. channels: may be a cache.
    claim: claims a channel for this node. It calls the given function with the first segment number, and this makes
    the stream. It returns False if another node holds the stream. None: there is no other node.
    """

    def __init__(
        self,
        hub: Hub,
        settings: InputsSettings,
        services: InputServices,
        viewers: Callable[[Stream], int],
        channels: ChannelReader,
        claim: Claim | None = None,
    ) -> None:
        limits = hub.limits
        hidden_events = Events()
        hidden_events.listen(self._on_hidden_event)
        self._hub = hub
        sizes = limits.gop_seconds, limits.gop_bytes
        # The bit rate of a push is limited on air only: `hub` knows the kind of the input, and then refuses pushes.
        hidden_limits = StreamLimits(limits.takeover_after, 0, *sizes, tracks_wait=limits.tracks_wait)
        self._hidden = StreamShelf(hidden_limits, (), hidden_events)
        switches: Counter[str] = Counter(dict.fromkeys(SwitchReason, 0))
        self._parts = SwitcherParts(hub, self._hidden, settings, services, all_inputs(), viewers, switches)
        self._switchers: dict[str, ChannelSwitcher] = {}
        self._waiting: set[str] = set()  # channels for which a viewer waits, until the next tick
        self._starting: set[str] = set()
        self._closed = False  # after `retire`, no more channels start
        self._tasks = Tasks("inputs")
        hub.use_inputs(self.publish, self._on_awaited)
        hub.feed.listen(self._follow)
        self._claim: Claim = claim or _claim_alone
        self._channels = channels

    # ---- pushes ----

    def publish(
        self, channel: Channel, origin: PushOrigin, evict: Callable[[EndReason], None], input: str, first_number: int
    ) -> StreamPublisher:
        """Implements PublishSource."""
        specs = stored_inputs(channel.item)
        switcher = self._switchers.get(channel.id)
        if switcher is None and specs == ONLY_MAIN and input in ("", MAIN):
            return self._hub.publish_from(origin, channel, channel.id, evict, first_number)
        switcher = self._switcher(channel, specs)
        name = input or next(spec.name for spec in specs if spec.kind is InputKind.PUSH)
        return switcher.publish(name, origin, evict, first_number)

    def _switcher(self, channel: Channel, specs: tuple[InputSpec, ...]) -> ChannelSwitcher:
        """Returns the switcher of a channel. Raises AtCapacity during shutdown."""
        switcher = self._switchers.get(channel.id)
        if switcher is None or switcher.ended:
            if self._closed:
                raise AtCapacity("shutting down")
            if switcher is not None:
                self._tasks.start(switcher.close(), "close")
            switcher = self._switchers[channel.id] = ChannelSwitcher(self._parts, channel, specs)
            stream = self._hub.held(channel.id)
            if stream is not None and isinstance(stream.publisher, StreamPublisher):
                switcher.adopt(stream.publisher)
        return switcher

    # ---- the API ----

    def states(self, id: str) -> dict[str, tuple[InputState, str | None]]:
        """Returns state and error of a channel's inputs, by name; without those that this node does not run."""
        switcher = self._switchers.get(id)
        if switcher is not None and not switcher.ended:
            return switcher.states()
        stream = self._hub.find(id)
        if stream is None or stream.publisher is None:
            return {}
        name = next(s.name for s in stored_inputs(stream.channel.item) if s.kind is InputKind.PUSH)
        return {name: (InputState.ON_AIR, None)}

    def taken(self, id: str) -> str | None:
        """Returns the name of the input that was taken by hand; None: the choice is automatic."""
        switcher = self._switchers.get(id)
        return None if switcher is None else switcher.taken

    def take(self, id: str, name: str | None) -> None:
        """Puts an input on air by hand; None: the choice is automatic again.

        Raises KeyError for an unknown name, NoSuchStream if the channel is not live here or the input delivers nothing.
        """
        switcher = self._switchers.get(id)
        if switcher is None or switcher.ended:
            raise NoSuchStream(id)
        switcher.take(name)

    def holds(self, id: str) -> bool:
        """Whether this process runs inputs of a channel."""
        return id in self._switchers

    def switcher_of(self, id: str) -> ChannelSwitcher | None:
        """Returns the switcher of a channel; None if this process runs no inputs of it."""
        return self._switchers.get(id)

    # ---- channels without a push ----

    async def run(self) -> None:
        """Checks all switchers twice a second, until it is cancelled."""
        hidden = self._tasks.keep(self._hidden.run, "hidden streams")
        try:
            await kept(self._check_regularly, "inputs")
        finally:
            hidden.cancel()
            self._closed = True
            await asyncio.gather(*(switcher.close() for switcher in self._switchers.values()))
            await self._tasks.close()

    def retire(self) -> None:
        """Starts no more channels. Channels without a push end, so that another process of this host takes them."""
        self._closed = True
        for id in list(self._switchers):
            self._give_up_without_push(id)

    def _give_up_without_push(self, id: str) -> None:
        if not self._switchers[id].has_push:
            self._hub.end(id, EndReason.SHUTDOWN)

    async def _check_regularly(self) -> None:
        while True:
            await asyncio.sleep(TICK_SECONDS)
            now = time.monotonic()
            for id, switcher in list(self._switchers.items()):
                try:
                    switcher.tick(now)
                except Exception as error:  # the other channels go on
                    log.error("the inputs of a channel cannot be checked", stream=id, exc_info=error)
                if self._closed:
                    self._give_up_without_push(id)
                if switcher.is_idle:
                    del self._switchers[id]
                    self._tasks.start(switcher.close(), f"close {id}")
            waiting, self._waiting = self._waiting, set()
            for id in waiting:
                self._start(self._start_awaited(id), id)

    def _follow(self, channels: Mapping[str, Channel | None], is_all: bool) -> None:
        """Configures the switchers of channels, and starts channels that are on air without a push."""
        for channel in channels.values():
            if channel is not None:
                self._follow_one(channel)

    def _follow_one(self, channel: Channel) -> None:
        specs = stored_inputs(channel.item)
        switcher = self._switchers.get(channel.id)
        if switcher is not None:
            switcher.configure(channel, specs)
        elif specs != ONLY_MAIN:
            stream = self._hub.held(channel.id)
            if stream is not None:
                if stream.publisher is not None and not self._closed:
                    self._switcher(channel, specs)
            elif any(spec.always for spec in specs):
                self._start(self._start_channel(channel), channel.id)

    def _on_awaited(self, name: str) -> None:
        id = channel_of(name)
        switcher = self._switchers.get(id)
        if switcher is not None:
            switcher.demand(time.monotonic())
        elif len(self._waiting) < _MAX_WAITING:
            self._waiting.add(id)

    def _start(self, work: Coroutine[Any, Any, None], id: str) -> None:
        if id in self._starting or self._closed:
            work.close()
            return
        self._starting.add(id)
        task = self._tasks.start(work, f"start {id}")
        task.add_done_callback(lambda _: self._starting.discard(id))

    async def _start_awaited(self, id: str) -> None:
        """Starts a channel for a viewer, if it has a pull."""
        try:
            channel = await find_channel(self._channels, id)
        except GatewayError as error:
            log.warning("the inputs of a channel cannot be read", stream=id, reason=str(error))
            return
        if channel is not None and any(s.kind is InputKind.PULL for s in stored_inputs(channel.item)):
            await self._start_channel(channel)

    async def _start_channel(self, channel: Channel) -> None:
        """Starts a channel that has no push, unless its key has expired or another node holds its stream."""
        try:
            if channel.id not in self._switchers and not channel.expired(time.time()):
                specs = stored_inputs(channel.item)
                await self._claim(channel, lambda first_number: self._switcher(channel, specs).start(first_number))
        except GatewayError as error:
            log.warning("the inputs of a channel cannot start", stream=channel.id, reason=str(error))

    # ---- events and metrics ----

    def samples(self) -> Iterator[MetricSample]:
        """Yields the samples for the metrics."""
        states: Counter[str] = Counter(dict.fromkeys(InputState, 0))
        for switcher in self._switchers.values():
            states.update(state for state, _ in switcher.states().values())
        yield from by_label(INPUTS, states)
        yield from by_label(INPUT_SWITCHES, self._parts.switches)

    def _on_hidden_event(self, event: Event) -> None:
        """Emits begin and end of a push as events of its channel."""
        if event.type in (EventType.PUBLISH_STARTED, EventType.PUBLISH_ENDED):
            id, _, name = str(event.data["stream"]).partition("/")
            if event.data["protocol"] not in _SOURCES:
                self._hub.events.emit(Event(event.type, event.time, id, {**event.data, "stream": id, "input": name}))


async def _claim_alone(channel: Channel, begin: Callable[[int], Stream]) -> bool:
    """Claims a channel on a node without a cluster."""
    begin(0)
    return True
