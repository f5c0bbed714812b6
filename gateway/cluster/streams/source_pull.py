"""Pulls a publisher's original stream into a shelf of this process, for a transcoding worker."""

import asyncio
import time
from collections.abc import Mapping
from typing import Any, Final

import structlog

from gateway.cluster.members.node_address import NodeAddress, PeerRefused, PeerUnavailable
from gateway.cluster.members.peers import Peers
from gateway.cluster.streams.pull import PullLink, PullReceiver, shared_channel
from gateway.lib.backoff import Backoff
from gateway.live.publisher import PushOrigin, StreamPublisher
from gateway.live.shelf import StreamShelf
from gateway.live.sink import EndReason
from gateway.ports.errors import GatewayError
from gateway.protocols.nodes import Hello

log = structlog.get_logger(__name__)

_TIMEOUT_SECONDS: Final = 20.0  # time without the stream, after which the pull ends


class WrongClusterSecret(GatewayError):
    """The node answers, but rejects the signature of this node."""


class SourcePull(PullReceiver):
    """Pulls the stream as the publisher sends it, from the node that holds it.

    item: the known fields of the channel, at least its `id`.
    """

    def __init__(self, shelf: StreamShelf, peers: Peers, node: NodeAddress, item: Mapping[str, Any]) -> None:
        super().__init__(shelf)
        self._peers = peers
        self._node = node
        self._item = dict(item)
        self._name = str(item["id"])

    async def run(self) -> str:
        """Pulls until the stream has ended, or its node is unavailable for too long.

        Returns the reason for the end. Raises WrongClusterSecret.
        """
        backoff, last = Backoff(0.5, 5), time.monotonic()
        target = f"/_node/{self._name}?original=1"
        try:
            while True:
                try:
                    link = await self._peers.link(self._node, "GET", target, lambda: PullLink(self, self._name))
                except PeerRefused as refused:
                    if refused.status in (401, 403):
                        raise WrongClusterSecret(str(refused)) from None
                    problem = str(refused)
                except PeerUnavailable as error:
                    problem = str(error)
                else:
                    backoff.reset()
                    try:
                        reason = await link.ended
                    finally:
                        link.close()
                    if reason is not None:
                        self._shelf.end(self._name, reason)
                        return str(reason)
                    last, problem = time.monotonic(), "the link broke"
                if time.monotonic() - last > _TIMEOUT_SECONDS:
                    return problem
                log.info("the source is unavailable", stream=self._name, reason=problem)
                await asyncio.sleep(backoff.next())
        finally:
            self._shelf.end(self._name, EndReason.PUBLISHER_GONE)

    # ---- PullReceiver ----

    def _begin(self, hello: Hello) -> StreamPublisher:
        self._item |= hello.channel
        self._shelf.end(self._name, EndReason.PUBLISHER_GONE)
        origin = PushOrigin("node", "", keep_time=True, trusted=True)
        channel = shared_channel(self._item, self._name)
        return self._shelf.publish_from(origin, channel, self._name, lambda reason: None)

    def channel(self, fields: Mapping[str, Any]) -> None:
        self._item |= fields
        self._shelf.channel_changed(shared_channel(self._item, self._name))
