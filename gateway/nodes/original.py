"""Original: what a publisher pushes to another node, pulled into a hub of our own for as long as it lives."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any, Final

import structlog

from gateway.hub.channel import Channel
from gateway.hub.errors import HubError
from gateway.hub.fanout import EndReason
from gateway.hub.hub import Hub
from gateway.hub.publisher import Publisher
from gateway.lib.backoff import Backoff
from gateway.media.track import Kind, Tracks
from gateway.media.unit import AccessUnit, Timed
from gateway.nodes.peers import Peers
from gateway.nodes.places import PeerAway, PeerRefused, Place
from gateway.nodes.pulling import PullLink
from gateway.protocols.nodes import Hello

log = structlog.get_logger(__name__)

PATIENCE: Final = 20.0  # seconds without the stream or its node, then it is over
_UNSIGNED: Final = 401
_FOR_EVER: Final = "9999-12-31"  # until when it may be pushed: its holder knows


class NotOurs(HubError):
    """The node answers, and does not know our signature."""


class Original:
    """A Receiver. Units keep the holder's times; where a link breaks and the same stream goes on, they go on."""

    def __init__(
        self, hub: Hub, peers: Peers, place: Place, item: Mapping[str, Any], *, patience: float = PATIENCE
    ) -> None:
        """item: the channel as far as we were told beforehand, its `id` at least."""
        self._hub = hub
        self._peers = peers
        self._place = place
        self._item = dict(item)
        self._patience = patience
        self._name = str(item["id"])
        self._publisher: Publisher | None = None
        self._session = ""
        self._epoch = -1
        self._seen: dict[Kind, int] = {}  # the last decode time of each kind, of this session
        self._skipping = False

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

    # ---- Receiver ----

    def hello(self, hello: Hello) -> None:
        self._item |= hello.channel
        if self._publisher is not None and self._publisher.active and hello.session == self._session:
            self._skipping = True  # its cache begins with what was seen already
            self._hub.channel_changed(self._channel())
            return
        self._hub.end(self._name, EndReason.PUBLISHER_GONE)
        self._session, self._epoch, self._seen, self._skipping = hello.session, -1, {}, False
        self._publisher = self._hub.publish(
            self._channel(), self._name, protocol="node", peer="", evict=lambda reason: None, keep_time=True
        )

    def channel(self, told: Mapping[str, Any]) -> None:
        self._item |= told
        self._hub.channel_changed(self._channel())

    def tracks(self, tracks: Tracks) -> None:
        if self._publisher is None:
            return
        continuous = tracks.epoch == self._epoch
        if self._epoch >= 0 and not continuous:
            self._skipping = False
        self._epoch = tracks.epoch
        self._publisher.set_tracks(tracks.video, tracks.audio, tracks.metadata, continuous=continuous)

    def unit(self, unit: AccessUnit) -> None:
        """Hot."""
        publisher = self._publisher
        if publisher is None:
            return
        kind, dts = unit.track.kind, unit.dts
        if self._skipping:
            if dts <= self._seen.get(kind, dts - 1):
                return
            if kind is Kind.VIDEO:
                self._skipping = False
        self._seen[kind] = dts
        publisher.push(unit, time.monotonic())

    def timed(self, timed: Timed) -> None:
        if self._publisher is not None and not self._skipping:
            self._publisher.push_timed(timed)

    def _channel(self) -> Channel:
        return Channel({**self._item, "id": self._name, "outdate": _FOR_EVER})
