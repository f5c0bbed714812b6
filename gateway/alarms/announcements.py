"""Tells people that a show begins: one message to each target of the channel, once a show.

The store has an entry for each channel whose show was announced, while the show lasts and KEPT seconds longer. It is
deleted at a usual end. So other nodes, and a process that starts again, do not announce the rest of the show.
"""

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import structlog

from gateway.alarms.delivery import Delivery
from gateway.alarms.fault import TEXT_LENGTH, AlarmMessage, one_line
from gateway.channels.channel import Channel
from gateway.channels.inputs import InputKind
from gateway.diagnosis.show import Show
from gateway.lib.bounded_dict import BoundedDict
from gateway.lib.token_bucket import TokenBucket
from gateway.live.sink import EndReason
from gateway.live.stream import Stream
from gateway.ports.events import Event, EventType
from gateway.ports.store_outage import StoreOutage
from gateway.ports.stores import ConsoleStore

log = structlog.get_logger(__name__)

KIND: Final = "announced"  # in the store; the key is the channel
KEPT: Final = 300.0  # seconds for which the store knows an announcement after the process has died
RENEW: Final = 60.0  # seconds between two renewals of an entry
SETTLE: Final = 3.0  # seconds of a show before its announcement: the page then has its picture
PER_HOUR: Final = 12  # announcements of one channel by this process
_MAX_CHANNELS: Final = 2_000  # whose announcements are counted
_TICK: Final = 1.0
_GOES_ON: Final = (EndReason.SHUTDOWN, EndReason.MOVED)  # the encoder returns, or another node has the stream


@dataclass(slots=True)
class _Announced:
    """A show whose announcement is due or done.

    renewed: monotonic time of the last write of its entry; None: it is due.
    """

    channel: Channel
    show: Show
    renewed: float | None = None


class Announcements:
    """The announcements of the streams of one process. `run` must be running.

    addresses(channel): returns the address of the channel's page and of its picture; the picture is "" if not everyone
    may see it. Raises StoreUnavailable.
    """

    def __init__(
        self, store: ConsoleStore, delivery: Delivery, addresses: Callable[[Channel], Awaitable[tuple[str, str]]]
    ) -> None:
        self._store, self._delivery, self._addresses = store, delivery, addresses
        self._shows: dict[str, _Announced] = {}  # by channel
        self._over: set[str] = set()  # channels whose entry is to be deleted
        self._limits: BoundedDict[str, TokenBucket] = BoundedDict(_MAX_CHANNELS)
        self._outage = StoreOutage("announcements wait: the store does not answer")

    def sample(self, stream: Stream, show: Show) -> None:
        """Called with each sample of a show that lasts. A slate is no show yet."""
        channel = stream.channel
        known = self._shows.get(channel.id)
        if known is not None and known.show is show:
            return
        if channel.announce and show.seconds >= SETTLE and stream.input.kind is not InputKind.SLATE:
            self._shows[channel.id] = _Announced(channel, show)

    def note(self, event: Event) -> None:
        """Follows the ends of shows."""
        if event.type is EventType.STREAM_ENDED and event.data.get("stream") == event.channel:
            known = self._shows.pop(event.channel, None)
            if known is not None and event.data.get("reason") not in _GOES_ON:
                self._over.add(event.channel)

    async def run(self) -> None:
        """Announces until it is cancelled."""
        while True:
            with self._outage:
                await self.tick()
            await asyncio.sleep(_TICK)

    async def tick(self) -> None:
        """Announces what is due, and renews and deletes entries. Raises StoreUnavailable."""
        for channel in list(self._over):
            await self._store.delete(KIND, channel)
            self._over.discard(channel)
        for id, one in list(self._shows.items()):
            if one.renewed is None or time.monotonic() - one.renewed >= RENEW:
                await self._keep(id, one)

    async def _keep(self, id: str, one: _Announced) -> None:
        """Announces a show, if nobody has done it, and keeps its entry. Raises StoreUnavailable."""
        value, expires = {"show": one.show.id}, time.time() + KEPT
        message = await self._message(one.channel, one.show) if one.renewed is None else None
        is_new = message is not None and await self._store.add(KIND, id, value, expires)
        if not is_new:
            await self._store.put(KIND, id, value, expires)
        one.renewed = time.monotonic()
        if message is None:
            return
        limit = self._limits[id] = self._limits.get(id) or TokenBucket(PER_HOUR / 3600, PER_HOUR)
        if not is_new or not limit.take(1, time.monotonic()):
            why = "it has begun too often" if is_new else "it was announced before a restart"
            log.info("a show is not announced", channel=id, reason=why)
            return
        for address in one.channel.announce:
            self._delivery.queue(address, message)

    async def _message(self, channel: Channel, show: Show) -> AlarmMessage:
        page, picture = await self._addresses(channel)
        about = channel.upcoming_at(show.start)
        title, name = one_line(show.title), one_line(channel.name)
        texts = (name if name != title else "", about.text if about is not None else channel.text("description"))
        text = "\n".join(filter(None, (one_line(part, TEXT_LENGTH) for part in texts)))
        return AlarmMessage(
            uuid.uuid4().hex, time.time(), "", "begun", "show", channel.id, f"Live now: {title}", text, page, picture
        )
