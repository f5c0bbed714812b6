"""Pulls a publisher's stream from the node that holds it into a hub of this process, for a transcoding worker."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any, Final

import structlog

from gateway.cluster.node_address import NodeAddress, PeerRefused, PeerUnavailable
from gateway.cluster.peers import Peers
from gateway.cluster.pull import PullLink, shared_channel
from gateway.cluster.pull_receiver import PullReceiver
from gateway.lib.backoff import Backoff
from gateway.live.hub import Hub
from gateway.live.publisher import StreamPublisher
from gateway.live.sink import EndReason
from gateway.ports.errors import GatewayError
from gateway.protocols.nodes import Hello

log = structlog.get_logger(__name__)

TIMEOUT_SECONDS: Final = 20.0  # without the stream or its node, before the pull ends
_UNSIGNED: Final = 401


class WrongClusterSecret(GatewayError):
    """The node answers, but does not accept our signature."""


class SourcePull(PullReceiver):
    """The stream as the publisher pushes it, pulled from its holder."""

    def __init__(
        self, hub: Hub, peers: Peers, place: NodeAddress, item: Mapping[str, Any], *, timeout: float = TIMEOUT_SECONDS
    ) -> None:
        """item: the fields of the channel that are known beforehand, at least its `id`.
        timeout: seconds without the stream or its node, after which the pull ends.
        """
        super().__init__(hub)
        self._peers = peers
        self._place = place
        self._item = dict(item)
        self._timeout = timeout
        self._name = str(item["id"])

    async def run(self) -> str:
        """Pulls until the stream has ended, or its node is away for too long.

        Returns the reason for the end. Raises WrongClusterSecret.
        """
        backoff, last = Backoff(0.5, 5), time.monotonic()
        try:
            while True:
                try:
                    link = await self._peers.link(
                        self._place, "GET", f"/_node/{self._name}?original=1", lambda: PullLink(self, self._invalid)
                    )
                except PeerRefused as refused:
                    if refused.status in (_UNSIGNED, 403):
                        raise WrongClusterSecret(str(refused)) from None
                    why = str(refused)
                except PeerUnavailable as away:
                    why = str(away)
                else:
                    backoff.reset()
                    reason = await self._until_over(link)
                    if reason is not None:
                        self._hub.end(self._name, reason)
                        return str(reason)
                    last, why = time.monotonic(), "the link broke"
                if time.monotonic() - last > self._timeout:
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

    def _invalid(self, reason: str) -> None:
        log.warning("a pull made no sense", stream=self._name, reason=reason)

    # ---- PullReceiver ----

    def _begin(self, hello: Hello) -> StreamPublisher:
        self._item |= hello.channel
        self._hub.end(self._name, EndReason.PUBLISHER_GONE)
        return self._hub.publish(
            shared_channel(self._item, self._name),
            self._name,
            protocol="node",
            peer="",
            evict=lambda reason: None,
            keep_time=True,
            trusted=True,
        )

    def channel(self, fields: Mapping[str, Any]) -> None:
        self._item |= fields
        self._hub.channel_changed(shared_channel(self._item, self._name))
