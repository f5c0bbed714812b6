"""ChannelFeed: tells stored channels to what a process keeps for each, such as inputs and ports."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, Final, TypeAlias

import structlog

from gateway.channels.channel import Channel
from gateway.channels.stores import StoredChannels
from gateway.live.health_report import HealthFinding
from gateway.ports.errors import GatewayError

log = structlog.get_logger(__name__)

SECONDS: Final = 15.0  # between two reads of all channels
# Called with channels by their ids, and with whether these are all that are stored. None: the channel is deleted.
FollowChannels: TypeAlias = Callable[[Mapping[str, Channel | None], bool], None]


class ChannelFeed:
    """Tells each channel that changes in this process, also one without a stream.

    Commands, other processes and nodes change only the store. So one process of a host reads it with `run`.
    findings: what listeners cannot do for a channel, by its id. Its session shows it, also without a stream.
    """

    def __init__(self) -> None:
        self.findings: dict[str, HealthFinding] = {}
        self._listeners: list[FollowChannels] = []
        self._closed = False
        # Told while `run` waits for the store, whose rows may be older; None: it does not wait.
        self._told: dict[str, Channel | None] | None = None

    def shown(self, id: str) -> list[dict[str, Any]]:
        """Returns the findings of a channel as the API shows them."""
        return [asdict(self.findings[id])] if id in self.findings else []

    def listen(self, listener: FollowChannels) -> None:
        """Adds a listener."""
        self._listeners.append(listener)

    def tell(self, channels: Mapping[str, Channel | None], *, is_all: bool = False) -> None:
        """Tells channels to all listeners. See FollowChannels."""
        if self._told is not None:
            self._told.update(channels)
        for listener in self._listeners:
            listener(channels, is_all)

    async def run(self, store: StoredChannels) -> None:
        """Tells all channels every SECONDS, until `close`."""
        while not self._closed:
            told = self._told = {}
            try:
                rows = await store.list()
                self._told = None
                self.tell({channel.id: channel for channel in rows} | told, is_all=True)
            except GatewayError as error:
                log.warning("the stored channels cannot be read", reason=str(error))
            await asyncio.sleep(SECONDS)

    def close(self) -> None:
        """Ends `run`."""
        self._closed = True
