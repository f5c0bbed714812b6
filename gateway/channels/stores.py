"""The interfaces of the stores for channels and their public addresses. Adapters implement them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from gateway.channels.addresses import PublicDomains
from gateway.channels.channel import Channel
from gateway.channels.deleted_channel import DeletedChannel
from gateway.ports.errors import NoSuchChannel


class ChannelStore(Protocol):
    """Keeps channels.

    If the store does not answer or cannot write now, its methods raise StoreUnavailable within 8 s.
    """

    async def get(self, id: str) -> Channel:
        """Returns the channel as it is stored now. Raises NoSuchChannel."""
        ...

    async def list(self) -> list[Channel]:
        """Returns all channels, in no defined order."""
        ...

    async def add(self, item: Mapping[str, Any]) -> Channel:
        """Stores a new channel under its `id`. Raises ChannelExists."""
        ...

    async def update(self, id: str, changes: Mapping[str, Any]) -> Channel:
        """Sets these fields in one step and leaves the others. Returns the changed channel. Raises NoSuchChannel."""
        ...

    async def delete(self, id: str, now: float, *, media: bool = False) -> DeletedChannel:
        """Removes the channel, and in that step stores the DeletedChannel that protects its media.

        now: seconds since the epoch. media: whether its media are to be deleted too. Raises NoSuchChannel.
        """
        ...

    async def get_deleted(self, id: str) -> DeletedChannel:
        """Returns the stored rest of a deleted channel, even if a channel with this id exists again. Raises
        NoSuchChannel.
        """
        ...

    async def list_deleted(self) -> Sequence[DeletedChannel]:
        """Returns all deleted channels, in no defined order."""
        ...

    async def put_deleted(self, deleted: DeletedChannel) -> None:
        """Stores a deleted channel, in place of an existing entry."""
        ...

    async def remove_deleted(self, id: str) -> None:
        """Removes the stored rest of a deleted channel. An unknown id is not an error."""
        ...

    async def check(self) -> None:
        """Returns if the store answers; used by the readiness check. Raises StoreUnavailable."""
        ...


class ChannelReader(Protocol):
    """The part of a ChannelStore that playback needs. A cache in front of a store implements it too."""

    async def get(self, id: str) -> Channel:
        """Returns the channel. Raises NoSuchChannel, StoreUnavailable."""
        ...


class DomainStore(Protocol):
    """Keeps the push and pull domains. Raises StoreUnavailable like ChannelStore."""

    async def get_domains(self) -> PublicDomains:
        """Returns the configured domains; empty ones if none are configured."""
        ...

    async def set_domains(self, domains: PublicDomains) -> None:
        """Stores the domains. An empty domain is removed."""
        ...


async def find_channel(channels: ChannelReader, id: str) -> Channel | None:
    """Returns the channel, or None if it does not exist. Raises StoreUnavailable."""
    try:
        return await channels.get(id)
    except NoSuchChannel:
        return None
