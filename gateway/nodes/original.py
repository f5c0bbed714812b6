"""Original: what a publisher pushes to another node, pulled into a hub of our own for as long as it lives."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any, Final

import structlog

from gateway.hub.errors import HubError
from gateway.hub.fanout import EndReason
from gateway.hub.hub import Hub
from gateway.hub.publisher import Publisher
from gateway.lib.backoff import Backoff
from gateway.nodes.following import Following
from gateway.nodes.peers import Peers
from gateway.nodes.places import PeerAway, PeerRefused, Place
from gateway.nodes.pulling import PullLink, told_channel
from gateway.protocols.nodes import Hello

log = structlog.get_logger(__name__)

PATIENCE: Final = 20.0  # seconds without the stream or its node, then it is over
_UNSIGNED: Final = 401


class NotOurs(HubError):
    """The node answers, and does not know our signature."""


class Original(Following):
    """The original, as its holder has it."""

    def __init__(
        self, hub: Hub, peers: Peers, place: Place, item: Mapping[str, Any], *, patience: float = PATIENCE
    ) -> None:
        """item: the channel as far as we were told beforehand, its `id` at least."""
        super().__init__(hub)
        self._peers = peers
        self._place = place
        self._item = dict(item)
        self._patience = patience
        self._name = str(item["id"])

    async def run(self) -> str:
        """Until the stream has ended, or its node is gone for too long: why it is over. Raises NotOurs."""
        backoff, last = Backoff(0.5, 5), time.monotonic()
        try:
            while True:
                try:
                    link = await self._peers.link(
                        self._place, "GET", f"/_node/{self._name}?original=1", lambda: PullLink(self, self._senseless)
                    )
                except PeerRefused as refused:
                    if refused.status in (_UNSIGNED, 403):
                        raise NotOurs(str(refused)) from None
                    why = str(refused)
                except PeerAway as away:
                    why = str(away)
                else:
                    backoff.reset()
                    reason = await self._until_over(link)
                    if reason is not None:
                        self._hub.end(self._name, reason)
                        return str(reason)
                    last, why = time.monotonic(), "the link broke"
                if time.monotonic() - last > self._patience:
                    return why
                log.info("source is away", stream=self._name, reason=why)
                await asyncio.sleep(backoff.next())
        finally:
            self._hub.end(self._name, EndReason.PUBLISHER_GONE)

    @staticmethod
    async def _until_over(link: PullLink) -> EndReason | None:
        try:
            return await link.over
        finally:
            link.close()

    def _senseless(self, reason: str) -> None:
        log.warning("a pull made no sense", stream=self._name, reason=reason)

    # ---- Following ----

    def _begin(self, hello: Hello) -> Publisher:
        self._item |= hello.channel
        self._hub.end(self._name, EndReason.PUBLISHER_GONE)
        return self._hub.publish(
            told_channel(self._item, self._name),
            self._name,
            protocol="node",
            peer="",
            evict=lambda reason: None,
            keep_time=True,
        )

    def channel(self, told: Mapping[str, Any]) -> None:
        self._item |= told
        self._hub.channel_changed(told_channel(self._item, self._name))
