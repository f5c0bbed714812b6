"""What the hub needs from outside and what more than one adapter provides."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from gateway.hub.addresses import Domains
from gateway.hub.channel import Channel


class ChannelStore(Protocol):
    """Where channels are kept. Where the store does not answer or cannot write now, StoreAway comes within 8 s."""

    async def get(self, id: str) -> Channel:
        """The channel as it is stored now. Raises NoSuchChannel."""
        ...

    async def list(self) -> list[Channel]:
        """All channels, in no promised order."""
        ...

    async def add(self, item: Mapping[str, Any]) -> Channel:
        """Store a new channel under its `id`. Raises ChannelExists."""
        ...

    async def update(self, id: str, changes: Mapping[str, Any]) -> Channel:
        """Set these fields, leave the others, in one step; the channel as it then is. Raises NoSuchChannel."""
        ...

    async def delete(self, id: str) -> None:
        """Raises NoSuchChannel."""
        ...

    async def check(self) -> None:
        """Return where the store answers; what readiness asks."""
        ...


class ChannelReader(Protocol):
    """The part of a ChannelStore that playback needs; also a cache in front of one."""

    async def get(self, id: str) -> Channel:
        """Raises NoSuchChannel, StoreAway."""
        ...


class DomainStore(Protocol):
    """Where the push and pull domains are kept. StoreAway as of ChannelStore."""

    async def get_domains(self) -> Domains:
        """What was set; empty where nothing was."""
        ...

    async def set_domains(self, domains: Domains) -> None:
        """Keep them; an empty one is removed."""
        ...
