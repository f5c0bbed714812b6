"""Who may push: the sign, the stored key, the limits of an address. One door for every protocol."""

from __future__ import annotations

import asyncio
import time
from typing import Final

import structlog

from gateway.hub.access import Secrets, Verdict
from gateway.hub.channel import Channel
from gateway.hub.errors import AtCapacity, HubError, NoSuchChannel, NotAuthorized, StoreAway
from gateway.hub.events import Event, Events, EventType
from gateway.hub.names import is_channel_id
from gateway.hub.ports import ChannelReader
from gateway.lib.quota import Quota
from gateway.lib.refusals import Refusals

log = structlog.get_logger(__name__)

STORE_SECONDS: Final = 7.0  # contract: a push is refused within 8 s where the store is away, whatever the store does

# Names where the sign belongs, never which part of it was wrong.
SIGN_HERE: Final = "Authorization required: the stream key is <id>?sign=<expiry>-<hash>, or the server ends in ?sign=…"


class Admission:
    """Checks pushes. Refusals are logged, counted and told as `publish.refused`; never with the key."""

    def __init__(
        self,
        channels: ChannelReader,
        secrets: Secrets,
        events: Events,
        *,
        publishers_per_address: int,
        refusals: Refusals,
    ) -> None:
        self._channels = channels
        self._secrets = secrets
        self._events = events
        self.connections = Quota(publishers_per_address)
        self._refusals = refusals
        self.refused: dict[str, int] = {}

    def blocked(self, address: str) -> bool:
        """The address was refused so often in the last minute that it is not heard at all."""
        return self._refusals.wait(address, time.monotonic()) > 0

    async def channel(self, id: str, key: str | None, address: str, *, exempt: bool = False) -> Channel:
        """The channel that this key may push to now. exempt: a trusted proxy, whose address is not limited.

        Raises NotAuthorized, AtCapacity (address blocked), StoreAway.
        """
        if not exempt and self.blocked(address):
            raise AtCapacity("too many refused signs from this address")
        now = time.time()
        channel: Channel | None = None
        # A key that cannot be genuine costs the store nothing.
        verdict = self._secrets.verify(id, key, now) if is_channel_id(id) else Verdict.WRONG
        if verdict is Verdict.VALID:
            try:
                async with asyncio.timeout(STORE_SECONDS):
                    channel = await self._channels.get(id)
            except TimeoutError:
                raise StoreAway("the channel store does not answer") from None
            except NoSuchChannel:
                verdict = Verdict.WRONG
            else:
                verdict = self._secrets.verify_push(id, channel.key, key, now)
        if channel is not None and verdict is Verdict.VALID:
            return channel
        if not exempt:
            self._refusals.add(address, time.monotonic())
        raise NotAuthorized(str(verdict))

    def refuse(self, id: str, address: str, protocol: str, error: HubError) -> None:
        """Tells logs, metrics and webhooks of a push that was turned away."""
        reason = f"{type(error).__name__}: {error}"
        kind = type(error).__name__
        self.refused[kind] = self.refused.get(kind, 0) + 1
        shown = id if is_channel_id(id) else ""
        log.info("push refused", stream=shown, peer=address, protocol=protocol, reason=reason)
        data = {"peer": address, "protocol": protocol, "reason": kind}
        self._events.emit(Event(EventType.PUBLISH_REFUSED, time.time(), shown, data))
